//! What a client sets in its startup message, by name or by `options`: what is passed on when the daemon logs in, and what
//! policy is asked of it first. Whatever SET may do in a session, a startup message may do as well.

use super::startup::Wanted;
use crate::{
    domain::{decision::Denial, statement::Statement},
    sql::postgres::{Connection, SqlError, moves_names, startup_settings},
};

/// Startup parameters that change how values look, or how long things may take, and nothing else: drivers set them without
/// being asked to, so policy is not asked either.
const HARMLESS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "timezone",
];

/// What the server takes for something else than a parameter where it stands in a startup message.
const WORDS_OF_THE_PROTOCOL: &[&str] = &["database", "options", "replication", "user"];

/// What a session begins with.
#[derive(Debug)]
pub struct Parameters {
    /// To log in with, beside the user.
    pub passed: Vec<(String, String)>,
    /// The names of those that policy decides on.
    judged: Vec<String>,
    /// The statement that would set these, where there are any.
    pub sets: Option<Result<Statement, SqlError>>,
}

impl Parameters {
    /// The client's parameters, and those that the daemon pins.
    ///
    /// # Errors
    /// A parameter that would change how statements are read, or the kind of connection.
    pub fn of(wanted: &Wanted) -> Result<Self, Denial> {
        if !wanted.names_user {
            return Err(refuse("the startup message names no user".to_owned(), "Connect with user=…."));
        }
        let mut passed = pinned(&wanted.database);
        if let Some(connection) = wanted.replication {
            let value = match connection {
                Connection::Database => "database",
                Connection::Physical => "true",
            };
            passed.push(("replication".to_owned(), value.to_owned()));
        }
        let mut judged = Vec::new();
        // The server takes `options` first, so that what is set by name goes before it.
        let (options, named): (Vec<_>, Vec<_>) =
            wanted.parameters.iter().partition(|(name, _)| name == "options");
        let mut all = Vec::new();
        for (_, options) in options {
            all.extend(command_line(options)?);
        }
        all.extend(named.into_iter().cloned());
        for (name, value) in all {
            match standing(&name, &value)? {
                Standing::Dropped => continue,
                Standing::Passed => {}
                Standing::Judged => judged.push((name.clone(), value.clone())),
            }
            passed.push((name, value));
        }
        let settings = judged.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sets = (!judged.is_empty()).then(|| startup_settings(settings));
        Ok(Self { passed, sets, judged: judged.into_iter().map(|(name, _)| name).collect() })
    }

    /// Those of a session of which nothing but its database is known.
    pub fn of_database(database: &str) -> Self {
        Self { passed: pinned(database), judged: Vec::new(), sets: None }
    }

    /// The same for a connection of the daemon's own, which is for SQL whatever the session's is for.
    pub fn for_sql(mut self) -> Self {
        self.passed.retain(|(name, _)| name != "replication");
        self
    }

    /// Those by which names are looked up.
    pub fn moving(&self) -> Vec<(String, String)> {
        let moving = self.passed.iter().filter(|(name, _)| moves_names(name));
        moving.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    }

    /// For the audit record: the names of what policy is asked about. Values may be secrets.
    pub fn note(&self) -> String {
        if self.judged.is_empty() { String::new() } else { format!("; sets {}", self.judged.join(", ")) }
    }

    /// The SQLSTATE of a refusal to log in that is about what the client has set.
    pub fn refused_by(&self, sqlstate: &str) -> Option<&'static str> {
        // An invalid value, an unknown parameter, a name that is none, one that cannot be changed.
        let about_any = ["22023", "42704", "42602", "55P02"];
        // Whether a role may have what it asks for: the login itself may lack a right as well.
        let about_judged = ["42501"].into_iter().filter(|_| !self.judged.is_empty());
        about_any.into_iter().chain(about_judged).find(|known| *known == sqlstate)
    }
}

fn pinned(database: &str) -> Vec<(String, String)> {
    [("database", database), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The daemon has seen to it.
    Dropped,
    /// It goes on.
    Passed,
    /// It goes on where policy lets it.
    Judged,
}

fn standing(name: &str, value: &str) -> Result<Standing, Denial> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        // An ASCII client is served as UTF-8: ASCII is part of it, and other bytes are refused as such.
        "client_encoding" => {
            let plain: String =
                value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
            match plain.as_str() {
                "utf8" | "unicode" | "sqlascii" | "auto" => Ok(Standing::Dropped),
                _ => Err(refuse(
                    format!("the client's encoding is {value:?}"),
                    "Connect with client_encoding=UTF8.",
                )),
            }
        }
        "standard_conforming_strings" if matches!(value, "on" | "true" | "1" | "yes") => {
            Ok(Standing::Dropped)
        }
        "replication" if matches!(value, "false" | "off" | "0" | "no") => Ok(Standing::Dropped),
        "replication" => Err(refuse(
            format!("replication={value:?} is not known"),
            "Write replication=database, or replication=true.",
        )),
        name if WORDS_OF_THE_PROTOCOL.contains(&name) || !is_name(name) => Err(refuse(
            format!("the startup parameter {name:?} is not allowed"),
            "Leave it out of the connection string, PGOPTIONS and the driver's settings.",
        )),
        name if HARMLESS.contains(&name) => Ok(Standing::Passed),
        _ => Ok(Standing::Judged),
    }
}

