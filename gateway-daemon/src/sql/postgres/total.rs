//! What may be computed of a masked value without telling something about it beside the result, which is masked.
//!
//! A cast or a division that fails for some values tells by its error which kind of value there is, and a CASE over such
//! a value decides whether something else fails. So the columns in every operation that can fail, or that decides
//! whether another one is run, are noted as computed with; what is listed here fails for no value.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, FuncCall, TypeCast};

use super::columns::Reads;
use super::error::SqlError;
use super::functions::Whose;
use super::names::{inner, parts, text};
use super::reader::Reader;
use super::scope::Env;

/// Which arguments of a function may be any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    All,
    First,
    FirstTwo,
    Second,
    /// The second, fourth, sixth…: the others are keys, which may not be NULL.
    Values,
    /// All but the first, which says how the others are written.
    Formatted,
    /// The first, where the second names UTF-8.
    ToUtf8,
}

/// Functions of `pg_catalog` that fail for no value of these arguments.
const TOTAL: &[(&[&str], Arguments)] = &[
    (
        &[
            "any_value",
            "array_agg",
            "array_length",
            "array_lower",
            "array_ndims",
            "array_to_json",
            "array_to_string",
            "array_upper",
            "ascii",
            "avg",
            "bit_length",
            "bool_and",
            "bool_or",
            "btrim",
            "cardinality",
            "char_length",
            "character_length",
            "concat",
            "concat_ws",
            "count",
            "every",
            "hashtext",
            "hashtextextended",
            "initcap",
            "json_agg",
            "json_build_array",
            "json_extract_path",
            "json_extract_path_text",
            "json_strip_nulls",
            "json_typeof",
            "jsonb_agg",
            "jsonb_build_array",
            "jsonb_extract_path",
            "jsonb_extract_path_text",
            "jsonb_pretty",
            "jsonb_strip_nulls",
            "jsonb_typeof",
            "length",
            "lower",
            "lower_inc",
            "lower_inf",
            "ltrim",
            "max",
            "md5",
            "min",
            "num_nonnulls",
            "num_nulls",
            "octet_length",
            "pg_column_size",
            "pg_typeof",
            "position",
            "quote_ident",
            "quote_literal",
            "quote_nullable",
            "replace",
            "reverse",
            "row_to_json",
            "rtrim",
            "sha224",
            "sha256",
            "sha384",
            "sha512",
            "starts_with",
            "stddev",
            "stddev_pop",
            "stddev_samp",
            "string_agg",
            "strpos",
            "sum",
            "text",
            "to_hex",
            "to_json",
            "to_jsonb",
            "translate",
            "upper",
            "upper_inc",
            "upper_inf",
            "var_pop",
            "var_samp",
            "variance",
            "xmin",
        ],
        Arguments::All,
    ),
    (
        &[
            "encode",
            "first_value",
            "lag",
            "last_value",
            "lead",
            "left",
            "lpad",
            "nth_value",
            "regexp_count",
            "regexp_instr",
            "regexp_like",
            "regexp_match",
            "regexp_replace",
            "regexp_split_to_array",
            "regexp_substr",
            "right",
            "rpad",
            "substr",
            "substring",
            "to_char",
        ],
        Arguments::First,
    ),
    (&["overlay", "split_part", "string_to_array"], Arguments::FirstTwo),
    (&["date_part", "date_trunc", "extract"], Arguments::Second),
    (&["json_build_object", "jsonb_build_object"], Arguments::Values),
    (&["format"], Arguments::Formatted),
    (&["convert_to"], Arguments::ToUtf8),
];

/// Operators that fail for no value on either side.
const TOTAL_OPERATORS: &[&str] =
    &["=", "<>", "!=", "<", ">", "<=", ">=", "->", "->>", "#>", "#>>", "@>", "<@", "?", "?|", "?&", "&&"];
/// Operators whose right side is a pattern, which not every text is.
const PATTERN_OPERATORS: &[&str] = &["~", "~*", "!~", "!~*", "~~", "!~~", "~~*", "!~~*"];

/// Types that every value can be written as.
const TEXT_TYPES: &[&str] = &["text", "varchar", "bpchar", "char"];

/// Types whose values keep their place in a text, a number or a document, by oid: no array, range or composite is one.
const PLAIN_TYPES: &[u32] = &[
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1700, 2950,
];

/// Whether values of that type are single ones.
pub(super) fn is_plain_type(oid: u32) -> bool {
    PLAIN_TYPES.contains(&oid)
}

/// How much has been met so far that can fail, and how many arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) failures: usize,
    pub(super) arrays: usize,
}

