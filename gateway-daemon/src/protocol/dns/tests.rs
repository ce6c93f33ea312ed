use std::net::IpAddr;

use proptest::prelude::*;

use super::{
    Answer, Edns, ErrorInfo, Frames, Mismatch, Name, NameError, Query, Rcode, RecordKind, Unusable, frame,
    put_upstream, refuse, shorten, unusable_reply,
};

/// What `dig Api.GitHub.com` sends (dig 9.18), with its cookie.
const DIG: &[u8] =
    b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03Api\x06GitHub\x03com\x00\x00\x01\x00\x01\
    \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08\x01\x02\x03\x04\x05\x06\x07\x08";

fn query() -> Query {
    Query::read(DIG).unwrap()
}

/// A response to [`DIG`] under number 7: an alias and two addresses.
fn response() -> Vec<u8> {
    let mut message = b"\x00\x07\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00".to_vec();
    message.extend(b"\x03api\x06github\x03com\x00\x00\x01\x00\x01");
    message.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x07\x04edge\xc0\x10");
    let edge = b"\xc0\x2c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04";
    for last in [5, 6] {
        message.extend(edge);
        message.extend([192, 0, 2, last]);
    }
    message
}

#[test]
fn a_query_is_read_and_put_anew_without_what_the_client_added() {
    let query = query();
    assert_eq!((query.id, query.kind), (0x1234, RecordKind::A));
    assert_eq!(query.name.text().unwrap(), "api.github.com");
    assert_eq!(query.edns, Some(Edns { payload_bytes: 1232, dnssec_ok: false }));
    let put = put_upstream(&query, 7);
    assert_eq!(&put[..4], b"\x00\x07\x01\x20");
    assert_eq!(
        &put[12..],
        b"\x03api\x06github\x03com\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    );
    assert_eq!(Query::read(&put).unwrap().name, query.name);
}

#[test]
fn every_way_of_hiding_something_in_a_query_is_noticed() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = DIG.to_vec();
        change(&mut message);
        Query::read(&message).unwrap_err()
    };
    assert_eq!(with(&|message| message.push(0)), Unusable::Extra);
    assert_eq!(with(&|message| message.truncate(40)), Unusable::Truncated);
    assert_eq!(with(&|message| message[5] = 2), Unusable::Questions(2));
    assert_eq!(with(&|message| message[5] = 0), Unusable::Questions(0));
    assert_eq!(with(&|message| message[7] = 1), Unusable::Extra);
    assert_eq!(with(&|message| message[11] = 2), Unusable::Extra);
    assert_eq!(with(&|message| message[11] = 0), Unusable::Extra);
    assert_eq!(with(&|message| message[2] |= 0x80), Unusable::NoQuery);
    assert_eq!(with(&|message| message[2] |= 0x28), Unusable::Operation);
    assert_eq!(with(&|message| message[31] = 3), Unusable::Class(3));
    assert_eq!(with(&|message| message[38] = 1), Unusable::EdnsVersion(1));
    assert_eq!(with(&|message| message.truncate(11)), Unusable::NoQuery);
    let looped = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01";
    assert_eq!(Query::read(looped), Err(Unusable::Name(NameError::ForwardPointer)));
}

#[test]
fn an_answer_is_passed_on_as_it_came_under_the_clients_number_and_in_its_letters() {
    let query = query();
    let answer = Answer::read(response(), &query, 7).unwrap();
    let found: Vec<(IpAddr, u32)> = answer.addresses.iter().map(|found| (found.address, found.ttl)).collect();
    assert_eq!(found, [("192.0.2.5".parse().unwrap(), 60), ("192.0.2.6".parse().unwrap(), 60)]);
    let sent = answer.into_message(&query);
    assert_eq!(&sent[..2], b"\x12\x34");
    assert_eq!(&sent[12..32], b"\x03Api\x06GitHub\x03com\x00\x00\x01\x00\x01");
    assert_eq!(sent[32..], response()[32..]);
}

#[test]
fn an_answer_to_another_question_is_none() {
    let query = query();
    assert_eq!(Answer::read(response(), &query, 8), Err(Mismatch::Foreign));
    for at in [2, 14, 29, 31] {
        let mut other = response();
        other[at] ^= if at == 2 { 0x80 } else { 1 };
        assert_eq!(Answer::read(other, &query, 7), Err(Mismatch::Foreign), "byte {at}");
    }
}

#[test]
fn an_address_of_a_name_that_nobody_asked_for_counts_for_nothing() {
    // Owners point at the alias' own bytes: point them at `github.com` instead.
    let mut foreign = response();
    let owner = foreign.windows(2).rposition(|bytes| bytes == b"\xc0\x2c").unwrap();
    foreign[owner + 1] = 0x10;
    let answer = Answer::read(foreign, &query(), 7).unwrap();
    assert_eq!(answer.addresses.len(), 1, "{:?}", answer.addresses);
}

