//! What becomes of the rows of a result: the mask of each column, by where its values come from.

use std::collections::BTreeSet;

use super::{concealed::Concealing, judge::Verdict};
use crate::{
    domain::{
        decision::{ContentMask, Mask, Transform},
        results::Results,
        statement::ColumnName,
    },
    mask::{ColumnMask, Format, MaskError, Masker, Scan, Shape, Stand, Treatment},
    protocol::postgres::backend::Field,
    sql::postgres::{Origin, Shown, trace_columns},
};

/// What happens to the rows that come now.
#[derive(Debug)]
pub(super) enum RowHandling {
    /// They pass as they come.
    Clear,
    /// They may show masked columns, and no description has come yet: a row now ends the session.
    Undescribed,
    /// Each column has its mask or none. What is to be said of them is said behind the first row that it is true of.
    Masked(Vec<Option<ColumnMask>>, Option<Box<Concealing>>),
    /// They are COPY data, which is looked through as it stands.
    Copied(Scan, Format),
}

/// Why the columns of a result have no masks. No row of it may reach the client: the session ends.
#[derive(Debug)]
pub(super) enum Untraced {
    /// Nobody knows what this column shows, and it may be what is masked.
    Column(String),
    /// What finds content could not be made.
    Mask(MaskError),
}

/// The mask of each result column of the statement of that number: by where its value comes from, never by the name that
/// the statement gave it.
pub(super) fn trace(
    verdict: &Verdict,
    number: usize,
    fields: &[Field<'_>],
    masker: &Masker,
) -> Result<RowHandling, Untraced> {
    let results = verdict.statements.get(number).map(|statement| &statement.results);
    let origins: Vec<Origin> = fields
        .iter()
        .map(|field| Origin { table_oid: field.table_oid, attribute: field.attribute })
        .collect();
    let shows = trace_columns(results, &verdict.catalogue, &origins);
    let mut plan = Vec::with_capacity(fields.len());
    let mut concealing = Concealing::default();
    for (field, shows) in fields.iter().zip(&shows) {
        let shape = Shape::of(field.type_oid, &verdict.catalogue);
        let treatment = match whole(verdict, field, results, shows, &mut concealing)? {
            Some(treatment) => Some(treatment),
            None if shape.holds_text() => {
                scan(verdict, results, shows, masker).map_err(Untraced::Mask)?.map(Treatment::Finds)
            }
            None => None,
        };
        let format = if field.format == 1 { Format::Binary } else { Format::Text };
        plan.push(treatment.map(|treatment| ColumnMask { treatment, shape, format }));
    }
    Ok(if plan.iter().all(Option::is_none) {
        RowHandling::Clear
    } else {
        RowHandling::Masked(plan, concealing.some())
    })
}

/// What is looked for in the values of a result column.
fn scan(
    verdict: &Verdict,
    results: Option<&Results>,
    shows: &Shown<'_>,
    masker: &Masker,
) -> Result<Option<Scan>, MaskError> {
    let plans = [&verdict.masks.scans, &verdict.target_masks.scans];
    if plans.iter().all(|plan| plan.is_empty()) {
        return Ok(None);
    }
    let asked =
        |name: &ColumnName| plans.iter().filter_map(|plan| plan.get_key_value(name)).collect::<Vec<_>>();
    match (shows, results) {
        (Shown::Unknown, _) | (Shown::Unread, None) => {
            scan_of(plans.iter().flat_map(|plan| plan.iter()), masker)
        }
        (Shown::Unread, Some(results)) => scan_of(results.names.iter().flat_map(asked), masker),
        _ => {
            let names: BTreeSet<&ColumnName> = names_of(shows).collect();
            let own = own_name(shows);
            scan_of(names.into_iter().chain(own.as_ref()).flat_map(asked), masker)
        }
    }
}

/// Everything that is asked for of these columns, whose names say what their values are.
pub(super) fn scan_of<'p>(
    asked: impl Iterator<Item = (&'p ColumnName, &'p ContentMask)>,
    masker: &Masker,
) -> Result<Option<Scan>, MaskError> {
    let mut all = ContentMask::default();
    let mut names = Vec::new();
    for (column, mask) in asked {
        all.extend(mask);
        names.push(column.column.as_str());
    }
    if all.transforms.is_empty() {
        return Ok(None);
    }
    masker.scan(all.transforms, names).map(Some)
}

