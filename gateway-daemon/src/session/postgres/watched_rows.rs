//! Limits on rows in a session that is only followed: the server's command tags are held against the limits that
//! enforcing would have held them to. Nothing here makes anything wait; what cannot be matched is no longer counted.

use std::{collections::VecDeque, mem, sync::Arc};

use bytes::{Buf as _, BytesMut};

use super::row_limit::{Excess, excess};
use crate::{
    domain::decision::MaxRows,
    protocol::postgres::{HEADER_BYTES, peek_header},
    session::passing::Tapped,
};

/// So much of what the server has said waits for the client's side to be judged.
const WAITING_BYTES: usize = 1024 * 1024;
/// Longest message that is looked into. Command tags are shorter, and of errors their type is enough.
const TAG_BYTES: usize = 256;

/// For each statement of a message.
type Limits = Arc<[Option<MaxRows>]>;

/// What the server has said of a session, and what it still owes.
#[derive(Debug)]
pub(super) struct WatchedRows {
    /// `None` where nobody counts, or no more.
    replies: Option<Tapped>,
    input: BytesMut,
    /// Bytes still to come that tell nothing.
    passing: usize,
    owed: VecDeque<Owed>,
}

/// An answer that is owed; of the extended protocol only those that tell something.
#[derive(Debug)]
struct Owed {
    until: Until,
    limits: Option<Limits>,
    /// The request, as far as it may be kept.
    text: Arc<str>,
    /// How many of its statements have ended.
    ended: usize,
}

/// What ends an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// ReadyForQuery: a simple query, a function call, a Sync, or the login.
    Ready,
    /// CommandComplete or its kin.
    Complete,
}

/// A statement that enforcing would have undone.
#[derive(Debug)]
pub(super) struct Exceeded {
    /// The limit.
    pub(super) limit: MaxRows,
    /// How far it was exceeded.
    pub(super) excess: Excess,
    /// The request's text.
    pub(super) text: Arc<str>,
}

impl WatchedRows {
    /// Counts what comes by `replies`, from the very beginning of a connection.
    pub(super) fn new(replies: Option<Tapped>) -> Self {
        let mut rows = Self { replies, input: BytesMut::new(), passing: 0, owed: VecDeque::new() };
        rows.owe(Until::Ready, None, "");
        rows
    }

    /// The answer to SSLRequest or GSSENCRequest is a single byte.
    pub(super) fn owe_byte(&mut self) {
        self.passing += 1;
    }

    /// The client has sent a simple query or a function call, held to these limits.
    pub(super) fn owe_query(&mut self, limits: Option<&Limits>, text: &str) {
        self.owe(Until::Ready, limits, text);
    }

    /// It has sent an Execute.
    pub(super) fn owe_execute(&mut self, limits: Option<&Limits>, text: &str) {
        self.owe(Until::Complete, limits, text);
    }

    /// It has sent a Sync.
    pub(super) fn owe_sync(&mut self) {
        self.owe(Until::Ready, None, "");
    }

    fn owe(&mut self, until: Until, limits: Option<&Limits>, text: &str) {
        if self.replies.is_some() {
            let text = if limits.is_some() { text.into() } else { Arc::from("") };
            self.owed.push_back(Owed { until, limits: limits.cloned(), text, ended: 0 });
        }
    }

    /// Whether more of what the server says is wanted now.
    pub(super) fn listens(&self) -> bool {
        self.replies.is_some() && self.input.len() < WAITING_BYTES
    }

    /// Waits for more of what the server says; `false` at its end. Cancel-safe.
    pub(super) async fn hear(&mut self) -> bool {
        let Some(replies) = &mut self.replies else { return false };
        match replies.next().await {
            Some(piece) => {
                self.input.extend_from_slice(&piece);
                true
            }
            None => {
                if replies.is_behind() {
                    tracing::warn!("a session answers faster than its rows can be counted beside");
                }
                self.replies = None;
                false
            }
        }
    }

    /// The next statement that was too much, among what has been heard and is owed.
    pub(super) fn next_exceeded(&mut self) -> Option<Exceeded> {
        loop {
            let passing = self.passing.min(self.input.len());
            self.input.advance(passing);
            self.passing -= passing;
            if self.passing > 0 {
                return None;
            }
            let Ok(header) = peek_header(&self.input) else {
                self.give_up();
                return None;
            };
            let (tag, total) = header?;
            let tells = matches!(tag, b'C' | b's' | b'I' | b'E' | b'Z');
            if tells && self.owed.is_empty() {
                // The request that it answers has not been judged yet.
                return None;
            }
            if !tells || total > TAG_BYTES && tag != b'C' {
                if tag == b'E' {
                    self.failed();
                }
                self.passing = total;
                continue;
            }
            if self.input.len() < total {
                return None;
            }
            if tag == b'Z' && !self.owed.iter().any(|owed| owed.until == Until::Ready) {
                // Its Sync has not been judged yet.
                return None;
            }
            let message = self.input.split_to(total);
            let body = message.get(HEADER_BYTES..).unwrap_or_default();
            match tag {
                b'E' => self.failed(),
                b'Z' => while self.owed.pop_front().is_some_and(|owed| owed.until != Until::Ready) {},
                _ => {
                    if let Some(exceeded) = self.completed(tag, body) {
                        return Some(exceeded);
                    }
                }
            }
        }
    }

