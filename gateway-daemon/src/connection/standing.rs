//! What open sessions stand on may change: their identity ends, policies and targets are replaced, the daemon stops. Each
//! that may not go on is told within a second; the others never notice.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::Gateway;
use crate::{
    domain::{
        action::Action,
        decision::{Decision, Denial},
        ids::CgroupId,
        principal::Principal,
    },
    session::{
        caller::renewed,
        stop::{Grounds, Reason, Standing},
    },
};

/// How often it is looked whether anything has changed.
const LOOK: Duration = Duration::from_millis(200);
/// A source of tokens that takes longer than this has none: the session is over within a second of its token's end.
const RENEWAL: Duration = Duration::from_millis(500);
/// So many sessions are judged before others have a turn.
const TOGETHER: usize = 64;
/// How long sessions may take to end that were told to.
const FAREWELLS: Duration = Duration::from_secs(3);

impl Gateway {
    /// What lets sessions connect now.
    pub(super) fn grounds(&self) -> Grounds {
        Grounds { policies: self.policies.epoch(), targets: self.targets.load().generation() }
    }

    /// Ends sessions that may not go on, for as long as the daemon runs.
    pub async fn keep_standing(&self) {
        loop {
            sleep(LOOK).await;
            self.look_at_sessions().await;
        }
    }

    /// Drops what is known of a workload: who it was it is not any more, and its sessions end.
    pub fn forget(&self, cgroup: CgroupId) {
        self.identity.forget(cgroup);
        self.dns.forget(cgroup);
        let dropped = Denial::builtin(
            "the workload's identity was dropped: it was released, or is another workload now",
            "Connect again.",
            "identity",
        );
        self.register.end_of(cgroup, &Reason::Identity(dropped));
    }

    /// Tells all sessions that the daemon stops, and waits until they have ended.
    pub async fn drain(&self) {
        self.register.end_all(&Reason::Drained);
        let ended = async {
            while !self.register.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(FAREWELLS, ended).await.is_err() {
            tracing::warn!("sessions that were told to end are cut off");
        }
    }

    async fn look_at_sessions(&self) {
        let (grounds, now) = (self.grounds(), SystemTime::now());
        let changed =
            |standing: &Standing| standing.grounds != grounds || standing.principal.expires_at <= now;
        let doubtful = self.register.doubtful(changed);
        for some in doubtful.chunks(TOGETHER) {
            join_all(some.iter().map(|(number, standing)| self.look_at(*number, standing, grounds))).await;
            tokio::task::yield_now().await;
        }
    }

    async fn look_at(&self, number: u64, standing: &Standing, grounds: Grounds) {
        match self.stands(standing, grounds).await {
            Ok(standing) => self.register.goes_on(number, standing),
            Err(reason) => self.register.end(number, reason),
        }
    }

    /// On what a session stands from now on.
    async fn stands(&self, standing: &Standing, grounds: Grounds) -> Result<Standing, Reason> {
        let Standing { flow, workload, principal, target, .. } = standing;
        let renewal = timeout(RENEWAL, renewed(&self.identity, flow, principal)).await;
        let renewed = renewal.unwrap_or_else(|_| Err(late(principal))).map_err(Reason::Identity)?;
        let principal = renewed.unwrap_or_else(|| Arc::clone(principal));
        let targets = self.targets.load();
        let facts = targets.facts(target).ok_or_else(|| Reason::TargetRemoved(target.clone()))?;
        if self.modes.load().of(workload.label.as_deref(), Some(target.as_str())).enforces()
            && let Decision::Deny(denial) = self.policies.decide(&principal, workload, facts, Action::Connect)
        {
            return Err(Reason::Revoked(denial));
        }
        Ok(Standing { principal, grounds, ..standing.clone() })
    }
}

fn late(principal: &Principal) -> Denial {
    Denial::builtin(
        format!("the token of {principal} has expired, and there is no other in time"),
        "Get a fresh token and connect again.",
        "identity",
    )
}
