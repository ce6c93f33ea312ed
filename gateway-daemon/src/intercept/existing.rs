//! Connections that a cgroup had before it was captured: the hooks saw none of them. They are found through the
//! kernel's own list of sockets (`sock_diag(7)`), in each network namespace that the cgroup's processes live in, and
//! ended or reported. Connections that came to a listening socket are somebody else's and stay.

use std::{collections::HashSet, io, os::fd::OwnedFd};

use super::{
    capture::Core,
    cgroups::Cgroup,
    diag::{self, Ended, Found, LISTEN, TCP, UDP},
    refusals::{Fate, KernelRefusal, RefusalReason},
};
use crate::domain::ids::{CgroupId, NetnsCookie};

/// What becomes of connections that a cgroup had before it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// They are ended: their owners see a reset.
    #[default]
    End,
    /// They go on, and are recorded.
    Report,
}

impl Core {
    /// Ends or reports what a cgroup had open before it was armed, which it is by now.
    pub async fn deal_with_existing(&self, cgroup: &Cgroup) {
        let members: HashSet<CgroupId> = cgroup.family().into_iter().collect();
        for (netns, _) in self.namespaces.all() {
            let Some(file) = self.namespaces.file(netns) else { continue };
            let members = members.clone();
            let existing = self.settings.existing;
            let socket = self.traveller.within(file, diag::open).await;
            let dealt = match socket {
                // Hundreds of sockets are a matter of a millisecond; the runtime has other threads.
                Ok(socket) => tokio::task::spawn_blocking(move || deal(&socket, &members, existing))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error))),
                Err(error) => Err(error),
            };
            match dealt {
                Ok(found) => found.into_iter().for_each(|found| self.tell(netns, cgroup.id, &found)),
                Err(error) => {
                    tracing::error!(cgroup = %cgroup.path, %error, "connections from before capture cannot be found");
                }
            }
        }
    }

    fn tell(&self, netns: NetnsCookie, captured: CgroupId, (found, ended): &(Found, Ended)) {
        let reason = match ended {
            Ended::Yes => RefusalReason::ExistingEnded,
            Ended::No => RefusalReason::ExistingLeft,
        };
        tracing::info!(cgroup = %captured, peer = %found.peer(), ?ended, "a connection from before capture");
        let refusal = KernelRefusal {
            cgroup: found.cgroup,
            captured_cgroup: Some(captured),
            netns,
            pid: 0,
            tid: 0,
            uid: 0,
            comm: String::new(),
            destination: Some(found.peer()),
            control_socket: None,
            family: found.family.into(),
            protocol: found.protocol.into(),
            reason,
            // No call was refused: nobody is asked who made it.
            at_boot_ns: 0,
            fate: Fate::Refused,
        };
        // For information only: whoever does not read must not make us remember.
        let _ = self.notices.try_send(refusal);
    }
}

fn deal(
    socket: &OwnedFd,
    members: &HashSet<CgroupId>,
    existing: Existing,
) -> io::Result<Vec<(Found, Ended)>> {
    let mut dealt = Vec::new();
    for protocol in [TCP, UDP] {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            found.extend(diag::list(socket, u8::try_from(family).unwrap_or_default(), protocol)?);
        }
        let serving: HashSet<u16> =
            found.iter().filter(|found| found.state == LISTEN).map(Found::local_port).collect();
        let leads_out = |found: &Found| {
            found.state != LISTEN
                && found.peer().port() != 0
                && members.contains(&found.cgroup)
                && (protocol == UDP || !serving.contains(&found.local_port()))
        };
        for found in found.into_iter().filter(leads_out) {
            let ended = match existing {
                Existing::Report => Ended::No,
                Existing::End => diag::destroy(socket, &found)?,
            };
            dealt.push((found, ended));
        }
    }
    Ok(dealt)
}
