//! What detectors find and what they leave alone: a corpus of both, whose figures docs/masking.md gives, and finds inside
//! values of every sort of type.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use bytes::BytesMut;
use proptest::prelude::*;

use super::{masker, shape};
use crate::{
    domain::{catalogue::Catalogue, decision::Transform, detector::Detector},
    mask::{ColumnMask, Finds, Format, Scan, Shape, Treatment, mask_data_row},
};

/// A line each: the detector that must find something, a tab, the text with the find between `«` and `»`. Tokens are
/// written with `␣` in their middle, which is taken out, so that nobody takes them for real ones.
const FINDS: &str = include_str!("finds.txt");
/// A line each: nothing must be found in it.
const HARMLESS: &str = include_str!("harmless.txt");

fn scan(transform: Transform, names: &[&str]) -> Scan {
    let transforms = Detector::ALL.map(|detector| (detector, transform));
    masker().scan(BTreeMap::from(transforms), names.iter().copied()).unwrap()
}

/// Everything, redacted.
static ALL: LazyLock<Scan> = LazyLock::new(|| scan(Transform::Redact, &[]));

/// The text with its finds replaced by their names.
fn seen(text: &str) -> String {
    value(&ALL, &shape(25), Format::Text, text.as_bytes())
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .unwrap()
}

fn value(scan: &Scan, shape: &Shape, format: Format, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = BytesMut::new();
    let mask = ColumnMask { treatment: Treatment::Finds(scan.clone()), shape: shape.clone(), format };
    let frame = super::row(&[Some(value)]);
    mask_data_row(&frame, &[Some(mask)], &masker(), &mut out).unwrap();
    (out[7..11] != [0xff; 4]).then(|| out[11..].to_vec())
}

#[test]
fn what_must_be_found_is_found_and_nothing_around_it() {
    let mut misses = Vec::new();
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for line in FINDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, text) = line.split_once('\t').unwrap();
        *all.entry(name).or_default() += 1;
        let text = text.replace('␣', "").replace("\\n", "\n");
        let (before, rest) = text.split_once('«').unwrap();
        let (find, after) = rest.split_once('»').unwrap();
        let shown = seen(&format!("{before}{find}{after}"));
        if shown != format!("{before}[{name}]{after}") {
            misses.push(format!("{line} -> {shown}"));
        }
    }
    println!("{} texts: {all:?}; {} missed", all.values().sum::<usize>(), misses.len());
    assert!(misses.is_empty(), "{misses:#?}");
    assert!(Detector::ALL.iter().all(|detector| all.contains_key(detector.name())));
}

#[test]
fn harmless_text_is_left_alone() {
    let lines: Vec<&str> =
        HARMLESS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let hits: Vec<String> = lines
        .iter()
        .map(|line| (line, seen(line)))
        .filter(|(line, shown)| *line != shown)
        .map(|(line, shown)| format!("{line} -> {shown}"))
        .collect();
    println!("{} harmless texts, {} false finds", lines.len(), hits.len());
    assert!(hits.is_empty(), "{hits:#?}");
}

/// Identifiers of each sort.
const COUNT: u64 = 5_000;

