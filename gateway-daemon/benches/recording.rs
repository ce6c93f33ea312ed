//! What recording costs a session, which hands entries over, and how much the thread takes that writes them. The
//! directory is below `NODEGATE_BENCH_DIR`, or the build's own.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::{env, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway_daemon::{
    domain::{address::OriginalDestination, event::Outcome, ids::CgroupId},
    recording::{
        Answered, Asked, Column, Format, Header, OnFailure, PackedRows, Record, Recorder, ResultSet, Settings,
    },
};

fn header(number: u64) -> Header {
    Header {
        session: format!("19a7c3f2b10-{number:x}").as_str().into(),
        at: 1_767_225_600_000_000,
        identity: "https://token.actions.githubusercontent.com|repo:acme/shop:ref:refs/heads/main".to_owned(),
        target: "orders-db".into(),
        database: "shop".to_owned(),
        destination: OriginalDestination::new("127.0.0.1:5432".parse().unwrap()),
        cgroup: CgroupId(7),
        workload: "nodegate/run-1".to_owned(),
        label: None,
        process: "4711 (psql)".to_owned(),
    }
}

fn request(number: u64) -> Record<PackedRows> {
    Record::Request(Asked {
        number,
        at: 1_767_225_600_000_000 + number,
        outcome: Outcome::Allowed,
        policies: vec!["agents-work-with-rows".into()],
        masked: Vec::new(),
        reason: String::new(),
        hint: None,
        text: format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number}"),
        text_bytes: None,
        literals_withheld: false,
        parameters: Vec::new(),
        parameters_missing_bytes: None,
    })
}

fn reply(number: u64, rows: u64, columns: &Arc<[Column]>) -> Record<PackedRows> {
    let mut packed = PackedRows::new(Arc::clone(columns));
    for row in 0..rows {
        packed.push_value(format!("{}", number.wrapping_mul(7919).wrapping_add(row)).as_bytes());
    }
    Record::Reply(Answered {
        number,
        at: 1_767_225_600_000_300 + number,
        duration_us: 300,
        rows,
        bytes: rows * 10,
        results: vec![ResultSet { columns: Arc::clone(columns), copy: false, rows: packed, cut: None }],
        tags: vec![format!("SELECT {rows}")],
        notices: Vec::new(),
        error: None,
        skipped: false,
    })
}

/// One exchange after the other, waiting only where the queue has no room: the pace of the thread that writes.
fn exchanges(criterion: &mut Criterion) {
    let below = env::var("NODEGATE_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let dir = tempfile::Builder::new().prefix("recording-bench-").tempdir_in(below).unwrap();
    let columns: Arc<[Column]> = Arc::from([Column {
        name: "abalance".to_owned(),
        type_oid: 23,
        format: Format::Text,
        withheld: false,
    }]);
    let mut group = criterion.benchmark_group("recording");
    for rows in [1, 1000] {
        let recorder = Recorder::start(Settings {
            dir: dir.path().to_owned(),
            result_bytes: 1 << 20,
            session_bytes: 1 << 40,
            retention: Duration::from_hours(24),
            total_bytes: 1 << 40,
            on_failure: OnFailure::EndSession,
            on_removed: Box::new(|_| {}),
        })
        .unwrap();
        let mut session = recorder.begin(header(rows)).unwrap();
        let mut number = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("exchange of {rows} rows"), |bencher| {
            bencher.iter_batched(
                || {
                    number += 1;
                    [request(number), reply(number, rows, &columns)]
                },
                |entries| {
                    for entry in entries {
                        while recorder.tally().waiting > 48 << 20 {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                        session.record(entry).unwrap();
                    }
                },
                BatchSize::SmallInput,
            );
        });
        session.end("over".to_owned());
        recorder.close();
    }
    group.finish();
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
