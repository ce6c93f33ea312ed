//! Snapshots of the targets' schemas, shared by sessions of one database for as long as they are fresh.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    advice,
    target::{LoginError, query_rows},
    unhurried::query_unhurried,
};
use crate::{
    domain::{action::TargetFacts, catalogue::Catalogue, ids::TargetName, statement::ColumnName},
    protocol::postgres::backend::TransactionStatus,
    session::transport::{Side, Transport},
    sql::postgres::snapshot,
};

/// A snapshot is read anew after this long, so that changes made behind nodegate's back are seen.
pub const FRESH: Duration = Duration::from_mins(1);

/// Target and database.
pub type Place = (TargetName, String);

/// A snapshot and when it was read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The schema, along the path that is in force.
    pub catalogue: Arc<Catalogue>,
    /// The same along the path by which it was read.
    as_read: Arc<Catalogue>,
    /// When it was read.
    pub read_at: Instant,
    /// How many changes of the schema had been made through nodegate by then, and how many have been by now.
    changes: u64,
    changes_now: Arc<AtomicU64>,
}

impl Snapshot {
    /// The same schema along the path that is in force over `side`, which is idle: one question, where reading all of the
    /// schema takes many.
    ///
    /// # Errors
    /// The database would not show its path.
    pub async fn along_path(
        &self,
        side: &mut Side<Transport>,
        status: &mut TransactionStatus,
    ) -> Result<Self, LoginError> {
        let rows = query_rows(side, &[snapshot::PATH_QUERY], status).await?;
        let path = snapshot::path(&rows).map_err(|error| LoginError::Protocol(error.to_string()))?;
        let is_as_read = path == self.as_read.search_path;
        let catalogue =
            if is_as_read { Arc::clone(&self.as_read) } else { Arc::new(self.as_read.along(path)) };
        Ok(Self { catalogue, ..self.clone() })
    }

    /// What is known where no SQL can be run: nothing.
    pub fn of_nothing() -> Self {
        let nothing = Arc::default();
        Self {
            catalogue: Arc::clone(&nothing),
            as_read: nothing,
            read_at: Instant::now(),
            changes: 0,
            changes_now: Arc::default(),
        }
    }

    /// Whether it may still be used.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.read_at) < FRESH && !self.is_outdated()
    }

    /// Whether a session of this daemon has changed the schema since.
    pub fn is_outdated(&self) -> bool {
        self.changes_now.load(Ordering::Acquire) != self.changes
    }
}

/// What of a session's snapshot may not be so any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// Nothing.
    Nothing,
    /// The path along which names are looked up.
    Path,
    /// All of it.
    Schema,
}

/// Who is to read a changed schema anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nobody else: the change is of how this session looks names up.
    Own,
    /// Sessions that begin: the change is the session's own (a temporary object), or may be none at all.
    Later,
    /// All.
    All,
}

/// All shared snapshots.
#[derive(Debug, Default)]
pub struct Catalogues {
    places: Mutex<HashMap<Place, Arc<Known>>>,
}

/// What a startup message sets of how names are looked up: `search_path`, `role`.
type Moving = Vec<(String, String)>;

/// How many such ways are kept for a database. One that is one too many takes the place of the oldest.
const WAYS: usize = 16;

/// What is known of one database.
#[derive(Debug, Default)]
struct Known {
    snapshots: tokio::sync::Mutex<HashMap<Moving, Snapshot>>,
    tagged: Mutex<Tagged>,
    /// How often a session has changed the schema for all.
    changes: Arc<AtomicU64>,
    /// The log has been told of the login's rights.
    is_told: AtomicBool,
}

/// Columns that bear a tag, by the oid and number that they keep when they are renamed.
type Tagged = HashMap<(u32, i16), ColumnName>;

