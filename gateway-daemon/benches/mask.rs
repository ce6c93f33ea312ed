//! What looking through values costs, by what is looked for: prose, JSON, and rows of numbers.
//!
//! `cargo bench -p gateway-daemon --bench mask`

use std::{collections::BTreeMap, hint::black_box};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_daemon::{
    domain::{decision::Transform, detector::Detector},
    mask::{HashKey, Masker},
};

const PROSE: &str = "The customer called about a late delivery and asked for a refund; we told her that the parcel \
    had left the warehouse on Monday. She will write again if it does not arrive. ";
const JSON: &str = "{\"id\": 48213, \"status\": \"shipped\", \"carrier\": \"DHL\", \"weight\": 2.35, \"items\": [{\"sku\": \
    \"A-1729\", \"count\": 2}, {\"sku\": \"B-42\", \"count\": 1}], \"at\": \"2024-01-02T03:04:05Z\"} ";
const NUMBERS: &str =
    "2024-01-02 03:04:05|48213|192.168.1.17|550e8400-e29b-41d4-a716-446655440000|19.99|1704164645123|";
const TEXT_BYTES: usize = 64 * 1024;

fn scans(criterion: &mut Criterion) {
    let masker = Masker::new(HashKey::new([7; 32]));
    for (kind, piece) in [("prose", PROSE), ("JSON", JSON), ("numbers", NUMBERS)] {
        let text = piece.repeat(TEXT_BYTES / piece.len());
        let mut group = criterion.benchmark_group(format!("look through {kind}"));
        group.throughput(Throughput::Bytes(u64::try_from(text.len()).unwrap_or(u64::MAX)));
        for name in ["email", "card", "personal", "secrets", "all"] {
            let Some(wanted) = Detector::named(name) else { continue };
            let transforms: BTreeMap<_, _> =
                wanted.into_iter().map(|detector| (detector, Transform::Redact)).collect();
            let Ok(scan) = masker.scan(transforms, []) else { continue };
            let mut out = BytesMut::with_capacity(TEXT_BYTES * 2);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    out.clear();
                    masker.scan_copy_row(&scan, black_box(text.as_bytes()), &mut out)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, scans);
criterion_main!(benches);
