//! States that are held against a reference profile, and the rows of drift and data quality that come of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::{Accumulator as _, FigureContext, Undefined, Value};
use tidegauge::engine::metrics::binary::BinaryInput;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::drift::method::{Method, Options};
use tidegauge::engine::metrics::drift::verdict::{Judged, Kind, Measured, judge};
use tidegauge::engine::metrics::drift::{CurrentCounts, drift};
use tidegauge::engine::metrics::expected::Expected;
use tidegauge::engine::metrics::features::FeaturesInput;
use tidegauge::engine::metrics::reference::{
    CategoricalProfile, FeatureProfile, NumericProfile, Profile, Scale, Values,
};
use tidegauge::engine::metrics::serving::ServingInput;
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::{FeatureId, Names};
use tidegauge::engine::time::EventTime;

use crate::oracle::figures::cell_of;

/// One inference: amount, country, score.
type Said = (FeatureValue<'static>, FeatureValue<'static>, Option<f64>);

const COUNTRIES: [&str; 5] = ["AT", "CH", "DE", "FR", "XX"];

/// Seeded inferences; the window's differ from the reference's.
fn inferences(count: u64, seed: u64) -> Vec<Said> {
    let mut state = seed;
    let mut share = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1_u32 << 24)
    };
    (0..count)
        .map(|n| {
            let amount = match n % 50 {
                0 => FeatureValue::Missing,
                1 => FeatureValue::Text("unknown"),
                2 => FeatureValue::NotFinite,
                _ => FeatureValue::Number((share() * 25.0).round() * 2.0 - 14.0),
            };
            let country = COUNTRIES[usize::from(share() > 0.4) + usize::from(share() > 0.6) * 3];
            (amount, FeatureValue::Text(country), (n % 7 != 0).then(|| share() * share()))
        })
        .collect()
}

fn numeric(scale: Scale, sorted: &[f64]) -> NumericProfile {
    let at = |percent: usize| sorted[(percent * sorted.len()).div_ceil(100) - 1];
    let mut fine_edges: Vec<f64> = (1..100).map(at).collect();
    fine_edges.dedup();
    let mut bin_edges: Vec<f64> = (1..10).map(|tenth| at(tenth * 10)).collect();
    bin_edges.dedup();
    let mut counts = vec![0; fine_edges.len() + 1];
    for x in sorted {
        counts[fine_edges.iter().filter(|edge| *edge < x).count()] += 1;
    }
    let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
    let (mean, sd, range) = (3.0, 9.0, None);
    let has_given_edges = false;
    NumericProfile {
        scale,
        min,
        max,
        mean,
        sd,
        fine_edges: fine_edges.into(),
        bin_edges,
        counts,
        has_given_edges,
        range,
    }
}

fn profile() -> Profile {
    let of = |values| FeatureProfile { missing: 20, type_errors: 0, values };
    let mut amounts: Vec<f64> = (0..1000).map(|n| f64::from(n % 83) * 0.5 - 10.0).collect();
    amounts.sort_by(f64::total_cmp);
    let categories = [("DE", 600), ("FR", 300), ("CH", 100)];
    let categories = categories.map(|(name, count)| (Arc::from(name), count)).to_vec();
    // Cells of the score lattice.
    let scores: Vec<f64> = (0..1000).map(|n| f64::from(n * 9)).collect();
    let features = BTreeMap::from([
        (Arc::from("amount"), Arc::new(of(Values::Numeric(numeric(Scale::Linear, &amounts))))),
        (
            Arc::from("country"),
            Arc::new(of(Values::Categorical(CategoricalProfile { categories, other: 0 }))),
        ),
    ]);
    Profile {
        id: "r-0123456789ab".into(),
        name: "r".into(),
        generation: 0,
        features,
        score: Some(of(Values::Numeric(numeric(Scale::Score, &scores)))),
        prediction: None,
        label: None,
        calibrator: None,
        expected: Expected::default(),
        class_calibrators: Vec::new(),
    }
}

/// The state of all inferences, folded in several parts that were written and read back.
fn folded(all: &[Said], profile: &Profile) -> Families {
    folded_with(all, Some(profile))
}

