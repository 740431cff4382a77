//! Estimates of models with several classes: against `NannyML` (`estimate.json`, written by `estimate.py`), and against
//! loops over all pairs of records, whatever the interleaving.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidegauge::engine::ModelSettings;
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::accumulator::{Accumulator, FigureContext, Undefined, Value};
use tidegauge::engine::metrics::class_estimate::{
    Chance, ClassEstimate, ClassEstimateInput, ClassesEstimated, chances,
};
use tidegauge::engine::metrics::reference::{CalibrationMap, Calibrator, Profile};
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};
use tidegauge::profile::calibrate::Choice;
use tidegauge::profile::document::{canonical, id_of, read, write};
use xxhash_rust::xxh3::xxh3_64;

use crate::drift_golden::NOTHING;
use crate::golden::is_near;
use crate::oracle::figures::cell_of;
use crate::oracle::{Body, Folded, Partition, Settings, fold, is_close};
use crate::properties::{partitions, settings};
use crate::{drive, shard};

fn real(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

pub(crate) fn size(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

type Figures = BTreeMap<&'static str, Value>;

/// Some of the figures of a row by another way to them, or the reasons why there are none.
pub(crate) type Naive = BTreeMap<&'static str, Result<f64, &'static str>>;

/// Whether a value is what is expected, but for rounding.
pub(crate) fn is_same(value: &Value, expected: Result<f64, &'static str>) -> bool {
    match (value, expected) {
        (Value::Count(is), Ok(expected)) => is_close(real(*is), expected),
        // Sums of probabilities by cell are rounded to 2^-32.
        (Value::Figure(Ok(is)), Ok(expected)) => (is - expected).abs() < 1e-8,
        (Value::Figure(Err(is)), Err(expected)) => is.code() == expected,
        _ => false,
    }
}

fn shown(values: &[Value]) -> Figures {
    let names = MetricTable::QualityEstimated.columns().iter().map(|column| column.name);
    assert_eq!(names.len(), values.len());
    names.zip(values.iter().cloned()).collect()
}

fn figures(estimate: &ClassEstimate) -> Figures {
    let mut families = Families::default();
    *families.class_estimate.get_mut() = estimate.clone();
    let context = FigureContext { window_ms: 60_000, ..FigureContext::default() };
    let rows = families.figures(&context);
    let is = |(table, _): &&(MetricTable, Vec<Value>)| *table == MetricTable::QualityEstimated;
    shown(&rows.iter().find(is).unwrap().1)
}

/// One record by scores, decision and truth.
type Said<'a> = (Vec<(&'a str, f64)>, &'a str, &'a str);

fn records<'a>(classes: &[&'a str], rows: &'a Json) -> Vec<Said<'a>> {
    let texts = |name: &str| rows[name].as_array().unwrap().iter().map(|it| it.as_str().unwrap());
    let scores = rows["scores"].as_array().unwrap().iter().map(|row| {
        let scores = row.as_array().unwrap().iter().map(|score| score.as_f64().unwrap());
        classes.iter().copied().zip(scores).collect()
    });
    scores.zip(texts("predicted")).zip(texts("actual")).map(|((s, p), a)| (s, p, a)).collect()
}

