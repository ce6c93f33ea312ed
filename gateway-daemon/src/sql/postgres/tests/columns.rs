use std::collections::BTreeSet;

use crate::domain::statement::ColumnUse;
use crate::sql::postgres::read;

use super::check;

#[test]
fn a_plain_select_projects_and_compares() {
    check(&[
        ("SELECT email AS x FROM customers", "select customers | P customers.email"),
        ("SELECT c.email FROM customers AS c", "select customers | P customers.email"),
        ("SELECT public.customers.email FROM public.customers", "select customers | P customers.email"),
        (
            "SELECT name FROM customers WHERE email LIKE 'a%'",
            "select customers | P customers.name | C customers.email",
        ),
        ("SELECT \"email\" FROM customers", "select customers | P customers.email"),
        ("SELECT U&\"\\0065mail\" FROM customers", "select customers | P customers.email"),
        ("SELECT 'email', E'em\\x61il', $$email$$ FROM customers", "select customers"),
        ("SELECT /* email */ name -- email\n FROM customers", "select customers | P customers.name"),
        (
            "SELECT email IS NULL, length(ssn) FROM customers",
            "select customers | P customers.ssn | T customers.email",
        ),
        (
            "SELECT CASE WHEN email LIKE 'a%' THEN 1 ELSE 0 END FROM customers",
            "select customers | P customers.email | F customers.email",
        ),
        ("SELECT count(*) FROM customers", "select customers"),
        ("SELECT max(email) FROM customers", "select customers | P customers.email"),
        ("SELECT ctid, tableoid FROM customers", "select customers"),
        (
            "SELECT ROW(email, 1), ARRAY[ssn] FROM customers",
            "select customers | P customers.email customers.ssn",
        ),
        ("SELECT 1", "select -"),
        ("TABLE notes", "select notes | P notes.body notes.id"),
        ("VALUES (1), (2)", "select -"),
        ("SELECT email FROM nowhere", "select nowhere | P nowhere.email"),
        ("SELECT * FROM nowhere", "select nowhere | P nowhere.*"),
    ]);
}

#[test]
fn whole_rows_and_unknown_names_mean_every_column() {
    let every = "select notes | P notes.body notes.id";
    let computed = "select notes | P notes.body notes.id | F notes.body notes.id";
    check(&[
        ("SELECT * FROM notes", every),
        ("SELECT n.* FROM notes n", every),
        ("SELECT n FROM notes n", every),
        ("SELECT notes FROM notes", every),
        ("SELECT (n).body FROM notes n", "select notes | P notes.body"),
        ("SELECT (n.*).body FROM notes n", every),
        ("SELECT (n).* FROM notes n", every),
        ("SELECT row_to_json(n) FROM notes n", every),
        ("SELECT n::text FROM notes n", computed),
        ("SELECT nothing FROM notes", every),
        ("SELECT n.nothing FROM notes n", computed),
        ("SELECT x.body FROM notes n", every),
        (
            "SELECT body(n) FROM notes n",
            "select notes, call - | P notes.body notes.id | F notes.body notes.id | Function(\"body\")",
        ),
    ]);
}

#[test]
fn an_operator_that_may_be_a_users_is_code_that_is_shown_its_operands() {
    let both = "select customers, call - | P customers.email | F customers.email | Operator(\"===\")";
    check(&[
        ("SELECT email === 'x' FROM customers", both),
        ("SELECT 'x' === ANY (ARRAY[email]) FROM customers", both),
        ("SELECT email === ANY (SELECT 'x') FROM customers", both),
        ("SELECT 1 === 2, email FROM customers", &both.replace(" | F customers.email", "")),
        ("SELECT email OPERATOR(public.||) 'x' FROM customers", &both.replace("===", "public.||")),
    ]);
}

