//! What becomes of the rows of a result: the mask of each column, by where its values come from.

use super::judge::Verdict;
use crate::{
    domain::{
        decision::{ContentMask, Transform},
        statement::ColumnName,
    },
    mask::{ColumnMask, Format, MaskError, Masker, Scan, Shape, Treatment},
    protocol::postgres::backend::Field,
    sql::postgres::origins,
};

/// What happens to the rows that come now.
#[derive(Debug)]
pub(super) enum RowHandling {
    /// They pass as they come.
    Clear,
    /// They may show masked columns, and no description has come yet: a row now ends the session.
    Undescribed,
    /// Each column has its mask or none.
    Masked(Vec<Option<ColumnMask>>),
    /// They are COPY data, which is looked through as it stands.
    Copied(Scan, Format),
}

/// The mask of each result column: by where its value comes from, never by the name that the statement gave it.
pub(super) fn trace(
    verdict: &Verdict,
    fields: &[Field<'_>],
    masker: &Masker,
) -> Result<RowHandling, MaskError> {
    let mut plan = Vec::with_capacity(fields.len());
    for field in fields {
        let shape = Shape::of(field.type_oid, &verdict.catalogue);
        let treatment = match whole(verdict, field) {
            Some(treatment) => Some(treatment),
            None if shape.holds_text() => scan(verdict, field, masker)?.map(Treatment::Finds),
            None => None,
        };
        let format = if field.format == 1 { Format::Binary } else { Format::Text };
        plan.push(treatment.map(|treatment| ColumnMask { treatment, shape, format }));
    }
    Ok(if plan.iter().all(Option::is_none) { RowHandling::Clear } else { RowHandling::Masked(plan) })
}

/// What is looked for in the values of a result column.
fn scan(verdict: &Verdict, field: &Field<'_>, masker: &Masker) -> Result<Option<Scan>, MaskError> {
    let plans = [&verdict.masks.scans, &verdict.target_masks.scans];
    if plans.iter().all(|plan| plan.is_empty()) {
        return Ok(None);
    }
    let catalogue = &verdict.catalogue;
    if field.table_oid != 0 && catalogue.column(field.table_oid, field.attribute).is_none() {
        return scan_of(plans.iter().flat_map(|plan| plan.iter()), masker);
    }
    let origins = origins(&verdict.statements, catalogue, field.table_oid, field.attribute);
    let asked =
        origins.iter().flat_map(|origin| plans.iter().filter_map(move |plan| plan.get_key_value(origin)));
    scan_of(asked, masker)
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
fn whole(verdict: &Verdict, field: &Field<'_>) -> Option<Treatment> {
    let masks = [&verdict.masks, verdict.target_masks.as_ref()];
    let catalogue = &verdict.catalogue;
    let shown = catalogue.column(field.table_oid, field.attribute);
    let origins = origins(&verdict.statements, catalogue, field.table_oid, field.attribute);
    let mask_of = |origin| masks.iter().filter_map(move |plan| plan.columns.get(origin));
    let traced = origins.iter().flat_map(mask_of).map(|mask| mask.transform).reduce(Transform::stronger);
    // A column of a relation that the catalogue does not know may be anything that this target masks.
    let unknown = field.table_oid != 0 && shown.is_none();
    let anything = || {
        masks
            .iter()
            .flat_map(|plan| plan.columns.values())
            .map(|mask| mask.transform)
            .reduce(Transform::stronger)
    };
    let transform = if unknown { anything() } else { traced };
    // A computed value could show a masked one piece by piece: substr(email, 1, 1), substr(email, 2, 1), …
    // So could a view's column that is computed of one, and so could a generated column.
    let is_computed = field.table_oid == 0
        || unknown
        || shown.is_some_and(|(relation, column)| {
            let is_other =
                |origin: &&ColumnName| origin.relation != relation.name || origin.column != column.name;
            column.is_computed
                && origins.iter().filter(is_other).any(|origin| mask_of(origin).next().is_some())
        });
    transform.map(|mask| match mask {
        Transform::Null => Treatment::Whole(mask),
        _ if is_computed => Treatment::Concealed,
        _ => Treatment::Whole(mask),
    })
}
