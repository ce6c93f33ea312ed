//! What a captured client reads of errors, notices and notifications: everything that is no masked value, and nothing
//! that is one, whoever says it. What is said to be hidden is shown to a client that is not captured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{
    postgres::Postgres,
    stage::Stage,
    wire::{self, Client, ServerError},
};

const POLICY: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("mask-pii") @mask("partial")
    forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
    @id("code") permit (principal, action == Action::"sql:call_unmasked", resource);
"#;

/// A piece of every value that is masked.
const SECRET: &str = "vanderzee";

const SCHEMA: &str = "
    SET ROLE app_agent;
    CREATE TABLE regions (id int PRIMARY KEY);
    INSERT INTO regions VALUES (1), (2);
    ALTER TABLE customers ADD UNIQUE (email);
    ALTER TABLE customers ADD region int NOT NULL DEFAULT 1 REFERENCES regions ON DELETE SET NULL ON UPDATE SET DEFAULT;
    INSERT INTO customers (id, name, email, phone, ssn, notes, region)
        VALUES (1000, 'Vera', 'vanderzee@vault.example', '+1 vanderzee', 'vanderzee', 'old', 2);
    ALTER TABLE customers ADD CONSTRAINT not_yet CHECK (notes <> 'checked' OR email NOT LIKE 'vander%') NOT VALID;
    CREATE TABLE logins (id int PRIMARY KEY, email text REFERENCES customers (email) DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO logins VALUES (1, 'vanderzee@vault.example');
    CREATE VIEW safe AS SELECT id, name FROM customers;
    CREATE VIEW safer AS SELECT * FROM safe WHERE name <> '';
    CREATE VIEW checked AS SELECT id, name FROM customers WHERE name <> '' WITH CHECK OPTION;
    CREATE TABLE accounts (id int PRIMARY KEY, pin text NOT NULL, note text, level int NOT NULL DEFAULT 1);
    INSERT INTO accounts VALUES (1, 'vanderzee', 'n');
    ALTER TABLE accounts ADD CHECK (note <> 'checked' OR pin::int > 0) NOT VALID;
    CREATE VIEW numbers AS SELECT id, pin::int AS n FROM accounts;
    CREATE VIEW numbered AS SELECT id, note FROM accounts WHERE pin::int > 0;
    CREATE TABLE branches (id int PRIMARY KEY, parent int REFERENCES branches ON DELETE CASCADE);
    CREATE TABLE desks (id int PRIMARY KEY, branch int REFERENCES branches ON DELETE CASCADE, secret text);
    INSERT INTO branches VALUES (1, NULL), (2, 1);
    INSERT INTO desks VALUES (1, 2, 'vanderzee');
    CREATE TABLE events (id int, region text, payload text, level int NOT NULL, PRIMARY KEY (id, region))
        PARTITION BY LIST (region);
    CREATE TABLE events_north PARTITION OF events FOR VALUES IN ('north');
    INSERT INTO events VALUES (1, 'north', 'vanderzee', 1);
    CREATE TABLE vips (tier text) INHERITS (accounts);
    INSERT INTO vips VALUES (7, 'vanderzee', 'n', 1, 'gold');
";

const CODE: &str = "
    SET ROLE app_agent;
    CREATE TABLE tickets (id int PRIMARY KEY, customer int, note text);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'ticket of %', (SELECT email FROM customers WHERE id = NEW.customer)
            USING DETAIL = (SELECT ssn FROM customers WHERE id = NEW.customer);
        RETURN NEW; END $$;
    CREATE TRIGGER tell BEFORE INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION tell();
    CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c customers; BEGIN
        SELECT * INTO c FROM customers WHERE id = OLD.customer;
        RAISE EXCEPTION 'no: %', c.email USING DETAIL = c.ssn, HINT = c.phone, ERRCODE = 'VANDE', COLUMN = c.ssn,
            CONSTRAINT = c.ssn, DATATYPE = c.ssn, TABLE = c.ssn, SCHEMA = c.ssn; END $$;
    CREATE TRIGGER object BEFORE UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION object();
    CREATE FUNCTION run() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE x text; BEGIN
        EXECUTE 'SELECT email FROM ' || 'custo' || 'mers WHERE id = 1000' INTO x;
        RAISE NOTICE 'ran for %', x; RETURN OLD; END $$;
    CREATE TRIGGER run BEFORE DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION run();
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_notify('changed', to_jsonb(NEW)::text); RETURN NULL; END $$;
    CREATE TRIGGER shout AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION shout();
    CREATE FUNCTION named() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'now %', NEW.note; NEW.level := 2; RETURN NEW; END $$;
    CREATE TRIGGER named BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION named();
    CREATE TABLE parts (id int PRIMARY KEY, name text, stock int CHECK (stock >= 0));
    CREATE FUNCTION count_part() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'part %', NEW.id USING HINT = NEW.name;
        IF NEW.stock > 100 THEN
            RAISE EXCEPTION 'too many of %', NEW.name USING DETAIL = NEW.stock, ERRCODE = 'SHELF', CONSTRAINT = 'shelf';
        END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER count_part BEFORE INSERT OR UPDATE ON parts FOR EACH ROW EXECUTE FUNCTION count_part();
    CREATE FUNCTION by_hand(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
        RAISE NOTICE 'mail %', (SELECT email FROM customers WHERE id = $1); RETURN 1; END $$;
    CREATE FUNCTION open_hand(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
        RAISE NOTICE 'part %', (SELECT name FROM parts WHERE id = $1); RETURN 1; END $$;
    CREATE FUNCTION in_sql(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT email::int FROM customers WHERE id = $1';
    CREATE VIEW hands AS SELECT id, by_hand(id + 999) AS h FROM regions;
    CREATE TABLE inbox (id int PRIMARY KEY, note text);
    CREATE RULE inbox_rule AS ON INSERT TO inbox DO ALSO INSERT INTO tickets VALUES (NEW.id + 5000, 1000, 'by rule');
    CREATE TABLE boxes (id int PRIMARY KEY);
    CREATE TABLE bits (id int PRIMARY KEY, box int REFERENCES boxes ON DELETE CASCADE);
    INSERT INTO boxes VALUES (1); INSERT INTO bits VALUES (1, 1);
    CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'gone with %', (SELECT email FROM customers WHERE id = 1000); RETURN OLD; END $$;
    CREATE TRIGGER gone BEFORE DELETE ON bits FOR EACH ROW EXECUTE FUNCTION gone();
    CREATE TABLE later (id int PRIMARY KEY);
    CREATE FUNCTION at_last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'at last %', (SELECT email FROM customers WHERE id = 1000); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER at_last AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION at_last();
    CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
        RAISE NOTICE 'fits %', (SELECT email FROM customers WHERE id = 1000); RETURN true; END $$;
    CREATE DOMAIN fitting AS text CHECK (fits(VALUE));
    CREATE TABLE fittings (id int PRIMARY KEY, f fitting, c text CHECK (c = '' OR fits(c)));
    CREATE FUNCTION preset() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'preset %', (SELECT email FROM customers WHERE id = 1000); RETURN 3; END $$;
    CREATE TABLE presets (id int PRIMARY KEY, n int DEFAULT preset());
    CREATE TABLE ruled (id int PRIMARY KEY);
    INSERT INTO ruled VALUES (1);
    ALTER TABLE ruled ENABLE ROW LEVEL SECURITY; ALTER TABLE ruled FORCE ROW LEVEL SECURITY;
    CREATE POLICY p ON ruled USING (by_hand(1000) = 1);
    INSERT INTO tickets SELECT 1, NULL, 'old' WHERE false;
    ALTER TABLE tickets DISABLE TRIGGER ALL; INSERT INTO tickets VALUES (10, 1000, 'old'), (11, 1000, 'old');
    ALTER TABLE tickets ENABLE TRIGGER ALL;
";

fn stage_with(more: &str) -> Stage {
    let postgres = Postgres::start();
    postgres.script(SCHEMA);
    postgres.script(more);
    Stage::around(postgres, |settings| {
        POLICY.clone_into(&mut settings.policy);
        for column in ["accounts.pin", "desks.secret", "events.payload"] {
            settings.targets[0].tags.push((format!("public.{column}"), vec!["pii".to_owned()]));
        }
    })
}

/// Everything that a client hears of one message.
#[derive(Debug, Default)]
struct Heard {
    errors: Vec<ServerError>,
    notices: Vec<ServerError>,
    /// Channel and payload.
    notifications: Vec<(String, String)>,
    rows: usize,
}

fn hear(client: &mut Client, sql: &str) -> Heard {
    let mut heard = Heard::default();
    loop {
        let message = client.read().expect("an answer");
        match message.tag {
            b'E' => heard.errors.push(wire::error_of(&message.body)),
            b'N' => heard.notices.push(wire::error_of(&message.body)),
            b'A' => {
                let mut texts = message.body[4..].split(|byte| *byte == 0);
                let mut text = || String::from_utf8_lossy(texts.next().unwrap()).into_owned();
                heard.notifications.push((text(), text()));
            }
            b'D' => heard.rows += 1,
            b'G' => {
                client.send(b'd', b"abc\n");
                client.send(b'c', b"");
            }
            b'Z' => return heard,
            _ => {}
        }
        let text = String::from_utf8_lossy(&message.body);
        assert!(!text.to_lowercase().contains("vander"), "{sql}: {text}");
    }
}

fn ask(client: &mut Client, sql: &str) -> Heard {
    client.send(b'Q', &[sql.as_bytes(), &[0]].concat());
    hear(client, sql)
}

/// The same by the extended protocol.
fn ask_extended(client: &mut Client, sql: &str) -> Heard {
    client.parse("", sql);
    client.bind("", "", &[], 0);
    client.describe(b'P', "");
    client.execute("", 0);
    client.send(b'S', &[]);
    hear(client, sql)
}

/// Insists that a client that is not captured is shown a masked value by these statements, and undoes them.
fn shown_directly(stage: &Stage, statements: &[&str]) {
    let script = if statements.contains(&"BEGIN") {
        format!("{};\nROLLBACK;", statements.join(";\n"))
    } else {
        // Also what waits for the end of the transaction.
        format!("BEGIN;\n{};\nSET CONSTRAINTS ALL IMMEDIATE;\nROLLBACK;", statements.join(";\n"))
    };
    let said = stage.postgres.try_script(&format!("SET ROLE app_agent; {script}"));
    assert!(said.contains(SECRET), "{statements:?} shows nothing directly: {said}");
}

/// SQLSTATE, and the message's beginning.
#[track_caller]
fn is(error: &ServerError, sqlstate: &str, message: &str) {
    assert!(error.code() == sqlstate && error.message().starts_with(message), "{error:?}");
}

#[test]
fn an_error_names_what_is_wrong_and_quotes_no_row_with_a_masked_column() {
    let stage = stage_with("");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let not_null = "null value in column \"name\" of relation \"customers\" violates not-null constraint";
    let cases: &[(&[&str], &str, &str)] = &[
        (&["UPDATE safe SET name = NULL WHERE id = 1000"], "23502", not_null),
        (&["UPDATE safer SET name = NULL WHERE id = 1000"], "23502", not_null),
        (&["UPDATE customers SET name = NULL WHERE id = 1000"], "23502", not_null),
        (
            &["UPDATE checked SET name = '' WHERE id = 1000"],
            "44000",
            "new row violates check option for view \"checked\"",
        ),
        (
            &["UPDATE customers SET notes = 'checked' WHERE id = 1000"],
            "23514",
            "new row for relation \"customers\" violates check constraint \"not_yet\"",
        ),
        (
            &["DELETE FROM regions WHERE id = 2"],
            "23502",
            "null value in column \"region\" of relation \"customers\" violates not-null constraint",
        ),
        (
            &["UPDATE events SET level = NULL"],
            "23502",
            "null value in column \"level\" of relation \"events_north\"",
        ),
        (
            &["UPDATE events_north SET region = 'south'"],
            "23514",
            "new row for relation \"events_north\" violates partition constraint",
        ),
        (
            &["UPDATE accounts SET level = NULL WHERE id = 7"],
            "23502",
            "null value in column \"level\" of relation \"vips\"",
        ),
        (
            &["BEGIN", "DELETE FROM customers WHERE id = 1000", "COMMIT"],
            "23503",
            "update or delete on table \"customers\" violates foreign key constraint \"logins_email_fkey\" on table \"logins\"",
        ),
        (
            &["BEGIN", "DELETE FROM customers WHERE id = 1000", "SET CONSTRAINTS ALL IMMEDIATE"],
            "23503",
            "update or delete on table \"customers\" violates foreign key constraint \"logins_email_fkey\" on table \"logins\"",
        ),
        (
            &["DELETE FROM customers WHERE id = 1000"],
            "23503",
            "update or delete on table \"customers\" violates foreign key constraint \"logins_email_fkey\" on table \"logins\"",
        ),
    ];
    for (statements, sqlstate, message) in cases {
        shown_directly(&stage, statements);
        for ask in [ask, ask_extended] {
            let mut errors = Vec::new();
            for statement in *statements {
                errors.extend(ask(&mut client, statement).errors);
            }
            ask(&mut client, "ROLLBACK");
            assert_eq!(errors.len(), 1, "{statements:?}: {errors:?}");
            is(&errors[0], sqlstate, message);
            assert_eq!(errors[0].field('D'), "", "{statements:?}");
        }
    }
    // What names the object is left, for the programs that map an error to a field.
    let error = &ask(&mut client, "UPDATE safe SET name = NULL WHERE id = 1000").errors[0];
    assert_eq!([error.field('s'), error.field('t'), error.field('c')], ["public", "customers", "name"]);
}

#[test]
fn a_detail_of_open_columns_passes() {
    let stage =
        stage_with("CREATE UNIQUE INDEX ON products (lower(name)); ALTER TABLE products OWNER TO app_agent;");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, sqlstate, detail) in [
        ("INSERT INTO customers (id, name) VALUES (1000, 'x')", "23505", "Key (id)=(1000) already exists."),
        ("INSERT INTO customers (name, email) SELECT 'x', 'vanderzee' || '@vault.example'", "23505", ""),
        (
            "INSERT INTO products (name, price, stock) VALUES ('Notebook 1', 1, 1)",
            "23505",
            "Key (lower(name))=(notebook 1) already exists.",
        ),
        (
            "INSERT INTO orders (customer_id, status, ordered_at) VALUES (5000, 'x', now())",
            "23503",
            "Key (customer_id)=(5000) is not present in table \"customers\".",
        ),
        (
            "DELETE FROM customers WHERE id = 1",
            "23503",
            "Key (id)=(1) is still referenced from table \"orders\".",
        ),
        ("INSERT INTO regions VALUES (NULL)", "23502", "Failing row contains (null)."),
        ("INSERT INTO events VALUES (1, 'west', 'x', 1)", "23514", ""),
    ] {
        let heard = ask(&mut client, sql);
        assert_eq!((heard.errors[0].code(), heard.errors[0].field('D')), (sqlstate, detail), "{sql}");
    }
}

#[test]
fn a_value_that_something_stored_computes_with_is_not_quoted() {
    let stage = stage_with("");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "UPDATE accounts SET note = 'checked' WHERE id = 1",
        "SELECT n FROM numbers",
        "SELECT count(*) FROM numbered",
        "SELECT id FROM numbered WHERE id = 1",
        "UPDATE numbered SET note = 'x'",
    ] {
        shown_directly(&stage, &[sql]);
        let heard = ask(&mut client, sql);
        is(
            &heard.errors[0],
            "22P02",
            "nodegate: the database's message is withheld, since it may quote a value",
        );
        assert!(heard.errors[0].field('H').contains("Leave masked columns out"), "{:?}", heard.errors[0]);
    }
    // The same SQLSTATE for what the client has written, or of an open column.
    for sql in [
        "SELECT * FROM customers WHERE id = 'abc'",
        "SELECT name::int FROM customers WHERE id = 1000",
        "UPDATE events SET level = region::int",
        "SELECT status::int FROM orders",
    ] {
        let heard = ask(&mut client, sql);
        is(&heard.errors[0], "22P02", "invalid input syntax for type integer: \"");
    }
    client.parse("", "SELECT email FROM customers WHERE id = $1");
    client.bind("", "", &["abc"], 0);
    client.execute("", 0);
    client.send(b'S', &[]);
    is(
        &hear(&mut client, "the parameter").errors[0],
        "22P02",
        "invalid input syntax for type integer: \"abc\"",
    );
}

#[test]
fn code_that_can_see_a_masked_column_is_not_heard() {
    let stage = stage_with(CODE);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, code) in [
        ("INSERT INTO tickets VALUES (1, 1000, 'hello')", "public.tell"),
        ("DELETE FROM tickets WHERE id = 10", "public.run"),
        ("INSERT INTO inbox VALUES (1, 'x')", "public.tell"),
        ("DELETE FROM boxes WHERE id = 1", "public.gone"),
        ("SELECT by_hand(1000)", "public.by_hand"),
        ("SELECT h FROM hands", "public.by_hand"),
        ("SELECT id FROM ruled", "public.by_hand"),
        ("INSERT INTO fittings VALUES (1, 'x', '')", "public.fits"),
        ("INSERT INTO fittings VALUES (2, NULL, 'x')", "public.fits"),
        ("INSERT INTO presets VALUES (1)", "public.preset"),
        ("INSERT INTO later VALUES (1)", "public.at_last"),
        ("BEGIN; INSERT INTO later VALUES (2); COMMIT", "public.at_last"),
        ("BEGIN; INSERT INTO later VALUES (3); SET CONSTRAINTS ALL IMMEDIATE; COMMIT", "public.at_last"),
    ] {
        shown_directly(&stage, &[sql.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT")]);
        let heard = ask(&mut client, sql);
        assert!(heard.errors.is_empty(), "{sql}: {heard:?}");
        let notice = &heard.notices[0];
        is(
            notice,
            "00000",
            "nodegate: the database's message is withheld, since code that runs along can see",
        );
        assert!(notice.message().ends_with(code), "{sql}: {notice:?}");
        assert_eq!((notice.field('D'), notice.field('W')), ("", ""));
    }
    // What waits for the end of the transaction, in a message of its own.
    for end in ["COMMIT", "SET CONSTRAINTS ALL IMMEDIATE"] {
        ask(&mut client, "BEGIN");
        ask(&mut client, "INSERT INTO later VALUES (4)");
        let notice = &ask(&mut client, end).notices[0];
        assert!(notice.message().contains("withheld"), "{notice:?}");
        ask(&mut client, "ROLLBACK");
        ask(&mut client, "DELETE FROM later WHERE id = 4");
    }
    shown_directly(&stage, &["UPDATE tickets SET note = 'new' WHERE id = 11"]);
    let error = &ask(&mut client, "UPDATE tickets SET note = 'new' WHERE id = 11").errors[0];
    is(error, "P0001", "nodegate: the database's message is withheld, since code that runs along can see");
    for field in ['D', 'W', 's', 't', 'c', 'd', 'n'] {
        assert_eq!(error.field(field), "", "{field}");
    }
    // What PostgreSQL finds itself is said as ever, although code runs along.
    let heard = ask(&mut client, "INSERT INTO tickets VALUES (11, 1, 'x')");
    is(&heard.errors[0], "23505", "duplicate key value violates unique constraint \"tickets_pkey\"");
    // A function in SQL is read, and what it reads is judged.
    shown_directly(&stage, &["SELECT in_sql(1000)"]);
    is(
        &ask(&mut client, "SELECT in_sql(1000)").errors[0],
        "42501",
        "nodegate: public.customers.email is masked",
    );
    // A notice of each row is one.
    assert_eq!(
        ask(&mut client, "INSERT INTO tickets SELECT 100 + i, 1000 FROM generate_series(1, 9) AS i")
            .notices
            .len(),
        1
    );
}

#[test]
fn code_that_can_see_none_is_heard_word_for_word() {
    let stage = stage_with(CODE);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let heard = ask(&mut client, "INSERT INTO parts VALUES (1, 'lamp', 5)");
    is(&heard.notices[0], "00000", "part 1");
    assert_eq!(heard.notices[0].field('H'), "lamp");
    assert!(heard.notices[0].field('W').contains("count_part()"), "{:?}", heard.notices[0]);
    let heard = ask(&mut client, "UPDATE parts SET stock = 101");
    is(&heard.errors[0], "SHELF", "too many of lamp");
    assert_eq!([heard.errors[0].field('D'), heard.errors[0].field('n')], ["101", "shelf"]);
    let heard = ask(&mut client, "UPDATE parts SET stock = -1");
    assert_eq!(heard.errors[0].field('D'), "Failing row contains (1, lamp, -1).");
    is(&ask(&mut client, "SELECT open_hand(1)").notices[0], "00000", "part lamp");
    // It is given the row of a masked table, and looks at open columns of it.
    is(&ask(&mut client, "INSERT INTO accounts VALUES (2, '7', 'fresh')").notices[0], "00000", "now fresh");
}

#[test]
fn a_notification_of_code_that_sees_a_masked_column_comes_without_its_payload() {
    let stage = stage_with(CODE);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    ask(&mut client, "LISTEN changed");
    ask(&mut client, "LISTEN mine");
    let shown = stage.postgres.try_script(
        "LISTEN changed; BEGIN; UPDATE customers SET notes = 'x' WHERE id = 1000; COMMIT; SELECT 1",
    );
    assert!(shown.contains(SECRET), "{shown}");
    let withheld = |heard: &Heard| {
        assert_eq!(heard.notifications.len(), 1, "{heard:?}");
        let (channel, payload) = &heard.notifications[0];
        channel == "changed" && payload.starts_with("nodegate: the payload is withheld")
    };
    assert!(withheld(&ask(&mut client, "SELECT 1")), "of another session");
    assert!(withheld(&ask(&mut client, "UPDATE customers SET notes = 'y' WHERE id = 1000")));
    // A guess, in the same transaction, is seen neither to be right nor to be wrong.
    let row = "SELECT to_jsonb(c)::text FROM customers AS c WHERE id = 1000";
    for guess in [stage.postgres.admin(row).replace("\"y\"", "\"z\""), "wrong".to_owned()] {
        let mut other = stage.client(&mut agent);
        ask(&mut other, "LISTEN changed");
        ask(&mut other, "BEGIN");
        ask(&mut other, &format!("NOTIFY changed, '{}'", guess.replace('\'', "''")));
        ask(&mut other, "UPDATE customers SET notes = 'z' WHERE id = 1000");
        assert!(withheld(&ask(&mut other, "COMMIT")), "{guess}");
    }
    ask(&mut client, "SELECT 1");
    // What the session says itself it hears.
    let hello = [("mine".to_owned(), "hello".to_owned())];
    assert_eq!(ask(&mut client, "NOTIFY mine, 'hello'").notifications, hello);
    assert_eq!(ask(&mut client, "SELECT pg_notify('mine', 'hello')").notifications, hello);
    assert_eq!(ask(&mut client, "NOTIFY mine").notifications, [("mine".to_owned(), String::new())]);
    ask(&mut client, "BEGIN");
    ask(&mut client, "NOTIFY mine, 'hello'");
    assert_eq!(ask(&mut client, "COMMIT").notifications, hello);
}

#[test]
fn notifications_pass_where_no_code_that_notifies_sees_anything() {
    let stage = stage_with(
        "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('jobs', NEW.id::text); RETURN NEW; END $$;
         CREATE TRIGGER say BEFORE UPDATE ON regions FOR EACH ROW EXECUTE FUNCTION say();
         CREATE TRIGGER say BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION say();",
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    ask(&mut client, "LISTEN jobs");
    stage.postgres.admin("NOTIFY jobs, 'from elsewhere'");
    let of = |payload: &str| [("jobs".to_owned(), payload.to_owned())];
    assert_eq!(ask(&mut client, "SELECT 1").notifications, of("from elsewhere"));
    assert_eq!(
        ask(&mut client, "UPDATE customers SET notes = 'x' WHERE id = 1000").notifications,
        of("1000")
    );
}

/// What ordinary clients hit: see that the server's own words come.
#[test]
fn a_name_that_is_not_there_is_named() {
    let stage = stage_with(CODE);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, sqlstate) in [
        ("ALTER TABLE custmers ADD COLUMN x int", "42P01"),
        ("CREATE INDEX ON custmers (id)", "42P01"),
        ("DROP TABLE custmers", "42P01"),
        ("TRUNCATE custmers", "42P01"),
        ("COMMENT ON TABLE custmers IS 'x'", "42P01"),
        ("GRANT SELECT ON custmers TO PUBLIC", "42P01"),
        ("COPY custmers FROM STDIN", "42P01"),
        ("CREATE TABLE zz (id int REFERENCES custmers (id))", "42P01"),
        ("SELECT * FROM custmers", "42P01"),
        ("UPDATE custmers SET x = 1 WHERE id = 1", "42P01"),
        ("ALTER TABLE customers DROP COLUMN nope", "42703"),
        ("ALTER TABLE customers ADD COLUMN name text", "42701"),
        ("ALTER TABLE customers ADD COLUMN x nosuchtype", "42704"),
        ("ALTER TABLE customers ADD FOREIGN KEY (id) REFERENCES nope", "42P01"),
        ("DROP TYPE nosuchtype", "42704"),
        ("CREATE TABLE customers (id int)", "42P07"),
        ("DROP INDEX nope", "42704"),
        ("ALTER TABLE orders DROP CONSTRAINT nope", "42704"),
        ("SELECT nope FROM customers", "42703"),
        ("INSERT INTO customers (nope) VALUES (1)", "42703"),
        ("SET statement_timeout = 'soon'", "22023"),
        ("SAVEPOINT a", "25P01"),
        ("DROP TABLE customers", "2BP01"),
    ] {
        let direct = stage.postgres.try_script(&format!("SET ROLE app_agent; BEGIN; {sql}; ROLLBACK;"));
        let heard = ask(&mut client, sql);
        assert_eq!(heard.errors.len(), 1, "{sql}: {heard:?}");
        let error = &heard.errors[0];
        assert_eq!(error.code(), sqlstate, "{sql}: {error:?}");
        assert!(!error.message().contains("nodegate"), "{sql}: {error:?}");
        if sqlstate != "25P01" {
            assert!(direct.contains(error.message()), "{sql}: {error:?} for {direct}");
        }
    }
    for (sql, notice) in [
        ("DROP TABLE IF EXISTS nothere", "table \"nothere\" does not exist, skipping"),
        ("DROP INDEX IF EXISTS nothere", "index \"nothere\" does not exist, skipping"),
        ("CREATE TABLE IF NOT EXISTS customers (id int)", "relation \"customers\" already exists, skipping"),
        ("ALTER TABLE IF EXISTS nothere ADD x int", "relation \"nothere\" does not exist, skipping"),
        ("ROLLBACK", "there is no transaction in progress"),
    ] {
        let heard = ask(&mut client, sql);
        assert_eq!(heard.notices[0].message(), notice, "{sql}: {heard:?}");
    }
}

#[test]
fn copy_says_in_which_line_it_failed() {
    let stage = stage_with("");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let error = &ask(&mut client, "COPY products (id) FROM STDIN").errors[0];
    is(error, "22P02", "invalid input syntax for type integer: \"abc\"");
    assert_eq!(error.field('W'), "COPY products, line 1, column id: \"abc\"");
    // Of a table with masked columns the line alone: what is in it may be one of them.
    let error = &ask(&mut client, "COPY customers (id) FROM STDIN").errors[0];
    is(error, "22P02", "invalid input syntax for type integer: \"abc\"");
    assert_eq!(error.field('W'), "COPY customers, line 1");
}

#[test]
fn a_refused_definition_is_called_one() {
    let stage = stage_with("");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "ALTER TABLE customers ADD COLUMN dom text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED",
        "CREATE INDEX ON customers (lower(email))",
    ] {
        let error = &ask(&mut client, sql).errors[0];
        assert!(error.code() == "42501" && !error.text().contains("WHERE, JOIN"), "{error:?}");
        assert!(!error.field('H').contains("Select the column itself"), "{error:?}");
    }
    let error = &ask(
        &mut client,
        "INSERT INTO customers (name, email) VALUES ('x', 'y') ON CONFLICT (email) DO NOTHING",
    )
    .errors[0];
    assert!(error.message().contains("compared with what is there (ON CONFLICT"), "{error:?}");
    assert!(error.field('H').starts_with("Name a conflict of columns that are not masked"), "{error:?}");
}
