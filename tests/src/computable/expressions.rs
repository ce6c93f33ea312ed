//! The statements that try a line of the list: every combination of the types that it names, and constants at the
//! bounds of what it allows.

use super::{
    LIST,
    values::{Database, TYPES, place},
};

/// Operations on each other's results, as far as the daemon lets them grow.
pub const COMPOSED: &[&str] = &[
    "SELECT upper(lower(x)) FROM large",
    "SELECT to_json(upper(x)) FROM large",
    "SELECT to_json(to_json(x)::text) FROM large",
    "SELECT json_build_array(json_build_array(x)) FROM large",
    "SELECT jsonb_build_object('k', upper(x), 'l', 5) FROM large",
    "SELECT jsonb_build_array(jsonb_build_array(x)) FROM large",
    "SELECT row_to_json(ROW(x, x, x, x)) FROM large",
    "SELECT upper(x || x || x) FROM large",
    "SELECT concat(x, x, x, x) || concat(x, x, x, x) FROM large",
    "SELECT left(upper(concat(x, x)), 1000000) || x FROM large",
    "SELECT ROW(upper(x), lower(x), initcap(x), reverse(x)) FROM large",
    "SELECT lag(x) OVER (), max(x) OVER (), count(x) OVER () FROM large",
    "SELECT sum(x) FROM (SELECT 2147483647 AS x FROM generate_series(1, 300000)) s",
    "SELECT sum(x), avg(x) FROM (SELECT 9223372036854775807 AS x FROM generate_series(1, 300000)) s",
    "SELECT sum(x), avg(x) FROM (SELECT (repeat('9', 600) || '.5')::numeric(1000, 400) AS x FROM generate_series(1, 30000)) s",
    "SELECT sum(n) OVER (ORDER BY n ROWS 5 PRECEDING), avg(n) OVER (ORDER BY n ROWS 5 PRECEDING) FROM generate_series(2147483000, 2147483647) n",
];

/// A line of the list.
#[derive(Debug, Clone)]
pub struct Line {
    /// function, aggregate, window, operator, cast or form.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its arguments as they are written.
    pub arguments: &'static str,
}

/// A statement that must not fail.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The query.
    pub sql: String,
}

/// The list.
pub fn lines() -> Vec<Line> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(" : ").map(str::trim).collect();
            let [kind, name, arguments, _, _] = *cells.as_slice() else {
                panic!("a line of five cells: {line}")
            };
            Line { kind, name, arguments }
        })
        .collect()
}

/// An argument: a type, or a constant.
#[derive(Debug, Clone)]
enum Operand {
    Column(&'static str),
    Constant(String),
}

fn of_classes(classes: &[&str]) -> Vec<&'static str> {
    let named = TYPES.iter().filter(|(class, _)| classes.contains(class));
    named.flat_map(|(_, types)| types.iter().copied()).collect()
}

fn types(class: &str) -> Vec<&'static str> {
    const PLAIN: [&str; 10] =
        ["text", "small", "int8", "fixed", "numeric", "bool", "moments", "equals", "scalars", "json"];
    const ORDERED: [&str; 7] = ["text", "small", "int8", "fixed", "numeric", "bool", "moments"];
    let with = |more: &[&'static str]| of_classes(&[&PLAIN[..], &["jsonb"], more].concat());
    match class {
        "letters" => of_classes(&["text"]),
        "whole" => of_classes(&["small", "int8"]),
        "ordered" => of_classes(&ORDERED),
        "equal" => of_classes(&[&ORDERED[..], &["equals"]].concat()),
        "plain" => with(&[]),
        "shown" => with(&["array", "json_array", "enum", "row", "json_row"]),
        "binary" => {
            let mut all = with(&["array", "enum", "row"]);
            all.retain(|name| *name != "json");
            all
        }
        "row" => of_classes(&["row", "json_row"]),
        "any" => with(&["array", "json_array", "enum", "row", "json_row", "others"]),
        class => {
            let found = of_classes(&[class]);
            assert!(!found.is_empty(), "a class that is known: {class}");
            found
        }
    }
}

