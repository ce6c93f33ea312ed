//! Masks that would be written into the database: an application that reads a row, changes one field and saves all of
//! them sends what it was shown of the others. Here every constant and parameter that can arrive in a masked column is
//! held against what the column's mask shows, before anything of the statement leaves.
//!
//! What nobody would write on purpose is refused everywhere. What may be meant (NULL, 0, a first of January) is refused
//! only where it overwrites a row that is there, and not where policy permits `sql:write` of the column by its name.

use std::{collections::HashMap, sync::Arc};

use tokio::task::block_in_place;

use super::{
    bound::Values,
    copying::CopyWatch,
    judge::{Basis, Judge, Verdict},
    names::Lookup,
    relay::{Prepared, Relay},
};
use crate::{
    domain::{
        decision::{Denial, Mask},
        statement::{ColumnName, ColumnUse},
    },
    mask::{Format, Image, Shape, element_image, holds_image, image},
    sql::postgres::{Arrival, Carried, Executes, Rows, Way, Written, written},
};

/// The rule's name.
const RULE: &str = "mask-written-back";
/// Reading a text up to this length again takes less than handing the worker's other tasks on.
const QUICK_TEXT_BYTES: usize = 4 * 1024;
/// The types of which the binary form is text: "char" and what is longer, and unknown.
const TEXT_OIDS: [u32; 5] = [19, 25, 705, 1042, 1043];

/// A masked column that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sink {
    /// As the statement names it.
    column: ColumnName,
    /// The mask that the agent sees it through.
    mask: Mask,
    shape: Shape,
    may_be: MayBe,
}

/// Which images may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayBe {
    /// Those that are honest values as well.
    Honest,
    /// None.
    NoImage,
}

/// What must still be looked at of a statement that is let through.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    /// Parameters of the statement, and where they arrive.
    parameters: Vec<(usize, Way, Arc<Sink>)>,
    /// The rows of COPY.
    pub(super) copy: Option<Arc<CopyWatch>>,
}

/// What a Bind's values were held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LookedAt {
    basis: Basis,
    catalogue_epoch: u64,
}

impl LookedAt {
    pub(super) fn by(verdict: &Verdict) -> Self {
        Self { basis: verdict.basis, catalogue_epoch: verdict.catalogue.epoch }
    }
}

impl Sink {
    fn refuses(&self, image: Image) -> bool {
        match image {
            Image::None => false,
            Image::Honest => self.may_be == MayBe::NoImage,
            Image::Unmistakable => true,
        }
    }

    /// What is said of an image in this column.
    pub(super) fn refusal(&self, image: Image) -> Denial {
        let (what, hint) = if image == Image::Unmistakable {
            (
                "and what would be written into it is a mask, not a value",
                "Save only the fields that changed.".to_owned(),
            )
        } else {
            (
                "and what would overwrite its value (NULL, zero, a first of January or the like) is what masks show",
                format!(
                    "Save only the fields that changed; where this value is meant, ask for a policy that permits it by \
                     name, Action::\"sql:write\" on {}.",
                    self.column
                ),
            )
        };
        let mut denial = Denial::builtin(
            format!("{} is masked for this agent by policy \"{}\", {what}", self.column, self.mask.policy),
            &hint,
            RULE,
        );
        denial.policies.push(self.mask.policy.clone());
        denial
    }

    /// What a constant is to this column.
    fn image_of_text(&self, way: Way, value: &[u8]) -> Image {
        match way {
            Way::Itself | Way::UnlessNull => image(self.mask.transform, &self.shape, Format::Text, value),
            Way::Element => element_image(self.mask.transform, &self.shape, Format::Text, value),
            Way::Within => self.image_within(value),
        }
    }

    fn image_within(&self, value: &[u8]) -> Image {
        if holds_image(self.mask.transform, &self.shape, value) { Image::Unmistakable } else { Image::None }
    }

    /// What the value of a field of COPY is.
    pub(super) fn image_of_field(&self, format: Format, value: &[u8]) -> Image {
        image(self.mask.transform, &self.shape, format, value)
    }

    /// What a bound value is to this column. A client need not say what type it binds, and may bind another than the
    /// column's: each of those that it can be counts.
    fn image_of_bound(&self, way: Way, format: Format, declared: Option<&Declared>, value: &[u8]) -> Image {
        let of = |shape: &Shape, format: Format| match way {
            Way::Itself | Way::UnlessNull => image(self.mask.transform, shape, format, value),
            Way::Element => element_image(self.mask.transform, shape, format, value),
            Way::Within => Image::None,
        };
        let mut most = if way == Way::Within { self.image_within(value) } else { of(&self.shape, format) };
        if let Some(declared) = declared {
            if way != Way::Element {
                most = most.max(of(&declared.shape, format));
            }
            if declared.is_text {
                most = most.max(of(&self.shape, Format::Text));
            }
        }
        most
    }
}

