//! Profiles: what the builder makes of records, and what a document may say.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::expected::Expectation;
use tidegauge::engine::metrics::lattice::{score_cell, score_edge};
use tidegauge::engine::metrics::reference::{Binning, FeatureKind, Flaw, Profile, Scale};
use tidegauge::profile::builder::{BuildError, COUNTED_BYTES, Declared, Options, Record, Targets};
use tidegauge::profile::document::{DocumentError, canonical, id_of, read, write};
use tidegauge::profile::{Built, ProfileBuilder};

use crate::drift_golden::{NOTHING, built};

/// Four features of every kind, scores, classes and a calibrator.
fn example() -> Profile {
    let mut options = Options::new("fraud-2026.01");
    let range = Declared { range: Some((0.0, 1e6)), ..Declared::default() };
    options.declared.insert("amount".to_owned(), range);
    let mut builder = ProfileBuilder::new(options).unwrap();
    for i in 0..2000_u32 {
        let amount = f64::from(i * i % 977) / 7.0;
        let score = f64::from(i % 101) / 100.0;
        let features = [
            ("amount", FeatureValue::Number(amount)),
            (
                "country",
                FeatureValue::Text(["CZ", "SK", "AT"][usize::try_from(i % 7 / 3).unwrap()]),
            ),
            ("is_new", FeatureValue::Boolean(i % 5 == 0)),
            ("gap", if i % 4 == 0 { FeatureValue::Missing } else { FeatureValue::Number(-0.0) }),
        ];
        let record = Record {
            id: RequestId::of(&i.to_le_bytes()),
            features: &features,
            score: Some(score),
            scores: &[],
            prediction: FeatureValue::Number(if score >= 0.5 { 1.0 } else { 0.0 }),
            label: FeatureValue::Text(if i % 3 == 0 { "1" } else { "0" }),
            positive: Some(i % 3 == 0),
        };
        builder.add(&record).unwrap();
    }
    builder.finish().unwrap().profile
}

fn document() -> Json {
    let mut document: Json = serde_json::from_str(&write(&example())).unwrap();
    document.as_object_mut().unwrap().remove("id");
    document
}

#[test]
fn what_is_written_is_read_again() {
    let profile = example();
    assert_eq!(read(&write(&profile)), Ok(profile.clone()));
    assert_eq!(read(&canonical(&profile)), Ok(profile.clone()));
    let prefix = "fraud-2026.01-";
    assert!(profile.id.starts_with(prefix) && profile.id.len() == prefix.len() + 12);
    // Neither the order of keys nor white space is part of the content.
    let reordered =
        document().as_object().unwrap().iter().rev().fold(String::new(), |all, (k, v)| {
            format!("{all}{}\n {}: {v}", if all.is_empty() { "" } else { "," }, json!(k))
        });
    assert_eq!(read(&format!("{{{reordered}}}")).unwrap().id, profile.id);
}

#[test]
fn another_content_has_another_id() {
    let mut changed = document();
    changed["generation"] = json!(2);
    let id = read(&changed.to_string()).unwrap().id;
    assert_ne!(id, example().id);
    changed["id"] = json!(&*example().id);
    let expected =
        DocumentError::Changed { stated: example().id.to_string(), content: id.to_string() };
    assert_eq!(read(&changed.to_string()), Err(expected));
}

/// A profile whose windows are known.
fn expecting() -> Profile {
    let mut profile = example();
    let expectation = Expectation { windows: 10, mean: 0.1 + 0.2, sd: 0.0 };
    let names = [("serving.error_rate", expectation), ("quality_classes.recall/a b", expectation)];
    let names = names.map(|(name, it)| (name.into(), it)).into_iter().collect();
    profile.expected.0.entry("1h".into()).or_default().insert("region=eu".into(), names);
    profile.id = id_of(&profile).into();
    profile
}

