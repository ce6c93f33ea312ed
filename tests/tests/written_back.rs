//! No mask is ever written into the database: what an application was shown in a masked column's place is refused where it
//! comes back as a value, however it comes, and the data stay as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use nodegate_tests::{
    stage::Stage,
    wire::{Client, Reply},
};

const RULE: &str = "builtin/mask-written-back";

/// A table with a mask of every transform, and of types whose masks are honest values as well.
const PEOPLE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'fine');
    CREATE TABLE people (
        id int PRIMARY KEY, name text, email text, card text, token text, secret text,
        salary int, born date, feels mood, tags text[], doc jsonb, key uuid
    );
    INSERT INTO people VALUES
        (1, 'Ada', 'ada@example.com', '4111111111111111', 'tok-1', 's3cret', 51234, '1815-12-10', 'fine', '{a,b}',
         '{\"a\": 1}', 'b3bd8a5c-1f5e-4f4f-9d0b-2c963f66afa6'),
        (2, 'Bob', 'bob@example.com', '4222222222222222', 'tok-2', 's3cret', 61234, '1825-12-10', 'fine', '{c}',
         '{\"a\": 2}', 'c3bd8a5c-1f5e-4f4f-9d0b-2c963f66afa6');
    ALTER TABLE people OWNER TO app_agent;
    ALTER TYPE mood OWNER TO app_agent;
    CREATE VIEW shown AS SELECT id, name, email AS mail FROM people;
    ALTER VIEW shown OWNER TO app_agent;
";

const POLICY: &str = r#"
@id("agents") permit (principal, action, resource);
@id("partial") @mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("partial") };
@id("last4") @mask("last4")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("last4") };
@id("hash") @mask("hash")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("hash") };
@id("null") @mask("null")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("hidden") };
@id("redact") @mask("redact")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("redact") };
"#;

const ALL: &str = "SELECT md5(string_agg(people::text, ';' ORDER BY id)) FROM people";

fn stage_with(policy: &str) -> Stage {
    let stage = Stage::with(|settings| {
        policy.clone_into(&mut settings.policy);
        settings.targets[0].tags = [
            ("email", "partial"),
            ("card", "last4"),
            ("token", "hash"),
            ("secret", "hidden"),
            ("salary", "redact"),
            ("born", "redact"),
            ("feels", "redact"),
            ("tags", "redact"),
            ("doc", "redact"),
            ("key", "hash"),
        ]
        .map(|(column, tag)| (format!("public.people.{column}"), vec![tag.to_owned()]))
        .into();
    });
    stage.postgres.script(PEOPLE);
    stage
}

/// Whether a reply is this rule's refusal, and names the column.
fn is_refused(reply: &Reply, column: &str) -> bool {
    reply.errors.iter().any(|error| {
        error.code() == "42501" && error.field('D').contains(RULE) && error.message().contains(column)
    })
}

/// Waits for what a new policy brings.
fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "the policy is not in force");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One parameter: its type, whether it is binary, its value.
type Bound<'a> = (u32, bool, Option<&'a [u8]>);

