//! The splitters and the sniffer, on recorded streams cut anywhere, and on hostile lengths.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    super::wire::WireError, Frame, MAX_STARTUP_BYTES, Sniff, StartupPacket, fixtures, frontend, peek_header,
    sniff, split_frame, split_startup,
};

const LIMIT: usize = 1 << 20;

fn split_all(buf: &mut BytesMut) -> Result<Vec<Frame>, WireError> {
    let mut frames = Vec::new();
    while let Some(frame) = split_frame(buf, LIMIT)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn untagged(body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..]);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn a_stream_cut_at_any_byte_gives_the_same_frames() {
    for messages in [fixtures::CLIENT, fixtures::SERVER] {
        let stream = messages.concat();
        for cut in 0..=stream.len() {
            let mut buf = BytesMut::from(&stream[..cut]);
            let mut frames = split_all(&mut buf).unwrap();
            buf.extend_from_slice(&stream[cut..]);
            frames.extend(split_all(&mut buf).unwrap());
            assert!(buf.is_empty());
            assert!(frames.iter().map(|frame| &frame.raw()[..]).eq(messages.iter().copied()), "cut at {cut}");
        }
    }
}

#[test]
fn a_stream_that_drips_gives_the_same_frames() {
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for byte in fixtures::CLIENT.concat() {
        buf.extend_from_slice(&[byte]);
        frames.extend(split_all(&mut buf).unwrap());
    }
    assert!(frames.iter().map(|frame| &frame.raw()[..]).eq(fixtures::CLIENT.iter().copied()));
}

#[test]
fn an_impossible_length_is_an_error_as_soon_as_it_is_there() {
    for length in [i32::MIN, -2, -1, 0, 1, 3] {
        let mut bytes = vec![b'Q'];
        bytes.extend_from_slice(&length.to_be_bytes());
        let expected = WireError::InvalidLength { what: "message length", length: i64::from(length) };
        assert_eq!(split_frame(&mut BytesMut::from(&bytes[..]), LIMIT), Err(expected));
        assert_eq!(peek_header(&bytes), Err(expected));
        assert_eq!(peek_header(&bytes[..4]), Ok(None));
    }
}

#[test]
fn a_length_over_the_limit_is_refused_by_its_header_and_reserves_nothing() {
    let mut buf = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
    let capacity = buf.capacity();
    let error = split_frame(&mut buf, LIMIT).unwrap_err();
    assert_eq!(error, WireError::TooLong { what: "message", length: 0x7fff_fffb, limit: LIMIT });
    assert_eq!(buf.capacity(), capacity);
    assert_eq!(peek_header(&buf), Ok(Some((b'Q', 0x8000_0000))));

    let mut waits = BytesMut::from(&b"Q\0\x10\0\x04"[..]);
    let capacity = waits.capacity();
    assert_eq!(split_frame(&mut waits, LIMIT), Ok(None), "exactly the limit: waits for its body");
    assert_eq!(waits.capacity(), capacity);
    assert!(split_frame(&mut BytesMut::from(&b"Q\0\x10\0\x05"[..]), LIMIT).is_err());
}

#[test]
fn a_frame_shows_its_parts_and_no_content() {
    let frame = fixtures::frame(b"Q\0\0\0\x0bsecret\0");
    assert_eq!((frame.tag, frame.body(), frame.body_len()), (b'Q', &b"secret\0"[..], 7));
    assert_eq!(format!("{frame:?}"), "Frame { tag: 'Q', body: <7 bytes withheld> }");
    assert_eq!(frame.into_raw(), &b"Q\0\0\0\x0bsecret\0"[..]);
}

