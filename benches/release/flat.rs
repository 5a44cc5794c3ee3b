//! The flat table: lineitem ⋈ orders ⋈ customer ⋈ nation, straight from TPC-H's generators, in their order and in memory that
//! does not grow with the scale.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use tpchgen::generators::{
    CustomerGenerator, LineItem, LineItemGenerator, LineItemGeneratorIterator, NationGenerator, Order, OrderGenerator,
    OrderGeneratorIterator, RegionGenerator,
};

const BATCH_ROWS: usize = 65_536;

/// The columns, whose places [`Flat`]'s batches keep. As most writers do, it calls all of them nullable.
pub fn schema() -> SchemaRef {
    let column = |(name, kind): (&str, DataType)| Field::new(name, kind, true);
    let columns = [
        ("o_custkey", DataType::Int64),
        ("l_returnflag", DataType::Utf8View),
        ("l_linestatus", DataType::Utf8View),
        ("l_shipmode", DataType::Utf8View),
        ("o_orderpriority", DataType::Utf8View),
        ("n_name", DataType::Utf8View),
        ("o_orderdate", DataType::Date32),
        ("l_quantity", DataType::Float64),
        ("l_extendedprice", DataType::Float64),
        ("l_discount", DataType::Float64),
    ];
    Arc::new(Schema::new(columns.map(column).to_vec()))
}

/// The nations with their region: what is public.
pub fn nations() -> RecordBatch {
    let regions: Vec<_> = RegionGenerator::default().iter().map(|region| region.r_name).collect();
    let nations: Vec<_> = NationGenerator::default().iter().collect();
    let names = StringViewArray::from_iter_values(nations.iter().map(|nation| nation.n_name));
    let of = StringViewArray::from_iter_values(nations.iter().map(|nation| regions[nation.n_regionkey as usize]));
    let column = |name| Field::new(name, DataType::Utf8View, true);
    let schema = Arc::new(Schema::new(vec![column("nation"), column("region")]));
    RecordBatch::try_new(schema, vec![Arc::new(names), Arc::new(of)]).unwrap()
}

/// The batches of the flat table, in order of the order's key: lineitem and orders are both made in that order.
pub struct Flat {
    items: LineItemGeneratorIterator<'static>,
    orders: OrderGeneratorIterator<'static>,
    /// By the customer's key.
    nation_of: Vec<&'static str>,
    order: Option<Order<'static>>,
}

impl Flat {
    /// `factor` times six million rows.
    pub fn new(factor: f64) -> Self {
        let names: Vec<_> = NationGenerator::default().iter().map(|nation| nation.n_name).collect();
        let customers = CustomerGenerator::new(factor, 1, 1);
        let nations = customers.iter().map(|customer| names[customer.c_nationkey as usize]);
        Self {
            items: LineItemGenerator::new(factor, 1, 1).iter(),
            orders: OrderGenerator::new(factor, 1, 1).iter(),
            // The customers' keys begin at 1.
            nation_of: std::iter::once("").chain(nations).collect(),
            order: None,
        }
    }

    fn order_of(&mut self, item: &LineItem<'static>) -> Order<'static> {
        while self.order.as_ref().is_none_or(|order| order.o_orderkey < item.l_orderkey) {
            self.order = self.orders.next();
            assert!(self.order.is_some(), "every line has an order");
        }
        let order = self.order.clone().unwrap();
        assert_eq!(order.o_orderkey, item.l_orderkey, "every line has an order");
        order
    }
}

impl Iterator for Flat {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let mut rows = Vec::with_capacity(BATCH_ROWS);
        while rows.len() < BATCH_ROWS {
            let Some(item) = self.items.next() else { break };
            rows.push((self.order_of(&item), item));
        }
        if rows.is_empty() {
            return None;
        }
        let text = |of: &dyn Fn(&(Order<'static>, LineItem<'static>)) -> &'static str| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(rows.iter().map(of)))
        };
        let number = |of: &dyn Fn(&LineItem<'static>) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, item)| of(item))))
        };
        let day = |(order, _): &(Order<'static>, _)| order.o_orderdate.to_unix_epoch();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(order, _)| order.o_custkey))),
            text(&|(_, item)| item.l_returnflag),
            text(&|(_, item)| item.l_linestatus),
            text(&|(_, item)| item.l_shipmode),
            text(&|(order, _)| order.o_orderpriority),
            text(&|(order, _)| self.nation_of[order.o_custkey as usize]),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(day))),
            number(&|item| item.l_quantity as f64),
            number(&|item| item.l_extendedprice.as_f64()),
            number(&|item| item.l_discount.as_f64()),
        ];
        Some(RecordBatch::try_new(schema(), columns).unwrap())
    }
}
