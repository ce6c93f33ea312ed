//! The plan of a statement that has been run, as EXPLAIN ANALYZE shows it: every line stays, and in those that could tell
//! something of the values the figures are concealed.
//!
//! A plan holds no value of any row: its conditions and expressions are those of the statement and of views, with their
//! constants. But some of its figures depend on the values that the statement only passes on: how much memory a sort took
//! depends on their lengths, how many bytes of write-ahead log an UPDATE took on how much a new value has in common with
//! the old one, how often a trigger was called on whether they were equal. So a line is known, or its figures are concealed
//! (explain.c, `ExplainPropertyText` and its like; every format has one property a line).

use bytes::{BufMut, BytesMut};

use super::data_row::Concealed;
use crate::domain::results::PlanFormat;

/// What stands in place of figures in the text format.
const REDACTED: &[u8] = b"[redacted]";

/// Properties whose values depend on the statement, the schema, statistics and clocks, and on the number of rows that the
/// steps of the plan took: which rows these are, no masked column decides.
const KNOWN: &[&str] = &[
    "Actual Loops",
    "Actual Rows",
    "Actual Startup Time",
    "Actual Total Time",
    "Alias",
    "Async Capable",
    "CTE Name",
    "Cache Key",
    "Cache Mode",
    "Command",
    "Conflict Arbiter Indexes",
    "Conflict Filter",
    "Conflict Resolution",
    "Conflicting Tuples",
    "Constraint Name",
    "Custom Plan Provider",
    "Deforming",
    "Disabled",
    "Emission",
    "Execution Time",
    "Expressions",
    "Filter",
    "Function Call",
    "Function Name",
    "Functions",
    "Generation",
    "Group Key",
    "Group Keys",
    "Hash Cond",
    "Hash Key",
    "Hash Keys",
    "Heap Fetches",
    "Index Cond",
    "Index Name",
    "Index Searches",
    "Inlining",
    "Inner Unique",
    "Join Filter",
    "Join Type",
    "Merge Cond",
    "Node Type",
    "One-Time Filter",
    "Operation",
    "Optimization",
    "Options",
    "Order By",
    "Output",
    "Parallel Aware",
    "Params Evaluated",
    "Parent Relationship",
    "Partial Mode",
    "Plan Rows",
    "Plan Width",
    "Planned Partitions",
    "Planning Time",
    "Presorted Key",
    "Query Identifier",
    "Recheck Cond",
    "Relation",
    "Relation Name",
    "Relations",
    "Remote SQL",
    "Repeatable Seed",
    "Rows Removed by Conflict Filter",
    "Rows Removed by Filter",
    "Rows Removed by Index Recheck",
    "Rows Removed by Join Filter",
    "Run Condition",
    "Sampling Method",
    "Sampling Parameters",
    "Scan Direction",
    "Schema",
    "Single Copy",
    "Sort Key",
    "Startup Cost",
    "Strategy",
    "Subplan Name",
    "Subplans Removed",
    "TID Cond",
    "Table Function Call",
    "Table Function Name",
    "Timing",
    "Total",
    "Total Cost",
    "Trigger Name",
    "Tuples Inserted",
    "Tuplestore Name",
    "Window",
    "Worker Number",
    "Workers Launched",
    "Workers Planned",
];

/// What of a line may be shown.
enum Line<'l> {
    /// All of it.
    Whole,
    /// This beginning and this end; what stands between them is a figure.
    Around(&'l [u8], &'l [u8]),
}