/// What may stand for one word of a line beside a first operand.
fn operands(word: &str, first: Option<&Operand>) -> Vec<Operand> {
    let constants = |texts: &[&str]| texts.iter().map(|text| Operand::Constant((*text).to_owned())).collect();
    match word {
        "count" => constants(&["0", "1", "2", "3", "999999", "1000000"]),
        "place" => constants(&["1", "2", "3", "1000000"]),
        "short" => {
            let mut all: Vec<Operand> =
                constants(&["''", "' '", "'x'", "'%_\\'", "'it''s \"q\"'", "'<letters>'"]);
            all.push(Operand::Constant(format!("'{}'", "k".repeat(1000))));
            all
        }
        "same" => match first {
            Some(Operand::Column(name)) => {
                let groups = [
                    of_classes(&["text"]),
                    of_classes(&["small", "int8"]),
                    of_classes(&["fixed", "numeric"]),
                ];
                let alike =
                    groups.into_iter().find(|group| group.contains(name)).unwrap_or_else(|| vec![*name]);
                let mut all: Vec<Operand> = alike.into_iter().map(Operand::Column).collect();
                all.push(Operand::Constant("NULL".to_owned()));
                all
            }
            _ => constants(&["'x'"]),
        },
        class => types(class).into_iter().map(Operand::Column).collect(),
    }
}

/// Whether PostgreSQL finds a collation for what is made of these. It says that it does not when it meets the first value
/// that is not NULL, so that the daemon refuses such a mixture.
fn has_one_collation(operands: &[Operand]) -> bool {
    let collations = operands.iter().filter_map(|operand| match operand {
        Operand::Column(name) => name.split_once(" COLLATE ").map(|(_, collation)| collation),
        Operand::Constant(_) => None,
    });
    collations.collect::<std::collections::BTreeSet<_>>().len() < 2
}

/// Every combination of up to two operands; of more, each with one combination of the others.
fn combined(words: &[&str]) -> Vec<Vec<Operand>> {
    let mut all: Vec<Vec<Operand>> = vec![Vec::new()];
    for (at, word) in words.iter().enumerate() {
        let mut next = Vec::new();
        for (number, known) in all.iter().enumerate() {
            let choices = operands(word, known.first());
            let many = if at == 0 || words.len() == 2 && *word == "same" || choices.len() < 8 && at == 1 {
                choices.len()
            } else {
                2
            };
            for step in 0..many.min(choices.len()) {
                let chosen = choices[(number * 3 + step) % choices.len()].clone();
                next.push([&known[..], &[chosen]].concat());
            }
        }
        all = next;
    }
    all
}

impl Line {
    /// Whether the line counts in such a database.
    pub fn counts_in(&self, database: Database) -> bool {
        database.is_whole || !self.arguments.contains("letters")
    }

