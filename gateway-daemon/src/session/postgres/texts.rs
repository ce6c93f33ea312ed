//! Which part of an error's or a notice's words an agent may read, where something of the target is masked for it.
//!
//! A part passes by what it can hold: that is decided by the SQLSTATE, by the schema, table, column and constraint that the
//! message itself names, and by whether code that somebody has written can have said it (`sql`'s `reach`). What PostgreSQL
//! says by itself quotes names of objects, which are no secret, and values in few places, which are known. Code says
//! whatever it likes, in every field, so where it can see a masked column nothing of its words passes.

use std::{borrow::Cow, collections::BTreeMap};

use super::judge::Verdict;
use crate::{
    domain::{
        catalogue::{Catalogue, Relation},
        decision::MaskPlan,
        statement::{ColumnName, RelationName},
    },
    protocol::postgres::backend::Fields,
    sql::postgres::{Reach, Speaker, reach, reach_of_deferred},
};

/// How far a request had come when its message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its text was being read: nothing has been looked up but names.
    Read,
    /// Its parameters were being read, and it was planned.
    Bound,
    /// It ran.
    Ran,
    /// The transaction ended, or nobody knows what went on.
    Ended,
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'v> {
    /// The request's verdict, if there is a request.
    pub(super) verdict: Option<&'v Verdict>,
    /// How far it had come.
    pub(super) phase: Phase,
    /// Everything that is masked for the agent.
    pub(super) masks: &'v MaskPlan,
    /// The schema.
    pub(super) catalogue: &'v Catalogue,
}

/// What is left of a message, with the daemon's words for what is not.
#[derive(Debug, Clone)]
pub(super) struct Scrubbed<'a> {
    fields: Vec<(u8, Cow<'a, [u8]>)>,
    /// Its words are the daemon's.
    pub(super) is_withheld: bool,
}

impl<'a> Scrubbed<'a> {
    /// All of it.
    pub(super) fn whole(fields: &Fields<'a>) -> Self {
        let fields = fields.as_slice().iter().map(|(code, text)| (*code, Cow::Borrowed(*text)));
        Self { fields: fields.collect(), is_withheld: false }
    }

    /// As fields of a message.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields::new(self.fields.iter().map(|(code, text)| (*code, text.as_ref())).collect())
    }

    fn without(mut self, codes: &[u8]) -> Self {
        self.fields.retain(|(code, _)| !codes.contains(code));
        self
    }

    fn with(mut self, code: u8, text: impl Into<Cow<'a, [u8]>>) -> Self {
        let text = text.into();
        match self.fields.iter_mut().find(|(other, _)| *other == code) {
            Some(field) => field.1 = text,
            None => self.fields.push((code, text)),
        }
        self
    }
}

/// Why a message is withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// It may quote a value.
    Quotes,
    /// This code can see a masked column.
    Code(String),
    /// It comes from code of which the schema as it was read knows nothing.
    UnknownCode,
}

/// What passes of a message of PostgreSQL's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// Message, detail and hint.
    Whole,
    /// All but the detail.
    WithoutDetail,
    /// All, the detail if the columns that it quotes are open.
    WithKeys,
    /// The message alone.
    Message,
    /// Nothing.
    Nothing,
}

