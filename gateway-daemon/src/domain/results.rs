//! The columns of the rows that a statement returns, each with the base columns that its value is made of.

use serde::{Deserialize, Serialize};

use super::statement::ColumnName;

/// How many columns of a result one place of it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// One.
    One,
    /// Any number, all of them made of the same: `(expression).*`, what a function returns.
    Any,
    /// Any number, of which nobody knows which is made of what.
    Unsure,
}

/// One place of a result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultColumn {
    /// Its name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many columns it stands for.
    pub span: Span,
    /// Which of [`Results::names`] flow into it.
    pub reads: Vec<usize>,
}

/// How EXPLAIN ANALYZE writes its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanFormat {
    /// A row for each line.
    Text,
    /// One document.
    Json,
    /// One document.
    Xml,
    /// One document.
    Yaml,
}

/// See the module's description. Columns that are only tested for a value are not among what flows into a result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Results {
    /// Every base column that any of them is made of, once.
    pub names: Vec<ColumnName>,
    /// The places in their order.
    pub columns: Vec<ResultColumn>,
    /// Set where the rows are the plan of a statement that has been run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanFormat>,
}

impl Default for Results {
    /// Any number of columns that show no table's values: what SHOW, FETCH and their like return.
    fn default() -> Self {
        Self::alike(Vec::new(), Span::Any)
    }
}

impl Results {
    /// Columns that are all made of the same.
    pub fn alike(names: Vec<ColumnName>, span: Span) -> Self {
        let reads = (0..names.len()).collect();
        Self { names, columns: vec![ResultColumn { name: None, span, reads }], plan: None }
    }

    /// Whether it is what [`Results::default`] gives.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The names behind a place's reads.
    pub fn names_of<'r>(&'r self, column: &'r ResultColumn) -> impl Iterator<Item = &'r ColumnName> {
        column.reads.iter().filter_map(|index| self.names.get(*index))
    }

    /// The places that nobody can tell apart: from the first to the last that stands for any number of columns.
    fn unfixed(&self) -> Option<(usize, usize)> {
        let first = self.columns.iter().position(|column| column.span != Span::One)?;
        let last = self.columns.iter().rposition(|column| column.span != Span::One)?;
        Some((first, last))
    }

    /// The place of a column of which `is_masked` would be concealed or shown by guess, if there is one.
    pub fn untraceable(&self, is_masked: impl Fn(&ColumnName) -> bool) -> Option<&ResultColumn> {
        let (first, last) = self.unfixed()?;
        let places = self.columns.get(first..=last)?;
        let reads_masked = |place: &&ResultColumn| self.names_of(place).any(&is_masked);
        let masked = places.iter().find(reads_masked)?;
        let is_sure = places.iter().all(|place| place.span != Span::Unsure && reads_masked(&place));
        (!is_sure).then_some(masked)
    }

    /// For each column of a result of `count` columns the places that it may be; `None` where they do not fit.
    pub fn fit(&self, count: usize) -> Option<Vec<&[ResultColumn]>> {
        let Some((first, last)) = self.unfixed() else {
            let each = self.columns.iter().map(std::slice::from_ref);
            return (self.columns.len() == count).then(|| each.collect());
        };
        let behind = self.columns.len() - last - 1;
        let between = count.checked_sub(first + behind)?;
        let middle = self.columns.get(first..=last)?;
        let mut each: Vec<&[ResultColumn]> =
            self.columns.iter().take(first).map(std::slice::from_ref).collect();
        each.extend(std::iter::repeat_n(middle, between));
        each.extend(self.columns.iter().skip(last + 1).map(std::slice::from_ref));
        Some(each)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::statement::RelationName;

    fn name(column: &str) -> ColumnName {
        let relation = RelationName { schema: "public".to_owned(), name: "t".to_owned() };
        ColumnName { relation, column: column.to_owned() }
    }

    /// `secret` is what is masked.
    fn results(places: &[(Span, &[usize])]) -> Results {
        let place = |(span, reads): &(Span, &[usize])| ResultColumn {
            name: None,
            span: *span,
            reads: reads.to_vec(),
        };
        Results {
            names: vec![name("open"), name("secret")],
            columns: places.iter().map(place).collect(),
            plan: None,
        }
    }

    fn reads(results: &Results, count: usize) -> Option<Vec<Vec<usize>>> {
        let each = results.fit(count)?;
        Some(
            each.iter().map(|places| places.iter().flat_map(|place| place.reads.clone()).collect()).collect(),
        )
    }

    #[test]
    fn places_of_any_number_take_what_is_left_between_the_others() {
        use Span::{Any, One};
        let fixed = results(&[(One, &[0]), (One, &[1])]);
        assert_eq!(reads(&fixed, 2).unwrap(), [vec![0], vec![1]]);
        assert_eq!((reads(&fixed, 1), reads(&fixed, 3)), (None, None));
        let open = results(&[(One, &[1]), (Any, &[]), (One, &[0])]);
        assert_eq!(reads(&open, 4).unwrap(), [vec![1], vec![], vec![], vec![0]]);
        assert_eq!(reads(&open, 2).unwrap(), [vec![1], vec![0]]);
        assert_eq!(reads(&open, 1), None);
    }

    #[test]
    fn what_would_be_concealed_by_guess_is_told() {
        use Span::{Any, One, Unsure};
        let is_guess = |places: &[(Span, &[usize])]| {
            results(places).untraceable(|name| name.column == "secret").is_some()
        };
        assert!(!is_guess(&[(One, &[1]), (Any, &[]), (One, &[0, 1])]), "each has its place");
        assert!(!is_guess(&[(Any, &[1])]), "(expression).* is made of the expression");
        assert!(!is_guess(&[(Any, &[0]), (One, &[0]), (Any, &[])]), "nothing masked is among them");
        assert!(!is_guess(&[(Any, &[1]), (Any, &[0, 1])]), "all of them are");
        assert!(is_guess(&[(Any, &[1]), (Any, &[0])]));
        assert!(is_guess(&[(Any, &[]), (One, &[1]), (Any, &[])]));
        assert!(is_guess(&[(Unsure, &[0, 1])]));
        assert!(!is_guess(&[(Unsure, &[0])]));
    }
}
