//! Recorded messages, the round trip, and what must be refused.

use bytes::BytesMut;
use proptest::prelude::*;

use super::{
    super::{
        super::wire::WireError,
        fixtures::{self, frame, framed},
    },
    Kind, Message, gssenc_request, parse, password, sasl_initial_response, sasl_response, ssl_request,
    startup,
};

fn refused(tag: u8, body: &[u8]) -> WireError {
    parse(&framed(tag, body)).unwrap_err()
}

#[test]
fn recorded_messages_are_read_and_written_back_byte_for_byte() {
    for bytes in fixtures::CLIENT {
        let frame = frame(bytes);
        let mut out = BytesMut::from(&b"before"[..]);
        parse(&frame).unwrap().encode(&mut out).unwrap();
        assert_eq!(&out[6..], *bytes, "{}", bytes.escape_ascii());
    }
}

#[test]
fn libpqs_extended_query_has_the_fields_that_it_was_called_with() {
    let parse_frame = frame(fixtures::CLIENT[4]);
    assert_eq!(
        parse(&parse_frame).unwrap(),
        Message::Parse { name: b"", sql: b"select $1, $2, $3", parameter_types: vec![23, 23, 25] }
    );
    let bind_frame = frame(fixtures::CLIENT[5]);
    assert_eq!(
        parse(&bind_frame).unwrap(),
        Message::Bind {
            portal: b"",
            statement: b"",
            parameter_formats: vec![0, 1, 0],
            parameters: vec![Some(b"42"), Some(b"\0\0\0\x07"), None],
            result_formats: vec![1],
        }
    );
    let describe_frame = frame(fixtures::CLIENT[10]);
    assert_eq!(parse(&describe_frame).unwrap(), Message::Describe { kind: Kind::Statement, name: b"st" });
    let call_frame = frame(fixtures::CLIENT[17]);
    assert_eq!(
        parse(&call_frame).unwrap(),
        Message::FunctionCall {
            function: 1396,
            argument_formats: vec![1],
            arguments: vec![Some(b"\xff\xff\xff\xfb")],
            result_format: 1,
        }
    );
}

#[test]
fn requests_and_logins_are_written_as_libpq_writes_them() {
    let written = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    };
    assert_eq!(written(&|out| ssl_request(out)), fixtures::SSL_REQUEST);
    assert_eq!(written(&|out| gssenc_request(out)), fixtures::GSSENC_REQUEST);
    let parameters = [("user", "alice"), ("database", "postgres"), ("application_name", "psql")];
    assert_eq!(written(&|out| startup(out, 0, &parameters).unwrap()), fixtures::PSQL_STARTUP);
    let first = format!("n,,n=,r={}", fixtures::scram::NONCE);
    assert_eq!(
        written(&|out| sasl_initial_response(out, b"SCRAM-SHA-256", first.as_bytes()).unwrap()),
        fixtures::scram::FIRST
    );
    assert_eq!(
        written(&|out| sasl_response(out, &fixtures::scram::ANSWER[5..]).unwrap()),
        fixtures::scram::ANSWER
    );
    assert_eq!(written(&|out| password(out, b"IX").unwrap()), &b"p\0\0\0\x07IX\0"[..]);
}

#[test]
fn a_query_has_exactly_one_nul_and_that_at_its_end() {
    assert_eq!(refused(b'Q', b"select 1"), WireError::Unterminated { what: "query text" });
    assert_eq!(refused(b'Q', b""), WireError::Unterminated { what: "query text" });
    assert_eq!(refused(b'Q', b"select 1\0\0"), WireError::TrailingBytes { what: "Query", count: 1 });
    assert_eq!(
        refused(b'Q', b"select 1\0drop table t\0"),
        WireError::TrailingBytes { what: "Query", count: 13 }
    );
}

