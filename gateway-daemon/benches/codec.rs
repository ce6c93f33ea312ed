//! What the PostgreSQL codec and the masks cost: frames of a pipeline, rows read, rows masked.
//!
//! `cargo bench -p gateway-daemon --bench codec`

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_daemon::{
    domain::{catalogue::Catalogue, decision::Transform},
    mask::{ColumnMask, Format, HashKey, Masker, Shape, Treatment, mask_data_row},
    protocol::postgres::{Frame, backend, frontend, split_frame},
};

const MAX_BODY_BYTES: usize = 1 << 20;
const PIPELINE_QUERIES: u64 = 100;
const TEXT: u32 = 25;

/// A pipeline as drivers send it: 100 times Parse, Bind, Describe, Execute, then one Sync.
fn pipeline() -> BytesMut {
    use frontend::{Kind, Message};
    let mut out = BytesMut::new();
    for _ in 0..PIPELINE_QUERIES {
        let messages = [
            Message::Parse {
                name: b"",
                sql: b"select id, name, email from customers where id = $1 and region = $2",
                parameter_types: vec![],
            },
            Message::Bind {
                portal: b"",
                statement: b"",
                parameter_formats: vec![],
                parameters: vec![Some(b"12345"), Some(b"north-west")],
                result_formats: vec![0],
            },
            Message::Describe { kind: Kind::Portal, name: b"" },
            Message::Execute { portal: b"", max_rows: 0 },
        ];
        for message in messages {
            message.encode(&mut out).unwrap_or_default();
        }
    }
    frontend::Message::Sync.encode(&mut out).unwrap_or_default();
    out
}

/// A row of ten columns, as a table of customers has them.
fn row() -> Option<Frame> {
    let mut out = BytesMut::new();
    let values: [Option<&[u8]>; 10] = [
        Some(b"1048576"),
        Some(b"Annabel Example"),
        Some(b"annabel.example@mail.example.com"),
        Some(b"4111-1111-1111-1111"),
        Some(b"2026-11-23 18:36:47.123456+00"),
        None,
        Some(b"t"),
        Some(b"1234.56"),
        Some(b"12 Example Street, Exampleton"),
        Some(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ];
    backend::data_row(&mut out, &values).ok()?;
    split_frame(&mut out, MAX_BODY_BYTES).ok()?
}

fn frames(criterion: &mut Criterion) {
    let stream = pipeline();
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(PIPELINE_QUERIES * 4 + 1));
    group.bench_function("split", |bencher| {
        bencher.iter(|| {
            let mut buf = stream.clone();
            while let Ok(Some(frame)) = split_frame(&mut buf, MAX_BODY_BYTES) {
                black_box(frame);
            }
        });
    });
    group.bench_function("split and parse", |bencher| {
        bencher.iter(|| {
            let mut buf = stream.clone();
            while let Ok(Some(frame)) = split_frame(&mut buf, MAX_BODY_BYTES) {
                black_box(frontend::parse(&frame)).ok();
            }
        });
    });
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let Some(frame) = row() else { return };
    let masker = Masker::new(HashKey::new([7; 32]));
    let mut group = criterion.benchmark_group("row of 10 columns");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse and walk", |bencher| {
        bencher.iter(|| match backend::parse(black_box(&frame)) {
            Ok(backend::Message::DataRow(row)) => row.values().flatten().map(<[u8]>::len).sum(),
            _ => 0,
        });
    });
    for (name, first, second) in [
        ("mask 2: partial, last4", Transform::Partial, Transform::Last4),
        ("mask 2: redact, null", Transform::Redact, Transform::Null),
        ("mask 2: hash, hash", Transform::Hash, Transform::Hash),
    ] {
        let text = |transform| {
            let shape = Shape::of(TEXT, &Catalogue::default());
            Some(ColumnMask { treatment: Treatment::Whole(transform), shape, format: Format::Text })
        };
        let mut plan = [const { None }; 10];
        plan[2] = text(first);
        plan[3] = text(second);
        let mut out = BytesMut::with_capacity(1 << 16);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                mask_data_row(black_box(&frame), &plan, &masker, &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames, rows);
criterion_main!(benches);
