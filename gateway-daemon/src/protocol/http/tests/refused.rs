use bytes::Bytes;

use super::{
    super::{HeadEnd, Limits, Malformed, Request},
    request, response,
};

fn post(fields: &str) -> Result<Request, Malformed> {
    request(format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
}

#[test]
fn a_length_that_two_readers_could_read_differently_is_refused() {
    for fields in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 03\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 \x0b\r\n",
        "Content-Length:\r\n",
        "Content-Length: 3 4\r\n",
        "Content-Length: 18446744073709551619\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: 3\r\n",
        "Connection: Content-Length\r\nContent-Length: 3\r\n",
        "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert!(post(fields).is_err(), "{fields:?}");
    }
    let old = request(b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old, Err(Malformed::TransferEncoding("is not known to HTTP/1.0")));
}

#[test]
fn a_field_that_is_none_for_somebody_is_refused() {
    for fields in [
        "A : 1\r\n",
        " A: 1\r\n",
        "\tA: 1\r\n",
        "A: 1\r\n 2\r\n",
        "A: 1\r\n\t2\r\n",
        "A\r\n",
        ": 1\r\n",
        "A\x00: 1\r\n",
        "A: 1\x002\r\n",
        "A: 1\x7f\r\n",
        "A: 1\nB: 2\r\n",
        "A: 1\rB: 2\r\n",
        "A: 1\r\r\n",
        "(A): 1\r\n",
        "A\u{e9}: 1\r\n",
        "Host: a\r\n",
        "host : b\r\n",
    ] {
        assert!(post(fields).is_err(), "{fields:?}");
    }
    assert!(post("A: \u{e9}\r\nB:\r\nC: \t x \t\r\n").is_ok());
}

#[test]
fn a_request_line_with_two_readings_is_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET /",
        "GET",
        "GET / a HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a:443 HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http://b/ HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http://a:81/ HTTP/1.1",
        "GET https://a:80/ HTTP/1.1",
        "GET http:/// HTTP/1.1",
        "CONNECT b:443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
    ] {
        assert!(request(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).is_err(), "{line:?}");
    }
    assert!(request(b"GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(request(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
    assert!(request(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
}

#[test]
fn a_response_with_two_readings_is_refused() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 20x OK\r\n",
        "HTTP/2 200 OK\r\n",
        "ICY 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n",
        "HTTP/1.1 200 OK\r\nA : 1\r\n",
        "HTTP/1.1 200 OK\nA: 1\r\n",
    ] {
        assert!(response(format!("{head}\r\n").as_bytes()).is_err(), "{head:?}");
    }
}

#[test]
fn too_much_is_refused_before_it_has_all_come() {
    let limits = Limits { head_bytes: 100, fields: 3, target_bytes: 20 };
    let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 100]].concat();
    let told = HeadEnd::default().find(&long, "the head", limits.head_bytes);
    assert_eq!(told, Err(Malformed::TooLong { what: "the head", limit: 100 }));
    let read = |head: &str| Request::read(Bytes::copy_from_slice(head.as_bytes()), &limits);
    let many = read("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nA: 1\r\nA: 1\r\n\r\n");
    assert_eq!(many, Err(Malformed::TooManyFields(3)));
    let deep = read("GET /aaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(deep, Err(Malformed::TooLong { what: "the request's target", limit: 20 }));
}

#[test]
fn a_client_that_ends_lines_with_lf_alone_is_not_waited_for() {
    let told = HeadEnd::default().find(b"GET / HTTP/1.1\n", "the head", 1000);
    assert_eq!(told, Err(Malformed::BareLineFeed));
}
