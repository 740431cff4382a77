//! The laws of `Accumulator`, one generic function over all families.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::OnceLock;

use proptest::prelude::*;
use tidegauge::engine::event::{Feature, FeatureValue, WEIGHT_ONE};
use tidegauge::engine::metrics::accumulator::{
    Accumulator, Asked, Column, FigureContext, Kind, StateError, Value, ValueMatrix,
};
use tidegauge::engine::metrics::binary::{Binary, BinaryInput};
use tidegauge::engine::metrics::calibration::{Calibration, CalibrationInput};
use tidegauge::engine::metrics::class_estimate::{
    Chance, ClassEstimate, ClassEstimateInput, ClassesEstimated,
};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::estimate::{Estimate, EstimateInput, Estimated};
use tidegauge::engine::metrics::exact_sum::ExactSum;
use tidegauge::engine::metrics::features::{Features, FeaturesInput};
use tidegauge::engine::metrics::labels::{Labels, LabelsInput};
use tidegauge::engine::metrics::multiclass::{Multiclass, MulticlassInput};
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::engine::metrics::regression::{Regression, RegressionInput};
use tidegauge::engine::metrics::serving::{Serving, ServingInput};
use tidegauge::engine::metrics::targets::{Targets, TargetsInput};
use tidegauge::engine::metrics::weights::Weight;
use tidegauge::engine::metrics::{Families, MetricTable, state_columns};
use tidegauge::engine::names::{FeatureId, Names, OTHER};
use tidegauge::engine::time::EventTime;

const CONTEXT: FigureContext<'static> = FigureContext {
    window_ms: 300_000,
    value: Some(ValueMatrix { tp: 1.0, fp: -0.1, fn_: -3.7, tn: 0.0 }),
    thresholds: THRESHOLDS,
    weighted: true,
    reference: None,
    drift: None,
    rows: Asked::All,
};
const THRESHOLDS: &[f64] = &[0.0, 0.5, 0.7];

