//! Why a text was not read. Display is meant for the agent: it says what to change and shows no value.

/// A text that nodegate refuses before any policy is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The grammar does not accept it.
    #[error(
        "nodegate could not read this SQL with PostgreSQL's own grammar (version 18), so nothing of it was run: {message}"
    )]
    Unreadable {
        /// What the parser said.
        message: String,
    },
    /// More bytes than are read at once.
    #[error("this SQL text has {bytes} bytes; nodegate reads at most {limit} in one message")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A run of operator characters so long that the lexer's work on it grows with its square.
    #[error("this SQL text holds more than {limit} operator characters in a row")]
    LongOperator {
        /// The limit.
        limit: usize,
    },
    /// Nested deeper than is read.
    #[error("this SQL is nested too deeply for nodegate to read")]
    TooDeep,
    /// Short enough, yet more work to understand than is spent on one message.
    #[error("this SQL refers to too many columns, too often, for nodegate to follow")]
    TooComplex,
    /// The reader itself failed: no thread, or an assertion of the parser's binding.
    #[error("nodegate's SQL reader failed on this text")]
    Failed,
    /// The text holds a NUL byte, behind which a server would read nothing.
    #[error("this SQL text holds a NUL byte")]
    NulByte,
    /// The parse tree holds something that this version does not know.
    #[error("nodegate does not know the syntax element {kind} in this place, so the statement was not run")]
    UnknownNode {
        /// PostgreSQL's name of the node.
        kind: &'static str,
    },
    /// Readable, but of a form that nodegate does not follow.
    #[error("nodegate does not support {what}")]
    Unsupported {
        /// Which form.
        what: &'static str,
    },
    /// Refused whatever the policy says.
    #[error("{message}")]
    Forbidden {
        /// Id of the rule.
        rule: &'static str,
        /// What is refused.
        message: String,
        /// What to do instead.
        hint: &'static str,
    },
}

/// Rule id of what cannot be read at all.
pub const UNREADABLE: &str = "builtin/unreadable-sql";
/// Rule id of everything that exposes credentials, other sessions or column statistics.
pub(super) const SYSTEM_SECRETS: &str = "builtin/system-secrets";
/// Rule id of everything that changes how SQL is read or who runs it.
pub(super) const SESSION_STATE: &str = "builtin/session-state";

impl SqlError {
    /// The rule's id, as denials and audit records name it.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::NulByte | Self::Failed => UNREADABLE,
            Self::TooLong { .. } | Self::LongOperator { .. } | Self::TooDeep | Self::TooComplex => {
                "builtin/too-large"
            }
            Self::UnknownNode { .. } | Self::Unsupported { .. } => "builtin/unknown-node",
            Self::Forbidden { rule, .. } => rule,
        }
    }

    /// What the agent may do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "Check the syntax. What PostgreSQL accepts and nodegate does not is worth a bug report."
            }
            Self::TooLong { .. } => {
                "Split the text into several messages, or use COPY FROM STDIN for bulk data."
            }
            Self::LongOperator { .. } => "Shorten the line of dashes, stars or slashes.",
            Self::TooDeep => {
                "Use fewer levels: IN (…) or = ANY (…) for long OR chains, concat() for long || chains, VALUES for long UNION chains."
            }
            Self::TooComplex => "Name the columns that are needed and split the statement.",
            Self::Failed => "Try again; if it fails again, it is worth a bug report.",
            Self::NulByte => "Remove the NUL byte.",
            Self::UnknownNode { .. } | Self::Unsupported { .. } => "Rewrite the statement in a plainer form.",
            Self::Forbidden { hint, .. } => hint,
        }
    }

    pub(super) fn secret(what: &str) -> Self {
        Self::Forbidden {
            rule: SYSTEM_SECRETS,
            message: format!("{what} may expose credentials, other sessions or column statistics"),
            hint: "Ask for what you need without this object; no policy can allow it.",
        }
    }

    /// The refusal of what is policy's to decide only where nothing is masked.
    pub fn where_masked(what: &str) -> Self {
        Self::Forbidden {
            rule: SESSION_STATE,
            message: format!("{what} is refused where values are masked"),
            hint: "Do without; names can be qualified with their schema.",
        }
    }

    pub(super) fn session_state(what: &str) -> Self {
        Self::Forbidden {
            rule: SESSION_STATE,
            message: format!("{what} would change how SQL is read or who runs it, which nodegate pins"),
            hint: "Qualify names with their schema, and leave role, search path and encoding as they are.",
        }
    }
}