#[test]
fn what_can_fail_or_decides_over_what_can_fail_is_computed_with() {
    let shown = "select customers | P customers.email";
    let computed = "select customers | P customers.email | F customers.email";
    let tested = "select customers | P customers.email | T customers.email";
    check(&[
        ("SELECT upper(email) || '!', length(email), (email || 'a') IS NULL FROM customers", shown),
        ("SELECT email::varchar(3), substr(email, 1, 4), email::text, left(email, 3) FROM customers", shown),
        ("SELECT coalesce(email, 'none'), nullif(email, ''), email > 'm' AND true FROM customers", shown),
        ("SELECT json_build_object('k', email), count(lower(email)), max(email) FROM customers", shown),
        ("SELECT coalesce(email, $1), trim(email), concat(email, 5) FROM customers", shown),
        ("SELECT upper(e) FROM (SELECT email AS e FROM customers) s", shown),
        ("SELECT upper((SELECT email FROM customers)) || 'x'", shown),
        ("SELECT left(e, 2) || 'x' FROM (SELECT max(email) || 'x' AS e FROM customers) s", shown),
        ("SELECT lag(email) OVER (), ARRAY[email], greatest(email, 'm') FROM customers", shown),
        ("SELECT email::integer FROM customers", computed),
        ("SELECT 1 / (ascii(email) - 103) FROM customers", computed),
        ("SELECT email::regclass FROM customers", computed),
        ("SELECT email::public.text FROM customers", computed),
        ("SELECT substr('abc', length(email)) FROM customers", computed),
        ("SELECT email LIKE 'a\\' FROM customers", computed),
        ("SELECT 'x' LIKE email FROM customers", computed),
        ("SELECT 'x' ~ email FROM customers", computed),
        ("SELECT md5(email), format('%s', email) FROM customers", computed),
        ("SELECT json_build_object(email, 1) FROM customers", computed),
        ("SELECT string_agg(email, ',') FROM customers", computed),
        ("SELECT array_agg(email) FROM customers", computed),
        ("SELECT json_agg(email) FROM customers", computed),
        ("SELECT repeat(email, 3) FROM customers", computed),
        ("SELECT replace(email, 'a', 'b') FROM customers", computed),
        ("SELECT left(email, -1) FROM customers", computed),
        ("SELECT left(email, $1) FROM customers", computed),
        ("SELECT substring(email, 1, length(email)) FROM customers", computed),
        ("SELECT email || $1 FROM customers", computed),
        ("SELECT email || repeat('x', 600000000) FROM customers", computed),
        ("SELECT overlay('x' PLACING email FROM 2147483614) FROM customers", computed),
        ("SELECT upper(upper(upper(email))) FROM customers", computed),
        ("SELECT upper(email COLLATE \"C\") FROM customers", computed),
        ("SELECT upper(VARIADIC email) FROM customers", computed),
        ("SELECT (email).int4 FROM customers", computed),
        ("SELECT email IS JSON FROM customers", computed),
        ("SELECT CASE WHEN email LIKE 'a%' THEN 'a' ELSE lower(email) END FROM customers", computed),
        ("SELECT CASE WHEN email LIKE 'a%' THEN 1 / 0 END FROM customers", computed),
        ("SELECT email LIKE 'a%' AND 1 / 0 = 1 FROM customers", computed),
        ("SELECT lower(email) > 'm' AND 1 / 0 = 1 FROM customers", computed),
        ("SELECT convert_to(email, 'LATIN1') FROM customers", computed),
        ("SELECT to_number(email, '9') FROM customers", computed),
        ("SELECT c.email || d.email FROM customers c, customers d", computed),
        ("SELECT max(email) || min(email) FROM customers", computed),
        (
            "WITH RECURSIVE t AS (SELECT email AS e FROM customers UNION ALL SELECT e || e FROM t) SELECT e FROM t",
            computed,
        ),
        ("SELECT email FROM customers UNION ALL SELECT '2020-01-01'::date", computed),
        // Whether there is a value is no secret, and neither is what a filter may ask.
        ("SELECT coalesce(email, (1 / 0)::text) FROM customers", tested),
        ("SELECT email || CASE WHEN email IS NULL THEN 'a' END FROM customers", tested),
        (
            "SELECT CASE WHEN name > 'm' THEN email || ' ' || name END FROM customers",
            "select customers | P customers.email customers.name | F customers.name",
        ),
        (
            "SELECT id FROM customers WHERE name LIKE 'a%' AND email IS NOT NULL",
            "select customers | P customers.id | T customers.email | C customers.name",
        ),
        (
            "SELECT CASE WHEN id = 5 THEN email END FROM customers",
            "select customers | P customers.email customers.id | C customers.id",
        ),
        (
            "SELECT c.email || o.note FROM customers c, orders o",
            "select customers, select orders | P customers.email orders.note | F customers.email orders.note",
        ),
        (
            "SELECT row_to_json(c) FROM (SELECT name, email FROM customers) c",
            "select customers | P customers.email customers.name",
        ),
    ]);
}

