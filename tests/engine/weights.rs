//! Weighted figures against `weights.json`, written by `weights.py` with scikit-learn's `sample_weight`, and against
//! records that come as often as they weigh.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value as Json;
use tidegauge::engine::metrics::accumulator::{
    Accumulator, Asked, FigureContext, Undefined, Value,
};
use tidegauge::engine::metrics::binary::{Binary, BinaryInput};
use tidegauge::engine::metrics::calibration::{Calibration, CalibrationInput};
use tidegauge::engine::metrics::lattice::score_cell;
use tidegauge::engine::metrics::multiclass::{Multiclass, MulticlassInput};
use tidegauge::engine::metrics::regression::{Regression, RegressionInput};

use crate::golden::is_near;

static GOLDEN: LazyLock<Json> =
    LazyLock::new(|| serde_json::from_str(include_str!("weights.json")).unwrap());

const WEIGHTED: FigureContext<'static> = FigureContext {
    window_ms: 300_000,
    value: None,
    thresholds: &[],
    weighted: true,
    reference: None,
    drift: None,
    rows: Asked::All,
};

/// A weight as decoding gives it.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 2^23, not negative, whole"
)]
fn units(weight: f64) -> u64 {
    let units = weight * 1_048_576.0;
    assert!((units - units.round()).abs() < 1e-9, "a multiple of 2^-20");
    units.round() as u64
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap()
}

/// Lists of numbers.
fn records(set: &Json) -> impl Iterator<Item = Vec<f64>> {
    let records = set["records"].as_array().unwrap().iter();
    records.map(|record| record.as_array().unwrap().iter().map(number).collect())
}

fn figure_of<A: Accumulator>(family: &A, context: &FigureContext<'_>, name: &str) -> Value {
    let mut values = Vec::new();
    family.figures(context, &mut values);
    let at = A::FIGURES.iter().position(|column| column.name == name);
    values.swap_remove(at.expect(name))
}

/// All figures of a set are those of the family.
fn check<A: Accumulator>(family: &A, set: &Json) {
    for (name, expected) in set["figures"].as_object().unwrap() {
        let Value::Figure(Ok(is)) = figure_of(family, &WEIGHTED, name) else {
            panic!("{name} is undefined")
        };
        assert!(is_near(is, number(expected)), "{name} is {is}, expected {expected}");
    }
}

#[test]
fn binary_figures_are_those_of_scikit_learn() {
    for set in GOLDEN["binary"].as_array().unwrap() {
        let mut family = Binary::default();
        for record in records(set) {
            let [score, label, weight] = record[..] else { panic!("three numbers") };
            family.add(&BinaryInput::Labelled {
                decision: Some(score >= 0.5),
                off_threshold: false,
                score: Some(score),
                positive: label > 0.5,
                thresholds: &[],
                weight: Some(units(weight)),
            });
        }
        check(&family, set);
        for name in ["auroc_lower", "auroc_se", "average_precision_upper"] {
            let is = figure_of(&family, &WEIGHTED, name);
            assert_eq!(is, Value::Figure(Err(Undefined::Weighted)), "{name}");
        }
    }
}