impl Catalogues {
    /// The shared snapshot of `target`'s database for sessions that begin with `moving`, read over `side` if there is no
    /// fresh one. Sessions that start together wait for the first one's snapshot instead of reading one each.
    ///
    /// # Errors
    /// The database would not show its catalogue.
    pub async fn of(
        &self,
        target: &TargetFacts,
        place: &Place,
        moving: &[(String, String)],
        side: &mut Side<Transport>,
    ) -> Result<Snapshot, LoginError> {
        let known = self.known(place);
        let mut shared = known.snapshots.lock().await;
        if let Some(snapshot) = shared.get(moving).filter(|snapshot| snapshot.is_fresh(Instant::now())) {
            return Ok(snapshot.clone());
        }
        let snapshot = self.read(target, place, side, &mut TransactionStatus::Idle).await?;
        if !known.is_told.swap(true, Ordering::Relaxed) {
            let columns: Vec<(u32, i16)> =
                known.tagged.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
            let question = advice::query(columns.into_iter());
            let answer = query_unhurried(side, &[&question], &mut TransactionStatus::Idle).await?;
            advice::warn(target, answer.first().map_or(&[][..], Vec::as_slice));
        }
        keep(&mut shared, moving, snapshot.clone());
        Ok(snapshot)
    }

    /// Reads a snapshot over an idle session: with it come the session's own temporary objects and whatever its
    /// open transaction has changed. Tags follow columns and tables that were renamed since they were first seen.
    ///
    /// # Errors
    /// The database would not show its catalogue, or not in the shape that is expected.
    pub async fn read(
        &self,
        target: &TargetFacts,
        place: &Place,
        side: &mut Side<Transport>,
        status: &mut TransactionStatus,
    ) -> Result<Snapshot, LoginError> {
        let known = self.known(place);
        // What changes while it is read is read again.
        let changes = known.changes.load(Ordering::Acquire);
        let rows = query_unhurried(side, snapshot::QUERIES, status).await?;
        let mut catalogue =
            snapshot::build(&rows).map_err(|error| LoginError::Protocol(error.to_string()))?;
        let mut tagged = known.tagged.lock().unwrap_or_else(PoisonError::into_inner);
        learn_tagged(&mut tagged, target, &catalogue);
        follow_renames(&tagged, target, &mut catalogue);
        let changes_now = Arc::clone(&known.changes);
        let catalogue = Arc::new(catalogue);
        let as_read = Arc::clone(&catalogue);
        Ok(Snapshot { catalogue, as_read, read_at: Instant::now(), changes, changes_now })
    }

    /// Makes the next session of `place` read the schema anew: a statement may have changed it. `Reach::All`: those
    /// that are open as well, before their next statement. `Reach::Own`: none.
    pub async fn outdate(&self, place: &Place, reach: Reach) {
        if reach == Reach::Own {
            return;
        }
        let known = self.known(place);
        if reach == Reach::All {
            known.changes.fetch_add(1, Ordering::AcqRel);
        }
        known.snapshots.lock().await.clear();
    }

    fn known(&self, place: &Place) -> Arc<Known> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(place.clone()).or_default())
    }
}

/// Keeps a snapshot. The one of sessions that set nothing is not an agent's to push out.
fn keep(shared: &mut HashMap<Moving, Snapshot>, moving: &[(String, String)], snapshot: Snapshot) {
    if shared.len() >= WAYS && !shared.contains_key(moving) {
        let others = shared.iter().filter(|(other, _)| !other.is_empty());
        let oldest = others.min_by_key(|(_, snapshot)| snapshot.read_at).map(|(other, _)| other.clone());
        oldest.map(|oldest| shared.remove(&oldest));
    }
    shared.insert(moving.to_vec(), snapshot);
}

