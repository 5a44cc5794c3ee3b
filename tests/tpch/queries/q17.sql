-- Q17, small-quantity-order revenue. NOT ANSWERED, and unchanged: the subquery over lineitem is correlated on the part, which
-- is not the unit (DESIGN 4.1). It is answered when the average of each part is a derived table, and so a release of its own:
--   from tpch.lineitem, tpch.part, (select l_partkey as k, 0.2 * avg(l_quantity) as q from tpch.lineitem group by l_partkey) as a
--   where p_partkey = l_partkey and k = l_partkey and ... and l_quantity < q
select
    sum(l_extendedprice) / 7.0 as avg_yearly
from
    tpch.lineitem,
    tpch.part
where
    p_partkey = l_partkey
    and p_brand = 'Brand#23'
    and p_container = 'MED BOX'
    and l_quantity < (
        select
            0.2 * avg(l_quantity)
        from
            tpch.lineitem
        where
            l_partkey = p_partkey
    )
