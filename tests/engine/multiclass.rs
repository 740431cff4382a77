//! More classes than the caps hold, against plain maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegauge::engine::metrics::accumulator::{
    Accumulator, FigureContext, StateError, Undefined, Value,
};
use tidegauge::engine::metrics::class_estimate::{Chance, ClassEstimateInput, ClassesEstimated};
use tidegauge::engine::metrics::confusion::Confusion;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::multiclass::{CLASS_FIGURES, Multiclass, MulticlassInput};
use tidegauge::engine::metrics::one_vs_rest::OneVsRest;
use tidegauge::engine::metrics::sign::{Minus, Plus};
use tidegauge::engine::metrics::weights::Mass;
use tidegauge::engine::metrics::{Families, Optional};
use tidegauge::engine::names::OTHER;
use xxhash_rust::xxh3::xxh3_64;

type Pair = (String, String);

/// Caps, the default ones among them.
fn caps() -> impl Strategy<Value = ClassCaps> {
    let (counted, scored) = (ClassCaps::DEFAULT.counted, ClassCaps::DEFAULT.scored);
    let small = (1..=5_usize, 0..=5_usize);
    let small = small.prop_map(|(counted, scored)| ClassCaps { counted, scored });
    prop_oneof![1 => Just(ClassCaps { counted, scored }), 2 => small]
}

/// Classes of which a cap of 256 holds not all.
fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let class = || (0..400_u16).prop_map(|i| format!("c{i}"));
    prop::collection::vec((class(), class()), 0..600)
}

/// The names that are kept of these.
fn kept<'a>(names: impl Iterator<Item = &'a String>, cap: usize) -> BTreeSet<String> {
    let names: BTreeSet<_> = names.cloned().collect();
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|name| xxh3_64(name.as_bytes()));
    names.into_iter().take(cap).collect()
}

/// What a pair weighs: any, so that sums of other pairs differ.
fn weight(pair: &Pair) -> u64 {
    pair.0.bytes().chain(pair.1.bytes()).map(u64::from).sum()
}

/// Records, what they weigh in all, and their effective number.
type Weighed = (u64, u64, f64);

/// Counts and weights by true and predicted class, `(other)` being the last of all names.
fn naive(seen: &[Pair], left: &[Pair], cap: usize) -> Vec<(Pair, Weighed)> {
    let kept = kept(seen.iter().flat_map(|(a, b)| [a, b]), cap);
    let name = |name: &String| if kept.contains(name) { name.clone() } else { "~".to_owned() };
    let mut cells: BTreeMap<Pair, Vec<u64>> = BTreeMap::new();
    for pair in left {
        cells.entry((name(&pair.0), name(&pair.1))).or_default().push(weight(pair));
    }
    let weighed = |(pair, weights): (Pair, Vec<u64>)| {
        let sum: u64 = weights.iter().sum();
        let squares: u64 = weights.iter().map(|weight| weight * weight).sum();
        let [whole, parts] = [sum, squares].map(|it| f64::from(u32::try_from(it).unwrap()));
        (pair, (u64::try_from(weights.len()).unwrap(), sum, whole * whole / parts))
    };
    cells.into_iter().map(weighed).collect()
}

fn shown(confusion: &Confusion) -> Vec<(Pair, Weighed)> {
    let name = |name: Option<std::sync::Arc<str>>| name.map_or("~".to_owned(), |it| it.to_string());
    let cells = confusion.cells(true).into_iter();
    let weighed = |of: Mass| (of.records, of.units, of.effective());
    cells.map(|(actual, predicted, n)| ((name(actual), name(predicted)), weighed(n))).collect()
}

