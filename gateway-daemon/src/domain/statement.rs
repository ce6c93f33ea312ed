//! One SQL statement, whatever the dialect: what it does, what it touches, what each result column shows.
//!
//! The `sql` room makes these from text and catalogue, `policy` judges them, `session` maps the decision
//! onto result columns. Uncertainty is a value here (`Opaque`, `Origin::Unknown`), never an omission.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::results::Results;

/// The policy action of a statement, `sql:<verb>` in Cedar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads rows.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Removes rows.
    Delete,
    /// MERGE.
    Merge,
    /// Empties tables.
    Truncate,
    /// Creates an object.
    Create,
    /// Changes an object.
    Alter,
    /// Removes an object.
    Drop,
    /// Changes privileges, roles or ownership.
    Grant,
    /// COPY, in either direction.
    Copy,
    /// Runs code whose effects cannot be read: CALL, DO, functions of unknown body.
    Call,
    /// SET, RESET, DISCARD and their like.
    Set,
    /// BEGIN, COMMIT, SAVEPOINT and their like.
    Transaction,
    /// EXPLAIN; what it explains is judged as well.
    Explain,
    /// VACUUM, ANALYZE, REINDEX, CHECKPOINT and their like.
    Maintenance,
    /// LISTEN, LOCK, SHOW, DECLARE and whatever else is named but fits nowhere above.
    Other,
    /// Calls a function by its oid, past SQL (the protocol's FunctionCall).
    #[serde(rename = "function_call")]
    FunctionCall,
    /// Opens a replication connection, or runs a command of its grammar.
    Replication,
    /// Streams changes both ways (COPY BOTH).
    #[serde(rename = "copy_both")]
    CopyBoth,
    /// Sends by replication what cannot be masked there, though it is masked elsewhere or nobody can know.
    #[serde(rename = "replication_unmasked")]
    ReplicationUnmasked,
    /// Runs code that cannot be followed to the columns that it shows, though something is masked.
    #[serde(rename = "call_unmasked")]
    CallUnmasked,
}

impl Verb {
    /// Every verb, in the order of the policy schema.
    pub const ALL: [Self; 22] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::Create,
        Self::Alter,
        Self::Drop,
        Self::Grant,
        Self::Copy,
        Self::Call,
        Self::Set,
        Self::Transaction,
        Self::Explain,
        Self::Maintenance,
        Self::Other,
        Self::FunctionCall,
        Self::Replication,
        Self::CopyBoth,
        Self::ReplicationUnmasked,
        Self::CallUnmasked,
    ];

    /// Whether a policy permits this only by its name: one for every action leaves it closed.
    pub const fn must_be_named(self) -> bool {
        matches!(
            self,
            Self::FunctionCall
                | Self::Replication
                | Self::CopyBoth
                | Self::ReplicationUnmasked
                | Self::CallUnmasked
        )
    }

    /// Whether it changes rows, whose number a policy can limit.
    pub const fn changes_rows(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Delete | Self::Merge | Self::Truncate)
    }

    /// The name as policies spell it, without the `sql:` prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Truncate => "truncate",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Drop => "drop",
            Self::Grant => "grant",
            Self::Copy => "copy",
            Self::Call => "call",
            Self::Set => "set",
            Self::Transaction => "transaction",
            Self::Explain => "explain",
            Self::Maintenance => "maintenance",
            Self::Other => "other",
            Self::FunctionCall => "function_call",
            Self::Replication => "replication",
            Self::CopyBoth => "copy_both",
            Self::ReplicationUnmasked => "replication_unmasked",
            Self::CallUnmasked => "call_unmasked",
        }
    }
}

/// A table, view or other relation, by resolved name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RelationName {
    /// Schema, resolved through the pinned search path.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
}

impl std::fmt::Display for RelationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnName {
    /// The relation that holds it.
    pub relation: RelationName,
    /// Its name.
    pub column: String,
}

impl std::fmt::Display for ColumnName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.relation, self.column)
    }
}

/// What a statement does to what: one policy question each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Effect {
    /// The action.
    pub verb: Verb,
    /// The relation that it touches; `None` when it touches the database as a whole, or no relation at all.
    pub relation: Option<RelationName>,
}

