//! What may be computed of a masked value without telling something about it beside the result, which is concealed.
//!
//! An error tells: a cast that fails for some values says which kind of value there is, a pattern that is found to be wrong
//! says how far it matched, a length that is too much says how long. So only what `computable.txt` lists is computed: what
//! fails for no value of the types that it names, with operands that are values of the same row or short constants.
//! The columns of every other operation are noted as computed with, and so are those that decide whether something is
//! run that can fail. A user's function, operator, cast, domain or type is never on the list, nor is anything that bears
//! the name of PostgreSQL's own and may be a user's.

use pg_query::protobuf::{AExpr, AExprKind, FuncCall, TypeCast, TypeName};
use pg_query::{Node, NodeEnum};

use crate::domain::catalogue::Encoding;

use super::columns::{Reads, is_marked};
use super::computable::{self, Gives, Kind};
use super::error::SqlError;
use super::functions::Whose;
use super::names::{inner, integer, parts};
use super::reader::Reader;
use super::scope::Env;
use super::value::{Class, Value, collation, type_oid};

/// How many operations have been met so far that can fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Met(usize);

impl<'a> Reader<'a> {
    /// Notes an operation that can fail for some values of these columns.
    pub(super) fn can_fail(&mut self, reads: &Reads) -> Value {
        self.met.0 += 1;
        self.computed(reads);
        Value::UNKNOWN
    }

    /// The same of the operands of an operator that may be a user's.
    pub(super) fn shown_to(&mut self, whose: Whose, operands: &Reads) {
        if whose == Whose::Users {
            self.can_fail(operands);
        }
    }

    /// Notes that these columns decide what else is run, if what was met since then can fail.
    pub(super) fn guards(&mut self, reads: &Reads, before: Met) {
        if self.met.0 > before.0 {
            self.decides(reads);
        }
    }

    /// Notes that these columns decide what else is run. Of one that is only tested or matched it tells no more than
    /// a filter does.
    pub(super) fn decides(&mut self, reads: &Reads) {
        let (marked, whole): (Reads, Reads) = reads.iter().partition(|number| is_marked(**number));
        self.compared(marked);
        self.computed(&whole);
    }

    /// The value that an operation gives, which is noted unless the list has it.
    pub(super) fn operates(&mut self, kind: Kind, name: &str, values: &[Value], reads: &Reads) -> Value {
        let is_whole = self.catalogue.encoding == Encoding::Whole;
        let Some(entry) = computable::find(kind, name, values, is_whole) else { return self.can_fail(reads) };
        let Some(collation) = collation(values) else { return self.can_fail(reads) };
        let all = Value::sum(values);
        let value = match entry.gives {
            Gives::Same => return Value::one_of(values).settled().collated(collation),
            Gives::Row => Value::row(values),
            Gives::Any => all.untyped(),
            Gives::Type(oid) => all.grown(oid, entry.grows),
        };
        if value.is_bounded() { value.collated(collation) } else { self.can_fail(reads) }
    }

    /// The same for an operator or a form with two sides.
    pub(super) fn operands(
        &mut self,
        expression: &AExpr,
        left: Value,
        right: &[Value],
        is_brought: bool,
        reads: &Reads,
    ) -> Value {
        let name = parts(&expression.name).ok().and_then(|name| name.last().copied()).unwrap_or_default();
        let mut values = vec![left];
        values.extend(right);
        let (kind, name) = match AExprKind::try_from(expression.kind) {
            Ok(AExprKind::AexprOp) if expression.lexpr.is_some() && right.len() == 1 => {
                (Kind::Operator, name)
            }
            // The other side is an array that the statement brings.
            Ok(AExprKind::AexprOpAny | AExprKind::AexprOpAll) if is_brought => {
                values = vec![left, Value::NULL];
                (Kind::Operator, name)
            }
            Ok(AExprKind::AexprIn) => (Kind::Form, "in"),
            Ok(AExprKind::AexprDistinct | AExprKind::AexprNotDistinct) => (Kind::Form, "distinct"),
            Ok(AExprKind::AexprNullif) => (Kind::Form, "nullif"),
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => (Kind::Form, "between"),
            _ => return self.can_fail(reads),
        };
        let is_own =
            kind != Kind::Operator || self.is_own_among(&self.catalogue.overloaded.operators, name, &values);
        if is_own { self.operates(kind, name, &values, reads) } else { self.can_fail(reads) }
    }

    /// Whether what bears that name here is certainly PostgreSQL's own: another one may be there that takes such types,
    /// but none goes before the one for exactly these.
    fn is_own_among(
        &self,
        overloaded: &std::collections::BTreeSet<String>,
        name: &str,
        values: &[Value],
    ) -> bool {
        let compares = matches!(name, "=" | "<>" | "<" | "<=" | ">" | ">=");
        compares
            || !overloaded.contains(name)
            || values.iter().all(|value| value.is_constant() || value.is_exact())
    }

