//! Masked values of every type, in both formats, put back into the server: it takes each as a value of its type.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fmt::Write as _, fs, process::Command};

use nodegate_tests::{leftovers, postgres, programs, stage::Stage};

const TRANSFORMS: [&str; 4] = ["redact", "partial", "last4", "hash"];

/// Type, and a value of it as a literal. Where the type can bear it, the value has MARK in it.
const KINDS: &[(&str, &str)] = &[
    ("boolean", "true"),
    ("\"char\"", "'q'"),
    ("smallint", "7391"),
    ("integer", "739173917"),
    ("bigint", "7391739173917391"),
    ("oid", "3739173917"),
    ("real", "7391.25"),
    ("double precision", "-73917391.5"),
    ("numeric", "-739173917391739173917391.7391"),
    // A hash fits the type, not the precision that a column narrows it to.
    ("numeric(12,4)", "73917.3917"),
    ("money", "'$7,391,739.17'"),
    ("date", "'1973-09-17'"),
    ("time", "'17:39:17.739'"),
    ("timetz", "'17:39:17.739+02'"),
    ("timestamp", "'1973-09-17 17:39:17.739'"),
    ("timestamptz", "'1973-09-17 17:39:17.739+02'"),
    ("interval", "'7 years 3 mons 9 days 17:39:17.5'"),
    ("uuid", "'73917391-7391-4391-8391-739173917391'"),
    ("inet", "'73.91.73.91/24'"),
    ("cidr", "'7391:7391::/32'"),
    ("macaddr", "'73:91:73:91:73:91'"),
    ("macaddr8", "'73:91:73:91:73:91:73:91'"),
    ("bytea", "'\\x7391739173917391'"),
    ("bit(11)", "B'10110111001'"),
    ("bit varying", "B'1011011100110111'"),
    ("json", "'{\"a\": \"MARK7391\"}'"),
    ("jsonb", "'{\"a\": [\"MARK7391\"]}'"),
    ("xml", "'<a>MARK7391</a>'"),
    ("text", "'MARK7391 \"x\", {y}'"),
    ("varchar(40)", "'MARK7391'"),
    ("char(20)", "'MARK7391'"),
    ("name", "'MARK7391'"),
    ("mood", "'MARK7391'"),
    ("small_number", "73917"),
    ("labelled", "ROW('MARK7391, \"x\"', 73917, 'MARK7391', ARRAY[7,3])"),
    ("int4range", "'[7391,739173)'"),
    ("tstzrange", "'[1973-09-17 17:39:17+02,)'"),
    ("floatrange", "'[7391.5,73917.5)'"),
    ("int4multirange", "'{[7391,73917)}'"),
    ("hstore", "'MARK7391=>\"MARK\", b=>NULL'"),
    ("smallint[]", "'{7391,NULL}'"),
    ("integer[]", "'[0:1][2:3]={{739173917,NULL},{7,739173}}'"),
    ("text[]", "ARRAY['MARK7391', NULL, '', 'NULL', 'a \"b\" {c}\\d']"),
    ("date[]", "ARRAY['1973-09-17'::date, NULL]"),
    ("numeric[]", "'{7391.7391,NULL}'"),
    ("uuid[]", "'{73917391-7391-4391-8391-739173917391}'"),
    ("jsonb[]", "ARRAY['{\"a\": \"MARK7391\"}'::jsonb]"),
    ("timestamptz[]", "'{1973-09-17 17:39:17+02}'"),
    ("mood[]", "'{MARK7391,low}'"),
    ("small_number[]", "'{73917,NULL}'"),
    ("labelled[]", "ARRAY[ROW('MARK7391', 73917, 'low', '{}')::labelled]"),
    ("int4range[]", "'{\"[1,5)\",empty}'"),
    ("bytea[]", "ARRAY['\\x7391'::bytea]"),
    ("interval[]", "ARRAY['7 days'::interval]"),
    ("hstore[]", "ARRAY['a=>MARK7391'::hstore]"),
];

const TYPES: &str = "
    CREATE EXTENSION hstore;
    CREATE TYPE mood AS ENUM ('low', 'MARK7391');
    CREATE DOMAIN small_number AS integer CHECK (VALUE >= 0);
    CREATE TYPE labelled AS (label text, number integer, feeling mood, more smallint[]);
    CREATE TYPE floatrange AS RANGE (subtype = double precision);
";

fn policy() -> String {
    let mut policy = "@id(\"all\") permit (principal, action, resource);\n".to_owned();
    for transform in TRANSFORMS {
        writeln!(
            policy,
            "@id(\"{transform}\") @mask(\"{transform}\") forbid (principal, action == Action::\"sql:read\", \
             resource is Column) when {{ resource.table == \"kinds_{transform}\" && resource.name != \"id\" }};"
        )
        .unwrap();
    }
    policy
}

