//! Databases in several encodings, each with a table of values for every type: what is extreme, what is odd, and what
//! was made at random.

use std::fmt::Write as _;

/// A database to try in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: &'static str,
    /// Its encoding and locale.
    pub encoding: &'static str,
    /// Whether every piece of a text is a text: what the list calls `letters`.
    pub is_whole: bool,
    /// Letters of more than one byte, where there are some.
    pub letters: &'static str,
}

/// All of them.
pub fn databases() -> [Database; 4] {
    let database = |name, encoding, is_whole, letters| Database { name, encoding, is_whole, letters };
    [
        database("japanese", "ENCODING 'EUC_JP' LOCALE 'C'", false, "日"),
        database("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C'", false, "é"),
        database("latin1", "ENCODING 'LATIN1' LOCALE 'C'", true, "é"),
        database("utf8", "ENCODING 'UTF8' LOCALE 'C.UTF-8'", true, "é日"),
    ]
}

/// Types by class, as they are written in SQL. The tables of their values are `few_<n>` and `all_<n>`, by their place here.
pub const TYPES: &[(&str, &[&str])] = &[
    (
        "text",
        &[
            "text",
            "varchar",
            "varchar(40)",
            "char(40)",
            "text COLLATE \"C\"",
            "text COLLATE \"POSIX\"",
            "text COLLATE odd",
        ],
    ),
    ("small", &["int2", "int4"]),
    ("int8", &["int8"]),
    ("fixed", &["numeric(12, 2)", "numeric(1000, 400)"]),
    ("numeric", &["numeric"]),
    ("bool", &["bool"]),
    ("moments", &["date", "time", "timestamp", "timestamptz", "uuid"]),
    ("equals", &["bytea", "name", "inet", "oid"]),
    (
        "scalars",
        &[
            "\"char\"", "float4", "float8", "cidr", "macaddr", "macaddr8", "interval", "timetz", "bit(9)",
            "varbit",
        ],
    ),
    ("json", &["json"]),
    ("jsonb", &["jsonb"]),
    ("array", &["text[]", "int4[]", "numeric[]", "jsonb[]", "timestamptz[]", "varchar(40)[]", "float8[]"]),
    ("json_array", &["json[]"]),
    ("enum", &["mood"]),
    ("row", &["plain_row"]),
    ("json_row", &["json_row"]),
    ("others", &["domained", "point", "int4range", "nummultirange", "tsvector", "xml", "nested", "nested[]"]),
];

/// What a database begins with.
pub fn preparation(database: Database) -> String {
    let mut sql = String::from(PREPARATION);
    // Values that are all characters of the encoding, in pieces.
    sql += match database.name {
        "utf8" => {
            "INSERT INTO large (x) VALUES (repeat('ΐ', 4194300)), (repeat('𝔘', 2097150)), (repeat('ɐŉ', 2097150));
             INSERT INTO texts SELECT string_agg(chr(n), '' ORDER BY n) FROM generate_series(1, 1114111) n \
             WHERE n NOT BETWEEN 55296 AND 57343 GROUP BY n / 4096;
             INSERT INTO texts SELECT string_agg(chr(n), '' ORDER BY n * 7919 % 65521) FROM generate_series(1, 55295) n GROUP BY n % 64;
             INSERT INTO few VALUES ('ΐﬃŉǰİıßẞÿµﬀ'), ('e\\u0301'), (U&'\\FFFF\\+10FFFF\\FEFF'), ('𝔘𝔫𝔦'), ('ΑΣ ΑΣ'), (U&'\\0301\\0301');"
        }
        "latin1" => {
            "INSERT INTO texts SELECT string_agg(chr(n), '' ORDER BY n * k % 257) FROM generate_series(1, 255) n, generate_series(1, 40) k GROUP BY k;
             INSERT INTO few VALUES (chr(255) || chr(181) || chr(223) || chr(160));"
        }
        "japanese" => {
            "INSERT INTO texts SELECT string_agg(c, '' ORDER BY c) FROM (SELECT piece(decode(to_hex(a) || to_hex(b), 'hex')) AS c, a \
             FROM generate_series(161, 254) a, generate_series(161, 254) b) s WHERE c IS NOT NULL GROUP BY a;
             INSERT INTO few SELECT left(a, 5) || 'x' FROM texts LIMIT 4;"
        }
        _ => {
            "INSERT INTO texts SELECT 'é' || repeat('日本語', n) || 'ß' FROM generate_series(1, 20) n;
             INSERT INTO few VALUES ('日本'), ('é');"
        }
    };
    sql += "INSERT INTO texts SELECT a FROM few;\n";
    for (at, name) in TYPES.iter().flat_map(|(_, types)| *types).enumerate() {
        for (table, of) in [("few", "few"), ("all", "texts")] {
            write!(
                sql,
                "CREATE TABLE {table}_{at} (n serial, x {name});
                 INSERT INTO {table}_{at} (x) SELECT v.x FROM (SELECT value_of({plain}, '{of}') AS x) s, LATERAL (SELECT s.x::{plain_type} AS x) v;\n",
                plain = quoted(bare(name)),
                plain_type = bare(name),
            )
            .expect("a text");
        }
    }
    sql
}