/// The same with or without a reference.
fn folded_with(all: &[Said], reference: Option<&Profile>) -> Families {
    let mut names = Names::default();
    let ids = ["amount", "country"].map(|name| FeatureId(names.intern(name)));
    let mut merged = Families::default();
    for part in 0..3 {
        let mut families = Families::default();
        for (amount, country, score) in all.iter().skip(part).step_by(3) {
            let time = EventTime(0);
            families.serving.add(&ServingInput {
                time,
                latency_us: None,
                failed: false,
                freshness_ms: 0,
            });
            families.binary.get_mut().add(&BinaryInput::Inference { score: *score });
            let features = [(ids[0], *amount), (ids[1], *country)];
            let features = features.map(|(name, value)| Feature { name, value });
            families.features.get_mut().add(&FeaturesInput {
                features: &features,
                names: &names,
                reference,
                most: 10,
                distinct: &[],
            });
        }
        merged.merge(&Families::restore(&families.state(), ClassCaps::DEFAULT).unwrap());
    }
    merged
}

pub(crate) fn rows(families: &Families, profile: &Profile, table: MetricTable) -> Vec<Vec<Value>> {
    let context =
        FigureContext { window_ms: 60_000, reference: Some(profile), ..FigureContext::default() };
    let all = families.figures(&context).into_iter();
    all.filter(|(of, _)| *of == table).map(|(_, row)| row).collect()
}

fn number(x: FeatureValue<'_>) -> Option<f64> {
    match x {
        FeatureValue::Number(x) => Some(x),
        _ => None,
    }
}

/// Counts by cell, each value looked up by itself.
pub(crate) fn by_cell(profile: &NumericProfile, values: &[f64]) -> Vec<(u64, u64)> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for x in values {
        let below = profile.fine_edges.iter().filter(|edge| *edge < x).count();
        let cell = if *x < profile.min {
            0
        } else if *x > profile.max {
            profile.fine_edges.len() + 2
        } else {
            below + 1
        };
        *counts.entry(u64::try_from(cell).unwrap()).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Panics where a row of `drift` says something else.
fn must_say(row: &[Value], expected: &Judged) {
    let columns = MetricTable::Drift.columns();
    let of = |name: &str| &row[columns.iter().position(|column| column.name == name).unwrap()];
    let Judged { measure, limits, .. } = expected;
    for (name, is) in [
        ("kind", expected.kind.name()),
        ("feature", &*expected.feature),
        ("method", measure.method.name()),
        ("verdict", expected.verdict.name()),
        ("reason", expected.reason.map_or("", Undefined::code)),
    ] {
        assert_eq!(*of(name), Value::Text(Arc::<str>::from(is).into()), "{name} of {expected:?}");
    }
    for (name, is) in [
        ("value", measure.value),
        ("value_lower", measure.value_lower),
        ("value_upper", measure.value_upper),
        ("effect", measure.effect),
        ("p_value", measure.p_value),
        ("p_adjusted", expected.p_adjusted),
        ("warn_at", limits.warn_at.ok_or(Undefined::NotApplicable)),
        ("drift_at", Ok(limits.drift_at)),
        ("alpha", Ok(limits.alpha)),
    ] {
        assert_eq!(*of(name), Value::Figure(is), "{name} of {expected:?}");
    }
    for (name, is) in [
        ("is_primary", u64::from(expected.is_primary)),
        ("bins", measure.bins),
        ("n", measure.n),
        ("reference_n", measure.reference_n),
    ] {
        assert_eq!(*of(name), Value::Count(is), "{name} of {expected:?}");
    }
}

#[test]
fn drift_of_merged_states_is_that_of_all_values() {
    let (profile, all) = (profile(), inferences(3000, 7));
    let [amount, country] = ["amount", "country"].map(|name| &profile.features[name]);
    let amounts: Vec<f64> = all.iter().filter_map(|one| number(one.0)).collect();
    let cells = by_cell(amount.numeric().unwrap(), &amounts);
    // A text instead of a number is of another kind, and not missing.
    let of_amount = drift(amount, &CurrentCounts::Cells { cells: &cells, missing: 120 });
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, country, _) in &all {
        let FeatureValue::Text(country) = country else { panic!("all have one") };
        *names.entry(country).or_default() += 1;
    }
    let names: Vec<_> = names.into_iter().collect();
    let current = CurrentCounts::Names { names: &names, other: 0, missing: 0 };
    let of_country = drift(country, &current);
    let score = profile.score.as_ref().unwrap();
    let place = |score: f64| f64::from(u32::try_from(cell_of(score)).unwrap());
    let scores: Vec<f64> = all.iter().filter_map(|one| one.2).map(place).collect();
    let cells = by_cell(score.numeric().unwrap(), &scores);
    let missing = u64::try_from(all.len() - scores.len()).unwrap();
    let of_score = drift(score, &CurrentCounts::Cells { cells: &cells, missing });
    let measured = vec![
        Measured { kind: Kind::Feature, feature: "amount".into(), measures: of_amount },
        Measured { kind: Kind::Feature, feature: "country".into(), measures: of_country },
        Measured { kind: Kind::Score, feature: "".into(), measures: of_score },
    ];
    let expected = judge(measured, &Options::default());
    let columns = MetricTable::Drift.columns();
    let at = |name: &str| columns.iter().position(|column| column.name == name).unwrap();
    let mut rows = rows(&folded(&all, &profile), &profile, MetricTable::Drift);
    // The profile has no predictions, and says so.
    let lacking = rows.pop().unwrap();
    assert_eq!(lacking[at("kind")], Value::Text("prediction".into()));
    assert_eq!(lacking[at("reason")], Value::Text("no_reference".into()));
    assert_eq!(rows.len(), expected.len());
    let mut verdicts = BTreeMap::new();
    for (row, expected) in rows.iter().zip(&expected) {
        must_say(row, expected);
        if expected.measure.method == Method::Psi {
            verdicts.insert(expected.feature.to_string(), expected.verdict.name().to_owned());
        }
    }
    // The window was made to differ from the reference.
    let is = [("", "drift"), ("amount", "warn"), ("country", "drift")];
    let is = is.map(|(feature, verdict)| (feature.to_owned(), verdict.to_owned()));
    assert_eq!(verdicts, BTreeMap::from(is));
}

