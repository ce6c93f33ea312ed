//! One request sent on, and its answer brought back, both at once.

use std::time::Duration;

use bytes::BytesMut;
use tokio::{io::WriteHalf, time::timeout};

use super::{
    ends::{End, NoHead, Reader},
    passage::{Interrupted, Onward, finish, pass},
};
use crate::{
    audit::{AuditError, Receipt},
    protocol::http::{Field, Framing, Limits, Malformed, Request, Response, Version},
    session::transport::Transport,
};

/// Fields of a response that would lead the client around the daemon.
const LEADS_AWAY: &[&str] = &["alt-svc"];

/// How an exchange went.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// The status of the final answer.
    pub(super) status: u16,
    /// Whether the client's connection can take another request.
    pub(super) client_stays: bool,
    /// Whether the server's can.
    pub(super) upstream_stays: bool,
}

/// Why there was no whole answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The client broke off, or broke the protocol.
    #[error("client: {0}")]
    Client(Interrupted),
    /// The client does not take the answer.
    #[error("client: {0}")]
    Answering(Interrupted),
    /// The server closed before the first byte of an answer.
    #[error("the server closed the connection without an answer")]
    NoAnswer,
    /// The server broke off, or sent what two readers could read differently.
    #[error("server: {0}")]
    Server(Interrupted),
    /// The record of the request did not come to the disk.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// Content that moved, in both directions, and whether the client has got anything of the answer.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) begun: bool,
}

/// A request that is to be sent on.
pub(super) struct Order<'a> {
    /// As it came.
    pub(super) request: &'a Request,
    /// Its head as it goes on.
    pub(super) head: BytesMut,
    /// Its record, where that is not on disk yet.
    pub(super) unwritten: Option<Receipt>,
    /// What is taken of either side.
    pub(super) limits: Limits,
    /// How long the rest of it is sent once it has been answered.
    pub(super) patience: Duration,
}

/// Sends a request, and brings its answer back; nothing of that is shown before its record is on disk. A server that
/// answers early is listened to while the rest is sent.
pub(super) async fn exchange(
    client: &mut End,
    upstream: &mut End,
    order: Order<'_>,
    moved: &mut Moved,
) -> Result<Exchanged, Failed> {
    let Order { request, head, unwritten, limits, patience } = order;
    let Moved { sent, received, begun } = moved;
    let up =
        pass(&mut client.reader, &mut upstream.writer, head, request.framing, Onward::AsItCame, limits, sent);
    let mut answer =
        Answer { from: &mut upstream.reader, to: &mut client.writer, request, limits, received, begun };
    let down = answer.bring(unwritten);
    tokio::pin!(up, down);
    let mut uploaded = None;
    let answered = loop {
        tokio::select! {
            result = &mut up, if uploaded.is_none() => {
                if let Err(why @ (Interrupted::Malformed(_) | Interrupted::Reading(_))) = result {
                    return Err(Failed::Client(why));
                }
                // A server that takes no more may still have an answer.
                uploaded = Some(result);
            }
            result = &mut down => break result,
        }
    };
    let mut exchanged = answered?;
    if uploaded.is_none() {
        uploaded = timeout(patience, &mut up).await.ok();
    }
    if !matches!(uploaded, Some(Ok(()))) {
        exchanged.client_stays = false;
        exchanged.upstream_stays = false;
    }
    Ok(exchanged)
}

/// The way back.
struct Answer<'a> {
    from: &'a mut Reader,
    to: &'a mut WriteHalf<Transport>,
    request: &'a Request,
    limits: Limits,
    received: &'a mut u64,
    begun: &'a mut bool,
}

impl Answer<'_> {
    async fn bring(&mut self, mut unwritten: Option<Receipt>) -> Result<Exchanged, Failed> {
        let to_head = self.request.method() == "HEAD";
        loop {
            let head = self.from.head("the response's head", &self.limits).await.map_err(no_answer)?;
            let response = Response::read(head, to_head, &self.limits).map_err(malformed)?;
            if response.status == 101 {
                return Err(malformed(Malformed::Unasked(101)));
            }
            if let Some(receipt) = unwritten.take() {
                receipt.press();
                receipt.wait().await?;
            }
            let mut out = BytesMut::new();
            if response.is_interim() {
                // A client of HTTP/1.0 knows no interim answers.
                if self.request.version == Version::Http11 {
                    response.put(&mut out, stays, &[]);
                    *self.begun = true;
                    finish(self.to, &mut out).await.map_err(Failed::Answering)?;
                }
                continue;
            }
            let onward = match (self.request.version, response.framing) {
                (Version::Http10, Framing::Chunked) => Onward::Bare,
                _ => Onward::AsItCame,
            };
            let ends_with_close = response.framing == Framing::UntilClose || onward == Onward::Bare;
            let client_stays = self.request.keeps_alive() && !ends_with_close;
            let close: &[(&str, &[u8])] = if client_stays { &[] } else { &[("Connection", b"close")] };
            let keep = |field: &Field<'_>| {
                stays(field) && !(onward == Onward::Bare && field.is("transfer-encoding"))
            };
            response.put(&mut out, keep, close);
            *self.begun = true;
            let passed =
                pass(self.from, self.to, out, response.framing, onward, self.limits, self.received).await;
            return match passed {
                Ok(()) => Ok(Exchanged {
                    status: response.status,
                    client_stays,
                    // What comes behind an answer belongs to none.
                    upstream_stays: response.keeps_alive() && self.from.buffer.is_empty(),
                }),
                Err(why @ Interrupted::Writing(_)) => Err(Failed::Answering(why)),
                Err(why) => Err(Failed::Server(why)),
            };
        }
    }
}

fn stays(field: &Field<'_>) -> bool {
    !LEADS_AWAY.iter().any(|name| field.is(name))
}

fn malformed(why: Malformed) -> Failed {
    Failed::Server(Interrupted::Malformed(why))
}

fn no_answer(why: NoHead) -> Failed {
    match why {
        NoHead::Closed => Failed::NoAnswer,
        NoHead::Malformed(why) => malformed(why),
        NoHead::Io(error) => Failed::Server(Interrupted::Reading(error)),
    }
}