/// How the column is masked as a whole.
fn whole(
    verdict: &Verdict,
    field: &Field<'_>,
    results: Option<&Results>,
    shows: &Shown<'_>,
    concealing: &mut Concealing,
) -> Result<Option<Treatment>, Untraced> {
    let untraced = || Untraced::Column(String::from_utf8_lossy(field.name).into_owned());
    let may_be_masked = match (shows, results) {
        // The statement may be another one by now, but what it reads and does not name is nothing new.
        (Shown::Unread, Some(results)) => results.names.iter().any(|name| verdict.mask_of(name).is_some()),
        (Shown::Unread, None) | (Shown::Unknown, _) => verdict.masks_anything(),
        _ => false,
    };
    if may_be_masked {
        return Err(untraced());
    }
    if let Some(plan) = results.and_then(|results| results.plan).filter(|_| verdict.may_show_masked()) {
        concealing.add_plan(field.name, verdict);
        return Ok(Some(Treatment::Plan(plan)));
    }
    let own = own_name(shows);
    let masked = || {
        let names = names_of(shows).chain(own.as_ref());
        names.filter_map(|name| Some((name, verdict.mask_of(name)?)))
    };
    let Some(transform) = masked().map(|(_, mask)| mask.transform).reduce(Transform::stronger) else {
        return Ok(None);
    };
    // A computed value could show a masked one piece by piece: substr(email, 1, 1), substr(email, 2, 1), …
    // So could a view's column that is computed of one, and so could a generated column.
    let is_computed = match shows {
        Shown::Column(_, column) => {
            let others = column.origins.iter().filter(|origin| Some(*origin) != own.as_ref());
            column.is_computed && others.into_iter().any(|origin| verdict.mask_of(origin).is_some())
        }
        _ => true,
    };
    if !is_computed {
        return Ok(Some(Treatment::Whole(transform)));
    }
    concealing.add(field.name, masked());
    let stand = if transform == Transform::Null { Stand::Null } else { Stand::ByType };
    Ok(Some(Treatment::Concealed(stand)))
}

/// The base columns that a result column shows, or is made of.
fn names_of<'a>(shows: &'a Shown<'a>) -> Box<dyn Iterator<Item = &'a ColumnName> + 'a> {
    match shows {
        Shown::Column(_, column) => Box::new(column.origins.iter()),
        Shown::Row(relation) => Box::new(relation.columns.iter().flat_map(|column| &column.origins)),
        Shown::Made(results, places) => {
            Box::new(places.iter().flat_map(move |place| results.names_of(place)))
        }
        Shown::Nothing | Shown::Unread | Shown::Unknown => Box::new(std::iter::empty()),
    }
}

/// A column's name in its own relation, which a view's origins do not hold.
fn own_name(shows: &Shown<'_>) -> Option<ColumnName> {
    match shows {
        Shown::Column(relation, column) => {
            Some(ColumnName { relation: relation.name.clone(), column: column.name.clone() })
        }
        _ => None,
    }
}

impl Verdict {
    /// The mask of a base column, the stronger one where the statement's own and the target's differ.
    fn mask_of(&self, name: &ColumnName) -> Option<&Mask> {
        match (self.masks.columns.get(name), self.target_masks.columns.get(name)) {
            (Some(one), Some(other)) if one.transform.stronger(other.transform) != one.transform => {
                Some(other)
            }
            (one, other) => one.or(other),
        }
    }

    /// Whether any column is masked as a whole.
    fn masks_anything(&self) -> bool {
        !self.masks.columns.is_empty() || !self.target_masks.columns.is_empty()
    }
}