fn folded<A: Accumulator>(inputs: &[A::Input<'static>]) -> A {
    let mut family = A::default();
    for input in inputs {
        family.add(input);
    }
    family
}

fn merged<A: Accumulator>(left: &A, right: &A) -> A {
    let mut both = left.clone();
    both.merge(right);
    both
}

/// State and figures as text, which shows each bit of a double.
fn shown<A: Accumulator>(family: &A) -> String {
    let (mut state, mut figures) = (Vec::new(), Vec::new());
    family.state(&mut state);
    family.figures(&CONTEXT, &mut figures);
    check_columns(A::STATE, &state);
    check_columns(A::FIGURES, &figures);
    let state: Vec<_> = state
        .iter()
        .map(|value| match value {
            Value::Sum(sum) => format!("{:?}", sum.to_bytes()),
            Value::Sums(sums) => {
                format!("{:?}", sums.iter().map(ExactSum::to_bytes).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        })
        .collect();
    format!("{state:?} {figures:?}")
}

fn check_columns(columns: &[Column], values: &[Value]) {
    assert_eq!(columns.len(), values.len());
    for (column, value) in columns.iter().zip(values) {
        let fits = match (column.kind, value) {
            (Kind::Count, Value::Count(_))
            | (Kind::Time, Value::Time(_))
            | (Kind::Sum, Value::Sum(_))
            | (Kind::Sums, Value::Sums(_))
            | (Kind::Text, Value::Text(_))
            | (Kind::Names, Value::Names(_))
            | (Kind::Cells, Value::Cells(_)) => true,
            (Kind::Number, Value::Figure(figure)) => figure.is_ok_and(f64::is_finite),
            (Kind::Figure, Value::Figure(figure)) => {
                figure.is_ok_and(f64::is_finite) || figure.is_err()
            }
            _ => false,
        };
        assert!(fits, "{}: {value:?}", column.name);
    }
}

fn check_same<A: Accumulator + Debug>(left: &A, right: &A) {
    assert_eq!(left, right);
    assert_eq!(shown(left), shown(right));
}

/// All laws, on three lists of inputs.
pub(crate) fn check_laws<A: Accumulator + Debug>(
    lists: &[Vec<A::Input<'static>>; 3],
    takes_back: bool,
) where
    A::Input<'static>: Clone,
{
    let [a, b, c] = lists.each_ref().map(|inputs| folded::<A>(inputs));
    let none = A::default();
    check_same(&merged(&a, &none), &a);
    check_same(&merged(&none, &a), &a);
    check_same(&merged(&a, &b), &merged(&b, &a));
    check_same(&merged(&merged(&a, &b), &c), &merged(&a, &merged(&b, &c)));

    let mut inputs = lists.concat();
    inputs.reverse();
    let whole = folded::<A>(&inputs);
    check_same(&merged(&merged(&a, &b), &c), &whole);
    let mut together = none.clone();
    for inputs in lists {
        together.add_all(inputs.iter().cloned());
    }
    check_same(&together, &whole);

    if takes_back {
        let mut less = whole.clone();
        lists[0].iter().for_each(|input| less.remove(input));
        check_same(&less, &merged(&b, &c));
        inputs.iter().take(inputs.len() - lists[0].len()).for_each(|input| less.remove(input));
        check_same(&less, &none);
    }
    check_stored(&whole);
}

fn check_stored<A: Accumulator + Debug>(family: &A) {
    let mut state = Vec::new();
    family.state(&mut state);
    let restored = A::restore(&mut state.iter()).unwrap();
    check_same(&restored, family);
    check_same(&merged(&restored, family), &merged(family, family));
    let short = A::restore(&mut state.iter().take(A::STATE.len() - 1));
    assert_eq!(short, Err(StateError::TooShort));
}

fn score() -> impl Strategy<Value = f64> {
    let ends = prop::sample::select(vec![0.0, 5e-324, 1e-17, 0.5, 1.0 - f64::EPSILON, 1.0]);
    prop_oneof![4 => 0.0..=1.0_f64, 1 => ends]
}

fn serving() -> impl Strategy<Value = ServingInput> {
    let time = -1_000_000_000_000_i64..2_000_000_000_000;
    let latency_us = prop::option::of(prop_oneof![0_u32..100_000, any::<u32>()]);
    let freshness_ms = prop_oneof![0_u64..1000, any::<u64>()];
    (time, latency_us, any::<bool>(), freshness_ms).prop_map(
        |(time, latency_us, failed, freshness_ms)| ServingInput {
            time: EventTime(time),
            latency_us,
            failed,
            freshness_ms,
        },
    )
}

fn labels() -> impl Strategy<Value = LabelsInput> {
    let decision = any::<Option<bool>>();
    prop_oneof![
        4 => any::<Option<bool>>().prop_map(|decision| LabelsInput::Inference { decision }),
        4 => (0_u64..1 << 40, decision)
            .prop_map(|(delay_ms, decision)| LabelsInput::First { delay_ms, decision }),
        1 => Just(LabelsInput::Correction),
        1 => any::<bool>().prop_map(|conflict| LabelsInput::Duplicate { conflict }),
    ]
}

/// Of models that use weights, from none to the greatest.
fn weight() -> impl Strategy<Value = Weight> {
    let odd = prop::sample::select(vec![0, 1, WEIGHT_ONE, 3 * WEIGHT_ONE, 1 << 40]);
    prop_oneof![1 => odd, 1 => 0..1_u64 << 40].prop_map(Some)
}

fn binary() -> impl Strategy<Value = BinaryInput<'static>> {
    let decided = (any::<Option<bool>>(), any::<bool>());
    let labelled = (decided, prop::option::of(score()), any::<bool>(), weight());
    prop_oneof![
        prop::option::of(score()).prop_map(|score| BinaryInput::Inference { score }),
        labelled.prop_map(|((decision, off_threshold), score, positive, weight)| {
            let thresholds = THRESHOLDS;
            BinaryInput::Labelled { decision, off_threshold, score, positive, thresholds, weight }
        }),
    ]
}

/// Few scores and probabilities, so that cells are shared.
fn estimate() -> impl Strategy<Value = EstimateInput> {
    let of = (score(), score(), any::<bool>())
        .prop_map(|(score, probability, decision)| Estimated { score, probability, decision });
    (of, any::<Option<bool>>()).prop_map(|(of, positive)| match positive {
        None => EstimateInput::Inference(of),
        Some(positive) => EstimateInput::Labelled { of, positive },
    })
}

fn calibration() -> impl Strategy<Value = CalibrationInput> {
    (score(), any::<bool>(), weight()).prop_map(|(score, positive, weight)| CalibrationInput {
        score,
        positive,
        weight,
    })
}

/// Numbers as decoding lets them through: at most 1e150 in size.
fn real() -> impl Strategy<Value = f64> {
    let odd = prop::sample::select(vec![0.0, -1.0, 1.0, 1e150, -1e150, 5e-324, 1e-300, 0.1]);
    prop_oneof![4 => -1000.0..1000.0_f64, 1 => odd]
}

fn regression() -> impl Strategy<Value = RegressionInput> {
    prop_oneof![
        1 => Just(RegressionInput::Inference),
        4 => (real(), real(), weight()).prop_map(|(predicted, actual, weight)| {
            RegressionInput::Labelled { predicted, actual, weight }
        }),
    ]
}

fn target() -> impl Strategy<Value = TargetsInput> {
    let place = prop_oneof![0..6_u16, 0..8_000_u16];
    (any::<bool>(), place).prop_map(|(is_label, place)| {
        if is_label { TargetsInput::Label(place) } else { TargetsInput::Prediction(place) }
    })
}

/// Features whose distinct numbers are counted.
static DISTINCT: OnceLock<Vec<String>> = OnceLock::new();
const FEATURES: [&str; 4] = ["amount", "city", "new", "ß"];

fn value() -> impl Strategy<Value = FeatureValue<'static>> {
    let texts = prop::sample::select(vec!["", "Bern", "Rom", "Wien"]);
    prop_oneof![
        4 => real().prop_map(FeatureValue::Number),
        2 => texts.prop_map(FeatureValue::Text),
        // More texts than a state keeps.
        2 => (0..300_u32).prop_map(|n| FeatureValue::Text(Box::leak(format!("t{n}").into()))),
        1 => any::<bool>().prop_map(FeatureValue::Boolean),
        1 => prop::sample::select(vec![FeatureValue::Missing, FeatureValue::NotFinite]),
    ]
}

/// Records that carry some of the features, in any order, of a worker that has seen none of them before, and what they
/// are held against.
pub(crate) fn features(
    reference: Option<&'static Profile>,
) -> impl Strategy<Value = FeaturesInput<'static>> {
    let some = prop::collection::btree_map(0..FEATURES.len(), value(), 0..5);
    some.prop_map(move |some| {
        let mut names = Names::default();
        for name in FEATURES {
            names.intern(name);
        }
        let features: Vec<Feature<'static>> = some
            .into_iter()
            .map(|(at, value)| Feature { name: FeatureId(names.intern(FEATURES[at])), value })
            .collect();
        FeaturesInput {
            features: Box::leak(features.into()),
            names: Box::leak(Box::new(names)),
            reference,
            most: 100,
            distinct: DISTINCT.get_or_init(|| vec!["am*".to_owned()]),
        }
    })
}

/// More classes than have scores of their own.
const CLASSES: [&str; 36] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x", "y", "z", "0", "1", "2", "-3", "true", "false", "", "ü", "a b", OTHER,
];