#[test]
fn startup_packets_of_real_clients_are_read_however_they_are_cut() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let psql = StartupPacket::Startup {
        major: 3,
        minor: 0,
        parameters: vec![
            pair("user", "alice"),
            pair("database", "postgres"),
            pair("application_name", "psql"),
        ],
    };
    let cancel = StartupPacket::Cancel { process_id: 0x5943, secret: Bytes::from_static(b"\xbbf\xa1\x1b") };
    for (bytes, expected) in [
        (fixtures::PSQL_STARTUP, psql),
        (fixtures::SSL_REQUEST, StartupPacket::SslRequest),
        (fixtures::GSSENC_REQUEST, StartupPacket::GssEncRequest),
        (fixtures::CANCEL_REQUEST, cancel),
    ] {
        for cut in 0..bytes.len() {
            let mut buf = BytesMut::from(&bytes[..cut]);
            assert_eq!(split_startup(&mut buf), Ok(None), "{cut} bytes");
            buf.extend_from_slice(&bytes[cut..]);
            buf.extend_from_slice(b"what follows");
            assert_eq!(split_startup(&mut buf).unwrap().as_ref(), Some(&expected));
            assert_eq!(&buf[..], b"what follows");
        }
    }
}

#[test]
fn version_3_2_and_its_options_are_read() {
    let mut buf = untagged(b"\0\x03\0\x02user\0alice\0_pq_.foo\0bar\0\0");
    let Ok(Some(StartupPacket::Startup { major: 3, minor: 2, parameters })) = split_startup(&mut buf) else {
        panic!("not a startup message")
    };
    assert_eq!(parameters[1], ("_pq_.foo".to_owned(), "bar".to_owned()));
}

#[test]
fn startup_packets_that_postgresql_would_not_send_are_refused() {
    let refused: &[(&[u8], WireError)] = &[
        (b"\0\x03\0\0user\0alice\0", WireError::Unterminated { what: "parameter name" }),
        (b"\0\x03\0\0user\0alice", WireError::Unterminated { what: "parameter value" }),
        (b"\0\x03\0\0", WireError::Unterminated { what: "parameter name" }),
        (b"\0\x03\0\0user\0a\0\0x", WireError::TrailingBytes { what: "StartupMessage", count: 1 }),
        (b"\0\x03\0\0user\0a\0user\0b\0\0", WireError::Duplicate { what: "startup parameter" }),
        (b"\0\x03\0\0us\xff\0a\0\0", WireError::NotUtf8 { what: "parameter name" }),
        (b"\0\x03\0\0user\0\xc3\0\0", WireError::NotUtf8 { what: "parameter value" }),
        (b"\0\x02\0\0user\0a\0\0", WireError::UnsupportedVersion { major: 2, minor: 0 }),
        (b"\0\x04\0\0user\0a\0\0", WireError::UnsupportedVersion { major: 4, minor: 0 }),
        (b"\x04\xd2\x16/\0", WireError::TrailingBytes { what: "SSLRequest", count: 1 }),
        (b"\x04\xd2\x160\0", WireError::TrailingBytes { what: "GSSENCRequest", count: 1 }),
        (b"\x04\xd2\x161", WireError::InvalidValue { what: "request code", value: 80_877_105 }),
        (b"\x04\xd2\x16.\0\0\0", WireError::Truncated { what: "process id", needed: 4, left: 3 }),
        (b"\x04\xd2\x16.\0\0\0\x01abc", WireError::InvalidLength { what: "cancel key", length: 3 }),
    ];
    for (body, error) in refused {
        assert_eq!(split_startup(&mut untagged(body)), Err(*error), "{}", body.escape_ascii());
    }
}

#[test]
fn the_size_of_a_startup_packet_and_of_a_cancel_key_is_limited() {
    for length in [i32::MIN, -1, 0, 4, 7] {
        let mut buf = BytesMut::from(&length.to_be_bytes()[..]);
        let error = WireError::InvalidLength { what: "startup packet", length: i64::from(length) };
        assert_eq!(split_startup(&mut buf), Err(error));
    }
    let mut most = BytesMut::from(&10_004_u32.to_be_bytes()[..]);
    assert_eq!(split_startup(&mut most), Ok(None));
    let mut over = BytesMut::from(&10_005_u32.to_be_bytes()[..]);
    let error = WireError::TooLong { what: "startup packet", length: 10_001, limit: MAX_STARTUP_BYTES };
    assert_eq!(split_startup(&mut over), Err(error));

    for (bytes, fits) in [(3, false), (4, true), (32, true), (256, true), (257, false)] {
        let mut out = BytesMut::new();
        let key = vec![7; bytes];
        assert_eq!(frontend::cancel_request(&mut out, 1, &key).is_ok(), fits);
        let mut raw = b"\x04\xd2\x16.\0\0\0\x01".to_vec();
        raw.extend_from_slice(&key);
        assert_eq!(split_startup(&mut untagged(&raw)).is_ok(), fits);
        if fits {
            assert_eq!(out, untagged(&raw));
        }
    }
}

