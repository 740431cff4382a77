//! Distinct values against sets of them.

use std::collections::BTreeSet;

use datasketches::hll::{HllSketch, HllType};
use proptest::prelude::*;
use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::{Accumulator, FigureContext, Undefined, Value};
use tidegauge::engine::metrics::distinct::{MOST_NUMBERS, Numbers, Registers};
use tidegauge::engine::metrics::features::{Features, FeaturesInput};
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::{FeatureId, Names, OTHER};
use xxhash_rust::xxh3::xxh3_64;

/// A feature's values folded in, in this order, with its distinct numbers counted or not.
fn folded<'a>(values: impl IntoIterator<Item = FeatureValue<'a>>, distinct: &[String]) -> Features {
    let mut names = Names::default();
    let name = FeatureId(names.intern("x"));
    let mut features = Features::default();
    for value in values {
        features.add(&FeaturesInput {
            features: &[Feature { name, value }],
            names: &names,
            reference: None,
            most: 10,
            distinct,
        });
    }
    features
}

fn of_numbers(numbers: &[f64]) -> Features {
    folded(numbers.iter().map(|x| FeatureValue::Number(*x)), &["*".to_owned()])
}

fn of_texts(texts: &[String]) -> Features {
    folded(texts.iter().map(|text| FeatureValue::Text(text)), &[])
}

fn distinct(features: &Features) -> Result<f64, Undefined> {
    let mut families = Families::default();
    *families.features.get_mut() = features.clone();
    let rows = families.figures(&FigureContext { window_ms: 1, ..FigureContext::default() });
    let (_, row) = rows.iter().find(|(table, _)| *table == MetricTable::DataQuality).unwrap();
    let columns = MetricTable::DataQuality.columns();
    let at = columns.iter().position(|column| column.name == "distinct").unwrap();
    match row[at] {
        Value::Figure(figure) => figure,
        ref other => panic!("distinct is {other:?}"),
    }
}

fn stored(features: &Features) -> Vec<Value> {
    let mut values = Vec::new();
    features.state(&mut values);
    values
}

fn merged(parts: impl IntoIterator<Item = Features>) -> Features {
    parts.into_iter().fold(Features::default(), |mut all, part| {
        let part = Features::restore(&mut stored(&part).iter()).unwrap();
        all.merge(&part);
        all
    })
}

fn check(estimate: f64, exact: usize) {
    let exact = f64::from(u32::try_from(exact).unwrap());
    let error = (estimate - exact).abs() / exact;
    assert!(error < 0.05, "{estimate} of {exact}");
}

/// How many of 4,096 registers these texts choose by the low bits of their XXH3-64.
fn chosen<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    let choices = texts.into_iter().map(|text| xxh3_64(text.as_bytes()) % 4096);
    choices.collect::<BTreeSet<u64>>().len()
}

#[test]
fn many_are_estimated_within_five_in_a_hundred() {
    for n in [101, 150, 384, 1000, 5000, 10_000, 12_288, 20_000, 100_000, 1_000_000] {
        let numbers: Numbers = (0..n).fold(Numbers::Few(Vec::new()), |mut all, i| {
            all.add(f64::from(i) / 8.0 - 1000.0);
            all
        });
        check(numbers.count(), usize::try_from(n).unwrap());
        let texts: Registers = (0..n).map(|i| xxh3_64(format!("user-{i}").as_bytes())).collect();
        check(texts.estimate(), usize::try_from(n).unwrap());
    }
}

#[test]
fn a_hundred_are_counted_and_one_more_is_estimated() {
    let numbers: Vec<f64> = (0..101).map(|i| f64::from(i) * 0.1 - 5.0).collect();
    let texts: Vec<String> = numbers.iter().map(f64::to_string).collect();
    for some in [1, 2, 99, MOST_NUMBERS] {
        let twice = |all: &[f64]| [all, all].concat();
        let exact = Ok(f64::from(u32::try_from(some).unwrap()));
        assert_eq!(distinct(&of_numbers(&twice(&numbers[..some]))), exact);
        assert_eq!(distinct(&of_texts(&texts[..some])), exact);
    }
    check(distinct(&of_numbers(&numbers)).unwrap(), 101);
    check(distinct(&of_texts(&texts)).unwrap(), 101);
    assert_eq!(distinct(&of_numbers(&[0.0, -0.0])), Ok(1.0));
    let apart = folded([FeatureValue::Number(1.0)], &["y*".to_owned()]);
    assert_eq!(distinct(&apart), Err(Undefined::NotConfigured));
    let missing = folded([FeatureValue::Missing], &["x".to_owned()]);
    assert_eq!(distinct(&missing), Ok(0.0));
}

/// Of one set registers are those of the library, if it is given the same hashes; and so is the estimate.
#[test]
fn the_estimate_is_that_of_the_library() {
    for n in [1000, 5000, 60_000] {
        let mut sketch = HllSketch::new(12, HllType::Hll8).unwrap();
        (0..n).for_each(|i: u32| sketch.update(i));
        let image = sketch.serialize();
        let words: Vec<(u64, u64)> = (0..)
            .zip(image[40..].as_chunks().0)
            .map(|(at, word)| (at, u64::from_le_bytes(*word)))
            .filter(|(_, word)| *word > 0)
            .collect();
        let registers = Registers::from_words(&words).unwrap();
        assert_eq!(registers.estimate(), sketch.composite_estimate().round());
        assert_eq!(registers.words().collect::<Vec<_>>(), words);
    }
}