/// A type without its collation.
fn bare(name: &str) -> &str {
    name.split(" COLLATE").next().unwrap_or(name)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The place of a type in [`TYPES`].
pub fn place(name: &str) -> usize {
    let mut all = TYPES.iter().flat_map(|(_, types)| *types);
    all.position(|known| *known == name).expect("a type of the list")
}

/// `value_of(type, table)` gives the texts that a type takes out of all that are there, so that a value for one type is
/// tried for every other one; `piece` a character, if the bytes are one.
const PREPARATION: &str = r#"
DO $$ BEGIN
  CREATE COLLATION odd (PROVIDER = icu, LOCALE = 'tr-u-ks-level2', DETERMINISTIC = false);
EXCEPTION WHEN OTHERS THEN -- a server without ICU, or an encoding that it does not know
  CREATE COLLATION odd (PROVIDER = libc, LOCALE = 'C');
END $$;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "happy"', '');
CREATE DOMAIN domained AS text CHECK (value <> 'never');
CREATE DOMAIN public.text AS pg_catalog.text CHECK (value NOT LIKE 'a%');
CREATE TYPE nested AS (a pg_catalog.text, b int, c pg_catalog.text[]);
CREATE TYPE plain_row AS (a pg_catalog.text, b int4, c numeric, d timestamptz, e jsonb, f pg_catalog.text[], g mood, h bytea, i interval);
CREATE TYPE json_row AS (a json, b float8, c json[], d date);
CREATE TABLE texts (a pg_catalog.text);
CREATE TABLE few (a pg_catalog.text);
-- All values of a row together have less than 8 MiB.
CREATE TABLE large (n serial, x pg_catalog.text);
CREATE FUNCTION piece(bytes bytea) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$
BEGIN
  -- One that no client in UTF8 can be sent fails as it is.
  PERFORM convert(bytes, getdatabaseencoding(), 'UTF8');
  RETURN convert_from(bytes, getdatabaseencoding());
EXCEPTION WHEN OTHERS THEN RETURN NULL;
END $$;
CREATE FUNCTION value_of(kind pg_catalog.text, of pg_catalog.text) RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
  one pg_catalog.text;
BEGIN
  FOR one IN EXECUTE 'SELECT a FROM ' || quote_ident(of) LOOP
    BEGIN
      -- One that is cut within a character when it is stored fails as it is.
      EXECUTE format('COPY (SELECT %L::%s) TO ''/dev/null'' (ENCODING ''UTF8'')', one, kind);
      RETURN NEXT one;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN NEXT NULL;
END $$;
CREATE FUNCTION tried(probe pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'COPY (' || probe || ') TO ''/dev/null'' (ENCODING ''UTF8'')';
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
INSERT INTO few VALUES (''), (' '), ('a'), ('%_\'), ('it''s "x"'), (E'\t\r\n\x01\x1f'), ('{}'), ('[]'), ('()'),
  ('0'), ('-1'), ('1'), ('32767'), ('-32768'), ('2147483647'), ('-2147483648'), ('9223372036854775807'),
  ('-9223372036854775808'), ('4294967295'), ('9999999999.99'), ('-0.001'), ('1e131071'), ('-1e-16383'), ('NaN'),
  ('Infinity'), ('-Infinity'), ('1.7976931348623157e308'), ('5e-324'), ('-0'), ('3.4e38'),
  ('1' || repeat('0', 599)), ('-0.' || repeat('0', 399) || '1'),
  ('true'), ('f'), ('infinity'), ('-infinity'), ('epoch'), ('4714-11-24 00:00:00 BC'), ('5874897-12-31'),
  ('294276-12-31 23:59:59.999999'), ('4714-11-24 00:00:00+00 BC'), ('0001-01-01 BC'), ('2024-02-29 12:00:00.5'),
  ('24:00:00'), ('00:00:00'), ('23:59:59.999999+15:59:59'), ('24:00:00-15:59:59'), ('178000000 years'),
  ('-178000000 years -11 mons -2147483648 days'), ('2147483647 days 2562047788 hours'), ('P1Y-2M'),
  ('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff'), ('\x'), ('\x00ff5c27'),
  ('::/0'), ('0.0.0.0/0'), ('ffff::ffff'), ('10.0.0.0/8'), ('08:00:2b:01:02:03'), ('ff:ff:ff:ff:ff:ff:ff:ff'),
  ('101010101'), ('000000000'), ('{NULL,"",a}'), ('{{a,b},{c,d}}'), ('[-2:-1][0:0]={{1},{NULL}}'), ('{1,2,NULL}'),
  ('{NaN,1e131071}'), ('{infinity,"4714-11-24 00:00:00+00 BC"}'), ('{"\"","\\"}'), ('{"{}","[1]",NULL}'),
  ('null'), ('""'), ('[1,[2,[3,{"k":null}]]]'), ('{"k":{"k":"é"},"":1,"k":2}'), ('{"n":1e400,"k":"\u0000"}'),
  ('{"k":"\u00e9\ud83d\ude00","n":[1,2,3]}'), ('1e1000'), ('{"{\"a\":\"\\u0000\"}"}'), ('{"\"\\ud83d\\ude00\""}'),
  ('sad'), ('it''s "happy"'), ('(,,,,,,,,)'), ('("a ""b""",1,NaN,infinity,"{""k"":[1e1000]}","{NULL,"""",x}",sad,"\\x00ff","-178000000 years")'),
  ('("",-2147483648,1e131071,"4714-11-24 00:00:00+00 BC","""\\u00e9""","{{1,2},{3,NULL}}",ok,"\\x",)'),
  ('("{""a"":""\\u0000""}",NaN,"{""1e1000"",null}",infinity)'), ('(,,,)'), ('("[1e9999]",Infinity,,4714-11-24 BC)'),
  ('(1,2)'), ('[1,2)'), ('empty'), ('{[1,2),(3,)}'), ('(a,1,"{b}")'), ('{"(a,1,\"{b}\")",NULL}'), ('<a>1</a>'),
  ('[' || repeat('[', 500) || repeat(']', 500) || ']'), (repeat('x', 63)), (repeat('ab', 4000));
INSERT INTO large (x) VALUES (repeat('x', 8388600)), (repeat(E'\x01', 8388600)), (repeat('"\', 4194300));
INSERT INTO few SELECT repeat('9', n) FROM generate_series(5, 40, 7) n;
INSERT INTO texts SELECT string_agg(chr((ascii(md5(n::pg_catalog.text || k)) * 31 + n * k) % 126 + 1), '') FROM generate_series(1, 300) n, generate_series(1, 40) k GROUP BY n;
INSERT INTO texts SELECT ((random() - 0.5) * 10 ^ (random() * 12))::numeric::pg_catalog.text FROM generate_series(1, 200);
"#;
