//! What a request looks like to Cedar: entity ids, and the entities behind them.
//!
//! Two different things must never share an id, or a rule for one would hold for the other. Ids are put
//! together from names with `/` and `.` between them, so those characters are escaped inside a name.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    str::FromStr,
};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use super::error::PolicyError;
use crate::domain::{
    action::Lookup,
    flow::Workload,
    http::{Method, NamedValues},
    principal::Principal,
    statement::{ColumnName, RelationName, Verb},
};

/// The ids of what `context.query` and `context.headers` refer to.
pub(super) const HTTP_QUERY: &str = "query";
pub(super) const HTTP_HEADERS: &str = "headers";

/// Writes `name` so that it can stand between the separators of an id: `%`, `/`, `.`, quotes, backslashes and
/// control characters become `%XX` of their UTF-8 bytes.
pub fn escape(name: &str) -> Cow<'_, str> {
    if !name.chars().any(is_escaped) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if is_escaped(character) {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_escaped(character: char) -> bool {
    matches!(character, '%' | '/' | '.' | '"' | '\\') || character.is_control()
}

/// A target's name in an id. It stands before the first `/`, so its dots need no escape and
/// `Target::"orders.eu"` reads as it does in the configuration.
pub(super) fn escape_target(name: &str) -> Cow<'_, str> {
    if name.chars().any(|character| character != '.' && is_escaped(character)) {
        Cow::Owned(name.split('.').map(escape).collect::<Vec<_>>().join("."))
    } else {
        Cow::Borrowed(name)
    }
}

/// `Schema` id.
pub fn schema_id(target: &str, schema: &str) -> String {
    format!("{}/{}", escape_target(target), escape(schema))
}

/// `Table` id.
pub fn table_id(target: &str, relation: &RelationName) -> String {
    format!("{}/{}.{}", escape_target(target), escape(&relation.schema), escape(&relation.name))
}

/// `Column` id.
pub fn column_id(target: &str, column: &ColumnName) -> String {
    format!("{}.{}", table_id(target, &column.relation), escape(&column.column))
}

/// Says what is wrong with the form of an id that a policy names, if it is one that no request can ever bear.
pub(super) fn malformed_id(entity_type: &str, id: &str) -> Option<&'static str> {
    let parts = |count: usize| {
        id.split_once('/').is_some_and(|(target, rest)| {
            let names: Vec<&str> = rest.split('.').collect();
            !target.is_empty() && names.len() == count && names.iter().all(|name| well_escaped(name))
        })
    };
    match entity_type {
        "Target" if id.is_empty() || id.contains('/') => {
            Some("a Target's id is the name of a target of the configuration: Target::\"orders-db\"")
        }
        "Schema" if !parts(1) => Some("a Schema's id is \"<target>/<schema>\": Schema::\"orders-db/public\""),
        "Table" if !parts(2) => {
            Some("a Table's id is \"<target>/<schema>.<table>\": Table::\"orders-db/public.orders\"")
        }
        "Column" if !parts(3) => Some(
            "a Column's id is \"<target>/<schema>.<table>.<column>\": Column::\"orders-db/public.orders.note\"",
        ),
        "HttpPath" if !is_http_path(id) => Some(
            "an HttpPath's id is a host in lower case without port, and a path: HttpPath::\"api.github.com/repos/acme\", \
             or a host alone: HttpPath::\"api.github.com\"; there are no wildcards: `in` means everything below it",
        ),
        "DnsName" if !is_dns_name(id) => Some(
            "a DnsName's id is a name in lower case without a dot at its end, and there are no wildcards: \
             `resource in DnsName::\"github.com\"` is github.com and every name below it",
        ),
        "Agent" if !id.contains('|') => {
            Some("an Agent's id is \"<issuer url>|<subject>\", as audit records show it")
        }
        "Group" | "Role" if id.is_empty() => Some("a group or role has a name"),
        _ => None,
    }
}

/// The names above a name, without the root: `github.com` and `com` for `api.github.com`.
fn super_domains(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.split_once('.').map(|(_, above)| above), |name| {
        name.split_once('.').map(|(_, above)| above)
    })
    .filter(|name| !name.is_empty())
}

/// What lies above `host/a/b`: `host`, `host/`, `host/a` and `host/a/`. Both forms of a folder mean what is below it, so
/// that nobody has to know which one is right; `host/a` alone means the resource of that name as well.
fn paths_above(id: &str) -> impl Iterator<Item = &str> {
    let slashes = id.char_indices().filter(|(_, character)| *character == '/').map(|(at, _)| at);
    slashes
        .flat_map(|at| [id.get(..at), id.get(..=at)])
        .flatten()
        .filter(move |above| *above != id && !above.is_empty())
}

