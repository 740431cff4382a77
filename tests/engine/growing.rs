//! A feature whose first numbers are kept as they are, against one that folds each value at once.

use proptest::prelude::*;
use tidegauge::engine::event::{Feature, FeatureValue};
use tidegauge::engine::metrics::accumulator::Accumulator;
use tidegauge::engine::metrics::feature::FeatureState;
use tidegauge::engine::metrics::features::{Features, FeaturesInput};
use tidegauge::engine::metrics::growing::Growing;
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

fn grown(values: &[FeatureValue<'_>]) -> Growing {
    let mut growing = Growing::of(None, false);
    for value in values {
        growing.add(value);
    }
    growing
}

fn folded(values: &[FeatureValue<'_>]) -> FeatureState {
    let mut state = FeatureState::of(None, false);
    for value in values {
        state.add(value);
    }
    state
}

proptest! {
    #[test]
    fn it_holds_what_was_folded_in_however_much(
        values in prop::collection::vec(value(), 0..40),
        others in prop::collection::vec(value(), 0..40),
    ) {
        prop_assert_eq!(grown(&values).whole().into_owned(), folded(&values));
        let mut merged = grown(&values);
        merged.merge(&grown(&others));
        let mut all = folded(&values);
        all.merge(&folded(&others));
        prop_assert_eq!(merged.whole().into_owned(), all);
    }

    #[test]
    fn a_looked_at_state_goes_on_growing(values in prop::collection::vec(value(), 1..40)) {
        let mut growing = Growing::of(None, false);
        for (i, value) in values.iter().enumerate() {
            growing.add(value);
            prop_assert_eq!(growing.whole().into_owned(), folded(&values[..=i]));
        }
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