/// A name of PostgreSQL's own is not enough where something else bears it too, and neither is a type.
#[test]
fn what_may_be_somebody_elses_is_not_on_the_list() {
    let computes = |text: &str, catalogue: &crate::domain::catalogue::Catalogue| {
        let statements = read(text, catalogue).unwrap();
        statements[0].columns.iter().any(|access| access.usage == ColumnUse::Computed)
    };
    let with = |kind: char, name: &str| {
        let mut catalogue = super::shop();
        let overloaded = std::sync::Arc::make_mut(&mut catalogue.overloaded);
        match kind {
            'f' => overloaded.functions.insert(name.to_owned()),
            _ => overloaded.types.entry(name.to_owned()).or_default().insert("public".to_owned()),
        };
        catalogue
    };
    let of_type = |oid: u32, collation: u32| {
        let mut catalogue = super::shop();
        for relation in std::sync::Arc::make_mut(&mut catalogue.relations).values_mut() {
            for column in relation.columns.iter_mut().filter(|column| column.name == "email") {
                (column.type_oid, column.collation) = (oid, collation);
            }
        }
        catalogue
    };
    let plain = super::shop();
    let cast = "SELECT email::text FROM customers";
    assert!(!computes(cast, &plain) && !computes(cast, &with('t', "text")));
    let first = with('t', "text").along(vec!["public".to_owned(), "pg_catalog".to_owned()]);
    assert!(computes(cast, &first) && !computes("SELECT email::pg_catalog.text FROM customers", &first));
    assert!(!computes("SELECT email::varchar FROM customers", &with('t', "varchar")));
    let upper = "SELECT upper(email) FROM customers";
    assert!(!computes(upper, &plain) && !computes(upper, &with('f', "upper")));
    let mut narrow = with('f', "upper");
    for relation in std::sync::Arc::make_mut(&mut narrow.relations).values_mut() {
        relation.columns.iter_mut().for_each(|column| column.type_oid = 1043);
    }
    assert!(computes(upper, &narrow), "one for varchar would go before PostgreSQL's own");
    // A domain, an array, a range, a type of an extension.
    for oid in [90_000, 1009, 3904, 16_500] {
        assert!(computes(upper, &of_type(oid, 100)), "{oid}");
    }
    let both = "SELECT upper(email || name) FROM customers";
    assert!(!computes(both, &of_type(25, 12_000)), "a column's own collation goes before the default");
    assert!(computes("SELECT email::jsonb FROM customers", &plain));
    let mut japanese = super::shop();
    japanese.encoding = crate::domain::catalogue::Encoding::Other;
    assert!(computes(upper, &japanese) && !computes(cast, &japanese));
    let mut fixed = of_type(1700, 0);
    let sum = "SELECT sum(email) FROM customers";
    assert!(computes(sum, &fixed), "a numeric without a precision can overflow");
    for relation in std::sync::Arc::make_mut(&mut fixed.relations).values_mut() {
        relation.columns.iter_mut().for_each(|column| column.modifier = 655_366);
    }
    assert!(!computes(sum, &fixed) && !computes(sum, &of_type(23, 0)) && computes(sum, &of_type(701, 0)));
}

