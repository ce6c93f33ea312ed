//! The schema that is hunted in: every kind of relation and type that a secret can be in, twice, with other secrets.
//!
//! The two servers agree in everything but the values of tagged columns, and there in what their masks may show: which
//! are NULL, the first letter of an address, the last four characters of a card. So any difference in what a client sees
//! is a leak, be it a value, a count, an order or an error.

use super::{marks::Marks, random::Random};

/// The twins' names in the configuration.
pub const NAMES: [&str; 2] = ["vault-one", "vault-two"];

/// Rows of the table of people.
pub const PEOPLE: usize = 24;

/// Letters of one row's secrets together.
const PAD: usize = 380;

const SCHEMA: &str = concat!(include_str!("vault.sql"), include_str!("speech.sql"));

/// Tagged columns and the tag that decides how they are masked.
pub const TAGS: &[(&str, &str)] = &[
    ("public.people.secret", "redacted"),
    ("public.people.email", "partly"),
    ("public.people.card", "tail"),
    ("public.people.ref", "hashed"),
    ("public.people.pin", "hidden"),
    ("public.people.salary", "redacted"),
    ("public.people.born", "redacted"),
    ("public.people.tags", "redacted"),
    ("public.people.doc", "redacted"),
    ("public.people.raw", "redacted"),
    ("public.people.home", "redacted"),
    ("public.people.mood", "redacted"),
    ("public.people.uid", "redacted"),
    ("public.people.code", "redacted"),
    ("public.people.bin", "redacted"),
    ("public.people.score", "redacted"),
    ("public.people.span", "redacted"),
    ("public.people.nick", "redacted"),
    ("public.people.flag", "redacted"),
    ("public.people.pad", "redacted"),
    ("public.staff.badge", "redacted"),
    ("public.events.payload", "redacted"),
    ("public.letters.body", "redacted"),
    ("other.notes.body", "redacted"),
    ("public.remarks.remark", "looked-through"),
    ("public.remarks.papers", "looked-through"),
    ("public.clients.secret", "redacted"),
    ("public.clients.mail", "partly"),
    ("public.clients.pad", "redacted"),
    ("public.mails.mail", "partly"),
];

/// The policies of the hunt: everything is permitted but to see what is tagged and to run what cannot be read.
pub const POLICY: &str = r#"
@id("everything")
permit (principal in Group::"agents", action, resource);

@id("nothing-opaque")
@message("Write out what the function does as plain SQL.")
forbid (principal, action == Action::"sql:call", resource);

@id("redact") @mask("redact")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("redacted") };
@id("partial") @mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("partly") };
@id("last4") @mask("last4")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("tail") };
@id("hash") @mask("hash") @compare("equal")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("hashed") };
@id("finds") @mask("redact") @detect("email,card")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("looked-through") };
@id("null") @mask("null")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("hidden") };
"#;

/// What both servers are told, so that the order of rows depends on the rows alone.
pub const SETTINGS: &str = "enable_hashagg = off\nenable_hashjoin = off\nenable_memoize = off\njit = off\n";

/// What a superuser makes beside: a server of another name that leads back to the one at `port`, and a table there that shows
/// nothing masked.
pub fn loop_back(port: u16) -> String {
    format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname 'shop');
         CREATE USER MAPPING FOR app_agent SERVER loop
         OPTIONS (user 'app_agent', password '{password}');
         GRANT USAGE ON FOREIGN SERVER loop TO app_agent;
         CREATE FOREIGN TABLE far (id integer, label text) SERVER loop OPTIONS (schema_name 'public', table_name 'people');
         ALTER FOREIGN TABLE far OWNER TO app_agent;",
        password = super::super::postgres::PASSWORD,
    )
}

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// The one.
    Left,
    /// The other.
    Right,
}

/// The SQL that makes the schema and its rows, and the marks in them.
pub fn sql(twin: Twin) -> (String, Marks) {
    let side = usize::from(twin == Twin::Right);
    let mut random = Random::new(0x7e57 + side as u64);
    let mut marks = Marks::default();
    let mut rows = Vec::new();
    for id in 0..PEOPLE {
        // The twins' values differ in length too, row by row, but not in sum: statistics are no secret.
        let length = 12 + (id + 2 * side) % 8;
        let mut text = |extra: usize| marks.text(&mut random, length + extra);
        let (secret, email, card, reference) = (text(0), text(1), text(0), text(2));
        let (raw, code, bin, nick) = (text(1), text(0), text(0), text(0));
        let (badge, payload, letter) = (text(3), text(0), text(5));
        // Of one length, since what is inside of composites, arrays and documents is aligned.
        let mut text = || marks.text(&mut random, 13);
        let (tag, other, key, street) = (text(), text(), text(), text());
        let letters = [&secret, &secret, &email, &email, &card, &reference, &raw, &bin, &nick];
        let pad =
            marks.text(&mut random, PAD - letters.iter().map(|text| text.len()).sum::<usize>() - badge.len());
        let (pin, salary, score, low) = (
            marks.number(&mut random),
            marks.number(&mut random),
            marks.number(&mut random),
            marks.number(&mut random),
        );
        let day = 1 + random.below(27);
        let year = 1871 + random.below(60);
        let mood = ["calm", "glad", "grim"][random.below(3)];
        let flag = random.below(2) == 1;
        let uid = format!("{:016x}{:016x}", random.next(), random.next());
        rows.push(format!(
            "INSERT INTO remarks VALUES ({id}, 'asked {email}@{card}.com about it', \
             '{{\"from\": \"{email}@{card}.com\", \"lines\": [\"Kind regards\", {id}]}}');"
        ));
        rows.push(format!(
            "SELECT vault_row({id}, '{secret}', 'q{email}@{email}.io', '{card}0000', '{reference}', {pin}, {salary}.25, \
             '{year}-03-{day:02}', ARRAY['{tag}', '{other}'], '{{\"k\": \"{key}\", \"n\": {pin}}}', \
             '{{\"r\": \"{raw}\"}}', '{street}', '{mood}', '{uid}', '{code}', '{bin}', {score}, {low}, '{nick}', {flag}, \
             '{badge}', '{payload}', '{letter}', '{pad}');"
        ));
    }
    let sql = SCHEMA.replace("-- rows", &rows.join("\n"));
    (sql, marks)
}