fn multiclass() -> impl Strategy<Value = MulticlassInput<'static>> {
    let class = || prop::sample::select(CLASSES.to_vec());
    let scores = prop::sample::subsequence(CLASSES.to_vec(), 0..=CLASSES.len())
        .prop_shuffle()
        .prop_flat_map(|classes| {
            let scores = prop::collection::vec(score(), classes.len());
            scores.prop_map(move |scores| classes.iter().copied().zip(scores).collect::<Vec<_>>())
        });
    let scores = prop_oneof![1 => Just(Vec::new()), 1 => scores];
    prop_oneof![
        1 => Just(MulticlassInput::Inference),
        4 => (prop::option::of(class()), class(), scores, weight()).prop_map(
            |(predicted, actual, scores, weight)| {
                MulticlassInput::Labelled { predicted, actual, scores: scores.leak(), weight }
            },
        ),
    ]
}

/// Scores and probabilities of some classes, more in all than are kept.
fn class_estimate() -> impl Strategy<Value = ClassEstimateInput<'static>> {
    let class = || prop::sample::select(CLASSES.to_vec());
    let chances =
        prop::sample::subsequence(CLASSES.to_vec(), 1..=CLASSES.len()).prop_flat_map(|classes| {
            let said = prop::collection::vec((score(), score()), classes.len());
            said.prop_map(move |said| {
                let both = classes.iter().copied().zip(said);
                let chance = |(class, (score, probability))| Chance { class, score, probability };
                both.map(chance).collect::<Vec<_>>()
            })
        });
    (chances, class(), prop::option::of(class())).prop_map(|(chances, predicted, actual)| {
        let of = ClassesEstimated { chances: chances.leak(), predicted };
        match actual {
            None => ClassEstimateInput::Inference(of),
            Some(actual) => ClassEstimateInput::Labelled { of, actual },
        }
    })
}

