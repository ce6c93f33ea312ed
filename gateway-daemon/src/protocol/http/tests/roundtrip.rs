use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    super::{HeadEnd, Limits, Request, Response, Sniff, readings, sniff},
    CURL, NGINX, REQUESTS, request, response,
};

#[test]
fn a_head_is_found_wherever_it_is_split() {
    for message in [CURL, REQUESTS, NGINX] {
        for split in 0..message.len() {
            let mut end = HeadEnd::default();
            assert_eq!(end.find(&message[..split], "head", 1000), Ok(None), "split at {split}");
            assert_eq!(end.find(message, "head", 1000), Ok(Some(message.len())), "split at {split}");
        }
        let mut end = HeadEnd::default();
        for length in 0..message.len() {
            assert_eq!(end.find(&message[..length], "head", 1000), Ok(None));
        }
        assert_eq!(end.find(message, "head", 1000), Ok(Some(message.len())));
    }
}

#[test]
fn what_is_put_reads_as_what_was_read() {
    for message in [CURL, REQUESTS] {
        let read = request(message).unwrap();
        let mut out = BytesMut::new();
        read.put(&mut out, read.query(), |_| true, &[]);
        let again = request(&out).unwrap();
        assert_eq!((again.method(), again.path(), again.query()), (read.method(), read.path(), read.query()));
        assert_eq!((&again.authority, again.framing), (&read.authority, read.framing));
    }
}

#[test]
fn the_first_bytes_of_a_request_are_recognised() {
    for (bytes, sniffed) in [
        (&b"GET / HT"[..], Sniff::Http),
        (b"GET", Sniff::Incomplete),
        (b"OPTIONS ", Sniff::Http),
        (b"PROPFIND", Sniff::Http),
        (b"", Sniff::Incomplete),
        (b"get / HT", Sniff::Unknown),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Sniff::Unknown),
        (b"SSH-2.0-", Sniff::Unknown),
        (b"\x16\x03\x01", Sniff::Unknown),
    ] {
        assert_eq!(sniff(bytes), sniffed, "{bytes:?}");
    }
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9-]{0,12}"
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((token(), "[!-~]?[ -~]{0,20}[!-~]?"), 0..8)
}

proptest! {
    #[test]
    fn any_fields_go_on_in_order_and_as_they_came(method in "[A-Z]{1,8}", path in "/[a-z0-9/._%-]{0,20}", fields in fields()) {
        prop_assume!(method != "CONNECT");
        let mut message = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in &fields {
            message += &["X-", name, ": ", value, "\r\n"].concat();
        }
        message.push_str("\r\n");
        let read = request(message.as_bytes()).unwrap();
        let mut out = BytesMut::new();
        read.put(&mut out, read.query(), |_| true, &[]);
        prop_assert_eq!(&out[..], message.as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_stays_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let limits = Limits::default();
        for head in [&bytes[..], &[b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat()] {
            if let Ok(Some(end)) = HeadEnd::default().find(head, "head", 1000) {
                let _ = Request::read(Bytes::copy_from_slice(&head[..end]), &limits);
                let _ = Response::read(Bytes::copy_from_slice(&head[..end]), false, &limits);
            }
        }
        let _ = response(b"HTTP/1.1 200 OK\r\n\r\n");
    }

    #[test]
    fn the_readings_of_a_path_are_closed_under_reading(path in "/[ab./;%2efF5c\\\\]{0,16}") {
        if let Ok(found) = readings(&path) {
            // One with a `%` may be the outcome of as many decodings as are followed.
            for reading in found.iter().filter(|reading| !reading.contains('%')) {
                for again in readings(reading).unwrap() {
                    prop_assert!(found.contains(&again), "{reading} reads as {again}");
                }
            }
        }
    }
}
