//! The hunt's steps that make the database speak: errors that quote rows, code that says what it sees, and notifications.

use super::{random::Random, vault::PEOPLE};

/// Statements that fail, or that have code run; none of them is read for its rows.
const SPEAKING: &[&str] = &[
    "UPDATE clients SET label = NULL WHERE id = {id}",
    "UPDATE clients_safe SET label = NULL WHERE id = {id}",
    "UPDATE clients_safer SET label = NULL, state = 'x' WHERE id = {id}",
    "UPDATE clients_checked SET label = '' WHERE id = {id}",
    "UPDATE clients SET state = 'checked' WHERE id = {id}",
    "UPDATE clients SET state = 'counted' WHERE id = {id}",
    "UPDATE clients_safe SET state = 'counted'",
    "UPDATE clients_kept SET label = NULL WHERE id = {id} + 500",
    "UPDATE clients SET id = {id} + 1 WHERE id = {id}",
    "UPDATE clients SET area = 900 WHERE id = {id}",
    "INSERT INTO clients (id, area, label, secret) VALUES ({id}, 1, 'x', 'given')",
    "INSERT INTO clients (id, area, label, secret) SELECT {id} + 900, NULL, 'x', 'given'",
    "INSERT INTO clients_safe (id, state, label) VALUES (900, 'x', 'y')",
    "DELETE FROM areas WHERE id = {id}",
    "UPDATE areas SET id = id + 100 WHERE id = {id}",
    "DELETE FROM clients WHERE id = {id}",
    "DELETE FROM clients WHERE id = {id} RETURNING label",
    "WITH gone AS (DELETE FROM clients WHERE id = {id} RETURNING id) SELECT count(*) FROM gone",
    "MERGE INTO clients USING areas AS a ON a.id = clients.id AND a.id = {id} WHEN MATCHED THEN UPDATE SET label = NULL",
    "SELECT number FROM clients_numbers WHERE id = {id}",
    "SELECT count(*) FROM clients_counted WHERE id = {id}",
    "SELECT label FROM clients_counted",
    "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) UPDATE clients SET label = NULL WHERE id = {id}",
    "INSERT INTO calls VALUES (900 + {id}, {id}, 'hello')",
    "INSERT INTO calls VALUES (900 + {id}, {id}, 'hello') RETURNING *",
    "INSERT INTO calls SELECT id + 900, id, label FROM clients_safe WHERE id < 900",
    "INSERT INTO calls VALUES ({id}, {id}, 'hello')",
    "UPDATE calls SET note = 'x' WHERE id = {id}",
    "INSERT INTO calls VALUES ({id}, {id}, 'x') ON CONFLICT (id) DO UPDATE SET note = 'y'",
    "DELETE FROM calls WHERE id = {id}",
    "INSERT INTO desk VALUES ({id}, 'by rule')",
    "DELETE FROM boxes WHERE id = {id}",
    "UPDATE boxes SET id = id + 100 WHERE id = {id}",
    "INSERT INTO fittings (id, fit) VALUES ({id}, 'x')",
    "INSERT INTO fittings (id, other) VALUES ({id}, 'x')",
    "INSERT INTO fittings (id) VALUES ({id})",
    "SELECT 'x'::fitting",
    "SELECT id FROM guarded WHERE id = {id}",
    "SELECT f FROM guarded_shown WHERE id = {id}",
    "UPDATE guarded SET id = id WHERE id = {id}",
    "COPY calls FROM STDIN",
    "REFRESH MATERIALIZED VIEW folk_kept",
    "ALTER TABLE clients ADD CONSTRAINT made CHECK (area > 900)",
    "ALTER TABLE clients ADD CONSTRAINT made FOREIGN KEY (area) REFERENCES clients_kept (id)",
    "ALTER TABLE calls ADD CONSTRAINT made FOREIGN KEY (note) REFERENCES clients (mail)",
    "CREATE UNIQUE INDEX made ON clients (state)",
    "ALTER TABLE clients ALTER COLUMN label TYPE integer USING label::integer",
    "ALTER TABLE clients ALTER COLUMN area SET NOT NULL",
    "ALTER TABLE clients DROP COLUMN nothing",
    "DROP TABLE nothing",
];

/// Statements whose end of the transaction has something to say.
const DEFERRED: &[&str] = &[
    "DELETE FROM clients WHERE id = {id}",
    "INSERT INTO lasts VALUES ({id})",
    "INSERT INTO mails VALUES (900 + {id}, 'nobody')",
    "UPDATE mails SET mail = 'nobody' WHERE id = {id}",
    "DELETE FROM mails WHERE id = {id}; DELETE FROM clients WHERE id = ({id} + 1) % 24",
];

/// What is committed, and leaves all as it was but for where rows lie.
const NOTIFYING: &[&str] = &[
    "UPDATE clients SET label = label WHERE id = {id}",
    "UPDATE clients_safe SET label = label WHERE id IN ({id}, 3, 4)",
    "NOTIFY clients, 'open'",
    "NOTIFY clients",
    "UPDATE clients SET label = label WHERE id = {id}; NOTIFY clients, 'open'",
];

/// One step.
pub fn step(random: &mut Random) -> Vec<String> {
    let id = random.below(PEOPLE).to_string();
    let mut one = |of: &[&'static str]| random.one(of).replace("{id}", &id);
    let (speaking, other, deferred, notifying) =
        (one(SPEAKING), one(SPEAKING), one(DEFERRED), one(NOTIFYING));
    let fixed = |statements: &[&str]| statements.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match random.below(10) {
        0..=3 => vec!["BEGIN".to_owned(), speaking, "ROLLBACK".to_owned()],
        4 => vec![
            "BEGIN".to_owned(),
            "SAVEPOINT a".to_owned(),
            speaking,
            "ROLLBACK TO a".to_owned(),
            other,
            random.one(&["SET CONSTRAINTS ALL IMMEDIATE", "SELECT 1", "SAVEPOINT b"]).to_owned(),
            "ROLLBACK".to_owned(),
        ],
        // By itself, should it fail at its own end; else it is undone.
        5 | 6 => {
            let end = random.one(&["COMMIT", "SET CONSTRAINTS ALL IMMEDIATE", "COMMIT AND CHAIN"]).to_owned();
            let undone = "INSERT INTO lasts VALUES (900)".to_owned();
            vec!["BEGIN".to_owned(), undone, deferred, end, "ROLLBACK".to_owned()]
        }
        7 => vec![format!("INSERT INTO lasts VALUES (900); {deferred}")],
        _ => [vec!["LISTEN clients".to_owned(), notifying], fixed(&["SELECT 1", "UNLISTEN *"])].concat(),
    }
}
