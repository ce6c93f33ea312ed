//! What a statement reaches beside what it says: the relations and functions that the server goes through for it, and
//! whether a value that is masked could get from there into a message.
//!
//! Messages come from two mouths. PostgreSQL's own errors quote values in certain fields, by their SQLSTATE; and code that
//! somebody has written says whatever it likes. So it is asked apart: whether a masked column is in reach at all, whether
//! something in reach computes with one in a way that can fail, and whether code in reach can see one.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::domain::catalogue::{Catalogue, Relation, RelationKind};
use crate::domain::code::{Attached, Events, Expression, Language, Text};
use crate::domain::statement::{
    ColumnName, ColumnUse, Continues, CopyDirection, Opaque, RelationName, Statement, TransactionStep, Verb,
};

use super::{body, functions, reader};

/// Code that can see a masked column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// PL/pgSQL: whatever it says bears its name in the message's context.
    InContext(RelationName),
    /// Code that may speak without one.
    Anywhere(String),
}

/// What a statement reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// A relation with a masked column.
    pub touches: bool,
    /// Something that computes with a masked column and can fail by its value.
    pub computes: bool,
    /// Code that is not PostgreSQL's own.
    pub has_code: bool,
    /// Code that can see a masked column; what may speak anywhere comes last.
    pub speakers: BTreeSet<Speaker>,
    /// Relations that it names and nobody knows.
    pub unknown: BTreeSet<RelationName>,
    /// Such code notifies, or may.
    pub notifies: bool,
    /// Nothing but a definition: its names are looked up in the catalogue, never in values.
    pub defines: bool,
}

/// What the statements of a message reach, where these columns are masked.
pub fn reach(
    statements: &[Statement],
    catalogue: &Catalogue,
    is_masked: &dyn Fn(&ColumnName) -> bool,
) -> Reach {
    let mut walk = Walk::new(catalogue, is_masked);
    let is_definition = |statement: &Statement| {
        !statement.effects.is_empty()
            && statement.effects.iter().all(|effect| {
                matches!(effect.verb, Verb::Create | Verb::Alter | Verb::Drop | Verb::Grant | Verb::Truncate)
            })
    };
    for statement in statements {
        walk.statement(statement);
    }
    walk.found.defines = !statements.is_empty() && statements.iter().all(is_definition);
    walk.finish()
}

/// What waits for the end of a transaction: anything that may be deferred.
pub fn reach_of_deferred(catalogue: &Catalogue, is_masked: &dyn Fn(&ColumnName) -> bool) -> Reach {
    let mut walk = Walk::new(catalogue, is_masked);
    walk.deferred();
    walk.finish()
}

/// Everything in the database.
pub fn reach_of_all(catalogue: &Catalogue, is_masked: &dyn Fn(&ColumnName) -> bool) -> Reach {
    let mut walk = Walk::new(catalogue, is_masked);
    walk.everything();
    walk.finish()
}

/// What a function can see by itself.
#[derive(Debug, Clone, Copy, Default)]
struct Sight {
    sees: bool,
    notifies: bool,
}

/// Goes from relation to relation and from function to function, each once.
struct Walk<'a> {
    catalogue: &'a Catalogue,
    is_masked: &'a dyn Fn(&ColumnName) -> bool,
    found: Reach,
    relations: HashMap<u32, Events>,
    functions: HashSet<u32>,
    /// Functions that were handed a masked value.
    given: BTreeSet<u32>,
    open: Vec<(u32, Events)>,
    /// Something computes with masked columns of rows that are inserted.
    computes_inserted: bool,
}

