"""Qrlew, which rewrites SQL, over DuckDB.

What it bounds: the norm of a unit's contribution to each group, scaled over rows of a unit in all (`max_multiplicity`), and
groups of a unit where keys are selected (`max_privacy_unit_groups`). Keys of a known set of values are public. It adds Gaussian
noise of floats. It knows no median and counts distinct units as rows.
"""

import json
from importlib.metadata import version

import pyqrlew as qrlew
import sqlalchemy

from tools.duckdb_sql import connect
from workloads import BOUNDS, DELTA, EPSILON, TEXTS, UNIT, CannotSay

QUERIES = {
    "W1": "SELECT l_returnflag, l_linestatus, COUNT(*) AS n, SUM(l_quantity) AS s, AVG(l_extendedprice) AS a FROM flat "
    "GROUP BY l_returnflag, l_linestatus",
    "W2": "SELECT n_name, COUNT(DISTINCT o_custkey) AS n FROM flat GROUP BY n_name",
    "W3": "SELECT o_orderpriority, l_shipmode, COUNT(*) AS n FROM flat GROUP BY o_orderpriority, l_shipmode",
    "W4": "SELECT n_name, EXTRACT(YEAR FROM o_orderdate) AS y, SUM(l_extendedprice * (1 - l_discount)) AS s FROM flat "
    "GROUP BY n_name, EXTRACT(YEAR FROM o_orderdate)",
    "W6": "SELECT o_orderdate, COUNT(*) AS n FROM flat GROUP BY o_orderdate",
}


def dataset(rows: int):
    """The schema, with its bounds and its public keys. It is read from an empty table, into which the number of rows is put:
    with none, everything is scaled to nothing."""
    engine = sqlalchemy.create_engine("sqlite://")
    columns = [sqlalchemy.Column(UNIT, sqlalchemy.BigInteger), sqlalchemy.Column("o_orderdate", sqlalchemy.Date)]
    columns += [sqlalchemy.Column(name, sqlalchemy.String) for name in TEXTS]
    columns += [sqlalchemy.Column(name, sqlalchemy.Float) for name in BOUNDS]
    metadata = sqlalchemy.MetaData()
    sqlalchemy.Table("flat", metadata, *columns)
    metadata.create_all(engine)
    found = qrlew.Dataset.from_database(name="tpch", engine=engine)
    size = json.loads(found.size)
    size["statistics"]["union"]["fields"][0]["statistics"]["struct"]["size"] = str(rows)
    described = str(found).split("Dataset: ", 1)[1].split("\n", 1)[0]
    found = qrlew.Dataset.from_str(described, found.schema, json.dumps(size))
    for name, (low, high) in BOUNDS.items():
        found = found.with_range(None, "flat", name, low, high)
    for name, values in TEXTS.items():
        found = found.with_possible_values(None, "flat", name, values)
    return found


def open(workload, request):
    if workload.name not in QUERIES:
        raise CannotSay("no median or quantile: its parser panics")
    connection = connect(request)
    connection.execute("CREATE VIEW flat AS SELECT * FROM tpch.flat")
    tables = dataset(request["rows"])

    def ask():
        rewritten = tables.relation(QUERIES[workload.name]).rewrite_with_differential_privacy(
            tables,
            [("flat", [], UNIT)],
            {"epsilon": EPSILON, "delta": DELTA},
            max_multiplicity=float(workload.rows_in_all),
            max_multiplicity_share=1.0,
            max_privacy_unit_groups=workload.groups,
        )
        return connection.execute(rewritten.relation().to_query()).fetchall()

    return f"{version('pyqrlew')} over DuckDB {version('duckdb')}", ask
