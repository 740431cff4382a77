//! Numbers of a feature whose reference is given by hand: the worked example of `metrics.md` 14.5, and quantiles inside
//! the cells of the reference. And the most frequent of more texts than are told apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::{Accumulator as _, Undefined, Value};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::expected::Expected;
use tidegauge::engine::metrics::features::FeaturesInput;
use tidegauge::engine::metrics::reference::{
    CategoricalProfile, FeatureProfile, NumericProfile, Profile, Scale, Values,
};
use tidegauge::engine::metrics::serving::ServingInput;
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::{FeatureId, Names};
use tidegauge::engine::time::EventTime;
use xxhash_rust::xxh3::xxh3_64;

use crate::drift_golden::feature_of;
use crate::reference::{cells_of, rows};

/// Numbers between these ends, 100 in each cell.
pub(crate) fn numbers(
    (min, max): (f64, f64),
    edges: &[f64],
    range: Option<(f64, f64)>,
) -> FeatureProfile {
    let values = Values::Numeric(NumericProfile {
        scale: Scale::Linear,
        min,
        max,
        mean: f64::midpoint(min, max),
        sd: 1.0,
        fine_edges: edges.to_vec().into(),
        bin_edges: edges.to_vec(),
        counts: vec![100; edges.len() + 1],
        has_given_edges: true,
        range,
    });
    FeatureProfile { missing: 0, type_errors: 0, values }
}

/// A reference that has these features and nothing else.
pub(crate) fn profile<const N: usize>(features: [(&str, FeatureProfile); N]) -> Profile {
    let shared = features.map(|(name, of)| (Arc::from(name), Arc::new(of)));
    Profile {
        id: "r-0123456789ab".into(),
        name: "r".into(),
        generation: 0,
        features: BTreeMap::from(shared),
        score: None,
        prediction: None,
        label: None,
        calibrator: None,
        expected: Expected::default(),
        class_calibrators: Vec::new(),
    }
}

/// Inferences with these values of feature `x`, folded in two parts that were written and read back.
fn folded(values: &[FeatureValue<'static>], profile: &Profile) -> Families {
    let mut names = Names::default();
    let name = FeatureId(names.intern("x"));
    let mut merged = Families::default();
    for part in values.chunks(values.len().div_ceil(2)) {
        let mut families = Families::default();
        for &value in part {
            families.serving.add(&ServingInput {
                time: EventTime(0),
                latency_us: None,
                failed: false,
                freshness_ms: 0,
            });
            families.features.get_mut().add(&FeaturesInput {
                features: &[Feature { name, value }],
                names: &names,
                reference: Some(profile),
                most: 10,
                distinct: &[],
            });
        }
        merged.merge(&Families::restore(&families.state(), ClassCaps::DEFAULT).unwrap());
    }
    merged
}

/// Figures by column, or the reasons why there are none.
type Row = BTreeMap<&'static str, Result<f64, Undefined>>;

/// The counts and figures of feature `x` in the first of its rows that is of this method, if the table has methods.
fn row(families: &Families, profile: &Profile, table: MetricTable, method: &str) -> Row {
    let all = cells_of(table, rows(families, profile, table), "x");
    let is_of = |row: &&BTreeMap<&'static str, Value>| match row.get("method") {
        Some(Value::Text(is)) => **is == *method,
        _ => true,
    };
    let row = all.iter().find(is_of).unwrap();
    let figure = |(name, value): (&&'static str, &Value)| match value {
        Value::Count(n) => Some((*name, Ok(f64::from(u32::try_from(*n).unwrap())))),
        Value::Figure(figure) => Some((*name, *figure)),
        _ => None,
    };
    row.iter().filter_map(figure).collect()
}