impl<'a> Walk<'a> {
    fn new(catalogue: &'a Catalogue, is_masked: &'a dyn Fn(&ColumnName) -> bool) -> Self {
        Self {
            catalogue,
            is_masked,
            found: Reach::default(),
            relations: HashMap::new(),
            functions: HashSet::new(),
            given: BTreeSet::new(),
            open: Vec::new(),
            computes_inserted: false,
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let reads_masked = statement.columns.iter().any(|access| {
            !matches!(access.usage, ColumnUse::Written | ColumnUse::Tested)
                && self.shows_masked(&access.column)
        });
        self.found.touches |= reads_masked;
        self.found.computes |= reads_masked;
        for effect in &statement.effects {
            let events = events(effect.verb, statement.copy);
            if matches!(
                effect.verb,
                Verb::Create | Verb::Alter | Verb::Drop | Verb::Grant | Verb::Maintenance
            ) {
                for function in &self.catalogue.code.on_definition {
                    self.function(*function);
                }
            }
            match &effect.relation {
                Some(name) => match self.catalogue.relation(name) {
                    Some(relation) => {
                        self.visit(relation.oid, events);
                        // Statistics of expressions, whatever is kept sorted.
                        self.found.computes |=
                            effect.verb == Verb::Maintenance && is_masked(relation, self.is_masked);
                    }
                    // It is not there, or has come without anybody's knowing what hangs on it.
                    None => {
                        self.found.unknown.insert(name.clone());
                        self.found.touches = true;
                        self.found.computes = true;
                    }
                },
                // A type, a domain: what is checked anew are columns that nobody has named.
                None if effect.verb == Verb::Alter => {
                    self.found.touches = true;
                    self.found.computes = true;
                }
                None if effect.verb == Verb::Maintenance => self.all_relations(Events::DEFINE),
                None => {}
            }
        }
        if statement.transaction == TransactionStep::Keeps {
            self.deferred();
        }
        match statement.continues {
            Continues::Nothing => {}
            Continues::Cursor => self.everything(),
            Continues::Deferred => self.deferred(),
        }
        // Whatever converts a value without being asked to.
        for function in &self.catalogue.code.anywhere {
            self.handed_if_code(*function, reads_masked);
        }
        self.called(statement, reads_masked);
    }

    /// Functions and operators that the statement itself names.
    fn called(&mut self, statement: &Statement, reads_masked: bool) {
        let code = &self.catalogue.code;
        for written in &statement.functions {
            match written.strip_prefix("pg_catalog.") {
                Some(own) if functions::runs_anything(own) => self.unreadable(&format!("{own}()")),
                Some(_) => {}
                None => self.by_name(&code.by_name, written, reads_masked),
            }
        }
        for opaque in &statement.opaque {
            match opaque {
                Opaque::Function(name) if name.starts_with("pg_catalog.") => {}
                Opaque::Function(name) => self.by_name(&code.by_name, name, reads_masked),
                Opaque::Operator(name) => self.by_name(&code.operators, name, reads_masked),
                Opaque::Code(what) => match what.split_once(' ') {
                    // What it calls is listed with the functions, what it reads with the relations.
                    Some(("CALL" | "view" | "SET", _)) => {}
                    Some(("type", name)) => {
                        let name = name.rsplit('.').next().unwrap_or(name);
                        let known = code.domains_by_name.get(name).cloned().unwrap_or_default();
                        for function in known.into_iter().chain(code.anywhere.iter().copied()) {
                            self.handed(function, reads_masked);
                        }
                    }
                    Some(("CREATE", "TRIGGER" | "RULE" | "FUNCTION")) => {}
                    _ => self.unreadable(what),
                },
            }
        }
    }

    fn by_name(&mut self, index: &HashMap<String, Vec<u32>>, written: &str, is_given: bool) {
        let name = written.rsplit('.').next().unwrap_or(written);
        match index.get(name) {
            Some(functions) => {
                for function in functions.clone() {
                    self.handed(function, is_given);
                }
            }
            None => self.unreadable(written),
        }
    }

    fn handed(&mut self, function: u32, is_given: bool) {
        self.function(function);
        if is_given && self.given.insert(function) {
            // An aggregate hands on what it is given.
            let called = self.catalogue.code.functions.get(&function);
            let called = called.filter(|function| function.language == Language::Harmless);
            for other in called.into_iter().flat_map(|function| &function.calls) {
                self.handed(*other, true);
            }
        }
    }

    /// Code of which nothing is known.
    fn unreadable(&mut self, what: &str) {
        self.found.touches = true;
        self.found.computes = true;
        self.found.has_code = true;
        self.found.notifies = true;
        self.found.speakers.insert(Speaker::Anywhere(what.to_owned()));
    }

    fn deferred(&mut self) {
        self.found.touches = true;
        let code = &self.catalogue.code;
        for (relation, attached) in &code.attached {
            for trigger in attached.triggers.iter().filter(|trigger| trigger.is_deferrable) {
                self.function(trigger.function);
                if self.relation_is_masked(*relation) {
                    self.given.insert(trigger.function);
                }
            }
        }
        self.settle();
    }

    fn everything(&mut self) {
        self.found.touches = true;
        self.found.computes = true;
        self.all_relations(Events::ALL);
        for function in self.catalogue.code.functions.keys() {
            self.function(*function);
        }
    }

    fn all_relations(&mut self, events: Events) {
        for relation in self.catalogue.code.relations.values().flatten() {
            self.visit(*relation, events);
        }
    }

    fn visit(&mut self, relation: u32, events: Events) {
        self.open.push((relation, events));
        self.settle();
    }

    fn settle(&mut self) {
        while let Some((oid, events)) = self.open.pop() {
            let seen = self.relations.entry(oid).or_default();
            let new = events.without(*seen);
            if new.is_empty() && *seen != Events::NONE {
                continue;
            }
            *seen = seen.and(events);
            self.relation(oid, new);
        }
    }

    fn relation(&mut self, oid: u32, events: Events) {
        let Some(relation) = self.catalogue.relations.get(&oid) else { return };
        let masked = self.relation_is_masked(oid);
        self.found.touches |= masked;
        if relation.kind == RelationKind::ForeignTable && events.meets(Events::ALL.without(Events::DEFINE)) {
            self.found.touches = true;
            let server = format!("the server behind {}", relation.name);
            self.found.speakers.insert(Speaker::Anywhere(server));
        }
        let code = &self.catalogue.code;
        let written = Events::WRITE.and(Events::DEFINE);
        if events.meets(written) {
            for function in &code.anywhere {
                self.handed_if_code(*function, masked);
            }
            for column in &relation.columns {
                for function in self.domain_functions(column.type_oid) {
                    self.handed(function, masked);
                }
            }
            self.referencing(oid, events);
        }
        if let Some(attached) = code.attached.get(&oid) {
            self.attached(relation, attached, events, masked);
        }
    }

    fn attached(&mut self, relation: &Relation, attached: &Attached, events: Events, masked: bool) {
        for trigger in attached.triggers.iter().filter(|trigger| trigger.events.meets(events)) {
            let sees = masked && (trigger.has_tables || self.takes_masked(trigger.function, relation));
            self.handed(trigger.function, sees);
        }
        for (function, when) in &attached.functions {
            if when.meets(events) {
                self.handed(*function, masked || self.parts_are_masked(attached));
            }
        }
        for expression in attached.expressions.iter().filter(|expression| expression.events.meets(events)) {
            let fails_by = fails_by(expression, relation, self.catalogue);
            let computes = fails_by.iter().any(|column| self.shows_masked(column));
            // What is inserted is the client's own, unless code has put something else into the row.
            if events.without(Events::INSERT.and(Events::READ)).is_empty()
                && !expression.events.meets(Events::READ)
            {
                self.computes_inserted |= computes;
            } else {
                self.found.computes |= computes;
            }
        }
        if events.meets(Events::WRITE) {
            for other in &attached.ruled {
                self.open.push((*other, Events::ALL));
                // What a rule does is not read further than that.
                self.found.computes |= self.relation_is_masked(*other);
            }
        }
        // A stored view is not read through, until it is made anew.
        let reads_through = relation.kind != RelationKind::MaterialisedView || events.meets(Events::DEFINE);
        if reads_through {
            let through = if events.meets(Events::WRITE) { events.and(Events::READ) } else { events };
            for part in &attached.parts {
                self.open.push((*part, through));
            }
        }
        for child in &attached.children {
            self.open.push((*child, events));
        }
    }

    /// What referential actions do to the tables that reference this one.
    fn referencing(&mut self, parent: u32, events: Events) {
        let code = &self.catalogue.code;
        let keys = code.referenced.get(&parent).into_iter().flatten();
        for key in keys.filter_map(|place| code.foreign_keys.get(*place)) {
            let mut done = Events::NONE;
            if events.meets(Events::DELETE) {
                done = done.and(key.on_delete);
            }
            if events.meets(Events::UPDATE) {
                done = done.and(key.on_update);
            }
            done = done.and(events.common(Events::TRUNCATE));
            if !done.is_empty() {
                self.open.push((key.child, done));
            }
        }
    }

    /// Functions that are written in no language of which the compiled code is known.
    fn handed_if_code(&mut self, function: u32, is_given: bool) {
        let functions = &self.catalogue.code.functions;
        if functions.get(&function).is_none_or(|function| function.language != Language::Harmless) {
            self.handed(function, is_given);
        }
    }

    fn domain_functions(&self, mut oid: u32) -> Vec<u32> {
        use crate::domain::catalogue::TypeKind;
        let mut functions = Vec::new();
        let mut open = vec![oid];
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            oid = next;
            if !seen.insert(oid) {
                continue;
            }
            functions.extend(self.catalogue.code.domains.get(&oid).into_iter().flatten());
            match self.catalogue.types.get(&oid) {
                Some(
                    TypeKind::Domain(inner)
                    | TypeKind::Array(inner)
                    | TypeKind::Range(inner)
                    | TypeKind::Multirange(inner),
                ) => open.push(*inner),
                Some(TypeKind::Composite(fields)) => open.extend(fields),
                Some(TypeKind::Enum(_) | TypeKind::Base(_)) | None => {}
            }
        }
        functions
    }