/// Features beyond the cap share a name that a reference may have, too.
#[test]
fn values_beyond_the_cap_are_counted_in_the_cells_of_their_own_profile() {
    let mut profile = profile();
    let amount = Arc::clone(&profile.features["amount"]);
    profile.features.insert(Arc::from("(other)"), amount);
    let mut names = Names::default();
    let ids = ["amount", "late"].map(|name| FeatureId(names.intern(name)));
    let features = ids.map(|name| Feature { name, value: FeatureValue::Number(3.0) });
    let input = FeaturesInput {
        features: &features,
        names: &names,
        reference: Some(&profile),
        most: 1,
        distinct: &[],
    };
    let mut families = Families::default();
    families.features.get_mut().add(&input);
    let rows = rows(&families, &profile, MetricTable::Drift);
    let of = |name: &str| {
        let is = |row: &&Vec<Value>| matches!(&row[1], Value::Text(is) if **is == *name);
        rows.iter().filter(is).map(|row| row[3..].to_vec()).collect::<Vec<_>>()
    };
    assert!(!of("amount").is_empty());
    assert_eq!(of("(other)"), of("amount"));
}

/// As whoever gives a job's states a reference that they were not counted with would read them.
#[test]
fn numbers_that_were_counted_without_the_reference_are_not_compared_with_it() {
    let (profile, all) = (profile(), inferences(3000, 7));
    let drift = |families: &Families, feature: &str| -> Vec<Value> {
        let rows = rows(families, &profile, MetricTable::Drift);
        let of_feature = cells_of(MetricTable::Drift, rows, feature).into_iter();
        of_feature.map(|row| row["value"].clone()).collect()
    };
    let [without, with] = [None, Some(&profile)].map(|reference| folded_with(&all, reference));
    let none = Value::Figure(Err(Undefined::NotApplicable));
    let found = drift(&without, "amount");
    assert!(found.len() == 11 && found.iter().all(|value| *value == none), "{found:?}");
    // Texts and scores are counted alike whatever they are compared with.
    for other in ["country", ""] {
        assert_eq!(drift(&without, other), drift(&with, other), "{other}");
    }
}

