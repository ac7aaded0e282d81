//! What a question may say: one `SELECT` over the tables that are offered, in which every table,
//! function, operator and type is one of a list. Everything else is refused by name.
//!
//! The engine's own rules are no fence here: the site's user owns every table, and PostgreSQL has
//! functions that run text. So the question is parsed, held against the lists, and what is asked is
//! written anew from what was understood; the two readers can never see two questions.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, Ident, ObjectName, Query, SetExpr, Statement,
    TableAlias, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use sqlparser::dialect::{PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::super::dialect::Dialect;
use super::offered::{self, OFFERED};
use super::{QUERY_BYTES_MAX, QueryError};

/// Words and signs in one question: a page of SQL. It bounds how deep a question can nest, with
/// [`STACK_BYTES`].
pub const QUERY_WORDS_MAX: usize = 4_000;
/// The stack on which a question is read: more than 8 KiB for each of its words.
const STACK_BYTES: usize = 64 << 20;
/// Names of a question's own `WITH` tables begin with this where it is asked, and no table of the
/// site does: outside of its scope such a name means nothing instead of something else.
const OWN: &str = "q_";

/// Functions that a question may call; none of them runs text, waits, or looks outside.
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "ceil",
    "ceiling",
    "coalesce",
    "count",
    "dense_rank",
    "first_value",
    "floor",
    "greatest",
    "group_concat",
    "ifnull",
    "instr",
    "json_array_length",
    "json_extract",
    "lag",
    "last_value",
    "lead",
    "least",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "nullif",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "string_agg",
    "strpos",
    "substr",
    "substring",
    "sum",
    "total",
    "trim",
    "upper",
];

/// The question as it is asked.
pub(super) fn checked(text: &str, dialect: Dialect) -> Result<String, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError::TooLong);
    }
    std::thread::scope(|scope| {
        let read = std::thread::Builder::new().stack_size(STACK_BYTES);
        let read = read.spawn_scoped(scope, || rewritten(text, dialect));
        let read = read.map_err(QueryError::NoThread)?;
        read.join().unwrap_or_else(|_| Err(refused("it cannot be read")))
    })
}

fn rewritten(text: &str, dialect: Dialect) -> Result<String, QueryError> {
    let mut query = parsed(text, dialect)?;
    let mut fence = Fence { dialect, own: BTreeSet::new() };
    let mut names = Names(&mut fence.own);
    if let ControlFlow::Break(why) = query.visit(&mut names) {
        return Err(refused(why));
    }
    match query.visit(&mut fence) {
        ControlFlow::Break(why) => Err(refused(why)),
        ControlFlow::Continue(()) => Ok(query.to_string()),
    }
}

fn parsed(text: &str, dialect: Dialect) -> Result<Box<Query>, QueryError> {
    let dialect: &dyn sqlparser::dialect::Dialect = match dialect {
        Dialect::Lite => &SQLiteDialect {},
        Dialect::Pg => &PostgreSqlDialect {},
    };
    let words = Tokenizer::new(dialect, text).tokenize_with_location();
    let words = words.map_err(|why| refused(why.to_string()))?;
    let count = words.iter().filter(|one| !matches!(one.token, Token::Whitespace(_))).count();
    if count > QUERY_WORDS_MAX {
        return Err(QueryError::TooManyWords(count));
    }
    let parsed = Parser::new(dialect).with_tokens_with_locations(words).parse_statements();
    let mut parsed = parsed.map_err(|why| refused(why.to_string()))?;
    match (parsed.pop(), parsed.is_empty()) {
        (Some(Statement::Query(query)), true) => Ok(query),
        _ => Err(QueryError::NotAQuestion),
    }
}

fn refused(why: impl Into<String>) -> QueryError {
    QueryError::Refused(why.into())
}

/// Gathers the names of the question's own `WITH` tables.
struct Names<'a>(&'a mut BTreeSet<String>);

impl VisitorMut for Names<'_> {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            let name = table.alias.name.value.to_lowercase();
            if offered::find(&name).is_some() {
                return no(format!("`{name}` is a table of the site; call yours otherwise"));
            }
            table.alias.name = own(&name);
            self.0.insert(name);
        }
        ControlFlow::Continue(())
    }
}