/// The type that a client gave a parameter.
struct Declared {
    shape: Shape,
    is_text: bool,
}

impl Watch {
    /// Whether a Bind's values must be looked at.
    pub(super) fn binds(&self) -> bool {
        !self.parameters.is_empty()
    }

    /// What is said of a Bind that brings an image along.
    pub(super) fn refusal_of(&self, verdict: &Verdict, types: &[u32], values: &Values<'_>) -> Option<Denial> {
        let (formats, parameters) = match values {
            Values::Whole { formats, parameters, .. } => (formats, parameters),
            Values::Large { bytes } => return Some(too_large(*bytes)),
        };
        let mut shapes: HashMap<u32, Declared> = HashMap::new();
        for (number, way, sink) in &self.parameters {
            // One that is missing is the server's to complain of.
            let Some(value) = parameters.get(*number) else { continue };
            let found = match value {
                None if *way == Way::Itself => Image::Honest,
                None => Image::None,
                Some(value) => {
                    let type_oid = types.get(*number).copied().filter(|oid| *oid != 0);
                    let declared = type_oid.map(|oid| {
                        &*shapes.entry(oid).or_insert_with(|| Declared {
                            shape: Shape::of(oid, &verdict.catalogue),
                            is_text: TEXT_OIDS.contains(&oid),
                        })
                    });
                    let is_binary = match formats.as_slice() {
                        [] => false,
                        [all] => *all == 1,
                        each => each.get(*number) == Some(&1),
                    };
                    let format = if is_binary { Format::Binary } else { Format::Text };
                    sink.image_of_bound(*way, format, declared, value)
                }
            };
            if sink.refuses(found) {
                return Some(sink.refusal(found));
            }
        }
        None
    }
}

impl Verdict {
    /// Whether the statements may write into a column that this agent sees masked.
    pub(super) fn finds_masked_written(&self) -> bool {
        if self.target_masks.columns.is_empty() {
            return false;
        }
        let mut all = self.statements.iter().flat_map(|statement| &statement.columns);
        all.any(|access| access.usage == ColumnUse::Written && self.mask_behind(&access.column).is_some())
    }

    /// Whether they write into any column.
    pub(super) fn writes(&self) -> bool {
        let mut all = self.statements.iter().flat_map(|statement| &statement.columns);
        all.any(|access| access.usage == ColumnUse::Written)
    }

    /// The mask that the agent sees a column through: its own, or that of a column that it shows.
    fn mask_behind(&self, name: &ColumnName) -> Option<&Mask> {
        self.masks_behind(name).into_iter().map(|(_, mask)| mask).reduce(|one, other| {
            if one.transform.stronger(other.transform) == one.transform { one } else { other }
        })
    }

    /// The masks of a column itself and of those that it shows; of one that nobody is shown, no mask was seen.
    fn masks_behind(&self, name: &ColumnName) -> Vec<(&ColumnName, &Mask)> {
        let columns =
            self.catalogue.relation(&name.relation).into_iter().flat_map(|relation| &relation.columns);
        let origins = columns.filter(|column| column.name == name.column).flat_map(|column| &column.origins);
        let masks = &self.target_masks;
        let all = origins.chain(std::iter::once(name)).filter_map(|name| masks.columns.get_key_value(name));
        all.filter(|(name, _)| !masks.unreadable.contains(*name)).collect()
    }

    fn sink(&self, column: &ColumnName, rows: Rows) -> Option<Arc<Sink>> {
        let mask = self.mask_behind(column)?.clone();
        let relation = self.catalogue.relation(&column.relation)?;
        let known = relation.columns.iter().find(|known| known.name == column.column)?;
        let is_permitted = self.masks_behind(column).iter().all(|(name, _)| self.lifted.contains(name));
        let may_be = if rows == Rows::New || is_permitted { MayBe::Honest } else { MayBe::NoImage };
        let shape = Shape::of(known.type_oid, &self.catalogue);
        Some(Arc::new(Sink { column: column.clone(), mask, shape, may_be }))
    }
}

impl Judge {
    /// What `text` writes into columns that are masked by `verdict`.
    fn written(text: &str, verdict: &Verdict) -> Result<Vec<Written>, Denial> {
        let is_watched = |name: &ColumnName| verdict.mask_behind(name).is_some();
        let read = || written(text, &verdict.catalogue, &is_watched);
        let read = if text.len() > QUICK_TEXT_BYTES { block_in_place(read) } else { read() };
        read.map_err(|error| {
            Denial::builtin(
                format!("it cannot be followed what this statement writes into masked columns: {error}"),
                "Make it simpler, or several statements of it.",
                RULE,
            )
        })
    }
}