/// How a statement uses a column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnUse {
    /// The value can reach a result column, which can then be masked.
    Projected,
    /// A definition moves, copies, detaches, checks, sorts, exposes or re-derives the column, or something that it is made
    /// of: afterwards its values would be where no tag is, or the outcome tells of them. Needs no permit of its own.
    Defined,
    /// Only whether there is a value is looked at (IS NULL, `count`).
    Tested,
    /// The value is only held against others that the statement brings along, by `=`, `<>`, IN or `= ANY`: it tells
    /// which rows hold a value that is known already.
    Matched,
    /// The value steers the statement in any other way (WHERE, JOIN, ORDER BY, GROUP BY, HAVING, LIMIT…): an oracle.
    Compared,
    /// The value is computed with in a way that is not known to succeed for every value there is, or decides whether
    /// something else is run (CASE): an error would tell. Not said of a column that is compared as well.
    Computed,
    /// The value is stored elsewhere or leaves by a way that cannot be masked
    /// (INSERT … SELECT, UPDATE SET from, CREATE TABLE AS or VIEW, COPY TO, DECLARE CURSOR, PREPARE…).
    Moved,
    /// The column is assigned by the statement (INSERT column, UPDATE target).
    Written,
}

/// A column read or written, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnAccess {
    /// Which column.
    pub column: ColumnName,
    /// How it is used.
    pub usage: ColumnUse,
}

/// Something in the statement whose effects cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Opaque {
    /// A function whose body is unknown, by the name that the statement used.
    Function(String),
    /// An operator that is not PostgreSQL's own.
    Operator(String),
    /// DO, CALL, EXECUTE of an unknown statement and their like.
    Code(String),
}

/// Whether UPDATE or DELETE is limited by a WHERE clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowLimit {
    /// The statement does not update or delete rows, or each of its updates and deletes has a WHERE clause.
    Limited,
    /// At least one UPDATE or DELETE has no WHERE clause.
    Unlimited,
}

/// Which part COPY plays, since it switches the wire protocol's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyDirection {
    /// COPY … FROM STDIN.
    FromClient,
    /// COPY … TO STDOUT.
    ToClient,
    /// COPY from or to a server-side file or program.
    ServerSide,
}

/// What an INSERT does where a row with the same key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Nothing: how many rows it has added tells whether it is there.
    Nothing,
    /// It changes that row.
    Update,
}

/// What is asked of a replication connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationCommand {
    /// To be one, for one database.
    ConnectDatabase,
    /// To be one, for the whole server.
    ConnectPhysical,
    /// `IDENTIFY_SYSTEM`.
    IdentifySystem,
    /// `SHOW` of a parameter.
    Show,
    /// `READ_REPLICATION_SLOT`.
    ReadReplicationSlot,
    /// `CREATE_REPLICATION_SLOT`.
    CreateReplicationSlot,
    /// `ALTER_REPLICATION_SLOT`.
    AlterReplicationSlot,
    /// `DROP_REPLICATION_SLOT`.
    DropReplicationSlot,
    /// `START_REPLICATION … LOGICAL`: the changes of one database.
    StartLogical,
    /// `START_REPLICATION`: the write-ahead log of the whole server.
    StartPhysical,
    /// `TIMELINE_HISTORY`.
    TimelineHistory,
    /// `BASE_BACKUP`: all files of the server.
    BaseBackup,
}

impl ReplicationCommand {
    /// The name as policies spell it: `context.replication`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectDatabase => "connect_database",
            Self::ConnectPhysical => "connect_physical",
            Self::IdentifySystem => "identify_system",
            Self::Show => "show",
            Self::ReadReplicationSlot => "read_replication_slot",
            Self::CreateReplicationSlot => "create_replication_slot",
            Self::AlterReplicationSlot => "alter_replication_slot",
            Self::DropReplicationSlot => "drop_replication_slot",
            Self::StartLogical => "start_logical",
            Self::StartPhysical => "start_physical",
            Self::TimelineHistory => "timeline_history",
            Self::BaseBackup => "base_backup",
        }
    }

    /// Whether it concerns every database of the server, of which no single session can know what is masked.
    pub const fn is_of_the_whole_server(self) -> bool {
        matches!(self, Self::ConnectPhysical | Self::StartPhysical | Self::BaseBackup)
    }
}

/// How a statement changes the session's own state, as far as the session must follow it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEffect {
    /// None that matters.
    None,
    /// PREPARE name AS statement.
    Prepare {
        /// The prepared statement's name.
        name: String,
        /// The statement behind AS, as it will run at EXECUTE.
        statement: Box<Statement>,
    },
    /// EXECUTE name.
    Execute {
        /// The prepared statement's name.
        name: String,
    },
    /// DEALLOCATE name; `None` means all.
    Deallocate {
        /// The prepared statement's name.
        name: Option<String>,
    },
}

/// When a statement does what its effects say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// When it is run.
    #[default]
    Now,
    /// Not by itself: EXPLAIN without ANALYZE only plans it, PREPARE keeps it for EXECUTE.
    NotYet,
}

