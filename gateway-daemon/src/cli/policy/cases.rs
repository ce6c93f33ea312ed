//! The file of test cases beside a policy pack: a target, its tables, identities, and what they may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Deserialize;

use super::{Asked, AskedName, Failure, read_request};
use crate::{
    domain::{
        action::{ServerTrust, TargetFacts},
        catalogue::{Catalogue, Column, Relation, RelationKind},
        decision::{Denial, Transform},
        detector::Detector,
        flow::Workload,
        ids::CgroupId,
        principal::Principal,
        statement::{ColumnName, RelationName},
    },
    policy::{Origin, Policies, PolicyError, Source},
    session::http,
    sql,
};

/// The issuer of identities that name none.
const ISSUER: &str = "ci";
/// OIDs of made-up relations start here, above PostgreSQL's own.
const FIRST_OID: u32 = 100_000;
/// `text`.
const TEXT_OID: u32 = 25;

/// A `cases.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    #[serde(default = "this_directory")]
    policies: Vec<PathBuf>,
    given: Option<String>,
    #[serde(default)]
    target: TargetSection,
    #[serde(default)]
    tables: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    views: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    identities: BTreeMap<String, IdentitySection>,
    #[serde(default)]
    pub(super) cases: Vec<Case>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetSection {
    name: String,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    tags: BTreeMap<String, BTreeSet<String>>,
}

/// An identity, as a token would give it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitySection {
    issuer: Option<String>,
    issuer_url: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    workload: Option<String>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(rename = "as")]
    pub(super) identity: String,
    sql: Option<String>,
    #[serde(default)]
    pub(super) connect: bool,
    /// A name to resolve, behind the type of records where that is not A.
    pub(super) resolve: Option<String>,
    /// A function to call by its oid, by its name: `pg_catalog.lo_open`.
    function_call: Option<String>,
    /// `database` or `true` for a replication connection, or a command of one.
    replication: Option<String>,
    /// An HTTP request: `POST https://api.internal/items?page=2`.
    http: Option<String>,
    /// Fields of the HTTP request.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// The server is one that the agent chose.
    #[serde(default)]
    untrusted_server: bool,
    pub(super) expect: Expected,
    /// These must be among the rules that decided.
    #[serde(default)]
    pub(super) policies: Vec<String>,
    /// Exactly these columns must be looked through, for exactly these finds; where it is absent, any may be.
    pub(super) finds: Option<BTreeMap<String, BTreeMap<Detector, Transform>>>,
    /// Exactly these columns must be masked, and so.
    #[serde(default)]
    pub(super) masked: BTreeMap<String, Transform>,
    /// Exactly so many rows may be changed, the least where several statements are limited; no limit if absent.
    pub(super) max_rows: Option<u64>,
}

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    Allow,
    Deny,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) workload: Workload,
}

fn this_directory() -> Vec<PathBuf> {
    vec![PathBuf::from(".")]
}

