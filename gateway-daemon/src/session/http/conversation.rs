//! The requests of one connection, one after another.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use tokio::time::timeout;

use super::{
    Http, HttpTarget,
    credential::{Injected, NoCredential},
    ends::{End, NoHead},
    exchange::{Exchanged, Failed, Moved, Order, exchange},
    judge::{Connection, Judged, Rest, without_parameter},
    passage::{Interrupted, discard, finish},
    refusal::{After, Refusal},
    shown,
    target::Unreachable,
};
use crate::{
    audit::{AuditError, Receipt},
    domain::{
        action::Action,
        decision::{Decision, Denial},
        event::{AuditEvent, EventKind, Outcome},
        flow::Workload,
        ids::PolicyId,
        principal::Principal,
    },
    protocol::http::{Host, Limits, Request, Version},
    session::{
        about::About,
        caller::renewed,
        dial::{DialError, in_doubt},
        driver::Shared,
        route::Route,
        stop::{Reason, Stop},
    },
};

/// How long the content of a refused request is read and thrown away, so that its client reads the refusal.
const DISCARDING: Duration = Duration::from_mins(1);

/// Who talks, and to what.
pub(super) enum Admission {
    /// To this target, if its requests are permitted.
    Admitted(Arc<HttpTarget>, Arc<Principal>),
    /// To nobody: every request is refused for this reason.
    Refused(Denial),
}

/// See the module's description.
pub(super) struct Conversation<'a> {
    pub(super) room: &'a Http,
    pub(super) about: &'a About,
    pub(super) workload: &'a Workload,
    pub(super) admission: Admission,
    pub(super) connection: Connection<'a>,
    pub(super) route: Route,
    pub(super) client: End,
    pub(super) upstream: Option<Upstream>,
    pub(super) limits: Limits,
    /// Says when it must end. Between requests it ends as an idle connection does, and the next one is told why.
    pub(super) stop: &'a Stop,
}

/// A connection to the target, for one of its hosts.
pub(super) struct Upstream {
    end: End,
    host: Host,
    /// Whether a request has been answered on it.
    used: bool,
}

/// Why a conversation ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the client closed the connection")]
    ClientClosed,
    #[error("the server closed the connection")]
    UpstreamClosed,
    #[error("the last answer said so")]
    Said,
    #[error("{0}")]
    Told(Reason),
    #[error("the session was idle for longer than limits.idle_timeout")]
    Idle,
    #[error("{0}")]
    Broken(String),
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

impl Ending {
    /// Why it had to end, where somebody said so.
    pub(super) const fn told(&self) -> Option<&Reason> {
        match self {
            Self::Told(reason) => Some(reason),
            _ => None,
        }
    }
}

/// How the client's connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// So that it reads what was sent to it.
    Gently,
    /// So that it takes nothing for whole.
    Broken,
}