/// Appends a plan, or a line of one.
pub(super) fn write(format: PlanFormat, value: &[u8], out: &mut BytesMut) -> Concealed {
    let mut concealed = Concealed::Nothing;
    // Whether the items of the list that was begun last are known.
    let mut items = true;
    for (number, line) in value.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            out.put_u8(b'\n');
        }
        let shown = match format {
            PlanFormat::Text => of_text(line),
            PlanFormat::Json => of_json(line),
            PlanFormat::Xml => of_xml(line, &mut items),
            PlanFormat::Yaml => of_yaml(line, &mut items),
        };
        match shown {
            Line::Whole => out.put_slice(line),
            Line::Around(before, behind) => {
                concealed = Concealed::Something;
                out.put_slice(before);
                out.put_slice(match format {
                    PlanFormat::Text => REDACTED,
                    PlanFormat::Json | PlanFormat::Yaml => b"null",
                    PlanFormat::Xml => b"",
                });
                out.put_slice(behind);
            }
        }
    }
    concealed
}

fn is_known(label: &[u8]) -> bool {
    KNOWN.iter().any(|known| {
        known.len() == label.len()
            && known.bytes().zip(label).all(|(known, byte)| {
                // XML has no blanks in its names.
                known == *byte || (known == b' ' && *byte == b'-')
            })
    })
}

/// `Label: value`, or a step: `->  Sort  (cost=… rows=…) (actual time=… rows=… loops=1)`.
fn of_text(line: &[u8]) -> Line<'_> {
    let start = line.iter().take_while(|byte| **byte == b' ').count();
    let Some(at) = find(line, b": ", start) else { return Line::Whole };
    let (head, label) = (line.get(..at + 2).unwrap_or_default(), line.get(start..at).unwrap_or_default());
    let redacted = Line::Around(head, b"");
    // Whatever a trigger is called, with line breaks in its name.
    if find(line, b"calls=", start).is_some() {
        return redacted;
    }
    if is_known(label) {
        return Line::Whole;
    }
    if label.starts_with(b"Worker ") {
        let rest = line.get(at + 2..).unwrap_or_default();
        return match of_text(rest) {
            Line::Whole => Line::Whole,
            Line::Around(before, behind) => {
                let kept = line.len().saturating_sub(rest.len()).saturating_add(before.len());
                Line::Around(line.get(..kept).unwrap_or_default(), behind)
            }
        };
    }
    let is_step = [&b"(cost="[..], b"(actual ", b"(never executed)", b"actual time="]
        .iter()
        .any(|mark| find(line, mark, start).is_some());
    if is_step { Line::Whole } else { redacted }
}

/// `"Label": value,`
fn of_json(line: &[u8]) -> Line<'_> {
    let start = line.iter().take_while(|byte| **byte == b' ').count();
    let Some(at) = find(line, b"\": ", start).filter(|_| line.get(start) == Some(&b'"')) else {
        return Line::Whole;
    };
    let label = line.get(start + 1..at).unwrap_or_default();
    let value = line.get(at + 3..).unwrap_or_default();
    if is_known(label) || matches!(value, b"[" | b"{") {
        return Line::Whole;
    }
    let behind = if value.ends_with(b",") { &b","[..] } else { b"" };
    Line::Around(line.get(..at + 3).unwrap_or_default(), behind)
}

/// `<Label>value</Label>`; the items of a list are `<Item>…</Item>`.
fn of_xml<'l>(line: &'l [u8], items: &mut bool) -> Line<'l> {
    let start = line.iter().take_while(|byte| **byte == b' ').count();
    if line.get(start) != Some(&b'<') || line.get(start + 1) == Some(&b'/') {
        return Line::Whole;
    }
    let Some(end) = find(line, b">", start) else { return Line::Whole };
    let label = line.get(start + 1..end).unwrap_or_default();
    let value = line.get(end + 1..).unwrap_or_default();
    if value.is_empty() {
        *items = is_known(label);
        return Line::Whole;
    }
    if if label == b"Item" { *items } else { is_known(label) } {
        return Line::Whole;
    }
    let close = value.iter().rposition(|byte| *byte == b'<').unwrap_or(value.len());
    Line::Around(line.get(..=end).unwrap_or_default(), value.get(close..).unwrap_or_default())
}