#[test]
fn steering_clauses_compare() {
    let compared = "select customers | P customers.name | C customers.email";
    check(&[
        ("SELECT name FROM customers ORDER BY email", compared),
        ("SELECT name FROM customers ORDER BY lower(email) DESC", compared),
        (
            "SELECT name FROM customers GROUP BY name, email",
            "select customers | P customers.name | C customers.email customers.name",
        ),
        ("SELECT 1 FROM customers HAVING max(email) > 'a'", "select customers | C customers.email"),
        (
            "SELECT email FROM customers ORDER BY 1",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "SELECT name, email FROM customers GROUP BY 2, 1 LIMIT 1",
            "select customers | P customers.email customers.name | C customers.email customers.name",
        ),
        (
            "SELECT email AS name FROM customers ORDER BY name",
            "select customers | P customers.email | C customers.email customers.name",
        ),
        (
            "SELECT upper(email) AS e FROM customers ORDER BY e",
            "select customers | P customers.email | C customers.email",
        ),
        ("SELECT DISTINCT email FROM customers", "select customers | P customers.email | C customers.email"),
        ("SELECT DISTINCT ON (email) name FROM customers", compared),
        ("SELECT name FROM customers LIMIT (SELECT length(email) FROM customers)", compared),
        (
            "SELECT count(DISTINCT email) FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        ("SELECT count(*) FILTER (WHERE email = 'x') FROM customers", "select customers | C customers.email"),
        (
            "SELECT array_agg(name ORDER BY email) FROM customers",
            "select customers | P customers.email customers.name | C customers.email | F customers.name",
        ),
        (
            "SELECT row_number() OVER (PARTITION BY email) FROM customers",
            "select customers | C customers.email",
        ),
        (
            "SELECT rank() OVER w FROM customers WINDOW w AS (ORDER BY email)",
            "select customers | C customers.email",
        ),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY email) FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "SELECT 1 FROM customers GROUP BY GROUPING SETS ((email), (name), ())",
            "select customers | C customers.email customers.name",
        ),
        ("SELECT 1 FROM customers GROUP BY ROLLUP (1, email)", "select customers | C customers.email"),
        (
            "SELECT unnest(string_to_array(email, '')) FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "SELECT nextval('s'), email FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        ("SELECT name FROM customers TABLESAMPLE bernoulli (10)", "select customers | P customers.name"),
        ("SELECT name FROM customers FOR UPDATE", "select customers | P customers.name"),
    ]);
}

#[test]
fn set_operations_unite_by_position() {
    check(&[
        (
            "SELECT name FROM customers UNION ALL SELECT email FROM customers",
            "select customers | P customers.email customers.name",
        ),
        (
            "SELECT name FROM customers UNION SELECT email FROM customers",
            "select customers | P customers.email customers.name | C customers.email customers.name",
        ),
        (
            "SELECT 'a' EXCEPT ALL SELECT email FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "(SELECT name AS n FROM customers) INTERSECT SELECT body FROM notes ORDER BY n",
            "select customers, select notes | P customers.name notes.body | C customers.name notes.body",
        ),
        (
            "SELECT a FROM (SELECT name AS a, email AS b FROM customers UNION ALL SELECT body, body FROM notes) s ORDER BY b",
            "select customers, select notes | P customers.name notes.body | C customers.email notes.body",
        ),
    ]);
}

#[test]
fn joins_compare_what_they_match() {
    check(&[
        (
            "SELECT o.id FROM orders o JOIN customers c ON o.note = c.email",
            "select customers, select orders | P orders.id | C customers.email orders.note",
        ),
        (
            "SELECT total FROM orders JOIN customers USING (id)",
            "select customers, select orders | P orders.total | C customers.id orders.id",
        ),
        (
            "SELECT total FROM orders NATURAL JOIN customers",
            "select customers, select orders | P orders.total | C customers.id orders.id",
        ),
        (
            "SELECT id FROM orders JOIN customers USING (id)",
            "select customers, select orders | P customers.id orders.id | C customers.id orders.id",
        ),
        (
            "SELECT j.email FROM (orders JOIN customers USING (id)) AS j",
            "select customers, select orders | P customers.email | C customers.id orders.id",
        ),
        (
            "SELECT b FROM (SELECT * FROM notes JOIN orders USING (id)) AS s(a, b)",
            "select notes, select orders | P notes.body | C notes.id orders.id",
        ),
        (
            "SELECT j.* FROM notes n JOIN orders o USING (id) AS j",
            "select notes, select orders | P notes.id orders.id | C notes.id orders.id",
        ),
        ("SELECT a FROM notes AS n(a, b)", "select notes | P notes.id"),
        (
            "SELECT (SELECT 1 FROM orders sib, notes a JOIN notes b ON a.id::text = email) FROM customers",
            "select customers, select notes, select orders | C customers.email notes.id",
        ),
    ]);
}

