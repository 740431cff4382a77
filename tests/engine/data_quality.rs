//! Numbers of a feature whose reference is given by hand: the worked example of `metrics.md` 14.5, and quantiles inside
//! the cells of the reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::{Accumulator as _, Undefined, Value};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::expected::Expected;
use tidegauge::engine::metrics::features::FeaturesInput;
use tidegauge::engine::metrics::reference::{
    FeatureProfile, NumericProfile, Profile, Scale, Values,
};
use tidegauge::engine::metrics::serving::ServingInput;
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::{FeatureId, Names};
use tidegauge::engine::time::EventTime;

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

#[test]
fn quantiles_are_linear_inside_the_cells_of_the_reference() {
    let profile = profile([("x", numbers((0.0, 30.0), &[10.0, 20.0], None))]);
    let of = |values: &[f64]| {
        let values: Vec<_> = values.iter().map(|&x| FeatureValue::Number(x)).collect();
        let row = quality(&values, &profile);
        ["p01", "p25", "p50", "p75", "p99"].map(|name| row[name].unwrap())
    };
    // Four in one cell: at 12.5, 15, 17.5 and 20, but never beyond the greatest.
    assert_eq!(of(&[12.0, 13.0, 14.0, 19.0]), [12.5, 12.5, 15.0, 17.5, 19.0]);
    // Nor below the least.
    assert_eq!(of(&[17.0, 18.0, 18.5, 19.0]), [17.0, 17.0, 17.0, 17.5, 19.0]);
    assert_eq!(of(&[12.0]), [12.0; 5]);
    // Two below the reference, from the least on; one in its first cell and one in its last; one above, up to the
    // greatest.
    assert_eq!(of(&[-10.0, -5.0, 5.0, 25.0, 40.0]), [-5.0, 0.0, 10.0, 30.0, 40.0]);
}