fn quality(values: &[FeatureValue<'static>], profile: &Profile) -> Row {
    row(&folded(values, profile), profile, MetricTable::DataQuality, "")
}

/// The example of `metrics.md` 14.5.
const EXAMPLE: [FeatureValue<'static>; 10] = [
    FeatureValue::Number(1.0),
    FeatureValue::Number(2.0),
    FeatureValue::Number(2.0),
    FeatureValue::Number(3.0),
    FeatureValue::Missing,
    FeatureValue::NotFinite,
    FeatureValue::Text("oops"),
    FeatureValue::Number(5.0),
    FeatureValue::Number(8.0),
    FeatureValue::Number(-1.0),
];

#[test]
fn example_of_a_declared_range() {
    // The values of the reference itself lie farther apart.
    let profile = profile([("x", numbers((-10.0, 10.0), &[0.0, 4.0], Some((0.0, 6.0))))]);
    let found = quality(&EXAMPLE, &profile);
    let figures = [
        ("inferences", 10.0),
        ("values", 7.0),
        ("missing", 2.0),
        ("missing_rate", 0.2),
        ("missing_rate_lower", 0.056_682_151_5),
        ("missing_rate_upper", 0.509_837_528_5),
        ("non_finite", 1.0),
        ("type_errors", 1.0),
        ("type_error_rate", 0.1),
        ("out_of_range", 2.0),
        ("out_of_range_rate", 0.285_714_285_7),
        ("is_constant", 0.0),
        ("min", -1.0),
        ("max", 8.0),
        ("mean", 2.857_142_857_1),
        ("sd", 2.911_389_784_3),
    ];
    for (name, expected) in figures {
        let is = found[name].unwrap();
        assert!((is - expected).abs() < 0.51e-10, "{name}: {is}, expected {expected}");
    }
}

/// Beyond the reference's own values are 5, 8 and -1; the rate of drift is always of these.
#[test]
fn a_declared_range_stands_for_that_of_the_reference() {
    let ends = (0.0, 4.0);
    for (range, outside) in [
        (None, 3.0),
        (Some((0.0, 6.0)), 2.0),
        (Some((-1.0, 8.0)), 0.0),
        (Some((-9.0, 9.0)), 0.0),
        (Some((2.0, 2.0)), 5.0),
    ] {
        let profile = profile([("x", numbers(ends, &[1.0, 2.0], range))]);
        let families = folded(&EXAMPLE, &profile);
        let found = row(&families, &profile, MetricTable::DataQuality, "");
        assert_eq!(found["out_of_range"], Ok(outside), "{range:?}");
        assert_eq!(found["out_of_range_rate"], Ok(outside / 7.0), "{range:?}");
        let drift = row(&families, &profile, MetricTable::Drift, "out_of_range_rate");
        assert_eq!(drift["value"], Ok(3.0 / 7.0), "{range:?}");
    }
}

/// The quantiles of these numbers that the row has.
fn quantiles(values: &[f64], profile: &Profile) -> [f64; 5] {
    let values: Vec<_> = values.iter().map(|&x| FeatureValue::Number(x)).collect();
    let row = quality(&values, profile);
    ["p01", "p25", "p50", "p75", "p99"].map(|name| row[name].unwrap())
}

/// Those that the numbers have, by sorting.
fn exact(values: &[f64]) -> [f64; 5] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 25, 50, 75, 99].map(|percent| sorted[(percent * sorted.len()).div_ceil(100) - 1])
}

fn like(values: &[f64]) -> Profile {
    profile([("x", feature_of(values.iter().map(|&x| FeatureValue::Number(x))))])
}

#[test]
fn quantiles_are_linear_inside_the_cells_of_the_reference() {
    let profile = profile([("x", numbers((0.0, 30.0), &[10.0, 20.0], None))]);
    let of = |values: &[f64]| quantiles(values, &profile);
    // Four in one cell: at 12.5, 15, 17.5 and 20, but never beyond the greatest.
    assert_eq!(of(&[12.0, 13.0, 14.0, 19.0]), [12.5, 12.5, 15.0, 17.5, 19.0]);
    // Nor below the least.
    assert_eq!(of(&[17.0, 18.0, 18.5, 19.0]), [17.0, 17.0, 17.0, 17.5, 19.0]);
    assert_eq!(of(&[12.0]), [12.0; 5]);
    // Two below the reference, from the least on; one in its first cell and one in its last; one above, up to the
    // greatest.
    assert_eq!(of(&[-10.0, -5.0, 5.0, 25.0, 40.0]), [-5.0, 0.0, 10.0, 30.0, 40.0]);
}

/// Cells of the reference reach from each of these values to the next, and nothing lies between them.
#[test]
fn quantiles_of_flags_and_of_few_whole_numbers_are_values() {
    let flags = |ones: u32, of: u32| -> Vec<f64> {
        (0..of).map(|n| if n < ones { 1.0 } else { 0.0 }).collect()
    };
    let reference = like(&flags(300, 1000));
    assert_eq!(quantiles(&flags(30, 100), &reference), [0.0, 0.0, 0.0, 1.0, 1.0]);
    for ones in 0..=50 {
        let window = flags(ones, 50);
        assert_eq!(quantiles(&window, &reference), exact(&window), "{ones}");
    }
    // A flag that hardly ever was 0.
    let reference = like(&flags(995, 1000));
    for ones in 0..=50 {
        let window = flags(ones, 50);
        assert_eq!(quantiles(&window, &reference), exact(&window), "{ones}");
    }
    // Sizes of baskets from 1 to 5.
    let reference: Vec<f64> = (0..1000).map(|n| f64::from(1 + n % 5)).collect();
    let reference = like(&reference);
    for n in 1..50 {
        let window: Vec<f64> = (0..n).map(|k| f64::from(1 + k * k * k % 5)).collect();
        assert_eq!(quantiles(&window, &reference), exact(&window), "{n}");
    }
}

