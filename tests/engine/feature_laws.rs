//! Features whose values are held against a reference: the laws of `Accumulator`, and what is counted of them, value by
//! value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tidegauge::engine::event::FeatureValue;
use tidegauge::engine::metrics::accumulator::Accumulator as _;
use tidegauge::engine::metrics::features::{Features, FeaturesInput};
use tidegauge::engine::metrics::reference::{CategoricalProfile, FeatureProfile, Profile, Values};

use crate::data_quality::{numbers, profile};
use crate::laws::{check_laws, features, lists};
use crate::reference::by_cell;

/// One feature is not in it.
static REFERENCE: LazyLock<Profile> = LazyLock::new(|| {
    let amount = numbers((-500.0, 500.0), &[-100.0, 0.0, 0.1, 100.0], Some((-300.0, 300.0)));
    let sharp = numbers((0.0, 800.0), &[1.0, 500.0], None);
    // Half of the many texts, and some of the few.
    let many = (0..150_u64).map(|n| (Arc::<str>::from(format!("t{n}")), 900 - n));
    let few = [("Bern", 1000), ("", 950)].map(|(name, n)| (Arc::<str>::from(name), n));
    let categories = few.into_iter().chain(many).collect();
    let values = Values::Categorical(CategoricalProfile { categories, other: 0 });
    let city = FeatureProfile { missing: 0, type_errors: 0, values };
    profile([("amount", amount), ("city", city), ("ß", sharp)])
});

/// Where numbers may lie.
fn range(name: &str) -> (f64, f64) {
    match name {
        "amount" => (-300.0, 300.0),
        "ß" => (0.0, 800.0),
        _ => (f64::MIN, f64::MAX),
    }
}

/// The features that any inference carries.
fn carried(lists: &[Vec<FeaturesInput<'static>>]) -> BTreeSet<&'static str> {
    let of = |input: &FeaturesInput<'static>| {
        let FeaturesInput { features, names, .. } = *input;
        features.iter().map(move |it| &**names.text(it.name.0))
    };
    lists.iter().flatten().flat_map(of).collect()
}

/// All values of one feature.
fn values_of(name: &str, lists: &[Vec<FeaturesInput<'static>>]) -> Vec<FeatureValue<'static>> {
    let of = |input: &FeaturesInput<'static>| {
        let FeaturesInput { features, names, .. } = *input;
        let own = features.iter().filter(move |it| **names.text(it.name.0) == *name);
        own.map(|it| it.value)
    };
    lists.iter().flatten().flat_map(of).collect()
}

fn length<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap()
}

proptest! {
    #[test]
    fn features_with_a_reference_keep_the_laws(lists in lists(features(Some(&REFERENCE)))) {
        check_laws::<Features>(&lists, false);
    }

    #[test]
    fn values_are_counted_beside_the_reference(lists in lists(features(Some(&REFERENCE)))) {
        let mut all = Features::default();
        for inputs in &lists {
            let mut part = Features::default();
            for input in inputs {
                part.add(input);
            }
            all.merge(&part);
        }
        let sorted = all.sorted();
        let names: Vec<&str> = sorted.iter().map(|(name, _)| &***name).collect();
        prop_assert_eq!(names, carried(&lists).into_iter().collect::<Vec<_>>());
        for (name, state) in sorted {
            let (mut found, mut texts) = (Vec::new(), Vec::new());
            let (mut booleans, mut not_finite) = ([0; 2], 0);
            for value in values_of(name, &lists) {
                match value {
                    FeatureValue::Number(x) => found.push(x),
                    FeatureValue::Text(text) => texts.push(text),
                    FeatureValue::Boolean(value) => booleans[usize::from(value)] += 1,
                    FeatureValue::NotFinite => not_finite += 1,
                    FeatureValue::Missing => {}
                }
            }
            prop_assert_eq!((state.booleans, state.not_finite), (booleans, not_finite));
            let (lower, upper) = range(name);
            let is_outside = |x: &&f64| **x < lower || **x > upper;
            let outside: Vec<&f64> = found.iter().filter(is_outside).collect();
            prop_assert_eq!((state.numbers, state.outside), (length(&found), length(&outside)));
            let reference = REFERENCE.features.get(&**name).map(|of| &**of);
            if let Some(numeric) = reference.and_then(FeatureProfile::numeric) {
                prop_assert_eq!(state.cells.to_pairs(), by_cell(numeric, &found));
            }
            let mut known: BTreeMap<&str, u64> = BTreeMap::new();
            let listed = reference.and_then(FeatureProfile::categories);
            let is_listed = |text: &&&str| {
                listed.is_some_and(|of| of.categories.iter().any(|(name, _)| **name == ***text))
            };
            for text in texts.iter().filter(is_listed) {
                *known.entry(text).or_default() += 1;
            }
            let counted: BTreeMap<&str, u64> =
                state.known.iter().map(|(name, n)| (&**name, n)).collect();
            let rest = length(&texts) - known.values().sum::<u64>();
            prop_assert_eq!(counted, known);
            prop_assert_eq!(state.texts.total(), rest);
        }
    }
}