impl<'a> Reader<'a> {
    /// Notes an operation that can fail for some values of these columns.
    pub(super) fn can_fail(&mut self, reads: &Reads) {
        self.met.failures += 1;
        self.computed(reads);
    }

    /// The same of the operands of an operator that may be a user's.
    pub(super) fn shown_to(&mut self, whose: Whose, operands: &Reads) {
        if whose == Whose::Users {
            self.can_fail(operands);
        }
    }

    /// Notes that these columns decide what else is run, if what was met since then can fail.
    pub(super) fn guards(&mut self, reads: &Reads, before: Met) {
        if self.met.failures > before.failures {
            self.computed(reads);
        }
    }

    /// The same for what joins values to arrays, which have to fit together.
    pub(super) fn must_fit(&mut self, reads: &Reads, before: Met) {
        if self.met.arrays > before.arrays {
            self.can_fail(reads);
        }
    }

    /// Notes which of an operation's operands can make it fail.
    pub(super) fn operands(&mut self, expression: &AExpr, left: &Reads, right: &Reads, before: Met) {
        let name = parts(&expression.name).ok().and_then(|name| name.last().copied()).unwrap_or_default();
        match AExprKind::try_from(expression.kind) {
            Ok(AExprKind::AexprOp | AExprKind::AexprOpAny | AExprKind::AexprOpAll) => {
                if PATTERN_OPERATORS.contains(&name) {
                    if !right.is_empty() {
                        self.can_fail(right);
                    }
                } else if name == "||" {
                    let both = left.union(right).copied().collect();
                    self.must_fit(&both, before);
                } else if !TOTAL_OPERATORS.contains(&name) {
                    let both = left.union(right).copied().collect();
                    self.can_fail(&both);
                }
            }
            Ok(AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar)
                if !right.is_empty() =>
            {
                self.can_fail(right);
            }
            _ => {}
        }
    }

    /// Notes a cast that some values do not survive.
    pub(super) fn cast(&mut self, cast: &TypeCast, reads: &Reads) {
        let Some(name) = &cast.type_name else { return };
        if !name.array_bounds.is_empty() {
            self.met.arrays += 1;
        }
        // A constant is converted before anything is run.
        if matches!(cast.arg.as_deref().and_then(inner), Some(NodeEnum::AConst(_))) {
            return;
        }
        let to = name.names.last().and_then(text).unwrap_or_default();
        if !name.array_bounds.is_empty() || !TEXT_TYPES.contains(&to) {
            self.can_fail(reads);
        }
    }

    /// Reads a call's arguments, and notes which of them can make it fail. `name` is that of a function of
    /// `pg_catalog`.
    pub(super) fn call_arguments(
        &mut self,
        name: Option<&str>,
        call: &'a FuncCall,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let before = self.met;
        let safe = name.and_then(|name| {
            TOTAL.iter().find(|(names, _)| names.contains(&name)).map(|(_, arguments)| *arguments)
        });
        let safe = safe.filter(|safe| {
            let constant = |index: usize| call.args.get(index).and_then(super::functions::constant_text);
            match safe {
                Arguments::Formatted => constant(0).is_some_and(|form| formats_anything(&form)),
                Arguments::ToUtf8 => {
                    constant(1).is_some_and(|encoding| matches!(encoding.as_str(), "utf8" | "utf-8"))
                }
                _ => true,
            }
        });
        for (index, argument) in call.args.iter().enumerate() {
            let mut reads = Reads::new();
            self.expression(argument, env, &mut reads)?;
            let is_safe = match safe {
                None => false,
                Some(Arguments::All) => true,
                Some(Arguments::First | Arguments::ToUtf8) => index == 0,
                Some(Arguments::FirstTwo) => index < 2,
                Some(Arguments::Second) => index == 1,
                Some(Arguments::Values) => index % 2 == 1,
                Some(Arguments::Formatted) => index > 0,
            };
            if !is_safe {
                self.computed(&reads);
            }
            into.append(&mut reads);
        }
        if safe.is_none() {
            self.met.failures += 1;
        }
        let name = name.unwrap_or_default();
        if name == "array_agg" {
            self.must_fit(into, before);
        }
        if name.contains("array") || name.starts_with("regexp_") || name.starts_with("string_to") {
            self.met.arrays += 1;
        }
        Ok(())
    }
}

/// Whether a format has neither `%I`, which fails for NULL, nor a width from an argument.
fn formats_anything(form: &str) -> bool {
    form.split('%').skip(1).all(|rest| {
        let kind =
            rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '-' | '$'));
        !kind.starts_with(['i', '*'])
    })
}