impl Run {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    fn is_now(&self) -> bool {
        *self == Self::Now
    }
}

/// What a statement does to the transaction around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStep {
    /// Nothing.
    None,
    /// Begins one, or a part of one.
    Begins,
    /// Undoes it, or a part of it.
    Undoes,
    /// Makes what it did permanent.
    Keeps,
}

/// What a statement does to the path along which names without a schema are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchPathStep {
    /// Nothing.
    None,
    /// Sets it, or makes the session another role's, which may find other schemas.
    #[serde(alias = "empties")]
    Moves,
    /// Brings back what the session began with.
    Resets,
    /// Throws away what is temporary, which stood before others of its name; DISCARD ALL resets the path as well.
    Discards,
}

/// What of earlier statements a statement goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continues {
    /// Nothing.
    #[default]
    Nothing,
    /// A cursor's query.
    Cursor,
    /// Constraints and triggers that were deferred.
    Deferred,
}

impl Continues {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// One statement, read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Statement {
    /// What it does, at least one entry. A SELECT that reads no table has `(Select, None)`.
    pub effects: BTreeSet<Effect>,
    /// Those of its effects on rows that its command tag does not count: of a WITH, an EXPLAIN ANALYZE, a TRUNCATE, or
    /// of code that it defines.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub uncounted: BTreeSet<Effect>,
    /// When it does what its effects say.
    #[serde(default, skip_serializing_if = "Run::is_now")]
    pub run: Run,
    /// Every column that it reads or writes, by role. A column that may be meant by an ambiguous name is listed.
    pub columns: BTreeSet<ColumnAccess>,
    /// Projected columns that an expression puts together with a constant or a parameter: what is shown may tell how the
    /// two compare, and the constant be one that somebody knows the column to hold.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub beside_constants: BTreeSet<ColumnName>,
    /// The columns of the rows that it returns to the client.
    #[serde(default, skip_serializing_if = "Results::is_default")]
    pub results: Results,
    /// Functions called, schema-qualified as resolved (`pg_catalog.upper`), or as written when unresolved.
    pub functions: BTreeSet<String>,
    /// What cannot be read. Not empty: policies see `context.opaque`, and the effect `(Call, None)` is present.
    pub opaque: BTreeSet<Opaque>,
    /// What of it nobody can follow to the columns that it may show: code that cannot be read, but for what of
    /// PostgreSQL's own sees no table, and what a foreign server answers. Where something is masked, policy must name it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub out_of_sight: BTreeSet<String>,
    /// Whether an UPDATE or DELETE lacks its WHERE clause.
    pub row_limit: RowLimit,
    /// Set for COPY.
    pub copy: Option<CopyDirection>,
    /// Set for INSERT … ON CONFLICT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
    /// What the session must remember of it.
    pub session_effect: SessionEffect,
    /// What it does to its transaction.
    pub transaction: TransactionStep,
    /// What it does to the search path.
    pub search_path: SearchPathStep,
    /// Set for what is asked of a replication connection, outside of SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationCommand>,
    /// What of it is refused wherever something is masked, whatever policy says: "setting role", "reading pg_cursors".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpins: Option<String>,
    /// What of earlier statements it goes on with.
    #[serde(default, skip_serializing_if = "Continues::is_nothing")]
    pub continues: Continues,
    /// Notifications that it sends, channel and payload, as far as they are written out. Not part of what policies are
    /// shown, nor of what is recorded.
    #[serde(skip)]
    pub notifies: BTreeSet<(String, String)>,
}

impl Statement {
    /// One that does this, to no relation, and nothing else.
    pub fn plain(effects: impl IntoIterator<Item = Verb>) -> Self {
        Self {
            effects: effects.into_iter().map(|verb| Effect { verb, relation: None }).collect(),
            uncounted: BTreeSet::new(),
            run: Run::Now,
            columns: BTreeSet::new(),
            beside_constants: BTreeSet::new(),
            results: Results::default(),
            functions: BTreeSet::new(),
            opaque: BTreeSet::new(),
            out_of_sight: BTreeSet::new(),
            row_limit: RowLimit::Limited,
            copy: None,
            on_conflict: None,
            session_effect: SessionEffect::None,
            transaction: TransactionStep::None,
            search_path: SearchPathStep::None,
            replication: None,
            unpins: None,
            continues: Continues::Nothing,
            notifies: BTreeSet::new(),
        }
    }

    /// Whether it does this to anything.
    pub fn does(&self, verb: Verb) -> bool {
        self.effects.iter().any(|effect| effect.verb == verb)
    }
}
