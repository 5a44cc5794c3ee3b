"""DuckDB, without any privacy, or with the bounds by hand in SQL; no noise in either."""

import duckdb


def connect(request):
    """A connection that sees the file under the name that the SQL has."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {request['threads']}")
    connection.execute(f"SET memory_limit = '{request['memory_mib']}MiB'")
    connection.execute("CREATE SCHEMA tpch")
    connection.execute(f"CREATE VIEW tpch.flat AS SELECT * FROM read_parquet('{request['file']}')")
    return connection


def open(workload, request):
    connection = connect(request)
    return duckdb.__version__, lambda: connection.execute(request["sql"]).fetchall()
