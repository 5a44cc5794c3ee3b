//! A PostgreSQL for tests: a schema of its own for each.

use sqlx::{ConnectOptions, Executor};

/// The variable that names a PostgreSQL in which tests may make schemas.
const SERVER: &str = "TOLLGATE_TEST_POSTGRES";

/// The address of a new schema for a test.
pub async fn schema(test: &str) -> String {
    let server = std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} names no server: run the tests with `./test`, which starts one, or set it to one that tests may make \
             schemas in")
    });
    let schema = format!("t_{}", &blake3::hash(format!("{test} {}", std::process::id()).as_bytes()).to_hex()[..24]);
    let options: sqlx::postgres::PgConnectOptions = server.parse().expect("an address");
    let mut connection = options.connect().await.expect("a connection");
    let fresh = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    connection.execute(sqlx::AssertSqlSafe(fresh)).await.expect("a schema");
    let joint = if server.contains('?') { '&' } else { '?' };
    format!("{server}{joint}options=-c%20search_path%3D{schema}")
}

/// Runs statements in a test's schema, as somebody who may do anything there.
pub async fn execute(url: &str, statements: &'static str) {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("an address");
    options.connect().await.expect("a connection").execute(statements).await.expect("done");
}