#[test]
fn subqueries_carry_columns_outwards() {
    check(&[
        (
            "SELECT 1 FROM (SELECT email AS e FROM customers) s WHERE e LIKE 'a%'",
            "select customers | C customers.email",
        ),
        (
            "SELECT n FROM (SELECT name AS n, email AS e FROM customers) s",
            "select customers | P customers.name",
        ),
        (
            "SELECT s.e FROM (SELECT name, email FROM customers) s(n, e)",
            "select customers | P customers.email",
        ),
        ("SELECT x FROM (SELECT * FROM customers) s(a, b, x, d)", "select customers | P customers.email"),
        (
            "SELECT s FROM (SELECT name, email FROM customers) s",
            "select customers | P customers.email customers.name",
        ),
        ("SELECT (SELECT email FROM customers LIMIT 1)", "select customers | P customers.email"),
        (
            "SELECT ARRAY(SELECT email FROM customers)",
            "select customers | P customers.email | F customers.email",
        ),
        (
            "SELECT id FROM orders o WHERE EXISTS (SELECT * FROM customers c WHERE c.id = o.customer_id)",
            "select customers, select orders | P orders.id | C customers.id orders.customer_id",
        ),
        (
            "SELECT id FROM orders WHERE note IN (SELECT email FROM customers)",
            "select customers, select orders | P orders.id | C customers.email orders.note",
        ),
        (
            "SELECT o.id FROM orders o WHERE EXISTS (SELECT 1 FROM notes WHERE body = note)",
            "select notes, select orders | P orders.id | C notes.body orders.note",
        ),
        (
            "SELECT l.y FROM customers c, LATERAL (SELECT c.email AS y) l",
            "select customers | P customers.email",
        ),
        (
            "SELECT u FROM customers c, unnest(string_to_array(c.email, '')) AS u",
            "select customers | P customers.email | C customers.email",
        ),
        ("SELECT g FROM generate_series(1, 3) g", "select -"),
        (
            "SELECT a.x FROM ROWS FROM (generate_series(1,2), unnest(ARRAY[1])) WITH ORDINALITY a(x, y, z)",
            "select -",
        ),
        (
            "SELECT x FROM (SELECT max(email) || 'x' FROM customers) s(x)",
            "select customers | P customers.email",
        ),
        ("SELECT max FROM (SELECT max(email) FROM customers) s", "select customers | P customers.email"),
        (
            "SELECT \"case\" FROM (SELECT CASE WHEN true THEN email END FROM customers) s",
            "select customers | P customers.email",
        ),
        (
            "SELECT t.a FROM XMLTABLE('/r' PASSING (SELECT email::xml FROM customers) COLUMNS a text PATH 'a') t",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "SELECT t.a FROM customers c, JSON_TABLE(c.email::jsonb, '$[*]' COLUMNS (a text PATH '$.a')) t",
            "select customers | P customers.email | C customers.email",
        ),
        (
            "SELECT v.b FROM customers c CROSS JOIN LATERAL (VALUES (c.name, c.email)) AS v(a, b)",
            "select customers | P customers.email",
        ),
    ]);
}

#[test]
fn common_table_expressions_shadow_and_carry() {
    check(&[
        ("WITH customers AS (SELECT 1 AS email) SELECT email FROM customers", "select -"),
        (
            "WITH customers AS (SELECT name FROM customers) SELECT * FROM customers",
            "select customers | P customers.name",
        ),
        ("WITH email AS (SELECT 1 AS x) SELECT x FROM email", "select -"),
        (
            "WITH t(e) AS (SELECT email FROM customers) SELECT 1 FROM t WHERE e = 'x'",
            "select customers | C customers.email",
        ),
        (
            "WITH c AS (SELECT 1 AS a) SELECT (WITH c AS (SELECT email AS a FROM customers) SELECT a FROM c) FROM c",
            "select customers | P customers.email",
        ),
        (
            "WITH a AS (SELECT email AS x FROM customers), b AS (SELECT x AS y FROM a) SELECT y FROM b",
            "select customers | P customers.email",
        ),
        (
            "SELECT email FROM public.customers, (WITH x AS (SELECT 1) SELECT * FROM x) s",
            "select customers | P customers.email",
        ),
        (
            "WITH RECURSIVE t(n, e) AS (SELECT 1, name FROM customers UNION ALL SELECT n + 1, (SELECT email FROM customers LIMIT 1) FROM t WHERE n < 2) SELECT e FROM t",
            "select customers | P customers.email customers.name",
        ),
        (
            "WITH RECURSIVE t(a, b, c) AS (SELECT name, email, 'x' FROM customers UNION ALL SELECT b, c, a FROM t) SELECT c FROM t",
            "select customers | P customers.email customers.name",
        ),
        (
            "WITH RECURSIVE b AS (SELECT e FROM a), a AS (SELECT email AS e FROM customers) SELECT e FROM b",
            "select customers | P customers.email",
        ),
        (
            "WITH RECURSIVE t AS (SELECT id, note FROM orders UNION ALL SELECT o.id, o.note FROM orders o JOIN t ON o.customer_id = t.id) SEARCH DEPTH FIRST BY note SET seq CYCLE id SET is_cycle USING path SELECT id FROM t ORDER BY seq",
            "select orders | P orders.id | C orders.customer_id orders.id orders.note",
        ),
        (
            "WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING note) SELECT note FROM d",
            "select -, delete orders | P orders.note | C orders.id",
        ),
    ]);
}

