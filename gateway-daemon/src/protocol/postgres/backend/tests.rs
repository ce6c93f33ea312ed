//! Recorded messages, the round trip, and what must be refused.

use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    super::{
        super::wire::WireError,
        fixtures::{self, frame, framed},
    },
    Authentication, CopyFormats, Field, Fields, Message, TransactionStatus, data_row, error_response, parse,
    rows,
};

fn refused(tag: u8, body: &[u8]) -> WireError {
    parse(&framed(tag, body)).unwrap_err()
}

#[test]
fn recorded_messages_are_read_and_written_back_byte_for_byte() {
    for bytes in fixtures::SERVER {
        let frame = frame(bytes);
        let mut out = BytesMut::from(&b"before"[..]);
        parse(&frame).unwrap().encode(&mut out).unwrap();
        assert_eq!(&out[6..], *bytes, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_column_keeps_its_origin_whatever_its_name() {
    let frame = frame(fixtures::SERVER[24]);
    let expected = Field {
        name: b"relname",
        table_oid: 1259,
        attribute: 2,
        type_oid: 19,
        type_size: 64,
        type_modifier: -1,
        format: 0,
    };
    assert_eq!(parse(&frame).unwrap(), Message::RowDescription(vec![expected]));
}

#[test]
fn a_row_is_walked_value_by_value() {
    let frame = frame(fixtures::SERVER[11]);
    let Message::DataRow(row) = parse(&frame).unwrap() else { panic!("not a row") };
    assert_eq!((row.len(), row.is_empty()), (3, false));
    assert_eq!(row.values().collect::<Vec<_>>(), [Some(&b"1"[..]), Some("é".as_bytes()), None]);
    assert!(!format!("{row:?}").contains('é'));
}

#[test]
fn a_row_whose_lengths_do_not_add_up_is_refused() {
    let error = WireError::Truncated { what: "column value", needed: 2, left: 1 };
    assert_eq!(refused(b'D', b"\0\x01\0\0\0\x02a"), error);
    assert_eq!(refused(b'D', b"\0\0a"), WireError::TrailingBytes { what: "DataRow", count: 1 });
    let negative = WireError::InvalidLength { what: "column value", length: -7 };
    assert_eq!(refused(b'D', b"\0\x01\xff\xff\xff\xf9"), negative);
    assert!(parse(&framed(b'D', b"\xff\xff")).is_err());
}

#[test]
fn a_command_tag_tells_its_rows() {
    for (tag, expected) in [
        (&b"SELECT 5"[..], Some(5)),
        (b"INSERT 0 12", Some(12)),
        (b"UPDATE 0", Some(0)),
        (b"DELETE 18446744073709551615", Some(u64::MAX)),
        (b"DELETE 18446744073709551616", None),
        (b"COPY 3", Some(3)),
        (b"FETCH 1", Some(1)),
        (b"MOVE 1", Some(1)),
        (b"MERGE 4", Some(4)),
        (b"CREATE TABLE", None),
        (b"BEGIN", None),
        (b"SELECT", None),
        (b"SELECT ", None),
        (b"SELECT +5", None),
        (b"SELECT 5 6", None),
        (b"INSERT 0", None),
        (b"", None),
        (b"SELECT \xff", None),
    ] {
        assert_eq!(rows(tag), expected, "{}", tag.escape_ascii());
    }
}

#[test]
fn error_fields_can_be_kept_stripped_and_replaced() {
    let frame = frame(fixtures::SERVER[13]);
    let Message::ErrorResponse(fields) = parse(&frame).unwrap() else { panic!("not an error") };
    assert_eq!(fields.field(Fields::SQLSTATE), Some(&b"22012"[..]));
    assert_eq!(fields.field(Fields::DETAIL), None);
    assert_eq!(format!("{fields:?}"), "Fields { sqlstate: 22012, fields: 7 }");

    let kept = fields.clone().keep(&[Fields::SEVERITY, Fields::SQLSTATE]);
    assert_eq!(kept.as_slice(), [(b'S', &b"ERROR"[..]), (b'C', b"22012")]);
    let stripped = fields.strip(&[Fields::MESSAGE, Fields::FILE, Fields::LINE, Fields::ROUTINE]);
    let replaced = stripped.replace(Fields::SQLSTATE, b"42501").replace(Fields::MESSAGE, b"no");
    let mut out = BytesMut::new();
    error_response(&mut out, &replaced).unwrap();
    assert_eq!(out, &b"E\0\0\0\x1eSERROR\0VERROR\0C42501\0Mno\0\0"[..]);
}

#[test]
fn a_refusal_has_the_fields_that_the_protocol_demands() {
    let mut out = BytesMut::new();
    let fields = Fields::refusal("ERROR", "42501", "not for you", Some("ask"));
    error_response(&mut out, &fields).unwrap();
    assert_eq!(&out[5..], &b"SERROR\0VERROR\0C42501\0Mnot for you\0Hask\0\0"[..]);

    let before = out.clone();
    assert!(error_response(&mut out, &Fields::refusal("ERROR", "42501", "a\0b", None)).is_err());
    assert!(error_response(&mut out, &Fields::new(vec![(0, b"x")])).is_err());
    assert_eq!(out, before);
}

#[test]
fn what_the_protocol_does_not_know_is_refused() {
    assert_eq!(refused(b'Z', b"X"), WireError::InvalidValue { what: "transaction status", value: 88 });
    assert_eq!(refused(b'Q', b""), WireError::UnknownTag { tag: b'Q' });
    assert_eq!(refused(b'R', b"\0\0\0\0x"), WireError::TrailingBytes { what: "Authentication", count: 1 });
    assert_eq!(refused(b'K', b"\0\0\0\x01abc"), WireError::InvalidLength { what: "cancel key", length: 3 });
    assert!(parse(&framed(b'K', &[7; 4 + 256])).is_ok());
    assert!(parse(&framed(b'K', &[7; 4 + 257])).is_err());
    assert_eq!(refused(b'G', b"\x02\0\0"), WireError::InvalidValue { what: "format", value: 2 });
    let announced = WireError::Unterminated { what: "option" };
    assert_eq!(refused(b'v', b"\0\x03\0\0\xff\xff\xff\xff"), announced);
    assert_eq!(
        parse(&framed(b'R', b"\0\0\0\x07")).unwrap(),
        Message::Authentication(Authentication::Other(7))
    );
}

#[test]
fn no_message_survives_a_cut_or_an_addition() {
    for bytes in fixtures::SERVER {
        let (tag, body) = (bytes[0], &bytes[5..]);
        let open_ended = tag == b'd' || (tag == b'R' && matches!(body[3], 11 | 12)) || tag == b'K';
        for cut in 0..body.len() {
            if open_ended && (cut >= 4 || tag == b'd') && tag != b'K' {
                continue;
            }
            assert!(parse(&framed(tag, &body[..cut])).is_err(), "{} at {cut}", bytes.escape_ascii());
        }
        if !open_ended {
            let longer = [body, b"\0"].concat();
            assert!(parse(&framed(tag, &longer)).is_err(), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn lists_that_would_take_more_memory_than_their_message_are_refused() {
    let fields = b"M\0".repeat(255);
    assert!(parse(&framed(b'E', &[&fields[..], b"\0"].concat())).is_ok());
    assert!(parse(&framed(b'E', &[&fields[..], b"M\0\0"].concat())).is_err());
    let names = |prefix: &[u8], count: usize| [prefix, &b"x\0".repeat(count), b"\0"].concat();
    assert!(parse(&framed(b'R', &names(b"\0\0\0\x0a", 1000))).is_ok());
    assert!(parse(&framed(b'R', &names(b"\0\0\0\x0a", 1001))).is_err());
    let options = [&b"\0\x03\0\0\0\0\x40\0"[..], &[0; 0x4000]].concat();
    let error = WireError::TooLong { what: "options", length: 1001, limit: 1000 };
    assert_eq!(refused(b'v', &options), error);
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..=255, 0..20)
}

proptest! {
    #[test]
    fn messages_read_as_they_were_written(
        name in text(),
        value in text(),
        word in prop::collection::vec(1_u8..=255, 1..9),
        key in prop::collection::vec(any::<u8>(), 4..=256),
        data in prop::collection::vec(any::<u8>(), 0..60),
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 0..6),
        columns in prop::collection::vec((text(), any::<u32>(), any::<i16>(), any::<u32>(), any::<i16>(), any::<i32>(), 0_i16..=1), 0..5),
        codes in prop::collection::vec((1_u8..=255, text()), 0..6),
        types in prop::collection::vec(any::<u32>(), 0..6),
        formats in prop::collection::vec(0_i16..=1, 0..6),
        number in any::<u32>(),
    ) {
        let copy = CopyFormats { overall: 1, columns: formats };
        let fields = Fields::new(codes.iter().map(|(code, text)| (*code, &text[..])).collect());
        let columns = columns
            .iter()
            .map(|(name, table_oid, attribute, type_oid, type_size, type_modifier, format)| Field {
                name,
                table_oid: *table_oid,
                attribute: *attribute,
                type_oid: *type_oid,
                type_size: *type_size,
                type_modifier: *type_modifier,
                format: *format,
            })
            .collect();
        let messages = [
            Message::Authentication(Authentication::Ok),
            Message::Authentication(Authentication::Cleartext),
            Message::Authentication(Authentication::Md5 { salt: number.to_be_bytes() }),
            Message::Authentication(Authentication::Sasl { mechanisms: vec![&word, &word] }),
            Message::Authentication(Authentication::SaslContinue(&data)),
            Message::Authentication(Authentication::SaslFinal(&data)),
            Message::BackendKeyData { process_id: number, secret: &key },
            Message::ParameterStatus { name: &name, value: &value },
            Message::ReadyForQuery(TransactionStatus::Idle),
            Message::ReadyForQuery(TransactionStatus::InTransaction),
            Message::ReadyForQuery(TransactionStatus::Failed),
            Message::RowDescription(columns),
            Message::CommandComplete(&name),
            Message::ErrorResponse(fields.clone()),
            Message::NoticeResponse(fields),
            Message::ParseComplete,
            Message::BindComplete,
            Message::CloseComplete,
            Message::NoData,
            Message::ParameterDescription(types),
            Message::PortalSuspended,
            Message::EmptyQueryResponse,
            Message::CopyInResponse(copy.clone()),
            Message::CopyOutResponse(copy.clone()),
            Message::CopyBothResponse(copy),
            Message::CopyData(&data),
            Message::CopyDone,
            Message::NotificationResponse { process_id: number, channel: &name, payload: &value },
            Message::NegotiateProtocolVersion { version: number, unrecognised: vec![&name, &value] },
            Message::FunctionCallResponse(Some(&data)),
            Message::FunctionCallResponse(None),
        ];
        for message in messages {
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            let frame = frame(&out);
            prop_assert_eq!(parse(&frame).unwrap(), message);
        }

        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        let mut out = BytesMut::new();
        data_row(&mut out, &values).unwrap();
        let frame = frame(&out);
        let Message::DataRow(row) = parse(&frame).unwrap() else { panic!("not a row") };
        prop_assert_eq!(row.values().collect::<Vec<_>>(), values);
        let mut again = BytesMut::new();
        Message::DataRow(row).encode(&mut again).unwrap();
        prop_assert_eq!(again, out);
    }

    #[test]
    fn random_bodies_never_panic_and_what_is_read_is_written_back(
        tag in prop_oneof![prop::sample::select(&b"RKSZTDCEN123ntsIGHWdcAvV"[..]), any::<u8>()],
        body in prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..4, any::<u8>()], 0..80),
    ) {
        let frame = framed(tag, &body);
        if let Ok(message) = parse(&frame) {
            if matches!(message, Message::Authentication(Authentication::Other(_))) {
                return Ok(());
            }
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            prop_assert_eq!(&out[..], &frame.raw()[..]);
        }
    }
}
