-- Q18, large volume customer. Changed: c_name, c_custkey, o_orderkey, o_orderdate and o_totalprice are not in the output and not
-- keys, since each row is one order; what is left is the quantity in all such orders, without ORDER BY and LIMIT. The
-- subquery groups by l_orderkey, of which each value names one customer (unit_key in the policy).
select
    sum(l_quantity)
from
    tpch.customer,
    tpch.orders,
    tpch.lineitem
where
    o_orderkey in (
        select
            l_orderkey
        from
            tpch.lineitem
        group by
            l_orderkey
        having
            sum(l_quantity) > 300
    )
    and c_custkey = o_custkey
    and o_orderkey = l_orderkey
