//! The list of what may be computed of a masked value, as `computable.txt` states it: what cannot fail for any value.

use std::sync::LazyLock;

use super::value::{Class, Value};

/// The list itself, which the tests on real servers read too.
const LIST: &str = include_str!("computable.txt");

/// Largest whole number that `count` and `place` stand for.
const MOST: i64 = 1_000_000;
/// Longest constant that `short` stands for.
const SHORT_BYTES: u32 = 1_000;

/// What kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A function of `pg_catalog`, aggregates and window functions among them.
    Function,
    /// An operator of `pg_catalog`.
    Operator,
    /// A cast to the type of that name.
    Cast,
    /// A form of the grammar's own.
    Form,
}

/// What may stand as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    Of(Class),
    /// Of the first one's class, or a constant.
    Same,
    Count,
    Place,
    Short,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// A value of that type.
    Type(u32),
    /// One like the first argument.
    Same,
    /// A row of the arguments.
    Row,
    /// It is not known what.
    Any,
}

/// A line of the list.
#[derive(Debug)]
pub(super) struct Entry {
    kind: Kind,
    name: &'static str,
    /// Those that come once, and those that repeat behind them.
    first: Vec<Argument>,
    repeated: Vec<Argument>,
    pub(super) gives: Gives,
    /// How many times as long as all arguments together the result may be.
    pub(super) grows: u32,
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(entry).collect()
});

/// The first line that allows the operation with these arguments.
pub(super) fn find(kind: Kind, name: &str, arguments: &[Value], is_whole: bool) -> Option<&'static Entry> {
    let entries = ENTRIES.iter().filter(|entry| entry.kind == kind && entry.name == name);
    entries.into_iter().find(|entry| entry.takes(arguments, is_whole))
}

impl Entry {
    fn takes(&self, arguments: &[Value], is_whole: bool) -> bool {
        let Some(rest) = arguments.len().checked_sub(self.first.len()) else { return false };
        let fits = match self.repeated.len() {
            0 => rest == 0,
            many => rest > 0 && rest.is_multiple_of(many),
        };
        let wanted = self.first.iter().chain(self.repeated.iter().cycle());
        // A constant has the type of what stands beside it.
        let first = arguments.iter().find(|value| value.is_typed());
        fits && wanted.zip(arguments).all(|(wanted, value)| match wanted {
            Argument::Of(Class::Letters) => is_whole && value.is_of(Class::Text),
            Argument::Of(class) => {
                let is_text = value.literal_bytes().is_some() && class.has_texts();
                value.is_of(*class) || is_text || (self.unites() && value.is_constant())
            }
            Argument::Same => {
                let is_like = |first: &&Value| std::ptr::eq(value, *first) || value.is_like(first);
                value.is_constant() || first.as_ref().is_some_and(is_like)
            }
            Argument::Count => value.whole().is_some_and(|whole| (0..=MOST).contains(&whole)),
            Argument::Place => value.whole().is_some_and(|whole| (1..=MOST).contains(&whole)),
            Argument::Short => value.literal_bytes().is_some_and(|bytes| bytes <= SHORT_BYTES),
        })
    }

    /// Whether it makes one type of its arguments'.
    fn unites(&self) -> bool {
        self.first.iter().chain(&self.repeated).any(|argument| *argument == Argument::Same)
    }
}

/// A line that cannot be read allows nothing; a test sees that there is none.
fn entry(line: &'static str) -> Option<Entry> {
    let cells: Vec<&str> = line.split(" : ").map(str::trim).collect();
    let [kind, name, arguments, gives, grows] = *cells.as_slice() else { return None };
    let kind = match kind {
        "function" | "aggregate" | "window" => Kind::Function,
        "operator" => Kind::Operator,
        "cast" => Kind::Cast,
        "form" => Kind::Form,
        _ => return None,
    };
    let (once, more) = arguments.split_once(';').map_or(("", arguments), |(once, more)| (once, more));
    let list = |words: &str| {
        words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty() && *word != "...")
            .map(argument)
            .collect::<Option<Vec<_>>>()
    };
    let (mut first, mut repeated) = (list(once)?, list(more)?);
    if !arguments.ends_with("...") {
        first.append(&mut repeated);
    } else if repeated.contains(&Argument::Same) && once.is_empty() {
        // The class itself is named once.
        first.push(repeated.remove(0));
    }
    let gives = match gives {
        "same" => Gives::Same,
        "any" => Gives::Any,
        "row" => Gives::Row,
        name => Gives::Type(super::value::type_oid(name)?.1),
    };
    Some(Entry { kind, name, first, repeated, gives, grows: grows.parse().ok()? })
}

fn argument(word: &str) -> Option<Argument> {
    Some(match word {
        "same" => Argument::Same,
        "count" => Argument::Count,
        "place" => Argument::Place,
        "short" => Argument::Short,
        class => Argument::Of(Class::named(class)?),
    })
}

#[cfg(test)]
#[allow(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_is_read() {
        let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for line in lines {
            assert!(entry(line).is_some(), "{line}");
        }
        assert!(ENTRIES.len() > 60);
    }

    #[test]
    fn the_documentation_shows_the_list() {
        let pages = include_str!("../../../../docs/masking.md");
        let rows: Vec<Vec<&str>> = pages
            .lines()
            .filter(|line| line.starts_with("| "))
            .map(|line| line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect())
            .collect();
        let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let (mut shown, mut listed) = (0, 0);
        for line in lines {
            let cells: Vec<&str> = line.split(" : ").map(str::trim).collect();
            let [kind, name, arguments, ..] = *cells.as_slice() else { panic!("{line}") };
            let name = format!("`{}`", name.replace('|', "\\|"));
            let is_shown = rows.iter().any(|row| {
                matches!(row.as_slice(), [of, names, with] if *of == kind && *with == arguments
                    && names.split(", ").any(|shown| shown == name))
            });
            assert!(is_shown, "docs/masking.md does not show: {line}");
            listed += 1;
        }
        for row in rows {
            if let [kind, names, _] = row.as_slice()
                && ["function", "aggregate", "window", "operator", "cast", "form"].contains(kind)
            {
                shown += names.split(", ").count();
            }
        }
        assert_eq!(shown, listed, "docs/masking.md shows what is not on the list");
    }
}