    /// A statement has ended.
    fn completed(&mut self, tag: u8, body: &[u8]) -> Option<Exceeded> {
        let owed = self.owed.front_mut()?;
        let limit = owed.limits.as_ref().and_then(|limits| limits.get(owed.ended)).cloned().flatten();
        let exceeded = limit.and_then(|limit| {
            let excess = excess(&limit, tag, body)?;
            Some(Exceeded { limit, excess, text: mem::take(&mut owed.text) })
        });
        owed.ended += 1;
        if exceeded.is_some() {
            // Enforcing would have run nothing of what comes behind it.
            owed.limits = None;
        }
        if owed.until == Until::Complete {
            self.owed.pop_front();
        }
        exceeded
    }

    /// After an error the server skips everything up to the next Sync.
    fn failed(&mut self) {
        while self.owed.pop_front_if(|owed| owed.until == Until::Complete).is_some() {}
    }

    fn give_up(&mut self) {
        tracing::debug!("the server's side of a session cannot be read: its rows are not counted");
        self.replies = None;
        self.input.clear();
        self.owed.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::{domain::ids::PolicyId, session::passing::Tap};

    fn rows() -> WatchedRows {
        let (_, replies) = Tap::new();
        WatchedRows::new(Some(replies))
    }

    fn limits() -> Limits {
        Arc::from([Some(MaxRows { rows: 10, policy: PolicyId::from("few"), message: None })])
    }

    /// Has the server say so many messages, all of them split at every byte, and returns what was too much.
    fn hear(rows: &mut WatchedRows, messages: &[(u8, &str)]) -> Vec<String> {
        let mut found = Vec::new();
        for (tag, body) in messages {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            for byte in [&[*tag], length.as_slice(), body.as_bytes()].concat() {
                rows.input.extend_from_slice(&[byte]);
                while let Some(exceeded) = rows.next_exceeded() {
                    found.push(exceeded.text.to_string());
                }
            }
        }
        found
    }

    #[test]
    fn each_answer_is_held_against_its_own_request() {
        let mut rows = rows();
        rows.owe_byte();
        rows.input.extend_from_slice(b"N");
        assert!(hear(&mut rows, &[(b'R', "\0\0\0\0"), (b'S', "a\0b\0"), (b'Z', "I")]).is_empty());
        rows.owe_query(Some(&limits()), "first");
        rows.owe_query(None, "second");
        rows.owe_query(Some(&limits()), "third");
        let long = "x".repeat(1_000);
        let said = [
            (b'C', "UPDATE 10\0"),
            (b'Z', "I"),
            (b'D', long.as_str()),
            (b'C', "UPDATE 11\0"),
            (b'Z', "I"),
            (b'C', "DELETE 11\0"),
            (b'Z', "I"),
        ];
        assert_eq!(hear(&mut rows, &said), ["third"]);
        assert!(rows.owed.is_empty());
    }

    #[test]
    fn what_is_skipped_after_an_error_is_owed_no_more() {
        let mut rows = rows();
        hear(&mut rows, &[(b'Z', "I")]);
        let long = format!("SERROR\0M{}\0\0", "x".repeat(1_000));
        for error in ["SERROR\0\0", long.as_str()] {
            rows.owe_execute(Some(&limits()), "failed");
            rows.owe_execute(Some(&limits()), "skipped");
            rows.owe_sync();
            rows.owe_execute(Some(&limits()), "after");
            rows.owe_sync();
            let said = [(b'E', error), (b'Z', "I"), (b'C', "DELETE 11\0"), (b'Z', "I")];
            assert_eq!(hear(&mut rows, &said), ["after"]);
            assert!(rows.owed.is_empty());
        }
        // The answer comes before the rest of the pipeline has been judged.
        rows.owe_execute(Some(&limits()), "failed");
        assert!(hear(&mut rows, &[(b'E', "SERROR\0\0"), (b'Z', "I"), (b's', "")]).is_empty());
        rows.owe_execute(Some(&limits()), "skipped");
        assert!(rows.next_exceeded().is_none());
        rows.owe_sync();
        assert!(rows.next_exceeded().is_none());
        rows.owe_execute(Some(&limits()), "suspended");
        assert_eq!(&*rows.next_exceeded().unwrap().text, "suspended");
    }

    #[test]
    fn what_is_no_protocol_ends_the_count_and_nothing_else() {
        let mut rows = rows();
        assert!(hear(&mut rows, &[(b'Z', "I")]).is_empty());
        rows.input.extend_from_slice(b"C\0\0\0\x01");
        assert!(rows.next_exceeded().is_none());
        assert!(!rows.listens());
        rows.owe_query(Some(&limits()), "unseen");
        assert!(rows.owed.is_empty());
    }
}
