//! Every image is recognised, whatever the transform, the type and the format; honest values are not taken for one.

use proptest::prelude::*;

use super::{BPCHAR, JSON, JSONB, TEXT, TRANSFORMS, UUID, VARCHAR, XML, masker, shape};
use crate::{
    domain::{
        catalogue::{Catalogue, TypeKind},
        decision::Transform,
    },
    mask::{Format, Image, Masked, Shape, element_image, holds_image, image},
};

/// Types of the database: an enum, a composite, an array of them, an hstore.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let types = [
        (20_001, TypeKind::Enum("low".to_owned())),
        (20_003, TypeKind::Composite(vec![23, 25, 20_001, 1007, 2950])),
        (20_004, TypeKind::Array(20_003)),
        (20_006, TypeKind::Base("hstore".to_owned())),
        (20_009, TypeKind::Array(20_001)),
    ];
    std::sync::Arc::make_mut(&mut catalogue.types).extend(types);
    catalogue
}

/// Values as the server writes them, by type.
fn values() -> impl Strategy<Value = (u32, String)> {
    let number = || any::<i64>().prop_flat_map(|n| prop::sample::select(vec![n, n % 100_000, n % 1_000, 0]));
    let clock = || (0_u32..24, 0_u32..60, 0_u32..60, 0_u32..1_000_000);
    let time = move || clock().prop_map(|(h, m, s, f)| format!("{h:02}:{m:02}:{s:02}.{f:06}"));
    let date = || (1_u32..3_000, 1_u32..13, 1_u32..29).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"));
    let of = |type_oid: u32| move |text: String| (type_oid, text);
    let text = || "[A-Za-z0-9@. é*-]{0,30}|[a-z]{1,8}@[a-z]{1,8}\\.(com|org|museum|photography)";
    prop_oneof![
        text().prop_map(of(TEXT)),
        text().prop_map(of(VARCHAR)),
        text().prop_map(of(BPCHAR)),
        "[a-z]".prop_map(of(18)),
        "[a-z<>]{0,9}".prop_map(of(XML)),
        "\"[a-z]{0,9}\"|[0-9]{1,5}|\\{\\}|null".prop_map(of(JSON)),
        "\"[a-z]{0,9}\"|[0-9]{1,5}|\\[\\]".prop_map(of(JSONB)),
        any::<u128>().prop_map(|n| {
            let digits = format!("{n:032x}");
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            (UUID, parts.join("-"))
        }),
        "[tf]".prop_map(of(16)),
        any::<i16>().prop_map(|n| (21, n.to_string())),
        any::<i32>().prop_map(|n| (23, n.to_string())),
        number().prop_map(|n| (20, n.to_string())),
        any::<u32>().prop_map(|n| (26, n.to_string())),
        any::<f32>().prop_map(|n| (700, n.to_string())),
        any::<f64>().prop_map(|n| (701, n.to_string())),
        (number(), 0_u32..100).prop_map(|(n, f)| (1700, format!("{n}.{f:02}"))),
        (0_u64..1_000_000_000, 0_u32..100).prop_map(|(n, f)| (790, format!("${n}.{f:02}"))),
        date().prop_map(of(1082)),
        time().prop_map(of(1083)),
        (time(), -12_i32..13).prop_map(|(time, zone)| (1266, format!("{time}{zone:+03}"))),
        (date(), time()).prop_map(|(date, time)| (1114, format!("{date} {time}"))),
        (date(), time(), -12_i32..13)
            .prop_map(|(date, time, zone)| (1184, format!("{date} {time}{zone:+03}"))),
        (1_u32..29, 1_u32..13, 1_u32..3_000).prop_map(|(d, m, y)| (1082, format!("{d:02}.{m:02}.{y:04}"))),
        (1_u32..29, 1_u32..13, 1_u32..3_000)
            .prop_map(|(d, m, y)| (1184, format!("{d:02}/{m:02}/{y:04} 01:02:03 CET"))),
        (0_u32..40, time()).prop_map(|(days, time)| (1186, format!("{days} days {time}"))),
        (0_u32..4_000).prop_map(|s| (1186, format!("@ {s} secs ago"))),
        any::<u32>().prop_map(|n| (869, std::net::Ipv4Addr::from(n).to_string())),
        any::<u128>().prop_map(|n| (869, std::net::Ipv6Addr::from(n).to_string())),
        any::<u32>().prop_map(|n| (650, format!("{}/24", std::net::Ipv4Addr::from(n)))),
        prop::array::uniform6(any::<u8>()).prop_map(|b| (829, b.map(|b| format!("{b:02x}")).join(":"))),
        "\\\\x([0-9a-f]{2}){0,9}".prop_map(of(17)),
        "[01]{1,70}".prop_map(of(1560)),
        "[01]{0,70}".prop_map(of(1562)),
        "low|high".prop_map(of(20_001)),
        "\\{(low|high|NULL)(,(low|high|NULL)){0,3}\\}|\\{\\}".prop_map(of(20_009)),
        "\\[[1-4],[5-9]\\)|empty".prop_map(of(3904)),
        "\\{\\[1,5\\)\\}|\\{\\}".prop_map(of(4451)),
        "(\"[a-z]{1,5}\"=>\"[a-z]{0,5}\")?".prop_map(of(20_006)),
        "\\{([a-z]{1,9}|NULL)(,([a-z]{1,9}|NULL)){0,3}\\}|\\{\\}".prop_map(of(1009)),
        "\\{-?[0-9]{1,6}(,-?[0-9]{1,6}){0,3}\\}".prop_map(of(1007)),
        "\\([0-9]{1,6},[a-z]{0,9},(low|high),\"\\{[0-9]\\}\",\\)".prop_map(of(20_003)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn whatever_a_transform_gives_is_recognised(
        transform in prop::sample::select(&TRANSFORMS[..]),
        (type_oid, value) in values(),
    ) {
        let shape = Shape::of(type_oid, &catalogue());
        if let Masked::Value(masked) = masker().apply(transform, &shape, Format::Text, value.as_bytes()) {
            let found = image(transform, &shape, Format::Text, &masked);
            prop_assert!(found > Image::None, "{type_oid} {transform:?} {value:?} -> {}", masked.escape_ascii());
            // An array of it, as a client that saves many rows at once binds it.
            let quoted = String::from_utf8(masked).unwrap().replace('\\', "\\\\").replace('"', "\\\"");
            let array = format!("{{\"{quoted}\"}}");
            prop_assert_eq!(element_image(transform, &shape, Format::Text, array.as_bytes()), found);
            if found == Image::Unmistakable && matches!(type_oid, TEXT | UUID) {
                let document = format!("{{\"a\": 1, \"b\": \"{quoted}\"}}");
                prop_assert!(holds_image(transform, &shape, document.as_bytes()), "{document}");
            }
        }
    }

    #[test]
    fn the_same_in_binary_form(
        transform in prop::sample::select(&TRANSFORMS[..]),
        (type_oid, value) in prop_oneof![
            any::<i16>().prop_map(|n| (21, n.to_be_bytes().to_vec())),
            any::<i32>().prop_map(|n| (23, n.to_be_bytes().to_vec())),
            any::<i64>().prop_map(|n| (20, n.to_be_bytes().to_vec())),
            any::<u32>().prop_map(|n| (26, n.to_be_bytes().to_vec())),
            any::<i64>().prop_map(|n| (790, n.to_be_bytes().to_vec())),
            any::<f32>().prop_map(|n| (700, n.to_be_bytes().to_vec())),
            any::<f64>().prop_map(|n| (701, n.to_be_bytes().to_vec())),
            (-900_000_i32..900_000).prop_map(|n| (1082, n.to_be_bytes().to_vec())),
            any::<i64>().prop_map(|n| (1114, n.to_be_bytes().to_vec())),
            any::<i64>().prop_map(|n| (1184, n.to_be_bytes().to_vec())),
            (0_i64..86_400_000_000).prop_map(|n| (1083, n.to_be_bytes().to_vec())),
            (0_i64..86_400_000_000, -50_000_i32..50_000)
                .prop_map(|(n, zone)| (1266, [&n.to_be_bytes()[..], &zone.to_be_bytes()].concat())),
            prop::array::uniform16(any::<u8>()).prop_map(|value| (1186, value.to_vec())),
            prop::array::uniform16(any::<u8>()).prop_map(|value| (2950, value.to_vec())),
            prop::array::uniform6(any::<u8>()).prop_map(|value| (829, value.to_vec())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| (17, value)),
            prop::array::uniform4(any::<u8>()).prop_map(|value| (869, [&[2, 32, 0, 4], &value[..]].concat())),
            (prop::collection::vec(0_u16..10_000, 0..5), -1_i16..6).prop_map(|(digits, weight)| {
                let count = u16::try_from(digits.len()).unwrap().to_be_bytes();
                let mut value = [count, weight.to_be_bytes(), [0; 2], [0; 2]].concat();
                value.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
                (1700, value)
            }),
            prop::collection::vec(any::<u8>(), 2).prop_map(|bits| (1560, [&[0, 0, 0, 16], &bits[..]].concat())),
            Just((16, vec![1])),
            Just((3904, vec![1])),
        ],
    ) {
        let shape = shape(type_oid);
        if let Masked::Value(masked) = masker().apply(transform, &shape, Format::Binary, &value) {
            let found = image(transform, &shape, Format::Binary, &masked);
            prop_assert!(found > Image::None, "{type_oid} {transform:?} {} -> {}", value.escape_ascii(), masked.escape_ascii());
        }
    }

    #[test]
    fn random_bytes_are_looked_at_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        transform in prop::sample::select(&TRANSFORMS[..]),
        type_oid in prop::sample::select(&[16, 17, 18, 20, 25, 114, 142, 650, 701, 790, 829, 869, 1009, 1082, 1114, 1184,
            1186, 1266, 1560, 1562, 1700, 2950, 3802, 3904, 4451, 20_003, 20_004, 20_006][..]),
    ) {
        let shape = Shape::of(type_oid, &catalogue());
        for format in [Format::Text, Format::Binary] {
            let _ = image(transform, &shape, format, &bytes);
            let _ = element_image(transform, &shape, format, &bytes);
        }
        let _ = holds_image(transform, &shape, &bytes);
    }
}

#[test]
fn an_image_is_recognised_as_clients_write_it() {
    let found =
        |transform, type_oid, value: &str| image(transform, &shape(type_oid), Format::Text, value.as_bytes());
    for (transform, type_oid, value) in [
        (Transform::Partial, TEXT, " A***@***.COM "),
        (Transform::Partial, TEXT, "@***"),
        (Transform::Redact, TEXT, "[Redacted]"),
        (Transform::Null, TEXT, "[redacted]"),
        (Transform::Last4, VARCHAR, "****6789"),
        (Transform::Hash, TEXT, "00000000deadbeef"),
        (Transform::Hash, UUID, "{0123456789AB8DEF8123456789ABCDEF}"),
        (Transform::Redact, JSONB, " \"***\" "),
    ] {
        assert_eq!(found(transform, type_oid, value), Image::Unmistakable, "{value}");
    }
    for (transform, type_oid, value) in [
        (Transform::Redact, 23, "+0"),
        (Transform::Redact, 23, "0.0"),
        (Transform::Partial, 20, "5e4"),
        (Transform::Redact, 1700, "0.00"),
        (Transform::Partial, 1700, "40000.00"),
        (Transform::Redact, 790, "0"),
        (Transform::Redact, 16, "false"),
        (Transform::Redact, 16, "no"),
        (Transform::Redact, 1082, "epoch"),
        (Transform::Partial, 1184, "1987-01-01T01:00:00.000+01:00"),
        (Transform::Partial, 1184, "1986-12-31 19:00:00-05:00"),
        (Transform::Partial, 1114, "1987-01-01T00:00:00Z"),
        (Transform::Partial, 1114, "1987-01-01 00:00:00 +02"),
        (Transform::Redact, 1184, "1970-01-01"),
        (Transform::Redact, 1184, "Thu Jan 01 00:00:00 1970 UTC"),
        (Transform::Redact, 1186, "0 days"),
        (Transform::Redact, 1186, "0:00:00"),
        (Transform::Redact, 2950, "00000000000000000000000000000000"),
        (Transform::Partial, 869, "192.0.0.0/32"),
        (Transform::Redact, 829, "00-00-00-00-00-00"),
        (Transform::Redact, 17, "\\x"),
        (Transform::Redact, 3904, " EMPTY"),
        (Transform::Redact, 1009, "{}"),
        (Transform::Redact, 1009, "{NULL,NULL}"),
    ] {
        assert_eq!(found(transform, type_oid, value), Image::Honest, "{value}");
    }
    // Of another width than the column's.
    let wide = image(Transform::Redact, &shape(20), Format::Binary, &[0; 4]);
    assert_eq!(wide, Image::Honest);
}

#[test]
fn honest_values_are_no_images() {
    let all = [Transform::Redact, Transform::Partial, Transform::Last4, Transform::Hash, Transform::Null];
    for (type_oid, transforms, values) in [
        (
            TEXT,
            &all[..],
            &[
                "",
                " ",
                "*",
                "**",
                "ann@example.com",
                "p*",
                "a**@example.com",
                "redacted",
                "[redacted",
                "see [redacted] here",
                "***bold***",
                "a *** b",
                "*** see below",
                "ab***",
                "****12345",
                "****123",
                "123-45-6789",
                "deadbeef",
                "00000000deadbee",
                "00000000deadbeefs",
                "0123456789abcdeg",
                "0123456789ABCDEF",
                "null",
                "NULL",
                "(none)",
                "a***@example.com",
                "a***@***.c0m",
                "a***@***.photography",
                "p***@***.com, q***@***.com",
                "+1 555 5433",
                "****-****-****-1234",
                "Person 7",
                "0",
                "f",
                "empty",
                "{}",
                "1970-01-01",
            ][..],
        ),
        (
            23,
            &[Transform::Redact, Transform::Partial, Transform::Last4, Transform::Null],
            &["-1", "12345", "52340", "-52341"],
        ),
        (1700, &[Transform::Redact, Transform::Partial], &["0.01", "48250.75", "11000", "42", "NaN"]),
        (
            701,
            &[Transform::Redact, Transform::Partial, Transform::Last4],
            &["0.5", "48250.75", "12000", "Infinity"],
        ),
        (
            1082,
            &[Transform::Redact, Transform::Last4],
            &["1970-01-02", "1987-01-01", "2024-02-29", "infinity"],
        ),
        (1082, &[Transform::Partial], &["1970-01-02", "1987-06-05", "05.06.1987", "infinity"]),
        (
            1184,
            &[Transform::Redact, Transform::Partial],
            &["1970-01-01 00:00:01+00", "2024-02-29 12:00:00+00", "now", "infinity"],
        ),
        (1184, &[Transform::Hash], &["2024-02-29 12:00:00.5+00", "2300-02-28 12:00:00+00"]),
        (1083, &[Transform::Redact, Transform::Partial], &["00:00:01", "12:30:00"]),
        (1186, &[Transform::Redact, Transform::Partial], &["1 day", "00:00:01", "P1Y"]),
        (16, &all, &["true", "t", "on", "1"]),
        (UUID, &all, &["b3bd8a5c-1f5e-4f4f-9d0b-2c963f66afa6", "018f3c5e-7b1a-7c3d-9e2f-0123456789ab"]),
        (
            869,
            &[Transform::Redact, Transform::Partial],
            &["192.168.7.9", "10.1.2.3", "2001:db8::1", "10.0.0.0/8"],
        ),
        (JSONB, &all, &["{}", "[]", "\"*\"", "\"****\"", "\"a\"", "0", "null", "{\"a\": \"***\"}"]),
        (
            1009,
            &[Transform::Redact, Transform::Partial, Transform::Last4, Transform::Null],
            &["{a,b}", "{\"\"}"],
        ),
        (1007, &[Transform::Redact], &["{0,1}", "{7}"]),
        (17, &[Transform::Redact], &["\\x00", "\\xdeadbeef"]),
        (3904, &all, &["[1,5)", "(,)"]),
        (18, &all, &["x"]),
        (600, &all, &["(0,0)", "[redacted]"]),
    ] {
        for transform in transforms {
            for value in values {
                let found = image(*transform, &shape(type_oid), Format::Text, value.as_bytes());
                // Bare digits and such may be what a hash gives.
                let expected = if *transform == Transform::Hash && type_oid != TEXT {
                    found.min(Image::Honest)
                } else {
                    Image::None
                };
                assert_eq!(found, expected, "{type_oid} {transform:?} {value:?}");
            }
        }
    }
    for document in ["{\"name\": \"Ann\"}", "[1, 2, 3]", "(1,ann@example.com)", "note: see *** below"] {
        assert!(!holds_image(Transform::Partial, &shape(TEXT), document.as_bytes()), "{document}");
    }
}