/// Whether a text is a host as policies write it, alone or with a path behind it.
fn is_http_path(id: &str) -> bool {
    let host = match id.strip_prefix('[') {
        Some(rest) => {
            return rest.split_once(']').is_some_and(|(address, path)| {
                address.parse::<std::net::Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address)
                    && (path.is_empty() || path.starts_with('/'))
            });
        }
        None => id.split('/').next().unwrap_or_default(),
    };
    is_dns_name(host) && host != "."
}

/// Whether a text is written as names of the DNS are in policies.
fn is_dns_name(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    name == "." || name.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
}

/// Whether `name` is what [`escape`] makes of some name.
fn well_escaped(name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: Vec<u8> = rest.by_ref().take(2).collect();
            let decoded = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match decoded {
                Some(byte) => bytes.push(byte),
                None => return false,
            }
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).is_ok_and(|decoded| escape(&decoded) == name)
}

/// Writing a column: a permit for every action does not mean it.
pub(super) const SQL_WRITE: &str = "sql:write";

/// The schema's types and actions, looked up once.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) agent: EntityTypeName,
    group: EntityTypeName,
    role: EntityTypeName,
    target: EntityTypeName,
    schema: EntityTypeName,
    table: EntityTypeName,
    column: EntityTypeName,
    dns_name: EntityTypeName,
    http_path: EntityTypeName,
    http_values: EntityTypeName,
    methods: HashMap<Method, EntityUid>,
    pub(super) connect: EntityUid,
    pub(super) read: EntityUid,
    pub(super) write: EntityUid,
    pub(super) resolve: EntityUid,
    verbs: HashMap<Verb, EntityUid>,
    /// Every action entity, with the groups that it is in.
    pub(super) actions: HashMap<EntityUid, Entity>,
}

impl Vocabulary {
    pub(super) fn new(schema: &Schema) -> Result<Self, PolicyError> {
        let actions: HashMap<EntityUid, Entity> = schema
            .action_entities()
            .map_err(|error| PolicyError::Schema(error.to_string()))?
            .into_iter()
            .map(|entity| (entity.uid(), entity))
            .collect();
        let entity_type = |name: &str| {
            EntityTypeName::from_str(name).map_err(|error| PolicyError::Schema(error.to_string()))
        };
        let action_type = entity_type("Action")?;
        let action = |name: &str| {
            let uid = EntityUid::from_type_name_and_id(action_type.clone(), EntityId::new(name));
            if actions.contains_key(&uid) {
                Ok(uid)
            } else {
                Err(PolicyError::Schema(format!("it does not declare {uid}")))
            }
        };
        let mut verbs = HashMap::new();
        for verb in Verb::ALL {
            verbs.insert(verb, action(&format!("sql:{}", verb.as_str()))?);
        }
        let mut methods = HashMap::new();
        for method in Method::ALL {
            methods.insert(method, action(&format!("http:{method}"))?);
        }
        Ok(Self {
            methods,
            http_path: entity_type("HttpPath")?,
            http_values: entity_type("HttpValues")?,
            agent: entity_type("Agent")?,
            group: entity_type("Group")?,
            role: entity_type("Role")?,
            target: entity_type("Target")?,
            schema: entity_type("Schema")?,
            table: entity_type("Table")?,
            column: entity_type("Column")?,
            dns_name: entity_type("DnsName")?,
            connect: action("connect")?,
            read: action("sql:read")?,
            write: action(SQL_WRITE)?,
            resolve: action("dns:resolve")?,
            verbs,
            actions,
        })
    }

    /// The action of `verb`; `None` cannot be, since `new` looked up every verb.
    pub(super) fn verb(&self, verb: Verb) -> Option<&EntityUid> {
        self.verbs.get(&verb)
    }

    /// The action of `method`; `None` cannot be, since `new` looked up every one.
    pub(super) fn method(&self, method: Method) -> Option<&EntityUid> {
        self.methods.get(&method)
    }

    fn uid(entity_type: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
        EntityUid::from_type_name_and_id(entity_type.clone(), EntityId::new(id))
    }
}

/// An entity together with what slicing asks of it. `above` holds every ancestor, direct or not, so that the
/// parents need not be entities of the request themselves.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) uid: EntityUid,
    pub(super) above: Vec<EntityUid>,
    pub(super) entity: Entity,
}

impl Node {
    fn new(
        uid: EntityUid,
        above: Vec<EntityUid>,
        attributes: Vec<(&str, RestrictedExpression)>,
        tags: Vec<(String, RestrictedExpression)>,
    ) -> Result<Self, Refusal> {
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
        let entity = Entity::new_with_tags(uid.clone(), attributes, above.iter().cloned(), tags)
            .map_err(|error| Refusal(error.to_string()))?;
        Ok(Self { uid, above, entity })
    }
}

/// A request that cannot be put to Cedar; it is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