    /// The value of a cast, which is noted unless every value survives it.
    pub(super) fn cast(&mut self, cast: &TypeCast, value: Value, reads: &Reads) -> Value {
        let to = cast.type_name.as_ref().and_then(|name| self.own_type(name));
        let argument = cast.arg.as_deref().and_then(inner);
        // A constant is converted before anything is run.
        if matches!(argument, Some(NodeEnum::AConst(_))) {
            return to.map_or(Value::UNKNOWN, |(_, oid)| value.converted(oid));
        }
        match to {
            Some((name, oid)) if matches!(argument, Some(NodeEnum::ParamRef(_))) => {
                if !matches!(name, "text" | "varchar") {
                    self.can_fail(reads);
                }
                value.converted(oid)
            }
            Some((name, oid)) => match self.operates(Kind::Cast, name, &[value], reads) {
                Value::UNKNOWN => Value::UNKNOWN.converted(oid),
                value => value,
            },
            None => self.can_fail(reads),
        }
    }

    /// A type of PostgreSQL's own, as the list names it, and its oid; `None` where the name may mean another one.
    fn own_type(&self, name: &TypeName) -> Option<(&'static str, u32)> {
        if name.setof || name.pct_type || !name.array_bounds.is_empty() {
            return None;
        }
        let parts = parts(&name.names).ok()?;
        let written = match parts.as_slice() {
            ["pg_catalog", name] => *name,
            [name] if !self.is_shadowed(name) => *name,
            _ => return None,
        };
        let (known, oid) = type_oid(written)?;
        match name.typmods.as_slice() {
            [] => Some((known, oid)),
            [length] if known == "varchar" && integer(length).is_some() => Some(("varchar(n)", oid)),
            _ => None,
        }
    }

    /// Whether another type of that name is found before PostgreSQL's own. A temporary schema is the first of the path
    /// where it does not say otherwise.
    fn is_shadowed(&self, name: &str) -> bool {
        let Some(schemas) = self.catalogue.overloaded.types.get(name) else { return false };
        let before = self.catalogue.search_path.iter().take_while(|schema| *schema != "pg_catalog");
        before.into_iter().any(|schema| schemas.contains(schema))
    }

    /// Reads a call's arguments, and notes them unless the list has the function. `name` is that of a function of
    /// `pg_catalog`.
    pub(super) fn call_arguments(
        &mut self,
        name: Option<&str>,
        call: &'a FuncCall,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
        let mut reads = Reads::new();
        let values = self.values_of(&call.args, env, &mut reads)?;
        let is_named = |node: &Node| matches!(inner(node), Some(NodeEnum::NamedArgExpr(_)));
        let value = match name {
            Some("count") if call.agg_star => Value::COUNT,
            Some(name)
                if !call.func_variadic
                    && !call.agg_within_group
                    && !call.args.iter().any(is_named)
                    && self.is_own_among(&self.catalogue.overloaded.functions, name, &values) =>
            {
                // An aggregate's value and a window's come from another row than the one beside it.
                self.operates(Kind::Function, name, &values, &reads).from_within(call.location)
            }
            _ => self.can_fail(&reads),
        };
        into.append(&mut reads);
        Ok(value)
    }

    /// What a result of a CASE, a COALESCE or a column of a set operation may be, if all of these fit together without a
    /// cast that can fail.
    pub(super) fn either(&mut self, name: &str, values: &[Value], reads: &Reads) -> Value {
        match values {
            [] => Value::NULL,
            [only] => only.settled(),
            _ => self.operates(Kind::Form, name, values, reads),
        }
    }

    /// What a column of a set operation is, of which the sides are these. Where they have different types, one is cast
    /// to the other.
    pub(super) fn united(&mut self, left: Value, right: Value, reads: &Reads) -> Value {
        if left.may_differ(&right) {
            return self.can_fail(reads);
        }
        Value::one_of(&[left, right])
    }

    /// A field of a row, or what a function that is called on it gives.
    pub(super) fn field(&mut self, name: &str, row: Value, reads: &Reads) -> Value {
        if row.has_fields() && !self.catalogue.builtin_functions.contains(name) {
            row.untyped()
        } else {
            self.can_fail(reads)
        }
    }

    /// An element of an array or a document.
    pub(super) fn element(&mut self, of: Value, subscripts: &Reads, reads: &Reads) -> Value {
        if (of.is_of(Class::Array) || of.is_of(Class::Jsonb)) && subscripts.is_empty() {
            of.untyped()
        } else {
            self.can_fail(reads)
        }
    }
}
