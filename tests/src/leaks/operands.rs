//! Operands that an agent chooses so that an operation fails for some values and not for others: patterns that end too
//! early, places and lengths at the limits, sizes, dimensions, types that check, and conditions over what fails. And
//! columns in whose values something is looked for, read as they are: the twins' finds differ, what is left does not.

use super::{random::Random, vault::PEOPLE};

/// Columns of `people`, by what operations take them.
const TEXTS: &[&str] = &["secret", "email", "card", "ref", "loud", "code", "nick", "pad"];
const NUMBERS: &[&str] = &["pin", "salary", "score"];

/// Expressions over a text `{t}`, another column `{u}`, a number `{n}`, a letter `{c}` and a count `{k}`.
const EXPRESSIONS: &[&str] = &[
    "{t} LIKE '{c}\\'",
    "{t} NOT LIKE '%{c}\\'",
    "{t} ILIKE '{c}%\\'",
    "{t} SIMILAR TO '{c}%('",
    "{t} ~ '^{c}(?=['",
    "overlay('x' PLACING {t} FROM 2147483{k}00)",
    "substring('abcdefghijklmnop', length({t}) - {k})",
    "substring({t}, {k}, 10 - length({t}))",
    "split_part({t}, '{c}', {k} - 3)",
    "repeat('x', length({t}) * 100000000)",
    "lpad('x', length({t}) * 100000000)",
    "length(replace(left({t}, 1), '{c}', repeat('x', 600000000)) || repeat('x', 600000000))",
    "({t} || repeat('x', 1073741800)) IS NULL",
    "length(concat({t}, repeat('x', 1073741790), {u}))",
    "format('%2147483{k}00s', {t})",
    "json_build_object('k', {t}, 'l', repeat('x', 1073741700)) IS NULL",
    "({t})::vault_check",
    "{t}::int",
    "({t}).int4",
    "chr(ascii({t}) * {k}0000)",
    "decode({t}, 'base64')",
    "to_timestamp({t}, 'YYYY')",
    "array_fill('x'::text, ARRAY[length({t}) * 100000000])",
    "(ARRAY['a', 'b'])[length({t}) - {k}]",
    "ARRAY[tags, ARRAY['{c}']]",
    "tags || ARRAY[['a']]",
    "array_position(tags, '{c}') / 0",
    "{n} + 2147483647",
    "{n} * 1e300::float8",
    "1 / ({n} - 6{k}0000000)",
    "{n}::int2",
    "{n}::numeric(3, {k} % 3)",
    "sqrt({n} - 7{k}0000000)",
    "power(10.0, {n})",
    "date_trunc('{c}', born::timestamp)",
    "born + {k}00000000",
    "make_date({n}::int, 1, 1)",
    "doc -> 'n' = to_jsonb({n})",
    "(doc ->> 'n')::int2",
    "jsonb_path_query_first(doc, 'strict $.{c}')",
    "raw::jsonb #>> '{k}'",
    "xmlparse(CONTENT {t})",
    "CASE WHEN {t} > '{c}' THEN 1 / 0 END",
    "CASE WHEN left({t}, 1) = '{c}' THEN 1 / (id - id) ELSE 0 END",
    "coalesce(nullif(left({t}, 1), '{c}'), (1 / 0)::text)",
    "left({t}, 1) = '{c}' AND 1 / (id - id) = 1",
    "CASE WHEN pin IS NULL THEN 1 / 0 END",
    "substring({t}, 1, -1)",
    "{t} COLLATE \"C\" > '{c}'",
    "({t} || '{c}') IN (SELECT body FROM public.notes)",
    "ARRAY(SELECT q.secret FROM public.people q, generate_series(1, 1000))",
    // What is computed, with operands at the bounds of what may be.
    "left({t}, 1000000) || right({u}, 0)",
    "substr({t}, 1000000, 1000000)",
    "btrim({t}, '{c}%_\\')",
    "concat_ws('{c}', {t}, {n}, {u}, id)",
    "upper({t}) || lower({u}) || initcap({t})",
    "json_build_array({t}, {n}, tags, mood, doc, bin)",
    "jsonb_build_object('{c}', {t}, 'n', {n})",
    "coalesce({t}, {u}, '{c}') || nullif({t}, {u})",
    "greatest({t}, {u}, '{c}')",
    "{t} BETWEEN '{c}' AND {u}",
    "{n} IS DISTINCT FROM {k}",
    "CASE WHEN id > {k} THEN {t} ELSE {u} END",
    "doc -> '{c}' ->> {k}",
    "tags[{k}]",
    "lag({t}, {k}) OVER (ORDER BY id)",
];

/// Aggregates over many rows.
const AGGREGATES: &[&str] = &[
    "string_agg({t}, repeat('x', 100))",
    "array_agg(tags)",
    "json_agg({t})",
    "jsonb_object_agg({t}, id)",
    "sum({n})",
    "sum({n}::float8)",
    "avg(length({t}))",
    "max({t})",
    "bool_or(flag)",
    "percentile_disc({n} / 1e10) WITHIN GROUP (ORDER BY id)",
    "count(nullif(left({t}, 1), '{c}'))",
];

/// Statements that read what is looked through. Nothing is computed of it: whoever takes a value apart is not followed.
const REMARKS: &[&str] = &[
    "SELECT id, remark FROM remarks WHERE id < {k}",
    "SELECT * FROM remarks ORDER BY id",
    "TABLE remarks",
    "SELECT r FROM remarks AS r WHERE id = {k}",
    "SELECT row_to_json(r) FROM remarks AS r ORDER BY id",
    "SELECT remark, p.email, p.secret FROM remarks r JOIN public.people p USING (id) WHERE id < {k} ORDER BY id",
    "SELECT papers FROM remarks ORDER BY id LIMIT {k}",
    "WITH r AS (SELECT id, remark AS x FROM remarks) SELECT x, id FROM r ORDER BY id",
    "COPY remarks TO STDOUT",
    "COPY (SELECT id, remark FROM remarks ORDER BY id) TO STDOUT WITH (FORMAT csv)",
    "UPDATE remarks SET id = id WHERE id = {k} RETURNING remark",
    "SELECT id FROM remarks WHERE remark IS NOT NULL ORDER BY id",
];

/// A statement.
pub fn statement(random: &mut Random) -> String {
    let filled = |template: &str, random: &mut Random| {
        let letter = random.one(&["q", "x", "z", "j", "k", "v", "w", "y"]).to_owned();
        template
            .replace("{t}", random.one(TEXTS))
            .replace("{u}", random.one(TEXTS))
            .replace("{n}", random.one(NUMBERS))
            .replace("{c}", &letter)
            .replace("{k}", &(1 + random.below(9)).to_string())
    };
    let id = random.below(PEOPLE);
    match random.below(10) {
        0 | 1 => filled(random.one(REMARKS), random),
        2 => format!(
            "SELECT {} FROM ONLY public.people WHERE id >= {id}",
            filled(random.one(AGGREGATES), random)
        ),
        3 => {
            // Only whether it fails is seen.
            format!(
                "SELECT ({}) IS NULL FROM ONLY public.people WHERE id = {id}",
                filled(random.one(EXPRESSIONS), random)
            )
        }
        4 => format!(
            "SELECT id, x FROM (SELECT id, {} AS x FROM ONLY public.people) AS s WHERE id = {id}",
            filled(random.one(EXPRESSIONS), random)
        ),
        _ => {
            format!(
                "SELECT id, {} FROM ONLY public.people WHERE id = {id}",
                filled(random.one(EXPRESSIONS), random)
            )
        }
    }
}
