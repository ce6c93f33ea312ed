//! What a durable audit record costs: alone, and beside others that share the disk's commits. The directory is
//! below `NODEGATE_BENCH_DIR`, or the build's own: `/tmp` may be memory, where `fdatasync` costs nothing.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::{
    env,
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_daemon::{
    audit::{AuditLog, Query, Settings, search, verify},
    domain::event::{AuditEvent, EventKind, Outcome},
};
use tempfile::TempDir;

fn event(number: u64) -> AuditEvent {
    let mut event = AuditEvent::new(EventKind::Request, Outcome::Allowed);
    event.identity =
        Some("https://token.actions.githubusercontent.com|repo:acme/shop:ref:refs/heads/main".to_owned());
    event.process = Some("4711 (psql)".to_owned());
    event.session = Some("19a7c3f2b10-2a".into());
    event.target = Some("orders-db".into());
    event.policies = vec!["agents-work-with-rows".into()];
    event.text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number}");
    event
}

fn dir() -> TempDir {
    let below = env::var("NODEGATE_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    tempfile::Builder::new().prefix("audit-bench-").tempdir_in(below).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// `appenders` tasks append `rounds` records each, one at a time.
async fn append(log: &AuditLog, appenders: u64, rounds: u64) -> Duration {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for appender in 0..appenders {
        let log = log.clone();
        tasks.spawn(async move {
            for round in 0..rounds {
                black_box(log.append(vec![event(appender + round)]).await.unwrap());
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}

fn appending(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20);
    for appenders in [1, 8, 64, 1000] {
        let dir = dir();
        let log = AuditLog::open(Settings::new(dir.path())).unwrap();
        group.throughput(Throughput::Elements(appenders));
        group.bench_function(format!("{appenders} appenders"), |bencher| {
            bencher.iter_custom(|rounds| runtime.block_on(append(&log, appenders, rounds)));
        });
        runtime.block_on(log.close());
    }
    group.finish();
}

/// The floor: what the file system asks for one small record, without and with space laid out ahead.
fn committing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fdatasync of 600 bytes");
    group.sample_size(20);
    for (name, laid_out) in [("growing file", 0), ("laid out file", 32 << 20)] {
        let dir = dir();
        let file = File::create(dir.path().join("file")).unwrap();
        file.write_all_at(&vec![b'\n'; laid_out], 0).unwrap();
        file.sync_all().unwrap();
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                file.write_all_at(&[b'x'; 600], at).unwrap();
                file.sync_data().unwrap();
                at += 600;
            });
        });
    }
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    const RECORDS: u64 = 50_000;
    let runtime = runtime();
    let dir = dir();
    let log = AuditLog::open(Settings::new(dir.path())).unwrap();
    runtime.block_on(append(&log, 1000, RECORDS / 1000));
    let mut group = criterion.benchmark_group("reading");
    group.sample_size(10);
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("verify", |bencher| bencher.iter(|| verify(dir.path()).unwrap()));
    let start = Instant::now();
    runtime.block_on(log.close());
    let log = AuditLog::open(Settings::new(dir.path())).unwrap();
    // The index is brought up to date when the log has been open a while.
    std::thread::sleep(Duration::from_secs(8).saturating_sub(start.elapsed()));
    runtime.block_on(log.close());
    let query = Query { text: Some("where aid = 1007".to_owned()), limit: Some(50), ..Query::default() };
    group.throughput(Throughput::Elements(1));
    group.bench_function("search by text", |bencher| bencher.iter(|| search(dir.path(), &query).unwrap()));
    group.finish();
}

criterion_group!(audit, committing, appending, reading);
criterion_main!(audit);
