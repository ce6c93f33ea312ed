//! What the body of a function names, word by word: enough to tell what it cannot see.
//!
//! A body in SQL or PL/pgSQL can reach a relation or a function only by naming it, or by running text as SQL. So every
//! word that could be a name is taken for one, and whatever makes statements out of values, or goes on with what others
//! have begun, is taken for reaching everything.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pg_query::protobuf::{KeywordKind, Token};

use crate::domain::code::{Body, Function, Language};

use super::{functions, parser, relations};

/// No longer body is looked at.
const MAX_BODY_BYTES: usize = 128 * 1024;

/// Ends whatever the body leaves open but a quote or a comment; the lexer must not be given a text without any token.
const END: &str = "\n;";

/// Words that run text, fetch from cursors that somebody else may have opened, or end a transaction and so run what waits
/// for its end.
const REACHES_ANYTHING: &[&str] =
    &["execute", "fetch", "move", "refcursor", "commit", "constraints", "prepare"];

/// What a function's body names.
pub(super) fn body(function: &Function) -> &Body {
    function.body.get_or_init(|| match function.language {
        Language::Harmless => Body::default(),
        Language::Compiled => Body { notifies: false, ..anything() },
        Language::Unreadable => anything(),
        Language::Sql | Language::PlPgSql => words(&function.text).unwrap_or_else(anything),
    })
}

/// One of which nothing is known.
fn anything() -> Body {
    Body { is_dynamic: true, notifies: true, takes_row: true, ..Body::default() }
}

/// A word of a body.
struct Word<'t> {
    token: Token,
    keyword: KeywordKind,
    text: &'t str,
}

fn words(text: &str) -> Option<Body> {
    parser::check_size(text, MAX_BODY_BYTES).ok()?;
    let closed = format!("{text}{END}");
    let scanned = catch_unwind(AssertUnwindSafe(|| pg_query::scan(&closed))).ok()?.ok()?;
    let mut all = Vec::with_capacity(scanned.tokens.len());
    let mut from = 0;
    for found in &scanned.tokens {
        let (start, end) = (usize::try_from(found.start).ok()?, usize::try_from(found.end).ok()?);
        // What the lexer passes over is white space, or nobody knows what it is.
        if !closed.get(from..start)?.chars().all(char::is_whitespace) {
            return None;
        }
        from = end;
        let token = Token::try_from(found.token).ok()?;
        if !matches!(token, Token::SqlComment | Token::CComment) {
            all.push(Word { token, keyword: found.keyword_kind(), text: closed.get(start..end)? });
        }
    }
    // Also in what is run as SQL.
    let mut body = Body { notifies: text.to_ascii_lowercase().contains("notify"), ..Body::default() };
    for (at, word) in all.iter().enumerate() {
        let Some(name) = name(word)? else {
            if word.text.chars().all(|letter| "+-*/<>=~!@#%^&|`?".contains(letter)) {
                body.operators.insert(word.text.to_owned());
            }
            continue;
        };
        body.is_dynamic |= REACHES_ANYTHING.contains(&name.as_str())
            || functions::runs_anything(&name)
            || relations::may_be_secret(&name);
        if matches!(name.as_str(), "new" | "old") {
            let next = |by: usize| all.get(at + by);
            let is = |word: Option<&Word<'_>>, text: &str| word.is_some_and(|word| word.text == text);
            let returns = at.checked_sub(1).and_then(|before| all.get(before));
            if is(next(1), ".") {
                match next(2).map(self::name) {
                    Some(Some(Some(field))) => {
                        body.fields.insert(field);
                    }
                    _ => body.takes_row = true,
                }
            } else if !(is(next(1), ";")
                && returns.is_some_and(|word| word.text.eq_ignore_ascii_case("return")))
            {
                body.takes_row = true;
            }
        }
        body.names.insert(name);
    }
    Some(body)
}

/// The name that a word may be, as PostgreSQL folds it: `None` where that cannot be told.
#[expect(clippy::option_option, reason = "no name, and a name that nobody can tell")]
fn name(word: &Word<'_>) -> Option<Option<String>> {
    match word.token {
        Token::Uident => None,
        Token::Ident => {
            Some(Some(match word.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => word.text.to_lowercase(),
            }))
        }
        _ if word.keyword != KeywordKind::NoKeyword => Some(Some(word.text.to_lowercase())),
        _ => Some(None),
    }
}

/// Columns of the trigger's row that it looks at; `None` for all.
pub(super) fn fields(function: &Function) -> Option<&BTreeSet<String>> {
    let body = body(function);
    (!body.takes_row && !body.is_dynamic).then_some(&body.fields)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::words;

    #[test]
    fn every_name_of_a_body_is_found_and_none_of_its_texts_is() {
        let body = words(
            "BEGIN -- customers\n IF NEW.\"Mail\" <> old.city THEN PERFORM public.tell(NEW.id); END IF; \
             RAISE NOTICE 'orders %', (SELECT count(*) FROM \"Big Table\"); RETURN NEW; END",
        )
        .unwrap();
        for name in ["tell", "Big Table", "public", "Mail", "city"] {
            assert!(body.names.contains(name), "{name} in {body:?}");
        }
        assert!(!body.names.contains("orders") && !body.names.contains("customers"));
        assert!(!body.takes_row && !body.is_dynamic && !body.notifies, "{body:?}");
        assert_eq!(Vec::from_iter(&body.fields), ["Mail", "city", "id"]);
        assert!(body.operators.contains("<>"));
    }

    #[test]
    fn a_row_that_is_passed_on_is_taken_as_a_whole() {
        for text in
            ["BEGIN PERFORM f(NEW); END", "BEGIN x := to_jsonb(old); END", "BEGIN PERFORM f(NEW.*); END"]
        {
            assert!(words(text).unwrap().takes_row, "{text}");
        }
        assert!(words("BEGIN PERFORM pg_notify('a', ''); END").unwrap().notifies);
    }

    #[test]
    fn what_runs_text_or_cannot_be_taken_apart_reaches_anything() {
        for text in [
            "BEGIN EXECUTE 'SELECT ' || x; END",
            "BEGIN FETCH c INTO r; END",
            "BEGIN PERFORM query_to_xml('SELECT 1', true, true, ''); END",
            "BEGIN PERFORM most_common_vals FROM pg_stats; END",
            "BEGIN COMMIT; END",
        ] {
            assert!(words(text).unwrap().is_dynamic, "{text}");
        }
        for text in ["BEGIN 'never ends", "SELECT U&\"\\0063ustomers\".x"] {
            assert!(words(text).is_none(), "{text}");
        }
    }
}
