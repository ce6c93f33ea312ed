//! A text without its constants, for where what an agent writes into a masked column, or compares with one, must not
//! be kept.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pg_query::protobuf::Token;

use super::{parser, reader::MAX_TEXT_BYTES};

/// Stands for a constant.
const PLACE: char = '?';
/// Stands for a comment, which may say what a constant says.
const COMMENT: &str = "/* … */";

/// Put behind a text: a token that ends whatever is before it but a quote, a dollar quote or a comment without an end.
const END: &str = "\n;";

/// `text` with a `?` for each constant, also of a text that the grammar does not accept. A text that cannot be taken
/// apart at all is replaced by its length.
pub fn without_literals(text: &str) -> String {
    let withheld = || format!("[a text of {} bytes]", text.len());
    if parser::check_size(text, MAX_TEXT_BYTES).is_err() {
        return withheld();
    }
    // The binding must not be given a text without any token.
    let closed = format!("{text}{END}");
    let Ok(Ok(scanned)) = catch_unwind(AssertUnwindSafe(|| pg_query::scan(&closed))) else {
        return withheld();
    };
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for token in scanned.tokens {
        let place = |at: i32| usize::try_from(at).ok();
        let (Some(start), Some(end)) = (place(token.start), place(token.end)) else { return withheld() };
        if start >= text.len() {
            break;
        }
        // What is between tokens is white space; whatever else the lexer passed over is not known.
        let Some(between) = text.get(from..start) else { return withheld() };
        if !between.chars().all(char::is_whitespace) {
            return withheld();
        }
        out.push_str(between);
        match Token::try_from(token.token) {
            Ok(
                Token::Sconst
                | Token::Usconst
                | Token::Bconst
                | Token::Xconst
                | Token::Iconst
                | Token::Fconst
                | Token::TrueP
                | Token::FalseP,
            ) => out.push(PLACE),
            Ok(Token::SqlComment | Token::CComment) => out.push_str(COMMENT),
            Ok(_) => match text.get(start..end) {
                Some(word) => out.push_str(word),
                None => return withheld(),
            },
            Err(_) => return withheld(),
        }
        from = end;
    }
    match text.get(from..) {
        Some(rest) if rest.chars().all(char::is_whitespace) => {
            out.push_str(rest);
            out
        }
        _ => withheld(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_literals;

    #[test]
    fn every_kind_of_constant_is_left_out() {
        for (text, kept) in [
            (
                "INSERT INTO people (email, age) VALUES ('x@example.com', 41)",
                "INSERT INTO people (email, age) VALUES (?, ?)",
            ),
            ("SELECT E'a\\'b', U&'\\0061', $$c$$, $t$d'e$t$", "SELECT ?, ?, ?, ?"),
            ("SELECT B'01', X'ff', 1.5, .5e3, 0x1F, N'g', -7", "SELECT ?, ?, ?, ?, ?, N?, -?"),
            ("SELECT true, \"a 'b'\", a1, $1", "SELECT ?, \"a 'b'\", a1, $1"),
            ("SELECT 1 -- x@example.com\n, /* 'y' */ 2", "SELECT ? /* … */\n, /* … */ ?"),
            ("SELECT 'ä€', 'é' FROM ö", "SELECT ?, ? FROM ö"),
            ("SELEC 'no grammar' ((", "SELEC ? (("),
            ("", ""),
        ] {
            assert_eq!(without_literals(text), kept, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_taken_apart_is_replaced_as_a_whole() {
        for text in ["SELECT 'no end", "SELECT $$ no end", "SELECT /* no end", "SELECT 'a\0b'"] {
            assert_eq!(without_literals(text), format!("[a text of {} bytes]", text.len()));
        }
    }
}
