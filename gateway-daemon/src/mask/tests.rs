//! Each transform on each sort of type, in both formats, and rows as PostgreSQL sends them.

use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    ColumnMask, Concealed, Format, HashKey, MaskError, Masked, Masker, Shape, Stand, Treatment, mask_data_row,
};
use crate::domain::{catalogue::Catalogue, decision::Transform};

mod finds;
mod images;
mod kinds;

const TEXT: u32 = 25;
const NAME: u32 = 19;
const VARCHAR: u32 = 1043;
const BPCHAR: u32 = 1042;
const JSON: u32 = 114;
const JSONB: u32 = 3802;
const XML: u32 = 142;
const UUID: u32 = 2950;

const TRANSFORMS: [Transform; 5] =
    [Transform::Redact, Transform::Partial, Transform::Hash, Transform::Null, Transform::Last4];

fn masker() -> Masker {
    Masker::new(HashKey::new([7; 32]))
}

fn shape(type_oid: u32) -> Shape {
    Shape::of(type_oid, &Catalogue::default())
}

fn apply(transform: Transform, type_oid: u32, value: &str) -> Option<String> {
    match masker().apply(transform, &shape(type_oid), Format::Text, value.as_bytes()) {
        Masked::Null => None,
        Masked::Value(value) => Some(String::from_utf8(value).unwrap()),
    }
}

fn text(transform: Transform, value: &str) -> String {
    apply(transform, TEXT, value).unwrap()
}

#[test]
fn redact_leaves_nothing() {
    for type_oid in [TEXT, NAME, VARCHAR, BPCHAR, XML] {
        assert_eq!(apply(Transform::Redact, type_oid, "ann@example.com").unwrap(), "[redacted]");
        assert_eq!(apply(Transform::Redact, type_oid, "").unwrap(), "[redacted]");
    }
}

#[test]
fn partial_shows_that_it_was_an_address_and_not_whose() {
    assert_eq!(text(Transform::Partial, "anna@example.com"), "a***@***.com");
    assert_eq!(text(Transform::Partial, "first.last@mail.example.co.uk"), "f***@***.uk");
    assert_eq!(text(Transform::Partial, "żaneta@example.org"), "ż***@***.org");
    assert_eq!(text(Transform::Partial, "ann@example.com"), "a***@***.com");
    assert_eq!(text(Transform::Partial, " anna@example.com\n"), "a***@***.com");
    assert_eq!(
        text(Transform::Partial, "anna@example.peterson"),
        "a***@***",
        "longer than a top-level domain"
    );
    assert_eq!(text(Transform::Partial, "a@example.com"), "***@***.com", "a local part of one character");
}

#[test]
fn partial_shows_one_character_of_anything_else_that_is_long_enough() {
    assert_eq!(text(Transform::Partial, "Annabel Example"), "A***");
    assert_eq!(text(Transform::Partial, "Änne"), "Ä***");
    for short in ["", "A", "No", "Yes", "    No"] {
        assert_eq!(text(Transform::Partial, short), "***", "{short}");
    }
    for odd in
        ["anna@localhost", "anna@example.c0m", "anna@two@example.com", "an na@example.com", "anna@.com"]
    {
        assert_eq!(text(Transform::Partial, odd), "a***", "{odd}");
    }
}

#[test]
fn last4_shows_four_characters_of_values_that_have_more_to_hide() {
    assert_eq!(text(Transform::Last4, "4111111111111111"), "****1111");
    assert_eq!(text(Transform::Last4, "123-45-6789"), "****6789");
    assert_eq!(text(Transform::Last4, "123456789"), "****6789");
    assert_eq!(text(Transform::Last4, "ééééééabcdé"), "****bcdé");
    for short in ["", "1", "1234", "12345", "12345678", "éééééééé", "     12345", "12345      "] {
        assert_eq!(text(Transform::Last4, short), "****", "{short}");
    }
}

#[test]
fn blanks_that_pad_a_char_column_are_not_the_value() {
    assert_eq!(apply(Transform::Last4, BPCHAR, "123456789          ").unwrap(), "****6789");
    assert_eq!(apply(Transform::Last4, BPCHAR, "1234               ").unwrap(), "****");
    assert_eq!(apply(Transform::Partial, BPCHAR, "ab      ").unwrap(), "***");
    assert_eq!(apply(Transform::Hash, BPCHAR, "ab      "), apply(Transform::Hash, TEXT, "ab"));
}

