//! Scripts of psql and what psql prints of them with `-a`, taken apart into statements and their outputs.

/// A statement and what psql printed behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its lines.
    pub statement: String,
    /// What was printed before the next one.
    pub output: String,
}

/// A script's statements, each as the lines that psql repeats: up to a line that ends with a semicolon or holds a
/// command of psql's own, outside of dollar quotes. Lines of COPY data are no part of any.
pub fn statements(script: &str) -> Vec<Vec<&str>> {
    let mut all = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    let mut quote: Option<String> = None;
    let mut is_data = false;
    for line in script.lines() {
        if is_data {
            is_data = line != "\\.";
            continue;
        }
        // psql does not repeat what is empty.
        if line.is_empty() && quote.is_none() {
            continue;
        }
        lines.push(line);
        quote = quoted_behind(line, quote);
        let code = line.split(" --").next().unwrap_or_default().trim();
        let ends = code.ends_with(';') || code.contains('\\');
        if quote.is_some() || !ends || code.starts_with("--") {
            continue;
        }
        let whole = lines.join(" ").to_ascii_lowercase();
        is_data = whole.contains("copy") && whole.contains("from stdin");
        all.push(std::mem::take(&mut lines));
    }
    all
}

/// The dollar quote that is open behind a line.
fn quoted_behind(line: &str, mut open: Option<String>) -> Option<String> {
    let mut rest = line;
    loop {
        if let Some(mark) = &open {
            let Some(at) = rest.find(mark.as_str()) else { return open };
            rest = &rest[at + mark.len()..];
            open = None;
        } else {
            let at = rest.find('$')?;
            let tag = rest[at + 1..].find('$').map(|end| &rest[at..at + end + 2]);
            match tag.filter(|tag| tag.chars().all(|c| c == '$' || c == '_' || c.is_alphanumeric())) {
                Some(tag) if !tag[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    open = Some(tag.to_owned());
                    rest = &rest[at + tag.len()..];
                }
                _ => rest = &rest[at + 1..],
            }
        }
    }
}

/// The statements with what `output` has behind each; nothing for those that it does not have, such as the last ones of
/// a session that ended early.
pub fn blocks(statements: &[Vec<&str>], output: &str) -> Vec<Option<Block>> {
    let lines: Vec<&str> = output.lines().collect();
    let mut at = 0;
    let mut blocks: Vec<Option<Block>> = Vec::new();
    for statement in statements {
        // Where its lines stand next, one behind the other.
        let found = (at..lines.len()).find(|from| {
            statement.iter().enumerate().all(|(offset, line)| lines.get(from + offset) == Some(line))
        });
        let Some(found) = found else {
            blocks.push(None);
            continue;
        };
        if let Some(before) = blocks.iter_mut().rev().flatten().next() {
            before.output = lines[at..found].join("\n");
        }
        at = found + statement.len();
        blocks.push(Some(Block { statement: statement.join("\n"), output: String::new() }));
    }
    if let Some(last) = blocks.iter_mut().rev().flatten().next() {
        last.output = lines[at..].join("\n");
    }
    blocks
}

/// Why nodegate refused a statement, if it did: the rule's id, and for settings which one.
pub fn reason(output: &str) -> Option<String> {
    let (_, said) = output.split_once("nodegate: ")?;
    let said = said.lines().next().unwrap_or_default();
    let rule = output.split_once("policy: ").map_or("", |(_, rule)| rule.lines().next().unwrap_or_default());
    let what = said.split_once(" would change how").map(|(what, _)| what);
    Some(match what {
        Some(what) => format!("{rule}: {what}"),
        None if rule.is_empty() => said.to_owned(),
        None => rule.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_falls_into_statements_and_its_output_into_theirs() {
        let script = "-- first\n\nSELECT 1;\nCREATE FUNCTION f() RETURNS int AS $x$ SELECT 1;\n SELECT '$';\n$x$ LANGUAGE sql;\nCOPY t FROM stdin;\n1;\n\\.\nSELECT $1 \\gset\n";
        let all = statements(script);
        let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 3, 1, 1]);
        let output = "-- first\nSELECT 1;\n one\nCREATE FUNCTION f() RETURNS int AS $x$ SELECT 1;\n SELECT '$';\n$x$ LANGUAGE sql;\nCOPY t FROM stdin;\nERROR:  nodegate: no\nDETAIL:  policy: builtin/x\n";
        let blocks = blocks(&all, output);
        let outputs: Vec<&str> = blocks.iter().flatten().map(|block| block.output.as_str()).collect();
        assert_eq!(outputs, [" one", "", "ERROR:  nodegate: no\nDETAIL:  policy: builtin/x"]);
        assert_eq!(reason(outputs[2]).as_deref(), Some("builtin/x"));
        assert_eq!(reason(outputs[0]), None);
    }
}