#[test]
fn what_is_expected_of_windows_makes_another_format() {
    let (plain, profile) = (example(), expecting());
    assert_eq!(read(&write(&profile)), Ok(profile.clone()));
    assert_ne!(profile.id, plain.id);
    let format = |profile: &Profile| -> Json {
        serde_json::from_str::<Json>(&canonical(profile)).unwrap()["format"].clone()
    };
    assert_eq!((format(&plain), format(&profile)), (json!(1), json!(2)));
    // What an earlier version wrote has the id that it gave.
    let old = r#"{"format":1,"id":"old-22150308a55b","name":"old","generation":3,"features":{"plan":{"kind":
        "categorical","missing":2,"type_errors":0,"categories":[["basic",7],["pro",3]],"other":1}}}"#;
    assert_eq!(&*read(old).unwrap().id, "old-22150308a55b");
    let document: Json = serde_json::from_str(&canonical(&profile)).unwrap();
    let name = "serving.error_rate";
    for (path, value, expected) in [
        (&["format"][..], json!(1), "`expected` of the profile: goes with format 2"),
        (&["expected"], json!({}), "`expected` of the profile: goes with format 2"),
        (&["expected", "1h"], json!([]), "`expected` of the profile: invalid type"),
        (&["expected", "1h", "region=eu", name, "windows"], json!(9), "needs 10 windows"),
        (&["expected", "1h", "region=eu", name, "sd"], json!(-1), "an sd of 0 or more"),
        (&["expected", "1h", "region=eu", name, "n"], json!(1), "unknown field `n`"),
    ] {
        let mut changed = document.clone();
        *path.iter().fold(&mut changed, |at, key| &mut at[*key]) = value;
        let error = read(&changed.to_string()).expect_err(expected);
        assert_eq!(error.code(), "profile_malformed");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A change of the document at a path of keys.
fn with(path: &[&str], value: Json) -> String {
    let mut document = document();
    let place = path.iter().fold(&mut document, |at, key| &mut at[*key]);
    *place = value;
    document.to_string()
}

fn without(path: &[&str]) -> String {
    let mut document = document();
    let (last, path) = path.split_last().unwrap();
    let place = path.iter().fold(&mut document, |at, key| &mut at[*key]);
    assert!(place.as_object_mut().unwrap().remove(*last).is_some());
    document.to_string()
}

#[test]
fn documents_that_comparisons_cannot_rely_on_are_refused() {
    let amount = |key| ["features", "amount", key];
    let cases = [
        ("{", "profile_not_json", "EOF"),
        ("[]", "profile_format_unknown", "no `format`"),
        (
            &with(&["format"], json!(3)),
            "profile_format_unknown",
            "has format 3; this program reads",
        ),
        (&without(&["name"]), "profile_malformed", "`name` of the profile: is missing"),
        (&with(&["name"], json!("a b")), "profile_malformed", "letters, digits"),
        (
            &with(&["nmae"], json!("a")),
            "profile_malformed",
            "key `nmae` of the profile: is not known",
        ),
        (
            &without(&amount("sd")),
            "profile_malformed",
            "feature `amount` of the profile: missing field `sd`",
        ),
        (&with(&amount("sd"), Json::Null), "profile_malformed", "feature `amount`"),
        (&with(&amount("kind"), json!("text")), "profile_malformed", "unknown variant `text`"),
        (&with(&amount("sd"), json!(-1.0)), "profile_flawed", "standard deviation is negative"),
        (&with(&amount("min"), json!(1e9)), "profile_flawed", "minimum exceeds its maximum"),
        (
            &with(&amount("bin_edges"), json!([3.0, 2.0])),
            "profile_flawed",
            "`bin_edges` do not rise",
        ),
        (
            &with(&amount("fine_edges"), json!([1.0, 1.0])),
            "profile_flawed",
            "`fine_edges` do not rise",
        ),
        (&with(&amount("bin_edges"), json!([0.12345])), "profile_flawed", "not among `fine_edges`"),
        (
            &with(&amount("counts"), json!([1, 2])),
            "profile_flawed",
            "needs 100 counts or rates, and has 2",
        ),
        (&with(&amount("counts"), json!(vec![0; 100])), "profile_flawed", "no values"),
        (&with(&amount("counts"), json!(vec![u64::MAX; 100])), "profile_flawed", "more than 2^53"),
        (&with(&amount("missing"), json!(u64::MAX)), "profile_flawed", "more than 2^53"),
        (&with(&amount("type_errors"), json!((1_u64 << 53) + 1)), "profile_flawed", "2^53"),
        (&with(&["features", "country", "missing"], json!(u64::MAX)), "profile_flawed", "2^53"),
        (&with(&amount("min"), json!(-1.7e308)), "profile_flawed", "is beyond 1e150"),
        (&with(&amount("max"), json!(1.1e150)), "profile_flawed", "is beyond 1e150"),
        (&with(&["features", "country", "categories"], json!([])), "profile_flawed", "no values"),
        (
            &with(&["features", "country", "categories"], json!([["a", 1], ["b", 2]])),
            "profile_flawed",
            "by falling count",
        ),
        (
            &with(&["features", "country", "categories"], json!([["a", 2], ["a", 1]])),
            "profile_flawed",
            "category `a` stands twice",
        ),
        (
            &with(&["score", "max"], json!(0.5)),
            "profile_flawed",
            "`score` of the profile: on scale",
        ),
        (&with(&["score", "scale"], json!("linear")), "profile_malformed", "with scale `score`"),
        (&with(&amount("scale"), json!("score")), "profile_flawed", "whole numbers from 0 to 9730"),
        (&with(&["calibrator", "positives"], json!(9999)), "profile_malformed", "impossible"),
        (&with(&["calibrator", "map"], json!("cubic")), "profile_malformed", "unknown variant"),
        (r#"{"format":1,"name":"a","generation":1,"features":{}}"#, "profile_empty", "no feature"),
    ];
    for (text, code, said) in cases {
        let error = read(text).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(said), "{error}\nshould say: {said}");
    }
}

#[test]
fn counts_and_limits_that_do_no_harm_are_read() {
    let amount = |key| ["features", "amount", key];
    for changed in [
        with(&amount("missing"), json!(1_u64 << 53)),
        with(&amount("max"), json!(1e150)),
        with(&amount("range"), json!([-1.7e308, 1.7e308])),
    ] {
        assert!(read(&changed).is_ok(), "{changed}");
    }
}

#[test]
fn knots_must_rise() {
    let isotonic = |knots: Json, rates: Json| {
        let counts = json!({"map": "isotonic", "n": 2, "positives": 1, "ece_identity": 0.0,
            "ece_isotonic": 0.0, "knots": knots, "rates": rates});
        read(&with(&["calibrator"], counts))
    };
    assert!(isotonic(json!([0.1, 0.2]), json!([0.0, 0.0])).is_ok());
    let flaw = |flaw| DocumentError::Flawed { place: "`calibrator`".to_owned(), flaw };
    let refused = [
        (json!([0.2, 0.2]), json!([0.0, 0.1]), Flaw::NotRising("knots")),
        (json!([0.1, 0.2]), json!([0.2, 0.1]), Flaw::NotRising("rates")),
        (json!([0.1, 1.2]), json!([0.2, 0.3]), Flaw::NotAProbability),
        (json!([0.1]), json!([0.2, 0.3]), Flaw::CountsAndEdges { expected: 1, found: 2 }),
        (json!([]), json!([]), Flaw::CountsAndEdges { expected: 1, found: 0 }),
    ];
    for (knots, rates, expected) in refused {
        assert_eq!(isotonic(knots, rates), Err(flaw(expected)));
    }
}

#[test]
fn the_example_is_what_its_records_are() {
    let profile = example();
    let kind = |name: &str| profile.features[name].kind();
    assert_eq!(kind("amount"), FeatureKind::Numeric);
    assert_eq!(kind("country"), FeatureKind::Categorical);
    assert_eq!(kind("is_new"), FeatureKind::Boolean);
    assert_eq!(profile.features["amount"].numeric().unwrap().range, Some((0.0, 1e6)));
    let gap = &profile.features["gap"];
    assert_eq!((gap.total(), gap.missing), (1500, 500));
    // What lies below the one value has a bin, too.
    assert_eq!(*gap.numeric().unwrap().fine_edges, [-5e-324, 0.0]);
    let listed = |names: &[(std::sync::Arc<str>, u64)]| -> Vec<(String, u64)> {
        names.iter().map(|(name, count)| (name.to_string(), *count)).collect()
    };
    let is_new = &profile.features["is_new"].categories().unwrap().categories;
    assert_eq!(listed(is_new), [("false".to_owned(), 1600), ("true".to_owned(), 400)]);
    // Classes 0 and 1 are texts, wherever they come from.
    let prediction = &profile.prediction.as_ref().unwrap().categories().unwrap().categories;
    assert_eq!(listed(prediction), [("0".to_owned(), 1000), ("1".to_owned(), 1000)]);
    let label = &profile.label.as_ref().unwrap().categories().unwrap().categories;
    assert_eq!(listed(label), [("0".to_owned(), 1333), ("1".to_owned(), 667)]);
    let score = profile.score.as_ref().unwrap().numeric().unwrap();
    assert_eq!((score.scale, score.min), (Scale::Score, 0.0));
    assert_eq!(score.max, f64::from(score_cell(1.0)));
    assert!(score.bin_edges.contains(&f64::from(score_cell(0.39))));
    assert_eq!(profile.calibrator.as_ref().unwrap().n, 2000);
}

#[test]
fn values_of_the_rarer_kind_are_type_errors() {
    let values = [
        FeatureValue::Number(1.0),
        FeatureValue::Text("oops"),
        FeatureValue::NotFinite,
        FeatureValue::Missing,
        FeatureValue::Number(2.0),
    ];
    let Built { profile, records, .. } = built(values, Options::new("test"));
    let feature = &profile.features["x"];
    assert_eq!((records, feature.total(), feature.missing, feature.type_errors), (5, 2, 2, 1));
    let mut options = Options::new("test");
    let declared = Declared { kind: Some(FeatureKind::Categorical), ..Declared::default() };
    options.declared.insert("x".to_owned(), declared);
    let feature = built(values, options).profile.features["x"].clone();
    assert_eq!(
        (feature.kind(), feature.total(), feature.type_errors),
        (FeatureKind::Categorical, 1, 2)
    );
}

/// Free text in place of a category: it must not take gigabytes.
#[test]
fn long_texts_are_counted_while_there_is_room() {
    // Ten of them fill it.
    let rest = "x".repeat(COUNTED_BYTES / 10 - 2);
    let texts: Vec<String> = (0..20).map(|i| format!("{i:02}{rest}")).collect();
    // The first one again, and one that is short but comes too late.
    let late = ["late", texts[0].as_str(), "late"];
    let values = texts.iter().map(String::as_str).chain(late).map(FeatureValue::Text);
    let feature = built(values, Options::new("test")).profile.features["x"].clone();
    let profile = feature.categories().unwrap();
    assert_eq!((profile.categories.len(), profile.other, feature.total()), (10, 12, 23));
    assert_eq!((&*profile.categories[0].0, profile.categories[0].1), (&*texts[0], 2));
    // Short names have room enough.
    let names: Vec<String> = (0..1000).map(|i| format!("name {i}")).collect();
    let options = Options { max_categories: 2000, ..Options::new("test") };
    let values = names.iter().map(|name| FeatureValue::Text(name));
    let feature = built(values, options).profile.features["x"].clone();
    let profile = feature.categories().unwrap();
    assert_eq!((profile.categories.len(), profile.other), (1000, 0));
}

/// Fine edges, edges of the bins, and counts between the fine ones.
fn edges_of(counts: &[(f64, usize)]) -> (Vec<f64>, Vec<f64>, Vec<u64>) {
    let values = counts.iter().flat_map(|&(x, n)| std::iter::repeat_n(FeatureValue::Number(x), n));
    let feature = built(values, Options::new("test")).profile.features["x"].clone();
    assert_eq!(feature.check(), Ok(()));
    let numeric = feature.numeric().unwrap();
    (numeric.fine_edges.to_vec(), numeric.bin_edges.clone(), numeric.counts.clone())
}

/// What is several of the tenths has an edge right below it, and the cells have one on the number before.
#[test]
fn a_common_number_has_a_bin_of_its_own() {
    let under = f64::next_down;
    for rare in [50, 5] {
        let expected = (vec![0.0, under(1.0), 1.0], vec![under(1.0), 1.0], vec![rare, 0, 950, 0]);
        let found = edges_of(&[(0.0, usize::try_from(rare).unwrap()), (1.0, 950)]);
        assert_eq!(found, expected, "{rare}");
    }
    // The least of all has one, too.
    let expected = (vec![-5e-324, 0.0, 1.0], vec![-5e-324, 0.0], vec![0, 950, 50, 0]);
    assert_eq!(edges_of(&[(0.0, 950), (1.0, 50)]), expected);
    let expected = (vec![under(5.0), 5.0], vec![under(5.0), 5.0], vec![0, 1000, 0]);
    assert_eq!(edges_of(&[(5.0, 1000)]), expected);
    // But nothing can be less than this one.
    assert_eq!(edges_of(&[(-1e150, 1000)]), (vec![-1e150], vec![-1e150], vec![1000, 0]));
    // 0 and 1 are a tenth each.
    let expected = (
        vec![0.0, 1.0, under(2.0), 2.0],
        vec![0.0, 1.0, under(2.0), 2.0],
        vec![101, 198, 0, 701, 0],
    );
    assert_eq!(edges_of(&[(0.0, 101), (1.0, 198), (2.0, 701)]), expected);
    // Ten numbers as often as each other are the tenths.
    let ten: Vec<(f64, usize)> = (0..10).map(|n| (f64::from(n), 100)).collect();
    assert_eq!(edges_of(&ten).1, (0..9).map(f64::from).collect::<Vec<_>>());
}

/// On the score lattice right below a cell lies another cell, if any.
#[test]
fn a_common_score_has_a_bin_of_its_own() {
    let of_score = |score: f64| {
        let mut builder = ProfileBuilder::new(Options::new("test")).unwrap();
        builder.add(&Record { score: Some(score), ..NOTHING }).unwrap();
        let score = builder.finish().unwrap().profile.score.unwrap();
        assert_eq!(score.check(), Ok(()));
        score.numeric().unwrap().clone()
    };
    let (cell, numeric) = (score_cell(0.7), of_score(0.7));
    assert_eq!(numeric.bin_edges, [cell - 1, cell].map(f64::from));
    assert_eq!(*numeric.fine_edges, *numeric.bin_edges);
    assert_eq!(numeric.counts, [0, 1, 0]);
    // The score lies between the edges of its own cell.
    assert_eq!(numeric.bounds(), [cell, cell, cell + 1, cell + 1].map(score_edge));
    assert_eq!(of_score(0.0).bin_edges, [0.0]);
}

#[test]
fn edges_may_be_given() {
    let mut options = Options::new("test");
    let declared = Declared { edges: vec![-5.0, 2.0, 4.0, 99.0], ..Declared::default() };
    options.declared.insert("x".to_owned(), declared);
    let values = (1..=6).map(f64::from).map(FeatureValue::Number);
    let feature = built(values, options).profile.features["x"].clone();
    let numeric = feature.numeric().unwrap();
    assert_eq!(feature.binning(), Binning::Edges);
    assert_eq!(numeric.counts, [0, 2, 2, 2, 0]);
    assert_eq!(numeric.bounds(), [1.0, 1.0, 2.0, 4.0, 6.0, 6.0]);
    assert_eq!(numeric.check(), Ok(()));
    let refused = |declared: Declared| {
        let mut options = Options::new("test");
        options.declared.insert("x".to_owned(), declared);
        match ProfileBuilder::new(options).unwrap_err() {
            BuildError::Declared { feature, flaw } => (feature, flaw),
            other => panic!("{other}"),
        }
    };
    let falling = Declared { edges: vec![2.0, 1.0], ..Declared::default() };
    assert_eq!(refused(falling), ("x".to_owned(), Flaw::NotRising("edges")));
    let many = Declared { edges: (0..9000).map(f64::from).collect(), ..Declared::default() };
    assert_eq!(refused(many).1, Flaw::TooManyEdges(9000));
    let turned = Declared { range: Some((2.0, 1.0)), ..Declared::default() };
    assert_eq!(refused(turned).1, Flaw::NoSpread);
}

#[test]
fn many_distinct_numbers_leave_the_counts_between_given_edges_exact() {
    let mut options = Options { exact_numbers: 100, ..Options::new("test") };
    let declared = Declared { edges: vec![10.0, 50.0], ..Declared::default() };
    options.declared.insert("x".to_owned(), declared);
    // 0.0 to 99.9, and many that equal an edge.
    let spread = (0..1000).map(|i| f64::from(i) / 10.0);
    let values = spread.chain(std::iter::repeat_n(10.0, 500)).map(FeatureValue::Number);
    let built = built(values, options);
    let numeric = built.profile.features["x"].numeric().unwrap();
    assert_eq!(*numeric.fine_edges, [10.0, 50.0]);
    assert_eq!(numeric.counts, [101 + 500, 400, 499]);
    assert_eq!(numeric.check(), Ok(()));
    assert!(built.rounded.is_empty(), "nothing was rounded: {:?}", built.rounded);
}

#[test]
fn what_has_no_values_is_left_out_and_named() {
    let mut builder = ProfileBuilder::new(Options::new("test")).unwrap();
    let features = [("empty", FeatureValue::Missing), ("full", FeatureValue::Number(1.0))];
    builder.add(&Record { features: &features, ..NOTHING }).unwrap();
    let built = builder.finish().unwrap();
    assert_eq!(built.without_values, ["empty".into()]);
    assert!(built.profile.features.len() == 1 && built.profile.label.is_none());
    let nothing = ProfileBuilder::new(Options::new("test")).unwrap();
    assert_eq!(nothing.finish().unwrap_err(), BuildError::Empty);
}

#[test]
fn the_rest_of_the_names_is_counted() {
    let names: Vec<String> = (0..150).map(|i| format!("n{i:03}")).collect();
    let values = names.iter().flat_map(|name| [FeatureValue::Text(name); 2]);
    let built = built(values.chain([FeatureValue::Text("n149")]), Options::new("test"));
    let names = built.profile.features["x"].categories().unwrap().clone();
    assert_eq!((names.categories.len(), names.other, names.total()), (100, 100, 301));
    assert_eq!(names.categories[0], ("n149".into(), 3));
    assert_eq!(names.categories[1], ("n000".into(), 2));
}

#[test]
fn numbers_may_be_predicted() {
    let mut options = Options::new("test");
    options.targets = Targets::Numbers;
    let mut builder = ProfileBuilder::new(options).unwrap();
    for i in 0..10 {
        let prediction = FeatureValue::Number(f64::from(i));
        builder.add(&Record { prediction, ..NOTHING }).unwrap();
    }
    let prediction = builder.finish().unwrap().profile.prediction.unwrap();
    assert_eq!(prediction.numeric().unwrap().mean, 4.5);
}

proptest! {
    /// So there are as many bins as before, and what moves inside one was never much.
    #[test]
    fn no_bin_of_different_numbers_holds_more_than_a_fifth(
        values in prop::collection::vec(
            prop_oneof![
                3 => (-2_i8..3).prop_map(f64::from),
                1 => Just(0.5),
                2 => -3.0..3.0_f64,
            ],
            1..300,
        ),
    ) {
        let feature = built(values.iter().map(|&x| FeatureValue::Number(x)), Options::new("test"));
        let numeric = feature.profile.features["x"].numeric().unwrap().clone();
        prop_assert_eq!(numeric.check(), Ok(()));
        prop_assert!(numeric.bins() <= 10 && numeric.fine_edges.len() <= 99);
        let mut bins = vec![Vec::new(); numeric.bins()];
        for &x in &values {
            bins[numeric.bin_edges.iter().filter(|edge| **edge < x).count()].push(x);
        }
        for bin in bins {
            let are_equal = bin.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq());
            prop_assert!(are_equal || 5 * bin.len() <= values.len(), "{:?} of {:?}", bin, values);
        }
    }

    /// Beyond the limit of distinct numbers edges are rounded up, and all counts are still those of the raw numbers.
    #[test]
    fn rounding_leaves_counts_exact(
        values in prop::collection::vec(prop_oneof![-1e3..1e3_f64, 1.0..1.001_f64], 1..300),
        limit in 1_usize..40,
    ) {
        let of = |exact_numbers| {
            let options = Options { exact_numbers, ..Options::new("test") };
            built(values.iter().map(|&x| FeatureValue::Number(x)), options)
        };
        let (exact, rounded) = (of(usize::MAX), of(limit));
        let [exact_x, rounded_x] =
            [&exact, &rounded].map(|it| it.profile.features["x"].numeric().unwrap().clone());
        prop_assert_eq!(exact_x.check(), Ok(()));
        prop_assert_eq!(rounded_x.check(), Ok(()));
        let figures = |it: &tidegauge::engine::metrics::reference::NumericProfile| {
            [it.min, it.max, it.mean, it.sd]
        };
        prop_assert_eq!(figures(&exact_x), figures(&rounded_x));
        // Counted one by one.
        for profile in [&exact_x, &rounded_x] {
            let counted = profile.gather(values.iter().map(|&x| (x, 1)));
            let stored = (1..).zip(profile.counts.iter().copied());
            prop_assert_eq!(counted, stored.filter(|(_, count)| *count > 0).collect::<Vec<_>>());
        }
        prop_assert!(exact.rounded.is_empty());
        let error = rounded.rounded.first().map_or(0.0, |(_, error)| *error);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for percent in 1..100 {
            let rank = (percent * sorted.len()).div_ceil(100).max(1);
            let quantile = sorted[rank - 1];
            let close = |edge: &&f64| quantile <= **edge && **edge - quantile <= error * quantile.abs();
            prop_assert!(rounded_x.fine_edges.iter().any(|edge| close(&edge)), "{}", percent);
            prop_assert!(exact_x.fine_edges.contains(&quantile));
        }
    }
}
