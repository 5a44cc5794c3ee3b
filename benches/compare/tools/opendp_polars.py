"""OpenDP over Polars, from the file to the answer: its plans take a data frame but no scan of Parquet.

What it bounds: rows of a unit in a group (`truncate_per_group`) and groups of a unit (`truncate_num_groups`), as the workloads
say. Where keys are not given it selects groups by a threshold. `truncate_num_groups(k)` keeps k - 1 groups in this
version (its dense ranks begin at 1) and its default way to pick them fails, so that it is called with L0 + 1 and
`keep="first"`. It counts distinct units as the rows that are left of one a unit and group.
"""

import warnings

import opendp
import opendp.prelude as dp
import polars as pl
from importlib.metadata import version

from workloads import BOUNDS, DELTA, EPSILON, UNIT

dp.enable_features("contrib", "honest-but-curious")
warnings.filterwarnings("ignore", category=FutureWarning)

COLUMNS = {
    "W1": ["l_returnflag", "l_linestatus", "l_quantity", "l_extendedprice"],
    "W2": ["n_name"],
    "W3": ["o_orderpriority", "l_shipmode"],
    "W4": ["n_name", "o_orderdate", "l_extendedprice", "l_discount"],
    "W5": ["l_extendedprice"],
    "W6": ["o_orderdate"],
}
# About the zCDP of ε = 1 and δ = 5e-8; the other half of δ selects groups.
RHO = 0.0155


def number(column):
    return pl.col(column).fill_null(0.0).fill_nan(0.0)


def open(workload, request):
    keys = list(workload.keys)

    def frame():
        read = pl.read_parquet(request["file"], columns=[UNIT, *COLUMNS[workload.name]])
        if workload.name == "W4":
            product = pl.col("l_extendedprice").clip(0.0, 100_000.0) * (1.0 - pl.col("l_discount").clip(0.0, 0.1))
            read = read.select(UNIT, "n_name", pl.col("o_orderdate").dt.year().alias("year"), product.alias("revenue"))
        return read.lazy()

    def ask():
        median = workload.name == "W5"
        context = dp.Context.compositor(
            data=frame(),
            privacy_unit=dp.unit_of(contributions=1, identifier=pl.col(UNIT)),
            privacy_loss=dp.loss_of(epsilon=EPSILON) if median else dp.loss_of(rho=RHO, delta=DELTA / 2),
            split_evenly_over=1,
            # Float sums must be told how long a group may be: the number of rows, which counts as public here.
            margins=[dp.polars.Margin(by=keys, max_length=request["rows"], max_groups=10_000)],
        )
        query = context.query()
        if median:
            low, high = BOUNDS["l_extendedprice"]
            candidates = [float(step) for step in range(int(low), int(high) + 1, 10)]
            query = query.truncate_per_group(workload.rows)
            return query.select(number("l_extendedprice").dp.median(candidates)).release().collect().rows()
        query = query.truncate_per_group(workload.rows, by=keys)
        query = query.truncate_num_groups(workload.groups + 1, by=keys, keep="first")
        wanted = {
            "W1": [number("l_quantity").dp.sum(BOUNDS["l_quantity"]), number("l_extendedprice").dp.mean(BOUNDS["l_extendedprice"])],
            "W4": [number("revenue").dp.sum((0.0, 100_000.0))],
        }
        released = query.group_by(keys).agg(dp.len(), *wanted.get(workload.name, [])).release().collect()
        # The count is what its selection of groups needs, whether it was asked for or not.
        return (released.drop("len") if workload.name == "W4" else released).rows()

    return f"{version('opendp')}, Polars {version('polars')}", ask