impl CaseFile {
    /// Reads and checks `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Input(format!("cannot read {}: {error}", path.display())))?;
        let file: Self = serde_saphyr::from_str(&text)
            .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
        file.check().map_err(|complaint| Failure::Input(format!("{}: {complaint}", path.display())))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        for case in &self.cases {
            if !self.identities.contains_key(&case.identity) {
                return Err(format!(
                    "case \"{}\" is as \"{}\", which is not among the identities",
                    case.name, case.identity
                ));
            }
            let questions = [
                case.sql.is_some(),
                case.connect,
                case.resolve.is_some(),
                case.function_call.is_some(),
                case.replication.is_some(),
                case.http.is_some(),
            ];
            if questions.into_iter().filter(|asked| *asked).count() != 1 {
                return Err(format!(
                    "case \"{}\" needs one of `sql: …`, `resolve: …`, `function_call: …`, `replication: …`, `http: …` \
                     and `connect: true`",
                    case.name
                ));
            }
            if case.untrusted_server && case.resolve.is_none() {
                return Err(format!("case \"{}\" has a server, and resolves nothing", case.name));
            }
            if !case.fields.is_empty() && case.http.is_none() {
                return Err(format!("case \"{}\" has fields, and is no HTTP request", case.name));
            }
            case.request_asked()
                .transpose()
                .map_err(|complaint| format!("case \"{}\": {complaint}", case.name))?;
            case.name_asked()
                .transpose()
                .map_err(|complaint| format!("case \"{}\": {complaint}", case.name))?;
            if case.expect == Expected::Deny && !case.masked.is_empty() {
                return Err(format!("case \"{}\" expects a denial, and a denial masks nothing", case.name));
            }
            if case.expect == Expected::Deny && case.max_rows.is_some() {
                return Err(format!(
                    "case \"{}\" expects a denial, and a denial lets no rows through",
                    case.name
                ));
            }
        }
        if !self.cases.is_empty() && self.target.name.is_empty() {
            return Err("`target: { name: … }` is missing".to_owned());
        }
        self.catalogue().map(|_| ())
    }

    /// The policies that the file's cases are tried with; `path` is the file itself.
    pub(super) fn load_policies(&self, path: &Path) -> Result<Policies, PolicyError> {
        let base = path.parent().unwrap_or(Path::new("."));
        let mut origins: Vec<Origin> = self.policies.iter().map(|dir| Origin::Path(base.join(dir))).collect();
        if let Some(given) = &self.given {
            origins.push(Origin::Inline(Source { path: path.join("given"), text: given.clone() }));
        }
        Policies::load_all(origins, &self.issuers())
    }

    /// The issuers of all identities.
    pub(super) fn issuers(&self) -> Vec<String> {
        let names: BTreeSet<&str> =
            self.identities.values().map(|identity| identity.issuer.as_deref().unwrap_or(ISSUER)).collect();
        if names.is_empty() {
            vec![ISSUER.to_owned()]
        } else {
            names.into_iter().map(str::to_owned).collect()
        }
    }

    /// The identity called `name`.
    pub(super) fn caller(&self, name: &str) -> Option<Caller> {
        self.identities.get(name).map(|identity| identity.caller(name))
    }

    /// The target and its tags.
    pub(super) fn target(&self) -> TargetFacts {
        TargetFacts { name: self.target.name.clone(), tags: self.target.tags.clone() }
    }

    /// The names that the target is known by.
    pub(super) fn hosts(&self) -> &[String] {
        &self.target.hosts
    }

    /// PostgreSQL's own functions, and the tables and views of the file.
    pub(super) fn catalogue(&self) -> Result<Catalogue, String> {
        let mut catalogue = sql::postgres::offline_catalogue();
        let mut oids = FIRST_OID..;
        for (name, columns) in &self.tables {
            let relation = relation_name(name)?;
            let origins = columns.iter().map(|column| {
                let origin = ColumnName { relation: relation.clone(), column: column.clone() };
                (column.as_str(), BTreeSet::from([origin]))
            });
            insert(&mut catalogue, &relation, RelationKind::Table, oids.next(), origins)?;
        }
        for (name, columns) in &self.views {
            let relation = relation_name(name)?;
            let mut with_origins = Vec::new();
            for (column, shown) in columns {
                let origins: Result<BTreeSet<ColumnName>, String> =
                    shown.iter().map(|origin| self.column_name(origin)).collect();
                with_origins.push((column.as_str(), origins?));
            }
            insert(&mut catalogue, &relation, RelationKind::View, oids.next(), with_origins)?;
        }
        for key in self.target.tags.keys() {
            self.column_name(key).map_err(|complaint| format!("in tags: {complaint}"))?;
        }
        Ok(catalogue)
    }

    /// A column of one of the tables, `schema.table.column`.
    fn column_name(&self, text: &str) -> Result<ColumnName, String> {
        let (table, column) =
            text.rsplit_once('.').ok_or_else(|| format!("\"{text}\" is not schema.table.column"))?;
        if !self.tables.get(table).is_some_and(|columns| columns.iter().any(|known| known == column)) {
            return Err(format!("there is no column \"{text}\" in the tables of this file"));
        }
        Ok(ColumnName { relation: relation_name(table)?, column: column.to_owned() })
    }
}

