//! A schema that changes under open sessions: each statement is judged by what the database holds when it is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::stage::Stage;

/// Something of a real address that an agent must never see.
const REAL: &str = "hopper1@";

#[test]
fn a_view_that_one_session_replaces_is_masked_in_another_at_its_next_statement() {
    let stage = Stage::with(|settings| {
        // The owner of the schema sees everything.
        let excused = " && principal.subject != \"owner-1\" };";
        settings.policy =
            settings.policy.replace("contains(\"secret\") };", &format!("contains(\"secret\"){excused}"));
        assert!(settings.policy.matches("owner-1").count() == 2);
    });
    stage.postgres.admin("SET ROLE app_agent; CREATE VIEW shown AS SELECT id, name AS x FROM customers");
    let mut owner = stage.daemon.agent(&stage.issuer.token("owner-1"));
    let mut agent = stage.agent();
    let (mut owner, mut agent) = (stage.client(&mut owner), stage.client(&mut agent));
    let question = "SELECT x FROM shown WHERE id = 1";
    for _ in 0..3 {
        assert_eq!(agent.query(question).texts(), [["Grace Hopper"]]);
    }
    agent.parse("kept", question);
    assert!(agent.sync().errors.is_empty());
    let replaced = owner.query("CREATE OR REPLACE VIEW shown AS SELECT id, email AS x FROM customers");
    assert!(replaced.errors.is_empty(), "{:?}", replaced.errors);
    let control = owner.query(question).texts();
    assert!(control[0][0].contains(REAL), "{control:?}");
    agent.bind("", "kept", &[], 0);
    agent.execute("", 0);
    let kept = format!("{:?}", agent.sync().rows);
    assert!(!kept.contains("hopper"), "{kept}");
    let seen = agent.query(question).texts();
    assert!(!seen[0][0].contains("hopper") && seen[0][0].contains('@'), "{seen:?}");
    let oracle = agent.query("SELECT id FROM shown WHERE x LIKE 'grace%'");
    assert_eq!(oracle.error().code(), "42501");
}

#[test]
fn a_failed_transaction_with_a_changed_schema_is_rolled_back_by_the_extended_protocol() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for _ in 0..5 {
        assert!(client.query("BEGIN").errors.is_empty());
        assert!(client.query("CREATE TEMP TABLE made (id integer)").errors.is_empty());
        assert_eq!(client.query("SELECT nothing FROM products").status, 'E');
        let rolled = client.extended("ROLLBACK", &[], 0);
        assert!(rolled.errors.is_empty(), "{:?}", rolled.errors);
        assert_eq!(rolled.status, 'I');
    }
}

#[test]
fn an_operator_made_for_the_types_of_the_catalogue_does_not_stand_in_for_postgresqls_own() {
    let stage = Stage::new();
    // To whoever counts by it, no operator is anybody's own.
    stage.postgres.admin(
        "CREATE FUNCTION no(oid, integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR public.>= (LEFTARG = oid, RIGHTARG = integer, FUNCTION = no);
         CREATE FUNCTION peek(integer) RETURNS text STABLE LANGUAGE sql AS 'SELECT email FROM customers WHERE id = $1';
         CREATE OPERATOR public.### (RIGHTARG = integer, FUNCTION = peek)",
    );
    let control = stage.postgres.admin("SELECT ### 1");
    assert!(control.contains(REAL), "{control}");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let seen = client.query("SELECT ### 1");
    assert_eq!(seen.error().code(), "42501");
    assert_eq!(client.query("SELECT upper('a')").texts(), [["A"]]);
}
