//! Expressions of the hunt's queries: of a wanted type, over the columns in scope, with secrets as deep in them as the
//! temper of the query allows.

use super::{
    random::Random,
    schema::{Kind, Relation},
};

/// How far a query goes. Bold ones are refused more often: they look for holes; quiet ones are what clients send.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    /// Per cent of result columns that are secret.
    pub shows: usize,
    /// Per cent of operands that are secret.
    pub computes: usize,
    /// Per cent of operands in WHERE, ORDER BY and their like that are secret.
    pub steers: usize,
}

impl Temper {
    /// One of the tempers.
    pub fn of(random: &mut Random) -> Self {
        match random.below(10) {
            0..=3 => Self { shows: 50, computes: 0, steers: 0 },
            4..=6 => Self { shows: 40, computes: 30, steers: 0 },
            7 | 8 => Self { shows: 30, computes: 60, steers: 5 },
            _ => Self { shows: 40, computes: 60, steers: 50 },
        }
    }
}

/// A source in FROM: its alias and what it is.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its alias.
    pub alias: String,
    /// What it is.
    pub relation: &'static Relation,
}

/// Makes expressions.
#[derive(Debug)]
pub struct Expressions<'r> {
    /// Where choices come from.
    pub random: &'r mut Random,
    /// How far they go.
    pub temper: Temper,
}

