//! Any bytes as a query and as an answer to one: no panic, no circle, what is put upstream is a query again, and a
//! reader of other people's making (hickory) sees the same name and type in it.
#![no_main]

use gateway_daemon_fuzz::protocol::dns::{
    Answer, ErrorInfo, Frames, Query, Rcode, frame, put_upstream, refuse, unusable_reply,
};
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;

/// `A api.github.com` without EDNS.
const ASKED: &[u8] = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x06github\x03com\x00\x00\x01\x00\x01";

fuzz_target!(|bytes: &[u8]| {
    match Query::read(bytes) {
        Ok(query) => {
            let put = put_upstream(&query, 7);
            let again = Query::read(&put).expect("what is put is a query");
            assert_eq!((again.name.wire(), again.kind), (query.name.wire(), query.kind));
            let theirs = Message::from_vec(&put).expect("others read what is put");
            assert_eq!(theirs.queries.len(), 1);
            assert_eq!(u16::from(theirs.queries[0].query_type()), query.kind.0);
            let refusal = refuse(&query, Rcode::Refused, ErrorInfo::Blocked("no"));
            Message::from_vec(&refusal).expect("others read a refusal");
        }
        Err(why) => drop(unusable_reply(bytes, why)),
    }
    let asked = Query::read(ASKED).expect("a query");
    if let Ok(answer) = Answer::read(bytes.to_vec(), &asked, 7) {
        assert_eq!(answer.into_message(&asked).len(), bytes.len());
    }
    let mut frames = Frames::default();
    frames.add(bytes);
    let mut rest = bytes;
    while let Some(message) = frames.next_message() {
        let framed = frame(&message).expect("a short message");
        rest = rest.strip_prefix(&framed[..]).expect("what came");
    }
});
