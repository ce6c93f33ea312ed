//! tokio-postgres: see README.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of the tests: trouble must end it"
)]

use std::{env, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use serde_json::Value;
use time::{Date, OffsetDateTime};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, \
    generate_series(1, 1000) AS c";

fn state<T>(outcome: &Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "none".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

/// The query may not have begun when the first request comes.
async fn cancelled(session: &Client) -> String {
    let token = session.cancel_token();
    let other = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            token.cancel_query(NoTls).await.expect("to cancel");
        }
    });
    let outcome = session.batch_execute(ENDLESS).await;
    other.abort();
    state(&outcome)
}

async fn count(session: &Client) -> i64 {
    session.query_one("SELECT count(*) FROM parts WHERE id = 1000", &[]).await.unwrap().get(0)
}

#[tokio::main]
async fn main() {
    let variable = |name: &str| env::var(name).expect("libpq's variables");
    let mut config = tokio_postgres::Config::new();
    config.host(variable("PGHOST")).port(variable("PGPORT").parse().unwrap()).user(variable("PGUSER"));
    config.password(variable("PGPASSWORD")).dbname(variable("PGDATABASE"));
    let (mut session, connection) = config.connect(NoTls).await.expect("a session");
    let driving = tokio::spawn(connection);
    println!("connected");

    let product = session.prepare("SELECT name, price::text FROM products WHERE id = $1").await.unwrap();
    // They leave one behind the other, before the first answer has come.
    let runs = [1, 2, 3].map(|id| {
        let (session, product) = (&session, &product);
        async move { session.query_one(product, &[&id]).await.unwrap() }
    });
    for row in futures_util::future::join_all(runs).await {
        println!("prepared {} {}", row.get::<_, &str>(0), row.get::<_, &str>(1));
    }

    let row = session
        .query_one(
            "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03', 'h\u{e9}llo'::text, \
             '\\x00ff'::bytea, ARRAY[1, 2, 3], '{\"a\": [1]}'::jsonb, name FROM products WHERE id = $1",
            &[&5],
        )
        .await
        .unwrap();
    println!(
        "binary {} {} {} {} {} {} {:?} {:?} {} {}",
        row.get::<_, i32>(0),
        row.get::<_, i64>(1),
        row.get::<_, f64>(2),
        row.get::<_, bool>(3),
        row.get::<_, Date>(4),
        row.get::<_, &str>(5),
        row.get::<_, &[u8]>(6),
        row.get::<_, Vec<i32>>(7),
        row.get::<_, Value>(8),
        row.get::<_, &str>(9),
    );
    // A type that the driver does not know makes it look into the catalogue.
    let row = session.query_one("SELECT feels FROM moods ORDER BY feels DESC LIMIT 1", &[]).await.unwrap();
    println!("binary {:?}", row.columns()[0].type_());

    let transaction = session.transaction().await.unwrap();
    transaction.execute("INSERT INTO parts (id, name) VALUES ($1, $2)", &[&1000, &"inside"]).await.unwrap();
    println!("transaction {}", count(transaction.client()).await);
    let portal = transaction.bind("SELECT id FROM products ORDER BY id", &[]).await.unwrap();
    let mut total = 0;
    loop {
        let rows = transaction.query_portal(&portal, 7).await.unwrap();
        if rows.is_empty() {
            break;
        }
        total += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
    }
    println!("transaction {total}");
    transaction.rollback().await.unwrap();
    println!("transaction {}", count(&session).await);

    let sink = session.copy_in::<_, Bytes>("COPY parts (id, name) FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(Bytes::from_static(b"1\tone\n2\ttwo\n3\tthree\n")).await.unwrap();
    println!("copy {}", sink.finish().await.unwrap());
    let lines = session.copy_out("COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT").await.unwrap();
    println!("copy {:?}", lines.try_collect::<Vec<Bytes>>().await.unwrap().concat());
    session.execute("DELETE FROM parts WHERE id = ANY ($1)", &[&vec![1, 2, 3]]).await.unwrap();

    println!("cancel {}", cancelled(&session).await);

    println!("refused {}", state(&session.batch_execute("TRUNCATE parts").await));
    let messages = session.simple_query("SELECT 1").await.unwrap();
    let rows = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    println!("after {}", rows.count());

    let row = session
        .query_one(
            "SELECT name, email, born, seen, doc, codes, active, score, badge FROM people WHERE id = $1",
            &[&1],
        )
        .await
        .unwrap();
    println!(
        "masked {} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        row.get::<_, &str>(0),
        row.get::<_, &str>(1),
        row.get::<_, Option<Date>>(2),
        row.get::<_, Option<OffsetDateTime>>(3),
        row.get::<_, Option<Value>>(4),
        row.get::<_, Option<Vec<i32>>>(5),
        row.get::<_, Option<bool>>(6),
        row.get::<_, Option<f64>>(7),
        row.get::<_, Option<i64>>(8),
    );
    drop(session);
    driving.await.unwrap().expect("the session to end well");
    println!("done");
}
