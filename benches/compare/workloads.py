"""What the tools must know of the six workloads: keys, bounds, and what is public."""

from dataclasses import dataclass

EPSILON, DELTA = 1.0, 1e-7
UNIT = "o_custkey"
BOUNDS = {"l_quantity": (0.0, 50.0), "l_extendedprice": (0.0, 110_000.0), "l_discount": (0.0, 0.1)}
TEXTS = {
    "l_returnflag": ["A", "N", "R"],
    "l_linestatus": ["F", "O"],
    "l_shipmode": ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"],
    "o_orderpriority": ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"],
    "n_name": [
        "ALGERIA", "ARGENTINA", "BRAZIL", "CANADA", "CHINA", "EGYPT", "ETHIOPIA", "FRANCE", "GERMANY", "INDIA", "INDONESIA",
        "IRAN", "IRAQ", "JAPAN", "JORDAN", "KENYA", "MOROCCO", "MOZAMBIQUE", "PERU", "ROMANIA", "RUSSIA", "SAUDI ARABIA",
        "UNITED KINGDOM", "UNITED STATES", "VIETNAM",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """One workload: how many columns of its answer are keys, groups a unit (L0), rows a unit and group (r)."""

    name: str
    keys: tuple[str, ...]
    groups: int
    rows: int

    @property
    def rows_in_all(self) -> int:
        """The most rows of a unit that count, for tools which bound no more than that."""
        return self.groups * self.rows


WORKLOADS = {
    workload.name: workload
    for workload in [
        Workload("W1", ("l_returnflag", "l_linestatus"), 4, 64),
        Workload("W2", ("n_name",), 1, 1),
        Workload("W3", ("o_orderpriority", "l_shipmode"), 35, 8),
        Workload("W4", ("n_name", "year"), 7, 32),
        Workload("W5", (), 1, 128),
        Workload("W6", ("o_orderdate",), 32, 8),
    ]
}


class CannotSay(Exception):
    """The tool has no way to ask this."""
