//! What is read, what is refused, and that neither depends on how the bytes arrive.

mod bodies;
mod paths;
mod refused;
mod roundtrip;

use bytes::{Bytes, BytesMut};

use super::{Form, Framing, HeadEnd, Limits, Malformed, Request, Response, Version};

/// What `curl --http1.1 -d a=1 'https://api.internal/v1/items?page=2'` sends (curl 7.88).
pub(super) const CURL: &[u8] =
    b"POST /v1/items?page=2 HTTP/1.1\r\nHost: api.internal\r\nUser-Agent: curl/7.88.1\r\n\
    Accept: */*\r\nContent-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n";

/// What Python's requests sends (2.34).
pub(super) const REQUESTS: &[u8] =
    b"GET /repos HTTP/1.1\r\nHost: api.internal:8443\r\nUser-Agent: python-requests/2.34.2\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";

/// What nginx answers (1.22), with a phrase of its own.
pub(super) const NGINX: &[u8] = b"HTTP/1.1 200 Quite OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 30 Nov 2026 20:00:00 GMT\r\n\
    Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\n\r\n";

pub(super) fn request(bytes: &[u8]) -> Result<Request, Malformed> {
    let limits = Limits::default();
    let end = HeadEnd::default().find(bytes, "the head", limits.head_bytes)?.expect("a whole head");
    Request::read(Bytes::copy_from_slice(&bytes[..end]), &limits)
}

pub(super) fn response(bytes: &[u8]) -> Result<Response, Malformed> {
    let limits = Limits::default();
    let end = HeadEnd::default().find(bytes, "the head", limits.head_bytes)?.expect("a whole head");
    Response::read(Bytes::copy_from_slice(&bytes[..end]), false, &limits)
}

#[test]
fn a_request_is_read_as_it_was_meant() {
    let read = request(CURL).unwrap();
    assert_eq!((read.method(), read.path(), read.query()), ("POST", "/v1/items", Some("page=2")));
    assert_eq!((read.form, read.version, read.framing), (Form::Origin, Version::Http11, Framing::Length(3)));
    assert_eq!(read.authority.host.to_string(), "api.internal");
    assert_eq!(read.authority.port, None);
    assert_eq!(read.fields.first("accept"), Some(&b"*/*"[..]));
    assert!(read.keeps_alive());
    let read = request(REQUESTS).unwrap();
    assert_eq!((read.authority.port, read.framing, read.query()), (Some(8443), Framing::None, None));
}

#[test]
fn what_goes_on_is_what_came_without_what_the_connection_alone_is_about() {
    let mut out = BytesMut::new();
    request(REQUESTS).unwrap().put(
        &mut out,
        None,
        |field| !field.is("accept"),
        &[("Authorization", b"Bearer t")],
    );
    assert_eq!(
        &out[..],
        b"GET /repos HTTP/1.1\r\nHost: api.internal:8443\r\nUser-Agent: python-requests/2.34.2\r\n\
        Accept-Encoding: gzip, deflate\r\nAuthorization: Bearer t\r\n\r\n"
    );
    let mut out = BytesMut::new();
    response(NGINX).unwrap().put(&mut out, |_| true, &[]);
    assert_eq!(
        &out[..],
        b"HTTP/1.1 200 Quite OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 30 Nov 2026 20:00:00 GMT\r\n\
        Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\n\r\n"
    );
}

#[test]
fn what_connection_names_stays_behind() {
    let read =
        request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n")
            .unwrap();
    assert!(!read.keeps_alive());
    let mut out = BytesMut::new();
    read.put(&mut out, None, |_| true, &[]);
    assert_eq!(&out[..], b"GET / HTTP/1.1\r\nHost: a\r\nX-End: 2\r\n\r\n");
}

#[test]
fn an_absolute_target_that_agrees_with_host_becomes_a_path() {
    let read = request(b"GET http://A.internal?x HTTP/1.1\r\nHost: a.internal:80\r\n\r\n").unwrap();
    assert_eq!(
        (read.form, read.secure, read.path(), read.query()),
        (Form::Absolute, Some(false), "/", Some("x"))
    );
    let mut out = BytesMut::new();
    read.put(&mut out, read.query(), |_| true, &[]);
    assert_eq!(&out[..], b"GET /?x HTTP/1.1\r\nHost: a.internal:80\r\n\r\n");
}

#[test]
fn hosts_are_compared_by_what_they_mean() {
    let host = |text: &str| {
        request(format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n").as_bytes()).map(|read| read.authority.host)
    };
    assert_eq!(host("API.internal.").unwrap(), host("api.internal").unwrap());
    assert_eq!(host("[::1]:80").unwrap(), host("[0:0::1]").unwrap());
    assert_eq!(host("10.0.0.1").unwrap().to_string(), "10.0.0.1");
    for text in [
        "a b",
        "a@b",
        "a/b",
        "a:",
        "a:0",
        "a:65536",
        "a:+1",
        "127.1",
        "0x7f000001",
        "010.0.0.1",
        "a..b",
        "",
        ".",
        "a%2eb",
        "[::1",
        "[::1%25lo]",
    ] {
        assert!(matches!(host(text), Err(Malformed::Host(_))), "{text}");
    }
}

#[test]
fn a_response_ends_where_every_reader_ends_it() {
    let framing = |head: &str, to_head: bool| {
        Response::read(Bytes::copy_from_slice(head.as_bytes()), to_head, &Limits::default())
            .map(|read| read.framing)
    };
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), Ok(Framing::Length(5)));
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), Ok(Framing::None));
    assert_eq!(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false), Ok(Framing::None));
    assert_eq!(framing("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false), Ok(Framing::None));
    assert_eq!(framing("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", false), Ok(Framing::None));
    assert_eq!(framing("HTTP/1.0 200 OK\r\n\r\n", false), Ok(Framing::UntilClose));
    assert_eq!(framing("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", false), Ok(Framing::Chunked));
    let read = response(b"HTTP/1.1 200\r\n\r\n").unwrap();
    let mut out = BytesMut::new();
    read.put(&mut out, |_| true, &[]);
    assert_eq!(&out[..], b"HTTP/1.1 200\r\n\r\n");
    assert!(!read.keeps_alive());
}
