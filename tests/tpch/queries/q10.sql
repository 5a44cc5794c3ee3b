-- Q10, returned item reporting. Changed: c_custkey, c_name, c_acctbal, c_phone, c_address and c_comment are not in the output
-- and not keys, since each is one customer's; what is left is the revenue that was lost in a nation.
select
    sum(l_extendedprice * (1 - l_discount)) as revenue,
    n_name
from
    tpch.customer,
    tpch.orders,
    tpch.lineitem,
    tpch.nation
where
    c_custkey = o_custkey
    and l_orderkey = o_orderkey
    and o_orderdate >= date '1993-10-01'
    and o_orderdate < date '1993-10-01' + interval '3' month
    and l_returnflag = 'R'
    and c_nationkey = n_nationkey
group by
    n_name
order by
    revenue desc
limit 20
