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

/// The figures of a row by another way to them, or the reasons why there are none.
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
        let found = figures(&merged);
        check(&found, &case["figures"], name);
        check_bound(&found, &current, &case["probabilities"], name);
    }
}

/// Every figure that there is, and why there are no others.
fn check(found: &Figures, expected: &Json, case: &str) {
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

/// The bound is what ties inside cells leave open, and the area of the scores themselves lies within it.
fn check_bound(found: &Figures, current: &[Said<'_>], chances: &Json, case: &str) {
    let weighed = |class: usize, place: fn(f64) -> u64| -> Vec<Weighed> {
        let rows = current.iter().zip(chances.as_array().unwrap());
        let of_class = rows.map(|((scores, ..), chances)| {
            let p = chances[class].as_f64().unwrap();
            (place(scores[class].1), p, 1.0 - p)
        });
        of_class.collect()
    };
    let over_classes = |figure: fn(&[Weighed]) -> Option<f64>, place: fn(f64) -> u64| {
        mean((0..current[0].0.len()).map(|class| figure(&weighed(class, place)))).unwrap()
    };
    let bound = over_classes(tied, cell_of);
    assert!(bound > 0.0, "{case}: every cell holds what may be positive and what may be negative");
    let is = &found["est_auroc_error_bound"];
    assert!(is_same(is, Ok(bound)), "{case}: the bound is {is:?}, not {bound}");
    // Scores are not negative, so that their bits are in their order.
    let exact = over_classes(area, f64::to_bits);
    let Value::Figure(Ok(estimate)) = found["est_auroc"] else { panic!("{case}: {found:?}") };
    assert!((estimate - exact).abs() <= bound, "{case}: {estimate} and {exact}, bound {bound}");
}

/// Of two scores in one cell the greater is that of a certain positive and the other that of a certain negative: the
/// order inside the cell changes the area by as much as the bound says, and no less would be enough.
#[test]
fn the_bound_of_the_area_is_reached() {
    let records: [(f64, f64); 4] = [(0.9, 1.0), (0.6201, 1.0), (0.62, 0.0), (0.1, 0.0)];
    assert_eq!(cell_of(0.6201), cell_of(0.62));
    let mut estimate = ClassEstimate::default();
    for (score, p) in records {
        let chances = [("a", score, p), ("b", 1.0 - score, 1.0 - p)]
            .map(|(class, score, probability)| Chance { class, score, probability });
        let of = ClassesEstimated { chances: &chances, predicted: "a" };
        estimate.add(&ClassEstimateInput::Inference(of));
    }
    let found = figures(&estimate);
    let exact = area(&records.map(|(score, p)| (score.to_bits(), p, 1.0 - p))).unwrap();
    assert_eq!(found["est_auroc"], Value::Figure(Ok(exact - 0.125)));
    assert_eq!(found["est_auroc_error_bound"], Value::Figure(Ok(0.125)));
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

/// A record by its cell, and how far it is positive and negative.
pub(crate) type Weighed = (u64, f64, f64);

/// How much of a pair the first wins: of a tie half.
pub(crate) fn wins(first: u64, second: u64) -> f64 {
    match first.cmp(&second) {
        Ordering::Greater => 1.0,
        Ordering::Equal => 0.5,
        Ordering::Less => 0.0,
    }
}

/// Pairs of a positive and a negative, each so far as `part` says of their cells, over all pairs.
fn pairs(weighed: &[Weighed], part: fn(u64, u64) -> f64) -> Option<f64> {
    let (mut some, mut all) = (0.0, 0.0);
    for (x, positive, _) in weighed {
        for (y, _, negative) in weighed {
            some += positive * negative * part(*x, *y);
            all += positive * negative;
        }
    }
    (all > 1e-12).then(|| some / all)
}

/// Those that the positive wins.
pub(crate) fn area(weighed: &[Weighed]) -> Option<f64> {
    pairs(weighed, wins)
}

/// Half of those inside cells: what the order there, which nobody knows, may change of the area at most.
pub(crate) fn tied(weighed: &[Weighed]) -> Option<f64> {
    pairs(weighed, |x, y| if x == y { 0.5 } else { 0.0 })
}

fn mean(areas: impl Iterator<Item = Option<f64>>) -> Result<f64, &'static str> {
    let areas: Vec<f64> = areas.flatten().collect();
    if areas.is_empty() {
        Err("one_class")
    } else {
        Ok(areas.iter().sum::<f64>() / size(areas.len()))
    }
}

/// Columns that only models of two classes have.
const OF_TWO_CLASSES: [&str; 18] = [
    "est_tp",
    "est_fp",
    "est_fn",
    "est_tn",
    "est_precision",
    "est_precision_lower",
    "est_precision_upper",
    "est_recall",
    "est_recall_lower",
    "est_recall_upper",
    "est_f1",
    "est_f1_lower",
    "est_f1_upper",
    "est_auroc_lower",
    "est_auroc_upper",
    "realized_f1",
    "est_labelled_f1",
    "f1_gap",
];

/// The mean chance that the decisions are right, and its variance if each is right with its chance.
fn accuracy(some: &[&Seen<'_>]) -> (f64, f64) {
    let n = size(some.len());
    let sum = some.iter().map(|one| one.p()).sum::<f64>();
    (sum / n, some.iter().map(|one| one.p() * (1.0 - one.p())).sum::<f64>() / n / n)
}

/// Cells and chances of one class.
fn expected(some: &[&Seen<'_>], class: &str) -> Vec<Weighed> {
    let of = |(score, p): (f64, f64)| (cell_of(score), p, 1.0 - p);
    some.iter().map(|one| of(one.class(class))).collect()
}

/// Cells and labels of one class.
fn actual(some: &[&Seen<'_>], class: &str) -> Vec<Weighed> {
    let of = |one: &&Seen<'_>| {
        let is = f64::from(u8::from(one.actual == Some(class)));
        (cell_of(one.class(class).0), is, 1.0 - is)
    };
    some.iter().map(of).collect()
}

/// The figures of these records, where the scores of `cap` classes are kept.
fn naive(members: &[&Folded], cap: usize) -> Option<Naive> {
    let all: Vec<Seen<'_>> = members.iter().filter_map(|one| Seen::of(one)).collect();
    if all.is_empty() {
        return None;
    }
    let everyone: Vec<&Seen<'_>> = all.iter().collect();
    let (labelled, open): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) =
        all.iter().partition(|one| one.actual.is_some());
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
    let if_labelled = |figure: Result<f64, &'static str>| {
        if labelled.is_empty() { Err("no_labels") } else { figure }
    };
    let of_everyone = |figure: fn(&[Weighed]) -> Option<f64>| {
        mean(classes.iter().map(|class| figure(&expected(&everyone, class))).collect())
    };
    let (n, known) = (size(all.len()), size(labelled.len()));
    let right = size(labelled.iter().filter(|one| one.actual == Some(one.predicted)).count());
    let likely: f64 = open.iter().map(|one| one.p()).sum();
    let realized = |class: &str| area(&actual(&labelled, class));
    let realized_auroc = if_labelled(mean(classes.iter().map(|class| realized(class)).collect()));
    let with_area = classes.iter().filter(|class| realized(class).is_some());
    let of_labelled = with_area.map(|class| area(&expected(&labelled, class)));
    let est_labelled_auroc = if_labelled(mean(of_labelled.collect()));
    let (mean_chance, variance) = accuracy(&everyone);
    let half = 1.959_963_984_540_054 * variance.sqrt();
    let (labelled_chance, labelled_variance) = accuracy(&labelled);
    let gap = right / known - labelled_chance;
    let z = if labelled_variance > 0.0 {
        Ok(gap / labelled_variance.sqrt())
    } else {
        Err("zero_variance")
    };
    let mut figures = Naive::from([
        ("n", Ok(n)),
        ("n_labelled", Ok(known)),
        ("est_accuracy", Ok(mean_chance)),
        ("est_accuracy_lower", Ok((mean_chance - half).max(0.0))),
        ("est_accuracy_upper", Ok((mean_chance + half).min(1.0))),
        ("est_auroc", of_everyone(area)),
        ("est_auroc_error_bound", of_everyone(tied)),
        ("realized_accuracy", if_labelled(Ok(right / known))),
        ("est_labelled_accuracy", if_labelled(Ok(labelled_chance))),
        ("accuracy_gap", if_labelled(Ok(gap))),
        ("accuracy_gap_z", if_labelled(z)),
        ("realized_auroc", realized_auroc),
        ("est_labelled_auroc", est_labelled_auroc),
        ("auroc_gap", realized_auroc.and_then(|is| Ok(is - est_labelled_auroc?))),
        ("blended_accuracy", Ok((right + likely) / n)),
    ]);
    figures.extend(OF_TWO_CLASSES.map(|name| (name, Err("not_applicable"))));
    Some(figures)
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
                let [columns, names] = [row.keys().collect::<Vec<_>>(), expected.keys().collect()];
                assert_eq!(columns, names, "every column is computed in another way");
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