fn confusion_of(pairs: &[Pair], cap: usize) -> Confusion {
    let mut confusion = Confusion::default();
    confusion.go_by(cap);
    for pair in pairs {
        confusion.fold(&pair.0, &pair.1, Some(weight(pair)), Plus);
    }
    confusion
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_capped_matrix_follows_from_what_was_seen(
        caps in caps(),
        pairs in pairs(),
        taken in 0..600_usize,
    ) {
        let cap = caps.counted;
        let confusion_of = |pairs: &[Pair]| confusion_of(pairs, cap);
        let whole = confusion_of(&pairs);
        prop_assert!(whole.keeps_its_cap());
        prop_assert_eq!(shown(&whole), naive(&pairs, &pairs, cap));
        let turned: Vec<_> = pairs.iter().rev().cloned().collect();
        prop_assert_eq!(&confusion_of(&turned), &whole);
        let (left, right) = pairs.split_at(taken.min(pairs.len()));
        for (first, second) in [(left, right), (right, left)] {
            let mut both = confusion_of(first);
            both.merge(&confusion_of(second));
            prop_assert_eq!(&both, &whole);
            // One that has seen nothing learns the cap from what it is merged with.
            let mut learned = Confusion::default();
            learned.merge(&confusion_of(first));
            learned.merge(&confusion_of(second));
            prop_assert_eq!(&learned, &whole);
        }
        let [Value::Cells(counts), Value::Cells(weights)] = whole.to_values() else {
            panic!("cells")
        };
        let restored = Confusion::restore(whole.names(), &counts, &weights);
        prop_assert_eq!(restored, Some(whole.clone()));
        let mut less = whole;
        for pair in left {
            less.fold(&pair.0, &pair.1, Some(weight(pair)), Minus);
        }
        prop_assert_eq!(shown(&less), naive(&pairs, right, cap));
    }

    #[test]
    fn scores_of_capped_classes_follow_from_what_was_seen(
        caps in caps(),
        scores in prop::collection::vec((0..60_u8, 0..4_u8, any::<bool>()), 0..300),
        at in 0..300_usize,
    ) {
        let scores: Vec<_> = scores
            .into_iter()
            .map(|(class, score, positive)| (format!("c{class}"), f64::from(score) / 4.0, positive))
            .collect();
        let of = |scores: &[(String, f64, bool)]| {
            let mut all = OneVsRest::default();
            all.go_by(caps.scored);
            for (class, score, positive) in scores {
                all.fold(class, *score, *positive, 1, Plus);
            }
            all
        };
        let whole = of(&scores);
        let (left, right) = scores.split_at(at.min(scores.len()));
        let mut both = of(right);
        both.merge(&of(left));
        prop_assert_eq!(&both, &whole);
        let names: BTreeSet<_> = scores.iter().map(|(class, ..)| class.clone()).collect();
        let kept = kept(names.iter(), caps.scored);
        let n = u64::try_from(scores.len()).unwrap();
        for class in &names {
            let own = scores.iter().filter(|(name, ..)| name == class);
            let positives = own.filter(|(.., positive)| *positive).count();
            match whole.ranking(class, n) {
                Ok(ranking) => {
                    prop_assert!(kept.contains(class));
                    prop_assert_eq!(ranking.positives, u64::try_from(positives).unwrap());
                    prop_assert_eq!(ranking.positives + ranking.negatives, n);
                }
                Err(reason) => {
                    prop_assert!(!kept.contains(class));
                    prop_assert_eq!(reason, Undefined::Capped);
                }
            }
        }
    }
}

#[test]
fn any_weight_of_scores_kept_out_can_be_counted() {
    let mut all = OneVsRest::default();
    let classes: Vec<String> =
        (0..ClassCaps::DEFAULT.scored + 9).map(|i| format!("c{i}")).collect();
    for class in &classes {
        all.fold(class, 0.5, false, 1 << 62, Plus);
    }
    let both = |other: &OneVsRest| {
        let mut both = all.clone();
        both.merge(other);
        both
    };
    assert_eq!(both(&OneVsRest::default()), all);
    let kept_out = classes.iter().filter(|class| all.ranking(class, u64::MAX).is_err());
    assert_eq!(kept_out.count(), 9);
}