    /// The statements that try it.
    pub fn probes(&self) -> Vec<Probe> {
        let repeats = self.arguments.ends_with("...");
        let (once, more) = self.arguments.split_once(';').unwrap_or(("", self.arguments));
        let split = |text: &'static str| -> Vec<&'static str> {
            text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "...").collect()
        };
        let (once, more) = (split(once), split(more));
        let lists: Vec<Vec<&str>> = if !repeats {
            vec![[once, more].concat()]
        } else if more.contains(&"same") && once.is_empty() {
            vec![more.clone(), [&more[..], &more[1..]].concat()]
        } else {
            vec![[&once[..], &more].concat(), [&once[..], &more, &more].concat()]
        };
        let combined = lists.iter().flat_map(|words| combined(words));
        combined
            .filter(|operands| has_one_collation(operands))
            .map(|operands| self.probe(&operands))
            .collect()
    }

    /// A statement that tries it with values of some MiB, if it takes texts.
    pub fn large(&self) -> Option<Probe> {
        const TAKE_TEXTS: [&str; 8] =
            ["letters", "text", "plain", "shown", "binary", "any", "ordered", "equal"];
        let words: Vec<&str> =
            self.arguments.split([',', ';']).map(str::trim).filter(|word| *word != "...").collect();
        let operand = |word: &&str| match *word {
            "short" => Some(format!("'{}'", "k".repeat(1000))),
            "count" | "place" => Some("1000000".to_owned()),
            "same" => Some("s0.x".to_owned()),
            class => TAKE_TEXTS.contains(&class).then(|| "s0.x".to_owned()),
        };
        let operands: Vec<String> = words.iter().map(operand).collect::<Option<_>>()?;
        Some(Probe { sql: format!("SELECT {} FROM large s0", self.expression(&operands)) })
    }

    fn probe(&self, operands: &[Operand]) -> Probe {
        let mut sources = Vec::new();
        let columns = operands.iter().filter(|operand| matches!(operand, Operand::Column(_))).count();
        let texts: Vec<String> = operands
            .iter()
            .map(|operand| match operand {
                Operand::Constant(text) => text.clone(),
                Operand::Column(name) => {
                    let table = if columns == 1 { "all" } else { "few" };
                    sources.push(format!("{table}_{} s{}", place(name), sources.len()));
                    format!("s{}.x", sources.len() - 1)
                }
            })
            .collect();
        let mut from = sources.join(", ");
        // Beside a second table each of its values, of a third some.
        if sources.len() > 2 {
            from += " WHERE (s0.n + s1.n) % 7 = s2.n % 7";
        }
        Probe { sql: format!("SELECT {} FROM {from}", self.expression(&texts)) }
    }

    fn expression(&self, values: &[String]) -> String {
        let first = values.first().map_or("NULL", String::as_str);
        let second = values.get(1).map_or("NULL", String::as_str);
        let all = values.join(", ");
        match (self.kind, self.name) {
            ("function" | "aggregate", name) => format!("{name}({all})"),
            ("window", name) => format!("{name}({all}) OVER (ORDER BY s0.n)"),
            ("operator", name) => format!("{first} {name} {second}"),
            ("cast", "varchar(n)") => {
                format!("({first}::varchar(1), {first}::varchar(7), {first}::varchar(10485760))")
            }
            ("cast", "text") => format!("{first}::pg_catalog.text"),
            ("cast", name) => format!("{first}::pg_catalog.{name}"),
            ("form", "coalesce" | "greatest" | "least" | "nullif" | "row") => format!("{}({all})", self.name),
            ("form", "case") => format!(
                "CASE WHEN s0.n % 2 = 0 THEN {first} WHEN s0.n % 3 = 0 THEN {second} ELSE {} END",
                values.last().map_or("NULL", String::as_str)
            ),
            ("form", "distinct") => {
                format!("({first} IS DISTINCT FROM {second}, {first} IS NOT DISTINCT FROM {second})")
            }
            ("form", "in") => {
                let others = values[1..].join(", ");
                format!(
                    "({first} IN ({others}), {first} NOT IN ({others}), {first} = ANY (ARRAY[{others}, NULL]))"
                )
            }
            ("form", "between") => {
                format!(
                    "({first} BETWEEN {second} AND {}, {first} BETWEEN SYMMETRIC {} AND {second})",
                    values[2], values[2]
                )
            }
            ("form", "is_null") => format!("({first} IS NULL, {first} IS NOT NULL)"),
            ("form", "is_true") => format!("({first} IS TRUE, {first} IS NOT UNKNOWN)"),
            ("form", "and") => format!("({}, {})", values.join(" AND "), values.join(" OR ")),
            ("form", "not") => format!("NOT {first}"),
            ("form", "array") => format!("ARRAY[{all}]"),
            ("form", "subscript") => format!("({first})[{second}]"),
            (kind, name) => panic!("it is not said how to try the {kind} {name}"),
        }
    }
}