#[test]
fn what_the_protocol_does_not_know_is_refused() {
    assert_eq!(refused(b'D', b"Xname\0"), WireError::InvalidValue { what: "kind", value: 88 });
    assert_eq!(refused(b'S', b"\0"), WireError::TrailingBytes { what: "Sync", count: 1 });
    assert_eq!(refused(b'T', b""), WireError::UnknownTag { tag: b'T' });
    assert_eq!(refused(0, b""), WireError::UnknownTag { tag: 0 });
    let formats = WireError::InvalidValue { what: "format", value: 2 };
    assert_eq!(refused(b'B', b"\0\0\0\x01\0\x02\0\0\0\0"), formats);
    let mismatch = WireError::InvalidValue { what: "number of formats", value: 1 };
    assert_eq!(refused(b'B', b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"), mismatch);
    let negative = WireError::InvalidLength { what: "parameter", length: -2 };
    assert_eq!(refused(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), negative);
    let beyond = WireError::Truncated { what: "parameter", needed: 0x7fff_ffff, left: 2 };
    assert_eq!(refused(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"), beyond);
    let list = WireError::Truncated { what: "list", needed: 0x3_fffc, left: 0 };
    assert_eq!(refused(b'P', b"\0\0\xff\xff"), list);
}

#[test]
fn no_message_survives_a_cut_or_an_addition() {
    for bytes in fixtures::CLIENT {
        let (tag, body) = (bytes[0], &bytes[5..]);
        if matches!(tag, b'd' | b'p') {
            continue;
        }
        for cut in 0..body.len() {
            assert!(parse(&framed(tag, &body[..cut])).is_err(), "{} at {cut}", bytes.escape_ascii());
        }
        let longer = [body, b"\0"].concat();
        assert!(parse(&framed(tag, &longer)).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_cannot_be_represented_is_not_written_at_all() {
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(Message::Query(b"select 1\0; drop table t").encode(&mut out).is_err());
    let sneaky = Message::Describe { kind: Kind::Portal, name: b"a\0b" };
    assert!(sneaky.encode(&mut out).is_err());
    let many = Message::Parse { name: b"", sql: b"", parameter_types: vec![0; 65_536] };
    assert!(many.encode(&mut out).is_err());
    assert!(startup(&mut out, 0, &[("user", "a\0b")]).is_err());
    assert!(startup(&mut out, 0, &[("", "a")]).is_err());
    assert!(password(&mut out, b"a\0b").is_err());
    assert_eq!(out, &b"before"[..]);
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..=255, 0..20)
}

proptest! {
    #[test]
    fn messages_read_as_they_were_written(
        name in text(),
        sql in text(),
        data in prop::collection::vec(any::<u8>(), 0..60),
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 0..6),
        formats in prop::collection::vec(0_i16..=1, 0..6),
        types in prop::collection::vec(any::<u32>(), 0..6),
        number in any::<i32>(),
        oid in any::<u32>(),
    ) {
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        let fitting: Vec<_> = formats.iter().copied().cycle().take(if formats.is_empty() { 0 } else { values.len() }).collect();
        let messages = [
            Message::Query(&sql),
            Message::Parse { name: &name, sql: &sql, parameter_types: types },
            Message::Bind {
                portal: &sql,
                statement: &name,
                parameter_formats: fitting.clone(),
                parameters: values.clone(),
                result_formats: formats,
            },
            Message::Describe { kind: Kind::Statement, name: &name },
            Message::Close { kind: Kind::Portal, name: &name },
            Message::Execute { portal: &name, max_rows: number },
            Message::Flush,
            Message::Sync,
            Message::CopyData(&data),
            Message::CopyDone,
            Message::CopyFail(&sql),
            Message::FunctionCall { function: oid, argument_formats: fitting, arguments: values, result_format: 1 },
            Message::Password(&data),
            Message::Terminate,
        ];
        for message in messages {
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            let frame = frame(&out);
            prop_assert_eq!(parse(&frame).unwrap(), message);
        }
    }

    #[test]
    fn random_bodies_never_panic_and_what_is_read_is_written_back(
        tag in prop_oneof![prop::sample::select(&b"QPBDCEHSdcfFpX"[..]), any::<u8>()],
        body in prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..4, any::<u8>()], 0..80),
    ) {
        let frame = framed(tag, &body);
        if let Ok(message) = parse(&frame) {
            let mut out = BytesMut::new();
            message.encode(&mut out).unwrap();
            prop_assert_eq!(&out[..], &frame.raw()[..]);
        }
    }
}