/// The message without what could show a masked value.
pub(super) fn scrub<'a>(fields: &Fields<'a>, about: Circumstances<'_>) -> Scrubbed<'a> {
    let whole = Scrubbed::whole(fields);
    let of_message = about.verdict.map(|verdict| &verdict.masks.columns);
    let is_masked = |column: &ColumnName| {
        about.masks.columns.contains_key(column) || of_message.is_some_and(|masks| masks.contains_key(column))
    };
    if about.masks.columns.is_empty() && of_message.is_none_or(BTreeMap::is_empty) {
        return whole;
    }
    let has = |code| fields.field(code).is_some();
    let by_code = says_code(fields);
    // Found while the client's own text was read: nothing else has a place in it.
    let is_of_text = has(Fields::POSITION) && !has(Fields::INTERNAL_QUERY) && !has(Fields::CONTEXT);
    if is_of_text || (about.phase == Phase::Read && !by_code) {
        return whole;
    }
    let mut reach = match (about.verdict, about.phase) {
        (Some(verdict), Phase::Read | Phase::Bound | Phase::Ran) => {
            reach(&verdict.statements, about.catalogue, &is_masked)
        }
        _ => reach_of_deferred(about.catalogue, &is_masked),
    };
    if about.phase == Phase::Bound {
        // Nothing but parameters has been computed with.
        reach.computes = false;
    }
    match reach.speakers.last() {
        Some(Speaker::Anywhere(name)) => return withheld(fields, &Why::Code(name.clone())),
        Some(Speaker::InContext(_)) if by_code => {
            return withheld(fields, &Why::Code(speaker(fields, &reach)));
        }
        None if by_code && reach.has_code => return whole,
        None if by_code => return withheld(fields, &Why::UnknownCode),
        Some(Speaker::InContext(_)) | None => {}
    }
    let quoted = Quoted { fields, catalogue: about.catalogue, is_masked: &is_masked };
    if !reach.touches && !reach.computes && !quoted.names_masked() {
        return whole;
    }
    let kept = match passes(fields, &reach) {
        Passes::Nothing => return withheld(fields, &Why::Quotes),
        Passes::Whole => whole,
        Passes::Message => whole.without(&[Fields::DETAIL, Fields::HINT]),
        Passes::WithKeys if quoted.detail_is_open() => whole,
        Passes::WithKeys | Passes::WithoutDetail => whole.without(&[Fields::DETAIL]),
    };
    let kept = kept.without(&[Fields::INTERNAL_QUERY, Fields::INTERNAL_POSITION]);
    match fields.field(Fields::CONTEXT).and_then(line_of_copy) {
        Some(line) => kept.with(Fields::CONTEXT, line),
        None => kept.without(&[Fields::CONTEXT]),
    }
}

/// Whether code has said it, which never forgets to say so: PL/pgSQL and its kin put their names into the context.
fn says_code(fields: &Fields<'_>) -> bool {
    let context = fields.field(Fields::CONTEXT).unwrap_or_default();
    let sqlstate = fields.field(Fields::SQLSTATE).unwrap_or_default();
    context.windows(3).any(|window| window == b"PL/") || sqlstate.starts_with(b"P0")
}

/// The code that has said it, of that which can see a masked column; any of it where that cannot be told.
fn speaker(fields: &Fields<'_>, reach: &Reach) -> String {
    let context = String::from_utf8_lossy(fields.field(Fields::CONTEXT).unwrap_or_default());
    let names = reach.speakers.iter().filter_map(|speaker| match speaker {
        Speaker::InContext(name) => Some(name),
        Speaker::Anywhere(_) => None,
    });
    let mut said = names.clone().filter(|name| context.contains(&format!("{}(", name.name)));
    said.next().or(names.clone().next()).map(ToString::to_string).unwrap_or_default()
}

/// Whether a message says of a relation that the statement names, and nobody knows, that it is not there.
fn names_unknown(fields: &Fields<'_>, reach: &Reach) -> bool {
    let message = String::from_utf8_lossy(fields.field(Fields::MESSAGE).unwrap_or_default());
    let mut quoted = message.split('"').skip(1).step_by(2);
    let (Some(name), None) = (quoted.next(), quoted.next()) else { return false };
    fields.field(Fields::SQLSTATE) == Some(b"42P01")
        && reach.unknown.iter().any(|known| known.name == name || known.to_string() == name)
}