#[test]
fn pointers_must_lead_backwards() {
    let mut message = vec![0; 12];
    message.extend(b"\x01a\xc0\x0e\xc0\x10");
    assert_eq!(Name::read(&message, 12), Err(NameError::ForwardPointer));
    assert_eq!(Name::read(&message, 16), Err(NameError::ForwardPointer));
    let long: Vec<u8> = [[3, b'a', b'b', b'c']; 70].concat();
    assert_eq!(Name::read(&long, 0), Err(NameError::TooLong));
    assert_eq!(Name::read(b"\x80", 0), Err(NameError::UnknownLabel));
    assert_eq!(Name::read(b"\x05ab", 0), Err(NameError::Truncated));
}

#[test]
fn a_label_with_a_dot_or_a_blank_in_it_has_no_text_and_is_shown_escaped() {
    let (name, _) = Name::read(b"\x03a.b\x02c \x00", 0).unwrap();
    assert_eq!(name.text(), None);
    assert_eq!(name.to_string(), "a\\.b.c\\032");
    assert_eq!(Name::read(b"\x00", 0).unwrap().0.text().unwrap(), ".");
}

#[test]
fn a_refusal_names_its_reason_to_who_can_read_it() {
    let refusal = refuse(&query(), Rcode::Refused, ErrorInfo::Prohibited("no policy permits it"));
    assert_eq!(&refusal[..12], b"\x12\x34\x81\x85\x00\x01\x00\x00\x00\x00\x00\x01");
    assert!(refusal.ends_with(b"\x00\x0f\x00\x16\x00\x12no policy permits it"));
    let plain = Query { edns: None, ..query() };
    let refusal = refuse(&plain, Rcode::NxDomain, ErrorInfo::Blocked("never shown"));
    assert_eq!(refusal.len(), 32);
    assert_eq!(refusal[3] & 15, 3);
    let longest = "é".repeat(400);
    let refusal = refuse(&query(), Rcode::Refused, ErrorInfo::Blocked(&longest));
    assert!(refusal.len() < 320, "a reason is cut off between characters");
}

#[test]
fn what_is_no_query_gets_the_reply_that_fits_or_none() {
    let reply = |message: &[u8]| unusable_reply(message, Query::read(message).unwrap_err());
    let mut update = DIG.to_vec();
    update[2] |= 0x28;
    assert_eq!(reply(&update).unwrap()[3] & 15, 4);
    let mut two = DIG.to_vec();
    two[5] = 2;
    let formerr = reply(&two).unwrap();
    assert_eq!((formerr[3] & 15, formerr.len()), (1, 12));
    let mut version = DIG.to_vec();
    version[38] = 1;
    let badvers = reply(&version).unwrap();
    assert_eq!((badvers[3] & 15, badvers[32 + 5]), (0, 1));
    assert_eq!(reply(b"short"), None);
}

#[test]
fn a_long_answer_is_cut_down_to_a_sign_to_use_tcp() {
    let answer = Answer::read(response(), &query(), 7).unwrap();
    let short = shorten(&query(), &answer);
    assert_eq!(short[2] & 2, 2);
    assert_eq!(&short[6..8], b"\x00\x00");
}

#[test]
fn messages_come_whole_however_they_were_cut() {
    let sent: Vec<u8> = [frame(DIG).unwrap(), frame(b"").unwrap(), frame(&response()).unwrap()].concat();
    for size in 1..=sent.len() {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for part in sent.chunks(size) {
            frames.add(part);
            found.extend(std::iter::from_fn(|| frames.next_message()));
        }
        assert_eq!(found, [DIG.to_vec(), Vec::new(), response()], "in parts of {size}");
        assert!(frames.is_empty());
    }
    assert_eq!(frame(&vec![0; 65_536]), None);
}

#[test]
fn types_have_names_both_ways() {
    for kind in [RecordKind::A, RecordKind::AAAA, RecordKind::TXT, RecordKind(65), RecordKind(4711)] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("aaaa".parse(), Ok(RecordKind::AAAA));
    assert!("A A".parse::<RecordKind>().is_err() && "TYPE".parse::<RecordKind>().is_err());
    assert!(RecordKind(252).is_meta() && RecordKind(41).is_meta() && !RecordKind(255).is_meta());
}

proptest! {
    #[test]
    fn no_bytes_are_too_much_to_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        match Query::read(&bytes) {
            Ok(query) => {
                prop_assert!(Query::read(&put_upstream(&query, 1)).is_ok());
            }
            Err(why) => drop(unusable_reply(&bytes, why)),
        }
        let _ = Answer::read(bytes, &query(), 7);
    }

    #[test]
    fn no_change_of_an_answer_is_too_much_to_read(at in 0..80_usize, byte in any::<u8>(), cut in 0..90_usize) {
        let mut bytes = response();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        if let Ok(answer) = Answer::read(bytes.clone(), &query(), 7) {
            prop_assert_eq!(answer.into_message(&query()).len(), bytes.len());
        }
    }
}