/// Remembers which columns bear tags now, and warns of tags that no column bears.
fn learn_tagged(tagged: &mut Tagged, target: &TargetFacts, catalogue: &Catalogue) {
    let mut missing: HashSet<&str> = target.tags.keys().map(String::as_str).collect();
    for name in tagged.values() {
        missing.remove(name.to_string().as_str());
    }
    for relation in catalogue.relations.values() {
        for column in &relation.columns {
            let name = ColumnName { relation: relation.name.clone(), column: column.name.clone() };
            let text = name.to_string();
            if target.tags.contains_key(&text) {
                missing.remove(text.as_str());
                tagged.entry((relation.oid, column.number)).or_insert(name);
            }
        }
    }
    for column in missing {
        tracing::warn!(target = %target.name, column, "the configuration tags a column that the database does not have");
    }
}

/// Adds to a renamed column the name under which it was tagged, and to everything that shows it.
fn follow_renames(tagged: &Tagged, target: &TargetFacts, catalogue: &mut Catalogue) {
    let mut renamed: HashMap<ColumnName, ColumnName> = HashMap::new();
    for ((oid, number), before) in tagged {
        if let Some((relation, column)) = catalogue.column(*oid, *number) {
            let now = ColumnName { relation: relation.name.clone(), column: column.name.clone() };
            if now != *before && !target.tags.contains_key(&now.to_string()) {
                tracing::warn!(
                    target = %target.name, tagged = %before, %now,
                    "a tagged column was renamed; its tags follow it until the daemon restarts: change the configuration"
                );
                renamed.insert(now, before.clone());
            }
        }
    }
    if renamed.is_empty() {
        return;
    }
    for relation in Arc::make_mut(&mut catalogue.relations).values_mut() {
        for column in &mut relation.columns {
            let before: Vec<ColumnName> =
                column.origins.iter().filter_map(|origin| renamed.get(origin)).cloned().collect();
            column.origins.extend(before);
        }
    }
    // What was read against the schema without the old names must not be taken for what is read now.
    catalogue.epoch = catalogue.epoch.rotate_left(1) ^ u64::try_from(renamed.len()).unwrap_or(u64::MAX);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{
        catalogue::{Column, Relation, RelationKind},
        statement::RelationName,
    };

    fn column_name(table: &str, column: &str) -> ColumnName {
        let relation = RelationName { schema: "public".to_owned(), name: table.to_owned() };
        ColumnName { relation, column: column.to_owned() }
    }

    fn catalogue(table: &str, column: &str) -> Catalogue {
        let name = column_name(table, column);
        let mut catalogue = Catalogue::default();
        catalogue.insert(Relation {
            oid: 7,
            name: name.relation.clone(),
            kind: RelationKind::Table,
            columns: vec![Column {
                name: column.to_owned(),
                number: 2,
                type_oid: 25,
                modifier: -1,
                collation: 100,
                origins: BTreeSet::from([name]),
                is_computed: false,
            }],
        });
        catalogue
    }

    #[test]
    fn no_more_ways_of_looking_names_up_are_kept_than_there_is_room_for() {
        let way = |path: usize| vec![("search_path".to_owned(), path.to_string())];
        let mut shared = HashMap::new();
        keep(&mut shared, &[], Snapshot::of_nothing());
        for path in 0..3 * WAYS {
            keep(&mut shared, &way(path), Snapshot::of_nothing());
        }
        assert_eq!(shared.len(), WAYS);
        assert!(shared.contains_key(&way(3 * WAYS - 1)) && shared.contains_key(&[][..]));
    }

    #[test]
    fn tags_follow_a_renamed_column_and_a_renamed_table() {
        let tags = [("public.customers.email".to_owned(), BTreeSet::from(["pii".to_owned()]))];
        let target = TargetFacts { name: "shop".to_owned(), tags: tags.into() };
        let mut tagged = Tagged::new();
        learn_tagged(&mut tagged, &target, &catalogue("customers", "email"));
        for (table, column) in [("customers", "contact"), ("people", "email")] {
            let mut now = catalogue(table, column);
            follow_renames(&tagged, &target, &mut now);
            let origins = &now.column(7, 2).unwrap().1.origins;
            assert!(origins.contains(&column_name("customers", "email")), "{origins:?}");
            assert!(origins.contains(&column_name(table, column)), "{origins:?}");
        }
    }
}