/// Where COPY has come to, without what it found there.
fn line_of_copy(context: &[u8]) -> Option<&[u8]> {
    const LINE: &[u8] = b", line ";
    if !context.starts_with(b"COPY ") || context.contains(&b'\n') {
        return None;
    }
    let digits = context.windows(LINE.len()).position(|window| window == LINE)? + LINE.len();
    let rest = context.get(digits..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if end == 0 { None } else { context.get(..digits + end) }
}

/// What PostgreSQL's own messages of an SQLSTATE can hold, where masked values are in reach.
fn passes(fields: &Fields<'_>, reach: &Reach) -> Passes {
    let sqlstate = fields.field(Fields::SQLSTATE).unwrap_or_default();
    let class = sqlstate.get(..2).unwrap_or_default();
    match class {
        // What the server tells of its work for whoever wants to know it: plans are among it, with constants.
        b"00" | b"01" | b"02" => match fields.field(Fields::SEVERITY_ENGLISH) {
            Some(b"NOTICE" | b"WARNING" | b"INFO") => Passes::Whole,
            _ => Passes::Message,
        },
        // Nothing of it comes from a value.
        b"08" | b"25" | b"40" | b"57" => Passes::Whole,
        // Texts without anything in them.
        _ if matches!(sqlstate, b"42501" | b"21000") => Passes::Whole,
        _ if reach.computes && matches!(sqlstate, b"22012" | b"22001") => Passes::Message,
        _ if names_unknown(fields, reach) => Passes::Whole,
        b"53" => Passes::WithoutDetail,
        b"55" if reach.computes => Passes::Message,
        // Names of objects; where something is computed of values it may be a value that was taken for a name
        // (`email::regclass`), but for a definition, which computes nothing of them but what is refused.
        b"42" | b"2B" | b"3F" if !reach.computes || reach.defines => Passes::Whole,
        b"0A" | b"0B" | b"0L" | b"0P" | b"0Z" | b"21" | b"24" | b"26" | b"28" | b"2D" | b"34" | b"3B"
        | b"3D" | b"55" | b"72"
            if !reach.computes || reach.defines =>
        {
            Passes::Whole
        }
        // The value that does not fit, which is of an open column or the client's own.
        b"22" if !reach.computes => Passes::Whole,
        b"23" => Passes::WithKeys,
        // `Failing row contains (…)` of a table that is not named.
        b"44" => Passes::Message,
        // How large something has become.
        b"54" | b"58" | b"XX" if !reach.computes => Passes::Message,
        _ => Passes::Nothing,
    }
}

/// What a message quotes of a table.
struct Quoted<'m, 'a> {
    fields: &'m Fields<'a>,
    catalogue: &'m Catalogue,
    is_masked: &'m dyn Fn(&ColumnName) -> bool,
}

impl Quoted<'_, '_> {
    fn text(&self, code: u8) -> Option<String> {
        Some(String::from_utf8_lossy(self.fields.field(code)?).into_owned())
    }

    /// The table that the message names.
    fn relation(&self) -> Option<&Relation> {
        let name = RelationName { schema: self.text(Fields::SCHEMA)?, name: self.text(Fields::TABLE)? };
        self.catalogue.relation(&name)
    }

    fn has_masked(&self, relation: &Relation) -> bool {
        relation.columns.iter().any(|column| column.origins.iter().any(self.is_masked))
    }

    /// Whether the message names a table with a masked column, or one that nobody knows.
    fn names_masked(&self) -> bool {
        let names_one = self.fields.field(Fields::TABLE).is_some();
        names_one && self.relation().is_none_or(|relation| self.has_masked(relation))
    }

    /// Whether the detail quotes nothing but columns that are open.
    fn detail_is_open(&self) -> bool {
        let Some(relation) = self.relation() else { return false };
        let open = |relation: &Relation, number: i16| {
            let mut columns = relation.columns.iter();
            let column = columns.find(|column| column.number == number);
            column.is_some_and(|column| !column.origins.iter().any(self.is_masked))
        };
        match self.fields.field(Fields::SQLSTATE) {
            // It quotes the key of either table.
            Some(b"23503" | b"23001") => {
                let name = self.text(Fields::CONSTRAINT).unwrap_or_default();
                let Some(key) = self.catalogue.code.foreign_key(relation.oid, &name) else { return false };
                let Some(parent) = self.catalogue.relations.get(&key.parent) else { return false };
                key.child_columns.iter().all(|number| open(relation, *number))
                    && key.parent_columns.iter().all(|number| open(parent, *number))
            }
            Some(b"23505" | b"23P01") => {
                !self.has_masked(relation)
                    || self.key_columns().is_some_and(|names| {
                        names.iter().all(|name| {
                            let mut columns = relation.columns.iter();
                            let column = columns.find(|column| column.name == *name);
                            column.is_some_and(|column| open(relation, column.number))
                        })
                    })
            }
            _ => !self.has_masked(relation),
        }
    }

    /// The columns of `Key (one, two)=(…)`, in whatever language that is said; `None` where there is an expression. A name
    /// that holds a bracket is quoted, so nothing but the list's own end looks like one.
    fn key_columns(&self) -> Option<Vec<String>> {
        let detail = self.text(Fields::DETAIL)?;
        let (list, _) = detail.split_once('(')?.1.split_once(")=(")?;
        let is_plain = |name: &str| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        let name = |part: &str| match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) if is_plain(quoted) => Some(quoted.to_owned()),
            None if is_plain(part) => Some(part.to_owned()),
            _ => None,
        };
        list.split(", ").map(name).collect()
    }
}

