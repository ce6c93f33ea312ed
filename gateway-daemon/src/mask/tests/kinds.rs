//! Each type in both formats: what comes out is a value of the type, decoded by another's decoder (`postgres-types`),
//! and the same in both formats.

use std::net::IpAddr;

use postgres_types::{FromSql, Type};
use proptest::prelude::*;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

use super::{TRANSFORMS, apply, masker, shape};
use crate::{
    domain::{
        catalogue::{Catalogue, TypeKind},
        decision::Transform,
    },
    mask::{Format, Masked, Shape},
};

const PARTIAL: Transform = Transform::Partial;
const LAST4: Transform = Transform::Last4;
const REDACT: Transform = Transform::Redact;
const HASH: Transform = Transform::Hash;

fn binary(transform: Transform, shape: &Shape, value: &[u8]) -> Option<Vec<u8>> {
    match masker().apply(transform, shape, Format::Binary, value) {
        Masked::Null => None,
        Masked::Value(value) => Some(value),
    }
}

/// The binary form after a transform, as another decoder reads it.
fn decoded<T: for<'a> FromSql<'a>>(transform: Transform, r#type: &Type, value: &[u8]) -> T {
    let masked = binary(transform, &shape(r#type.oid()), value).unwrap();
    T::from_sql(r#type, &masked).unwrap()
}

#[test]
fn numbers_show_their_magnitude_in_part_and_nothing_else() {
    for (type_oid, value, partial, last4) in [
        (21, "12345", "10000", "0"),
        (23, "-52340", "-50000", "0"),
        (23, "999", "0", "0"),
        (23, "123456789", "100000000", "6789"),
        (20, "-9223372036854775808", "-9000000000000000000", "5808"),
        (20, "4111111111110011", "4000000000000000", "11"),
        (1700, "48250.75", "40000", "0"),
        (1700, "-123456789012345678901234567890.5", "-100000000000000000000000000000", "7890"),
        (1700, "0.004", "0", "0"),
        (1700, "NaN", "0", "0"),
        (701, "48250.75", "4e4", "0"),
        (701, "-1.5e+300", "-1e300", "0"),
        (701, "Infinity", "0", "0"),
        (700, "999.5", "0", "0"),
        (26, "3000000000", "3000000000", "0"),
        (790, "$48,250.75", "$40000.00", "$0.00"),
        (790, "-$48,250.75", "-$40000.00", "$0.00"),
        (790, "48.250,75 €", "40000,00 €", "0,00 €"),
        (790, "￥48,250", "￥40000", "￥0"),
    ] {
        if type_oid != 790 && type_oid != 26 {
            assert_eq!(apply(LAST4, type_oid, value).unwrap(), last4, "{value}");
        }
        assert_eq!(apply(PARTIAL, type_oid, value).unwrap(), partial, "{value}");
        assert!(apply(REDACT, type_oid, value).unwrap().contains('0'));
        assert_eq!(apply(HASH, type_oid, value), apply(HASH, type_oid, value));
        assert_ne!(apply(HASH, type_oid, value).unwrap(), value);
    }
    assert_eq!(apply(HASH, 1700, "1.50"), apply(HASH, 1700, "1.5"), "equal numbers, whatever their scale");
    assert_eq!(apply(REDACT, 16, "t").unwrap(), "f");
    assert_eq!(apply(HASH, 16, "t"), apply(HASH, 16, "f"));
}

#[test]
fn times_show_their_year_or_hour_in_part_in_every_style() {
    for (type_oid, value, partial, redacted) in [
        (1082, "1987-06-05", "1987-01-01", "1970-01-01"),
        (1082, "05.06.1987", "01.01.1987", "01.01.1970"),
        (1082, "06/05/1987", "01/01/1987", "01/01/1970"),
        (1082, "06-05-1987", "01-01-1987", "01-01-1970"),
        (1082, "0044-03-15 BC", "0044-01-01 BC", "1970-01-01"),
        (1082, "infinity", "1970-01-01", "1970-01-01"),
        (1082, "12345-06-07", "1970-01-01", "1970-01-01"),
        (1114, "1987-06-05 04:03:02.5", "1987-01-01 00:00:00", "1970-01-01 00:00:00"),
        (1114, "Fri Jun 05 04:03:02.5 1987", "Thu Jan 01 00:00:00 1987", "Thu Jan 01 00:00:00 1970"),
        (1114, "05.06.1987 04:03:02", "01.01.1987 00:00:00", "01.01.1970 00:00:00"),
        (1184, "1987-06-05 04:03:02+02", "1987-01-01 00:00:00+00", "1970-01-01 00:00:00+00"),
        (1184, "06/05/1987 04:03:02 CEST", "01/01/1987 00:00:00 UTC", "01/01/1970 00:00:00 UTC"),
        (1184, "-infinity", "1970-01-01 00:00:00+00", "1970-01-01 00:00:00+00"),
        (1083, "14:35:20.25", "14:00:00", "00:00:00"),
        (1266, "14:35:20+02", "12:00:00+00", "00:00:00+00"),
        (1186, "1 year 2 mons 3 days 04:05:06", "00:00:00", "00:00:00"),
        (1186, "@ 1 year 2 mons ago", "@ 0", "@ 0"),
        (1186, "P1Y2M", "PT0S", "PT0S"),
    ] {
        assert_eq!(apply(PARTIAL, type_oid, value).unwrap(), partial, "{value}");
        assert_eq!(apply(REDACT, type_oid, value).unwrap(), redacted, "{value}");
        assert_ne!(apply(HASH, type_oid, value).unwrap(), value);
    }
    let summer = apply(HASH, 1184, "1987-06-05 04:03:02+02");
    assert_eq!(summer, apply(HASH, 1184, "1987-06-05 02:03:02+00"), "the same moment");
    assert_eq!(apply(HASH, 1186, "1 day 00:00:01"), apply(HASH, 1186, "1 day 00:00:01.000"));
}

#[test]
fn addresses_and_bits_keep_their_family_and_length() {
    for (type_oid, value, partial, redacted) in [
        (869, "192.168.7.9", "192.0.0.0", "0.0.0.0"),
        (869, "192.168.7.9/24", "192.0.0.0", "0.0.0.0"),
        (869, "2001:db8::1", "2001::", "::"),
        (650, "192.168.7.0/24", "192.0.0.0/32", "0.0.0.0/32"),
        (650, "2001:db8::/32", "2001::/128", "::/128"),
        (829, "08:00:2b:01:02:03", "08:00:2b:00:00:00", "00:00:00:00:00:00"),
        (774, "08:00:2b:01:02:03:04:05", "08:00:2b:00:00:00:00:00", "00:00:00:00:00:00:00:00"),
        (17, "\\xdeadbeef", "\\x", "\\x"),
        (1560, "10110", "00000", "00000"),
        (1562, "10110", "", ""),
        (18, "x", "*", "*"),
    ] {
        assert_eq!(apply(PARTIAL, type_oid, value).unwrap(), partial, "{value}");
        assert_eq!(apply(REDACT, type_oid, value).unwrap(), redacted, "{value}");
        assert_ne!(apply(HASH, type_oid, value).unwrap(), value);
    }
    assert!(apply(HASH, 869, "192.168.7.9").unwrap().starts_with("10."));
    assert!(apply(HASH, 869, "2001:db8::1").unwrap().starts_with("fd"));
    assert_eq!(apply(HASH, 17, "\\xde00"), apply(HASH, 17, "\\336\\000"), "either form of output");
    assert_eq!(apply(HASH, 1560, "10110").unwrap().len(), 5);
}

#[test]
fn arrays_keep_dimensions_bounds_and_nulls() {
    for (type_oid, value, redacted) in [
        (1007, "{1,NULL,3}", "{0,NULL,0}"),
        (1007, "[0:1][2:3]={{1,2},{NULL,4}}", "[0:1][2:3]={{0,0},{NULL,0}}"),
        (1009, r#"{a,"b \"c\" \\ ,d","NULL",NULL,""}"#, "{[redacted],[redacted],[redacted],NULL,[redacted]}"),
        (1009, "{}", "{}"),
        (1185, r#"{"2024-01-02 03:04:05+00"}"#, r#"{"1970-01-01 00:00:00+00"}"#),
        (3807, r#"{"{\"a\": \"x,y\"}"}"#, r#"{"\"***\""}"#),
        (2951, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "{00000000-0000-0000-0000-000000000000}"),
        (3905, r#"{"[1,5)",empty}"#, "{empty,empty}"),
        (1001, r#"{"\\xdead"}"#, r#"{"\\x"}"#),
    ] {
        assert_eq!(apply(REDACT, type_oid, value).as_deref(), Some(redacted), "{value}");
    }
    for broken in ["", "{", "{1", "{1,2", "1", "{\"a", "x={1}", "{1}x", "}"] {
        assert_eq!(apply(REDACT, 1007, broken), None, "{broken}");
    }
    for (type_oid, value, redacted) in
        [(3904, "[1,5)", "empty"), (3910, "[\"2024-01-01 00:00:00+00\",)", "empty"), (4451, "{[1,5)}", "{}")]
    {
        assert_eq!(apply(REDACT, type_oid, value).as_deref(), Some(redacted));
    }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let types = [
        (20_001, TypeKind::Enum("low".to_owned())),
        (20_002, TypeKind::Domain(23)),
        (20_003, TypeKind::Composite(vec![23, 25, 20_001, 1007, 600])),
        (20_004, TypeKind::Array(20_003)),
        (20_005, TypeKind::Range(701)),
        (20_006, TypeKind::Base("hstore".to_owned())),
        (20_007, TypeKind::Base("citext".to_owned())),
        (20_008, TypeKind::Base("box3d".to_owned())),
        (20_009, TypeKind::Array(20_002)),
        (20_010, TypeKind::Domain(20_010)),
    ];
    std::sync::Arc::make_mut(&mut catalogue.types).extend(types);
    catalogue
}

#[test]
fn types_of_the_database_are_masked_by_what_they_are_made_of() {
    let apply = |transform, type_oid, value: &str| {
        let shape = Shape::of(type_oid, &catalogue());
        match masker().apply(transform, &shape, Format::Text, value.as_bytes()) {
            Masked::Null => None,
            Masked::Value(value) => Some(String::from_utf8(value).unwrap()),
        }
    };
    for (type_oid, value, redacted) in [
        (20_001, "high", Some("low")),
        (20_002, "42", Some("0")),
        (20_003, r#"(42,"it ""is"" \\ me",high,"{1,2}","(1,2)")"#, Some(r#"(0,[redacted],low,"{0,0}",)"#)),
        (20_003, "(,,,,)", Some("(,,,,)")),
        (20_003, "(1,2)", None),
        (20_004, r#"{"(42,me,high,{1},)",NULL}"#, Some(r#"{"(0,[redacted],low,{0},)",NULL}"#)),
        (20_005, "[1,2)", Some("empty")),
        (20_006, r#""a"=>"1", "b"=>NULL"#, Some("")),
        (20_007, "Ann", Some("[redacted]")),
        (20_008, "BOX3D", None),
        (20_009, "{7}", Some("{0}")),
        (20_010, "round and round", None),
    ] {
        assert_eq!(apply(REDACT, type_oid, value).as_deref(), redacted, "{type_oid} {value}");
    }
    let hash = apply(HASH, 20_006, r#""a"=>"1", "b"=>NULL"#).unwrap();
    assert!(hash.starts_with(r#""hash"=>""#) && hash.len() == 26, "{hash}");
    let pairs = b"\0\0\0\x02\0\0\0\x01a\0\0\0\x011\0\0\0\x01b\xff\xff\xff\xff";
    let shape = Shape::of(20_006, &catalogue());
    let masked = binary(HASH, &shape, pairs).unwrap();
    let of_binary: std::collections::HashMap<String, Option<String>> = FromSql::from_sql(
        &Type::new("hstore".to_owned(), 20_006, postgres_types::Kind::Simple, "public".to_owned()),
        &masked,
    )
    .unwrap();
    assert_eq!(of_binary["hash"].as_deref(), hash.get(9..25));
}

/// A binary array of one dimension.
fn array(element: u32, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [1, u32::from(values.contains(&None)), element, u32::try_from(values.len()).unwrap(), 1] {
        out.extend(word.to_be_bytes());
    }
    for value in values {
        out.extend(value.map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap()).to_be_bytes());
        out.extend(value.unwrap_or_default());
    }
    out
}

proptest! {
    #[test]
    fn binary_values_stay_values_of_their_type(
        small: i16, number: i32, large: i64, real: f32, double: f64, text in "\\PC{0,40}",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        day in -700_000_i32..2_900_000, micros in 0_i64..86_400_000_000, octets: [u8; 16],
        transform in prop::sample::select(&TRANSFORMS[..]),
    ) {
        prop_assume!(transform != Transform::Null);
        let _: i16 = decoded(transform, &Type::INT2, &small.to_be_bytes());
        let _: i32 = decoded(transform, &Type::INT4, &number.to_be_bytes());
        let _: i64 = decoded(transform, &Type::INT8, &large.to_be_bytes());
        let _: u32 = decoded(transform, &Type::OID, &number.to_be_bytes());
        let _: f32 = decoded(transform, &Type::FLOAT4, &real.to_be_bytes());
        let _: f64 = decoded(transform, &Type::FLOAT8, &double.to_be_bytes());
        let _: bool = decoded(transform, &Type::BOOL, b"\x01");
        let _: Vec<u8> = decoded(transform, &Type::BYTEA, &bytes);
        for r#type in [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME] {
            let _: String = decoded(transform, &r#type, text.as_bytes());
        }
        let _: Date = decoded(transform, &Type::DATE, &day.to_be_bytes());
        let _: Time = decoded(transform, &Type::TIME, &micros.to_be_bytes());
        let moment = (i64::from(day) * 86_400_000_000 + micros).to_be_bytes();
        let _: PrimitiveDateTime = decoded(transform, &Type::TIMESTAMP, &moment);
        let _: OffsetDateTime = decoded(transform, &Type::TIMESTAMPTZ, &moment);
        let inet = [&[2, 32, 0, 4][..], &octets[..4]].concat();
        let _: IpAddr = decoded(transform, &Type::INET, &inet);
        let inet = [&[3, 128, 0, 16][..], &octets].concat();
        let _: IpAddr = decoded(transform, &Type::INET, &inet);
        let json = serde_json::to_vec(&serde_json::json!({ "a": text })).unwrap();
        let _: serde_json::Value = decoded(transform, &Type::JSON, &json);
        let _: serde_json::Value = decoded(transform, &Type::JSONB, &[&b"\x01"[..], &json].concat());
        let many = array(23, &[Some(&number.to_be_bytes()), None]);
        let seen: Vec<Option<i32>> = decoded(transform, &Type::INT4_ARRAY, &many);
        prop_assert!(seen.len() == 2 && seen[0].is_some() && seen[1].is_none());
        let many = array(25, &[None, Some(text.as_bytes())]);
        let seen: Vec<Option<String>> = decoded(transform, &Type::TEXT_ARRAY, &many);
        prop_assert!(seen.len() == 2 && seen[0].is_none() && seen[1].is_some());
        prop_assert!(binary(transform, &shape(2950), &octets).unwrap().len() == 16);
    }

    #[test]
    fn both_formats_are_masked_alike(
        number: i32, double: f64, day in -700_000_i32..2_900_000, micros in 0_i64..86_400_000_000,
        whole in "(-?[1-9][0-9]{0,30})|0", transform in prop::sample::select(&TRANSFORMS[..]),
    ) {
        prop_assume!(transform != Transform::Null);
        let of_binary: i32 = decoded(transform, &Type::INT4, &number.to_be_bytes());
        prop_assert_eq!(apply(transform, 23, &number.to_string()).unwrap(), of_binary.to_string());
        let of_binary: f64 = decoded(transform, &Type::FLOAT8, &double.to_be_bytes());
        let of_text: f64 = apply(transform, 701, &double.to_string()).unwrap().parse().unwrap();
        prop_assert!(of_text.total_cmp(&of_binary).is_eq(), "{} {}", of_text, of_binary);
        let date = Date::from_julian_day(day + 2_451_545).unwrap();
        let era = if date.year() > 0 { "" } else { " BC" };
        let year = if date.year() > 0 { date.year() } else { 1 - date.year() };
        let written = format!("{year:04}-{:02}-{:02}{era}", u8::from(date.month()), date.day());
        let of_binary: Date = decoded(transform, &Type::DATE, &day.to_be_bytes());
        let of_text = apply(transform, 1082, &written).unwrap();
        let month_and_day = format!("-{:02}-{:02}", u8::from(of_binary.month()), of_binary.day());
        prop_assert!(of_text.contains(&month_and_day), "{} {}", of_text, month_and_day);
        let of_binary: Time = decoded(transform, &Type::TIME, &micros.to_be_bytes());
        let second = micros / 1_000_000;
        let written = format!("{:02}:{:02}:{:02}.{:06}", second / 3600, second / 60 % 60, second % 60, micros % 1_000_000);
        prop_assert_eq!(apply(transform, 1083, &written).unwrap(), format!("{:02}:{:02}:{:02}", of_binary.hour(), of_binary.minute(), of_binary.second()));
        // A numeric's binary form is masked to the binary form of the masked text.
        let masked = apply(transform, 1700, &whole).unwrap();
        let again = binary(transform, &shape(1700), &numeric(&whole)).unwrap();
        prop_assert_eq!(again, numeric(&masked), "{} -> {}", whole, masked);
    }

    #[test]
    fn no_bytes_of_any_type_panic(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255), Just(b'{'), Just(b'"'), Just(b','), any::<u8>()], 0..40),
        transform in prop::sample::select(&TRANSFORMS[..]),
    ) {
        let oids = [16, 17, 18, 20, 21, 23, 26, 650, 700, 701, 774, 790, 829, 869, 1007, 1009, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802, 3904, 4451];
        let known = catalogue();
        for type_oid in oids.into_iter().chain(20_001..20_011) {
            let shape = Shape::of(type_oid, &known);
            for format in [Format::Text, Format::Binary] {
                let _ = masker().apply(transform, &shape, format, &bytes);
            }
        }
    }
}

/// A whole number as `numeric_send` writes it.
fn numeric(text: &str) -> Vec<u8> {
    let (sign, digits) = text.strip_prefix('-').map_or((0_u16, text), |digits| (0x4000, digits));
    let digits = digits.trim_start_matches('0');
    let padded = format!("{}{digits}", "0".repeat((4 - digits.len() % 4) % 4));
    let groups: Vec<u16> = padded
        .as_bytes()
        .chunks(4)
        .map(|group| std::str::from_utf8(group).unwrap().parse().unwrap())
        .collect();
    let weight = u16::try_from(groups.len().saturating_sub(1)).unwrap();
    let sent = groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
    let mut out = Vec::new();
    for word in
        [u16::try_from(sent).unwrap(), weight, sign, 0].into_iter().chain(groups.into_iter().take(sent))
    {
        out.extend(word.to_be_bytes());
    }
    out
}