/// Of 200 values 2 lie up to 10 and 3 more up to 20, which is the quantile of 2 %, the fourth of them. So of these 3 the
/// last two are 20, and 2 of 3 values of a window may reach from 10 up to 20.
#[test]
fn what_must_lie_on_the_edge_of_a_cell_is_not_spread_over_it() {
    let mut of = numbers((0.0, 30.0), &[10.0, 20.0], None);
    let Values::Numeric(numeric) = &mut of.values else { panic!("numbers") };
    numeric.counts = vec![2, 3, 195];
    let given = profile([("x", of.clone())]);
    let Values::Numeric(numeric) = &mut of.values else { panic!("numbers") };
    numeric.has_given_edges = false;
    let window = [12.0, 13.0, 20.0];
    assert_eq!(quantiles(&window, &profile([("x", of)])), [15.0, 15.0, 20.0, 20.0, 20.0]);
    // Edges that the user gave say nothing of the values.
    let found = quantiles(&window, &given);
    assert!((found[0] - 40.0 / 3.0).abs() < 1e-12 && (found[2] - 50.0 / 3.0).abs() < 1e-12);
}

/// Ages of a reference go from 20 to 90, and its edges from 18 to 120. What lies beyond 90 is counted by itself, so that
/// no other quantile is drawn towards 120, wherever the greatest age of the window lies.
#[test]
fn given_edges_beyond_the_values_of_the_reference_draw_no_quantile() {
    let edges = [18.0, 25.0, 35.0, 50.0, 65.0, 120.0];
    let reference = profile([("x", numbers((20.0, 90.0), &edges, None))]);
    let evenly = (0..999).map(|n| 20.0 + 70.0 / 998.0 * f64::from(n));
    let values: Vec<f64> = evenly.chain([150.0]).collect();
    for (found, exact) in quantiles(&values, &reference).into_iter().zip(exact(&values)) {
        assert!((found - exact).abs() < 0.1, "{found}, exactly {exact}");
    }
}

fn sample() -> impl Strategy<Value = Vec<f64>> {
    let of = |number: BoxedStrategy<f64>| prop::collection::vec(number, 1..400);
    prop_oneof![
        of((0_u8..2).prop_map(f64::from).boxed()),
        of((0_u8..60).prop_map(|x| if x == 0 { 1.0 } else { 0.0 }).boxed()),
        of((-4_i8..5).prop_map(f64::from).boxed()),
        of((0_u16..300).prop_map(f64::from).boxed()),
        of((-1e3..1e3_f64).boxed()),
    ]
}

proptest! {
    #[test]
    fn a_window_like_the_reference_has_its_quantiles(values in sample()) {
        prop_assert_eq!(quantiles(&values, &like(&values)), exact(&values));
    }
}

/// The most frequent text of a row, and how often it came.
fn top(values: &[FeatureValue<'static>], profile: &Profile) -> (String, u64) {
    let rows = rows(&folded(values, profile), profile, MetricTable::DataQuality);
    let row = cells_of(MetricTable::DataQuality, rows, "x").remove(0);
    match (&row["top_category"], &row["top_category_n"]) {
        (Value::Text(text), Value::Count(n)) => (text.to_string(), *n),
        other => panic!("{other:?}"),
    }
}

/// So many texts in the order of their XXH3-64: the first 100 are told apart.
fn texts(count: u32) -> Vec<&'static str> {
    let text = |n: u32| -> &'static str { Box::leak(format!("land {n:03}").into_boxed_str()) };
    let mut texts: Vec<&'static str> = (0..count).map(text).collect();
    texts.sort_by_key(|text| xxh3_64(text.as_bytes()));
    texts
}

/// Of 200 texts of which one comes more often than ten times, 100 are not told apart.
#[test]
fn the_most_frequent_text_is_shown_where_no_other_can_be_it() {
    let all = texts(200);
    let values = |texts: &[&'static str], place: usize, often: usize| -> Vec<_> {
        let times = |at: usize| if at == place { often } else { 10 };
        let of = |(at, &text): (usize, &&'static str)| {
            std::iter::repeat_n(FeatureValue::Text(text), times(at))
        };
        texts.iter().enumerate().flat_map(of).collect()
    };
    let nothing = profile([]);
    let unknown = (String::new(), 0);
    // It is not told apart, and those that are came ten times each.
    for place in [100, 199] {
        assert_eq!(top(&values(&all, place, 6000), &nothing), unknown, "{place}");
    }
    // It is, and the 1,000 values of the others might all be of one text, unless it came more often.
    for place in [0, 99] {
        for (often, is_sure) in [(6000, true), (1001, true), (1000, false), (11, false)] {
            let n = u64::try_from(often).unwrap();
            let expected = if is_sure { (all[place].to_owned(), n) } else { unknown.clone() };
            assert_eq!(top(&values(&all, place, often), &nothing), expected, "{place} {often}");
        }
    }
    // 100 texts are all told apart.
    assert_eq!(top(&values(&all[100..], 99, 11), &nothing), (all[199].to_owned(), 11));
    // And so are those of the reference: 99 others are not, which came 990 times.
    let categories = vec![(Arc::from(all[199]), 10)];
    let listed = Values::Categorical(CategoricalProfile { categories, other: 0 });
    let listed = FeatureProfile { missing: 0, type_errors: 0, values: listed };
    let reference = profile([("x", listed)]);
    let expected = (all[199].to_owned(), 991);
    assert_eq!(top(&values(&all, 199, 991), &reference), expected);
    assert_eq!(top(&values(&all, 199, 990), &reference), unknown);
}
