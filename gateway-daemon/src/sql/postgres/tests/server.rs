//! Against a real PostgreSQL of this machine, started for the test: the snapshot, and what psql itself sends.
//!
//! Needs Debian's `postgresql` package and root (the server runs as `postgres`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::short;
use crate::domain::catalogue::{Catalogue, RelationKind};
use crate::domain::statement::{ColumnName, RelationName};
use crate::sql::postgres::{read, snapshot};

const SCHEMA: &str = "
    CREATE TABLE customers (id serial PRIMARY KEY, name text, email text, ssn text, old int);
    ALTER TABLE customers DROP COLUMN old;
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id int REFERENCES customers, total numeric,
        twice numeric GENERATED ALWAYS AS (total * 2) STORED);
    CREATE VIEW customer_mail AS SELECT id, email AS mail, upper(name) AS uname FROM customers WHERE ssn <> '';
    CREATE VIEW mail_orders AS SELECT m.mail, o.total FROM customer_mail m JOIN orders o ON o.customer_id = m.id;
    CREATE MATERIALIZED VIEW stored_mail AS SELECT * FROM customer_mail;
    CREATE TABLE part (k int, secret text) PARTITION BY RANGE (k);
    CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100);
    CREATE TABLE vip (extra text) INHERITS (customers);
    CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION replace(int) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
    CREATE VIEW by_code AS SELECT f(id) AS x FROM customers;
    CREATE VIEW over_code AS SELECT x FROM by_code;
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
    CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
    CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
    CREATE DOMAIN checked AS int CHECK (f(VALUE) = 1);
    CREATE DOMAIN rechecked AS checked;
    CREATE DOMAIN plain AS int CHECK (VALUE > 1);
    CREATE TYPE mood AS ENUM ('a', 'b');
    CREATE TABLE moods (id int, feels mood, counted plain[], CONSTRAINT counts CHECK (id > 0));
    CREATE INDEX moods_feels ON moods (feels) INCLUDE (counted) WHERE id > 1;
    CREATE FUNCTION label_of(who int) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM customers WHERE id = who';
    CREATE FUNCTION mail_of(who int) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT email FROM customers c WHERE c.id = mail_of.who; END;
    CREATE ROLE app_agent LOGIN;
";

/// What JDBC reads primary keys by.
const PRIMARY_KEYS: &str =
    "select pg_catalog.pg_index | P pg_catalog.pg_index.indkey | F pg_catalog.pg_index.indkey";

struct Server {
    home: PathBuf,
    bin: PathBuf,
}