/// Parse, Bind with these values, Execute and Sync at once.
fn bound(client: &mut Client, sql: &str, values: &[Bound<'_>]) -> Reply {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut parse = [b"\0", sql.as_bytes(), b"\0", &count[..]].concat();
    let mut bind = [b"\0\0", &count[..]].concat();
    for (type_oid, is_binary, _) in values {
        parse.extend(type_oid.to_be_bytes());
        bind.extend(u16::from(*is_binary).to_be_bytes());
    }
    bind.extend(count);
    for (_, _, value) in values {
        match value {
            Some(value) => {
                bind.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                bind.extend(*value);
            }
            None => bind.extend((-1_i32).to_be_bytes()),
        }
    }
    bind.extend([0, 0]);
    client.send(b'P', &parse);
    client.send(b'B', &bind);
    client.send(b'E', &[0; 5]);
    client.sync()
}

#[test]
fn an_image_is_refused_however_it_comes_and_the_session_goes_on() {
    let stage = stage_with(POLICY);
    let before = stage.postgres.admin(ALL);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (column, sql) in [
        ("email", "UPDATE people SET name = 'x', email = 'a***@***.com' WHERE id = 1"),
        ("email", "UPDATE people SET email = '[redacted]' WHERE id = 1"),
        ("email", "UPDATE people SET email = 'a***' WHERE id = 1"),
        ("card", "UPDATE people SET card = '****1111' WHERE id = 1"),
        ("token", "UPDATE people SET token = '0123456789abcdef' WHERE id = 1"),
        ("doc", "UPDATE people SET doc = '\"***\"' WHERE id = 1"),
        ("key", "UPDATE people SET key = '01234567-89ab-8def-8123-456789abcdef' WHERE id = 1"),
        ("tags", "UPDATE people SET tags = '{[redacted],x}' WHERE id = 1"),
        ("tags", "UPDATE people SET tags = ARRAY['x', '[redacted]'] WHERE id = 1"),
        ("email", "INSERT INTO people (id, email) VALUES (3, 'a***@***.com')"),
        ("email", "INSERT INTO people VALUES (3, 'n', 'x@example.com'), (4, 'n', 'a***@***.com')"),
        ("email", "INSERT INTO people (id, email) SELECT 3, 'a***@***.com'"),
        (
            "email",
            "INSERT INTO people (id, email) SELECT id + 10, v.m FROM (VALUES (1, 'a***@***.com')) AS v (id, m)",
        ),
        ("email", "INSERT INTO people (id, email) SELECT * FROM unnest(ARRAY[3], ARRAY['a***@***.com'])"),
        (
            "email",
            "INSERT INTO people (id, email) SELECT * FROM unnest('{3}'::int[], '{a***@***.com}'::text[]) AS u",
        ),
        (
            "email",
            "INSERT INTO people SELECT * FROM json_populate_record(null::people, '{\"id\": 3, \"email\": \"a***@***.com\"}')",
        ),
        (
            "email",
            "INSERT INTO people (id, email) SELECT id, email FROM json_to_recordset('[{\"id\": 3, \"email\": \"a***@***.com\"}]') AS r (id int, email text)",
        ),
        (
            "email",
            "WITH v (a, b) AS (VALUES (3, 'a***@***.com')) INSERT INTO people (id, email) SELECT a, b FROM v",
        ),
        ("email", "WITH u AS (UPDATE people SET email = 'a***@***.com' RETURNING id) SELECT * FROM u"),
        ("email", "UPDATE people SET email = CASE WHEN id = 1 THEN 'a***@***.com' ELSE 'x' END"),
        ("email", "UPDATE people SET email = COALESCE(NULL, 'a***@***.com') WHERE id = 1"),
        ("email", "UPDATE people SET email = 'A***@***.COM'::varchar WHERE id = 1"),
        ("email", "UPDATE people SET email = lower('A***@***.COM') WHERE id = 1"),
        ("email", "UPDATE people SET email = 'a***' || '@***.com' WHERE id = 1"),
        ("email", "UPDATE people SET email = nullif('a***@***.com', '') WHERE id = 1"),
        ("email", "UPDATE people SET (name, email) = ('x', 'a***@***.com') WHERE id = 1"),
        ("email", "UPDATE people SET (name, email) = ROW('x', 'a***@***.com') WHERE id = 1"),
        ("email", "UPDATE people SET (name, email) = (SELECT 'x', 'a***@***.com') WHERE id = 1"),
        (
            "email",
            "UPDATE people SET email = (SELECT max(m) FROM (VALUES ('a***@***.com')) AS v (m)) WHERE id = 1",
        ),
        (
            "email",
            "UPDATE people AS p SET email = v.m FROM (VALUES (1, 'a***@***.com')) AS v (i, m) WHERE p.id = v.i",
        ),
        ("email", "UPDATE people SET email = (('[redacted]', 1)::text, 'a')::text WHERE false"),
        ("mail", "UPDATE shown SET mail = 'a***@***.com' WHERE id = 1"),
        ("mail", "INSERT INTO shown (id, mail) VALUES (3, 'a***@***.com')"),
        ("email", "INSERT INTO people (id, email) VALUES (1, 'a***@***.com') ON CONFLICT (id) DO NOTHING"),
        ("email", "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET email = 'a***@***.com'"),
        (
            "email",
            "MERGE INTO people p USING (SELECT 1 AS id, 'a***@***.com' AS m) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET email = s.m",
        ),
        (
            "email",
            "MERGE INTO people p USING (SELECT 9 AS id, 'a***@***.com' AS m) s ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id, email) VALUES (s.id, s.m)",
        ),
        ("email", "EXPLAIN ANALYZE UPDATE people SET email = 'a***@***.com' WHERE id = 1"),
        ("email", "PREPARE q AS UPDATE people SET email = 'a***@***.com' WHERE id = $1"),
    ] {
        let reply = client.query(sql);
        // A statement that other rules refuse must not pass for this one's.
        assert!(is_refused(&reply, column), "{sql}: {:?}", reply.errors);
    }
    assert_eq!(stage.postgres.admin(ALL), before);
    let error = client.query("UPDATE people SET email = 'a***@***.com' WHERE id = 1").error().clone();
    assert!(
        error.message().contains("public.people.email is masked for this agent by policy \"partial\""),
        "{error:?}"
    );
    assert_eq!(error.field('H'), "Save only the fields that changed.");
    assert_eq!(client.query("UPDATE people SET name = 'Eve' WHERE id = 1").tags, ["UPDATE 1"]);
    assert_eq!(client.query("UPDATE people SET email = 'eve@example.com' WHERE id = 1").tags, ["UPDATE 1"]);
    assert_eq!(stage.postgres.admin("SELECT name, email FROM people WHERE id = 1"), "Eve|eve@example.com");
}

#[test]
fn an_image_is_refused_as_a_parameter_in_either_format() {
    let stage = stage_with(POLICY);
    let before = stage.postgres.admin(ALL);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let array = |element: &[u8], type_oid: u32| {
        let parts: [&[u8]; 6] = [
            &[0, 0, 0, 1, 0, 0, 0, 0],
            &type_oid.to_be_bytes(),
            &[0, 0, 0, 1, 0, 0, 0, 1],
            &u32::try_from(element.len()).unwrap().to_be_bytes(),
            element,
            &[],
        ];
        parts.concat()
    };
    let mail = b"a***@***.com".as_slice();
    let mails = array(mail, 25);
    let uuid = [1, 2, 3, 4, 5, 6, 0x8a, 8, 0x89, 10, 11, 12, 13, 14, 15, 16];
    let cases: Vec<(&str, &str, Vec<Bound<'_>>)> = vec![
        ("email", "UPDATE people SET email = $1 WHERE id = 1", vec![(0, false, Some(mail))]),
        ("email", "UPDATE people SET email = $1 WHERE id = 1", vec![(25, true, Some(mail))]),
        ("email", "UPDATE people SET email = $1 WHERE id = 1", vec![(1043, true, Some(mail))]),
        ("email", "UPDATE people SET email = $1::text WHERE id = 1", vec![(0, true, Some(mail))]),
        ("email", "UPDATE people SET email = lower(trim($1)) WHERE id = 1", vec![(0, false, Some(mail))]),
        (
            "email",
            "UPDATE people SET email = CASE WHEN $2 = 1 THEN $1 ELSE 'x' END WHERE id = 1",
            vec![(25, false, Some(mail)), (23, false, Some(b"1"))],
        ),
        ("email", "UPDATE people SET email = COALESCE($1, 'x') WHERE id = 1", vec![(25, true, Some(mail))]),
        (
            "email",
            "INSERT INTO people (id, email) VALUES ($2, $1)",
            vec![(25, true, Some(mail)), (23, false, Some(b"7"))],
        ),
        (
            "email",
            "INSERT INTO people (id, email) SELECT 7, unnest($1::text[])",
            vec![(0, true, Some(&mails))],
        ),
        (
            "email",
            "INSERT INTO people (id, email) SELECT 7, m FROM unnest($1) AS m",
            vec![(1009, true, Some(&mails))],
        ),
        (
            "email",
            "INSERT INTO people (id, email) SELECT 7, m FROM unnest($1) AS m",
            vec![(1009, false, Some(b"{x,a***@***.com}"))],
        ),
        (
            "email",
            "INSERT INTO people SELECT * FROM jsonb_populate_record(null::people, $1)",
            vec![(3802, false, Some(b"{\"id\": 7, \"email\": \"a***@***.com\"}"))],
        ),
        (
            "email",
            "INSERT INTO people SELECT * FROM jsonb_populate_record(null::people, $1)",
            vec![(3802, true, Some(b"\x01{\"id\": 7, \"email\": \"a***@***.com\"}"))],
        ),
        (
            "email",
            "MERGE INTO people p USING (SELECT 1 AS id, $1 AS m) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET email = s.m",
            vec![(25, true, Some(mail))],
        ),
        ("key", "UPDATE people SET key = $1 WHERE id = 1", vec![(2950, true, Some(&uuid))]),
        ("doc", "UPDATE people SET doc = $1 WHERE id = 1", vec![(3802, true, Some(b"\x01\"***\""))]),
        ("tags", "UPDATE people SET tags = $1 WHERE id = 1", vec![(1009, true, Some(&mails[..0]))]),
    ];
    let redacted = array(b"[redacted]", 25);
    for (column, sql, mut values) in cases {
        if column == "tags" {
            values[0].2 = Some(&redacted);
        }
        let reply = bound(&mut client, sql, &values);
        assert!(is_refused(&reply, column), "{sql}: {:?}", reply.errors);
    }
    // NULL and what else may be meant, where it overwrites.
    for (column, type_oid, is_binary, value) in [
        ("secret", 25, false, None),
        ("email", 25, true, None),
        ("salary", 23, false, Some(&b"0"[..])),
        ("salary", 23, true, Some(&[0; 4][..])),
        ("salary", 20, true, Some(&[0; 8][..])),
        ("born", 1082, false, Some(b"1970-01-01")),
        ("born", 1082, true, Some(&(-10_957_i32).to_be_bytes()[..])),
        ("feels", 0, false, Some(b"sad")),
        ("tags", 1009, false, Some(b"{}")),
    ] {
        let sql = format!("UPDATE people SET {column} = $1 WHERE id = 1");
        let reply = bound(&mut client, &sql, &[(type_oid, is_binary, value)]);
        assert!(is_refused(&reply, column), "{sql}: {:?}", reply.errors);
        assert!(reply.error().field('H').contains("Action::\"sql:write\""), "{:?}", reply.errors);
    }
    assert_eq!(stage.postgres.admin(ALL), before);
    let honest = bound(
        &mut client,
        "UPDATE people SET salary = $1, email = $2 WHERE id = 1",
        &[(23, true, Some(&7_i32.to_be_bytes())), (25, true, Some(b"new@example.com"))],
    );
    assert_eq!((honest.tags, honest.errors.len()), (vec!["UPDATE 1".to_owned()], 0));
}

#[test]
fn what_may_be_meant_is_written_into_new_rows_and_where_policy_permits_it_by_name() {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let inserts = "INSERT INTO people (id, email, secret, salary, born, feels, tags) \
                   VALUES (3, NULL, NULL, 0, '1970-01-01', 'sad', '{}')";
    assert_eq!(client.query(inserts).tags, ["INSERT 0 1"]);
    let overwrites = [
        ("salary", "UPDATE people SET salary = 0 WHERE id = 1"),
        ("salary", "UPDATE people SET salary = CASE WHEN id = 1 THEN 0 ELSE 7 END"),
        ("secret", "UPDATE people SET secret = NULL WHERE id = 1"),
        ("born", "UPDATE people SET born = 'epoch' WHERE id = 1"),
        ("feels", "UPDATE people SET feels = 'sad' WHERE id = 1"),
        ("salary", "INSERT INTO people (id, salary) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET salary = 0"),
        (
            "salary",
            "MERGE INTO people p USING (SELECT 1 AS id, 0 AS s) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET salary = s.s",
        ),
        (
            "salary",
            "UPDATE people p SET salary = u.s FROM unnest(ARRAY[1], ARRAY[0]) AS u (i, s) WHERE p.id = u.i",
        ),
    ];
    for (column, sql) in overwrites {
        let reply = client.query(sql);
        assert!(is_refused(&reply, column), "{sql}: {:?}", reply.errors);
    }
    for sql in [
        "UPDATE people SET salary = 5 WHERE id = 0",
        "UPDATE people SET salary = CASE WHEN id = 0 THEN 5 ELSE 7 END WHERE id = 2",
        "UPDATE people SET email = COALESCE(NULL, 'x@example.com') WHERE id = 2",
        "UPDATE people SET email = DEFAULT WHERE id = 3",
        "INSERT INTO people (id, salary) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET salary = 8",
    ] {
        assert!(client.query(sql).errors.is_empty(), "{sql}");
    }
    // The same statement with another number is looked at anew.
    for (salary, is_written) in [(4, true), (4, true), (0, false), (4, true), (0, false)] {
        let reply = client.query(&format!("UPDATE people SET salary = {salary} WHERE id = 2"));
        assert_eq!(reply.errors.is_empty(), is_written, "{salary}");
    }
    let named = r#"@id("may-be-zero") permit (principal, action == Action::"sql:write", resource == Column::"shop/public.people.salary");"#;
    stage.daemon.set_policy(&format!("{POLICY}{named}"));
    eventually(|| client.query("UPDATE people SET salary = 0 WHERE id = 1").errors.is_empty());
    for (column, sql) in overwrites {
        let reply = client.query(sql);
        assert_eq!(reply.errors.is_empty(), column == "salary", "{sql}: {:?}", reply.errors);
    }
    let reply = client.query("UPDATE people SET email = 'a***@***.com' WHERE id = 1");
    assert!(is_refused(&reply, "email"), "{reply:?}");
}

#[test]
fn an_execute_is_looked_at_with_its_arguments() {
    let stage = stage_with(POLICY);
    let before = stage.postgres.admin(ALL);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(
        client.query("PREPARE save (text, int) AS UPDATE people SET email = $1 WHERE id = $2").tags,
        ["PREPARE"]
    );
    for sql in [
        "EXECUTE save('a***@***.com', 1)",
        "EXECUTE save(lower('A***@***.com'), 1)",
        "EXECUTE save(NULL, 1)",
        "EXPLAIN ANALYZE EXECUTE save('a***@***.com', 1)",
    ] {
        let reply = client.query(sql);
        assert!(is_refused(&reply, "email"), "{sql}: {:?}", reply.errors);
    }
    // By the protocol as well.
    client.send(b'B', b"\0save\0\0\0\0\x02\0\0\0\x0ca***@***.com\0\0\0\x011\0\0");
    client.send(b'E', &[0; 5]);
    let reply = client.sync();
    assert!(is_refused(&reply, "email"), "{reply:?}");
    assert_eq!(stage.postgres.admin(ALL), before);
    assert_eq!(client.query("EXECUTE save('new@example.com', 1)").tags, ["UPDATE 1"]);
}

#[test]
fn a_statement_that_was_prepared_before_the_mask_is_looked_at_by_the_mask() {
    let without = POLICY.replace("@id(\"partial\") @mask(\"partial\")", "@id(\"partial\") @mask(\"redact\")");
    let stage = stage_with(&without);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("save", "UPDATE people SET email = $1 WHERE id = 1");
    assert!(client.sync().errors.is_empty());
    let save = |client: &mut Client, value: &str| {
        client.bind("", "save", &[value], 0);
        client.execute("", 0);
        client.sync()
    };
    assert_eq!(save(&mut client, "a***@***.com").tags, ["UPDATE 1"], "no image of this mask");
    stage.daemon.set_policy(POLICY);
    eventually(|| client.query("SELECT email FROM people WHERE id = 2").texts() == [["b***@***.com"]]);
    assert!(is_refused(&save(&mut client, "a***@***.com"), "email"));
    assert_eq!(save(&mut client, "new@example.com").tags, ["UPDATE 1"]);
}

#[test]
fn a_pipeline_stops_at_the_refused_bind_and_what_came_before_it_is_undone() {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("save", "UPDATE people SET email = $1 WHERE id = 1");
    client.sync();
    for value in ["one@example.com", "a***@***.com", "three@example.com"] {
        client.bind("", "save", &[value], 0);
        client.execute("", 0);
    }
    let reply = client.sync();
    assert_eq!(reply.tags, ["UPDATE 1"]);
    assert!(is_refused(&reply, "email"), "{reply:?}");
    assert_eq!(stage.postgres.admin("SELECT email FROM people WHERE id = 1"), "ada@example.com");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn many_rows_and_large_binds_are_looked_at_as_a_whole() {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let rows = |image: &str| {
        let mut sql = "INSERT INTO people (id, name, email) VALUES ".to_owned();
        for id in 100..6_100 {
            let email = if id == 6_000 { image.to_owned() } else { format!("someone{id}@example.com") };
            write!(sql, "{}({id}, 'somebody', '{email}')", if id == 100 { "" } else { ", " }).unwrap();
        }
        sql
    };
    assert!(is_refused(&client.query(&rows("s***@***.com")), "email"));
    assert_eq!(client.query(&rows("s@example.com")).tags, ["INSERT 0 6000"]);
    let mut sql = "INSERT INTO people (id, email) VALUES ".to_owned();
    for row in 0..4_000 {
        write!(sql, "{}(${}, ${})", if row == 0 { "" } else { ", " }, row * 2 + 1, row * 2 + 2).unwrap();
    }
    let values = |image: &str| {
        let mut values: Vec<String> = (0..4_000)
            .flat_map(|row| {
                [(10_000 + row).to_string(), format!("someone.with.a.long.name{row}@example.com")]
            })
            .collect();
        values[7_777] = image.to_owned();
        values
    };
    for (image, is_written) in [("s***@***.com", false), ("s@example.com", true)] {
        let values = values(image);
        let values: Vec<Bound<'_>> = values.iter().map(|value| (0, false, Some(value.as_bytes()))).collect();
        let reply = bound(&mut client, &sql, &values);
        assert_eq!(reply.errors.is_empty(), is_written, "{:?}", reply.errors);
        assert_eq!(is_refused(&reply, "email"), !is_written);
    }
    // What is larger than what is held of a message.
    let huge = "x".repeat(17 * 1024 * 1024);
    let sql = "INSERT INTO people (id, name, email) VALUES (50000, $1, $2)";
    let reply =
        bound(&mut client, sql, &[(25, false, Some(huge.as_bytes())), (25, false, Some(b"x@example.com"))]);
    assert!(reply.error().field('D').contains(RULE), "{reply:?}");
    let reply = bound(
        &mut client,
        "INSERT INTO people (id, name) VALUES (50000, $1)",
        &[(25, false, Some(huge.as_bytes()))],
    );
    assert_eq!(reply.tags, ["INSERT 0 1"], "{:?}", reply.errors);
}

#[test]
fn rows_of_copy_are_looked_at_while_they_stream() {
    let stage = stage_with(POLICY);
    let before = stage.postgres.admin(ALL);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let field = |value: &[u8]| [&u32::try_from(value.len()).unwrap().to_be_bytes(), value].concat();
    let binary = |mail: &[u8]| {
        let parts = [
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec(),
            [&[0, 2][..], &field(&70_i32.to_be_bytes()), &field(b"x@example.com")].concat(),
            [&[0, 2][..], &field(&71_i32.to_be_bytes()), &field(mail)].concat(),
            vec![0xff, 0xff],
        ];
        parts.concat()
    };
    let cases: [(&str, Vec<u8>, Vec<u8>); 7] = [
        (
            "(FORMAT text)",
            b"70\tx@example.com\n71\ta***@***.com\n".to_vec(),
            b"70\tx@example.com\n71\t\\N\n".to_vec(),
        ),
        (
            "(FORMAT text)",
            b"70\tx@example.com\n71\ta\\x2a**\\100***.com".to_vec(),
            b"70\tx\\\\***\n71\ta***@example.com".to_vec(),
        ),
        (
            "(FORMAT text, DELIMITER '|')",
            b"70|x@example.com\n71|a***@***.com\n".to_vec(),
            b"70|a\n71|b\n\\.\n72|a***@***.com\n".to_vec(),
        ),
        (
            "(FORMAT csv)",
            b"70,x\n71,\"a***@***.com\"\n".to_vec(),
            b"70,\"x,\"\"a***@***.com\"\"\"\n71,\n".to_vec(),
        ),
        (
            "(FORMAT csv, HEADER, QUOTE '!', ESCAPE '\\')",
            b"id,email\n70,!x\n\\!!\n71,!a***@***.com!\n".to_vec(),
            b"id,email\n70,!x\n,a***@***.com\n!\n71,b\n".to_vec(),
        ),
        ("(FORMAT csv, NULL 'nil')", b"70,nil\n71,a***".to_vec(), b"70,nil\n71,a**".to_vec()),
        ("(FORMAT binary)", binary(b"a***@***.com"), binary(b"b@example.com")),
    ];
    for extended in [false, true] {
        for piece in [1, 7, 10_000] {
            for (options, refused, taken) in &cases {
                for (rows, is_written) in [(refused, false), (taken, true)] {
                    let sql = format!("COPY people (id, email) FROM STDIN WITH {options}");
                    if extended {
                        client.parse("", &sql);
                        client.bind("", "", &[], 0);
                        client.execute("", 0);
                        client.send(b'S', b"");
                    } else {
                        client.send(b'Q', &[sql.as_bytes(), b"\0"].concat());
                    }
                    while client.read().unwrap().tag != b'G' {}
                    for piece in rows.chunks(piece) {
                        client.send(b'd', piece);
                    }
                    client.send(b'c', b"");
                    if extended {
                        client.send(b'S', b"");
                    }
                    let reply = client.until_ready();
                    let what = format!("{options} {} {piece} {extended}: {reply:?}", rows.escape_ascii());
                    assert_eq!(is_refused(&reply, "email"), !is_written, "{what}");
                    assert_eq!(reply.errors.is_empty(), is_written, "{what}");
                    assert_eq!(
                        client.query("DELETE FROM people WHERE id > 69").tags,
                        [if is_written { "DELETE 2" } else { "DELETE 0" }],
                        "{what}"
                    );
                }
            }
        }
    }
    assert_eq!(stage.postgres.admin(ALL), before);
    let reply = client.query("COPY people (id, email) FROM STDIN (ENCODING 'SJIS')");
    assert!(reply.error().field('D').contains(RULE), "{reply:?}");
}