/// Whether it is the name of a parameter, and not one of the protocol's own options.
fn is_name(name: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    !name.is_empty() && name.bytes().all(is_inside) && !name.starts_with("_pq_.")
}

/// Reads `-c name=value` and `--name=value` as the server's command line does: blanks separate, a backslash
/// takes the next character as it is.
fn command_line(options: &str) -> Result<Vec<(String, String)>, Denial> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let taken = if character == '\\' { characters.next().unwrap_or('\\') } else { character };
        word.get_or_insert_default().push(taken);
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => Some(setting.to_owned()),
            None if word == "-c" => words.next(),
            None => word.strip_prefix("-c").map(ToOwned::to_owned),
        };
        match setting.as_deref().and_then(|setting| setting.split_once('=')) {
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => {
                return Err(refuse(
                    format!("the startup option {word:?} is not allowed"),
                    "Use -c name=value, for settings that nodegate allows.",
                ));
            }
        }
    }
    Ok(settings)
}

fn refuse(reason: String, hint: &str) -> Denial {
    Denial::builtin(reason, hint, "startup-parameter")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parameters(parameters: &[(&str, &str)]) -> Result<Parameters, Denial> {
        let all = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Parameters::of(&Wanted::new(0, all.collect()))
    }

    #[test]
    fn the_user_is_never_passed_on_and_names_the_database_when_none_is_given() {
        let passed = parameters(&[("user", "alice")]).unwrap().passed;
        assert!(passed.contains(&("database".to_owned(), "alice".to_owned())));
        assert!(passed.iter().all(|(name, _)| name != "user"));
    }

    #[test]
    fn a_startup_without_a_user_is_refused() {
        assert!(parameters(&[("database", "shop")]).is_err());
        assert!(parameters(&[("user", ""), ("database", "shop")]).is_err());
    }

    #[test]
    fn formats_pass_and_what_is_no_setting_is_refused_by_name() {
        let options = "-c statement_timeout=5s --TimeZone=UTC";
        let passed = parameters(&[("user", "a"), ("options", options)]).unwrap();
        assert!(passed.passed.contains(&("statement_timeout".to_owned(), "5s".to_owned())));
        assert!(passed.sets.is_none());
        for (name, value) in [
            ("options", "-W 5"),
            ("options", "-c replication=database"),
            ("options", "-c user=postgres"),
            ("options", "-c USER=postgres"),
            ("options", "-cdatabase=other"),
            ("options", "--options=-c\\ role=admin"),
            ("options", "-c _pq_.x=1"),
            ("options", "-c a\\ b=1"),
            ("replication", "perhaps"),
            ("Replication", "database"),
            ("client_encoding", "SJIS"),
        ] {
            assert!(parameters(&[("user", "a"), (name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn everything_else_is_for_policy_and_some_of_it_for_no_policy() {
        for (options, is_allowed) in [
            ("-c search_path=shelf,public", true),
            ("-csearch_path=\"$user\",\\ Public", true),
            ("-c search_path=", true),
            ("-c work_mem=5MB --enable-seqscan=off", true),
            ("-c role=clerk", true),
            ("-c own.tenant=5", true),
            ("-c row_security=off", true),
            ("-c search_path=pg_catalog,public", false),
            ("-c search_path=public,\"pg_catalog\"", false),
            ("-c search_path=PG_Temp,public", false),
            ("-c search_path=public,,other", false),
            ("-c search_path=public,", false),
            ("-c search_path=\"public", false),
            ("-c search_path=\"public\"x", false),
            ("-c search_path=\\\u{b}pg_catalog", false),
            ("-c standard_conforming_strings=off", false),
            ("-c transform_null_equals=on", false),
            ("-c local_preload_libraries=x", false),
        ] {
            let parameters = parameters(&[("user", "a"), ("options", options)]).unwrap();
            assert_eq!(parameters.sets.unwrap().is_ok(), is_allowed, "{options}");
        }
    }

    #[test]
    fn what_is_set_by_name_goes_before_options() {
        let all = [("user", "a"), ("search_path", "one"), ("options", "-c search_path=two -c ROLE=clerk")];
        let moving = parameters(&all).unwrap().moving();
        let values: Vec<&str> = moving.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["two", "clerk", "one"]);
    }

    #[test]
    fn replication_is_asked_for_in_the_words_of_the_server() {
        for (value, is_asked) in [("database", true), ("true", true), ("ON", true), ("false", false)] {
            let passed = parameters(&[("user", "a"), ("replication", value)]).unwrap().passed;
            assert_eq!(passed.iter().any(|(name, _)| name == "replication"), is_asked, "{value}");
        }
    }
}
