//! Any row under any plan: no panic, a refused row leaves nothing behind, a masked one is a row of as many columns, and
//! the columns without a mask are as they came.
#![no_main]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use bytes::BytesMut;
use gateway_daemon_fuzz::{
    domain::{
        catalogue::{Catalogue, TypeKind},
        decision::Transform,
        detector::Detector,
    },
    mask::{ColumnMask, Format, HashKey, Masker, Shape, Treatment, mask_data_row},
    protocol::postgres::{
        backend::{self, Message},
        split_frame,
    },
};
use libfuzzer_sys::fuzz_target;

/// Types of every shape: PostgreSQL's own, and oids of the catalogue below.
const TYPES: &[u32] = &[
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 600, 650, 700, 701, 774, 790, 829, 869, 1007, 1009, 1042,
    1043, 1082, 1083, 1114, 1184, 1186, 1231, 1266, 1560, 1562, 1700, 2249, 2950, 3802, 3904, 4072, 20_000,
    20_001, 20_002, 99_999,
];

/// What detectors are built of is kept between rows, as in a session.
static MASKER: LazyLock<Masker> = LazyLock::new(|| Masker::new(HashKey::new([7; 32])));

fn catalogue() -> Catalogue {
    Catalogue {
        types: Arc::new(HashMap::from([
            (20_000, TypeKind::Domain(25)),
            (20_001, TypeKind::Array(1700)),
            (20_002, TypeKind::Composite(vec![25, 23, 20_001])),
        ])),
        ..Catalogue::default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, rest)) = bytes.split_first() else { return };
    let count = usize::from(count % 6);
    let Some((plan, body)) = rest.split_at_checked(count * 2) else { return };
    let catalogue = catalogue();
    let plan: Vec<Option<ColumnMask>> = plan
        .chunks_exact(2)
        .map(|pair| {
            let transforms =
                [Transform::Redact, Transform::Partial, Transform::Hash, Transform::Null, Transform::Last4];
            let format = if pair[0] & 1 == 0 { Format::Text } else { Format::Binary };
            let type_oid = TYPES[usize::from(pair[1]) % TYPES.len()];
            let transform = *transforms.get(usize::from(pair[0] >> 1) % 6)?;
            let treatment = if pair[0] & 0x80 == 0 {
                Treatment::Whole(transform)
            } else {
                let wanted = Detector::ALL.iter().map(|detector| (*detector, transform)).collect();
                Treatment::Finds(MASKER.scan(wanted, ["note"]).expect("detectors"))
            };
            Some(ColumnMask { treatment, shape: Shape::of(type_oid, &catalogue), format })
        })
        .collect();
    let mut row = vec![b'D'];
    row.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    row.extend(body);
    let mut out = BytesMut::from(&b"before"[..]);
    let masked = mask_data_row(&row[..], &plan, &MASKER, &mut out);
    let mut written = out.split_off(b"before".len());
    assert_eq!(&out[..], b"before");
    if masked.is_err() {
        assert!(written.is_empty());
        return;
    }
    let theirs = split_frame(&mut BytesMut::from(&row[..]), 1 << 20).expect("a frame").expect("whole");
    let ours = split_frame(&mut written, 1 << 24).expect("a frame").expect("whole");
    assert!(written.is_empty());
    let (Ok(Message::DataRow(before)), Ok(Message::DataRow(after))) =
        (backend::parse(&theirs), backend::parse(&ours))
    else {
        panic!("a row was masked that is none");
    };
    assert_eq!(before.len(), after.len());
    for ((before, after), mask) in before.values().zip(after.values()).zip(&plan) {
        match mask {
            None => assert_eq!(before, after),
            Some(_) if before.is_none() => assert_eq!(after, None),
            Some(ColumnMask { treatment: Treatment::Whole(Transform::Null), .. }) => assert_eq!(after, None),
            Some(_) => {}
        }
    }
});
