-- Q3, shipping priority. Changed: l_orderkey is not in the output and not a key, since each order is one customer's; what is
-- left is the revenue of all such orders of a day.
select
    sum(l_extendedprice * (1 - l_discount)) as revenue,
    o_orderdate,
    o_shippriority
from
    tpch.customer,
    tpch.orders,
    tpch.lineitem
where
    c_mktsegment = 'BUILDING'
    and c_custkey = o_custkey
    and l_orderkey = o_orderkey
    and o_orderdate < date '1995-03-15'
    and l_shipdate > date '1995-03-15'
group by
    o_orderdate,
    o_shippriority
order by
    revenue desc,
    o_orderdate
limit 10
