//! Snapshots of the targets' schemas, shared by sessions of one database for as long as they are fresh.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    target::{LoginError, query_rows},
    transport::{Side, Transport},
};
use crate::{
    domain::{catalogue::Catalogue, ids::TargetName},
    protocol::postgres::backend::TransactionStatus,
    sql::postgres::snapshot,
};

/// A snapshot is read anew after this long, so that changes made behind nodegate's back are seen.
pub const FRESH: Duration = Duration::from_secs(60);

/// Target and database.
pub type Place = (TargetName, String);

/// A snapshot and when it was read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The schema.
    pub catalogue: Arc<Catalogue>,
    /// When it was read.
    pub read_at: Instant,
}

impl Snapshot {
    /// Whether it may still be used.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.read_at) < FRESH
    }
}

/// All shared snapshots.
#[derive(Debug, Default)]
pub struct Catalogues {
    places: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<Option<Snapshot>>>>>,
}

impl Catalogues {
    /// The shared snapshot of `place`, read over `side` if there is no fresh one. Sessions that start together
    /// wait for the first one's snapshot instead of reading one each.
    ///
    /// # Errors
    /// The database would not show its catalogue.
    pub async fn of(&self, place: &Place, side: &mut Side<Transport>) -> Result<Snapshot, LoginError> {
        let shared = self.place(place);
        let mut shared = shared.lock().await;
        if let Some(snapshot) = shared.as_ref().filter(|snapshot| snapshot.is_fresh(Instant::now())) {
            return Ok(snapshot.clone());
        }
        let snapshot = read(side, &mut |_| {}).await?;
        *shared = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Makes the next session of `place` read the schema anew: a statement has changed it.
    pub async fn outdate(&self, place: &Place) {
        *self.place(place).lock().await = None;
    }

    fn place(&self, place: &Place) -> Arc<tokio::sync::Mutex<Option<Snapshot>>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(place.clone()).or_default())
    }
}

/// Reads a snapshot over an idle session: with it come the session's own temporary objects and whatever its open
/// transaction has changed.
///
/// # Errors
/// The database would not show its catalogue, or not in the shape that is expected.
pub async fn read(
    side: &mut Side<Transport>,
    on_status: &mut impl FnMut(TransactionStatus),
) -> Result<Snapshot, LoginError> {
    let rows = query_rows(side, snapshot::QUERIES, on_status).await?;
    let catalogue = snapshot::build(&rows).map_err(|error| LoginError::Protocol(error.to_string()))?;
    Ok(Snapshot { catalogue: Arc::new(catalogue), read_at: Instant::now() })
}
