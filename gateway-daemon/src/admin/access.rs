//! What may be asked on the admin socket, and by whom.
//!
//! | request | who |
//! |---|---|
//! | `POST /v1/identity`, `GET /v1/identity` | a captured cgroup, for itself; root outside them, for any, by `cgroup` |
//! | `GET /v1/status` | everybody outside captured cgroups |
//! | `POST /v1/runs` | everybody outside captured cgroups, for a child of their own |
//! | `DELETE /v1/runs/{cgroup}` | the user who started it, and root, outside captured cgroups |
//! | `GET`, `POST /v1/captures`, `DELETE /v1/captures/{cgroup}` | root outside captured cgroups |

use hyper::{Method, StatusCode};

use super::{
    answer::Refusal,
    peer::{Peer, Process},
};
use crate::domain::{flow::Workload, ids::CgroupId};

/// A caller, as far as authorisation goes.
pub(super) enum Caller {
    Captured(Workload),
    Root,
    User(u32),
}

/// What is asked for.
pub(super) enum Endpoint {
    Identity,
    Status,
    Runs,
    Run(CgroupId),
    Captures,
    Capture(CgroupId),
}

/// Who may ask what. A captured caller learns nothing of what else there is.
pub(super) fn authorise(caller: &Caller, method: &Method, path: &str) -> Result<Endpoint, Refusal> {
    let Some((endpoint, methods)) = endpoint(path) else {
        return Err(match caller {
            Caller::Captured(_) => Refusal::captured(),
            Caller::Root | Caller::User(_) => {
                Refusal::new(StatusCode::NOT_FOUND, "there is no such resource")
            }
        });
    };
    match (&endpoint, caller) {
        (Endpoint::Identity, _)
        | (_, Caller::Root)
        | (Endpoint::Status | Endpoint::Runs | Endpoint::Run(_), Caller::User(_)) => {}
        (_, Caller::Captured(_)) => return Err(Refusal::captured()),
        (Endpoint::Captures | Endpoint::Capture(_), Caller::User(_)) => {
            return Err(Refusal::forbidden("only root may list and change what is captured"));
        }
    }
    if methods.split(", ").any(|allowed| allowed == method.as_str()) {
        Ok(endpoint)
    } else {
        Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            detail: format!("this resource knows {methods}"),
            allow: Some(methods),
        })
    }
}

/// The endpoint of a path, and the methods that it knows.
fn endpoint(path: &str) -> Option<(Endpoint, &'static str)> {
    let id = |text: &str| -> Option<CgroupId> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok().map(CgroupId)).flatten()
    };
    Some(match path.strip_prefix("/v1/")? {
        "identity" => (Endpoint::Identity, "GET, POST"),
        "status" => (Endpoint::Status, "GET"),
        "runs" => (Endpoint::Runs, "POST"),
        "captures" => (Endpoint::Captures, "GET, POST"),
        other => match other.split_once('/')? {
            ("runs", cgroup) => (Endpoint::Run(id(cgroup)?), "DELETE"),
            ("captures", cgroup) => (Endpoint::Capture(id(cgroup)?), "DELETE"),
            _ => return None,
        },
    })
}

/// The process `pid`, held on to, if it is a child of the peer and runs as nobody but the peer's user.
pub(super) fn own_child(peer: &Peer, pid: u32) -> Result<Process, Refusal> {
    let refused =
        || Refusal::forbidden(format!("process {pid} is not a child of the caller, of the same user"));
    let child = Process::open(pid).map_err(|_| refused())?;
    let facts = child.facts().map_err(|_| refused())?;
    let same_user = peer.uid == 0 || facts.uids.iter().all(|uid| *uid == peer.uid);
    if facts.parent != peer.pid || !same_user {
        return Err(refused());
    }
    peer.ensure_alive().map_err(|_| refused())?;
    Ok(child)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use hyper::{Method, StatusCode};

    use super::{Caller, authorise};
    use crate::domain::{flow::Workload, ids::CgroupId};

    #[test]
    fn every_endpoint_knows_who_may_ask() {
        let captured = Caller::Captured(Workload { cgroup: CgroupId(1), path: "/x".to_owned(), label: None });
        let (root, user) = (Caller::Root, Caller::User(1000));
        // Captured, user, root.
        for (method, path, expected) in [
            (Method::GET, "/v1/identity", [200, 200, 200]),
            (Method::POST, "/v1/identity", [200, 200, 200]),
            (Method::GET, "/v1/status", [403, 200, 200]),
            (Method::POST, "/v1/runs", [403, 200, 200]),
            (Method::DELETE, "/v1/runs/7", [403, 200, 200]),
            (Method::GET, "/v1/captures", [403, 403, 200]),
            (Method::POST, "/v1/captures", [403, 403, 200]),
            (Method::DELETE, "/v1/captures/7", [403, 403, 200]),
            (Method::DELETE, "/v1/identity", [405, 405, 405]),
            (Method::GET, "/v1/runs", [403, 405, 405]),
            (Method::DELETE, "/v1/runs/+7", [403, 404, 404]),
            (Method::DELETE, "/v1/runs/7/8", [403, 404, 404]),
            (Method::GET, "/v2/status", [403, 404, 404]),
        ] {
            let status = |caller| {
                authorise(caller, &method, path)
                    .map_or_else(|refusal| refusal.status, |_| StatusCode::OK)
                    .as_u16()
            };
            assert_eq!([&captured, &user, &root].map(status), expected, "{method} {path}");
        }
    }
}