/// Numbers as they fill databases, by chance: how many are taken for something else.
#[test]
fn random_identifiers_are_seldom_taken_for_something_else() {
    use std::fmt::Write as _;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut report = String::new();
    for (what, most_per_mille) in [
        ("uuid", 0),
        ("git hash", 0),
        ("unix time", 0),
        ("unix time in ms", 0),
        ("unix time in µs", 0),
        ("ip", 0),
        ("date and time", 0),
        ("version", 0),
        ("price", 0),
        ("order number", 0),
        ("16 digits", 25),
        ("12 digits", 0),
        ("10 digits", 0),
        ("11 digits", 0),
        ("9 digits", 0),
        ("base64", 0),
        ("coordinates", 0),
    ] {
        let mut finds = 0;
        for _ in 0..COUNT {
            let (a, b) = (random(), random());
            let text = match what {
                "uuid" => {
                    let hex = format!("{a:016x}{b:016x}");
                    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
                }
                "git hash" => format!("commit {a:016x}{b:016x}{:08x}", a >> 32),
                "unix time" => format!("{}", 1_500_000_000 + a % 400_000_000),
                "unix time in ms" => format!("{}", 1_500_000_000_000 + a % 400_000_000_000),
                "unix time in µs" => format!("{}", 1_500_000_000_000_000 + a % 400_000_000_000_000),
                "ip" => format!(
                    "{}.{}.{}.{}:{}",
                    a % 256,
                    a / 256 % 256,
                    b % 256,
                    b / 256 % 256,
                    b / 65_536 % 65_536
                ),
                "date and time" => format!(
                    "20{:02}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
                    a % 30,
                    1 + b % 12,
                    1 + a / 64 % 28,
                    b / 64 % 24,
                    a / 4_096 % 60,
                    b / 4_096 % 60,
                    a / 65_536 % 1_000_000
                ),
                "version" => format!(
                    "v{}.{}.{}-rc.{}+build.{}",
                    a % 30,
                    b % 100,
                    a / 64 % 1000,
                    b / 128 % 10,
                    a / 65_536 % 100_000
                ),
                "price" => format!(
                    "${}.{:02} of {},{:03}.{:02} EUR",
                    a % 100_000,
                    b % 100,
                    a % 1000,
                    b % 1000,
                    a % 100
                ),
                "order number" => format!(
                    "Order #{:010} / ORD-2024-{:08} / SKU {:013}",
                    a % 10_000_000_000,
                    b % 100_000_000,
                    a % 10_000_000_000_000
                ),
                "16 digits" => format!("{:016}", a % 10_000_000_000_000_000),
                "12 digits" => format!("{:012}", a % 1_000_000_000_000),
                "11 digits" => format!("{:011}", a % 100_000_000_000),
                "10 digits" => format!("{:010}", a % 10_000_000_000),
                "9 digits" => format!("{:09}", a % 1_000_000_000),
                "base64" => {
                    let mut text = String::new();
                    for byte in
                        a.to_be_bytes().into_iter().chain(b.to_be_bytes()).chain(random().to_be_bytes())
                    {
                        write!(
                            text,
                            "{}",
                            char::from(
                                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                                    [usize::from(byte % 64)]
                            )
                        )
                        .unwrap();
                    }
                    text + "=="
                }
                _ => format!("{}.{:07}, -{}.{:07}", a % 90, b % 10_000_000, b % 180, a / 128 % 10_000_000),
            };
            finds += u64::from(seen(&text) != text);
        }
        writeln!(report, "{what}: {finds} of {COUNT}").unwrap();
        assert!(finds * 1000 <= most_per_mille * COUNT, "{report}");
    }
    println!("{report}");
}

#[test]
fn a_find_is_replaced_as_its_transform_says() {
    let text = "Ann <ann@example.com>, card 4111 1111 1111 1111.";
    for (transform, expected) in [
        (Transform::Redact, Some("Ann <[email]>, card [card].")),
        (Transform::Partial, Some("Ann <a***@***.com>, card 4***.")),
        (Transform::Last4, Some("Ann <****.com>, card ****1111.")),
        (Transform::Null, None),
    ] {
        let shown = value(&scan(transform, &[]), &shape(25), Format::Text, text.as_bytes());
        assert_eq!(shown.as_deref(), expected.map(str::as_bytes));
    }
    let hash =
        |text: &str| value(&scan(Transform::Hash, &[]), &shape(25), Format::Text, text.as_bytes()).unwrap();
    assert_eq!(hash("4111 1111 1111 1111"), hash("4111-1111-1111-1111"), "the same card");
    assert_eq!(hash("4111111111111111").len(), 16);
}

#[test]
fn the_column_or_key_says_what_bare_digits_are() {
    let bare = "111222333";
    assert_eq!(seen(bare), bare);
    let shown = value(&scan(Transform::Redact, &["customer_bsn"]), &shape(25), Format::Text, bare.as_bytes());
    assert_eq!(shown.unwrap(), b"[national_id]");
    let document = br#"{"bsn": "111222333", "order": "111222333", "phones": [5550142, "555 0142"]}"#;
    let shown = value(&scan(Transform::Redact, &[]), &shape(114), Format::Text, document).unwrap();
    assert_eq!(
        String::from_utf8(shown).unwrap(),
        r#"{"bsn": "[national_id]", "order": "111222333", "phones": [0, "[phone]"]}"#
    );
}

