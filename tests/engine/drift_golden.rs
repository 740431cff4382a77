//! Profiles, drift and calibrators against `drift.json`, written by `drift.py` with scipy, statsmodels and scikit-learn.

use std::sync::LazyLock;

use serde_json::Value as Json;
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::accumulator::Undefined;
use tidegauge::engine::metrics::drift::method::Method;
use tidegauge::engine::metrics::drift::tail::{chi_square_tail, kolmogorov_tail};
use tidegauge::engine::metrics::drift::verdict::false_discovery;
use tidegauge::engine::metrics::drift::{CurrentCounts, Measure, drift};
use tidegauge::engine::metrics::reference::{CalibrationMap, Calibrator, FeatureProfile};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Built, Options, Record};
use tidegauge::profile::calibrate::Choice;
use tidegauge::profile::document;

use crate::golden::is_near;

static GOLDEN: LazyLock<Json> =
    LazyLock::new(|| serde_json::from_str(include_str!("drift.json")).unwrap());

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().unwrap()
}

fn numbers(json: &Json) -> Vec<f64> {
    list(json).iter().map(|x| x.as_f64().unwrap()).collect()
}

pub(crate) const NOTHING: Record<'static> = Record {
    id: RequestId { high: 0, low: 0 },
    features: &[],
    score: None,
    scores: &[],
    prediction: FeatureValue::Missing,
    label: FeatureValue::Missing,
    positive: None,
};

/// A profile of feature `x` alone.
pub(crate) fn built<'a>(
    values: impl IntoIterator<Item = FeatureValue<'a>>,
    options: Options,
) -> Built {
    let mut builder = ProfileBuilder::new(options).unwrap();
    for value in values {
        builder.add(&Record { features: &[("x", value)], ..NOTHING }).unwrap();
    }
    builder.finish().unwrap()
}

pub(crate) fn feature_of<'a>(values: impl IntoIterator<Item = FeatureValue<'a>>) -> FeatureProfile {
    built(values, Options::new("test")).profile.features["x"].as_ref().clone()
}

fn of(measures: &[Measure], method: Method) -> Measure {
    *measures.iter().find(|measure| measure.method == method).unwrap()
}

#[track_caller]
fn near(found: f64, expected: &Json, at: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(is_near(found, expected), "{at}: {found}, expected {expected}");
}

/// Value and p-value of each method that scipy has, and none that it has not.
fn check_methods(measures: &[Measure], expected: &Json, case: &str) {
    let methods = expected.as_object().unwrap();
    for (name, figures) in methods {
        let measure = of(measures, Method::named(name).unwrap());
        let at = format!("{case}: {name}");
        near(measure.value.unwrap(), &figures[0], &at);
        match figures[1].as_f64() {
            Some(p) => {
                let found = measure.p_value.unwrap();
                assert!((found - p).abs() < 1e-9, "{at}: p {found}, expected {p}");
            }
            // The test has merged all bins into one: there is nothing to test.
            None => assert_eq!(measure.p_value, Err(Undefined::TooFewSamples), "{at}"),
        }
    }
    for method in [Method::Chi2, Method::G] {
        assert_eq!(of(measures, method).value.is_ok(), methods.contains_key(method.name()));
    }
}

#[test]
fn numbers_drift_as_scipy_says() {
    for case in list(&GOLDEN["numbers"]) {
        let name = case["name"].as_str().unwrap();
        let profile = feature_of(numbers(&case["reference"]).into_iter().map(FeatureValue::Number));
        let numeric = profile.numeric().unwrap();
        assert_eq!(*numeric.fine_edges, *numbers(&case["fine_edges"]), "{name}");
        assert_eq!(numeric.bin_edges, numbers(&case["bin_edges"]), "{name}");
        near(numeric.mean, &case["mean"], name);
        near(numeric.sd, &case["sd"], name);
        let cells = numeric.gather(numbers(&case["current"]).into_iter().map(|x| (x, 1)));
        let expected = case["cells"].as_object().unwrap();
        assert_eq!(cells.len(), expected.len(), "{name}");
        for (cell, count) in &cells {
            assert_eq!(Some(*count), expected[&cell.to_string()].as_u64(), "{name}: cell {cell}");
        }
        let missing = case["missing"].as_u64().unwrap();
        let measures = drift(&profile, &CurrentCounts::Cells { cells: &cells, missing });
        check_methods(&measures, &case["methods"], name);
        for (method, key) in
            [(Method::MissingRate, "missing_rate"), (Method::OutOfRangeRate, "out_of_range_rate")]
        {
            let measure = of(&measures, method);
            near(measure.value.unwrap(), &case[key][0], key);
            near(measure.value_lower.unwrap(), &case[key][1], key);
            near(measure.value_upper.unwrap(), &case[key][2], key);
        }
        check_ordered(&measures, case, name);
    }
}

/// Distances of ordered values: equal on cells, and within their brackets on raw values.
fn check_ordered(measures: &[Measure], case: &Json, name: &str) {
    let ks = of(measures, Method::Ks);
    near(ks.value.unwrap(), &case["ks"], name);
    let raw = case["raw_ks"].as_f64().unwrap();
    assert!(ks.value_lower.unwrap() <= raw + 1e-12, "{name}");
    assert!(raw <= ks.value_upper.unwrap() + 1e-12, "{name}");
    let exact = case["ks_p"].as_f64().unwrap();
    if ks.n * ks.reference_n / (ks.n + ks.reference_n) >= 100 {
        assert!((ks.p_value.unwrap() - exact).abs() < 2e-4, "{name}: {ks:?}, expected {exact}");
    }
    let wasserstein = of(measures, Method::Wasserstein);
    let Some(raw) = case["raw_wasserstein"].as_f64() else {
        assert_eq!(wasserstein.value.map_err(Undefined::code), Err("zero_variance"));
        return;
    };
    assert!(wasserstein.value_lower.unwrap() <= raw + 1e-12, "{name}: {wasserstein:?}, {raw}");
    assert!(
        wasserstein.value_upper.is_ok_and(|upper| raw <= upper + 1e-12)
            || wasserstein.value_upper.is_err_and(|reason| reason.code() == "not_applicable"
                && of(measures, Method::OutOfRangeRate).value.unwrap() > 0.0),
        "{name}"
    );
}

