//! The capped dictionary against sets and maps of all names that were ever seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use tidegauge::engine::metrics::accumulator::Value;
use tidegauge::engine::metrics::dictionary::{Cap, Dictionary, Hashed};
use xxhash_rust::xxh3::xxh3_64;

const OTHER: &str = "(other)";
/// A name that occurs, and whether that is taken back later.
type Seen = (String, bool);

fn seen() -> impl Strategy<Value = Vec<Seen>> {
    let name = prop_oneof![
        20 => (0..30_u8).prop_map(|i| format!("n{i}")),
        1 => Just(String::new()),
        1 => Just(OTHER.to_owned()),
        1 => Just("ünï".to_owned()),
    ];
    prop::collection::vec((name, any::<bool>()), 0..60)
}

/// What is kept, and the count of the rest, if all of that is seen in any order.
fn naive(names: usize, seen: &[Seen]) -> (BTreeMap<String, u64>, u64) {
    let all: BTreeSet<_> = seen.iter().map(|(name, _)| name.as_str()).collect();
    let mut all: Vec<_> = all.into_iter().filter(|name| *name != OTHER).collect();
    all.sort_by_key(|name| (xxh3_64(name.as_bytes()), *name));
    let mut kept: BTreeMap<_, _> =
        all.into_iter().take(names).map(|name| (name.to_owned(), 0)).collect();
    let mut other = 0;
    for (name, _) in seen.iter().filter(|(_, is_taken_back)| !is_taken_back) {
        *kept.get_mut(name).unwrap_or(&mut other) += 1;
    }
    (kept, other)
}

fn dictionary_of(cap: &Cap, seen: &[Seen]) -> Dictionary {
    let mut dictionary = Dictionary::default();
    for (name, _) in seen {
        dictionary.add(cap, &**name);
    }
    for (name, _) in seen.iter().filter(|(_, is_taken_back)| *is_taken_back) {
        dictionary.remove(cap, name);
    }
    dictionary
}

fn content(dictionary: &Dictionary) -> (BTreeMap<String, u64>, u64) {
    let kept = dictionary.iter().map(|(name, count)| (name.to_string(), count));
    (kept.collect(), dictionary.other())
}

fn state(dictionary: &Dictionary) -> (Vec<Arc<str>>, Vec<(u64, u64)>, u64) {
    let mut state = Vec::new();
    dictionary.state(&mut state);
    match <[Value; 3]>::try_from(state) {
        Ok([Value::Names(names), Value::Cells(counts), Value::Count(other)]) => {
            (names, counts, other)
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn kept_names_and_counts_follow_from_what_was_seen(
        names in 0..12_usize,
        seen in seen(),
        at in any::<Index>(),
    ) {
        let cap = Cap::of(names);
        let whole = dictionary_of(&cap, &seen);
        prop_assert_eq!(content(&whole), naive(names, &seen));
        for (name, count) in content(&whole).0 {
            prop_assert_eq!(whole.get(&*name), Some(count));
        }
        let hashes: Vec<_> = whole.iter().map(|(name, _)| xxh3_64(name.as_bytes())).collect();
        prop_assert!(hashes.is_sorted());

        let turned: Vec<_> = seen.iter().rev().cloned().collect();
        prop_assert_eq!(&dictionary_of(&cap, &turned), &whole);

        let (left, right) = seen.split_at(at.index(seen.len() + 1));
        let [left, right] = [left, right].map(|part| dictionary_of(&cap, part));
        for (first, second) in [(&left, &right), (&right, &left)] {
            let mut both = Dictionary::default();
            both.merge(&cap, first);
            both.merge(&cap, second);
            prop_assert_eq!(&both, &whole);
        }
    }

    #[test]
    fn a_known_name_is_counted_as_any_other(names in 0..12_usize, seen in seen()) {
        let cap = Cap::of(names);
        let (mut counted, mut expected) = (Dictionary::default(), Dictionary::default());
        for (name, _) in &seen {
            let is_known = expected.get(&**name).is_some();
            prop_assert_eq!(counted.add_known(Hashed::from(&**name)), is_known);
            if !is_known {
                counted.add(&cap, &**name);
            }
            expected.add(&cap, &**name);
            prop_assert_eq!(&counted, &expected);
        }
    }

    #[test]
    fn a_state_comes_back_and_another_form_does_not(names in 1..12_usize, seen in seen()) {
        let dictionary = dictionary_of(&Cap::of(names), &seen);
        let (names, counts, other) = state(&dictionary);
        let back = Dictionary::from_parts(names.clone(), &counts, other);
        prop_assert_eq!(back, Some(dictionary));
        let length = u64::try_from(names.len()).unwrap();
        let beyond: Vec<_> = counts.iter().copied().chain([(length, 1)]).collect();
        prop_assert_eq!(Dictionary::from_parts(names.clone(), &beyond, other), None);
        if names.len() > 1 {
            let turned = names.iter().rev().cloned().collect();
            prop_assert_eq!(Dictionary::from_parts(turned, &[], other), None);
            prop_assert_eq!(Dictionary::from_parts(names.clone(), &[(1, 1), (0, 1)], 0), None);
        }
        if let [first, ..] = names.as_slice() {
            let twice = vec![Arc::clone(first), Arc::clone(first)];
            prop_assert_eq!(Dictionary::from_parts(twice, &[], 0), None);
            prop_assert_eq!(Dictionary::from_parts(names, &[(0, 0)], 0), None);
        }
        prop_assert_eq!(Dictionary::from_parts(vec![OTHER.into()], &[], 0), None);
    }
}

#[test]
fn a_known_name_moves_no_memory() {
    let cap = Cap::of(2);
    let mut dictionary = Dictionary::default();
    dictionary.add(&cap, "a");
    dictionary.add(&cap, "b");
    let bytes = dictionary.heap_bytes();
    let kept = dictionary.iter().next().map(|(name, _)| Arc::as_ptr(name));
    for name in ["a", "b"].repeat(100) {
        dictionary.add(&cap, name);
    }
    assert_eq!(dictionary.heap_bytes(), bytes);
    assert_eq!(dictionary.iter().next().map(|(name, _)| Arc::as_ptr(name)), kept);
    assert_eq!([dictionary.get("a"), dictionary.get("b")], [Some(101), Some(101)]);
}