pub(crate) fn lists<T: Debug>(
    input: impl Strategy<Value = T>,
) -> impl Strategy<Value = [Vec<T>; 3]> {
    prop::array::uniform3(prop::collection::vec(input, 0..40))
}

proptest! {
    #[test]
    fn serving_keeps_the_laws(lists in lists(serving())) {
        check_laws::<Serving>(&lists, false);
    }

    #[test]
    fn labels_keep_the_laws(lists in lists(labels())) {
        check_laws::<Labels>(&lists, false);
    }

    #[test]
    fn binary_keeps_the_laws(lists in lists(binary())) {
        check_laws::<Binary>(&lists, true);
    }

    #[test]
    fn calibration_keeps_the_laws(lists in lists(calibration())) {
        check_laws::<Calibration>(&lists, true);
    }

    #[test]
    fn regression_keeps_the_laws(lists in lists(regression())) {
        check_laws::<Regression>(&lists, true);
    }

    #[test]
    fn estimates_keep_the_laws(lists in lists(estimate())) {
        check_laws::<Estimate>(&lists, true);
    }

    #[test]
    fn class_estimates_keep_the_laws(lists in lists(class_estimate())) {
        check_laws::<ClassEstimate>(&lists, false);
        // What is taken back leaves the names of its classes and nothing else.
        let [a, b, c] = lists.each_ref().map(|inputs| folded::<ClassEstimate>(inputs));
        let mut less = merged(&merged(&a, &b), &c);
        lists[0].iter().for_each(|input| less.remove(input));
        let mut names = a;
        lists[0].iter().for_each(|input| names.remove(input));
        check_same(&less, &merged(&names, &merged(&b, &c)));
        let (mut left, mut none) = (Vec::new(), Vec::new());
        names.figures(&CONTEXT, &mut left);
        ClassEstimate::default().figures(&CONTEXT, &mut none);
        prop_assert_eq!(left, none);
    }

    #[test]
    fn targets_keep_the_laws(lists in lists(target())) {
        check_laws::<Targets>(&lists, true);
    }

    #[test]
    fn features_keep_the_laws(lists in lists(features(None))) {
        check_laws::<Features>(&lists, false);
    }

    #[test]
    fn multiclass_keeps_the_laws(lists in lists(multiclass())) {
        check_laws::<Multiclass>(&lists, false);
        // What is taken back leaves the names of its classes and nothing else.
        let [a, b, c] = lists.each_ref().map(|inputs| folded::<Multiclass>(inputs));
        let mut less = merged(&merged(&a, &b), &c);
        lists[0].iter().for_each(|input| less.remove(input));
        let mut names = a;
        lists[0].iter().for_each(|input| names.remove(input));
        check_same(&less, &merged(&names, &merged(&b, &c)));
        let (mut left, mut none) = (Vec::new(), Vec::new());
        names.figures(&CONTEXT, &mut left);
        Multiclass::default().figures(&CONTEXT, &mut none);
        prop_assert_eq!(left, none);
        prop_assert!(names.class_rows(&CONTEXT).is_empty() && names.confusion_rows(&CONTEXT).is_empty());
    }

    #[test]
    fn families_of_classes_keep_the_laws_with_any_cap(
        counted in 1..=4_usize,
        scored in 0..=4_usize,
        multiclass in lists(multiclass()),
        class_estimate in lists(class_estimate()),
    ) {
        let caps = ClassCaps { counted, scored };
        let folded = |i: usize| {
            let mut families = Families::default();
            for input in &multiclass[i] {
                families.multiclass.get_mut().go_by(caps).add(input);
            }
            for input in &class_estimate[i] {
                families.class_estimate.get_mut().go_by(caps).add(input);
            }
            families
        };
        let both = |left: &Families, right: &Families| {
            let mut both = left.clone();
            both.merge(right);
            both
        };
        let [a, b, c] = [0, 1, 2].map(folded);
        prop_assert_eq!(both(&a, &Families::default()), a.clone());
        prop_assert_eq!(both(&Families::default(), &a), a.clone());
        let all = both(&both(&a, &b), &c);
        prop_assert_eq!(&both(&c, &both(&b, &a)), &all);
        let restored = Families::restore(&all.state(), caps).unwrap();
        prop_assert_eq!(&restored, &all);
        // What is read back goes by the cap as what was folded.
        let [a, b, c] = [a, b, c].map(|it| Families::restore(&it.state(), caps).unwrap());
        prop_assert_eq!(&both(&c, &both(&b, &a)), &all);
        let at_once = multiclass.iter().flatten().fold(Multiclass::default(), |mut all, input| {
            all.go_by(caps).add(input);
            all
        });
        prop_assert_eq!(all.multiclass.get().cloned().unwrap_or_default(), at_once);
    }

    #[test]
    fn registry_keeps_the_laws(
        serving in lists(serving()),
        labels in lists(labels()),
        binary in lists(prop::option::of(binary())),
        calibration in lists(prop::option::of(calibration())),
        regression in lists(prop::option::of(regression())),
        features in lists(features(None)),
        estimate in lists(estimate()),
        multiclass in lists(prop::option::of(multiclass())),
        targets in lists(target()),
        class_estimate in lists(class_estimate()),
    ) {
        let folded = |i: usize| {
            let (serving, labels) = (folded(&serving[i]), folded(&labels[i]));
            let mut families = Families { serving, labels, ..Families::default() };
            binary[i].iter().flatten().for_each(|input| families.binary.get_mut().add(input));
            let scored = calibration[i].iter().flatten();
            scored.for_each(|input| families.calibration.get_mut().add(input));
            let pairs = regression[i].iter().flatten();
            pairs.for_each(|input| families.regression.get_mut().add(input));
            features[i].iter().for_each(|input| families.features.get_mut().add(input));
            estimate[i].iter().for_each(|input| families.estimate.get_mut().add(input));
            let classes = multiclass[i].iter().flatten();
            classes.for_each(|input| families.multiclass.get_mut().add(input));
            let classes = class_estimate[i].iter();
            classes.for_each(|input| families.class_estimate.get_mut().add(input));
            targets[i].iter().for_each(|input| families.targets.get_mut().add(input));
            families
        };
        let both = |left: &Families, right: &Families| {
            let mut both = left.clone();
            both.merge(right);
            both
        };
        let [a, b, c] = [0, 1, 2].map(folded);
        prop_assert_eq!(both(&a, &Families::default()), a.clone());
        prop_assert_eq!(both(&a, &b), both(&b, &a));
        let all = both(&both(&a, &b), &c);
        prop_assert_eq!(&all, &both(&a, &both(&b, &c)));
        prop_assert_eq!(&Families::restore(&all.state(), ClassCaps::DEFAULT).unwrap(), &all);
        prop_assert_eq!(all.state().len(), state_columns().count());
        let figures = |families: Families| format!("{:?}", families.figures(&CONTEXT));
        prop_assert_eq!(figures(both(&a, &b)), figures(both(&b, &a)));
        let profile = crate::targets::some_profile();
        for reference in [None, Some(&*profile)] {
            let context = FigureContext { reference, ..CONTEXT };
            let of_labels = all.figures(&FigureContext { rows: Asked::OfLabels, ..context });
            let mut rows = all.figures(&context);
            rows.retain(|(table, row)| table.row_reads_labels(row));
            prop_assert_eq!(format!("{of_labels:?}"), format!("{rows:?}"));
        }
    }
}

