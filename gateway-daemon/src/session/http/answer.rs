//! A refusal in the words of HTTP: a phrase that carries reason and rule, and content in the form that the client shows.
//!
//! Some clients show only the phrase (wget, pip's successors, Maven), some only the content (curl, git), npm and the SDKs
//! of model APIs only a member of theirs in it. So all of these say the same.

use std::fmt::Write as _;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::refusal::{After, Refusal};
use crate::{domain::ids::SessionId, protocol::http::Request};

/// Longer phrases are cut: some clients have lines of fixed size.
const PHRASE_BYTES: usize = 240;

/// Which content a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// The same with `error` as a text: npm, yarn.
    ErrorText,
    /// The same with `error.message`: SDKs of model APIs.
    ErrorObject,
    /// Plain text: git, and who asks for it.
    Text,
}

impl Refusal {
    /// Writes the answer to `request`, if that could be read.
    pub(super) fn put(
        &self,
        out: &mut BytesMut,
        request: Option<&Request>,
        session: &SessionId,
        after: After,
    ) {
        let form = request.map_or(Form::Problem, Form::of);
        let content = self.content(form, session);
        let rule = self.denial.policies.first().map(ToString::to_string).unwrap_or_default();
        let phrase = phrase(&format!("{}: {} [{rule}]", self.status.title(), self.denial.reason));
        let mut head = format!("HTTP/1.1 {} {phrase}\r\n", self.status.code());
        head.push_str("Content-Type: ");
        head.push_str(if form == Form::Text {
            "text/plain; charset=utf-8"
        } else {
            "application/problem+json"
        });
        let _ = write!(head, "\r\nContent-Length: {}\r\nCache-Control: no-store\r\n", content.len());
        if form == Form::ErrorText {
            let _ = write!(head, "npm-notice: {phrase}\r\n");
        }
        if after == After::Close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if request.is_none_or(|request| request.method() != "HEAD") {
            out.extend_from_slice(content.as_bytes());
        }
    }

    fn content(&self, form: Form, session: &SessionId) -> String {
        let policies: Vec<String> = self.denial.policies.iter().map(ToString::to_string).collect();
        let reason = &self.denial.reason;
        if form == Form::Text {
            let hint = self.denial.hint.as_ref().map(|hint| format!("{hint}\n")).unwrap_or_default();
            return format!("{}: {reason}\n{hint}Rule: {}\n", self.status.title(), policies.join(", "));
        }
        let mut problem = Map::new();
        problem.insert("type".to_owned(), json!("about:blank"));
        problem.insert("title".to_owned(), json!(self.status.title()));
        problem.insert("status".to_owned(), json!(self.status.code()));
        problem.insert("detail".to_owned(), json!(reason));
        if let Some(hint) = &self.denial.hint {
            problem.insert("hint".to_owned(), json!(hint));
        }
        problem.insert("policies".to_owned(), json!(policies));
        problem.insert("session".to_owned(), json!(session.to_string()));
        let words = format!("{}: {reason} [{}]", self.status.title(), policies.join(", "));
        match form {
            Form::ErrorText => drop(problem.insert("error".to_owned(), json!(words))),
            Form::ErrorObject => {
                let error = json!({ "message": words, "type": "nodegate_refusal", "code": policies.first() });
                problem.insert("error".to_owned(), error);
            }
            Form::Problem | Form::Text => {}
        }
        let mut text = Value::Object(problem).to_string();
        text.push('\n');
        text
    }
}

impl Form {
    fn of(request: &Request) -> Self {
        let agent = text_of(request, "user-agent").to_ascii_lowercase();
        let accept = text_of(request, "accept").to_ascii_lowercase();
        let begins = |names: &[&str]| names.iter().any(|name| agent.starts_with(name));
        if begins(&["git/", "git-lfs/"]) {
            return Self::Text;
        }
        if begins(&["npm/", "pnpm/", "yarn/"]) {
            return Self::ErrorText;
        }
        let is_sdk = request.fields.iter().any(|field| {
            field.name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-stainless-"))
        });
        if is_sdk || begins(&["anthropic/", "openai/", "claude-cli/", "claude-code/", "codex"]) {
            return Self::ErrorObject;
        }
        let wants = |kind: &str| accept.contains(kind);
        if wants("json") || wants("*/*") || accept.is_empty() || !wants("text/") {
            Self::Problem
        } else {
            Self::Text
        }
    }
}

fn text_of<'a>(request: &'a Request, name: &'static str) -> &'a str {
    request.fields.first(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// ASCII that can stand in a status line.
fn phrase(text: &str) -> String {
    let plain = text.chars().map(|character| if matches!(character, ' '..='~') { character } else { '?' });
    let mut phrase: String = plain.take(PHRASE_BYTES).collect();
    if text.chars().count() > PHRASE_BYTES {
        phrase.push_str("...");
    }
    phrase
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use bytes::{Bytes, BytesMut};
    use serde_json::Value;

    use super::super::refusal::{After, Refusal};
    use crate::{
        domain::{decision::Denial, ids::SessionId},
        protocol::http::{Limits, Request},
    };

    fn answer(request: &str) -> (String, String) {
        let head = format!("{request}\r\nHost: a\r\n\r\n");
        let request = Request::read(Bytes::from(head), &Limits::default()).unwrap();
        let denial =
            Denial::builtin("no policy permits http:POST on a/caf\u{e9}\r\n", "Ask.", "default-deny");
        let mut out = BytesMut::new();
        Refusal::forbidden(denial).put(&mut out, Some(&request), &SessionId("s1".into()), After::GoOn);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), content.to_owned())
    }

    #[test]
    fn the_phrase_and_the_content_say_why_and_which_rule() {
        let (head, content) = answer("POST / HTTP/1.1\r\nAccept: */*");
        let line = "HTTP/1.1 403 Refused by nodegate: no policy permits http:POST on a/caf??? [builtin/default-deny]\r\n";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("Content-Type: application/problem+json\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", content.len())));
        let problem: Value = serde_json::from_str(&content).unwrap();
        assert_eq!(problem["status"], 403);
        assert_eq!(problem["policies"][0], "builtin/default-deny");
        assert_eq!(problem["hint"], "Ask.");
        assert!(problem.get("error").is_none());
    }

    #[test]
    fn each_client_gets_the_form_that_it_shows() {
        let (head, content) = answer("GET / HTTP/1.1\r\nUser-Agent: git/2.47.3\r\nAccept: */*");
        assert!(head.contains("Content-Type: text/plain"), "{head}");
        assert!(content.starts_with("Refused by nodegate: no policy permits"), "{content}");
        let (head, content) = answer("GET / HTTP/1.1\r\nUser-Agent: npm/11.19.0 node/v24");
        assert!(head.contains("npm-notice: Refused by nodegate: "), "{head}");
        let problem: Value = serde_json::from_str(&content).unwrap();
        assert!(problem["error"].as_str().unwrap().contains("builtin/default-deny"));
        let (_, content) = answer("POST / HTTP/1.1\r\nX-Stainless-Lang: js");
        let problem: Value = serde_json::from_str(&content).unwrap();
        assert!(problem["error"]["message"].as_str().unwrap().contains("builtin/default-deny"));
        let (head, _) = answer("GET / HTTP/1.1\r\nAccept: text/html,application/xhtml+xml");
        assert!(head.contains("Content-Type: text/plain"), "{head}");
        let (_, content) = answer("HEAD / HTTP/1.1");
        assert_eq!(content, "");
    }
}