/// `(other)` may stand for many texts, so that all are estimated beside it; `t23` and `t101` choose the same register.
#[test]
fn texts_of_one_register_are_one_beside_other() {
    let texts = ["t23", "t101", OTHER].map(str::to_owned);
    assert_eq!(chosen(&texts), 2);
    assert_eq!(distinct(&of_texts(&texts)), Ok(2.0));
    assert_eq!(distinct(&of_texts(&texts[..2])), Ok(2.0));
}

/// A version before registers were kept wrote states without them: what they leave open stays open.
#[test]
fn what_an_earlier_version_did_not_count_stays_unknown() {
    let texts: Vec<String> = (0..150).map(|i| format!("t{i}")).collect();
    let (numbers, texts) = (of_numbers(&[1.0, 2.0]), of_texts(&texts));
    for (whole, reason) in [(numbers, Undefined::NotConfigured), (texts, Undefined::Capped)] {
        let mut values = stored(&whole);
        let end = values.len();
        values[end - 2..].fill(Value::Cells(Vec::new()));
        let older = Features::restore(&mut values.iter()).unwrap();
        assert_eq!(distinct(&older), Err(reason));
        for both in [merged([older.clone(), whole.clone()]), merged([whole, older])] {
            assert_eq!(distinct(&both), Err(reason));
        }
    }
}

#[test]
fn foreign_states_of_distinct_values_are_refused() {
    let registers = 1 << 16;
    for (numbers, words) in [
        (vec![(0, 2)], vec![]),
        (vec![(1, 1)], vec![]),
        (vec![(0, 1), (2, 1)], vec![]),
        (vec![(0, 1), (1, f64::NAN.to_bits())], vec![]),
        (vec![(0, 1), (1, 9), (2, 8)], vec![]),
        (vec![(0, 1), (1, 9)], vec![(3, 1)]),
        (vec![], vec![(3, 1)]),
        (vec![(0, 1)], vec![(3, 54)]),
        (vec![(0, 1)], vec![(3, 0)]),
        (vec![], vec![(1024, 1)]),
        (vec![], vec![(registers, 1)]),
        (vec![(registers, 1)], vec![]),
        (std::iter::once((0, 1)).chain((1..=101).map(|k| (k, k))).collect(), vec![]),
    ] {
        let mut values = stored(&folded([FeatureValue::Missing], &[]));
        let end = values.len();
        values[end - 2] = Value::Cells(numbers.clone());
        values[end - 1] = Value::Cells(words.clone());
        let restored = Features::restore(&mut values.iter());
        assert!(restored.is_err(), "{numbers:?} {words:?}");
    }
}

#[test]
fn memory_of_registers_is_counted() {
    let texts: Vec<String> = (0..101).map(|i| format!("t{i:03}")).collect();
    let (few, many) = (of_texts(&texts[..100]).heap_bytes(), of_texts(&texts).heap_bytes());
    assert!(many >= few + 4096, "{few} {many}");
    // Some of them wait to be folded in.
    let numbers: Vec<f64> = (0..120).map(f64::from).collect();
    let (few, many) = (of_numbers(&numbers[..96]).heap_bytes(), of_numbers(&numbers).heap_bytes());
    assert!(many >= few + 4096 - 1024, "{few} {many}");
}

proptest! {
    /// However values are ordered and split over parts that are written and read back.
    #[test]
    fn distinct_values_follow_from_the_set(
        values in prop::collection::vec((0..140_u32, 0..3_usize), 0..500).prop_shuffle(),
        with_other in any::<bool>(),
    ) {
        let text = |i: u32| if with_other && i == 7 { OTHER.to_owned() } else { format!("t{i}") };
        let all: Vec<f64> = values.iter().map(|(i, _)| f64::from(*i)).collect();
        let all_texts: Vec<String> = values.iter().map(|(i, _)| text(*i)).collect();
        let of_part = |part: usize| values.iter().filter(move |one| one.1 == part).map(|one| one.0);
        let sorted: BTreeSet<u32> = values.iter().map(|(i, _)| *i).collect();

        let parts = (0..3).map(|part| of_numbers(&of_part(part).map(f64::from).collect::<Vec<_>>()));
        let in_order: Vec<f64> = sorted.iter().copied().map(f64::from).collect();
        let whole = of_numbers(&all);
        prop_assert_eq!(&merged(parts), &whole);
        if !values.is_empty() {
            prop_assert_eq!(distinct(&whole), distinct(&of_numbers(&in_order)));
        }

        let parts = (0..3).map(|part| of_texts(&of_part(part).map(text).collect::<Vec<_>>()));
        let in_order: Vec<String> = sorted.iter().copied().map(text).collect();
        let whole = of_texts(&all_texts);
        prop_assert_eq!(stored(&merged(parts)), stored(&whole));
        if !values.is_empty() {
            prop_assert_eq!(distinct(&whole), distinct(&of_texts(&in_order)));
            let [exact, registers] = [sorted.len(), chosen(&in_order)].map(|n| u32::try_from(n).unwrap());
            let is_counted = exact <= 100 && !(with_other && sorted.contains(&7));
            // Two texts that choose one register are one to the estimate: of few texts that is more than its error.
            let most = if is_counted { 0.0 } else { f64::from(exact) * 0.05 + f64::from(exact - registers) };
            let off = distinct(&whole).unwrap() - f64::from(exact);
            prop_assert!(off.abs() <= most, "{} off, {} texts, {} registers", off, exact, registers);
        }
    }
}
