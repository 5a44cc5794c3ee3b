//! Why a query has no private answer, and how to write one that has.

use std::fmt;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::Dialect;

/// What kind of refusal it is; the gateway maps it to a code that callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// As it is written, the query cannot be answered privately.
    NotPrivate,
    /// A policy forbids what the query does with a column.
    NotAllowed,
    /// More groups than are answered at once.
    TooLarge,
    /// A parameter beside the SQL is out of range.
    Request,
    /// The plan did not have the shape that was expected of it: a fault of the analysis, never an answer.
    Internal,
}

/// A refusal: made of the query's own text and of policies, never of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: RefusalKind,
    /// Which clause, and why.
    pub detail: String,
    /// A rewrite that works, or what else to do.
    pub hint: Option<String>,
    /// Where the clause begins in the SQL, from line 1 and column 1.
    pub position: Option<(u64, u64)>,
}

impl Refusal {
    pub(crate) fn not_private(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotPrivate, detail: detail.into(), hint: Some(hint.into()), position: None }
    }

    pub(crate) fn not_allowed(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotAllowed, detail: detail.into(), hint: Some(hint.into()), position: None }
    }

    pub(crate) fn too_large(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::TooLarge, detail: detail.into(), hint: Some(hint.into()), position: None }
    }

    pub(crate) fn request(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Request, detail: detail.into(), hint: Some(hint.into()), position: None }
    }
}

impl Refusal {
    /// The same with the place in the SQL of the clause that it quotes first, if the plan has it.
    pub(super) fn located(self, plan: &LogicalPlan) -> Self {
        let Some(clause) = self.detail.split('`').nth(1).map(str::to_owned) else { return self };
        let mut position = None;
        let _ = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    if shown(part) == clause
                        && let Some(first) = first_place(part)
                    {
                        position = Some(first);
                        return Ok(TreeNodeRecursion::Stop);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        Self { position, ..self }
    }
}

/// Where the first column of an expression stands in the SQL.
fn first_place(expr: &Expr) -> Option<(u64, u64)> {
    let starts = expr.column_refs().into_iter().filter_map(|column| column.spans.first()).map(|span| span.start);
    starts.map(|start| (start.line, start.column)).filter(|(line, _)| *line > 0).min()
}

/// SQL in which the names that need it are quoted. The unparser's own dialect compiles a regular expression for each name.
struct Plain;

impl Dialect for Plain {
    fn identifier_quote_style(&self, name: &str) -> Option<char> {
        let is_plain = |at: usize, c: char| c == '_' || c.is_ascii_lowercase() || (at > 0 && c.is_ascii_digit());
        let is_keyword = || name != "id" && ALL_KEYWORDS.binary_search(&name.to_uppercase().as_str()).is_ok();
        let is_bare = !name.is_empty() && name.chars().enumerate().all(|(at, c)| is_plain(at, c)) && !is_keyword();
        (!is_bare).then_some('"')
    }
}

/// An expression as SQL, for a message: without the casts that the engine adds, and without the names that it makes up.
pub(super) fn shown(expr: &Expr) -> String {
    let expr = match expr {
        Expr::Alias(alias) => return shown(&alias.expr),
        Expr::Cast(cast) if !matches!(cast.expr.as_ref(), Expr::Literal(..)) => return shown(&cast.expr),
        other => other.clone(),
    };
    let uncast = expr
        .transform_up(|part| {
            Ok(match part {
                Expr::Cast(cast) if matches!(cast.expr.as_ref(), Expr::Column(_)) => Transformed::yes(*cast.expr),
                other => Transformed::no(other),
            })
        })
        .map(|transformed| transformed.data);
    let Ok(expr) = uncast else { return "this expression".to_owned() };
    let text = Unparser::new(&Plain).expr_to_sql(&expr).map_or_else(|_| expr.to_string(), |sql| sql.to_string());
    // DataFusion names what it makes of a subquery by numbers.
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("__") {
        clean.push_str(rest[..at].trim_end_matches('"'));
        let name: String = rest[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        clean.push_str("subquery");
        rest = rest[at + name.len()..].trim_start_matches('"');
    }
    clean.push_str(rest);
    clean
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refusal {}

impl From<datafusion::common::DataFusionError> for Refusal {
    /// Rebuilding a plan that DataFusion itself made should not fail. The error names columns of the plan, no data.
    fn from(error: datafusion::common::DataFusionError) -> Self {
        Self { kind: RefusalKind::Internal, detail: error.strip_backtrace(), hint: None, position: None }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::unparser::dialect::DefaultDialect;

    use super::{ALL_KEYWORDS, Dialect, Plain};

    /// Names are quoted as the engine's own unparser would.
    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        let keywords = ALL_KEYWORDS.iter().map(|keyword| keyword.to_lowercase());
        let others = ["", "A", "aB", "1a", "a1", "_", "_1", "é", "id", "a b", "a\"b", "amount"].map(str::to_owned);
        for name in keywords.chain(others) {
            let expected = DefaultDialect {}.identifier_quote_style(&name);
            assert_eq!(Plain.identifier_quote_style(&name), expected, "{name}");
        }
    }
}
