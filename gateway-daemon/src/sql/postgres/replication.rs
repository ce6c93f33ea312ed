//! The commands of a replication connection, which are another grammar than SQL:
//! <https://www.postgresql.org/docs/current/protocol-replication.html>.
//!
//! A text is a command where the server takes it for one: by its first word. It must then consist of nothing but words,
//! names, strings, numbers and positions in the log, so that nothing else stands behind it.

use crate::domain::decision::MaskPlan;
use crate::domain::statement::{Effect, ReplicationCommand, SessionEffect, Statement, Verb};

use super::error::SqlError;
use super::settings::check_shown;

/// No command is longer.
const MAX_BYTES: usize = 16 * 1024;

/// What a replication connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// One database: commands and SQL (`replication=database`).
    Database,
    /// The whole server: commands alone (`replication=true`).
    Physical,
}

impl Connection {
    /// The kind of connection that `replication=…` asks for, if it is one that is known to be.
    pub fn named(value: &str) -> Option<Self> {
        match value.to_ascii_lowercase().as_str() {
            "database" => Some(Self::Database),
            "true" | "on" | "yes" | "1" => Some(Self::Physical),
            _ => None,
        }
    }

    /// What asking for it does.
    pub fn statement(self) -> Statement {
        of(match self {
            Self::Database => ReplicationCommand::ConnectDatabase,
            Self::Physical => ReplicationCommand::ConnectPhysical,
        })
    }
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A keyword or a name, in lower case.
    Word(String),
    /// Whatever else may stand there.
    Other,
}

/// What the command in `text` does; `None` where it is not one but SQL.
///
/// # Errors
/// A command that no policy can allow, or one of a form that is not known.
pub fn replication_command(text: &str) -> Option<Result<Statement, SqlError>> {
    let command = command(text)?;
    Some(command.map(of))
}

fn of(command: ReplicationCommand) -> Statement {
    let mut verbs = vec![Verb::Replication];
    if matches!(command, ReplicationCommand::StartLogical | ReplicationCommand::StartPhysical) {
        verbs.push(Verb::CopyBoth);
    }
    if command.is_of_the_whole_server() {
        verbs.push(Verb::ReplicationUnmasked);
    }
    Statement { replication: Some(command), ..Statement::plain(verbs) }
}

/// The same, where this is masked for whoever asks: a stream holds what it holds, so it is refused in whole, or let
/// through in clear by name. So is what nobody can follow to the columns that it may show.
pub fn beside_masks(mut statement: Statement, masks: &MaskPlan) -> Statement {
    if let SessionEffect::Prepare { statement: prepared, .. } = &mut statement.session_effect
        && !prepared.out_of_sight.is_empty()
    {
        **prepared = beside_masks((**prepared).clone(), masks);
    }
    if masks.is_of_anything() {
        let mut named = |verb| statement.effects.insert(Effect { verb, relation: None });
        if statement.replication.is_some() {
            named(Verb::ReplicationUnmasked);
        }
        if !statement.out_of_sight.is_empty() {
            named(Verb::CallUnmasked);
        }
    }
    statement
}

/// What is told beside a refusal: what would go out in clear; empty where nothing would.
pub fn why_unmasked(statement: &Statement, masks: &MaskPlan) -> String {
    if statement.does(Verb::CallUnmasked) {
        let column = masks.columns.keys().chain(masks.scans.keys()).next();
        return column.map(|column| format!("; {column} is masked for this agent")).unwrap_or_default();
    }
    if !statement.does(Verb::ReplicationUnmasked) {
        return String::new();
    }
    if statement.replication.is_some_and(ReplicationCommand::is_of_the_whole_server) {
        return "; it would show every database of the server, and nothing can be masked in it".to_owned();
    }
    let column = masks.columns.keys().chain(masks.scans.keys()).next();
    column
        .map(|column| format!("; {column} is masked for this agent, and a stream cannot be"))
        .unwrap_or_default()
}

fn command(text: &str) -> Option<Result<ReplicationCommand, SqlError>> {
    use ReplicationCommand as Command;
    let first: String = text
        .trim_start_matches(is_blank)
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect();
    let command = match first.to_ascii_lowercase().as_str() {
        "identify_system" => Command::IdentifySystem,
        "show" => Command::Show,
        "read_replication_slot" => Command::ReadReplicationSlot,
        "create_replication_slot" => Command::CreateReplicationSlot,
        "alter_replication_slot" => Command::AlterReplicationSlot,
        "drop_replication_slot" => Command::DropReplicationSlot,
        "start_replication" => Command::StartPhysical,
        "timeline_history" => Command::TimelineHistory,
        "base_backup" => Command::BaseBackup,
        "upload_manifest" => return Some(Err(unknown())),
        _ => return None,
    };
    Some(tokens(text).and_then(|tokens| match (command, tokens.as_slice()) {
        (Command::StartPhysical, [_, Token::Word(slot), _, Token::Word(kind), ..])
            if slot == "slot" && kind == "logical" =>
        {
            Ok(Command::StartLogical)
        }
        (Command::Show, [_, Token::Word(parameter)]) => check_shown(parameter).map(|()| command),
        (Command::Show, _) => Err(unknown()),
        _ => Ok(command),
    }))
}