#[test]
fn hash_keeps_equal_values_equal_under_one_key_and_tells_nothing_without_it() {
    let hash = text(Transform::Hash, "anna@example.com");
    assert_eq!(hash.len(), 16);
    assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(hash, apply(Transform::Hash, VARCHAR, "anna@example.com").unwrap());
    assert_ne!(hash, text(Transform::Hash, "anna@example.con"));
    let other = Masker::new(HashKey::new([8; 32]));
    let Masked::Value(other) = other.apply(Transform::Hash, &shape(TEXT), Format::Text, b"anna@example.com")
    else {
        panic!("NULL")
    };
    assert_ne!(hash.as_bytes(), other);
}

/// RFC 4231, test case 2, cut to 64 bits: the hash is HMAC-SHA256, padded keys included.
#[test]
fn hash_is_hmac_sha256() {
    let mut key = [0; 32];
    key[..4].copy_from_slice(b"Jefe");
    let masked = Masker::new(HashKey::new(key)).apply(
        Transform::Hash,
        &shape(TEXT),
        Format::Text,
        b"what do ya want for nothing?",
    );
    assert_eq!(masked, Masked::Value(b"5bdcc146bf60754e".to_vec()));
}

#[test]
fn json_stays_json_and_is_never_shown_in_part() {
    let document = r#"{"ssn": "123-45-6789"}"#;
    for transform in [Transform::Redact, Transform::Partial, Transform::Last4] {
        assert_eq!(apply(transform, JSON, document).unwrap(), "\"***\"");
        assert_eq!(apply(transform, JSONB, document).unwrap(), "\"***\"");
    }
    let hash = apply(Transform::Hash, JSON, document).unwrap();
    assert!(serde_json::from_str::<String>(&hash).is_ok_and(|hash| hash.len() == 16));
    let binary = [b"\x01", document.as_bytes()].concat();
    let masked = masker().apply(Transform::Hash, &shape(JSONB), Format::Binary, &binary);
    assert_eq!(masked, Masked::Value([b"\x01", hash.as_bytes()].concat()), "as in text, behind the version");
    for unknown in [&b"\x02{}"[..], b"", b"{}"] {
        assert_eq!(masker().apply(Transform::Redact, &shape(JSONB), Format::Binary, unknown), Masked::Null);
    }
    assert_eq!(apply(Transform::Partial, XML, "<ssn>123-45-6789</ssn>").unwrap(), "[redacted]");
    assert_eq!(apply(Transform::Last4, XML, "<ssn>123-45-6789</ssn>").unwrap(), "[redacted]");
}

#[test]
fn a_uuid_hashes_to_a_uuid_in_both_formats() {
    let value = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let hash = apply(Transform::Hash, UUID, value).unwrap();
    assert_ne!(hash, value);
    let parts: Vec<_> = hash.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!(hash.as_bytes()[14], b'8', "RFC 9562, version 8");
    assert_eq!(Some(&hash), apply(Transform::Hash, UUID, &value.to_uppercase()).as_ref());

    let from_hex = |text: &str| -> Vec<u8> {
        let digits = text.replace('-', "");
        (0..32).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    };
    let masked = masker().apply(Transform::Hash, &shape(UUID), Format::Binary, &from_hex(value));
    assert_eq!(masked, Masked::Value(from_hex(&hash)));
    for transform in [Transform::Redact, Transform::Partial] {
        assert_eq!(apply(transform, UUID, value).unwrap(), "00000000-0000-0000-0000-000000000000");
    }
    assert_eq!(apply(Transform::Last4, UUID, value).unwrap(), "00000000-0000-0000-0000-000000000a11");
    assert_eq!(apply(Transform::Null, UUID, value), None);
    for odd in ["", "a0eebc99", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"] {
        assert_eq!(apply(Transform::Hash, UUID, odd), None, "{odd}");
    }
    assert_eq!(masker().apply(Transform::Hash, &shape(UUID), Format::Binary, &[0; 15]), Masked::Null);
}

#[test]
fn types_that_are_not_known_become_null() {
    // point, record, tsvector, regclass, unknown, and oids of enums, composites and extensions that no catalogue explains.
    for type_oid in [0, 600, 2249, 3614, 2205, 705, 16_384, u32::MAX] {
        for transform in TRANSFORMS {
            for format in [Format::Text, Format::Binary] {
                assert_eq!(
                    masker().apply(transform, &shape(type_oid), format, b"12345678901"),
                    Masked::Null,
                    "{type_oid}"
                );
            }
        }
    }
}