#[test]
fn views_name_themselves_and_their_origins() {
    check(&[
        ("SELECT mail FROM customer_mail", "select customer_mail | P customer_mail.mail customers.email"),
        (
            "SELECT id FROM customer_mail WHERE mail = 'x'",
            "select customer_mail | P customer_mail.id customers.id | C customer_mail.mail customers.email",
        ),
    ]);
}

#[test]
fn json_and_xml_syntax_is_walked() {
    check(&[
        (
            "SELECT JSON_OBJECT('k' : email), JSON_ARRAY(ssn) FROM customers",
            "select customers | P customers.email customers.ssn | F customers.email customers.ssn",
        ),
        (
            "SELECT JSON_ARRAYAGG(name ORDER BY email) FROM customers",
            "select customers | P customers.email customers.name | C customers.email | F customers.name",
        ),
        (
            "SELECT JSON_OBJECTAGG(name : email) FROM customers",
            "select customers | P customers.email customers.name | F customers.email customers.name",
        ),
        (
            "SELECT JSON_ARRAY(SELECT email FROM customers)",
            "select customers | P customers.email | F customers.email",
        ),
        (
            "SELECT XMLELEMENT(NAME a, XMLATTRIBUTES(email AS e), ssn) FROM customers",
            "select customers | P customers.email customers.ssn | F customers.email customers.ssn",
        ),
        (
            "SELECT XMLSERIALIZE(CONTENT email::xml AS text) FROM customers",
            "select customers | P customers.email | F customers.email",
        ),
        (
            "SELECT email IS JSON, GREATEST(name, ssn), COALESCE(note, '') FROM customers, orders",
            "select customers, select orders | P customers.email customers.name customers.ssn orders.note | F customers.email",
        ),
        // Older servers read this as a call of whatever function bears the name.
        ("SELECT JSON_VALUE('{}', '$.a')", "select -, call - | Function(\"json_value\")"),
    ]);
}