#[test]
fn json_keeps_its_structure() {
    for (document, expected) in [
        (
            r#"{"a": ["ann@example.com", 1.5e3, null, true], "ann@example.com": {}}"#,
            r#"{"a": ["[email]", 1.5e3, null, true], "[email]": {}}"#,
        ),
        (r#"{"a": "say \"ann@example.com\" \u00e9"}"#, r#"{"a": "say \"[email]\" é"}"#),
        (r#"{"a": "\u0061nn@example.com"}"#, r#"{"a": "[email]"}"#),
        (r#"{"card": 4111111111111111}"#, r#"{"card": 0}"#),
        (r#"["\ud800 ann@example.com"]"#, r#"[" ud800 [email]"]"#),
        (r#"{"a": "b\\c", "n": -12}"#, r#"{"a": "b\\c", "n": -12}"#),
        ("\"ann@example.com\"", "\"[email]\""),
        ("{}", "{}"),
    ] {
        let shown =
            value(&scan(Transform::Redact, &[]), &shape(114), Format::Text, document.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
        let binary = [b"\x01", document.as_bytes()].concat();
        let shown = value(&scan(Transform::Redact, &[]), &shape(3802), Format::Binary, &binary).unwrap();
        assert_eq!(shown, [b"\x01", expected.as_bytes()].concat());
    }
    let broken = value(&scan(Transform::Redact, &[]), &shape(114), Format::Text, b"\"ann@example.com");
    assert_eq!(broken, None, "what is no document is not shown");
}

#[test]
fn arrays_and_other_types_are_looked_through_by_their_parts() {
    let all = scan(Transform::Redact, &[]);
    let text = |type_oid, value_: &str| {
        value(&all, &shape(type_oid), Format::Text, value_.as_bytes())
            .map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(text(1009, r#"{"ann@example.com and",NULL,x}"#).unwrap(), r#"{"[email] and",NULL,x}"#);
    assert_eq!(text(142, "<a>ann@example.com</a>").unwrap(), "<a>[email]</a>");
    assert_eq!(text(20, "4111111111111111").unwrap(), "4111111111111111", "numbers are numbers");
    assert_eq!(text(3614, "'ann@example.com':1"), None, "a type whose syntax is not known");
    assert_eq!(text(3614, "'ann':1").unwrap(), "'ann':1");
    let mut catalogue = Catalogue::default();
    std::sync::Arc::make_mut(&mut catalogue.types)
        .insert(20_006, crate::domain::catalogue::TypeKind::Base("hstore".to_owned()));
    let hstore = Shape::of(20_006, &catalogue);
    let shown =
        value(&all, &hstore, Format::Text, br#""mail"=>"ann@example.com", "bsn"=>"111222333", "x"=>NULL"#);
    assert_eq!(
        String::from_utf8(shown.unwrap()).unwrap(),
        r#""mail"=>"[email]", "bsn"=>"[national_id]", "x"=>NULL"#
    );
}

#[test]
fn a_row_of_copy_data_keeps_its_fields() {
    let mut out = BytesMut::new();
    let row = b"1\tann@example.com\t\\N\t4111 1111 1111 1111\n";
    assert_eq!(masker().scan_copy_row(&scan(Transform::Null, &[]), row, &mut out), Finds::Some);
    assert_eq!(&out[..], b"1\t[email]\t\\N\t[card]\n");
    out.clear();
    assert_eq!(masker().scan_copy_row(&scan(Transform::Null, &[]), b"1\tx\n", &mut out), Finds::None);
    assert_eq!(&out[..], b"1\tx\n");
}

#[test]
fn names_of_detectors_and_groups_are_what_policies_write() {
    let all: BTreeSet<Detector> = Detector::ALL.into();
    assert_eq!(Detector::named("all"), Some(all.clone()));
    let both: BTreeSet<_> =
        ["personal", "secrets"].into_iter().flat_map(|group| Detector::named(group).unwrap()).collect();
    assert_eq!(both, all);
    assert_eq!(Detector::named("emails"), None);
}

/// However long a text and whatever its signs: twice as much takes about twice the work. Counted in bytes looked at by the
/// slowest texts that are known, it would take minutes if it were quadratic.
#[test]
fn hostile_text_takes_linear_time() {
    for piece in [
        "a@",
        "1a",
        "1 ",
        "1-",
        "://",
        "a:b@",
        "eyJ",
        "eyJ.",
        "-----BEGIN PRIVATE KEY-----",
        "AB12 ",
        "4111 1111 1111 1111 ",
        "@",
        "a.",
        "sk_live_",
        "+1 ",
        "https://a:b@c",
        "8Q~",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        let _ = seen(&text);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_looked_through(
        bytes in prop::collection::vec(prop_oneof![Just(b'1'), Just(b'@'), Just(b'.'), Just(b' '), Just(b'-'), Just(b'"'), Just(b'\\'), any::<u8>()], 0..80),
        type_oid in prop::sample::select(&[25_u32, 114, 3802, 142, 1009, 3614, 20][..]),
    ) {
        let all = &ALL;
        for format in [Format::Text, Format::Binary] {
            let _ = value(all, &shape(type_oid), format, &bytes);
        }
    }

    #[test]
    fn an_address_is_found_wherever_it_stands(before in "[ a-z<(\"',;:=]{0,20}[ <(\"';:]", after in "[ >)\"',;:!?][ a-z0-9]{0,20}") {
        let shown = seen(&format!("{before}ann.lee@mail.example.org{after}"));
        prop_assert!(!shown.contains("ann.lee") && shown.contains("[email]"), "{}", shown);
    }
}