#[test]
fn null_and_values_that_are_not_text_become_null() {
    for type_oid in [TEXT, NAME, VARCHAR, BPCHAR, JSON, JSONB, XML, UUID] {
        assert_eq!(apply(Transform::Null, type_oid, "{}"), None);
        for transform in TRANSFORMS {
            assert_eq!(
                masker().apply(transform, &shape(type_oid), Format::Text, b"\xff123456789"),
                Masked::Null
            );
            assert_eq!(
                masker().apply(transform, &shape(type_oid), Format::Binary, b"\x01\xff12345678"),
                Masked::Null
            );
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    assert_eq!(format!("{:?}", HashKey::new([7; 32])), "HashKey(<withheld>)");
    assert!(!format!("{:?}", masker()).contains('7'));
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend_from_slice(value);
            }
        }
    }
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [b"D", &length[..], &body].concat()
}

fn mask(transform: Transform, type_oid: u32, format: Format) -> ColumnMask {
    ColumnMask { treatment: Treatment::Whole(transform), shape: shape(type_oid), format }
}

fn redact_text() -> ColumnMask {
    mask(Transform::Redact, TEXT, Format::Text)
}

#[test]
fn a_concealed_value_is_the_same_in_every_row_also_where_it_is_null() {
    const JSON: u32 = 114;
    const TEXTS: u32 = 1009;
    for (type_oid, values) in [
        (TEXT, [Some(&b"anna"[..]), Some(b""), None]),
        (1042, [Some(b"anna  "), Some(b""), None]),
        (19, [Some(b"anna"), Some(b""), None]),
        (16, [Some(b"t"), Some(b"f"), None]),
        (18, [Some(b"a"), Some(b""), None]),
        (142, [Some(b"<a/>"), Some(b"x"), None]),
        (3904, [Some(b"[1,2)"), Some(b"empty"), None]),
        (23, [Some(b"7"), Some(b"-12345"), None]),
        (1700, [Some(b"7.25"), Some(b"0"), None]),
        (JSON, [Some(b"[null]"), Some(b"{\"a\": 1}"), None]),
        (TEXTS, [Some(b"{}"), Some(b"{a,b}"), None]),
        (1082, [Some(b"2026-01-02"), Some(b"infinity"), None]),
    ] {
        for (stand, format) in [
            (Stand::ByType, Format::Text),
            (Stand::ByType, Format::Binary),
            (Stand::Null, Format::Text),
            (Stand::Null, Format::Binary),
        ] {
            let plan =
                [Some(ColumnMask { treatment: Treatment::Concealed(stand), shape: shape(type_oid), format })];
            let written = values.map(|value| {
                let mut out = BytesMut::new();
                let concealed = mask_data_row(&row(&[value]), &plan, &masker(), &mut out).unwrap();
                assert_eq!(concealed, Concealed::Something);
                out
            });
            let is_text = [TEXT, 1042, 19].contains(&type_oid) && stand == Stand::ByType;
            let expected = if is_text { Some(&b"[redacted]"[..]) } else { None };
            assert!(written.iter().all(|out| *out == row(&[expected])), "{type_oid}: {written:?}");
        }
    }
}

#[test]
fn a_row_is_rewritten_where_the_plan_says_and_nowhere_else() {
    let frame = row(&[Some(b"1"), Some(b"anna@example.com"), Some(b"42"), None, Some(b""), Some(b"end")]);
    let unknown = Some(mask(Transform::Redact, 600, Format::Text));
    let plan = [None, Some(redact_text()), unknown, Some(redact_text()), None, None];
    let mut out = BytesMut::from(&b"before"[..]);
    mask_data_row(&frame, &plan, &masker(), &mut out).unwrap();
    let expected = row(&[Some(b"1"), Some(b"[redacted]"), None, None, Some(b""), Some(b"end")]);
    assert_eq!(&out[6..], &expected[..]);
}