#[test]
fn data_quality_is_held_against_the_reference() {
    let (profile, all) = (profile(), inferences(3000, 7));
    let rows = rows(&folded(&all, &profile), &profile, MetricTable::DataQuality);
    let columns = MetricTable::DataQuality.columns();
    let of = |row: usize, name: &str| {
        let at = columns.iter().position(|column| column.name == name).unwrap();
        rows[row][at].clone()
    };
    let figure = |row: usize, name: &str| match of(row, name) {
        Value::Figure(figure) => figure,
        other => panic!("{name} is {other:?}"),
    };
    let mut amounts: Vec<f64> = all.iter().filter_map(|one| number(one.0)).collect();
    amounts.sort_by(f64::total_cmp);
    let known = profile.features["amount"].numeric().unwrap();
    let outside = amounts.iter().filter(|x| **x < known.min || **x > known.max).count();
    assert!(outside > 0);
    let count = |n: usize| f64::from(u32::try_from(n).unwrap());
    assert_eq!(figure(0, "out_of_range"), Ok(count(outside)));
    assert_eq!(figure(0, "out_of_range_rate"), Ok(count(outside) / count(amounts.len())));
    assert_eq!(of(0, "missing"), Value::Count(120));
    assert_eq!(of(0, "type_errors"), Value::Count(60));
    // The quantile lies in the cell of the reference that the exact one lies in.
    let mut bounds = vec![amounts[0], known.min];
    bounds.extend(known.fine_edges.iter());
    bounds.extend([known.max, amounts[amounts.len() - 1]]);
    for (name, percent) in [("p01", 1), ("p25", 25), ("p50", 50), ("p75", 75), ("p99", 99)] {
        let exact = amounts[(percent * amounts.len()).div_ceil(100) - 1];
        let upper = bounds.iter().position(|bound| exact <= *bound).unwrap().max(1);
        let found = figure(0, name).unwrap();
        let (from, to) = (bounds[upper - 1], bounds[upper]);
        assert!((from..=to).contains(&found), "{name} is {found}, {exact} lies in {from} to {to}");
    }
    let new = |names: &[&str]| {
        let is_new = |one: &&Said| names.iter().any(|name| one.1 == FeatureValue::Text(name));
        count(all.iter().filter(is_new).count())
    };
    assert_eq!(figure(1, "new_categories"), Ok(2.0));
    assert_eq!(figure(1, "new_category_values"), Ok(new(&["AT", "XX"])));
    assert_eq!(figure(1, "out_of_range"), Err(Undefined::NotApplicable));
    assert_eq!(figure(1, "distinct"), Ok(4.0));
}