#[test]
fn foreign_states_are_refused() {
    let mut values = Families::default().state();
    values.push(Value::Count(0));
    assert_eq!(Families::restore(&values, ClassCaps::DEFAULT), Err(StateError::TooLong));
    let mut values = Families::default().state();
    values.pop();
    assert_eq!(Families::restore(&values, ClassCaps::DEFAULT), Err(StateError::TooShort));
    let mut values = Families::default().state();
    values[1] = Value::Time(0);
    assert_eq!(
        Families::restore(&values, ClassCaps::DEFAULT),
        Err(StateError::WrongKind("errors"))
    );
    let mut values = Families::default().state();
    values[4] = Value::Cells(vec![(1, 0)]);
    assert_eq!(
        Families::restore(&values, ClassCaps::DEFAULT),
        Err(StateError::Malformed("latency_us_cells"))
    );
}

#[test]
fn column_names_are_unique_and_plain() {
    let check = |columns: Vec<&Column>| {
        let names: BTreeSet<_> = columns.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), columns.len());
        for column in columns {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(column.name.chars().all(plain), "{}", column.name);
            assert!(column.comment.ends_with('.'), "{}", column.name);
        }
    };
    check(state_columns().collect());
    for table in MetricTable::ALL {
        check(table.columns().iter().collect());
        for (i, column) in table.columns().iter().enumerate() {
            let before = |back: usize| table.columns()[i - back].name;
            if let Some(name) = column.name.strip_suffix("_upper") {
                assert_eq!([before(2), before(1)], [name, &format!("{name}_lower")]);
            }
        }
    }
}

#[test]
fn few_records_make_a_small_state() {
    let mut families = Families::default();
    for i in 0..10_u32 {
        let latency_us = Some(10_000 + i * 777);
        let (time, freshness_ms) = (EventTime(0), u64::from(i) * 13);
        families.serving.add(&ServingInput { time, latency_us, failed: false, freshness_ms });
        let score = Some(f64::from(i) / 10.0);
        families.binary.get_mut().add(&BinaryInput::Inference { score });
        let (decision, positive) = (Some(i > 5), i % 2 == 0);
        families.binary.get_mut().add(&BinaryInput::Labelled {
            decision,
            off_threshold: false,
            score,
            positive,
            thresholds: &[],
            weight: None,
        });
    }
    let bytes = size_of::<Families>() + families.heap_bytes();
    assert!(bytes < 2048, "{bytes} bytes");
}