    fn function(&mut self, oid: u32) {
        if !self.functions.insert(oid) {
            return;
        }
        let code = &self.catalogue.code;
        let Some(function) = code.functions.get(&oid) else {
            self.unreadable("code that has just come");
            return;
        };
        self.found.has_code |= function.language != Language::Harmless;
        let body = body::body(function);
        let named = |index: &HashMap<String, Vec<u32>>, names: &BTreeSet<String>| -> Vec<u32> {
            names.iter().filter_map(|name| index.get(name)).flatten().copied().collect()
        };
        for relation in named(&code.relations, &body.names).into_iter().chain(function.uses.iter().copied()) {
            self.open.push((relation, Events::ALL));
        }
        let called = named(&code.by_name, &body.names)
            .into_iter()
            .chain(named(&code.operators, &body.operators))
            .chain(named(&code.domains_by_name, &body.names))
            .chain(function.calls.iter().copied());
        for other in called.collect::<Vec<_>>() {
            self.function(other);
        }
    }

    /// Settles which of the functions in reach can see something, each by what is in its own reach.
    fn finish(mut self) -> Reach {
        self.settle();
        let mut known = HashMap::new();
        let mut speakers = Vec::new();
        for oid in &self.functions {
            let Some(function) = self.catalogue.code.functions.get(oid) else { continue };
            if function.language == Language::Harmless {
                continue;
            }
            let sight = sight(*oid, self.catalogue, self.is_masked, &mut known);
            if !sight.sees && !self.given.contains(oid) {
                continue;
            }
            self.found.touches = true;
            self.found.notifies |= sight.notifies;
            let name = function.name.clone();
            let speaker = match function.language {
                // It says nothing of its own, but fails as PostgreSQL does, and where it is put into the statement nothing
                // tells it apart from that.
                Language::Sql => {
                    self.found.computes = true;
                    continue;
                }
                Language::PlPgSql => Speaker::InContext(name),
                Language::Harmless | Language::Compiled | Language::Unreadable => {
                    Speaker::Anywhere(name.to_string())
                }
            };
            speakers.push(speaker);
        }
        self.found.speakers.extend(speakers);
        self.found.computes |= self.computes_inserted && !self.found.speakers.is_empty();
        self.found
    }