/// Category, n and share of the reference of each row, in order.
fn category_rows(rows: &[Vec<Value>]) -> Vec<(String, u64, Result<f64, Undefined>)> {
    rows.iter()
        .map(|row| match &row[..] {
            [
                Value::Text(feature),
                Value::Text(category),
                Value::Count(n),
                Value::Count(values),
                rest @ ..,
            ] => {
                assert_eq!(&**feature, "country");
                let [
                    Value::Figure(Ok(share)),
                    Value::Figure(lower),
                    Value::Figure(upper),
                    _,
                    Value::Figure(reference),
                ] = rest
                else {
                    panic!("{rest:?}")
                };
                let of = |n: u64| f64::from(u32::try_from(n).unwrap());
                assert!((share - of(*n) / of(*values)).abs() < 1e-15);
                assert!(lower.unwrap() <= *share && *share <= upper.unwrap());
                (category.to_string(), *n, *reference)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn categories_stand_beside_those_of_the_reference_the_most_frequent_first() {
    let (profile, all) = (profile(), inferences(3000, 7));
    let n_of = |name: &str| all.iter().filter(|one| one.1 == FeatureValue::Text(name)).count();
    let in_reference = [("DE", 0.6), ("FR", 0.3), ("CH", 0.1), ("AT", 0.0), ("XX", 0.0)];
    let mut expected: Vec<_> = in_reference
        .iter()
        .map(|&(name, reference)| {
            (name.to_owned(), u64::try_from(n_of(name)).unwrap(), Ok(reference))
        })
        .collect();
    expected.sort_by(|a, b| {
        let size = |(_, n, reference): &(String, u64, Result<f64, Undefined>)| {
            (f64::from(u32::try_from(*n).unwrap()) / 3000.0).max(reference.unwrap())
        };
        size(b).total_cmp(&size(a))
    });
    let found = rows(&folded(&all, &profile), &profile, MetricTable::Categories);
    assert_eq!(category_rows(&found), expected, "DE did not come, and AT and XX are new");

    // A reference that only counts some: what it does not list may be among those.
    let mut open = profile.clone();
    let country = Arc::make_mut(open.features.get_mut("country").unwrap());
    let Values::Categorical(listed) = &mut country.values else { panic!("texts") };
    listed.other = 1000;
    let found = category_rows(&rows(&folded(&all, &open), &open, MetricTable::Categories));
    let of = |name: &str| found.iter().find(|row| row.0 == name).unwrap().2;
    assert_eq!(
        [of("DE"), of("AT"), of("XX")],
        [Ok(0.3), Err(Undefined::Capped), Err(Undefined::Capped)]
    );
    assert_eq!(found.last().unwrap(), &("(other)".to_owned(), 0, Ok(0.5)));
}

#[test]
fn of_many_categories_the_most_frequent_have_rows_and_the_rest_is_one() {
    let mut profile = profile();
    profile.features.remove("country");
    for names in [21_u32, 90, 300] {
        let text =
            |place: u32| -> &'static str { Box::leak(format!("c{place:03}").into_boxed_str()) };
        // The later the name, the more often.
        let all: Vec<Said> = (0..names)
            .flat_map(|place| {
                let said = (FeatureValue::Missing, FeatureValue::Text(text(place)), None);
                std::iter::repeat_n(said, usize::try_from(place + 1).unwrap())
            })
            .collect();
        let found =
            category_rows(&rows(&folded(&all, &profile), &profile, MetricTable::Categories));
        assert_eq!(found.len(), 21, "{names}");
        assert_eq!(found.iter().map(|row| row.1).sum::<u64>(), u64::try_from(all.len()).unwrap());
        assert!(found.iter().all(|row| row.2 == Err(Undefined::NoReference)));
        assert!(found[..20].is_sorted_by(|a, b| a.1 > b.1) && found[20].0 == "(other)");
        if names <= 100 {
            let first = format!("c{:03}", names - 1);
            assert_eq!((found[0].0.as_str(), found[0].1), (first.as_str(), u64::from(names)));
        }
    }
}

/// Inferences with text in some features, none with a score, folded with room for `most` features.
fn with_texts(all: &[&[(&str, &'static str)]], profile: &Profile, most: usize) -> Families {
    let mut names = Names::default();
    let mut families = Families::default();
    for one in all {
        let serving =
            ServingInput { time: EventTime(0), latency_us: None, failed: false, freshness_ms: 0 };
        families.serving.add(&serving);
        let features = one.iter().map(|(name, text)| Feature {
            name: FeatureId(names.intern(name)),
            value: FeatureValue::Text(text),
        });
        let features: Vec<_> = features.collect();
        let (names, reference) = (&names, Some(profile));
        let input = FeaturesInput { features: &features, names, reference, most, distinct: &[] };
        families.features.get_mut().add(&input);
    }
    Families::restore(&families.state(), ClassCaps::DEFAULT).unwrap()
}

fn categorical(categories: &[(&str, u64)]) -> Arc<FeatureProfile> {
    let categories = categories.iter().map(|(name, n)| (Arc::from(*name), *n)).collect();
    let values = Values::Categorical(CategoricalProfile { categories, other: 0 });
    Arc::new(FeatureProfile { missing: 0, type_errors: 0, values })
}

/// The cells of the rows of one feature, by column.
pub(crate) fn cells_of(
    table: MetricTable,
    rows: Vec<Vec<Value>>,
    feature: &str,
) -> Vec<BTreeMap<&'static str, Value>> {
    let named =
        |row: Vec<Value>| table.columns().iter().map(|column| column.name).zip(row).collect();
    let all = rows.into_iter().map(named);
    all.filter(|row: &BTreeMap<_, _>| {
        row["feature"] == Value::Text(Arc::<str>::from(feature).into())
    })
    .collect()
}

#[test]
fn a_category_that_is_called_other_is_counted_among_the_others_here_and_there() {
    let mut profile = profile();
    let source = categorical(&[("a", 500), ("(other)", 300), ("b", 200)]);
    profile.features = BTreeMap::from([(Arc::from("source"), source)]);
    let of = |text: &'static str, times| std::iter::repeat_n([("source", text)], times);
    let all: Vec<_> = of("a", 1000).chain(of("(other)", 600)).chain(of("b", 400)).collect();
    let all: Vec<&[_]> = all.iter().map(<[_; 1]>::as_slice).collect();
    let families = with_texts(&all, &profile, 10);
    let quality = rows(&families, &profile, MetricTable::DataQuality);
    let quality = cells_of(MetricTable::DataQuality, quality, "source").remove(0);
    assert_eq!((&quality["values"], &quality["missing"]), (&Value::Count(2000), &Value::Count(0)));
    let drift = rows(&families, &profile, MetricTable::Drift);
    let drift = cells_of(MetricTable::Drift, drift, "source");
    let psi = drift.iter().find(|row| row["method"] == Value::Text("psi".into())).unwrap();
    assert_eq!(psi["value"], Value::Figure(Ok(0.0)), "the shares are the same: {psi:?}");
    assert_eq!(psi["n"], Value::Count(2000));
}

#[test]
fn a_feature_of_the_reference_that_no_inference_carries_is_missing_in_all() {
    let mut profile = profile();
    let (here, gone) = (categorical(&[("x", 10)]), categorical(&[("y", 10)]));
    profile.features = BTreeMap::from([(Arc::from("here"), here), (Arc::from("gone"), gone)]);
    let families = with_texts(&[&[("here", "x")][..]; 50], &profile, 10);
    let quality = rows(&families, &profile, MetricTable::DataQuality);
    let quality = cells_of(MetricTable::DataQuality, quality, "gone");
    let [row] = &quality[..] else { panic!("{quality:?}") };
    let counts = ["inferences", "values", "missing"].map(|name| row[name].clone());
    assert_eq!(counts, [50, 0, 50].map(Value::Count));
    assert_eq!(row["missing_rate"], Value::Figure(Ok(1.0)));
    assert_eq!(row["kind"], Value::Text("categorical".into()));
}

#[test]
fn where_features_are_capped_nothing_is_called_missing() {
    let mut profile = profile();
    let all = ["a", "b", "c"].map(|name| (Arc::from(name), categorical(&[("x", 10)])));
    profile.features = BTreeMap::from(all);
    let one = [("a", "x"), ("b", "x"), ("c", "x")];
    let families = with_texts(&[&one[..]; 50], &profile, 2);
    let rows = |table| rows(&families, &profile, table);
    let capped = Value::Figure(Err(Undefined::Capped));
    for feature in ["a", "c"] {
        let quality = cells_of(MetricTable::DataQuality, rows(MetricTable::DataQuality), feature);
        assert_eq!(quality[0]["missing_rate"], capped, "{feature}: {quality:?}");
        let all = cells_of(MetricTable::Drift, rows(MetricTable::Drift), feature);
        let is = |row: &BTreeMap<&'static str, Value>, name: &str, text: &'static str| {
            row[name] == Value::Text(text.into())
        };
        assert!(all.iter().any(|row| is(row, "method", "psi")), "{feature}: {all:?}");
        assert!(all.iter().any(|row| is(row, "method", "missing_rate")), "{feature}: {all:?}");
        for row in &all {
            let is_unknown = feature == "c" || is(row, "method", "missing_rate");
            assert_eq!(is(row, "reason", "capped"), is_unknown, "{row:?}");
        }
    }
}