/// `Label: value`, `- Label: value` or, an item of a list, `- "value"`.
fn of_yaml<'l>(line: &'l [u8], items: &mut bool) -> Line<'l> {
    let start = line.iter().take_while(|byte| matches!(**byte, b' ' | b'-')).count();
    if line.get(start) == Some(&b'"') {
        return if *items { Line::Whole } else { Line::Around(line.get(..start).unwrap_or_default(), b"") };
    }
    let Some(at) = find(line, b":", start) else { return Line::Whole };
    let label = line.get(start..at).unwrap_or_default();
    let value = line.get(at + 1..).unwrap_or_default().trim_ascii();
    if value.is_empty() {
        *items = is_known(label);
        return Line::Whole;
    }
    if is_known(label) { Line::Whole } else { Line::Around(line.get(..at + 2).unwrap_or_default(), b"") }
}

fn find(line: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = line.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|at| at + from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn shown(format: PlanFormat, line: &str) -> String {
        let mut out = BytesMut::new();
        let concealed = write(format, line.as_bytes(), &mut out);
        let shown = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(concealed == Concealed::Nothing, shown == line, "{line}");
        shown
    }

    #[test]
    fn a_line_is_known_or_its_figures_are_concealed() {
        for line in [
            "Sort  (cost=1.00..2.00 rows=3 width=4) (actual time=0.1..0.2 rows=3.00 loops=1)",
            "  ->  Seq Scan on t \"a: b\"  (cost=0.00..1.00 rows=3 width=4) (never executed)",
            "        Filter: (name = 'x: Memory: 5kB'::text)",
            "  Rows Removed by Filter: 7",
            "  Worker 0:  actual time=0.007..0.008 rows=1 loops=1",
            "  SubPlan 1",
            "Planning:",
            "Planning Time: 0.1 ms",
        ] {
            assert_eq!(shown(PlanFormat::Text, line), line);
        }
        for (line, expected) in [
            ("  Sort Method: quicksort  Memory: 25kB", "  Sort Method: [redacted]"),
            ("  Worker 0:  Sort Method: quicksort  Memory: 25kB", "  Worker 0:  Sort Method: [redacted]"),
            ("  Buffers: shared hit=3", "  Buffers: [redacted]"),
            ("Trigger for constraint a on b: time=0.1 calls=1", "Trigger for constraint a on b: [redacted]"),
            // The end of a trigger's line whose name has a line break in it.
            ("Filter: x: time=0.1 calls=1", "Filter: [redacted]"),
            ("  What is new: 7", "  What is new: [redacted]"),
        ] {
            assert_eq!(shown(PlanFormat::Text, line), expected);
        }
        for (format, line, expected) in [
            (PlanFormat::Json, "  \"Calls\": 1", "  \"Calls\": null"),
            (PlanFormat::Json, "  \"Sort Methods Used\": [\"quicksort\"],", "  \"Sort Methods Used\": null,"),
            (PlanFormat::Json, "  \"Plans\": [", "  \"Plans\": ["),
            (PlanFormat::Json, "  \"Actual Rows\": 1,", "  \"Actual Rows\": 1,"),
            (PlanFormat::Xml, "  <Calls>1</Calls>", "  <Calls></Calls>"),
            (
                PlanFormat::Xml,
                "<Output>\n  <Item>a</Item>\n</Output>",
                "<Output>\n  <Item>a</Item>\n</Output>",
            ),
            (PlanFormat::Xml, "<Used>\n  <Item>a</Item>\n</Used>", "<Used>\n  <Item></Item>\n</Used>"),
            (PlanFormat::Yaml, "  Calls: 1", "  Calls: null"),
            (PlanFormat::Yaml, "Output:\n  - \"a\"\nUsed:\n  - \"b\"", "Output:\n  - \"a\"\nUsed:\n  - null"),
        ] {
            assert_eq!(shown(format, line), expected);
        }
    }
}