impl Vocabulary {
    /// The asking agent. `single_issuer`: groups and roles have their plain names as well.
    pub(super) fn agent(
        &self,
        principal: &Principal,
        workload: &Workload,
        single_issuer: bool,
    ) -> Result<Node, Refusal> {
        if principal.issuer_url.contains('|') {
            return Err(Refusal(
                "the issuer's URL contains '|', so agents could not be told apart".to_owned(),
            ));
        }
        let issuer = escape(&principal.issuer);
        let mut above = HashSet::new();
        for (entity_type, names) in [(&self.group, &principal.groups), (&self.role, &principal.roles)] {
            for name in names {
                above.insert(Self::uid(entity_type, format!("{issuer}/{name}")));
                // A plain name with a slash would read like another issuer's qualified one.
                if single_issuer && !name.contains('/') {
                    above.insert(Self::uid(entity_type, name));
                }
            }
        }
        let mut attributes = vec![
            ("subject", text(&principal.subject)),
            ("issuer", text(&principal.issuer)),
            ("issuer_url", text(&principal.issuer_url)),
        ];
        if let Some(label) = &workload.label {
            attributes.push(("workload", text(label)));
        }
        let claims = principal.claims.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Node::new(Self::uid(&self.agent, principal.id()), above.into_iter().collect(), attributes, claims)
    }

    /// A target.
    pub(super) fn target(&self, target: &str) -> Result<Node, Refusal> {
        if target.is_empty() {
            return Err(Refusal("the target has no name".to_owned()));
        }
        Node::new(self.target_uid(target), Vec::new(), Vec::new(), Vec::new())
    }

    /// A relation of a target.
    pub(super) fn table(&self, target: &str, relation: &RelationName) -> Result<Node, Refusal> {
        Node::new(
            self.table_uid(target, relation),
            vec![self.schema_uid(target, &relation.schema), self.target_uid(target)],
            vec![("schema", text(&relation.schema)), ("name", text(&relation.name))],
            Vec::new(),
        )
    }

    /// A column of a target, with its tags.
    pub(super) fn column(
        &self,
        target: &str,
        column: &ColumnName,
        tags: Option<&BTreeSet<String>>,
    ) -> Result<Node, Refusal> {
        let tags = tags.into_iter().flatten().map(|tag| text(tag));
        Node::new(
            self.column_uid(target, column),
            vec![
                self.table_uid(target, &column.relation),
                self.schema_uid(target, &column.relation.schema),
                self.target_uid(target),
            ],
            vec![
                ("schema", text(&column.relation.schema)),
                ("table", text(&column.relation.name)),
                ("name", text(&column.column)),
                ("tags", RestrictedExpression::new_set(tags)),
            ],
            Vec::new(),
        )
    }

    /// A name of the DNS, in the names above it and in the targets that list it.
    pub(super) fn dns_name(&self, lookup: &Lookup<'_>) -> Result<Node, Refusal> {
        let above = super_domains(lookup.name).map(|name| Self::uid(&self.dns_name, name));
        let targets = lookup.targets.iter().map(|target| self.target_uid(&target.name));
        Node::new(
            self.dns_name_uid(lookup.name),
            above.chain(targets).collect(),
            vec![("name", text(lookup.name))],
            Vec::new(),
        )
    }

    /// One reading of a path, in the paths above it, its host and its target.
    pub(super) fn http_path(&self, target: &str, host: &str, path: &str) -> Result<Node, Refusal> {
        let id = format!("{host}{path}");
        let above = paths_above(&id).map(|above| Self::uid(&self.http_path, above));
        Node::new(
            Self::uid(&self.http_path, &id),
            above.chain([self.target_uid(target)]).collect(),
            vec![("host", text(host)), ("path", text(path))],
            Vec::new(),
        )
    }

    /// Names with their values, as the context refers to them.
    pub(super) fn http_values(&self, name: &str, values: &NamedValues) -> Result<Entity, Refusal> {
        let tags = values
            .iter()
            .map(|(name, values)| {
                (name.clone(), RestrictedExpression::new_set(values.iter().map(|value| text(value))))
            })
            .collect();
        Node::new(self.http_values_uid(name), Vec::new(), Vec::new(), tags).map(|node| node.entity)
    }

    pub(super) fn http_values_uid(&self, name: &str) -> EntityUid {
        Self::uid(&self.http_values, name)
    }

    pub(super) fn dns_name_uid(&self, name: &str) -> EntityUid {
        Self::uid(&self.dns_name, name)
    }

    pub(super) fn target_uid(&self, target: &str) -> EntityUid {
        Self::uid(&self.target, escape_target(target))
    }

    fn schema_uid(&self, target: &str, schema: &str) -> EntityUid {
        Self::uid(&self.schema, schema_id(target, schema))
    }

    pub(super) fn table_uid(&self, target: &str, relation: &RelationName) -> EntityUid {
        Self::uid(&self.table, table_id(target, relation))
    }

    pub(super) fn column_uid(&self, target: &str, column: &ColumnName) -> EntityUid {
        Self::uid(&self.column, column_id(target, column))
    }
}