impl Expressions<'_> {
    /// A column of that type, secret or not.
    pub fn column(&mut self, scope: &[Source], kind: Kind, percent: usize) -> Option<String> {
        let wants_secret = self.random.chance(percent);
        let found: Vec<String> = scope
            .iter()
            .flat_map(|source| {
                let columns = source.relation.columns.iter();
                let fitting =
                    columns.filter(|column| column.kind == kind && column.is_secret == wants_secret);
                fitting.map(|column| format!("{}.{}", source.alias, column.name))
            })
            .collect();
        if found.is_empty() { None } else { Some(found[self.random.below(found.len())].clone()) }
    }

    /// Any column.
    pub fn any_column(&mut self, scope: &[Source], percent: usize) -> String {
        for _ in 0..20 {
            let kind = [
                Kind::Text,
                Kind::Text,
                Kind::Integer,
                Kind::Number,
                Kind::Flag,
                Kind::Date,
                Kind::Json,
                Kind::Array,
                Kind::Other,
            ][self.random.below(9)];
            if let Some(column) = self.column(scope, kind, percent) {
                return column;
            }
        }
        "1".to_owned()
    }

    /// A text.
    pub fn text(&mut self, scope: &[Source], depth: usize, percent: usize) -> String {
        if depth == 0 {
            let literal = self.random.one(&["'a'", "'x1'", "'%a%'", "''", "'person 3'"]).to_owned();
            return self.column(scope, Kind::Text, percent).unwrap_or(literal);
        }
        let one = self.text(scope, depth - 1, percent);
        match self.random.below(34) {
            0 => format!("upper({one})"),
            1 => format!("lower({one})"),
            2 => format!("reverse({one})"),
            3 => format!("substr({one}, {}, {})", 1 + self.random.below(4), self.random.below(9)),
            4 => format!("substring({one} from 2 for 5)"),
            5 => format!("{one} || {}", self.text(scope, depth - 1, percent)),
            6 => format!("coalesce({one}, {})", self.text(scope, depth - 1, percent)),
            7 => format!("concat({one}, '-', {})", self.text(scope, depth - 1, percent)),
            8 => format!("concat_ws(',', {one}, {})", self.any_column(scope, percent)),
            9 => {
                let condition = self.condition(scope, depth - 1, percent);
                let otherwise = self.random.one(&[" ELSE 'no'", ""]);
                format!("CASE WHEN {condition} THEN {one}{otherwise} END")
            }
            10 => format!("md5({one})"),
            11 => format!("encode(convert_to({one}, 'UTF8'), 'hex')"),
            12 => format!("encode(convert_to({}, 'UTF8'), 'base64')", self.text(scope, 0, percent)),
            13 => format!("left({one}, 3)"),
            14 => format!("right({one}, 4)"),
            15 => format!("replace({one}, 'q', 'x')"),
            16 => format!("translate({one}, 'qxz', 'abc')"),
            17 => format!("split_part({one}, 'x', 1)"),
            18 => format!("regexp_replace({one}, '(.)(.*)', '\\2\\1')"),
            19 => format!("lpad({one}, 20, '.')"),
            20 => format!("quote_literal({one})"),
            21 => format!("format('%s/%s', {one}, {})", self.any_column(scope, percent)),
            22 => format!("to_json({one})::text"),
            23 => format!("array_to_string(ARRAY[{one}, 'x'], '+')"),
            24 => format!("greatest({one}, 'm')"),
            25 => format!("nullif(left({one}, 1), '{}')", self.random.one(&["q", "x", "z"])),
            26 => format!("({one})::varchar(6)"),
            27 => format!("CAST({one} AS char(8))"),
            28 => format!("{}::text", self.any_column(scope, percent)),
            29 => format!("to_char({}, '999999999')", self.integer(scope, depth - 1, percent)),
            30 => format!("chr({} % 90 + 33)", self.integer(scope, depth - 1, percent)),
            31 => format!("overlay({one} placing 'ZZ' from 2)"),
            32 => format!("trim(both 'q' from {one})"),
            _ => match self.column(scope, Kind::Json, percent) {
                Some(json) => format!("{json} ->> 'k'"),
                None => format!("initcap({one})"),
            },
        }
    }

    /// An integer.
    pub fn integer(&mut self, scope: &[Source], depth: usize, percent: usize) -> String {
        if depth == 0 {
            let literal = self.random.below(20).to_string();
            return self.column(scope, Kind::Integer, percent).unwrap_or(literal);
        }
        let one = self.integer(scope, depth - 1, percent);
        match self.random.below(16) {
            0 => format!("({one} + {})", self.integer(scope, depth - 1, percent)),
            1 => format!("({one} * {})", self.random.below(5)),
            2 => format!("({one} / {})", self.integer(scope, 0, percent)),
            3 => format!("length({})", self.text(scope, depth - 1, percent)),
            4 => format!("ascii({})", self.text(scope, depth - 1, percent)),
            5 => format!("position('x' in {})", self.text(scope, depth - 1, percent)),
            6 => format!("({})::integer", self.text(scope, depth - 1, percent)),
            7 => format!("coalesce({one}, 0)"),
            8 => format!("abs({one})"),
            9 => {
                let condition = self.condition(scope, depth - 1, percent);
                format!("CASE WHEN {condition} THEN 1 ELSE {one} END")
            }
            10 => format!("({})::boolean::integer", self.condition(scope, depth - 1, percent)),
            11 => format!("mod({one}, 7)"),
            12 => format!("hashtext({})", self.text(scope, depth - 1, percent)),
            13 => match self.column(scope, Kind::Date, percent) {
                Some(date) => format!("extract(year from {date})::integer"),
                None => one,
            },
            14 => match self.column(scope, Kind::Array, percent) {
                Some(array) => format!("cardinality({array})"),
                None => one,
            },
            _ => match self.column(scope, Kind::Number, percent) {
                Some(number) => format!("trunc({number})::bigint"),
                None => format!("greatest({one}, 3)"),
            },
        }
    }

    /// A condition.
    pub fn condition(&mut self, scope: &[Source], depth: usize, percent: usize) -> String {
        let depth = depth.saturating_sub(1);
        match self.random.below(14) {
            0 => format!("{} = {}", self.integer(scope, depth, percent), self.random.below(24)),
            1 => format!("{} < {}", self.integer(scope, depth, percent), self.random.below(24)),
            2 => format!("{} LIKE '%a%'", self.text(scope, depth, percent)),
            3 => format!("{} > 'q'", self.text(scope, depth, percent)),
            4 => format!("{} IS NULL", self.any_column(scope, percent)),
            5 => format!("{} IN (1, 2, 3, 5, 8, 13)", self.integer(scope, depth, percent)),
            6 => format!("{} BETWEEN 3 AND 15", self.integer(scope, depth, percent)),
            7 => format!("{} ~ '^q'", self.text(scope, depth, percent)),
            8 => {
                let one = self.condition(scope, depth, percent);
                format!("({one} AND {})", self.condition(scope, depth, percent))
            }
            9 => {
                let one = self.condition(scope, depth, percent);
                format!("({one} OR {})", self.condition(scope, depth, percent))
            }
            10 => format!("NOT {}", self.condition(scope, depth, percent)),
            11 => format!(
                "EXISTS (SELECT FROM notes AS e WHERE e.id = {})",
                self.integer(scope, depth, percent)
            ),
            12 => match self.column(scope, Kind::Flag, percent) {
                Some(flag) => flag,
                None => "true".to_owned(),
            },
            _ => format!("{} = ANY (ARRAY['a', 'b'])", self.text(scope, depth, percent)),
        }
    }

    /// A result column.
    pub fn result(&mut self, scope: &[Source]) -> String {
        let computes = self.temper.computes;
        match self.random.below(31) {
            24 => "'constant'".to_owned(),
            25 => "(SELECT count(*) FROM notes)".to_owned(),
            26 => "now() IS NOT NULL".to_owned(),
            27 => {
                let key = self.integer(scope, 0, 0);
                format!("EXISTS (SELECT FROM notes AS k WHERE k.id = {key})")
            }
            28 => self.text(scope, 2, 0),
            29 => self.integer(scope, 2, 0),
            30 => "count(*) OVER ()".to_owned(),
            0..=9 => self.any_column(scope, self.temper.shows),
            10 | 11 => self.text(scope, 1, computes),
            12 | 13 => self.text(scope, 2, computes),
            14 => self.text(scope, 3, computes),
            15 => self.integer(scope, 1, computes),
            16 => self.integer(scope, 2, computes),
            17 => format!("({})", self.condition(scope, 2, computes)),
            18 => {
                let alias = &scope[self.random.below(scope.len())].alias;
                format!("{alias}.*")
            }
            19 => {
                let alias = scope[self.random.below(scope.len())].alias.clone();
                let call = self.random.one(&["", "row_to_json", "to_jsonb", "json_agg"]).to_owned();
                if self.random.chance(50) { format!("{call}({alias})") } else { alias }
            }
            20 => {
                let (one, other) =
                    (self.any_column(scope, self.temper.shows), self.any_column(scope, self.temper.shows));
                let form = self.random.one(&["ROW", "json_build_array", "jsonb_build_array", "num_nulls"]);
                format!("{form}({one}, {other})")
            }
            21 => {
                let text = self.text(scope, 1, computes);
                format!("(SELECT {text} || s.body FROM notes AS s WHERE s.id = 3)")
            }
            22 => match self.column(scope, Kind::Json, computes) {
                Some(json) => {
                    format!("{json} {}", self.random.one(&["-> 'k'", "->> 'n'", "#> '{k}'", "::text"]))
                }
                None => "now() IS NULL".to_owned(),
            },
            _ => match self.column(scope, Kind::Array, computes) {
                Some(array) => format!("{array}[{}]", 1 + self.random.below(2)),
                None => format!("pg_typeof({})", self.any_column(scope, self.temper.shows)),
            },
        }
    }

    /// An aggregate or window function.
    pub fn aggregate(&mut self, scope: &[Source]) -> String {
        let computes = self.temper.computes;
        match self.random.below(14) {
            0 => "count(*)".to_owned(),
            1 => format!("count({})", self.any_column(scope, self.temper.shows)),
            2 => format!("sum({})", self.integer(scope, 1, computes)),
            3 => format!("max({})", self.text(scope, 1, computes)),
            4 => format!("min({})", self.integer(scope, 0, computes)),
            5 => format!("string_agg({}, ',')", self.text(scope, 1, computes)),
            6 => format!("array_agg({})", self.any_column(scope, computes)),
            7 => format!("json_agg({})", self.any_column(scope, computes)),
            8 => format!("bool_or({})", self.condition(scope, 1, computes)),
            9 => format!("count(*) FILTER (WHERE {})", self.condition(scope, 1, self.temper.steers)),
            10 => format!("avg({})", self.integer(scope, 1, computes)),
            11 => format!("count(DISTINCT {})", self.any_column(scope, self.temper.steers)),
            12 => format!("jsonb_object_agg({}, 1)", self.integer(scope, 0, computes)),
            _ => format!(
                "array_agg({} ORDER BY {})",
                self.any_column(scope, computes),
                self.any_column(scope, self.temper.steers)
            ),
        }
    }
}
