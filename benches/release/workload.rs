//! The six workloads, with a filter and a join beside them: what is asked, under which bounds, and the same bounds written by
//! hand in SQL.

use super::layout::Layout;

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// As the arguments have it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// How many columns of the answer are keys.
    pub keys: usize,
    /// L0: how many groups one unit may touch.
    pub groups: u32,
    /// r: how many rows of one unit count in a group.
    pub rows: u32,
    /// Narrower value bounds than the policy's.
    pub columns: &'static [(&'static str, [f64; 2])],
    sql: &'static str,
    by_hand: ByHand,
}

/// The parts of the two-level SQL.
#[derive(Debug, Clone, Copy)]
enum ByHand {
    Groups {
        keys: &'static [&'static str],
        /// How many keys there can be; `None` where that is not known, as more than L0 are then.
        domain: Option<u32>,
        /// What is computed for each unit and group, beside its number of rows `n`.
        per_unit: &'static str,
        /// What is computed of that for each group.
        outer: &'static str,
        from: &'static str,
        filter: &'static str,
    },
    Median,
}

/// All, in order.
pub const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "W1",
        title: "count, sum, avg by returnflag, linestatus",
        keys: 2,
        groups: 4,
        rows: 64,
        columns: &[],
        sql: "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), avg(l_extendedprice) FROM tpch.flat \
              GROUP BY l_returnflag, l_linestatus",
        by_hand: ByHand::Groups {
            keys: &["l_returnflag", "l_linestatus"],
            domain: Some(6),
            per_unit: "count(l_quantity) AS n1, sum(least(greatest(l_quantity, 0.0), 50.0)) AS s1, count(l_extendedprice) AS n2, \
                       sum(least(greatest(l_extendedprice, 0.0), 110000.0) - 55000.0) AS s2",
            outer: "sum(least(n, 64)), sum(s1 * least(1.0, 64.0 / n1)), \
                    55000.0 + sum(s2 * least(1.0, 64.0 / n2)) / sum(least(n2, 64))",
            from: "tpch.flat",
            filter: "",
        },
    },
    Workload {
        name: "W2",
        title: "count(distinct unit) by nation",
        keys: 1,
        groups: 1,
        rows: 1,
        columns: &[],
        sql: "SELECT n_name, count(DISTINCT {unit}) FROM tpch.flat GROUP BY n_name",
        by_hand: ByHand::Groups {
            keys: &["n_name"],
            domain: Some(25),
            per_unit: "",
            outer: "count(DISTINCT u0)",
            from: "tpch.flat",
            filter: "",
        },
    },
    Workload {
        name: "W3",
        title: "count by orderpriority, shipmode",
        keys: 2,
        groups: 35,
        rows: 8,
        columns: &[],
        sql: "SELECT o_orderpriority, l_shipmode, count(*) FROM tpch.flat GROUP BY o_orderpriority, l_shipmode",
        by_hand: ByHand::Groups {
            keys: &["o_orderpriority", "l_shipmode"],
            domain: Some(35),
            per_unit: "",
            outer: "sum(least(n, 8))",
            from: "tpch.flat",
            filter: "",
        },
    },
    Workload {
        name: "W4",
        title: "sum(price*(1-discount)) by nation, year",
        keys: 2,
        groups: 7,
        rows: 32,
        columns: &[("l_extendedprice", [0.0, 100_000.0])],
        sql: "SELECT n_name, date_part('year', o_orderdate), sum(l_extendedprice * (1 - l_discount)) FROM tpch.flat \
              GROUP BY n_name, date_part('year', o_orderdate)",
        by_hand: ByHand::Groups {
            keys: &["n_name", "date_part('year', o_orderdate)"],
            domain: None,
            per_unit: "count(l_extendedprice * l_discount) AS n1, sum(least(greatest(l_extendedprice, 0.0), 100000.0) * \
                       (1.0 - least(greatest(l_discount, 0.0), 0.1))) AS s1",
            outer: "sum(s1 * least(1.0, 32.0 / n1))",
            from: "tpch.flat",
            filter: "",
        },
    },
    Workload {
        name: "W5",
        title: "median(price)",
        keys: 0,
        groups: 1,
        rows: 128,
        columns: &[],
        sql: "SELECT median(l_extendedprice) FROM tpch.flat",
        by_hand: ByHand::Median,
    },
    Workload {
        name: "W6",
        title: "count by orderdate, groups selected",
        keys: 1,
        groups: 32,
        rows: 8,
        columns: &[],
        sql: "SELECT o_orderdate, count(*) FROM tpch.flat GROUP BY o_orderdate",
        by_hand: ByHand::Groups {
            keys: &["o_orderdate"],
            domain: None,
            per_unit: "",
            outer: "sum(least(n, 8))",
            from: "tpch.flat",
            filter: "",
        },
    },
    Workload {
        name: "filter",
        title: "W3 of lines of less than 25 pieces outside China",
        keys: 2,
        groups: 35,
        rows: 8,
        columns: &[],
        sql: "SELECT o_orderpriority, l_shipmode, count(*) FROM tpch.flat WHERE l_quantity < 25 AND n_name <> 'CHINA' \
              GROUP BY o_orderpriority, l_shipmode",
        by_hand: ByHand::Groups {
            keys: &["o_orderpriority", "l_shipmode"],
            domain: Some(35),
            per_unit: "",
            outer: "sum(least(n, 8))",
            from: "tpch.flat",
            filter: "l_quantity < 25 AND n_name <> 'CHINA'",
        },
    },
    Workload {
        name: "join",
        title: "count by region of a public table, shipmode",
        keys: 2,
        groups: 7,
        rows: 32,
        columns: &[],
        sql: "SELECT region, l_shipmode, count(*) FROM tpch.flat JOIN tpch.nations ON n_name = nation \
              GROUP BY region, l_shipmode",
        by_hand: ByHand::Groups {
            keys: &["region", "l_shipmode"],
            domain: None,
            per_unit: "",
            outer: "sum(least(n, 32))",
            from: "tpch.flat JOIN tpch.nations ON n_name = nation",
            filter: "",
        },
    },
];

