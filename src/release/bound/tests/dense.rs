//! The dense table: it adds up what records would, is made where it pays, and costs nobody else anything where it does not.

use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

use super::super::contributions::Gathered as All;
use super::super::dense::Extent;
use super::super::identity::Ids;
use super::super::records::{Gathered, Records, Values};
use super::super::shards::{Shards, id_of, shard_of, upper_of};
use super::*;

const LAYOUT: Layout = Layout { text_units: false, dictionaries: false, epochs: false, single_rows: false };
/// Where some units lie far from all others: a walk from here to there would not end.
const FAR: i64 = 1 << 50;

fn bits(unit: i64) -> u64 {
    unit.cast_unsigned() ^ (1 << 63)
}

/// For units from one to another.
fn extent(least: i64, most: i64, groups: usize) -> Extent {
    Extent::of(vec![bits(least), bits(most)], groups).unwrap()
}

fn finished(spec: &Arc<ReleaseSpec>, places: Vec<Contributions>) -> BTreeMap<String, Group> {
    let gathered = All::new(spec, KEY, places).unwrap();
    let mut bounder = gathered.bounder();
    while gathered.bound_next(&mut bounder, |_| Ok(())).unwrap() {}
    by_group(&bounder.finish(gathered.keys.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Whatever has a cell in a dense table, and whatever has none: in each place from another batch on, for other units and groups,
    /// and some of it by way of the disk.
    #[test]
    fn a_dense_table_adds_up_what_records_would(
        rows in rows(),
        dictionaries in any::<bool>(),
        sets in any::<bool>(),
        apart in prop_oneof![Just(1i64), Just(100), Just(129)],
        is_far in any::<bool>(),
        groups in 2..9u64,
        per_group in 1..6u64,
        total in prop::option::of(1..20u64),
        batch_rows in 1..60usize,
        places in prop::collection::vec(
            (0..6usize, any::<bool>(), -3..4i64, 0..7i64, 0..20usize, prop::option::of(0..8usize)), 1..4,
        ),
    ) {
        let layout = Layout { dictionaries, ..LAYOUT };
        let bounds = ContributionBounds { groups, rows: per_group, total_rows: total.map(|total| total.max(per_group)) };
        let spec = Arc::new(spec(layout, bounds, sets));
        let schema = input(layout, &spec);
        let spread = |row: &Row| {
            let far = if is_far && row.unit > 4 { FAR } else { 0 };
            Row { unit: row.unit * apart + far, ..row.clone() }
        };
        let rows: Vec<Row> = rows.iter().map(spread).collect();
        let batches: Vec<_> = rows.chunks(batch_rows).map(|rows| batch(layout, &schema, sets, rows)).collect();
        let nothing = || Contributions::new(Arc::clone(&spec), KEY, &schema).unwrap();
        let records = added(nothing(), &batches);

        let disk = Arc::new(DiskManagerBuilder::default().build().unwrap());
        let of_places = split(batches, places.len()).into_iter().zip(&places).map(|(batches, place)| {
            let (from, table_is_far, least, units, groups, spills) = *place;
            let mut dense = nothing();
            for (at, batch) in batches.iter().enumerate() {
                let first = least * apart + if table_is_far { FAR } else { 0 };
                if at == from {
                    dense.shards.make_dense(extent(first, first + units * apart, groups)).unwrap();
                }
                if at == from + 2 && spills.is_none_or(|spills| spills >= at) {
                    dense.shards.make_dense(extent(first - apart, first + (units + 2) * apart, groups + 9)).unwrap();
                }
                dense.add(batch).unwrap();
                if Some(at) == spills {
                    dense.spill(&disk).unwrap();
                }
            }
            dense
        });
        let of_places = of_places.collect();
        prop_assert_eq!(by_group(&records.finish().unwrap()), finished(&spec, of_places));
    }

    /// A shard and an upper part name an integer.
    #[test]
    fn units_have_places_of_their_own(id in any::<u64>(), near in 0..1_000u64) {
        for id in [id, near, id.saturating_add(near)] {
            prop_assert_eq!(id_of(shard_of(id).into(), upper_of(id)), id);
        }
    }
}

/// Rows of `units` units in `groups` groups, of which every unit has some.
fn many(rows: i64, units: i64, groups: i64) -> Vec<Row> {
    let row = |at: i64| {
        let (key, value) = (Some((at % 5) as u8), (at % 11 > 0).then_some((at % 37) as f64 / 7.0 - 2.0));
        Row {
            unit: at * 7_919 % units,
            epoch: 0,
            key,
            other: at / 5 % (groups / 5).max(1),
            value,
            passes: Some(at % 2 == 0),
        }
    };
    (0..rows).map(row).collect()
}

fn batches(layout: Layout, schema: &SchemaRef, rows: &[Row]) -> Vec<RecordBatch> {
    rows.chunks(8_192).map(|rows| batch(layout, schema, false, rows)).collect()
}

/// Gathers as one of two workers within so many bytes, and whether that went to a table and to disk.
fn gathered(
    spec: &Arc<ReleaseSpec>,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    bytes: usize,
) -> (Contributions, bool) {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
    let memory = MemoryConsumer::new("test").with_can_spill(true).register(&pool);
    let disk = Arc::new(DiskManagerBuilder::default().build().unwrap());
    let mut contributions = Contributions::new(Arc::clone(spec), KEY, schema).unwrap();
    for batch in batches {
        contributions.gather(batch, 2, &memory, &disk).unwrap();
        assert!(memory.size() >= contributions.size(), "{} of {}", memory.size(), contributions.size());
    }
    (contributions, disk.used_disk_space() > 0)
}

fn added(mut contributions: Contributions, batches: &[RecordBatch]) -> Contributions {
    for batch in batches {
        contributions.add(batch).unwrap();
    }
    contributions
}

/// What records give, and how many bytes they take.
fn of_records(
    spec: &Arc<ReleaseSpec>,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> (BTreeMap<String, Group>, usize) {
    let records = added(Contributions::new(Arc::clone(spec), KEY, schema).unwrap(), batches);
    let bytes = records.size();
    (finished(spec, vec![records]), bytes)
}

const BOUNDS: ContributionBounds = ContributionBounds { groups: 3, rows: 2, total_rows: Some(5) };

/// Many rows of few units in few groups go to a table, where there is memory for it, and give what records would.
#[test]
fn many_rows_of_few_units_are_dense() {
    let spec = Arc::new(spec(LAYOUT, BOUNDS, false));
    let schema = input(LAYOUT, &spec);
    let rows = many(300_000, 5_003, 15);
    let all = batches(LAYOUT, &schema, &rows);
    let (expected, in_records) = of_records(&spec, &schema, &all);

    let (dense, is_on_disk) = gathered(&spec, &schema, &all, 1 << 30);
    assert!(dense.shards.dense.is_some() && !is_on_disk);
    assert!(dense.size() * 2 < in_records, "{} of {in_records} bytes", dense.size());
    assert_eq!(finished(&spec, vec![dense]), expected);
    let (short, is_on_disk) = gathered(&spec, &schema, &all, 3 << 20);
    assert!(short.shards.dense.is_none() && is_on_disk);
    assert_eq!(finished(&spec, vec![short]), expected);

    // One place has a table, one has none, and one has what lies far away.
    let mut apart = rows.clone();
    apart.iter_mut().filter(|row| row.unit > 4_990).for_each(|row| row.unit += FAR);
    let all = batches(LAYOUT, &schema, &apart);
    let (dense, _) = gathered(&spec, &schema, &all[..12], 1 << 30);
    assert!(dense.shards.dense.is_some(), "a few that lie far away do not keep the others from their cells");
    let (without, _) = gathered(&spec, &schema, &all[12..13], 1 << 30);
    let (more, _) = gathered(&spec, &schema, &all[13..], 1 << 30);
    assert!(without.shards.dense.is_none() && more.shards.dense.is_some());
    assert_eq!(finished(&spec, vec![dense, without, more]), of_records(&spec, &schema, &all).0);

    // Of units that were not foreseen there is a larger one.
    let mut rising = rows.clone();
    rising.sort_by_key(|row| row.unit);
    let all = batches(LAYOUT, &schema, &rising);
    let (some, _) = gathered(&spec, &schema, &all[..9], 1 << 30);
    let (grown, _) = gathered(&spec, &schema, &all, 1 << 30);
    let extent = |of: &Contributions| *of.shards.dense.as_ref().unwrap().extent();
    assert!(extent(&grown) != extent(&some));
    assert!(grown.shards.records() * 2 < rows.len(), "{} without a cell", grown.shards.records());
    assert_eq!(finished(&spec, vec![grown]), expected);

    let mut reference = reference::Contributions::new(Arc::clone(&spec), KEY, &schema).unwrap();
    for batch in batches(LAYOUT, &schema, &rows) {
        reference.add(&batch).unwrap();
    }
    let units = |groups: &BTreeMap<String, Group>| groups.values().map(|group| group.0).sum::<i64>();
    assert_eq!(units(&by_group(&reference.finish().unwrap())), units(&expected));
}

/// A cell that would have more rows than a record holds becomes one, and few rows stay records.
#[test]
fn a_unit_with_many_rows_leaves_few_records() {
    let spec = Arc::new(spec(LAYOUT, BOUNDS, false));
    let schema = input(LAYOUT, &spec);
    // Two groups in turn, so that there are no runs.
    let mut rows = many(200_000, 1, 10);
    rows.iter_mut().enumerate().for_each(|(at, row)| row.key = Some((at % 2) as u8));
    let all = batches(LAYOUT, &schema, &rows);
    let (dense, _) = gathered(&spec, &schema, &all, 1 << 30);
    assert!(dense.shards.dense.is_some());
    assert!(dense.shards.records() < rows.len() / 200, "{} records", dense.shards.records());
    assert_eq!(finished(&spec, vec![dense]), of_records(&spec, &schema, &all).0);
}

/// Where a table does not pay, or cells cannot hold what is gathered, there is none.
#[test]
fn other_rows_stay_records() {
    let rows = many(80_000, 5_003, 15);
    let with = |of: &dyn Fn(usize, &mut Row)| {
        let mut rows = rows.clone();
        rows.iter_mut().enumerate().for_each(|(at, row)| of(at, row));
        rows
    };
    let cases = [
        ("as they are", LAYOUT, rows.clone(), true),
        ("few rows", LAYOUT, rows[..60_000].to_vec(), false),
        ("units far apart", LAYOUT, with(&|_, row| row.unit *= 1 << 20), false),
        ("many groups", LAYOUT, with(&|at, row| row.other = at as i64), false),
        ("units that are texts", Layout { text_units: true, ..LAYOUT }, rows.clone(), false),
        ("epochs", Layout { epochs: true, ..LAYOUT }, rows.clone(), false),
        ("distinct values and quantiles", Layout { single_rows: true, ..LAYOUT }, rows.clone(), false),
    ];
    for (what, layout, rows, is_dense) in cases {
        let spec = Arc::new(spec(layout, BOUNDS, false));
        let schema = input(layout, &spec);
        let (contributions, _) = gathered(&spec, &schema, &batches(layout, &schema, &rows), 1 << 30);
        assert_eq!(contributions.shards.dense.is_some(), is_dense, "{what}");
    }
}

/// A table that no cache holds is made where rows of a unit come beside each other, and not where each is somewhere else.
#[test]
fn a_large_table_is_for_rows_that_come_together() {
    let none = Gathered { counted: None, values: Values::None };
    let shape = Records {
        ids: Ids::Narrow(Vec::new()),
        groups: Vec::new(),
        rows: None,
        measures: vec![none],
        candidates: Vec::new(),
    };
    let is_made = |unit: &dyn Fn(u64) -> u64| {
        let mut shards = Shards::new(shape.like());
        (0..2_200_000u64).step_by(8_192).any(|from| {
            let mut records = shape.like();
            records.ids = Ids::Narrow((from..from + 8_192).map(unit).collect());
            records.groups = vec![0; 8_192];
            shards.add(&records);
            shards.next_table(1).is_some()
        })
    };
    let scattered = |at: u64, most: u64| at * 7_919 % most;
    assert!(is_made(&|at| scattered(at, 100_000)), "caches hold it");
    assert!(!is_made(&|at| scattered(at, 4_500_007)));
    assert!(is_made(&|at| scattered(at / 2, 4_500_007)));
}

/// The word by word comparison of identities is that of their bytes.
#[test]
fn bytes_are_equal_where_all_of_them_are() {
    for len in 0..40 {
        let text: Vec<u8> = (0..len).collect();
        assert!(super::super::identity::are_equal(&text, &text.clone()));
        assert!(!super::super::identity::are_equal(&text, &[text.as_slice(), b"x"].concat()));
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 16;
            assert!(!super::super::identity::are_equal(&text, &other), "byte {at} of {len}");
        }
    }
}
