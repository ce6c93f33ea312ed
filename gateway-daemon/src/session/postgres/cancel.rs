//! Cancel keys: clients get keys of the daemon's own making, and only the workload that was given one may use it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::target::{CancelKey, PostgresTarget};
use crate::{
    domain::ids::{CgroupId, SessionId},
    intercept::Intercept,
    protocol::postgres::frontend,
    session::{route::Route, transport::Side},
};

/// A cancel request is a connect and 16 bytes.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client's secret is: protocol 3.0 knows 4 bytes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLength {
    /// Protocol 3.0.
    Short,
    /// Protocol 3.2.
    Long,
}

/// What a client's key stands for.
#[derive(Debug, Clone)]
pub struct Cancellable {
    /// The session that it cancels.
    pub session: SessionId,
    /// The workload that may use it.
    pub owner: CgroupId,
    /// The target.
    pub target: Arc<PostgresTarget>,
    /// Where the backend is.
    pub route: Route,
    /// The backend's own key.
    pub key: CancelKey,
}

/// The keys that are valid now.
#[derive(Debug, Default, Clone)]
pub struct CancelKeys {
    keys: Arc<Mutex<HashMap<CancelKey, Cancellable>>>,
}

/// A registered key; dropping it makes the key invalid.
#[derive(Debug)]
pub struct Registration {
    keys: CancelKeys,
    /// What the client is told.
    pub key: CancelKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

impl CancelKeys {
    /// Makes a key for a session. `None` when the system gives no randomness.
    pub fn register(&self, what: Cancellable, length: KeyLength) -> Option<Registration> {
        let random = SystemRandom::new();
        let mut secret = vec![0_u8; if length == KeyLength::Short { 4 } else { 32 }];
        let mut process_id = [0_u8; 4];
        loop {
            random.fill(&mut secret).ok()?;
            random.fill(&mut process_id).ok()?;
            // Clients print it as a signed number; keep it positive.
            let process_id = u32::from_be_bytes(process_id) & 0x7fff_ffff;
            let key = CancelKey { process_id, secret: Bytes::copy_from_slice(&secret) };
            let mut keys = self.lock();
            if !keys.contains_key(&key) {
                keys.insert(key.clone(), what);
                return Some(Registration { keys: self.clone(), key });
            }
        }
    }

    /// What `key` cancels, if `caller` is the workload that was given it.
    pub fn find(&self, key: &CancelKey, caller: CgroupId) -> Option<Cancellable> {
        self.lock().get(key).filter(|what| what.owner == caller).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CancelKey, Cancellable>> {
        // A panic while the map was held cannot leave it half changed: every operation is one call.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the backend its own key and waits until it has closed the connection, as libpq does.
///
/// # Errors
/// One sentence for the operator.
pub async fn forward(intercept: &Intercept, what: &Cancellable) -> Result<(), String> {
    let send = async {
        let transport =
            what.target.connect(intercept, what.route).await.map_err(|error| error.to_string())?;
        let mut side = Side::new(transport, BytesMut::new());
        frontend::cancel_request(&mut side.output, what.key.process_id, &what.key.secret)
            .map_err(|error| error.to_string())?;
        side.drain().await.map_err(|error| error.to_string())?;
        while !side.ended && side.input.is_empty() {
            if side.fill().await.is_err() {
                break;
            }
        }
        Ok(())
    };
    timeout(CANCEL_TIMEOUT, send)
        .await
        .unwrap_or_else(|_| Err("the target did not answer in time".to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        domain::{action::TargetFacts, ids::NetnsCookie, way::UpstreamFrom},
        session::{
            client_tls::ClientTls,
            dial::{Dial, UpstreamTls},
            postgres::target::{ChannelBinding, KeptKeys, Negotiation},
        },
    };

    fn cancellable(owner: u64) -> Cancellable {
        Cancellable {
            session: SessionId::from("s"),
            owner: CgroupId(owner),
            target: Arc::new(PostgresTarget {
                facts: TargetFacts::default(),
                dial: Dial { from: UpstreamFrom::default(), tls: UpstreamTls::Disable },
                negotiation: Negotiation::Request,
                binding: ChannelBinding::Prefer,
                database: None,
                client_tls: ClientTls::Plaintext,
                username: "u".to_owned(),
                password: crate::domain::credential::PasswordSource::Environment("NONE".to_owned()),
                notices: crate::domain::decision::Notices::default(),
                kept_keys: KeptKeys::default(),
            }),
            route: Route { netns: NetnsCookie(1), address: "127.0.0.1:1".parse().unwrap() },
            key: CancelKey { process_id: 1, secret: Bytes::from_static(&[0; 4]) },
        }
    }

    #[test]
    fn a_key_serves_its_owner_only_and_ends_with_its_session() {
        let keys = CancelKeys::default();
        let mine = keys.register(cancellable(7), KeyLength::Short).unwrap();
        let key = mine.key.clone();
        assert!(keys.find(&key, CgroupId(7)).is_some());
        assert!(keys.find(&key, CgroupId(8)).is_none());
        drop(mine);
        assert!(keys.find(&key, CgroupId(7)).is_none());
    }

    #[test]
    fn protocol_3_2_gets_a_long_key() {
        let keys = CancelKeys::default();
        assert_eq!(keys.register(cancellable(7), KeyLength::Long).unwrap().key.secret.len(), 32);
    }
}