impl Relay<'_> {
    /// Whether values that are bound to a statement may go into masked columns.
    pub(super) fn may_write_masked(&self, prepared: &Prepared) -> bool {
        let verdict = &prepared.verdict;
        if self.still_holds(verdict) {
            return verdict.watch.as_ref().is_some_and(|watch| watch.binds());
        }
        verdict.writes()
    }

    /// The same of the statement of that name.
    pub(super) fn may_bind_masked(&self, statement: &[u8]) -> bool {
        match self.statements.lookup(statement, self.batch) {
            Lookup::Known(prepared) => self.may_write_masked(prepared),
            Lookup::Unknown | Lookup::Unsettled => false,
        }
    }

    /// Looks at what the statements of `text` write: the verdict with what is still to be looked at, or a refusal.
    pub(super) fn look_at_writes(&self, text: &str, verdict: Arc<Verdict>) -> Arc<Verdict> {
        if verdict.denial.is_some() || !verdict.writes_masked {
            return verdict;
        }
        match self.watch(text, &verdict) {
            Ok(watch) if watch == Watch::default() => verdict,
            Ok(watch) => Arc::new(Verdict { watch: Some(Arc::new(watch)), ..verdict.as_ref().clone() }),
            Err(denial) => Arc::new(verdict.refused(denial)),
        }
    }

    fn watch(&self, text: &str, verdict: &Verdict) -> Result<Watch, Denial> {
        let mut watch = Watch::default();
        for statement in Judge::written(text, verdict)? {
            let executed = statement.executes.as_ref().map(|executes| self.executed(executes, verdict));
            let executed = executed.transpose()?.unwrap_or_default();
            for sink in statement.sinks.into_iter().chain(executed) {
                let Some(into) = verdict.sink(&sink.column, sink.rows) else { continue };
                for Arrival { carried, way } in sink.values {
                    let found = match carried {
                        Carried::Null if way == Way::Itself => Image::Honest,
                        Carried::Null => Image::None,
                        Carried::Text(text) => into.image_of_text(way, text.as_bytes()),
                        Carried::Parameter(number) => {
                            watch.parameters.push((number, way, Arc::clone(&into)));
                            continue;
                        }
                    };
                    if into.refuses(found) {
                        return Err(into.refusal(found));
                    }
                }
            }
            if let Some(copy) = statement.copy {
                if !copy.is_in_known_encoding {
                    return Err(Denial::builtin(
                        "COPY into masked columns in another encoding cannot be looked through for masks",
                        "Send the rows in UTF8.",
                        RULE,
                    ));
                }
                let sinks = copy.columns.iter().map(|column| verdict.sink(column, Rows::New)).collect();
                watch.copy = Some(Arc::new(CopyWatch::new(copy.format, sinks)));
            }
        }
        Ok(watch)
    }

    /// What an EXECUTE writes: what its statement writes, with the arguments in the parameters' place.
    fn executed(
        &self,
        executes: &Executes,
        verdict: &Verdict,
    ) -> Result<Vec<crate::sql::postgres::Sink>, Denial> {
        let Lookup::Known(prepared) = self.statements.lookup(executes.name.as_bytes(), self.batch) else {
            return Ok(Vec::new()); // refused before
        };
        let mut sinks: Vec<_> =
            Judge::written(&prepared.text, verdict)?.into_iter().flat_map(|written| written.sinks).collect();
        for sink in &mut sinks {
            let mut values = Vec::with_capacity(sink.values.len());
            for arrival in std::mem::take(&mut sink.values) {
                match arrival.carried {
                    Carried::Parameter(number) => {
                        let given = executes.arguments.get(number).into_iter().flatten();
                        values.extend(given.map(|given| Arrival {
                            carried: given.carried.clone(),
                            way: given.way.then(arrival.way),
                        }));
                    }
                    Carried::Null | Carried::Text(_) => values.push(arrival),
                }
            }
            sink.values = values;
        }
        Ok(sinks)
    }
}

/// The refusal of an Execute whose Bind was held against other masks.
pub(super) fn outdated() -> Denial {
    Denial::builtin(
        "policies, schema or identity have changed since values for masked columns were bound",
        "Bind and run it again.",
        RULE,
    )
}

fn too_large(bytes: usize) -> Denial {
    Denial::builtin(
        format!(
            "a Bind of {bytes} bytes that writes masked columns is too large to be looked through for masks"
        ),
        "Send fewer rows at once.",
        RULE,
    )
}
