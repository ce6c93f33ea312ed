//! What is found inside values never reaches a captured client, and everything else does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::stage::Stage;

const POLICY: &str = concat!(
    "@id(\"all\") permit (principal, action, resource);\n",
    include_str!("../../policies/sensitive-content/sensitive-content.cedar")
);

const TABLE: &str = "
    CREATE TABLE tickets (id int PRIMARY KEY, body text, facts jsonb, tags text[], code char(60));
    INSERT INTO tickets VALUES
        (1, 'Ann (ann.lee@mail.example.org) paid with 4111 1111 1111 1111 for order 20240102-000123',
            '{\"contact\": {\"phone\": \"+49 30 1234567\"}, \"ann.lee@mail.example.org\": [1, null]}',
            ARRAY['ann.lee@mail.example.org', NULL, 'vip'], 'DE89 3704 0044 0532 0130 00'),
        (2, 'nothing here: 550e8400-e29b-41d4-a716-446655440000', '{\"n\": 1.50}', '{}', 'A-17'),
        (3, NULL, NULL, NULL, NULL);
    GRANT ALL ON tickets TO app_agent;
";

fn stage() -> Stage {
    let stage = Stage::with(|settings| POLICY.clone_into(&mut settings.policy));
    stage.postgres.admin(TABLE);
    stage
}

const SEEN: &str = "1|Ann ([email]) paid with [card] for order 20240102-000123|\
    {\"contact\": {\"phone\": \"[phone]\"}, \"[email]\": [1, null]}|{[email],NULL,vip}|[iban]";
/// Something of each value that must not be seen.
const MARKS: [&str; 5] = ["ann.lee", "4111", "1234567", "3704", "mail.example"];

#[test]
fn what_is_found_in_text_json_and_arrays_is_replaced_and_nothing_else() {
    let stage = stage();
    let said = stage.psql("SELECT * FROM tickets ORDER BY id");
    let mut lines = said.ok().lines();
    let first: Vec<&str> = lines.next().unwrap().split('|').map(str::trim_end).collect();
    assert_eq!(first.join("|"), SEEN);
    let second = lines.next().unwrap();
    assert!(
        second.starts_with("2|nothing here: 550e8400-e29b-41d4-a716-446655440000|{\"n\": 1.50}|{}|A-17"),
        "{second}"
    );
    assert_eq!(lines.next(), Some("3||||"));
    // What is compared is not shown, and what is computed is looked through as well.
    assert_eq!(stage.psql("SELECT id FROM tickets WHERE body LIKE '%order%'").ok(), "1\n");
    let said = stage.psql("SELECT upper(body), facts ->> 'contact' FROM tickets WHERE id = 1");
    assert!(MARKS.iter().all(|mark| !said.ok().to_lowercase().contains(mark)), "{}", said.out);
    assert!(said.ok().contains("ORDER 20240102-000123"), "{}", said.out);
}

#[test]
fn the_binary_format_is_looked_through_like_the_text_format() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for format in [0, 1] {
        let reply = client.extended("SELECT body, facts, tags, code FROM tickets ORDER BY id", &[], format);
        assert!(reply.errors.is_empty(), "{:?}", reply.errors);
        let all: Vec<u8> = reply.rows.iter().flatten().flatten().flatten().copied().collect();
        let all = String::from_utf8_lossy(&all);
        assert!(MARKS.iter().all(|mark| !all.contains(mark)), "{all}");
        assert!(
            all.contains("[email]")
                && all.contains("[card]")
                && all.contains("[phone]")
                && all.contains("[iban]")
        );
        assert!(all.contains("550e8400-e29b-41d4-a716-446655440000") && all.contains("vip"));
        assert_eq!(reply.rows[2], [None, None, None, None]);
    }
}

#[test]
fn copy_to_the_client_is_looked_through_row_by_row() {
    let stage = stage();
    for copy in [
        "COPY tickets TO STDOUT",
        "COPY tickets TO STDOUT (FORMAT csv)",
        "COPY (SELECT body, facts FROM tickets) TO STDOUT",
    ] {
        let said = stage.psql(copy);
        assert!(MARKS.iter().all(|mark| !said.ok().contains(mark)), "{}", said.out);
        assert!(said.ok().contains("paid with [card] for order 20240102-000123"), "{}", said.out);
        assert_eq!(said.ok().lines().count(), 3, "{}", said.out);
    }
    let said = stage.psql("COPY tickets TO STDOUT (FORMAT binary)");
    assert_ne!(said.status, 0, "what is found cannot be replaced there");
    assert!(MARKS.iter().all(|mark| !said.out.contains(mark)), "{}", said.out);
}

#[test]
fn an_error_that_quotes_what_is_looked_for_is_withheld() {
    let stage = stage();
    let said = stage.psql("SELECT body::int FROM tickets WHERE id = 1");
    assert_ne!(said.status, 0);
    assert!(
        MARKS.iter().all(|mark| !said.err.contains(mark)) && said.err.contains("withheld"),
        "{}",
        said.err
    );
    let said = stage.psql("SELECT no_such_column FROM tickets");
    assert!(said.err.contains("no_such_column"), "other errors are the server's own: {}", said.err);
}