fn own(name: &str) -> Ident {
    Ident::with_quote('"', format!("{OWN}{name}"))
}

fn no(why: impl Into<String>) -> ControlFlow<String> {
    ControlFlow::Break(why.into())
}

/// Lets through what is on the lists, and puts each offered table's selection in its place.
struct Fence {
    dialect: Dialect,
    own: BTreeSet<String>,
}

impl VisitorMut for Fence {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        let plain = query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        match plain && only_reads(&query.body) {
            true => ControlFlow::Continue(()),
            false => no("a question only selects: no `into`, `for update`, `table` or change"),
        }
    }

    /// Afterwards, so that what is put in is not looked at again.
    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<String> {
        match table {
            TableFactor::Derived { sample: None, .. } | TableFactor::NestedJoin { .. } => {}
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let Some(called) = plain(name).cloned() else {
                    return no(format!("`{name}` is no table here; {}", known()));
                };
                let meant = called.value.to_lowercase();
                let alias = alias.take().unwrap_or_else(|| alias_of(called));
                match self.own.contains(&meant) {
                    true => *table = own_table(&meant, alias),
                    false => match self.selected(&meant, alias) {
                        Ok(selected) => *table = selected,
                        Err(why) => return no(why),
                    },
                }
            }
            other => return no(format!("`{other}` is no table here; {}", known())),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_ident(&mut self, ident: &mut Ident) -> ControlFlow<String> {
        match ident.quote_style {
            None | Some('"') => ControlFlow::Continue(()),
            Some(_) => no(format!("{ident}: a name is quoted with \"")),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match is_allowed(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => no(why),
        }
    }
}

impl Fence {
    /// The selection that an offered table stands for.
    fn selected(&self, name: &str, alias: TableAlias) -> Result<TableFactor, String> {
        let found = offered::find(name);
        let found = found.ok_or_else(|| format!("`{name}` is no table here; {}", known()))?;
        let selection = parsed(&found.selection(self.dialect), self.dialect);
        let subquery = selection.map_err(|why| why.to_string())?;
        Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
    }
}

/// A table of the question's own `WITH`.
fn own_table(name: &str, alias: TableAlias) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![own(name)]),
        alias: Some(alias),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

fn alias_of(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// A name of one part.
fn plain(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [one] => one.as_ident(),
        _ => None,
    }
}

fn known() -> String {
    let names: Vec<&str> = OFFERED.iter().map(|one| one.name).collect();
    format!("there are {}", names.join(", "))
}

/// Whether a query's body selects and does nothing else. Queries inside of it are visited on their own.
fn only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::SetOperation { left, right, .. } => only_reads(left) && only_reads(right),
        SetExpr::Query(_) | SetExpr::Values(_) => true,
        _ => false,
    }
}

fn is_allowed(expr: &Expr) -> Result<(), String> {
    let fits = match expr {
        Expr::Function(function) => return function_allowed(function),
        Expr::BinaryOp { op, .. } => operator_allowed(op),
        Expr::UnaryOp { op, .. } => {
            matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not)
        }
        Expr::Cast { data_type, .. } => type_allowed(data_type),
        Expr::Value(value) => matches!(
            value.value,
            Value::Number(..) | Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null
        ),
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Nested(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("`{expr}` is nothing that a question may say")) }
}

fn function_allowed(function: &Function) -> Result<(), String> {
    let name = plain(&function.name).map(|name| name.value.to_lowercase());
    match name.is_some_and(|name| FUNCTIONS.contains(&name.as_str())) {
        true => Ok(()),
        false => {
            let (name, known) = (&function.name, FUNCTIONS.join(", "));
            Err(format!("`{name}` is no function here; there are {known}"))
        }
    }
}

fn operator_allowed(operator: &BinaryOperator) -> bool {
    use BinaryOperator::{
        And, Arrow, Divide, Eq, Gt, GtEq, LongArrow, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Or,
        Plus, StringConcat,
    };
    matches!(
        operator,
        And | Or
            | Eq
            | NotEq
            | Lt
            | LtEq
            | Gt
            | GtEq
            | Plus
            | Minus
            | Multiply
            | Divide
            | Modulo
            | StringConcat
            | Arrow
            | LongArrow
    )
}