/// Only a stored column itself, held against values that the statement brings along, is matched: equality of a part of
/// a value, or with another column, would tell more.
#[test]
fn equality_with_brought_values_is_told_from_every_other_comparison() {
    let catalogue = super::shop();
    for (text, expected) in [
        ("SELECT id FROM customers WHERE email = 'a'", ColumnUse::Matched),
        ("SELECT id FROM customers c WHERE $1 = c.email", ColumnUse::Matched),
        ("SELECT id FROM customers WHERE email <> 'a' AND NOT email IN ('b', $2)", ColumnUse::Matched),
        ("SELECT id FROM customers WHERE email = ANY ($1) OR email IS DISTINCT FROM 'x'", ColumnUse::Matched),
        ("SELECT id FROM orders JOIN customers c ON c.id = customer_id AND email = 'a'", ColumnUse::Matched),
        ("DELETE FROM customers WHERE email = 'a'", ColumnUse::Matched),
        ("PREPARE p AS SELECT id FROM customers WHERE email = $1", ColumnUse::Matched),
        ("SELECT id FROM customers ORDER BY email = 'a'", ColumnUse::Matched),
        ("SELECT id FROM customers WHERE email < 'a'", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email LIKE 'a'", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE lower(email) = 'a'", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email COLLATE \"C\" = 'a'", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE (email, id) = ('a', 1)", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email = 'a' OR email > 'b'", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email = name", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email = (SELECT body FROM notes)", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE email IN (SELECT body FROM notes)", ColumnUse::Compared),
        ("SELECT id FROM customers WHERE NULLIF(email, 'a') IS NULL", ColumnUse::Compared),
        ("SELECT 1 FROM customers GROUP BY email HAVING email = 'a'", ColumnUse::Compared),
        (
            "SELECT 1 FROM (SELECT left(email, 1) AS email FROM customers) c WHERE email = 'a'",
            ColumnUse::Compared,
        ),
        ("WITH c AS (SELECT email FROM customers) SELECT 1 FROM c WHERE email = 'a'", ColumnUse::Compared),
        ("SELECT id FROM customer_mail WHERE mail = 'a'", ColumnUse::Compared),
        ("SELECT 1 FROM customers a JOIN customers b USING (email) WHERE email = 'a'", ColumnUse::Compared),
        (
            "SELECT 1 FROM notes WHERE EXISTS (SELECT FROM (SELECT) s, customers WHERE email > 'a')",
            ColumnUse::Compared,
        ),
    ] {
        let statements = read(text, &catalogue).unwrap();
        let of_email: BTreeSet<ColumnUse> = statements
            .iter()
            .flat_map(|statement| &statement.columns)
            .filter(|access| access.column.to_string() == "public.customers.email")
            .map(|access| access.usage)
            .filter(|usage| matches!(usage, ColumnUse::Matched | ColumnUse::Compared))
            .collect();
        assert!(of_email.contains(&expected), "{text}: {of_email:?}");
        assert_eq!(of_email.contains(&ColumnUse::Compared), expected == ColumnUse::Compared, "{text}");
    }
    let mut own = super::shop();
    own.user_operators.insert("=".to_owned());
    let statements = read("SELECT id FROM customers WHERE email = 'a'", &own).unwrap();
    assert!(statements[0].columns.iter().all(|access| access.usage != ColumnUse::Matched));
}

/// NULL is shown as NULL, so that nothing is hidden from who counts; only of a column as it is stored.
#[test]
fn whether_there_is_a_value_is_told_from_the_value() {
    check(&[
        ("SELECT count(email), email IS NULL FROM customers", "select customers | T customers.email"),
        (
            "SELECT id FROM customers c WHERE c.email IS NOT NULL",
            "select customers | P customers.id | T customers.email",
        ),
        (
            "SELECT count(email), max(email) FROM customers",
            "select customers | P customers.email | T customers.email",
        ),
        (
            "SELECT count(DISTINCT email) FROM customers",
            "select customers | P customers.email | C customers.email",
        ),
        ("SELECT count(NULLIF(email, 'a')) FROM customers", "select customers | P customers.email"),
        ("SELECT NULLIF(email, 'a') IS NULL FROM customers", "select customers | P customers.email"),
        (
            "SELECT count(e) FROM (SELECT NULLIF(email, 'a') AS e FROM customers) c",
            "select customers | P customers.email",
        ),
        (
            "SELECT count(mail) FROM customer_mail",
            "select customer_mail | P customer_mail.mail customers.email",
        ),
        (
            "INSERT INTO notes (id) SELECT count(email) FROM customers",
            "select customers, insert notes | M customers.email | W notes.id",
        ),
    ]);
}

#[test]
fn what_is_shown_beside_a_constant_is_noted() {
    let catalogue = super::shop();
    for (text, noted) in [
        ("SELECT email, name FROM customers WHERE id = 7", ""),
        ("SELECT 'a', email FROM customers LIMIT 5", ""),
        ("SELECT email = 'a' FROM customers", "email"),
        ("SELECT name, (email, $1) FROM customers", "email"),
        ("SELECT coalesce(lower(email), 'a') AS x, ssn FROM customers", "email"),
        ("SELECT CASE WHEN email LIKE 'a%' THEN 1 END FROM customers", "email"),
        ("SELECT x FROM (SELECT email || 'a' AS x FROM customers) AS s", "email"),
        ("VALUES ((SELECT email FROM customers)), ('a')", ""),
        ("UPDATE customers SET name = 'a' WHERE id = 1 RETURNING email", ""),
    ] {
        let statements = read(text, &catalogue).unwrap();
        let names: Vec<&str> =
            statements[0].beside_constants.iter().map(|column| column.column.as_str()).collect();
        assert_eq!(names.join(" "), noted, "{text}");
    }
}
