//! One SELECT statement, of bounded size, or a refusal.

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use thiserror::Error;

use crate::policy::DatasetName;

/// How large a statement may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of text.
    pub max_bytes: usize,
    /// Keywords and operators: what makes a plan deep. A flat OR of 20,000 terms overflows the engine's stack.
    pub max_operators: usize,
    /// Nested parentheses and subqueries.
    pub max_depth: usize,
    /// References to CTEs beyond the first to each: the engine copies a CTE into every place that names it, so each
    /// may double the plan.
    pub max_cte_copies: usize,
    /// `||` operators: each may double a text.
    pub max_concatenations: usize,
    /// Calls of `coalesce` and its like within one another: each becomes a CASE that names its argument twice.
    pub max_nested_coalesces: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 65_536,
            max_operators: 1_000,
            max_depth: 50,
            max_cte_copies: 6,
            max_concatenations: 8,
            max_nested_coalesces: 6,
        }
    }
}

/// Why a text is not a query.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// The parser's own words: they quote the text, which is the asker's.
    #[error("the SQL cannot be read: {0}")]
    Syntax(String),
    /// Longer than `max_bytes`.
    #[error("the statement has {bytes} bytes; at most {max} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More operators than `max_operators`.
    #[error("the statement has more than {max} keywords and operators; write a long OR as `x IN (...)`")]
    TooComplex {
        /// The limit.
        max: usize,
    },
    /// More than `max_cte_copies`.
    #[error("CTEs are named more than {max} times beyond once each; each time copies the whole CTE")]
    CteCopies {
        /// The limit.
        max: usize,
    },
    /// More than `max_concatenations`.
    #[error("the statement has more than {max} `||` operators")]
    Concatenations {
        /// The limit.
        max: usize,
    },
    /// More than `max_nested_coalesces`.
    #[error("coalesce stands within itself more than {max} times")]
    Coalesces {
        /// The limit.
        max: usize,
    },
    /// `TABLESAMPLE`, which the engine would pass over.
    #[error("TABLESAMPLE is not answered: every row counts, bounded and noised")]
    Sample,
    /// A placeholder for a value, such as `$1`.
    #[error("the statement has placeholders; write the values themselves")]
    Placeholder,
    /// No statement, or several.
    #[error("exactly one statement is answered at a time; {found} were sent")]
    NotOne {
        /// How many were sent.
        found: usize,
    },
    /// Not a SELECT.
    #[error("only SELECT is answered; `{0}` is not")]
    NotSelect(String),
    /// A table name that is not `owner.name`.
    #[error("`{0}` is not the name of a dataset; datasets are named owner.name")]
    TableName(String),
}

/// One SELECT statement.
#[derive(Debug)]
pub struct Parsed {
    statement: Statement,
    tables: Vec<DatasetName>,
    explain: bool,
}

impl Parsed {
    pub(super) fn into_statement(self) -> Statement {
        self.statement
    }

    /// Whether it is `EXPLAIN PRIVACY` of the SELECT: its plan and price are asked for, and no answer.
    #[must_use]
    pub const fn is_explain(&self) -> bool {
        self.explain
    }

    /// The datasets that it names; whether they exist is not known here.
    #[must_use]
    pub fn tables(&self) -> &[DatasetName] {
        &self.tables
    }
}