    /// Whether a trigger's function looks at a masked column of its row.
    fn takes_masked(&self, function: u32, relation: &Relation) -> bool {
        let Some(function) = self.catalogue.code.functions.get(&function) else { return true };
        let Some(fields) = body::fields(function) else { return true };
        relation.columns.iter().any(|column| {
            fields.contains(&column.name) && column.origins.iter().any(|origin| (self.is_masked)(origin))
        })
    }

    fn relation_is_masked(&self, oid: u32) -> bool {
        self.catalogue.relations.get(&oid).is_some_and(|relation| is_masked(relation, self.is_masked))
    }

    fn parts_are_masked(&self, attached: &Attached) -> bool {
        attached.parts.iter().chain(&attached.ruled).any(|part| self.relation_is_masked(*part))
    }

    fn shows_masked(&self, name: &ColumnName) -> bool {
        if (self.is_masked)(name) {
            return true;
        }
        match self.catalogue.relation(&name.relation) {
            Some(relation) => relation
                .columns
                .iter()
                .filter(|column| column.name == name.column)
                .any(|column| column.origins.iter().any(|origin| (self.is_masked)(origin))),
            None => false,
        }
    }
}

/// Whether one of a relation's columns shows one that is masked.
pub(super) fn is_masked(relation: &Relation, is_masked: &dyn Fn(&ColumnName) -> bool) -> bool {
    relation.columns.iter().any(|column| column.origins.iter().any(is_masked))
}