#[test]
fn a_row_that_the_plan_does_not_fit_is_not_passed_on() {
    let frame = row(&[Some(b"1"), Some(b"secret")]);
    let mut out = BytesMut::from(&b"before"[..]);
    for (plan, planned) in
        [(vec![], 0), (vec![Some(redact_text())], 1), (vec![None, None, Some(redact_text())], 3)]
    {
        let error = MaskError::ColumnCount { planned, found: 2 };
        assert_eq!(mask_data_row(&frame, &plan, &masker(), &mut out), Err(error));
    }
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn a_row_that_is_cut_or_padded_is_not_passed_on() {
    let frame = row(&[Some(b"one"), Some(b"two")]);
    let plan = [None, Some(redact_text())];
    let mut out = BytesMut::new();
    for cut in 0..frame.len() {
        assert!(mask_data_row(&frame[..cut], &plan, &masker(), &mut out).is_err(), "{cut} bytes");
        if cut >= 5 {
            // The same cut, with a header that fits it.
            let mut short = frame[..cut].to_vec();
            short[1..5].copy_from_slice(&u32::try_from(cut - 1).unwrap().to_be_bytes());
            assert_eq!(
                mask_data_row(&short, &plan, &masker(), &mut out),
                Err(MaskError::Malformed),
                "{cut} bytes"
            );
        }
    }
    let mut long = [&frame[..], b"x"].concat();
    assert_eq!(mask_data_row(&long, &plan, &masker(), &mut out), Err(MaskError::Malformed));
    long[4] += 1;
    assert_eq!(mask_data_row(&long, &plan, &masker(), &mut out), Err(MaskError::Malformed));
    let mut other = frame;
    other[0] = b'T';
    assert_eq!(mask_data_row(&other, &plan, &masker(), &mut out), Err(MaskError::NotARow));
    assert!(out.is_empty());
}

fn transform() -> impl Strategy<Value = Transform> {
    prop::sample::select(&TRANSFORMS[..])
}

proptest! {
    #[test]
    fn a_masked_value_shows_at_most_four_characters_and_a_top_level_domain(
        transform in transform(),
        value in "[A-Z0-9@. é]{0,30}",
    ) {
        if let Some(masked) = apply(transform, TEXT, &value) {
            let limit = match transform {
                Transform::Last4 => 8,
                Transform::Partial => 15,
                _ => 16,
            };
            prop_assert!(masked.chars().count() <= limit, "{masked}");
            // No run of five characters of the value is left, but for a top-level domain.
            let shown = masked.rsplit_once("@***.").map_or(masked.as_str(), |(local, _)| local);
            let characters: Vec<char> = value.chars().collect();
            for run in characters.windows(5) {
                prop_assert!(!shown.contains(&run.iter().collect::<String>()), "{value} -> {masked}");
            }
        }
    }

    #[test]
    fn rewriting_a_row_is_the_same_as_transforming_its_values(
        columns in prop::collection::vec(
            (
                prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
                prop::option::of((
                    transform(),
                    prop::sample::select(&[TEXT, BPCHAR, JSONB, UUID, 23][..]),
                    prop::sample::select(&[Format::Text, Format::Binary][..]),
                )),
            ),
            0..8,
        ),
    ) {
        let values: Vec<_> = columns.iter().map(|(value, _)| value.as_deref()).collect();
        let plan: Vec<_> = columns
            .iter()
            .map(|(_, planned)| planned.map(|(transform, type_oid, format)| mask(transform, type_oid, format)))
            .collect();
        let expected: Vec<Option<Vec<u8>>> = columns
            .iter()
            .map(|(value, mask)| match (value, mask) {
                (Some(value), Some((transform, type_oid, format))) => {
                    match masker().apply(*transform, &shape(*type_oid), *format, value) {
                        Masked::Null => None,
                        Masked::Value(value) => Some(value),
                    }
                }
                (value, _) => value.clone(),
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(Option::as_deref).collect();
        let mut out = BytesMut::new();
        mask_data_row(&row(&values), &plan, &masker(), &mut out).unwrap();
        prop_assert_eq!(&out[..], &row(&expected)[..]);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..60),
        columns in 0_usize..4,
        transform in transform(),
        type_oid in prop::sample::select(&[TEXT, BPCHAR, JSON, JSONB, XML, UUID, 23][..]),
    ) {
        let plan = vec![Some(mask(transform, type_oid, Format::Binary)); columns];
        let mut out = BytesMut::new();
        let mut body = u16::try_from(columns).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(&bytes);
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let frame = [b"D", &length[..], &body].concat();
        if mask_data_row(&frame, &plan, &masker(), &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
        let _ = mask_data_row(&bytes, &plan, &masker(), &mut out);
        let _ = masker().apply(transform, &shape(type_oid), Format::Text, &bytes);
    }
}
