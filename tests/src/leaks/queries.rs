//! The hunt's queries: SELECT in all its forms.

use std::fmt::Write as _;

use super::{
    expressions::{Expressions, Source, Temper},
    random::Random,
    schema::RELATIONS,
};

/// Makes queries.
#[derive(Debug)]
pub struct Queries<'r> {
    /// Where choices come from.
    pub random: &'r mut Random,
    /// How far they go.
    pub temper: Temper,
}

impl<'r> Queries<'r> {
    /// With a temper of its own.
    pub fn new(random: &'r mut Random) -> Self {
        let temper = Temper::of(random);
        Self { random, temper }
    }

    /// Expressions of the same temper.
    pub fn expressions(&mut self) -> Expressions<'_> {
        Expressions { random: self.random, temper: self.temper }
    }

    /// Some sources, and the FROM that they stand in.
    pub fn from(&mut self) -> (Vec<Source>, String) {
        let mut sources = Vec::new();
        let mut text = String::new();
        let count = [1, 1, 1, 2, 2, 3][self.random.below(6)];
        for index in 0..count {
            let relation = &RELATIONS[self.random.below(RELATIONS.len())];
            let alias = ["p", "t", "u"][index].to_owned();
            let source = Source { alias: alias.clone(), relation };
            let has_id = |source: &Source| source.relation.columns.iter().any(|column| column.name == "id");
            match sources.last() {
                None => {
                    let _ = write!(text, "{} AS {alias}", relation.name);
                }
                Some(before) if has_id(before) && has_id(&source) => {
                    let kind = self.random.one(&["JOIN", "LEFT JOIN", "FULL JOIN", "RIGHT JOIN"]).to_owned();
                    match self.random.below(6) {
                        0 | 1 => {
                            let _ = write!(text, " {kind} {} AS {alias} USING (id)", relation.name);
                        }
                        2 if self.random.chance(30) => {
                            let _ = write!(text, " NATURAL JOIN {} AS {alias}", relation.name);
                        }
                        3 => {
                            let _ = write!(
                                text,
                                ", LATERAL (SELECT * FROM {} AS l WHERE l.id = {}.id) AS {alias}",
                                relation.name, before.alias
                            );
                        }
                        _ => {
                            let _ = write!(
                                text,
                                " {kind} {} AS {alias} ON {alias}.id = {}.id",
                                relation.name, before.alias
                            );
                        }
                    }
                }
                Some(_) => {
                    let _ = write!(text, " CROSS JOIN {} AS {alias}", relation.name);
                }
            }
            sources.push(source);
        }
        (sources, text)
    }

    /// A query of one level, with as many result columns as asked for.
    pub fn plain(&mut self, columns: usize) -> String {
        let (scope, from) = self.from();
        let steers = self.temper.steers;
        let results: Vec<String> = (0..columns).map(|_| self.expressions().result(&scope)).collect();
        let mut text = format!("SELECT {} FROM {from}", results.join(", "));
        if self.random.chance(50) {
            let _ = write!(text, " WHERE {}", self.expressions().condition(&scope, 1, steers));
        }
        match self.random.below(10) {
            0..=3 => {
                let key = self.expressions().any_column(&scope, steers);
                let _ = write!(text, " ORDER BY {key}");
            }
            4 if self.random.chance(30) => {
                let _ = write!(text, " ORDER BY {}", 1 + self.random.below(columns));
            }
            _ => {}
        }
        if self.random.chance(40) {
            let _ = write!(text, " LIMIT {}", 1 + self.random.below(6));
        }
        text
    }

    /// A query of several levels, or one of the rarer forms.
    pub fn query(&mut self) -> String {
        let many = 1 + self.random.below(4);
        let steers = self.temper.steers;
        match self.random.below(24) {
            0..=7 => self.plain(many),
            8 | 9 => {
                let (scope, from) = self.from();
                let aggregates: Vec<String> =
                    (0..many).map(|_| self.expressions().aggregate(&scope)).collect();
                let mut text = format!("SELECT {} FROM {from}", aggregates.join(", "));
                if self.random.chance(40) {
                    let _ = write!(text, " WHERE {}", self.expressions().condition(&scope, 1, steers));
                }
                text
            }
            10 | 11 => {
                let (scope, from) = self.from();
                let key = self.expressions().any_column(&scope, steers);
                let value = self.expressions().aggregate(&scope);
                let mut text = format!("SELECT {key}, {value} FROM {from} GROUP BY {key}");
                if self.random.chance(30) {
                    let _ = write!(text, " HAVING {} > 1", self.expressions().aggregate(&scope));
                }
                text
            }
            12 => {
                let (scope, from) = self.from();
                let order = self.expressions().any_column(&scope, steers);
                let value = self.expressions().any_column(&scope, 60);
                let call = self.random.one(&["first_value", "lag", "max", "lead", "last_value"]).to_owned();
                format!(
                    "SELECT {call}({value}) OVER (ORDER BY {order}), row_number() OVER (ORDER BY {order}) FROM {from}"
                )
            }
            13 | 14 => {
                let operation =
                    self.random.one(&["UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT ALL"]);
                let operation = operation.to_owned();
                let one = self.text_query();
                format!("({one}) {operation} ({})", self.text_query())
            }
            15 | 16 => {
                let one = self.text_query();
                let kind = self.random.one(&["", "MATERIALIZED ", "NOT MATERIALIZED "]).to_owned();
                match self.random.below(3) {
                    0 => format!(
                        "WITH c (id, x) AS {kind}({one}) SELECT c.x, n.body FROM c JOIN notes AS n USING (id)"
                    ),
                    1 => format!("WITH c (id, x) AS {kind}({one}) SELECT * FROM c"),
                    _ => format!(
                        "WITH c (id, x) AS {kind}({one}), d AS (SELECT max(x) AS m FROM c) SELECT m FROM d"
                    ),
                }
            }
            17 => {
                let one = self.text_query();
                format!(
                    "WITH RECURSIVE r (n, x) AS (({one}) UNION ALL SELECT n + 100, x || '.' FROM r WHERE n < 150) \
                     SELECT n, x FROM r"
                )
            }
            18 => {
                let one = self.text_query();
                format!("SELECT s.x, s FROM ({one}) AS s (id, x) WHERE s.id < 12")
            }
            19 => {
                let one = self.text_query();
                format!("SELECT ARRAY(SELECT x FROM ({one}) AS s (id, x)), id FROM notes LIMIT 2")
            }
            20 => {
                let (scope, from) = self.from();
                let computes = self.temper.computes;
                let value = self.expressions().text(&scope, 1, computes);
                format!("SELECT x FROM {from}, LATERAL (SELECT {value}) AS l (x)")
            }
            21 => {
                let (scope, from) = self.from();
                let value = self.expressions().any_column(&scope, steers);
                let call = self.random.one(&[
                    "unnest(ARRAY[{}])",
                    "jsonb_each(to_jsonb({}))",
                    "regexp_split_to_table({}::text, 'x')",
                    "generate_series(1, length({}::text))",
                    "json_array_elements(json_build_array({}))",
                ]);
                format!("SELECT f FROM {from}, {} AS f", call.replace("{}", &value))
            }
            22 => {
                let (scope, from) = self.from();
                let value = self.expressions().any_column(&scope, 60);
                format!("VALUES ((SELECT {value} FROM {from} LIMIT 1), 1)")
            }
            _ => {
                let relation = RELATIONS[self.random.below(RELATIONS.len())].name;
                match self.random.below(3) {
                    0 if !relation.starts_with("ONLY") => format!("TABLE {relation}"),
                    1 => format!("SELECT * FROM {relation} AS x (a, b, c) ORDER BY 1"),
                    _ => format!("SELECT x FROM {relation} AS x WHERE id < 9"),
                }
            }
        }
    }

    /// A query that returns a number and a text.
    pub fn text_query(&mut self) -> String {
        let (scope, from) = self.from();
        let computes = self.temper.computes;
        let shows = self.temper.shows;
        let value = if self.random.chance(50) {
            self.expressions().text(&scope, 0, shows)
        } else {
            self.expressions().text(&scope, 2, computes)
        };
        let number = self.expressions().integer(&scope, 0, 0);
        let mut text = format!("SELECT {number}, {value} FROM {from}");
        if self.random.chance(40) {
            let steers = self.temper.steers;
            let _ = write!(text, " WHERE {}", self.expressions().condition(&scope, 1, steers));
        }
        text
    }
}
