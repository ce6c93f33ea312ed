//! Sets of base columns, kept as small numbers while a statement is read.

use std::collections::{BTreeSet, HashMap};

use crate::domain::catalogue::{Column, Relation};
use crate::domain::results::{ResultColumn, Results};
use crate::domain::statement::{ColumnName, ColumnUse, RelationName};

use super::scope::Outputs;

/// The base columns whose values flow into an expression.
pub(super) type Reads = BTreeSet<u32>;

/// Marks the number of a column whose value is only matched, or only tested: see [`ColumnUse`]. Whatever does not ask
/// for the mark takes the number for the column's own.
const MATCHED: u32 = 1 << 31;
const TESTED: u32 = 1 << 30;

/// The same columns, as ones that are only matched.
pub(super) fn matched(reads: &Reads) -> Reads {
    reads.iter().map(|number| number | MATCHED).collect()
}

/// The same columns, as ones of which only is looked at whether there is a value.
pub(super) fn tested(reads: &Reads) -> Reads {
    reads.iter().map(|number| number | TESTED).collect()
}

/// Whether the number is one of a column that is only matched or only tested.
pub(super) const fn is_marked(number: u32) -> bool {
    number & (MATCHED | TESTED) != 0
}

/// What a use amounts to for the column of that number.
pub(super) const fn amounts_to(usage: ColumnUse, number: u32) -> ColumnUse {
    match usage {
        // What can be computed of it tells no more than that there is a value.
        ColumnUse::Projected | ColumnUse::Compared | ColumnUse::Computed if number & TESTED != 0 => {
            ColumnUse::Tested
        }
        ColumnUse::Compared if number & MATCHED != 0 => ColumnUse::Matched,
        usage => usage,
    }
}

/// Gives every column that a statement mentions a number.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: Vec<ColumnName>,
    numbers: HashMap<ColumnName, u32>,
    /// Numbers of a catalogue column and of everything that it may show.
    known: HashMap<(u32, i16), Vec<u32>>,
}

impl Columns {
    /// The number of a column by name.
    pub(super) fn number(&mut self, name: ColumnName) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// The column itself, without its origins.
    pub(super) fn own(&mut self, relation: &RelationName, column: &str) -> u32 {
        self.number(ColumnName { relation: relation.clone(), column: column.to_owned() })
    }

    /// Adds the column and its origins; returns how many numbers that were.
    pub(super) fn read(&mut self, relation: &Relation, column: &Column, into: &mut Reads) -> usize {
        let key = (relation.oid, column.number);
        if !self.known.contains_key(&key) {
            let mut numbers = vec![self.own(&relation.name, &column.name)];
            for origin in &column.origins {
                numbers.push(self.number(origin.clone()));
            }
            self.known.insert(key, numbers);
        }
        let numbers = self.known.get(&key).map_or(&[][..], Vec::as_slice);
        into.extend(numbers);
        numbers.len()
    }

    /// What the columns of a result are made of. Of what is only tested nothing flows into them.
    pub(super) fn results(&self, outputs: &Outputs<'_>) -> Results {
        let mut names = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        let columns = outputs.columns.iter().map(|output| {
            let mut reads = Vec::with_capacity(output.reads.len());
            for number in output.reads.iter().filter(|number| **number & TESTED == 0) {
                let place = places.entry(number & !MATCHED).or_insert_with(|| {
                    names.extend(self.name(*number).cloned());
                    names.len().saturating_sub(1)
                });
                reads.push(*place);
            }
            ResultColumn { name: output.name.as_deref().map(str::to_owned), span: output.span, reads }
        });
        let columns = columns.collect();
        Results { names, columns, plan: None }
    }

    /// The name behind a number, marked or not.
    pub(super) fn name(&self, number: u32) -> Option<&ColumnName> {
        self.names.get(usize::try_from(number & !(MATCHED | TESTED)).ok()?)
    }
}