/// The daemon's words in place of the server's.
fn withheld<'a>(fields: &Fields<'a>, why: &Why) -> Scrubbed<'a> {
    const ASK: &str = "Ask somebody who may see the columns to run it";
    let (because, hint) = match why {
        Why::Quotes => (
            "since it may quote a value that is masked for this agent".to_owned(),
            format!("Leave masked columns out of what is computed. {ASK}, if the message is needed."),
        ),
        Why::Code(name) => (
            format!("since code that runs along can see columns that are masked for this agent: {name}"),
            format!("{ASK}, or have the code keep apart what it says from what it reads of them."),
        ),
        Why::UnknownCode => (
            "since it comes from code that is newer than what nodegate knows of the schema".to_owned(),
            "Try again in a minute.".to_owned(),
        ),
    };
    let message = format!("nodegate: the database's message is withheld, {because}");
    let sqlstate = fields.field(Fields::SQLSTATE).unwrap_or_default();
    // Code may choose any; one that PostgreSQL has no name for may be a value.
    let is_own =
        std::str::from_utf8(sqlstate).is_ok_and(|code| OWN_SQLSTATES.split(' ').any(|own| own == code));
    let sqlstate = if is_own || *why == Why::Quotes { sqlstate } else { RAISED };
    let kept = fields.clone().keep(&[Fields::SEVERITY, Fields::SEVERITY_ENGLISH]);
    let mut kept = Scrubbed::whole(&kept)
        .with(Fields::SQLSTATE, sqlstate)
        .with(Fields::MESSAGE, message.replace('\0', " ").into_bytes())
        .with(Fields::HINT, hint.into_bytes());
    kept.is_withheld = true;
    kept
}

/// SQLSTATE raise_exception: what code raises that gives none.
const RAISED: &[u8] = b"P0001";

/// Every SQLSTATE that PostgreSQL has a name for (its documentation, appendix A).
const OWN_SQLSTATES: &str = "\
     00000 01000 01003 01004 01006 01007 01008 0100C 01P01 02000 02001 03000 08000 08001 08003 08004 08006 \
     08007 08P01 09000 0A000 0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 20000 21000 22000 22001 22002 \
     22003 22004 22005 22007 22008 22009 2200B 2200C 2200D 2200F 2200G 2200H 2200L 2200M 2200N 2200S 2200T \
     22010 22011 22012 22013 22014 22015 22016 22018 22019 2201B 2201E 2201F 2201G 2201W 2201X 22021 22022 \
     22023 22024 22025 22026 22027 2202E 2202G 2202H 22030 22031 22032 22033 22034 22035 22036 22037 22038 \
     22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 22P01 22P02 22P03 22P04 22P05 22P06 23000 23001 23502 \
     23503 23505 23514 23P01 24000 25000 25001 25002 25003 25004 25005 25006 25007 25008 25P01 25P02 25P03 \
     25P04 26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 2F002 2F003 2F004 2F005 34000 38000 38001 38002 \
     38003 38004 39000 39001 39004 39P01 39P02 39P03 3B000 3B001 3D000 3F000 40000 40001 40002 40003 40P01 \
     42000 42501 42601 42602 42611 42622 42701 42702 42703 42704 42710 42712 42723 42725 42803 42804 42809 \
     42830 42846 42883 428C9 42939 42P01 42P02 42P03 42P04 42P05 42P06 42P07 42P08 42P09 42P10 42P11 42P12 \
     42P13 42P14 42P15 42P16 42P17 42P18 42P19 42P20 42P21 42P22 44000 53000 53100 53200 53300 53400 54000 \
     54001 54011 54023 55000 55006 55P02 55P03 55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 \
     58P01 58P02 72000 F0000 F0001 HV000 HV001 HV002 HV004 HV005 HV006 HV007 HV008 HV009 HV00A HV00B HV00C \
     HV00D HV00J HV00K HV00L HV00M HV00N HV00P HV00Q HV00R HV010 HV014 HV021 HV024 HV090 HV091 P0000 P0001 \
     P0002 P0003 P0004 XX000 XX001 XX002";