impl Conversation<'_> {
    /// To the end of the connection, which is closed then.
    pub(super) async fn hold(mut self) -> Ending {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err((ending, close)) => {
                    match close {
                        Close::Gently => self.client.part().await,
                        Close::Broken => self.client.break_off(),
                    }
                    return ending;
                }
            }
        }
    }

    /// One request.
    async fn turn(&mut self) -> Result<(), (Ending, Close)> {
        self.wait().await.map_err(|ending| (ending, Close::Gently))?;
        let reading = self.client.reader.head("the head", &self.limits);
        let head = match timeout(self.room.shared.limits.startup, reading).await {
            Err(_) => return self.refuse(None, Refusal::slow()).await,
            Ok(Err(NoHead::Closed)) => return Err((Ending::ClientClosed, Close::Gently)),
            Ok(Err(NoHead::Io(error))) => {
                return Err((Ending::Broken(format!("client: {error}")), Close::Broken));
            }
            Ok(Err(NoHead::Malformed(why))) => return self.refuse(None, Refusal::malformed(&why)).await,
            Ok(Ok(head)) => head,
        };
        let request = match Request::read(head, &self.limits) {
            Ok(request) => request,
            Err(why) => return self.refuse(None, Refusal::malformed(&why)).await,
        };
        let (target, judged, policies) = match self.judge(&request).await {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(Some(&request), refusal).await,
        };
        self.forward(&request, &target, &judged, policies).await
    }

    /// Waits for the first byte of a request. A server that closes meanwhile closes the client's connection as well: it
    /// will know what to do, as it would without nodegate.
    async fn wait(&mut self) -> Result<(), Ending> {
        let reader = &mut self.client.reader;
        let upstream = self.upstream.as_mut();
        let server = async move {
            match upstream {
                Some(upstream) => drop(upstream.end.reader.something().await),
                None => std::future::pending().await,
            }
        };
        let idle = async {
            match self.room.shared.limits.idle {
                Some(idle) => tokio::time::sleep(idle).await,
                None => std::future::pending().await,
            }
        };
        let stop = self.stop;
        let told = poll_fn(|_| match stop.told() {
            Some(reason) => Poll::Ready(reason.clone()),
            None => Poll::Pending,
        });
        tokio::select! {
            reason = told => return Err(Ending::Told(reason)),
            something = reader.something() => {
                something.map_err(|error| Ending::Broken(format!("client: {error}")))?;
            }
            () = server => return Err(Ending::UpstreamClosed),
            () = idle => return Err(Ending::Idle),
        }
        // One empty line before a request is nobody's (RFC 9112 §2.2).
        if reader.buffer.starts_with(b"\r") {
            while reader.buffer.len() < 2 && reader.fill().await.is_ok_and(|count| count > 0) {}
            if reader.buffer.starts_with(b"\r\n") {
                reader.buffer.advance(2);
            }
        }
        Ok(())
    }

    /// Who asks, for what, and may he?
    async fn judge(
        &mut self,
        request: &Request,
    ) -> Result<(Arc<HttpTarget>, Judged, Vec<PolicyId>), Refusal> {
        let Shared { identity, .. } = &self.room.shared;
        let (target, principal) = match &mut self.admission {
            Admission::Refused(denial) => return Err(Refusal::forbidden(denial.clone())),
            Admission::Admitted(target, principal) => {
                match renewed(identity, &self.about.flow, principal).await {
                    Ok(None) => {}
                    Ok(Some(fresher)) => *principal = fresher,
                    Err(denial) => return Err(Refusal::forbidden(denial)),
                }
                (Arc::clone(target), Arc::clone(principal))
            }
        };
        let judged = Judged::read(request, &target, &self.connection)?;
        let policies = &self.room.policies;
        // Policies may have changed since the connection was opened.
        if let Decision::Deny(denial) =
            policies.decide(&principal, self.workload, &target.facts, Action::Connect)
        {
            return Err(Refusal::forbidden(denial));
        }
        let rest = Rest { request, credential: target.credential.as_ref() };
        let asked = judged.asked(self.connection.secure, &rest);
        match policies.decide_request(&principal, self.workload, &target.facts, &asked) {
            Decision::Allow { policies, .. } => Ok((target, judged, policies)),
            Decision::Deny(denial) => Err(Refusal::forbidden(denial)),
        }
    }

    /// Records a refusal, and answers with it.
    async fn refuse(&mut self, request: Option<&Request>, refusal: Refusal) -> Result<(), (Ending, Close)> {
        let mut event = self.about.request(Outcome::Denied, &self.text(request));
        event.policies.clone_from(&refusal.denial.policies);
        event.reason = hidden(&refusal.denial.reason, request);
        if let Err(error) = self.room.shared.ledger.write(event).await {
            // It stays refused, but the rule must not be told.
            return self.answer(request, &Refusal::unrecorded(), Some(error.into())).await;
        }
        self.answer(request, &refusal, None).await
    }

    /// Answers in the server's place. The connection goes on where the next request can be found.
    async fn answer(
        &mut self,
        request: Option<&Request>,
        refusal: &Refusal,
        ending: Option<Ending>,
    ) -> Result<(), (Ending, Close)> {
        let goes_on = request.is_some_and(|request| request.keeps_alive() && !request.expects_continue());
        let after = if goes_on && ending.is_none() { refusal.status.after() } else { After::Close };
        let mut out = BytesMut::new();
        refusal.put(&mut out, request, &self.about.session, after);
        finish(&mut self.client.writer, &mut out).await.map_err(|why| client_broke(&why))?;
        match (after, request) {
            (After::GoOn, Some(request)) => {
                let rest = discard(&mut self.client.reader, request.framing, self.limits);
                match timeout(DISCARDING, rest).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(why)) => Err(client_broke(&why)),
                    Err(_) => Err((Ending::Broken("client: it stopped sending".to_owned()), Close::Gently)),
                }
            }
            _ => Err((ending.unwrap_or(Ending::Said), Close::Gently)),
        }
    }

    /// Records a permitted request, sends it on, and brings the answer back.
    async fn forward(
        &mut self,
        request: &Request,
        target: &Arc<HttpTarget>,
        judged: &Judged,
        policies: Vec<PolicyId>,
    ) -> Result<(), (Ending, Close)> {
        let mut event = self.about.request(Outcome::Allowed, &self.text(Some(request)));
        event.policies = policies;
        // What only reads a host that the operator named changes nothing that outlives its reply.
        let at_once = judged.method.only_reads() && target.hosts.names(&request.authority.host);
        let unwritten = match self.record(event, at_once).await {
            Ok(unwritten) => unwritten,
            Err(error) => {
                return self.answer(Some(request), &Refusal::unrecorded(), Some(error.into())).await;
            }
        };
        let began = Instant::now();
        let head = match self.head(request, target).await {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(target = %target.facts.name, %error, "no credential for a request");
                let reason = "nodegate has no usable credential for this target".to_owned();
                return self.give_up(request, began, Refusal::gateway(reason), unwritten).await;
            }
        };
        let mut upstream = match self.upstream(target, &request.authority.host).await {
            Ok(upstream) => upstream,
            Err(refusal) => return self.give_up(request, began, refusal, unwritten).await,
        };
        let mut moved = Moved::default();
        let patience = self.room.shared.limits.startup;
        let order = Order { request, head, unwritten, limits: self.limits, patience };
        let exchanged = exchange(&mut self.client, &mut upstream.end, order, &mut moved).await;
        self.completed(began, &exchanged, &moved);
        match exchanged {
            Ok(Exchanged { client_stays, upstream_stays, .. }) => {
                if upstream_stays {
                    self.upstream = Some(Upstream { used: true, ..upstream });
                }
                if client_stays { Ok(()) } else { Err((Ending::Said, Close::Gently)) }
            }
            Err(Failed::Audit(error)) => {
                self.answer(Some(request), &Refusal::unrecorded(), Some(error.into())).await
            }
            // The server may have closed before the request came: the client knows whether to repeat it.
            Err(Failed::NoAnswer) if upstream.used => Err((Ending::UpstreamClosed, Close::Gently)),
            Err(why @ (Failed::NoAnswer | Failed::Server(_))) if !moved.begun => {
                let reason = format!("{}: {}", request.authority.host, upstream_words(&why));
                let ending = Ending::Broken(why.to_string());
                self.answer(Some(request), &Refusal::gateway(reason), Some(ending)).await
            }
            Err(Failed::Client(Interrupted::Malformed(why))) if !moved.begun => {
                let ending = Ending::Broken(format!("client: {why}"));
                self.answer(Some(request), &Refusal::malformed(&why), Some(ending)).await
            }
            Err(why) => Err((Ending::Broken(why.to_string()), Close::Broken)),
        }
    }

    /// Sees to it that a request is on disk before it has an effect that lasts: before it is sent, or, where it has none,
    /// before its reply is seen.
    async fn record(&self, event: AuditEvent, at_once: bool) -> Result<Option<Receipt>, AuditError> {
        let ledger = &self.room.shared.ledger;
        if at_once {
            return ledger.log().submitter().submit(&[event]).await.map(Some);
        }
        ledger.write(event).await.map(|()| None)
    }

    /// The head as it goes on: without what belongs to the client's connection, with the target's credential in the place
    /// of the agent's.
    async fn head(&self, request: &Request, target: &HttpTarget) -> Result<BytesMut, NoCredential> {
        let mut out = BytesMut::new();
        let mut query = request.query().map(ToOwned::to_owned);
        let mut extra: Vec<(&str, &[u8])> = Vec::new();
        let injected = match &target.credential {
            None => None,
            Some(credential) => Some(credential.now(&self.room.credentials).await?),
        };
        if let (Some(name), Some(given)) =
            (target.credential.as_ref().and_then(|credential| credential.parameter()), &query)
        {
            query = Some(without_parameter(given, name)).filter(|left| !left.is_empty());
        }
        match &injected {
            None => {}
            Some(Injected::Header(name, value)) => extra.push((name, value.expose().as_bytes())),
            Some(Injected::Query(name, value)) => {
                let pair = format!("{name}={}", value.expose());
                query = Some(query.map_or(pair.clone(), |query| format!("{query}&{pair}")));
            }
        }
        if !request.keeps_alive() {
            extra.push(("Connection", b"close"));
        }
        let keep = |field: &crate::protocol::http::Field<'_>| {
            let displaced = target.credential.as_ref().is_some_and(|credential| credential.displaces(field));
            // A server would wait with it for a client that waits for nothing.
            let unasked = request.version == Version::Http10 && field.is("expect");
            !displaced && !unasked
        };
        request.put(&mut out, query.as_deref(), keep, &extra);
        Ok(out)
    }

    /// The connection that was used last, if it is for that host, or a new one.
    async fn upstream(&mut self, target: &Arc<HttpTarget>, host: &Host) -> Result<Upstream, Refusal> {
        if let Some(upstream) = self.upstream.take().filter(|upstream| upstream.host == *host) {
            return Ok(upstream);
        }
        match target.connect(&self.room.shared, self.route, host).await {
            Ok(transport) => Ok(Upstream { end: End::new(transport), host: host.clone(), used: false }),
            Err(Unreachable::Dial(DialError::Doubtful { doubt, .. })) => {
                Err(Refusal::forbidden(in_doubt(&target.facts.name, doubt)))
            }
            Err(error) => {
                tracing::warn!(target = %target.facts.name, %host, %error, "a target cannot be reached");
                Err(Refusal::gateway(format!("{host}: {}", error.words())))
            }
        }
    }

    /// Nothing was sent: says why, once the request is on disk.
    async fn give_up(
        &mut self,
        request: &Request,
        began: Instant,
        refusal: Refusal,
        unwritten: Option<Receipt>,
    ) -> Result<(), (Ending, Close)> {
        if let Some(receipt) = unwritten {
            receipt.press();
            if let Err(error) = receipt.wait().await {
                return self.answer(Some(request), &Refusal::unrecorded(), Some(error.into())).await;
            }
        }
        let mut event = self.completion(began);
        event.reason = format!("answered {} by nodegate: {}", refusal.status.code(), refusal.denial.reason);
        self.room.shared.ledger.note(event);
        self.answer(Some(request), &refusal, None).await
    }

    fn completed(&self, began: Instant, exchanged: &Result<Exchanged, Failed>, moved: &Moved) {
        let mut event = self.completion(began);
        let Moved { sent, received, .. } = moved;
        event.reason = match exchanged {
            Ok(exchanged) => format!("status {}; {sent} bytes sent, {received} received", exchanged.status),
            Err(why) => format!("{why}; {sent} bytes sent, {received} received"),
        };
        self.room.shared.ledger.note(event);
    }

    fn completion(&self, began: Instant) -> AuditEvent {
        let mut event = self.about.event(EventKind::Completion, Outcome::Noted);
        event.duration_us = Some(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        event
    }

    /// The request as records show it.
    fn text(&self, request: Option<&Request>) -> String {
        let Some(request) = request else { return String::new() };
        let scheme = if self.connection.secure { "https" } else { "http" };
        let host = match request.authority.port {
            Some(port) => format!("{}:{port}", request.authority.host),
            None => request.authority.host.to_string(),
        };
        shown::text(request.method(), scheme, &host, request.path(), request.query())
    }
}

/// A reason as records show it: the path in it may hold what they must not.
fn hidden(reason: &str, request: Option<&Request>) -> String {
    let Some(request) = request else { return reason.to_owned() };
    let shown = shown::path(request.path());
    if shown == request.path() {
        return reason.to_owned();
    }
    reason.split(' ').map(shown::path).collect::<Vec<_>>().join(" ")
}

fn client_broke(why: &Interrupted) -> (Ending, Close) {
    (Ending::Broken(format!("client: {why}")), Close::Broken)
}

/// What an agent is told of a server that cannot be understood.
fn upstream_words(why: &Failed) -> String {
    match why {
        Failed::Server(Interrupted::Malformed(why)) => {
            format!("the answer is not one that every reader understands in the same way: {why}")
        }
        Failed::NoAnswer => "the server closed the connection without an answer".to_owned(),
        _ => "the connection to the server broke".to_owned(),
    }
}