impl Case {
    /// What is asked about, unless it is a name.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked::of(self.sql.as_deref(), self.function_call.as_deref(), self.replication.as_deref())
    }

    /// The HTTP request, if it is one, or why no policy can permit it.
    pub(super) fn request_asked(&self) -> Option<Result<Result<http::Asked, Denial>, String>> {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.http.as_deref().map(|text| read_request(text, fields))
    }

    /// The question to the DNS, if it is one.
    pub(super) fn name_asked(&self) -> Option<Result<AskedName, String>> {
        let trust = if self.untrusted_server { ServerTrust::Untrusted } else { ServerTrust::Trusted };
        self.resolve.as_deref().map(|text| AskedName::read(text, trust))
    }
}

impl IdentitySection {
    fn caller(&self, name: &str) -> Caller {
        let issuer = self.issuer.clone().unwrap_or_else(|| ISSUER.to_owned());
        Caller {
            workload: Workload { cgroup: CgroupId(0), path: "/".to_owned(), label: self.workload.clone() },
            principal: Principal {
                issuer_url: self.issuer_url.clone().unwrap_or_else(|| format!("https://{issuer}.example")),
                issuer,
                subject: self.subject.clone().unwrap_or_else(|| name.to_owned()),
                groups: sorted(&self.groups),
                roles: sorted(&self.roles),
                claims: self.claims.clone(),
                expires_at: SystemTime::now(),
            },
        }
    }
}

impl Caller {
    /// An identity from a command line: `<issuer url>|<subject>`, or only the subject.
    pub(super) fn named(
        identity: &str,
        issuer: Option<&str>,
        groups: &[String],
        roles: &[String],
        claims: &BTreeMap<String, String>,
        workload: Option<&str>,
    ) -> Self {
        let (issuer_url, subject) = match identity.split_once('|') {
            Some((issuer_url, subject)) => (Some(issuer_url.to_owned()), subject),
            None => (None, identity),
        };
        IdentitySection {
            issuer: issuer.map(str::to_owned),
            issuer_url,
            subject: Some(subject.to_owned()),
            groups: groups.to_vec(),
            roles: roles.to_vec(),
            claims: claims.clone(),
            workload: workload.map(str::to_owned),
        }
        .caller(identity)
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    names.iter().cloned().collect::<BTreeSet<String>>().into_iter().collect()
}

fn relation_name(text: &str) -> Result<RelationName, String> {
    let (schema, name) =
        text.split_once('.').ok_or_else(|| format!("\"{text}\" is not schema.table: write public.{text}"))?;
    Ok(RelationName { schema: schema.to_owned(), name: name.to_owned() })
}

fn insert<'a>(
    catalogue: &mut Catalogue,
    name: &RelationName,
    kind: RelationKind,
    oid: Option<u32>,
    columns: impl IntoIterator<Item = (&'a str, BTreeSet<ColumnName>)>,
) -> Result<(), String> {
    let too_many = || format!("there are too many tables or columns at {name}");
    let mut found = Vec::new();
    for (number, (column, origins)) in (1_i16..).zip(columns) {
        found.push(Column {
            name: column.to_owned(),
            number,
            type_oid: TEXT_OID,
            modifier: -1,
            collation: 100,
            origins,
            is_computed: false,
        });
    }
    let oid = oid.ok_or_else(too_many)?;
    catalogue.insert(Relation { oid, name: name.clone(), kind, columns: found });
    Ok(())
}

/// Every `cases.yaml` at or below `path`, sorted.
pub(super) fn find(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Failure::Input(format!("cannot read {}: {error}", path.display()))
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut pending = vec![path.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(|error| unreadable(&dir, error))? {
            let entry = entry.map_err(|error| unreadable(&dir, error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&dir, error))?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if entry.file_name() == "cases.yaml" {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