#[test]
fn multiclass_figures_are_those_of_scikit_learn() {
    for set in GOLDEN["multiclass"].as_array().unwrap() {
        let classes: Vec<_> =
            set["classes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let mut family = Multiclass::default();
        for record in set["records"].as_array().unwrap() {
            let scores = record[2].as_array().unwrap().iter().map(number);
            let scores: Vec<_> = classes.iter().copied().zip(scores).collect();
            family.add(&MulticlassInput::Labelled {
                predicted: record[0].as_str(),
                actual: record[1].as_str().unwrap(),
                scores: &scores,
                weight: Some(units(number(&record[3]))),
            });
        }
        check(&family, set);
    }
}

#[test]
fn regression_figures_are_those_of_scikit_learn() {
    for set in GOLDEN["regression"].as_array().unwrap() {
        let mut family = Regression::default();
        for record in records(set) {
            let [predicted, actual, weight] = record[..] else { panic!("three numbers") };
            let weight = Some(units(weight));
            family.add(&RegressionInput::Labelled { predicted, actual, weight });
        }
        check(&family, set);
        for (name, exact) in set["sizes"].as_object().unwrap() {
            let Value::Figure(Ok(is)) = figure_of(&family, &WEIGHTED, name) else {
                panic!("{name} is undefined")
            };
            let error = (is / number(exact) - 1.0).abs();
            assert!(error <= 1.0 / 256.0, "{name} is {is}, exactly {exact}");
        }
    }
}

/// Counts, intervals and what follows from the number of records: the rest must not tell a weight from repetition.
fn is_of_records(name: &str) -> bool {
    let ends = ["_lower", "_upper", "_se", "_clipped", "_classes", "_z", "n_eff", "_hits", "_n"];
    let counts = [
        "n",
        "tp",
        "fp",
        "fn",
        "tn",
        "positives",
        "negatives",
        "predicted_positive",
        "n_scored",
        "scored_positives",
        "scored_negatives",
        "decisions_off_threshold",
        "abs_error_max",
        "correct",
    ];
    counts.contains(&name) || ends.iter().any(|end| name.ends_with(end))
}

/// Records of whole weights say what as many records say that weigh 1.
fn check_repeated<A: Accumulator + Debug>(
    inputs: usize,
    input: impl Fn(usize, Option<u64>) -> A::Input<'static>,
    weight: impl Fn(usize) -> u64,
) {
    let (mut weighted, mut repeated) = (A::default(), A::default());
    for at in 0..inputs {
        weighted.add(&input(at, Some(weight(at) << 20)));
        (0..weight(at)).for_each(|_| repeated.add(&input(at, None)));
    }
    let plain = FigureContext { weighted: false, ..WEIGHTED };
    for column in A::FIGURES.iter().filter(|column| !is_of_records(column.name)) {
        let [left, right] = [(&weighted, &WEIGHTED), (&repeated, &plain)]
            .map(|(family, context)| figure_of(family, context, column.name));
        match (left, right) {
            (Value::Figure(Ok(left)), Value::Figure(Ok(right))) => {
                if column.name == "average_precision_min" {
                    // It takes positives one by one, so their sizes count: the test of the bracket holds it.
                    continue;
                }
                if column.name.starts_with("abs_error_p") {
                    // None exceeds the sum of all, which is 2^20 times as great in units of weight.
                    assert!((left - right).abs() <= right / 256.0, "{}", column.name);
                    continue;
                }
                assert!(is_near(left, right), "{}: {left} {right}", column.name);
            }
            (left, right) => assert_eq!(left, right, "{}", column.name),
        }
    }
}

/// Average precision of weighted scores, equal ones together, from the highest down.
fn weighted_precision(all: &[(f64, bool, u64)]) -> f64 {
    let real = |weight: u64| f64::from(u32::try_from(weight).unwrap());
    let mut thresholds: Vec<f64> = all.iter().map(|it| it.0).collect();
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    let sum = |is: &dyn Fn(&(f64, bool, u64)) -> bool| -> f64 {
        all.iter().filter(|it| is(it)).map(|it| real(it.2)).sum()
    };
    let of = |threshold: &f64| {
        let own = sum(&|it| it.0.total_cmp(threshold).is_eq() && it.1);
        let hits = sum(&|it| it.0 >= *threshold && it.1);
        if own > 0.0 { own * hits / sum(&|it| it.0 >= *threshold) } else { 0.0 }
    };
    thresholds.iter().map(of).sum::<f64>() / sum(&|it| it.1)
}

/// The bracket of the average precision of these records with weights in units of 2^-20, or as plain ones.
fn bracket(all: &[(f64, bool, u64)], is_weighted: bool) -> [Value; 2] {
    let mut family = Binary::default();
    for &(score, positive, weight) in all {
        family.add(&BinaryInput::Labelled {
            decision: Some(score >= 0.5),
            off_threshold: false,
            score: Some(score),
            positive,
            thresholds: &[],
            weight: is_weighted.then_some(weight),
        });
    }
    let context = FigureContext { weighted: is_weighted, ..WEIGHTED };
    ["average_precision_min", "average_precision_max"]
        .map(|name| figure_of(&family, &context, name))
}

proptest! {
    /// Scores that differ within cells of the lattice, in few cells.
    #[test]
    fn the_bracket_of_average_precision_holds_whatever_records_weigh(
        all in prop::collection::vec(
            (prop::sample::select(vec![0.2, 0.5, 0.7]), 0..40_u32, any::<bool>(), 1..5_u64),
            2..60,
        ),
        unit in prop::sample::select(vec![1_u64, 7, 1 << 20, 3 << 19]),
    ) {
        let fine = |(score, at, positive, weight): &(f64, u32, bool, u64)| {
            (score + f64::from(*at) * 1e-7, *positive, *weight)
        };
        let all: Vec<_> = all.iter().map(fine).collect();
        let cells: BTreeSet<u16> = all.iter().map(|it| score_cell(it.0)).collect();
        prop_assert!(cells.len() <= 4, "0.5 is an edge");
        let weighed: Vec<_> = all.iter().map(|&(score, is, w)| (score, is, w * unit)).collect();
        let raw = weighted_precision(&all);
        match bracket(&weighed, true) {
            [Value::Figure(Ok(least)), Value::Figure(Ok(greatest))] => {
                prop_assert!(least <= raw + 1e-12 && raw <= greatest + 1e-12, "{} {} {}", least, raw, greatest);
            }
            other => prop_assert!(all.iter().all(|it| it.1 == all[0].1), "{:?}", other),
        }
        // Records of one weight, whatever it is, are as good as plain ones.
        let equal: Vec<_> = all.iter().map(|&(score, is, _)| (score, is, unit)).collect();
        for (weighed, plain) in bracket(&equal, true).into_iter().zip(bracket(&equal, false)) {
            match (weighed, plain) {
                (Value::Figure(Ok(weighed)), Value::Figure(Ok(plain))) => {
                    prop_assert!(is_near(weighed, plain), "{} {}", weighed, plain);
                }
                (weighed, plain) => prop_assert_eq!(weighed, plain),
            }
        }
    }
}

fn scores() -> impl Strategy<Value = Vec<(f64, bool, u64)>> {
    let score = prop_oneof![0.0..=1.0_f64, prop::sample::select(vec![0.0, 0.1, 0.5, 1.0])];
    prop::collection::vec((score, any::<bool>(), 1..6_u64), 1..40)
}

proptest! {
    #[test]
    fn a_binary_weight_is_so_many_records(all in scores()) {
        let input = |at: usize, weight| {
            let (score, positive, _): (f64, bool, u64) = all[at];
            let (decision, score) = (Some(score >= 0.5), Some(score));
            let (off_threshold, thresholds) = (false, &[][..]);
            BinaryInput::Labelled { decision, off_threshold, score, positive, thresholds, weight }
        };
        check_repeated::<Binary>(all.len(), input, |at| all[at].2);
        let input = |at: usize, weight| {
            let (score, positive, _): (f64, bool, u64) = all[at];
            CalibrationInput { score, positive, weight }
        };
        check_repeated::<Calibration>(all.len(), input, |at| all[at].2);
    }

    #[test]
    fn a_weighted_pair_is_so_many_pairs(
        all in prop::collection::vec((-9.0..99.0_f64, -9.0..99.0_f64, 1..6_u64), 2..40),
    ) {
        let input = |at: usize, weight| {
            let (predicted, actual, _): (f64, f64, u64) = all[at];
            RegressionInput::Labelled { predicted, actual, weight }
        };
        check_repeated::<Regression>(all.len(), input, |at| all[at].2);
    }

    #[test]
    fn a_weighted_class_is_so_many_records(
        all in prop::collection::vec((0..4_usize, 0..4_usize, 0..5_u8, 1..6_u64), 1..40),
    ) {
        let classes = ["a", "b", "c", "d"];
        let input = |at: usize, weight| {
            let (predicted, actual, shape, _) = all[at];
            let score = |i: usize| f64::from((shape + u8::try_from(i).unwrap()) % 4) / 6.0;
            let scores: Vec<_> = (0..4).map(|i| (classes[i], score(i))).collect();
            let (predicted, actual) = (Some(classes[predicted]), classes[actual]);
            MulticlassInput::Labelled { predicted, actual, scores: scores.leak(), weight }
        };
        check_repeated::<Multiclass>(all.len(), input, |at| all[at].3);
    }
}