/// A stage with tables `kinds_<transform>` of all types: one row of values, one of NULLs.
fn stage() -> Stage {
    let server = postgres::Postgres::start();
    let columns: Vec<String> =
        KINDS.iter().enumerate().map(|(at, (r#type, _))| format!("c{at} {type}")).collect();
    let values: Vec<String> = KINDS.iter().map(|(r#type, value)| format!("({value})::{type}")).collect();
    server.admin(TYPES);
    for table in TRANSFORMS.map(|transform| format!("kinds_{transform}")) {
        server.admin(&format!(
            "CREATE TABLE {table} (id int, {}); INSERT INTO {table} SELECT 1, {}; INSERT INTO {table} (id) VALUES (2); \
             GRANT SELECT ON {table} TO {}",
            columns.join(", "),
            values.join(", "),
            postgres::ROLE
        ));
    }
    Stage::around(server, |settings| settings.policy = policy())
}

/// A file that `COPY … (FORMAT binary)` reads.
/// <https://www.postgresql.org/docs/current/sql-copy.html>, Binary Format.
fn binary_copy(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut file = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        file.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
        for value in row {
            file.extend(value.as_ref().map_or(-1, |value| i32::try_from(value.len()).unwrap()).to_be_bytes());
            file.extend(value.iter().flatten());
        }
    }
    file.extend((-1_i16).to_be_bytes());
    file
}

/// The same in text.
fn text_copy(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let field = |value: &Option<Vec<u8>>| match value {
        None => "\\N".to_owned(),
        Some(value) => String::from_utf8(value.clone())
            .unwrap()
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n"),
    };
    let line = |row: &Vec<Option<Vec<u8>>>| row.iter().map(field).collect::<Vec<_>>().join("\t") + "\n";
    rows.iter().map(line).collect::<String>().into_bytes()
}

#[test]
fn the_server_takes_every_masked_value_as_one_of_its_type() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let folder = leftovers::folder(&leftovers::unique_name());
    for transform in TRANSFORMS {
        let columns: Vec<String> = (0..KINDS.len()).map(|at| format!("c{at}")).collect();
        let question = format!("SELECT {} FROM kinds_{transform} ORDER BY id", columns.join(", "));
        for (format, copy) in [(0, "text"), (1, "binary")] {
            let reply = client.extended(&question, &[], format);
            assert!(reply.errors.is_empty(), "{:?}", reply.errors);
            assert_eq!(reply.rows.len(), 2);
            for ((r#type, _), value) in KINDS.iter().zip(&reply.rows[0]) {
                let value = value.as_ref().unwrap_or_else(|| panic!("{type} became NULL by {transform}"));
                let shown = String::from_utf8_lossy(value);
                assert!(!shown.contains("MARK"), "{type} by {transform}: {shown}");
            }
            assert!(reply.rows[1].iter().all(Option::is_none), "a NULL stays one");
            let file = folder.join(format!("{transform}.{copy}"));
            let content = if format == 0 { text_copy(&reply.rows) } else { binary_copy(&reply.rows) };
            fs::write(&file, content).unwrap();
            let table = format!("back_{transform}_{copy}");
            stage.postgres.admin(&format!(
                "CREATE TABLE {table} (LIKE kinds_{transform}); ALTER TABLE {table} DROP id, \
                 ALTER c9 TYPE numeric"
            ));
            copy_in(&stage, &format!("\\copy {table} FROM '{}' (FORMAT {copy})", file.display()));
        }
        let texts: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
        let all = |table: &str, key: &str| {
            let joined = texts.join(", ");
            let row = stage.postgres.admin(&format!(
                "SELECT array_to_string(ARRAY[{joined}], chr(31), 'NULL') FROM {table} WHERE {key}"
            ));
            row.split('\u{1f}').map(str::to_owned).collect::<Vec<_>>()
        };
        let [of_text, of_binary] =
            ["text", "binary"].map(|copy| all(&format!("back_{transform}_{copy}"), "c0 IS NOT NULL"));
        let original = all(&format!("kinds_{transform}"), "id = 1");
        for (at, (r#type, _)) in KINDS.iter().enumerate() {
            assert_eq!(of_text[at], of_binary[at], "{type} by {transform} is the same in both formats");
            assert_ne!(of_text[at], original[at], "{type} by {transform}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

fn copy_in(stage: &Stage, command: &str) {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", postgres::DATABASE, "-h"]);
    psql.arg(stage.postgres.socket_folder()).args(["-p", &stage.postgres.port().to_string(), "-c", command]);
    programs::succeed(&mut psql);
}

/// Clients read dates and intervals in the style that they have set.
#[test]
fn dates_are_masked_in_the_style_that_the_session_has_set() {
    let stage = stage();
    let at = |wanted: &str| KINDS.iter().position(|(r#type, _)| *r#type == wanted).unwrap();
    let question = format!(
        "SELECT c{}, c{}, c{}, c{} FROM kinds_partial WHERE id = 1;\n",
        at("date"),
        at("timestamp"),
        at("timestamptz"),
        at("interval")
    );
    for (style, interval, seen) in [
        ("ISO", "postgres", "1973-01-01|1973-01-01 00:00:00|1973-01-01 00:00:00+00|00:00:00"),
        ("German", "postgres_verbose", "01.01.1973|01.01.1973 00:00:00|01.01.1973 00:00:00 UTC|@ 0"),
        ("SQL, DMY", "iso_8601", "01/01/1973|01/01/1973 00:00:00|01/01/1973 00:00:00 UTC|PT0S"),
        ("Postgres", "postgres", "01-01-1973|Mon Jan 01 00:00:00 1973|Mon Jan 01 00:00:00 1973 UTC|00:00:00"),
    ] {
        let script = format!("SET datestyle = '{style}'; SET intervalstyle = '{interval}';\n{question}")
            .replace("; S", ";\nS");
        let said = stage.psql_script(&["-Atq"], &script);
        assert_eq!(said.ok().trim(), seen, "{style}");
    }
}