#[test]
fn beyond_the_cap_figures_say_so_and_counts_stay_exact() {
    let mut family = Multiclass::default();
    let classes: Vec<String> = (0..=ClassCaps::DEFAULT.counted).map(|i| format!("c{i}")).collect();
    for class in &classes {
        let predicted = Some(class.as_str());
        let scores = [(class.as_str(), 1.0)];
        let (actual, scores, weight) = (class, &scores, None);
        family.add(&MulticlassInput::Labelled { predicted, actual, scores, weight });
    }
    let mut values = Vec::new();
    family.figures(&FigureContext::default(), &mut values);
    let of = |name: &str| {
        let at = Multiclass::FIGURES.iter().position(|column| column.name == name);
        values[at.expect("a column")].clone()
    };
    assert_eq!(of("n"), Value::Count(257));
    assert_eq!(of("correct"), Value::Count(257));
    assert_eq!(of("accuracy"), Value::Figure(Ok(1.0)));
    for name in ["macro_precision", "weighted_f1", "mcc", "auroc_ovr_macro"] {
        assert_eq!(of(name), Value::Figure(Err(Undefined::Capped)), "{name}");
    }
    let rows = family.class_rows(&FigureContext::default());
    assert_eq!(rows.len(), 257);
    let other = rows.last().unwrap();
    assert_eq!(other.len(), CLASS_FIGURES.len());
    let counts = [Value::Text(OTHER.into()), Value::Count(1), Value::Count(1), Value::Count(1)];
    assert_eq!(other[..4], counts);
    assert_eq!(other[4], Value::Figure(Err(Undefined::Capped)));
}

#[test]
fn a_state_in_another_form_is_refused() {
    let mut family = Multiclass::default();
    let scores = [("a", 0.5), ("b", 0.25)];
    let (predicted, actual, scores, weight) = (Some("a"), "b", &scores, Some(1));
    family.add(&MulticlassInput::Labelled { predicted, actual, scores, weight });
    let mut state = Vec::new();
    family.state(&mut state);
    let restore = |name: &str, value: Value| {
        let at = Multiclass::STATE.iter().position(|column| column.name == name);
        let mut state = state.clone();
        state[at.expect("a column")] = value;
        Multiclass::restore(&mut state.iter()).unwrap_err()
    };
    let malformed = StateError::Malformed;
    for pairs in [vec![(9, 1)], vec![(0, 0)], vec![(1, 1), (0, 1)]] {
        let error = restore("confusion_cells", Value::Cells(pairs));
        assert_eq!(error, malformed("confusion_cells"));
    }
    for pairs in [vec![(2 * 9731, 1)], vec![(0, 0)], vec![(1, 1), (1, 1)]] {
        let error = restore("class_positive_cells", Value::Cells(pairs));
        assert_eq!(error, malformed("scored_classes"));
    }
    let twice = Value::Names(vec!["a".into(), "a".into()]);
    assert_eq!(restore("classes", twice.clone()), malformed("confusion_cells"));
    assert_eq!(restore("scored_classes", twice), malformed("scored_classes"));
    assert_eq!(restore("classes", Value::Count(1)), StateError::WrongKind("classes"));
}

/// A row that another cap wrote is of another job: merged with the rows of this one it would give classes that no set of
/// records explains.
#[test]
fn a_state_of_more_classes_than_the_cap_is_refused() {
    let mut families = Families::default();
    let scores = [("a", 0.5), ("b", 0.25), ("c", 0.25)];
    let (predicted, actual, scores, weight) = (Some("a"), "b", &scores, None);
    let chances = scores.map(|(class, score)| Chance { class, score, probability: score });
    let of = ClassesEstimated { chances: &chances, predicted: "a" };
    families.multiclass.get_mut().add(&MulticlassInput::Labelled {
        predicted,
        actual,
        scores,
        weight,
    });
    families.class_estimate.get_mut().add(&ClassEstimateInput::Inference(of));
    let restore = |counted, scored| {
        Families::restore(&families.state(), ClassCaps { counted, scored }).map(|_| ())
    };
    assert_eq!(restore(2, 3), Ok(()));
    assert_eq!(restore(1, 3), Err(StateError::Malformed("classes")));
    assert_eq!(restore(2, 2), Err(StateError::Malformed("scored_classes")));
    let families = Families { multiclass: Optional::default(), ..families };
    let caps = ClassCaps { counted: 1, scored: 2 };
    let refused = Families::restore(&families.state(), caps);
    assert_eq!(refused, Err(StateError::Malformed("class_estimate_classes")));
}
