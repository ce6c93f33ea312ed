//! PostgreSQL as the house sees it: the client speaks first, a refusal is an ErrorResponse, and a session that is passed
//! on is followed.

use std::sync::Arc;

use super::{Admission, CancelKeys, Catalogues, Judge, Postgres, PostgresTarget};
use crate::{
    credential::Provider,
    detect::Detected,
    domain::decision::Denial,
    mask::Masker,
    session::{
        client_tls::{ClientTls, Encryption},
        driver::{Client, Driver, Followed, Opening, Permit, Shared},
    },
    tls::terminate::Terminator,
};

impl Postgres {
    /// The driver, over what all drivers share.
    pub fn new(
        shared: &Shared,
        judge: Judge,
        credentials: Arc<Provider>,
        masker: Masker,
        terminator: Arc<Terminator>,
    ) -> Self {
        let Shared { intercept, identity, ledger, recorder, limits } = shared.clone();
        Self {
            intercept,
            credentials,
            identity,
            judge,
            audit: ledger.log().clone(),
            ledger,
            masker,
            cancel_keys: CancelKeys::default(),
            catalogues: Catalogues::default(),
            recorder,
            limits,
            terminator,
        }
    }

    fn encryption(&self, client: &Client, target: Option<&ClientTls>) -> Encryption {
        let address = client.about.flow.original_destination.ip();
        Encryption::towards(target, &self.terminator, &client.asked, address)
    }
}

impl Driver for Postgres {
    type Target = PostgresTarget;

    fn opening(&self) -> Opening {
        Opening::Client
    }

    fn takes(&self, target: &PostgresTarget, first: Detected) -> Result<(), Denial> {
        match first {
            Detected::Postgres => Ok(()),
            // That PostgreSQL is in it the handshake must show.
            Detected::Tls if target.client_tls != ClientTls::Plaintext => Ok(()),
            Detected::Tls => Err(Denial::builtin(
                format!("target {} takes no TLS from clients", target.facts.name),
                "Connect with sslmode=disable, or ask the operator for `tls: { client: terminate }`.",
                "protocol",
            )),
            _ => Err(Denial::builtin(
                format!("target {} speaks PostgreSQL, and this connection does not", target.facts.name),
                "Use a PostgreSQL client.",
                "protocol",
            )),
        }
    }

    async fn serve(&self, client: Client, target: Arc<PostgresTarget>, permit: Permit) {
        let encryption = self.encryption(&client, Some(&target.client_tls));
        let admission = Admission::Admitted(target, client.route(), permit);
        self.attend(client, admission, encryption).await;
    }

    async fn refuse(&self, client: Client, target: Option<Arc<PostgresTarget>>, denial: Denial) {
        let encryption = self.encryption(&client, target.as_ref().map(|target| &target.client_tls));
        self.attend(client, Admission::Refused(denial), encryption).await;
    }

    async fn follow(&self, session: Followed, target: Arc<PostgresTarget>) {
        self.watch(session, target).await;
    }
}