#[test]
fn debug_of_a_startup_packet_shows_no_values() {
    let mut buf = BytesMut::from(fixtures::PSQL_STARTUP);
    let text = format!("{:?}", split_startup(&mut buf).unwrap().unwrap());
    assert!(!text.contains("alice"), "{text}");
    let mut buf = BytesMut::from(fixtures::CANCEL_REQUEST);
    assert!(!format!("{:?}", split_startup(&mut buf).unwrap().unwrap()).contains("bb"));
}

#[test]
fn postgresql_is_recognised_by_its_first_eight_bytes() {
    for packet in
        [fixtures::PSQL_STARTUP, fixtures::SSL_REQUEST, fixtures::GSSENC_REQUEST, fixtures::CANCEL_REQUEST]
    {
        for count in 0..8 {
            assert_eq!(sniff(&packet[..count]), Sniff::Incomplete, "{count} bytes");
        }
        for count in 8..=packet.len() {
            assert_eq!(sniff(&packet[..count]), Sniff::Postgres, "{count} bytes");
        }
    }
}

#[test]
fn other_protocols_are_not_taken_for_postgresql() {
    let others: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\0\0\x09\x04\xd2\x16/\0",
        b"\0\0\0\x08\0\x03\0\0",
        b"\0\0\x27\x15\0\x03\0\0",
        b"\0\0\0\x20\0\x02\0\0",
    ];
    for other in others {
        assert_eq!(sniff(other), Sniff::Unknown, "{}", other.escape_ascii());
    }
    assert_eq!(sniff(b"G"), Sniff::Unknown, "the first byte decides");
    assert_eq!(sniff(b"\x16"), Sniff::Unknown);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_a_splitter(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut buf = BytesMut::from(&bytes[..]);
        let frames = split_all(&mut buf);
        if let Ok(frames) = frames {
            let taken: usize = frames.iter().map(|frame| frame.raw().len()).sum();
            prop_assert_eq!(taken + buf.len(), bytes.len());
        }
        let _ = peek_header(&bytes);
        let _ = sniff(&bytes);
        let _ = split_startup(&mut BytesMut::from(&bytes[..]));
    }

    #[test]
    fn random_bodies_never_panic_the_startup_parser(
        code in prop_oneof![Just(0x0003_0000_u32), Just(0x0003_0002), 80_877_100_u32..80_877_106, any::<u32>()],
        body in prop::collection::vec(prop_oneof![Just(0_u8), b'a'..b'd', any::<u8>()], 0..300),
    ) {
        let mut raw = code.to_be_bytes().to_vec();
        raw.extend_from_slice(&body);
        let mut buf = untagged(&raw);
        let whole = split_startup(&mut buf);
        prop_assert!(!matches!(whole, Ok(None)));
        if let Ok(Some(_)) = whole {
            // Whatever is a packet is recognised as one.
            prop_assert_eq!(sniff(&untagged(&raw)), Sniff::Postgres);
        }
    }

    #[test]
    fn a_startup_message_reads_as_it_was_written(
        minor in any::<u16>(),
        parameters in prop::collection::btree_map("[a-z_.]{1,12}", "[^\0]{0,20}", 0..10),
    ) {
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut buf = BytesMut::new();
        frontend::startup(&mut buf, minor, &pairs).unwrap();
        prop_assert_eq!(sniff(&buf), Sniff::Postgres);
        let parameters = parameters.into_iter().collect();
        prop_assert_eq!(
            split_startup(&mut buf),
            Ok(Some(StartupPacket::Startup { major: 3, minor, parameters }))
        );
    }
}