impl Server {
    fn start(name: &str) -> Self {
        let bin = fs::read_dir("/usr/lib/postgresql")
            .expect("Debian's postgresql package")
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("initdb").exists())
            .max()
            .expect("a PostgreSQL server");
        let home = std::env::temp_dir().join(format!("nodegate-sql-{name}-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let account = Command::new("id").args(["-u", "postgres"]).output().unwrap();
        let uid = String::from_utf8(account.stdout).unwrap().trim().parse().expect("the account postgres");
        chown(&home, Some(uid), None).unwrap();
        let server = Self { home, bin };
        let data = server.home.join("data");
        server.as_postgres("initdb", &["-D", path(&data), "-A", "trust", "-U", "postgres", "-N"]);
        let options = format!("-k {} -c listen_addresses= -c fsync=off", path(&server.home));
        let log = server.home.join("log");
        server.as_postgres("pg_ctl", &["-D", path(&data), "-o", &options, "-l", path(&log), "-w", "start"]);
        server
    }

    fn as_postgres(&self, program: &str, arguments: &[&str]) {
        let output = Command::new("runuser")
            .args(["-u", "postgres", "--"])
            .arg(self.bin.join(program))
            .args(arguments)
            .current_dir(&self.home)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }

    fn psql(&self, user: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-X", "-h", path(&self.home), "-U", user, "-d", "postgres"]).args(arguments);
        command.env("PSQL_EDITOR", "true").stdin(std::process::Stdio::null());
        command.output().unwrap()
    }

    fn catalogue(&self) -> Catalogue {
        let results: Vec<Vec<Vec<Option<String>>>> = snapshot::QUERIES
            .iter()
            .map(|query| {
                let output = self.psql("app_agent", &["-At", "-F", "\x1f", "-R", "\x1e", "-c", query]);
                assert!(output.status.success(), "{query}: {output:?}");
                let text = String::from_utf8(output.stdout).unwrap();
                text.trim_end_matches(['\n', '\x1e'])
                    .split('\x1e')
                    .filter(|row| !row.is_empty())
                    .map(|row| row.split('\x1f').map(|value| Some(value.to_owned())).collect())
                    .collect()
            })
            .collect();
        snapshot::build(&results).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.home.join("data");
        let _ = Command::new("runuser")
            .args(["-u", "postgres", "--"])
            .arg(self.bin.join("pg_ctl"))
            .args(["-D", path(&data), "-m", "immediate", "-w", "stop"])
            .current_dir(&self.home)
            .output();
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shown(catalogue: &Catalogue, relation: &str, column: &str) -> String {
    let name = RelationName { schema: "public".to_owned(), name: relation.to_owned() };
    let relation = catalogue.relation(&name).unwrap();
    let column = relation.columns.iter().find(|candidate| candidate.name == column).unwrap();
    let own = ColumnName { relation: relation.name.clone(), column: column.name.clone() };
    let names: BTreeSet<String> = column
        .origins
        .iter()
        .chain([&own])
        .map(|name| name.to_string().trim_start_matches("public.").to_owned())
        .collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn is_computed(catalogue: &Catalogue, relation: &str, column: &str) -> bool {
    let name = RelationName { schema: "public".to_owned(), name: relation.to_owned() };
    let mut columns = catalogue.relation(&name).unwrap().columns.iter();
    columns.find(|candidate| candidate.name == column).unwrap().is_computed
}

#[test]
fn a_snapshot_knows_what_columns_show_and_which_code_is_unknown() {
    let server = Server::start("snapshot");
    let output = server.psql("postgres", &["-q", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA]);
    assert!(output.status.success(), "{output:?}");
    let catalogue = server.catalogue();
    assert_eq!(catalogue.search_path, ["pg_catalog", "public"]);
    assert_eq!(shown(&catalogue, "customers", "email"), "customers.email vip.email");
    assert_eq!(shown(&catalogue, "vip", "email"), "customers.email vip.email");
    assert_eq!(shown(&catalogue, "orders", "twice"), "orders.total orders.twice");
    assert_eq!(shown(&catalogue, "part1", "secret"), "part.secret part1.secret");
    assert_eq!(shown(&catalogue, "customer_mail", "id"), "customer_mail.id customers.id vip.id");
    assert_eq!(
        shown(&catalogue, "mail_orders", "mail"),
        "customer_mail.mail customers.email mail_orders.mail vip.email"
    );
    assert_eq!(
        shown(&catalogue, "stored_mail", "uname"),
        "customer_mail.uname customers.name stored_mail.uname vip.name"
    );
    for (relation, column, expected) in [
        ("customers", "email", false),
        ("orders", "twice", true),
        ("customer_mail", "mail", false),
        ("customer_mail", "uname", true),
        ("mail_orders", "mail", false),
        ("stored_mail", "mail", false),
        ("stored_mail", "uname", true),
        ("over_code", "x", true),
    ] {
        assert_eq!(is_computed(&catalogue, relation, column), expected, "{relation}.{column}");
    }
    let stored = RelationName { schema: "public".to_owned(), name: "stored_mail".to_owned() };
    assert_eq!(catalogue.relation(&stored).unwrap().kind, RelationKind::MaterialisedView);
    let functions: Vec<&str> = catalogue.user_functions.keys().map(String::as_str).collect();
    assert_eq!(functions, ["f", "label_of", "mail_of", "replace", "same"]);
    assert_eq!(catalogue.user_operators, BTreeSet::from(["====".to_owned()]));
    assert_eq!(catalogue.opaque_types, BTreeSet::from(["checked".to_owned(), "rechecked".to_owned()]));
    let views: Vec<&str> = catalogue.opaque_relations.iter().map(|name| name.name.as_str()).collect();
    assert_eq!(views, ["by_code", "over_code"]);
    assert!(catalogue.stable_builtin_functions.contains("lower"));
    assert!(!catalogue.stable_builtin_functions.contains("ts_rewrite"));
    assert!(catalogue.builtin_functions.contains("pg_read_file"));
    let line = |text: &str| short(&read(text, &catalogue).unwrap()[0]);
    assert_eq!(
        line("SELECT x FROM over_code"),
        "select over_code, call - | P by_code.x customers.id over_code.x vip.id | Code(\"view public.over_code\")"
    );
    assert_eq!(line("SELECT replace('a', 'b', 'c')"), "select -");
    assert_eq!(
        line("SELECT label_of(1)"),
        "select customers | P customers.name vip.name | C customers.id vip.id | F customers.name vip.name"
    );
    assert_eq!(
        line("SELECT public.mail_of(1)"),
        "select customers | P customers.email vip.email | C customers.id vip.id | F customers.email vip.email"
    );
    assert_eq!(line("SELECT (information_schema._pg_expandarray(indkey)).n FROM pg_index"), PRIMARY_KEYS);
    for (text, columns) in [
        ("ALTER TYPE mood ADD VALUE 'c'", "alter - | D moods.feels"),
        ("ALTER DOMAIN plain ADD CHECK (value > 2)", "alter - | D moods.counted"),
        ("ALTER TABLE moods VALIDATE CONSTRAINT counts", "alter moods | D moods.id"),
        (
            "ALTER TABLE moods REPLICA IDENTITY USING INDEX moods_feels",
            "alter moods | D moods.counted moods.feels moods.id",
        ),
        (
            "CREATE TABLE t (a int REFERENCES customers)",
            "select customers, create t | D customers.id vip.id | C customers.id vip.id",
        ),
        ("CREATE TABLE t PARTITION OF part DEFAULT", "create t, alter part | D part.k"),
    ] {
        assert_eq!(line(text), columns, "{text}");
    }

    assert_eq!(server.catalogue().epoch, catalogue.epoch);
    server.psql("postgres", &["-qc", "ALTER TABLE customers RENAME email TO mail"]);
    assert_ne!(server.catalogue().epoch, catalogue.epoch);

    psql_is_transparent(&server);
}

/// Every query that psql sends for its meta-commands is read, and none of them is opaque.
fn psql_is_transparent(server: &Server) {
    let catalogue = server.catalogue();
    let mut queries = BTreeSet::new();
    for command in [
        "\\d",
        "\\d+",
        "\\d customers",
        "\\d+ orders",
        "\\d customer_mail",
        "\\d+ stored_mail",
        "\\d+ part",
        "\\d part1",
        "\\d vip",
        "\\d orders_id_seq",
        "\\d customers_pkey",
        "\\d pg_class",
        "\\d information_schema.tables",
        "\\dt",
        "\\dt+",
        "\\dt *.*",
        "\\di+",
        "\\ds+",
        "\\dv+",
        "\\dm+",
        "\\dE",
        "\\l",
        "\\l+",
        "\\du",
        "\\du+",
        "\\df",
        "\\df+",
        "\\dfa",
        "\\dn",
        "\\dn+",
        "\\dT+",
        "\\dD+",
        "\\do+",
        "\\dO",
        "\\dp",
        "\\ddp",
        "\\dx",
        "\\dx+",
        "\\dL+",
        "\\da",
        "\\db+",
        "\\dc+",
        "\\dC+",
        "\\dd",
        "\\dF+",
        "\\dFd+",
        "\\dFp+",
        "\\dFt+",
        "\\dew+",
        "\\des+",
        "\\det+",
        "\\dy+",
        "\\dX",
        "\\dA+",
        "\\dAc+",
        "\\dAf+",
        "\\dAo+",
        "\\dAp+",
        "\\drds",
        "\\dRp+",
        "\\dconfig",
        "\\dP+",
        "\\sf f",
        "\\sv customer_mail",
        "\\z customers",
    ] {
        let output = server.psql("postgres", &["-E", "-c", command]);
        let text = String::from_utf8(output.stdout).unwrap();
        for part in text.split("********* QUERY **********\n").skip(1) {
            queries.insert(part.split("\n**************************").next().unwrap_or_default().to_owned());
        }
    }
    assert!(queries.len() > 80, "{} queries", queries.len());
    let mut wrong = String::new();
    for query in queries {
        match read(&query, &catalogue) {
            Ok(statements) if statements.iter().all(|statement| statement.opaque.is_empty()) => {}
            other => writeln!(wrong, "{other:?}\n{query}\n").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