impl Workload {
    /// The question, which is the same with privacy and without.
    pub fn sql(&self, layout: Layout) -> String {
        self.sql.replace("{unit}", layout.unit())
    }

    /// The two-level SQL: contributions of each unit to each group, at most L0 groups a unit, then the sums. It adds no noise. The
    /// groups of a unit are picked by `random()`, which costs less than a keyed hash does, and only where there
    /// can be more than L0.
    pub fn by_hand(&self, layout: Layout) -> String {
        let units =
            layout.unit_key().iter().enumerate().map(|(at, unit)| (format!("u{at}"), *unit)).collect::<Vec<_>>();
        let named = units.iter().map(|(name, unit)| format!("{unit} AS {name}")).collect::<Vec<_>>().join(", ");
        let unit_names = units.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let present = format!("{} IS NOT NULL", layout.unit());
        match self.by_hand {
            ByHand::Median => {
                let same =
                    units.iter().map(|(name, unit)| format!("{unit} = {name}")).collect::<Vec<_>>().join(" AND ");
                format!(
                    "WITH units AS (SELECT {named}, count(l_extendedprice) AS n FROM tpch.flat WHERE {present} \
                     GROUP BY {unit_names}), \
                     weighted AS (SELECT l_extendedprice AS price, sum(least(1.0, {}.0 / n)) AS weight \
                     FROM tpch.flat JOIN units ON {same} WHERE l_extendedprice IS NOT NULL GROUP BY l_extendedprice), \
                     running AS (SELECT price, sum(weight) OVER (ORDER BY price) AS below, sum(weight) OVER () AS total FROM weighted) \
                     SELECT min(price) FROM running WHERE below >= total / 2",
                    self.rows
                )
            }
            ByHand::Groups { keys, domain, per_unit, outer, from, filter } => {
                let key_names = (0..keys.len()).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ");
                let keys =
                    keys.iter().enumerate().map(|(at, key)| format!("{key} AS k{at}")).collect::<Vec<_>>().join(", ");
                let per_unit = if per_unit.is_empty() { String::new() } else { format!(", {per_unit}") };
                let filter = if filter.is_empty() { String::new() } else { format!(" AND {filter}") };
                let mut sql = format!(
                    "WITH contributed AS (SELECT {named}, {keys}, count(*) AS n{per_unit} FROM {from} WHERE {present}{filter} \
                     GROUP BY {unit_names}, {key_names})"
                );
                let mut of = "contributed";
                if domain.is_none_or(|domain| domain > self.groups) {
                    let placed = format!(
                        ", placed AS (SELECT *, row_number() OVER (PARTITION BY {unit_names} ORDER BY chance) AS place \
                         FROM (SELECT *, random() AS chance FROM contributed) AS drawn), \
                         kept AS (SELECT * FROM placed WHERE place <= {})",
                        self.groups
                    );
                    sql.push_str(&placed);
                    of = "kept";
                }
                sql + &format!(" SELECT {key_names}, {outer} FROM {of} GROUP BY {key_names} HAVING count(*) >= 10")
            }
        }
    }
}
