//! What each request of the admin API does, once it is known who asks.

use std::{
    collections::HashMap,
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Body};

use super::{
    access::{Caller, Endpoint, authorise, own_child},
    answer::{Refusal, empty, json, parse, read_body},
    api::{CaptureRequest, EnrolRequest, RunRequest, RunStarted, Token},
    control::{Control, IdentityView},
    peer::{Peer, Process},
};
use crate::domain::{
    flow::{MAX_LABEL_CHARS, Workload, is_label},
    ids::CgroupId,
};

/// The API over a daemon.
pub(super) struct Routes<C> {
    control: Arc<C>,
    /// The users who started the runs of this daemon's lifetime. Runs of an earlier one are root's to end; they end
    /// by themselves when their last process does.
    owners: Mutex<HashMap<CgroupId, u32>>,
}

impl<C: Control> Routes<C> {
    pub(super) fn new(control: Arc<C>) -> Self {
        Self { control, owners: Mutex::new(HashMap::new()) }
    }

    /// The captured cgroup that the peer is in. The peer is alive after the look-up, so that it was its cgroup.
    pub(super) fn captured(&self, peer: &Peer) -> io::Result<Option<Workload>> {
        let captured = self.control.workload_of_pid(peer.pid)?;
        peer.ensure_alive()?;
        Ok(captured)
    }