fn profile(records: &[Said<'_>], calibration: Choice) -> Profile {
    let mut builder =
        ProfileBuilder::new(Options { calibration, ..Options::new("classes") }).unwrap();
    for (low, (scores, predicted, actual)) in (0..).zip(records) {
        let record = Record {
            id: RequestId { high: 0, low },
            scores,
            prediction: FeatureValue::Text(predicted),
            label: FeatureValue::Text(actual),
            ..NOTHING
        };
        builder.add(&record).unwrap();
    }
    builder.finish().unwrap().profile
}

#[test]
fn nannyml_estimates_alike() {
    let golden: Json = serde_json::from_str(include_str!("estimate.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let classes: Vec<&str> =
            case["classes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let profile = profile(&records(&classes, &case["reference"]), Choice::Isotonic);
        let calibrated: Vec<&str> =
            profile.class_calibrators.iter().map(|(class, _)| &**class).collect();
        assert_eq!(calibrated, classes, "{name}");
        let current = records(&classes, &case["current"]);
        assert_eq!(current.len(), case["probabilities"].as_array().unwrap().len(), "{name}");
        let labelled = case["figures"]["n_labelled"].as_f64().unwrap();
        let mut parts = [const { Vec::new() }; 3];
        for (at, record) in current.iter().enumerate() {
            parts[at % 3].push((at, record));
        }
        let mut merged = ClassEstimate::default();
        for part in parts {
            let mut estimate = ClassEstimate::default();
            for (at, (scores, predicted, actual)) in part {
                let chances = chances(&profile.class_calibrators, scores);
                let expected = case["probabilities"][at].as_array().unwrap();
                assert_eq!(chances.len(), expected.len(), "{name} {at}");
                for (chance, expected) in chances.iter().zip(expected) {
                    assert!(is_near(chance.probability, expected.as_f64().unwrap()), "{name} {at}");
                }
                let of = ClassesEstimated { chances: &chances, predicted };
                estimate.add(&ClassEstimateInput::Inference(of));
                if size(at) < labelled {
                    estimate.add(&ClassEstimateInput::Labelled { of, actual });
                }
            }
            let mut state = Vec::new();
            estimate.state(&mut state);
            merged.merge(&ClassEstimate::restore(&mut state.iter()).unwrap());
        }
        check(&figures(&merged), &case["figures"], name);
    }
}

/// Every figure that there is, and why there are no others.
fn check(found: &Figures, expected: &Json, case: &str) {
    let bound = match found["est_auroc_error_bound"] {
        Value::Figure(Ok(bound)) => bound,
        ref other => panic!("{case}: {other:?}"),
    };
    assert!((0.0..0.1).contains(&bound), "{bound}");
    for name in expected.as_object().unwrap().keys() {
        assert!(found.contains_key(name.as_str()), "{case}: there is no {name}");
    }
    for (name, value) in found {
        let expected = expected.get(*name).map(|it| it.as_f64().unwrap());
        match (value, expected) {
            (Value::Count(count), Some(expected)) => {
                assert_eq!(real(*count), expected, "{case}: {name}");
            }
            (Value::Figure(Ok(is)), Some(expected)) => {
                // `NannyML` rounds areas to five decimals on the way.
                let near = if name.contains("auroc") { 1e-6 } else { 1e-9 };
                assert!((is - expected).abs() <= near, "{case}: {name} is {is}, not {expected}");
            }
            (Value::Figure(Err(reason)), None) => {
                assert_eq!(*reason, Undefined::NotApplicable, "{case}: {name}");
            }
            (_, None) if *name == "est_auroc_error_bound" => {}
            (other, expected) => panic!("{case}: {name} is {other:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn chances_add_up_to_one() {
    let isotonic = |rates: [f64; 2]| {
        let map =
            CalibrationMap::Isotonic { knots: vec![0.25, 0.75].into(), rates: rates.to_vec() };
        Calibrator { map, n: 1, positives: 0, ece_identity: 0.0, ece_isotonic: 0.0 }
    };
    let calibrators: Vec<(Arc<str>, Calibrator)> =
        vec![("a".into(), isotonic([0.0, 0.5])), ("b".into(), isotonic([0.0, 1.0]))];
    let of = |scores: &[(&'static str, f64)]| -> Vec<(String, f64, f64)> {
        let all = chances(&calibrators, scores);
        all.iter().map(|it| (it.class.to_owned(), it.score, it.probability)).collect()
    };
    let is = |class: &str, score: f64, p: f64| (class.to_owned(), score, p);
    assert_eq!(of(&[("b", 0.5), ("a", 0.75)]), [is("a", 0.75, 0.5), is("b", 0.5, 0.5)]);
    assert_eq!(of(&[("a", 0.75)]), [is("a", 0.75, 1.0), is("b", 0.0, 0.0)]);
    // Nothing is likely: all are alike.
    assert_eq!(of(&[("a", 0.2), ("b", 0.1)]), [is("a", 0.2, 0.5), is("b", 0.1, 0.5)]);
    // A class that the reference did not know.
    let new = of(&[("a", 0.75), ("c", 0.5)]);
    assert_eq!(new, [is("a", 0.75, 0.5), is("b", 0.0, 0.0), is("c", 0.5, 0.5)]);
}

#[test]
fn documents_hold_a_calibrator_for_each_class() {
    let profile = reference();
    let text = write(&profile);
    let profile = Profile { id: id_of(&profile).into(), ..(*profile).clone() };
    let mut document: Json = serde_json::from_str(&text).unwrap();
    document.as_object_mut().unwrap().remove("id");
    assert_eq!(read(&document.to_string()), Ok(profile.clone()));
    // What it does not have is no part of it.
    let without = Profile { class_calibrators: Vec::new(), ..profile.clone() };
    assert!(!canonical(&without).contains("class_calibrators"));
    assert_ne!(id_of(&without), id_of(&profile));
    for (path, value, code) in [
        ("/class_calibrators", json!({}), "profile_malformed"),
        ("/class_calibrators", json!([1]), "profile_malformed"),
        ("/class_calibrators/b/positives", json!(10), "profile_malformed"),
        ("/class_calibrators/b/rates", json!([0.9, 0.1]), "profile_flawed"),
        ("/class_calibrators/b/knots", json!([0.0, 2.0]), "profile_flawed"),
    ] {
        let mut changed = document.clone();
        *changed.pointer_mut(path).unwrap() = value;
        let error = read(&changed.to_string()).unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
        assert!(error.to_string().contains("class_calibrators"), "{error}");
    }
}

/// Records that do not score a class, in the profile and in the windows, score it 0.
#[test]
fn a_class_without_a_score_has_the_score_0() {
    let sparse: Vec<Said<'_>> = (0..40_u32)
        .map(|i| {
            let score = f64::from(i % 8) / 8.0;
            let scores =
                if i % 2 == 0 { vec![("a", score)] } else { vec![("b", score), ("a", 0.5)] };
            (scores, "a", if i % 3 == 0 { "c" } else { "a" })
        })
        .collect();
    let full: Vec<Said<'_>> = sparse
        .iter()
        .map(|(scores, predicted, actual)| {
            let of = |class: &str| scores.iter().find(|it| it.0 == class).map_or(0.0, |it| it.1);
            (["a", "b", "c"].map(|class| (class, of(class))).to_vec(), *predicted, *actual)
        })
        .collect();
    for choice in [Choice::Isotonic, Choice::Identity, Choice::Auto] {
        assert_eq!(profile(&sparse, choice), profile(&full, choice));
    }
}

#[test]
fn more_classes_than_are_kept_have_no_area() {
    let mut estimate = ClassEstimate::default();
    for n in 0..40 {
        let class = format!("class {n}");
        let chance = Chance { class: &class, score: 0.5, probability: 0.25 };
        let of = ClassesEstimated { chances: &[chance], predicted: &class };
        estimate.add(&ClassEstimateInput::Inference(of));
        estimate.add(&ClassEstimateInput::Labelled { of, actual: "class 1" });
    }
    let found = figures(&estimate);
    assert_eq!(found["est_auroc"], Value::Figure(Err(Undefined::Capped)));
    assert_eq!(found["realized_auroc"], Value::Figure(Err(Undefined::Capped)));
    assert_eq!(found["est_accuracy"], Value::Figure(Ok(0.25)));
    assert_eq!(found["realized_accuracy"], Value::Figure(Ok(0.025)));
}

/// Calibrators of classes by name: what a score becomes.
const MAPS: [(&str, [f64; 2]); 3] = [("a", [0.0, 0.8]), ("b", [0.1, 0.9]), ("z", [0.0, 0.3])];

fn reference() -> Arc<Profile> {
    let calibrators = MAPS.map(|(class, rates)| {
        let map = CalibrationMap::Isotonic { knots: vec![0.0, 1.0].into(), rates: rates.to_vec() };
        let it = Calibrator { map, n: 9, positives: 3, ece_identity: 0.1, ece_isotonic: 0.1 };
        (Arc::from(class), it)
    });
    let empty = profile(&[(vec![("a", 0.5)], "a", "a")], Choice::Identity);
    Arc::new(Profile { class_calibrators: calibrators.to_vec(), ..empty })
}

/// A record as the estimate sees it, by its own way to it.
struct Seen<'a> {
    /// Score and probability by class.
    classes: BTreeMap<&'a str, (f64, f64)>,
    predicted: &'a str,
    actual: Option<&'a str>,
    /// The classes of all labels that won at some time.
    winners: &'a [String],
}

impl<'a> Seen<'a> {
    fn of(one: &'a Folded) -> Option<Self> {
        if !one.multiclass || one.scores.is_empty() {
            return None;
        }
        let mut classes: BTreeMap<&str, (f64, f64)> =
            one.scores.iter().map(|(class, score)| (class.as_str(), (*score, *score))).collect();
        for (class, [low, high]) in MAPS {
            let of_class = classes.entry(class).or_insert((0.0, 0.0));
            of_class.1 = low + of_class.0 * (high - low);
        }
        let sum: f64 = classes.values().map(|it| it.1).sum();
        let alike = 1.0 / size(classes.len());
        for (_, p) in classes.values_mut() {
            *p = if sum > 0.0 { *p / sum } else { alike };
        }
        let (predicted, actual) = (one.class.as_deref()?, one.walk.class.as_deref());
        Some(Self { classes, predicted, actual, winners: &one.walk.winners })
    }

    fn p(&self) -> f64 {
        self.classes.get(self.predicted).map_or(0.0, |it| it.1)
    }

    fn class(&self, class: &str) -> (f64, f64) {
        self.classes.get(class).copied().unwrap_or((0.0, 0.0))
    }
}

/// Pairs of a positive and a negative that the positive wins, ties by half, over all pairs: of the cell, and how far it
/// is positive and negative.
pub(crate) fn area(weighed: &[(u64, f64, f64)]) -> Option<f64> {
    let (mut won, mut all) = (0.0, 0.0);
    for (x, positive, _) in weighed {
        for (y, _, negative) in weighed {
            let wins = match x.cmp(y) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Less => 0.0,
            };
            won += positive * negative * wins;
            all += positive * negative;
        }
    }
    (all > 1e-12).then(|| won / all)
}

fn mean(areas: impl Iterator<Item = Option<f64>>) -> Result<f64, &'static str> {
    let areas: Vec<f64> = areas.flatten().collect();
    if areas.is_empty() {
        Err("one_class")
    } else {
        Ok(areas.iter().sum::<f64>() / size(areas.len()))
    }
}

/// The figures of these records, where the scores of `cap` classes are kept.
fn naive(members: &[&Folded], cap: usize) -> Option<Naive> {
    let all: Vec<Seen<'_>> = members.iter().filter_map(|one| Seen::of(one)).collect();
    if all.is_empty() {
        return None;
    }
    let labelled: Vec<&Seen<'_>> = all.iter().filter(|one| one.actual.is_some()).collect();
    let now: BTreeSet<&str> =
        all.iter().flat_map(|one| one.classes.keys().copied().chain(one.actual)).collect();
    let winners = all.iter().flat_map(|one| one.winners).map(String::as_str);
    let mut ever: Vec<&str> = now.iter().copied().chain(winners).collect();
    ever.sort_by_key(|class| xxh3_64(class.as_bytes()));
    ever.dedup();
    let classes: BTreeSet<&str> = ever.into_iter().take(cap).collect();
    let mean = |areas: Vec<Option<f64>>| {
        if now.is_subset(&classes) { mean(areas.into_iter()) } else { Err("capped") }
    };
    let expected = |some: &[&Seen<'_>], class: &str| {
        let weighed: Vec<_> = some
            .iter()
            .map(|one| (cell_of(one.class(class).0), one.class(class).1, 1.0 - one.class(class).1))
            .collect();
        area(&weighed)
    };
    let realized = |class: &str| {
        let weighed: Vec<_> = labelled
            .iter()
            .map(|one| {
                let is = f64::from(u8::from(one.actual == Some(class)));
                (cell_of(one.class(class).0), is, 1.0 - is)
            })
            .collect();
        area(&weighed)
    };
    let everyone: Vec<&Seen<'_>> = all.iter().collect();
    let (n, known) = (size(all.len()), size(labelled.len()));
    let right = size(labelled.iter().filter(|one| one.actual == Some(one.predicted)).count());
    let sum = |some: &[&Seen<'_>]| some.iter().map(|one| one.p()).sum::<f64>();
    let if_labelled = |figure: Result<f64, &'static str>| {
        if labelled.is_empty() { Err("no_labels") } else { figure }
    };
    let open: f64 = all.iter().filter(|one| one.actual.is_none()).map(Seen::p).sum();
    let realized_auroc = if_labelled(mean(classes.iter().map(|class| realized(class)).collect()));
    let with_area = classes.iter().filter(|class| realized(class).is_some());
    let est_labelled_auroc =
        if_labelled(mean(with_area.map(|class| expected(&labelled, class)).collect()));
    Some(BTreeMap::from([
        ("n", Ok(n)),
        ("n_labelled", Ok(known)),
        ("est_accuracy", Ok(sum(&everyone) / n)),
        ("est_auroc", mean(classes.iter().map(|class| expected(&everyone, class)).collect())),
        ("realized_accuracy", if_labelled(Ok(right / known))),
        ("est_labelled_accuracy", if_labelled(Ok(sum(&labelled) / known))),
        ("accuracy_gap", if_labelled(Ok((right - sum(&labelled)) / known))),
        ("realized_auroc", realized_auroc),
        ("est_labelled_auroc", est_labelled_auroc),
        ("auroc_gap", realized_auroc.and_then(|is| Ok(is - est_labelled_auroc?))),
        ("blended_accuracy", Ok((right + open) / n)),
    ]))
}

/// By names, start and length of the window.
pub(crate) type Rows = BTreeMap<([String; 3], i64, i64), Figures>;

/// The rows of all models, held against this reference.
pub(crate) fn rows(
    settings: &Settings,
    logs: &[Partition],
    steps: &[Vec<drive::Step>],
    reference: &Arc<Profile>,
) -> Rows {
    let mut engine = shard::settings(settings);
    engine.models.push(ModelSettings::default());
    for model in &mut engine.models {
        model.reference = Some(Arc::clone(reference));
    }
    let written = drive::run_with(&Arc::new(engine), logs, steps);
    let rows = written.metric_rows(settings, Some(reference)).into_iter();
    rows.filter(|row| row.table == MetricTable::QualityEstimated)
        .map(|row| {
            let names = [&row.key.model, &row.key.version, &row.key.segment];
            let names = names.map(|name| String::from(&**name));
            let window = row.key.window;
            ((names, window.start.0, window.size().0), shown(&row.values))
        })
        .collect()
}

/// Panics where the rows are not those of the inferences of each key and window.
pub(crate) fn must_equal(
    mut found: Rows,
    settings: &Settings,
    logs: &[Partition],
    naive: impl Fn(&[&Folded]) -> Option<Naive>,
) {
    let (_, folded) = fold(settings, logs);
    for (at, members) in drive::groups(settings, &folded) {
        match (found.remove(&at), naive(&members)) {
            (Some(row), Some(expected)) => {
                for (name, expected) in expected {
                    let is = &row[name];
                    assert!(is_same(is, expected), "{name} is {is:?}, not {expected:?}");
                }
            }
            (None, None) => {}
            (row, expected) => panic!("{row:?} {expected:?}"),
        }
    }
    let left: Vec<_> = found.into_iter().collect();
    assert!(left.is_empty(), "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_estimates_alike(settings in settings(), both in partitions()) {
        let (mut logs, steps): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        if !settings.has_labels {
            for log in &mut logs {
                log.labels.clear();
            }
        }
        let found = rows(&settings, &logs, &steps, &reference());
        must_equal(found, &settings, &logs, |members| naive(members, settings.class_caps[1]));
    }

    /// A record is of one kind, whatever else it carries: its own kind of calibrator makes its estimate.
    #[test]
    fn a_reference_with_both_kinds_of_calibrators_estimates_each_record_by_its_own(
        settings in settings(), both in partitions(),
    ) {
        let (mut logs, steps): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        for log in &mut logs {
            if !settings.has_labels {
                log.labels.clear();
            }
            for record in &mut log.inferences {
                if let Body::Inference(said) = &mut record.body
                    && !said.scores.is_empty()
                {
                    said.score = Some(0.3);
                }
            }
        }
        let classes = reference();
        let map = CalibrationMap::Isotonic { knots: vec![0.0, 1.0].into(), rates: vec![0.2, 0.7] };
        let it = Calibrator { map, n: 9, positives: 3, ece_identity: 0.1, ece_isotonic: 0.1 };
        let all = Arc::new(Profile { calibrator: Some(it), ..(*classes).clone() });
        let binary = Arc::new(Profile { class_calibrators: Vec::new(), ..(*all).clone() });
        let [all, binary, mut expected] =
            [all, binary, classes].map(|reference| rows(&settings, &logs, &steps, &reference));
        // Where a key has records of both kinds, its row is of the binary ones.
        expected.extend(binary);
        prop_assert_eq!(all, expected);
    }
}