#[test]
fn names_drift_as_scipy_says() {
    for case in list(&GOLDEN["names"]) {
        let name = case["name"].as_str().unwrap();
        let counts = list(&case["reference"]).iter();
        let counts: Vec<(&str, u64)> =
            counts.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_u64().unwrap())).collect();
        // The rarest first: the profile has its own order.
        let values = counts
            .iter()
            .rev()
            .flat_map(|&(name, count)| (0..count).map(move |_| FeatureValue::Text(name)));
        let profile = feature_of(values);
        let listed = &profile.categories().unwrap().categories;
        let listed: Vec<(&str, u64)> = listed.iter().map(|(name, n)| (&**name, *n)).collect();
        assert_eq!(listed, counts, "{name}");
        let current = case["current"].as_object().unwrap();
        let current: Vec<(&str, u64)> =
            current.iter().map(|(name, count)| (name.as_str(), count.as_u64().unwrap())).collect();
        let names = CurrentCounts::Names { names: &current, other: 0, missing: 0 };
        let measures = drift(&profile, &names);
        check_methods(&measures, &case["methods"], name);
        let new = of(&measures, Method::NewCategoryRate);
        let total: u64 = current.iter().map(|(_, count)| count).sum();
        assert_eq!(new.n, total);
        let counted = |n: u64| f64::from(u32::try_from(n).unwrap());
        let share = counted(case["new"].as_u64().unwrap()) / counted(total);
        assert_eq!(new.value, Ok(share), "{name}");
    }
}

#[test]
fn tails_are_those_of_scipy() {
    for case in list(&GOLDEN["chi_square_tail"]) {
        let (x, degrees) = (case[0].as_f64().unwrap(), case[1].as_u64().unwrap());
        let found = chi_square_tail(x, usize::try_from(degrees).unwrap());
        let expected = case[2].as_f64().unwrap();
        // Absolutely 1e-9, and far out relatively 1e-6.
        let tolerance = f64::min(1e-9, expected * 1e-6).max(1e-300);
        assert!((found - expected).abs() <= tolerance, "{case}: {found}");
    }
    for case in list(&GOLDEN["kolmogorov_tail"]) {
        let (distance, size) = (case[0].as_f64().unwrap(), case[1].as_u64().unwrap());
        // Two samples of twice the size have this N.
        let found = kolmogorov_tail(distance, 2 * size, 2 * size);
        let expected = case[2].as_f64().unwrap();
        let tolerance = if size >= 100 { 2e-4 } else { 6e-4 };
        assert!((found - expected).abs() <= tolerance, "{case}: {found}");
    }
    let adjusted = false_discovery(&numbers(&GOLDEN["p_values"]));
    assert_eq!(adjusted.len(), list(&GOLDEN["false_discovery"]).len());
    for (found, expected) in adjusted.iter().zip(list(&GOLDEN["false_discovery"])) {
        near(*found, expected, "false discovery");
    }
}

fn calibrator(case: &Json, choice: Choice) -> Calibrator {
    let mut options = Options::new("test");
    options.calibration = choice;
    let mut builder = ProfileBuilder::new(options).unwrap();
    let (scores, labels) = (numbers(&case["scores"]), list(&case["labels"]));
    assert_eq!(scores.len(), labels.len());
    let labelled = scores.into_iter().zip(labels);
    for (low, (score, label)) in (0..).zip(labelled) {
        let id = RequestId { high: 0, low };
        let positive = Some(label.as_u64() == Some(1));
        builder.add(&Record { id, score: Some(score), positive, ..NOTHING }).unwrap();
    }
    builder.finish().unwrap().profile.calibrator.unwrap()
}

#[test]
fn calibrators_are_those_of_scikit_learn() {
    let [overconfident, calibrated] = &list(&GOLDEN["calibration"])[..] else {
        panic!("other cases")
    };
    for (case, is_better) in [(overconfident, true), (calibrated, false)] {
        let name = case["name"].as_str().unwrap();
        let isotonic = calibrator(case, Choice::Isotonic);
        let (asked, rates) = (numbers(&case["asked"]), list(&case["isotonic"]));
        assert_eq!(asked.len(), rates.len(), "{name}");
        for (score, expected) in asked.into_iter().zip(rates) {
            near(isotonic.map.apply(score), expected, &format!("{name}: at {score}"));
        }
        near(isotonic.ece_identity, &case["ece_identity"], name);
        near(isotonic.ece_isotonic, &case["ece_isotonic"], name);
        let chosen = calibrator(case, Choice::Auto);
        assert_eq!(chosen.map != CalibrationMap::Identity, is_better, "{name}");
        assert_eq!(calibrator(case, Choice::Identity).map, CalibrationMap::Identity);
        assert_eq!(chosen.n, isotonic.n);
    }
}

/// The id is the SHA-256 that Python computes of its own canonical form.
#[test]
fn ids_are_those_of_another_program() {
    let text = serde_json::to_string_pretty(&GOLDEN["document"]).unwrap();
    let profile = document::read(&text).unwrap();
    assert_eq!(Some(&*profile.id), GOLDEN["id"].as_str());
}