    /// Answers one request. What changes something runs to its end even if the caller hangs up.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        peer: &Arc<Peer>,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let caller = match self.caller(peer) {
            Ok(caller) => caller,
            Err(refusal) => return refusal.into_response(),
        };
        let endpoint = match authorise(&caller, request.method(), request.uri().path()) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return refusal.into_response(),
        };
        let method = request.method().clone();
        let body = match read_body(request.into_body()).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into_response(),
        };
        let (routes, peer) = (self, Arc::clone(peer));
        let done =
            tokio::spawn(async move { routes.dispatch(&peer, caller, &method, endpoint, &body).await });
        match done.await {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => refusal.into_response(),
            Err(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be completed")
                .into_response(),
        }
    }

    /// Looked up anew for every request: a process can be moved into a captured cgroup after it connected.
    fn caller(&self, peer: &Peer) -> Result<Caller, Refusal> {
        let captured = self.captured(peer).map_err(|error| {
            Refusal::new(StatusCode::FORBIDDEN, format!("the caller cannot be identified: {error}"))
        })?;
        Ok(match (captured, peer.uid) {
            (Some(workload), _) => Caller::Captured(workload),
            (None, 0) => Caller::Root,
            (None, uid) => Caller::User(uid),
        })
    }

    async fn dispatch(
        &self,
        peer: &Peer,
        caller: Caller,
        method: &Method,
        endpoint: Endpoint,
        body: &[u8],
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        match (method, endpoint) {
            (&Method::POST, Endpoint::Identity) => self.enrol(&caller, parse(body)?).await,
            (_, Endpoint::Identity) => self.who_am_i(&caller),
            (_, Endpoint::Status) => json(StatusCode::OK, &self.control.status()),
            (_, Endpoint::Runs) => self.start_run(peer, parse(body)?).await,
            (_, Endpoint::Run(cgroup)) => self.end_run(&caller, cgroup).await,
            (&Method::POST, Endpoint::Captures) => self.capture(parse(body)?).await,
            (_, Endpoint::Captures) => json(StatusCode::OK, &self.control.captures()),
            (_, Endpoint::Capture(cgroup)) => {
                self.control.release(cgroup).await?;
                Ok(empty())
            }
        }
    }

    async fn enrol(&self, caller: &Caller, request: EnrolRequest) -> Result<Response<Full<Bytes>>, Refusal> {
        let cgroup = match (caller, request.cgroup) {
            (Caller::Captured(own), None) => own.cgroup,
            (Caller::Captured(own), Some(cgroup)) if cgroup == own.cgroup => cgroup,
            (Caller::Captured(_), Some(_)) => {
                return Err(Refusal::forbidden(
                    "a captured cgroup can be given an identity by itself and by root only",
                ));
            }
            (Caller::Root, Some(cgroup)) => cgroup,
            (Caller::Root | Caller::User(_), None) => {
                return Err(Refusal::forbidden(
                    "the caller is in no captured cgroup: there is nothing to identify",
                ));
            }
            (Caller::User(_), Some(_)) => {
                return Err(Refusal::forbidden("only root may enrol another cgroup than the caller's own"));
            }
        };
        if !self.control.captures().iter().any(|workload| workload.cgroup == cgroup) {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("cgroup {cgroup} is not captured")));
        }
        let principal = self.control.enrol(cgroup, request.token.into_sensitive()).await?;
        json(StatusCode::OK, &IdentityView::from(principal.as_ref()))
    }

    fn who_am_i(&self, caller: &Caller) -> Result<Response<Full<Bytes>>, Refusal> {
        let Caller::Captured(own) = caller else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "the caller is in no captured cgroup"));
        };
        match self.control.principal(own.cgroup) {
            Some(principal) => json(StatusCode::OK, &IdentityView::from(principal.as_ref())),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "this cgroup has no identity yet")),
        }
    }

    async fn start_run(&self, peer: &Peer, request: RunRequest) -> Result<Response<Full<Bytes>>, Refusal> {
        let label = checked_label(request.label)?;
        let child = own_child(peer, request.pid)?;
        let workload = self.control.start_run(request.pid, label).await?;
        self.remember(workload.cgroup, peer.uid);
        // The number was the caller's child before; that it still is shows that nobody else was moved.
        let armed = match child.facts() {
            Ok(_) => self.identify(workload.cgroup, request.token).await,
            Err(_) => Err(Refusal::new(StatusCode::CONFLICT, "the child ended before it was captured")),
        };
        if let Err(refusal) = armed {
            self.forget(workload.cgroup);
            if let Err(error) = self.control.end_run(workload.cgroup).await {
                tracing::warn!(cgroup = %workload.cgroup, %error, "the cgroup of a run that failed is left");
            }
            return Err(refusal);
        }
        json(StatusCode::CREATED, &RunStarted { workload, authority: self.control.authority() })
    }

    async fn identify(&self, cgroup: CgroupId, token: Option<Token>) -> Result<(), Refusal> {
        if let Some(token) = token {
            self.control.enrol(cgroup, token.into_sensitive()).await?;
        }
        Ok(())
    }

    async fn end_run(&self, caller: &Caller, cgroup: CgroupId) -> Result<Response<Full<Bytes>>, Refusal> {
        let owner = self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(&cgroup).copied();
        match (caller, owner) {
            (Caller::Root, _) => {}
            (Caller::User(uid), Some(owner)) if *uid == owner => {}
            // A run that nobody remembers and one that is not there look the same to a user.
            _ => {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    format!("no run of the caller's in cgroup {cgroup}"),
                ));
            }
        }
        self.control.end_run(cgroup).await?;
        self.forget(cgroup);
        Ok(empty())
    }

    async fn capture(&self, request: CaptureRequest) -> Result<Response<Full<Bytes>>, Refusal> {
        let label = checked_label(request.label)?;
        let path = match (request.path, request.pid) {
            (Some(path), None) => path,
            (None, Some(pid)) => Process::open(pid)
                .and_then(|process| process.cgroup())
                .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, format!("process {pid}: {error}")))?,
            _ => return Err(Refusal::new(StatusCode::BAD_REQUEST, "name either `path` or `pid`")),
        };
        check_cgroup_path(&path)?;
        let workload = self.control.capture(path, label).await?;
        json(StatusCode::CREATED, &workload)
    }

    fn remember(&self, cgroup: CgroupId, uid: u32) {
        let there = self.control.captures();
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|cgroup, _| there.iter().any(|workload| workload.cgroup == *cgroup));
        owners.insert(cgroup, uid);
    }

    fn forget(&self, cgroup: CgroupId) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).remove(&cgroup);
    }
}

/// Labels are shown in terminals and compared in policies.
fn checked_label(label: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(label) = label else { return Ok(None) };
    if !is_label(&label) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("a label has up to {MAX_LABEL_CHARS} letters, digits and `-_./@:+`"),
        ));
    }
    Ok(Some(label))
}

/// The root of the hierarchy holds the daemon itself and everything else.
fn check_cgroup_path(path: &Path) -> Result<(), Refusal> {
    let named = path.components().any(|part| matches!(part, Component::Normal(_)));
    let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
    if !named || climbs {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("`{}` names no cgroup below the root", path.display().to_string().escape_debug()),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::checked_label;

    #[test]
    fn labels_are_plain() {
        assert_eq!(checked_label(None).unwrap(), None);
        for label in ["agent", "ci/job-7@main", "a.b:c+d"] {
            assert_eq!(checked_label(Some(label.to_owned())).unwrap().as_deref(), Some(label));
        }
        for label in ["", "a b", "a\n", "\u{1b}[31m", "é", &"x".repeat(64)] {
            checked_label(Some(label.to_owned())).unwrap_err();
        }
    }
}
