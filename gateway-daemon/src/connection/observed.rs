//! A flow in a mode that does not enforce: its bytes go on as if nodegate were not there, with the client's own
//! credential and under its own TLS. Beside them it is judged as far as it can be, and what enforcing would have
//! refused is recorded. Nothing here makes the bytes wait.

use tokio::net::TcpStream;

use super::{Gateway, refusals::no_target, targets::Target};
use crate::{
    domain::{
        action::Action,
        decision::{Decision, Denial},
        event::{EventKind, Outcome},
        flow::Workload,
        mode::{Cause, Mode},
    },
    session::{
        about::About,
        caller::unidentified,
        dial,
        driver::Followed,
        ending::reset,
        passing::{Tap, Tapped, Taps, relay},
        route::Route,
    },
};

impl Gateway {
    /// Passes a flow on and judges it beside that.
    pub(super) async fn observe(
        &self,
        about: About,
        workload: Workload,
        target: Option<Target>,
        mode: Mode,
        stream: TcpStream,
    ) {
        let route = Route::of(&about.flow);
        let (tap, tapped) = Tap::new();
        // What the target says is looked at where rows are counted, and nowhere else.
        let (of_target, replies) = self.policies.limit_rows().then(Tap::new).unzip();
        let judged = self.judge_beside(about.clone(), workload, target, mode, (tapped, replies));
        let taps = Taps { client: Some(tap), target: of_target };
        let (reason, about) = tokio::join!(self.pass_on(route, stream, taps), judged);
        self.ledger.closed(&about, Some(mode), reason, None);
    }

    /// Passes a flow on that cannot be judged, for a reason that enforcing would have refused it for.
    pub(super) async fn pass_on_unjudged(&self, about: About, denial: Denial, mode: Mode, stream: TcpStream) {
        let route = Route::of(&about.flow);
        self.would_refuse(&about, mode, Cause::Refusal, &denial);
        let reason = self.pass_on(route, stream, Taps::default()).await;
        self.ledger.closed(&about, Some(mode), reason, None);
    }

    async fn pass_on(&self, route: Route, stream: TcpStream, taps: Taps) -> String {
        // Nothing is enforced: all that it can be told is that the daemon stops.
        let stop = self.register.enter();
        match dial::as_the_agent(&self.intercept, self.limits, route).await {
            Ok(upstream) => relay(stream, upstream, None, taps, &stop).await.to_string(),
            Err(error) => {
                reset(&stream);
                format!("the target cannot be reached: {error}")
            }
        }
    }

    /// What enforcing would have done, as far as it can be told. Answers with what became known of the flow.
    async fn judge_beside(
        &self,
        mut about: About,
        workload: Workload,
        target: Option<Target>,
        mode: Mode,
        (tapped, replies): (Tapped, Option<Tapped>),
    ) -> About {
        about.target = target.as_ref().map(|target| target.facts().id());
        let principal = self.identity.principal_for(&about.flow).await;
        about.identity = principal.as_ref().ok().map(|principal| principal.id());
        let Some(target) = target else {
            self.would_refuse(&about, mode, Cause::Refusal, &no_target(&about.flow));
            return about;
        };
        let principal = match principal {
            Ok(principal) => principal,
            Err(error) => {
                self.would_refuse(&about, mode, Cause::Unclear, &unidentified(&error));
                return about;
            }
        };
        match self.policies.decide(&principal, &workload, target.facts(), Action::Connect) {
            Decision::Deny(denial) => self.would_refuse(&about, mode, Cause::Refusal, &denial),
            Decision::Allow { policies, .. } => {
                let mut event = about.event(EventKind::Connect, Outcome::Allowed);
                event.mode = Some(mode);
                event.policies = policies;
                self.ledger.note(event);
                let about = about.clone();
                let session = Followed { about, mode, principal, workload, tapped, replies };
                self.drivers.follow(session, target).await;
            }
        }
        about
    }

    fn would_refuse(&self, about: &About, mode: Mode, cause: Cause, denial: &Denial) {
        let mut event = about.event(EventKind::Connect, mode.outcome(cause));
        event.mode = Some(mode);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        self.ledger.note(event);
    }
}
