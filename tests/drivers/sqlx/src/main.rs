//! sqlx: see ../../README.md. It has no means to cancel a query.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of the tests: trouble must end it"
)]

use futures_util::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, Row as _, ValueRef as _,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode, PgTypeInfo, PgValueRef, Postgres},
    query, query_scalar,
};

/// An enum of the database, by the name that the driver has to look up.
struct Mood(String);

impl sqlx::Type<Postgres> for Mood {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("mood")
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for Mood {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(<&str as sqlx::Decode<Postgres>>::decode(value)?.to_owned()))
    }
}

async fn count(session: &mut PgConnection) -> i64 {
    query_scalar("SELECT count(*) FROM parts WHERE id = 1000").fetch_one(session).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // The variables of libpq are read by themselves.
    let options = PgConnectOptions::new().ssl_mode(PgSslMode::Disable);
    let mut session = options.connect().await.expect("a session");
    println!("connected");

    for id in [1, 2, 3] {
        let sql = "SELECT name, price::text FROM products WHERE id = $1";
        let row = query(sql).bind(id).fetch_one(&mut session).await.unwrap();
        println!("prepared {} {}", row.get::<String, _>(0), row.get::<String, _>(1));
    }
    let row = query(
        "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, 'h\u{e9}llo'::text, '\\x00ff'::bytea, \
         ARRAY[1, 2, 3], name FROM products WHERE id = $1",
    )
    .bind(5)
    .fetch_one(&mut session)
    .await
    .unwrap();
    println!(
        "binary {} {} {} {} {} {:?} {:?} {}",
        row.get::<i32, _>(0),
        row.get::<i64, _>(1),
        row.get::<f64, _>(2),
        row.get::<bool, _>(3),
        row.get::<String, _>(4),
        row.get::<Vec<u8>, _>(5),
        row.get::<Vec<i32>, _>(6),
        row.get::<String, _>(7),
    );
    // A type that the driver does not know makes it look into the catalogue.
    let row =
        query("SELECT feels FROM moods ORDER BY feels DESC LIMIT 1").fetch_one(&mut session).await.unwrap();
    println!("binary {}", row.get::<Mood, _>(0).0);

    let mut transaction = session.begin().await.unwrap();
    let insert = query("INSERT INTO parts (id, name) VALUES ($1, $2)").bind(1000).bind("inside");
    insert.execute(&mut *transaction).await.unwrap();
    println!("transaction {}", count(&mut transaction).await);
    let mut rows = query("SELECT id FROM products ORDER BY id").fetch(&mut *transaction);
    let mut total = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        total += row.get::<i32, _>(0);
    }
    drop(rows);
    println!("transaction {total}");
    transaction.rollback().await.unwrap();
    println!("transaction {}", count(&mut session).await);

    let mut copy = session.copy_in_raw("COPY parts (id, name) FROM STDIN").await.unwrap();
    copy.send(b"1\tone\n2\ttwo\n3\tthree\n".as_slice()).await.unwrap();
    println!("copy {}", copy.finish().await.unwrap());
    let lines =
        session.copy_out_raw("COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT").await.unwrap();
    println!("copy {:?}", lines.try_collect::<Vec<_>>().await.unwrap().concat());
    session.execute("DELETE FROM parts WHERE id IN (1, 2, 3)").await.unwrap();

    let refused = match session.execute("TRUNCATE parts").await {
        Ok(_) => "none".to_owned(),
        Err(error) => {
            error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
        }
    };
    println!("refused {refused}");
    println!("after {}", query_scalar::<_, i32>("SELECT 1").fetch_one(&mut session).await.unwrap());

    let row = query("SELECT * FROM people WHERE id = $1").bind(1).fetch_one(&mut session).await.unwrap();
    println!(
        "masked {:?} {:?} {:?} {:?} {:?} {:?}",
        row.get::<String, _>("name"),
        row.get::<String, _>("email"),
        row.get::<Option<Vec<i32>>, _>("codes"),
        row.get::<Option<bool>, _>("active"),
        row.get::<Option<f64>, _>("score"),
        row.try_get_raw("doc").unwrap().is_null(),
    );
    session.close().await.unwrap();

    let options = PgConnectOptions::new().ssl_mode(PgSslMode::Disable);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("a pool");
    let both = query_scalar::<_, i64>("SELECT count(*) FROM products");
    println!("after {}", both.fetch_one(&pool).await.unwrap());
    pool.close().await;
    println!("done");
}