/// Whether a function can see a masked column by what it names, and whether it notifies.
fn sight(
    oid: u32,
    catalogue: &Catalogue,
    is_masked: &dyn Fn(&ColumnName) -> bool,
    known: &mut HashMap<u32, Sight>,
) -> Sight {
    if let Some(sight) = known.get(&oid) {
        return *sight;
    }
    let mut walk = Walk::new(catalogue, is_masked);
    walk.function(oid);
    walk.settle();
    let mut sight = Sight { sees: walk.found.touches, notifies: walk.found.notifies };
    for reached in &walk.functions {
        if let Some(function) = catalogue.code.functions.get(reached) {
            let body = body::body(function);
            sight.sees |= body.is_dynamic;
            // What runs text may call whatever notifies.
            sight.notifies |= body.notifies || (body.is_dynamic && somebody_notifies(catalogue));
        }
    }
    known.insert(oid, sight);
    sight
}

fn somebody_notifies(catalogue: &Catalogue) -> bool {
    catalogue.code.functions.values().any(|function| body::body(function).notifies)
}

/// Columns by whose values an expression may fail.
fn fails_by<'e>(
    expression: &'e Expression,
    relation: &Relation,
    catalogue: &Catalogue,
) -> &'e BTreeSet<ColumnName> {
    expression.fails_by.get_or_init(|| {
        let all = || {
            let own = relation.columns.iter();
            own.map(|column| ColumnName { relation: relation.name.clone(), column: column.name.clone() })
                .collect()
        };
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let text = match &expression.text {
            Text::Query(text) => text.clone(),
            Text::Expressions(text) => {
                let RelationName { schema, name } = &relation.name;
                format!("SELECT {text} FROM {}.{}", quoted(schema), quoted(name))
            }
        };
        reader::computed_columns(&text, catalogue).unwrap_or_else(all)
    })
}

/// What a verb does to the relation that it names.
const fn events(verb: Verb, copy: Option<CopyDirection>) -> Events {
    match verb {
        Verb::Select => Events::READ,
        Verb::Insert => Events::INSERT,
        Verb::Update => Events::UPDATE.and(Events::READ),
        Verb::Delete => Events::DELETE.and(Events::READ),
        Verb::Merge => Events::WRITE.and(Events::READ),
        Verb::Truncate => Events::TRUNCATE,
        Verb::Copy => match copy {
            Some(CopyDirection::ToClient) => Events::READ,
            _ => Events::INSERT.and(Events::READ),
        },
        Verb::Create | Verb::Alter | Verb::Maintenance => Events::DEFINE.and(Events::READ),
        Verb::Drop
        | Verb::Grant
        | Verb::Call
        | Verb::Set
        | Verb::Transaction
        | Verb::Explain
        | Verb::Other
        | Verb::FunctionCall
        | Verb::Replication
        | Verb::CopyBoth
        | Verb::ReplicationUnmasked
        | Verb::CallUnmasked => Events::NONE,
    }
}