fn type_allowed(data_type: &DataType) -> bool {
    use DataType::{BigInt, Boolean, DoublePrecision, Int, Integer, Numeric, Real, Text, Varchar};
    matches!(
        data_type,
        Text | Varchar(_)
            | Int(_)
            | Integer(_)
            | BigInt(_)
            | Real
            | DoublePrecision
            | Numeric(_)
            | Boolean
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, is_question: bool) {
        for dialect in [Dialect::Lite, Dialect::Pg] {
            let found = checked(text, dialect);
            assert_eq!(found.is_ok(), is_question, "{text:.100}: {found:?}");
        }
    }

    #[test]
    fn one_question_over_what_is_offered_is_asked() {
        check("select 1", true);
        check("  SELECT ';' ; ", true);
        check("select count(*) from device -- note", true);
        check("values (1)", true);
        check("with a as (select id from DEVICE d where d.name like 'x%') select * from a", true);
        check("select device.name from device join member m on m.device = device.id", true);
        check(
            "select state, count(*) from obligation group by state order by 2 desc limit 3",
            true,
        );
        check(
            "select body ->> 'code' from message where received > '2027' or code in (1, 2)",
            true,
        );
        check("select name from device union all (select name from package)", true);
        check("select row_number() over (partition by os order by name) from device", true);
        check("select case when os = 'linux' then 1 else 0 end from device", true);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        check("", false);
        check("delete from device", false);
        check("select 1; delete from device", false);
        check("selection", false);
        check("with gone as (delete from device returning id) select * from gone", false);
        check("select * into mine from device", false);
        check("select * from device for update", false);
        check("explain select 1", false);
        check(&format!("select '{}'", "x".repeat(QUERY_BYTES_MAX)), false);
    }

    #[test]
    fn tables_that_are_not_offered_are_refused_however_they_are_named() {
        for table in [
            "principal",
            "trust_document",
            "schema",
            "sqlite_schema",
            "sqlite_master",
            "pg_authid",
            "pg_stat_activity",
            "main.token",
            "public.token",
            "\"main\".token",
            "object",
            "pragma_table_info('token')",
            "generate_series(1, 9)",
            "pg_read_file('x')",
            "information_schema.tables",
        ] {
            check(&format!("select * from {table}"), false);
            check(&format!("select 1 where exists (select * from device, {table} x)"), false);
            check(&format!("with a as (select * from {table}) select * from a"), false);
        }
        check("table token", false);
        check("select (table token)", false);
    }

    #[test]
    fn a_table_of_its_own_never_stands_for_one_of_the_site() {
        check("with token as (select 1) select * from token", false);
        check(
            "with recursive a as (select 1 n union all select n + 1 from a) select n from a",
            true,
        );
        // Out of its scope a name of its own means nothing, instead of the site's table.
        let text = "with a as (select * from principal), principal as (select 1) select * from a";
        let asked = checked(text, Dialect::Pg).unwrap();
        assert!(asked.contains("\"q_principal\"") && !asked.contains("FROM principal"), "{asked}");
    }

    #[test]
    fn functions_types_and_signs_that_reach_further_are_refused() {
        for said in [
            "query_to_xml('select secret from token', true, true, '')",
            "pg_read_file('/etc/passwd')",
            "set_config('role', 'none', false)",
            "pg_sleep(9)",
            "load_extension('x')",
            "pg_catalog.count(1)",
            "readfile('x')",
            "lo_get(1)",
            "version()",
            "'token'::regclass",
            "cast('x' as regclass)",
            "E'\\x'",
            "$$x$$",
            "$1",
            "1 OPERATOR(pg_catalog.+) 1",
            "array[1]",
            "(d).name",
        ] {
            check(&format!("select {said} from device d"), false);
            check(&format!("select 1 from device d where {said} is null"), false);
            check(&format!("select 1 from device d order by {said}"), false);
        }
    }

    #[test]
    fn a_question_that_nests_deep_is_refused_and_harms_nobody() {
        check(&format!("select 1{}", " + 1".repeat(QUERY_WORDS_MAX)), false);
        check(&format!("select 1{}", "+1".repeat(QUERY_WORDS_MAX / 2 - 2)), true);
        check(&format!("select {}1{}", "(".repeat(1_900), ")".repeat(1_900)), false);
    }
}
