//! Where a workload's token may be: what the connecting process itself can see. A token found is not yet believed.

use std::{sync::Arc, thread, time::Duration};

use tokio::sync::{Semaphore, oneshot};

use super::{
    IdentityError,
    process::{Process, ReadError},
    settings::SourceSettings,
    token::LONGEST_TOKEN_BYTES,
};
use crate::domain::{flow::Flow, ids::CgroupId, sensitive::Sensitive};

/// A workload's own file systems may answer slowly, or (FUSE) never.
const LONGEST_READ: Duration = Duration::from_secs(2);

/// What of a flow decides whose token is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) cgroup: CgroupId,
    pub(super) pid: u32,
    pub(super) connected_at_boot_ns: u64,
}

impl From<&Flow> for Caller {
    fn from(flow: &Flow) -> Self {
        Self { cgroup: flow.captured_cgroup, pid: flow.pid, connected_at_boot_ns: flow.connected_at_boot_ns }
    }
}

/// The token that `caller` has in a file or its environment, or `None`.
///
/// Each read has a thread of its own: it takes on the process's permissions, and a file system of the workload's may
/// hold it forever. `one_reader` stays taken as long as it does, so a workload can hold up one thread, not many.
pub(super) async fn read(
    source: &SourceSettings,
    caller: Caller,
    one_reader: &Arc<Semaphore>,
) -> Result<Option<Sensitive<String>>, IdentityError> {
    let unreadable =
        |problem: &str| IdentityError::Unreadable { origin: source.to_string(), problem: problem.to_owned() };
    let Ok(permit) = Arc::clone(one_reader).try_acquire_owned() else {
        return Err(unreadable("an earlier attempt to read it has not come back"));
    };
    let (reply, answer) = oneshot::channel();
    let wanted = source.clone();
    thread::Builder::new()
        .name("token-reader".to_owned())
        .spawn(move || {
            // Whoever waits may read again as soon as it has the answer.
            let content = read_now(&wanted, caller);
            drop(permit);
            drop(reply.send(content));
        })
        .map_err(|_| unreadable("no thread can be started"))?;
    match tokio::time::timeout(LONGEST_READ, answer).await {
        Ok(Ok(content)) => content,
        Ok(Err(_)) => Err(unreadable("reading it failed")),
        Err(_) => Err(unreadable("reading it takes too long")),
    }
}

fn read_now(source: &SourceSettings, caller: Caller) -> Result<Option<Sensitive<String>>, IdentityError> {
    let process = |place| {
        Process::open(caller.pid, caller.connected_at_boot_ns)
            .map_err(|_| IdentityError::ProcessGone { pid: caller.pid, place })
    };
    let (place, content) = match source {
        SourceSettings::Enrolled => return Ok(None),
        SourceSettings::File { path } => ("file", process("file")?.file(path, LONGEST_TOKEN_BYTES as u64)),
        SourceSettings::Environment { variable } => {
            ("environment", process("environment")?.variable(variable))
        }
    };
    match content {
        Err(ReadError::Absent) => Ok(None),
        Err(ReadError::Gone) => Err(IdentityError::ProcessGone { pid: caller.pid, place }),
        Err(ReadError::Unreadable(problem)) => {
            Err(IdentityError::Unreadable { origin: source.to_string(), problem })
        }
        Ok(content) => match String::from_utf8(content) {
            Ok(token) if token.trim_ascii().is_empty() => Ok(None),
            Ok(token) => Ok(Some(Sensitive::new(token))),
            Err(_) => Err(IdentityError::Malformed { problem: "it is not text" }),
        },
    }
}