fn unknown() -> SqlError {
    SqlError::Unsupported { what: "a replication command of that form" }
}

/// What the server's lexer takes for blank.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn tokens(text: &str) -> Result<Vec<Token>, SqlError> {
    if text.len() > MAX_BYTES {
        return Err(SqlError::TooLong { bytes: text.len(), limit: MAX_BYTES });
    }
    let mut tokens = Vec::new();
    let mut rest = text.trim_matches(is_blank);
    rest = rest.strip_suffix(';').unwrap_or(rest);
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            _ if is_blank(first) => (None, first.len_utf8()),
            'a'..='z' | 'A'..='Z' | '_' => {
                let length = span(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
                (rest.get(..length).map(|word| Token::Word(word.to_ascii_lowercase())), length)
            }
            // A number, or a position in the log: `0/16B3748`.
            '0'..='9' => (Some(Token::Other), span(rest, |c| c.is_ascii_hexdigit() || c == '/')),
            '(' | ')' | ',' | '.' => (Some(Token::Other), 1),
            '\'' | '"' => (Some(Token::Other), quoted(rest, first).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        };
        tokens.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}

/// The length of what stands in quotes at the front of `text`; a doubled quote is one of its characters.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            continue;
        }
        if characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ReplicationCommand> {
        command(text).and_then(Result::ok)
    }

    #[test]
    fn commands_are_told_by_their_first_word_and_the_kind_of_their_stream() {
        use ReplicationCommand as Command;
        for (text, command) in [
            ("IDENTIFY_SYSTEM", Command::IdentifySystem),
            (" \n\tidentify_system ; ", Command::IdentifySystem),
            ("SHOW data_directory_mode", Command::Show),
            ("READ_REPLICATION_SLOT s", Command::ReadReplicationSlot),
            (
                "CREATE_REPLICATION_SLOT \"s\" LOGICAL \"test_decoding\" (SNAPSHOT 'nothing')",
                Command::CreateReplicationSlot,
            ),
            ("DROP_REPLICATION_SLOT \"s\" WAIT", Command::DropReplicationSlot),
            ("START_REPLICATION SLOT \"s\" LOGICAL 0/0 (\"include-xids\" '0')", Command::StartLogical),
            ("START_REPLICATION SLOT s LOGICAL 0/16B3748", Command::StartLogical),
            ("START_REPLICATION SLOT \"logical\" 0/3000000 TIMELINE 1", Command::StartPhysical),
            ("START_REPLICATION SLOT s PHYSICAL 0/3000000", Command::StartPhysical),
            ("START_REPLICATION SLOT s \"logical\" 0/0", Command::StartPhysical),
            ("START_REPLICATION 0/3000000", Command::StartPhysical),
            ("TIMELINE_HISTORY 2", Command::TimelineHistory),
            ("BASE_BACKUP (LABEL 'it''s; a label', PROGRESS, WAIT 0)", Command::BaseBackup),
        ] {
            assert_eq!(read(text), Some(command), "{text}");
        }
        for text in ["SELECT 1", "", ";", "/* */ IDENTIFY_SYSTEM", "\"IDENTIFY_SYSTEM\"", "IDENTIFY_SYSTEMS"]
        {
            assert!(replication_command(text).is_none(), "{text}");
        }
    }

    #[test]
    fn nothing_stands_behind_a_command_and_no_secret_is_shown() {
        for text in [
            "IDENTIFY_SYSTEM; DROP TABLE customers",
            "IDENTIFY_SYSTEM -- x",
            "BASE_BACKUP (LABEL 'open",
            "START_REPLICATION SLOT $1 LOGICAL 0/0",
            "SHOW primary_conninfo",
            "SHOW",
            "SHOW ALL; SELECT 1",
            "SHOW \"primary_conninfo\"",
            "UPLOAD_MANIFEST",
        ] {
            assert!(replication_command(text).unwrap().is_err(), "{text}");
        }
    }

    #[test]
    fn a_stream_is_named_as_such_and_the_whole_server_as_unmasked() {
        let does = |text: &str| {
            let statement = replication_command(text).unwrap().unwrap();
            (statement.does(Verb::CopyBoth), statement.does(Verb::ReplicationUnmasked))
        };
        assert_eq!(does("IDENTIFY_SYSTEM"), (false, false));
        assert_eq!(does("START_REPLICATION SLOT s LOGICAL 0/0"), (true, false));
        assert_eq!(does("START_REPLICATION 0/0"), (true, true));
        assert_eq!(does("BASE_BACKUP"), (false, true));
    }
}