/// Reads one SELECT.
///
/// # Errors
/// When the text is too large, is not SQL, or is anything but one SELECT.
pub fn parse(sql: &str, limits: Limits) -> Result<Parsed, ParseError> {
    if sql.len() > limits.max_bytes {
        return Err(ParseError::TooLong { bytes: sql.len(), max: limits.max_bytes });
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize().map_err(|error| ParseError::Syntax(error.to_string()))?;
    if tokens.iter().filter(|token| makes_depth(token)).count() > limits.max_operators {
        return Err(ParseError::TooComplex { max: limits.max_operators });
    }
    if nested_coalesces(&tokens) > limits.max_nested_coalesces {
        return Err(ParseError::Coalesces { max: limits.max_nested_coalesces });
    }
    if tokens.iter().filter(|token| matches!(token, Token::StringConcat)).count() > limits.max_concatenations {
        return Err(ParseError::Concatenations { max: limits.max_concatenations });
    }
    if tokens.iter().any(|token| matches!(token, Token::Placeholder(_))) {
        return Err(ParseError::Placeholder);
    }
    let (explain, sql) = explained(sql).map_or((false, sql), |explained| (true, explained));
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(limits.max_depth)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| ParseError::Syntax(first_line(&error.to_string())))?;
    let found = statements.len();
    let (Some(statement), 1) = (statements.pop_front(), found) else {
        return Err(ParseError::NotOne { found });
    };
    match &statement {
        Statement::Statement(inner) if matches!(inner.as_ref(), ast::Statement::Query(_)) => {}
        other => return Err(ParseError::NotSelect(first_words(&other.to_string()))),
    }
    if let Statement::Statement(inner) = &statement
        && cte_copies(inner) > limits.max_cte_copies
    {
        return Err(ParseError::CteCopies { max: limits.max_cte_copies });
    }
    if tokens.iter().any(|token| {
        matches!(token, Token::Word(word) if word.keyword == datafusion::sql::sqlparser::keywords::Keyword::TABLESAMPLE)
    }) {
        return Err(ParseError::Sample);
    }
    let (references, _ctes) = resolve_table_references(&statement, true)
        .map_err(|error| ParseError::Syntax(first_line(&error.to_string())))?;
    let tables = references
        .iter()
        .map(|reference| {
            reference
                .schema()
                .filter(|_| reference.catalog().is_none())
                .and_then(|owner| DatasetName::new(owner, reference.table()).ok())
                .ok_or_else(|| ParseError::TableName(reference.to_string()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Parsed { statement, tables, explain })
}

/// A statement's text without the semicolons, comments and blanks behind it, so that it can stand within another. `None` of a
/// text that has no statement.
#[must_use]
pub fn body(sql: &str) -> Option<&str> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().ok()?;
    let behind = |token: &Token| matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let end = tokens.iter().rfind(|token| !behind(&token.token))?.span.end;
    // The tokenizer counts lines, and characters within them, from 1.
    let (mut line, mut column) = (1, 1);
    let rest = sql.char_indices().find(|(_, c)| {
        let found = (line, column) == (end.line, end.column);
        (line, column) = if *c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        found
    });
    sql.get(..rest.map_or(sql.len(), |(at, _)| at))
}

/// How often CTEs are named beyond once each. A dataset's name has two parts, so a name of one part is a CTE's.
fn cte_copies(statement: &ast::Statement) -> usize {
    let mut named = 0;
    let mut distinct = std::collections::BTreeSet::new();
    let _ = ast::visit_relations(statement, |relation: &ast::ObjectName| {
        if relation.0.len() == 1 {
            named += 1;
            distinct.insert(relation.to_string());
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    named - distinct.len()
}

/// What stands behind `EXPLAIN PRIVACY`.
fn explained(sql: &str) -> Option<&str> {
    let word = |text: &'_ str, word: &str| -> Option<usize> {
        let start = text.len() - text.trim_start().len();
        let found = text.get(start..start + word.len())?.eq_ignore_ascii_case(word);
        let end = start + word.len();
        (found && text[end..].starts_with(char::is_whitespace)).then_some(end)
    };
    let rest = &sql[word(sql, "explain")?..];
    Some(&rest[word(rest, "privacy")?..])
}

/// How deep calls of `coalesce` and its like stand within one another.
fn nested_coalesces(tokens: &[Token]) -> usize {
    let is_coalesce = |token: &Token| {
        matches!(token, Token::Word(word)
            if ["coalesce", "nvl", "nvl2", "ifnull"].iter().any(|name| word.value.eq_ignore_ascii_case(name)))
    };
    let mut open: Vec<bool> = Vec::new();
    let (mut deepest, mut named) = (0, false);
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        match token {
            Token::LParen => {
                open.push(named);
                deepest = deepest.max(open.iter().filter(|coalesce| **coalesce).count());
            }
            Token::RParen => drop(open.pop()),
            _ => {}
        }
        named = is_coalesce(token);
    }
    deepest
}

fn makes_depth(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != datafusion::sql::sqlparser::keywords::Keyword::NoKeyword,
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Number(..)
        | Token::SingleQuotedString(_) => false,
        _ => true,
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn first_words(statement: &str) -> String {
    statement.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
