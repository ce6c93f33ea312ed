//! The protocols of this house: one arm for each of them, and nothing else here.

use super::targets::Target;
use crate::{
    detect::Detected,
    domain::decision::Denial,
    session::{
        driver::{Client, Driver as _, Followed, Opening, Permit},
        http::Http,
        postgres::Postgres,
        tcp::Tcp,
    },
};

/// Serve sessions, each those of its protocol.
pub struct Drivers {
    /// PostgreSQL sessions.
    pub postgres: Postgres,
    /// HTTP sessions.
    pub http: Http,
    /// Sessions that nobody looks into.
    pub tcp: Tcp,
}

impl Drivers {
    /// Who speaks first on connections to a target.
    pub(super) fn opening(&self, target: &Target) -> Opening {
        match target {
            Target::Postgres(_) => self.postgres.opening(),
            Target::Http(_) => self.http.opening(),
            Target::Tcp(_) => self.tcp.opening(),
        }
    }

    /// Whether a connection that begins so can be one to that target.
    pub(super) fn takes(&self, target: &Target, first: Detected) -> Result<(), Denial> {
        match target {
            Target::Postgres(target) => self.postgres.takes(target, first),
            Target::Http(target) => self.http.takes(target, first),
            Target::Tcp(target) => self.tcp.takes(target, first),
        }
    }

    pub(super) async fn serve(&self, client: Client, target: Target, permit: Permit) {
        match target {
            Target::Postgres(target) => self.postgres.serve(client, target, permit).await,
            Target::Http(target) => self.http.serve(client, target, permit).await,
            Target::Tcp(target) => self.tcp.serve(client, target, permit).await,
        }
    }

    pub(super) async fn refuse(&self, client: Client, target: Target, denial: Denial) {
        match target {
            Target::Postgres(target) => self.postgres.refuse(client, Some(target), denial).await,
            Target::Http(target) => self.http.refuse(client, Some(target), denial).await,
            Target::Tcp(target) => self.tcp.refuse(client, Some(target), denial).await,
        }
    }

    /// Follows a session that is passed on untouched.
    pub(super) async fn follow(&self, session: Followed, target: Target) {
        match target {
            Target::Postgres(target) => self.postgres.follow(session, target).await,
            Target::Http(target) => self.http.follow(session, target).await,
            Target::Tcp(target) => self.tcp.follow(session, target).await,
        }
    }

    /// Whether a client that begins so can be told, without a target, why it is refused.
    pub(super) const fn has_words_for(first: Detected) -> bool {
        match first {
            Detected::Postgres | Detected::Http => true,
            // What is inside TLS shows when somebody has taken it off.
            Detected::Tls | Detected::Incomplete | Detected::Unknown => false,
        }
    }

    /// Tells a client that means no target why it is refused, if there are words for what it begins with.
    pub(super) async fn refuse_stranger(&self, client: Client, first: Detected, denial: Denial) {
        match first {
            Detected::Postgres => self.postgres.refuse(client, None, denial).await,
            Detected::Http => self.http.refuse(client, None, denial).await,
            Detected::Tls | Detected::Incomplete | Detected::Unknown => {
                self.tcp.refuse(client, None, denial).await;
            }
        }
    }
}
