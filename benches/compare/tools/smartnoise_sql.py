"""SmartNoise SQL over DuckDB, which it takes for PostgreSQL: the fastest engine that it can be given here.

What it bounds: rows of a unit in all (`max_ids`, a sample of them), not groups or rows in a group. It adds Laplace and
Gaussian noise of floats, drops groups of few units, and bounds no sum over an expression: W4 is asked over a view that has
the product as a column, and the year. It knows no median. It refuses Laplace noise of a scale above ten million (and its Gaussian
noise finds none for these sums), so that fewer rows of a unit count in W1 and W4 than the workloads say.
"""

import snsql
from importlib.metadata import version
from snsql import Privacy, from_connection

from tools.duckdb_sql import connect
from workloads import BOUNDS, DELTA, EPSILON, TEXTS, UNIT, CannotSay

QUERIES = {
    "W1": "SELECT l_returnflag, l_linestatus, COUNT(*) AS n, SUM(l_quantity) AS s, AVG(l_extendedprice) AS a "
    "FROM tpch.seen GROUP BY l_returnflag, l_linestatus",
    "W2": "SELECT n_name, COUNT(DISTINCT o_custkey) AS n FROM tpch.seen GROUP BY n_name",
    "W3": "SELECT o_orderpriority, l_shipmode, COUNT(*) AS n FROM tpch.seen GROUP BY o_orderpriority, l_shipmode",
    "W4": "SELECT n_name, order_year, SUM(revenue) AS s FROM tpch.seen GROUP BY n_name, order_year",
    "W5": "SELECT MEDIAN(l_extendedprice) AS m FROM tpch.seen",
    "W6": "SELECT o_orderdate, COUNT(*) AS n FROM tpch.seen GROUP BY o_orderdate",
}

ROWS_IN_ALL = {"W1": 90, "W4": 99}


class Cursor:
    """A cursor that moves the random order of a window into the query below it, since DuckDB refuses it in the window."""

    def __init__(self, cursor):
        self.cursor = cursor

    def execute(self, sql):
        below = sql.replace(" FROM tpch.seen ) AS clamped", ", RANDOM() AS chance FROM tpch.seen ) AS clamped")
        self.cursor.execute(below.replace("ORDER BY RANDOM ( )", "ORDER BY chance"))

    @property
    def description(self):
        return self.cursor.description

    def __iter__(self):
        return iter(self.cursor.fetchall())

    def fetchall(self):
        return self.cursor.fetchall()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass


class Connection:
    """What the PostgreSQL reader calls on a connection."""

    def __init__(self, connection):
        self.connection = connection

    def cursor(self):
        return Cursor(self.connection.cursor())

    def commit(self):
        pass

    def rollback(self):
        pass


def open(workload, request):
    if workload.name == "W5":
        raise CannotSay("no median or quantile")
    connection = connect(request)
    connection.execute(
        "CREATE VIEW tpch.seen AS SELECT *, year(o_orderdate) AS order_year, "
        "least(greatest(l_extendedprice, 0), 100000) * (1 - least(greatest(l_discount, 0), 0.1)) AS revenue FROM tpch.flat"
    )
    limits = BOUNDS | {"revenue": (0.0, 100_000.0)}
    table = {
        "row_privacy": False,
        "max_ids": ROWS_IN_ALL.get(workload.name, workload.rows_in_all),
        "sample_max_ids": True,
        "censor_dims": True,
        "clamp_counts": False,
        "clamp_columns": True,
        "rows": request["rows"],
        UNIT: {"type": "int", "private_id": True},
        "o_orderdate": {"type": "datetime"},
        "order_year": {"type": "int"},
    }
    table |= {name: {"type": "string"} for name in TEXTS}
    table |= {name: {"type": "float", "lower": low, "upper": high} for name, (low, high) in limits.items()}
    metadata = {"": {"tpch": {"seen": table}}}

    def ask():
        privacy = Privacy(epsilon=EPSILON, delta=DELTA)
        reader = from_connection(Connection(connection), engine="postgres", privacy=privacy, metadata=metadata)
        return reader.execute(QUERIES[workload.name])[1:]

    return f"{version('smartnoise-sql')} over DuckDB {version('duckdb')}", ask
