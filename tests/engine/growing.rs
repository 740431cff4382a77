//! Features whose numbers are kept as they are for a while, against some that fold each value at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::Accumulator;
use tidegauge::engine::metrics::feature::FeatureState;
use tidegauge::engine::metrics::features::{Features, FeaturesInput};
use tidegauge::engine::names::{FeatureId, Names};

fn value() -> impl Strategy<Value = FeatureValue<'static>> {
    prop_oneof![
        60 => (-1e6..1e6).prop_map(FeatureValue::Number),
        1 => Just(FeatureValue::Missing),
        1 => Just(FeatureValue::NotFinite),
        1 => Just(FeatureValue::Text("de")),
        1 => any::<bool>().prop_map(FeatureValue::Boolean),
    ]
}

/// A record: which of four features stands where, some perhaps twice, and its value.
fn record() -> impl Strategy<Value = Vec<(usize, FeatureValue<'static>)>> {
    let in_order =
        prop::collection::vec(value(), 4).prop_map(|values| (0..4).zip(values).collect());
    let in_any = prop::collection::vec((0..4_usize, value()), 0..6);
    prop_oneof![4 => in_order, 1 => in_any]
}

type Records = Vec<Vec<(usize, FeatureValue<'static>)>>;

const FEATURES: [&str; 4] = ["a", "b", "c", "d"];

fn add(features: &mut Features, record: &[(usize, FeatureValue<'_>)], names: &mut Names) {
    let of = |&(feature, value): &(usize, _)| {
        let name = FeatureId(names.intern(FEATURES[feature]));
        Feature { name, value }
    };
    let record: Vec<_> = record.iter().map(of).collect();
    features.add(&FeaturesInput {
        features: &record,
        names,
        reference: None,
        most: 100,
        distinct: &[],
    });
}

fn grown(records: &Records) -> Features {
    let (mut features, mut names) = (Features::default(), Names::default());
    for record in records {
        add(&mut features, record, &mut names);
    }
    features
}

/// The features by name, each value folded in at once.
fn folded(records: &Records) -> BTreeMap<&'static str, FeatureState> {
    let mut states: BTreeMap<_, FeatureState> = BTreeMap::new();
    for (feature, value) in records.iter().flatten() {
        states.entry(FEATURES[*feature]).or_default().add(value);
    }
    states
}

fn whole(features: &Features) -> BTreeMap<&'static str, FeatureState> {
    let state = |(name, state): (&Arc<str>, Cow<'_, FeatureState>)| {
        let name = FEATURES.into_iter().find(|known| **known == **name);
        (name.expect("one of them"), state.into_owned())
    };
    features.sorted().into_iter().map(state).collect()
}

proptest! {
    #[test]
    fn they_hold_what_was_folded_in_however_much(
        records in prop::collection::vec(record(), 0..40),
        others in prop::collection::vec(record(), 0..40),
    ) {
        prop_assert_eq!(whole(&grown(&records)), folded(&records));
        let mut merged = grown(&records);
        merged.merge(&grown(&others));
        let mut all = folded(&records);
        for (name, state) in folded(&others) {
            all.entry(name).or_default().merge(&state);
        }
        prop_assert_eq!(whole(&merged), all);
    }

    #[test]
    fn features_that_are_looked_at_go_on_growing(
        records in prop::collection::vec((record(), any::<bool>()), 1..40),
    ) {
        let (mut features, mut names) = (Features::default(), Names::default());
        let mut so_far = Vec::new();
        for (record, is_settled) in records {
            add(&mut features, &record, &mut names);
            so_far.push(record);
            if is_settled {
                features.settle();
            }
            prop_assert_eq!(whole(&features), folded(&so_far));
        }
        features.fold_waiting();
        prop_assert_eq!(whole(&features), folded(&so_far));
    }
}

/// So many inferences with 12 numbers each.
fn of_inferences(inferences: u32) -> Features {
    let mut names = Names::default();
    let ids: Vec<_> = (0..12).map(|i| FeatureId(names.intern(&format!("x{i}")))).collect();
    let mut features = Features::default();
    for i in 0..inferences {
        let number = |j: u32| f64::from(i * 12 + j) / 7.0;
        let values = (0..)
            .zip(&ids)
            .map(|(j, &name)| Feature { name, value: FeatureValue::Number(number(j)) });
        features.add(&FeaturesInput {
            features: &values.collect::<Vec<_>>(),
            names: &names,
            reference: None,
            most: 100,
            distinct: &[],
        });
    }
    features
}

#[test]
fn a_few_inferences_take_little_memory() {
    let bytes = [1, 5, 16, 40].map(|inferences| of_inferences(inferences).heap_bytes());
    assert!(bytes.is_sorted(), "{bytes:?}");
    // The names, a form and at most six numbers for each feature.
    assert!(bytes[1] <= 12 * (48 + 8 + 6 * 8), "{bytes:?}");
    assert!(bytes[2] < bytes[3] / 2, "{bytes:?}");
}

/// Of records with many more features than a state keeps all values count, and only what is kept takes memory.
#[test]
fn features_beyond_the_cap_take_no_room() {
    const MOST: usize = 3;
    let mut names = Names::default();
    let ids: Vec<_> = (0..8000).map(|i| FeatureId(names.intern(&format!("x{i}")))).collect();
    let mut features = Features::default();
    let mut expected: BTreeMap<String, FeatureState> = BTreeMap::new();
    for i in 0..20_u32 {
        let number = |j: u32| FeatureValue::Number(f64::from(i * 8000 + j) / 7.0);
        let values = (0..).zip(&ids).map(|(j, &name)| Feature { name, value: number(j) });
        let values: Vec<_> = values.collect();
        features.add(&FeaturesInput {
            features: &values,
            names: &names,
            reference: None,
            most: MOST,
            distinct: &[],
        });
        for (j, Feature { value, .. }) in values.iter().enumerate() {
            let name = if j < MOST { format!("x{j}") } else { "(other)".to_owned() };
            expected.entry(name).or_default().add(value);
        }
    }
    let bytes = features.heap_bytes();
    assert!(bytes < 256 * 1024, "{bytes}");
    let found = features.sorted().into_iter();
    let found: BTreeMap<_, _> =
        found.map(|(name, state)| (name.to_string(), state.into_owned())).collect();
    assert_eq!(found, expected);
}
