//! Drift against the worked examples of `metrics.md` 14.4, and against definitions spelled out over raw values.

use std::sync::Arc;

use tidegauge::engine::event::FeatureValue;
use tidegauge::engine::metrics::accumulator::Undefined;
use tidegauge::engine::metrics::drift::method::{Limits, Method, Options};
use tidegauge::engine::metrics::drift::tail::{chi_square_tail, kolmogorov_tail};
use tidegauge::engine::metrics::drift::verdict::{
    Judged, Kind, Measured, Verdict, false_discovery, judge,
};
use tidegauge::engine::metrics::drift::{CurrentCounts, Measure, drift};
use tidegauge::engine::metrics::reference::{
    CategoricalProfile, FeatureProfile, NumericProfile, Scale, Values,
};

use crate::drift_golden::feature_of;
use crate::golden::is_near;

/// Categories A, B and C.
fn named() -> FeatureProfile {
    listed(&[("A", 500), ("B", 300), ("C", 200)])
}

fn listed(categories: &[(&str, u64)]) -> FeatureProfile {
    let categories = categories.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
    let values = Values::Categorical(CategoricalProfile { categories, other: 0 });
    FeatureProfile { missing: 10, type_errors: 0, values }
}

/// Uniform on [0, 5] in cells of width 1.
fn uniform() -> FeatureProfile {
    let edges = vec![1.0, 2.0, 3.0, 4.0];
    let values = Values::Numeric(NumericProfile {
        scale: Scale::Linear,
        min: 0.0,
        max: 5.0,
        mean: 2.5,
        sd: 1.443_375_673,
        fine_edges: edges.clone().into(),
        bin_edges: edges,
        counts: vec![200; 5],
        has_given_edges: true,
        range: None,
    });
    FeatureProfile { missing: 0, type_errors: 0, values }
}

fn of_names(names: &[(&str, u64)]) -> Vec<Measure> {
    drift(&named(), &CurrentCounts::Names { names, other: 0, missing: 0 })
}

fn of_cells(cells: &[(u64, u64)]) -> Vec<Measure> {
    drift(&uniform(), &CurrentCounts::Cells { cells, missing: 0 })
}

const CELLS: &[(u64, u64)] = &[(1, 20), (2, 30), (3, 40), (4, 50), (5, 60)];
const NAMES: &[(&str, u64)] = &[("A", 60), ("B", 90), ("C", 30), ("D", 20)];

fn of(measures: &[Measure], method: Method) -> Measure {
    *measures.iter().find(|measure| measure.method == method).unwrap()
}

/// Half a unit of the last of that many decimals or digits.
fn check(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found}, expected {expected}");
}

#[test]
fn example_of_categories() {
    let measures = of_names(NAMES);
    let expected = [
        (Method::Psi, 0.867_453_747_0, 3.897e-31),
        (Method::Js, 0.285_840_868_5, 2.815e-16),
        (Method::Hellinger, 0.268_464_379_8, 1.073e-20),
        (Method::Linf, 0.2, 9.079e-7),
        (Method::Tv, 0.25, 9.079e-7),
        (Method::Chi2, 27.824_175_824_2, 9.079e-7),
        (Method::G, 28.426_706_558_9, 6.718e-7),
    ];
    for (method, value, p_value) in expected {
        let measure = of(&measures, method);
        check(measure.value.unwrap(), value, 0.51e-10);
        check(measure.p_value.unwrap(), p_value, 0.51e-3 * p_value);
        assert_eq!((measure.n, measure.reference_n), (200, 1000));
    }
    // The test merges the new category with C, so that the distances are judged by it.
    for method in [Method::Psi, Method::Js, Method::Hellinger] {
        check(of(&measures, method).judged_p.unwrap(), 9.079e-7, 0.51e-10);
    }
    assert_eq!(of(&measures, Method::Chi2).bins, 3);
    assert_eq!(of(&measures, Method::Psi).bins, 4);
    check(of(&measures, Method::Chi2).effect.unwrap(), 0.166_945_054_9, 0.51e-10);
    check(of(&measures, Method::NewCategoryRate).value.unwrap(), 0.1, 1e-15);
    check(of(&measures, Method::MissingRate).effect.unwrap(), -10.0 / 1010.0, 1e-15);
    assert_eq!(measures.len(), 9);
}

#[test]
fn example_of_numbers() {
    let measures = of_cells(CELLS);
    let expected = [
        (Method::Psi, 0.135_402_510_1, 0.000_154_505_3),
        (Method::Js, 0.155_276_975_1, 0.000_176_008_1),
        (Method::Hellinger, 0.129_683_426_0, 0.000_165_018_5),
        (Method::Linf, 0.1, 0.000_322_927_2),
        (Method::Tv, 0.15, 0.000_322_927_2),
        (Method::Chi2, 20.957_129_826_7, 0.000_322_927_2),
        (Method::G, 21.812_579_792_6, 0.000_218_391_1),
    ];
    for (method, value, p_value) in expected {
        let measure = of(&measures, method);
        check(measure.value.unwrap(), value, 0.51e-10);
        check(measure.p_value.unwrap(), p_value, 0.51e-10);
    }
    check(of(&measures, Method::Chi2).effect.unwrap(), 0.125_742_779_0, 0.51e-10);
    let ks = of(&measures, Method::Ks);
    check(ks.value.unwrap(), 0.15, 1e-15);
    check(ks.value_lower.unwrap(), 0.15, 1e-15);
    check(ks.value_upper.unwrap(), 0.35, 1e-15);
    check(ks.p_value.unwrap(), 0.000_974_92, 0.51e-8);
    // scipy's `kstwo.sf` of the same distance and N.
    check(ks.p_value.unwrap(), 0.000_958_25, 2e-4);
    let wasserstein = of(&measures, Method::Wasserstein);
    check(wasserstein.value.unwrap(), 0.346_410_161_5, 0.51e-10);
    check(wasserstein.value_upper.unwrap(), 0.346_410_161_5 + 0.692_820_323_0, 1e-10);
    assert_eq!(wasserstein.value_lower, Ok(0.0));
    assert_eq!(wasserstein.p_value, ks.p_value);
    assert_eq!(of(&measures, Method::OutOfRangeRate).value, Ok(0.0));
    assert_eq!(measures.len(), 11);
}

/// The population stability index that chance exceeds in one window of twenty.
#[test]
fn example_gates() {
    let spread = 1.0 / 200.0 + 1.0 / 1000.0;
    check(chi_square_tail(0.046_888_367_4 / spread, 3), 0.05, 1e-9);
    check(chi_square_tail(0.056_926_374_2 / spread, 4), 0.05, 1e-9);
    assert_eq!(chi_square_tail(0.0, 0), 1.0);
    assert_eq!(kolmogorov_tail(0.0, 1, 1), 1.0);
}

#[test]
fn example_false_discovery() {
    let adjusted = false_discovery(&[0.001, 0.012, 0.03, 0.04, 0.2]);
    assert_eq!(adjusted.len(), 5);
    for (found, expected) in adjusted.iter().zip([0.005, 0.03, 0.05, 0.05, 0.2]) {
        assert!(is_near(*found, expected), "{found}, expected {expected}");
    }
    assert_eq!(false_discovery(&[]), Vec::<f64>::new());
    assert_eq!(false_discovery(&[0.7, 0.8]), [0.8, 0.8]);
}

fn judged(kind: Kind, measures: Vec<Measure>) -> Vec<Judged> {
    let feature = Arc::from(if kind == Kind::Feature { "x" } else { "" });
    judge(vec![Measured { kind, feature, measures }], &Options::default())
}

fn verdict_of(rows: &[Judged], method: Method) -> (Verdict, Option<Undefined>) {
    let row = rows.iter().find(|row| row.measure.method == method).unwrap();
    (row.verdict, row.reason)
}

#[test]
fn what_is_likely_or_small_is_no_drift() {
    let rows = judged(Kind::Feature, of_cells(CELLS));
    assert_eq!(verdict_of(&rows, Method::Psi), (Verdict::Warn, None));
    let rows = judged(Kind::Feature, of_names(NAMES));
    assert_eq!(verdict_of(&rows, Method::Psi), (Verdict::Drift, None));
    assert_eq!(verdict_of(&rows, Method::NewCategoryRate), (Verdict::Drift, None));
    assert_eq!(verdict_of(&rows, Method::MissingRate), (Verdict::Ok, None));
    assert!(rows.iter().all(|row| row.is_primary == (row.measure.method == Method::Psi)));
    // Certain, but small: a tenth of the distance in a sample a hundred times as large.
    let rows =
        judged(Kind::Feature, of_cells(&[(1, 1900), (2, 1950), (3, 2000), (4, 2050), (5, 2100)]));
    assert_eq!(verdict_of(&rows, Method::Psi), (Verdict::Ok, None));
    // Beyond its limit, but likely.
    let likely = of_cells(&[(1, 14), (2, 17), (3, 20), (4, 23), (5, 26)]);
    assert!(of(&likely, Method::Psi).value.unwrap() > 0.01);
    let mut options = Options::default();
    options.set_limits(Method::Psi, Limits { warn_at: None, drift_at: 0.01, alpha: 0.05 });
    let measured = vec![Measured { kind: Kind::Score, feature: Arc::from(""), measures: likely }];
    let rows = judge(measured, &options);
    assert_eq!(verdict_of(&rows, Method::Psi), (Verdict::Ok, None));
}

#[test]
fn few_values_give_no_verdict() {
    // Nobody has values.
    let rows = judged(Kind::Feature, of_cells(&[]));
    for method in [Method::Psi, Method::Chi2, Method::Ks, Method::Wasserstein] {
        let expected = (Verdict::InsufficientData, Some(Undefined::NoValues));
        assert_eq!(verdict_of(&rows, method), expected, "{}", method.name());
    }
    // 99 are one too few for five bins.
    for (n, is_enough) in [(99, false), (100, true)] {
        let rows = judged(Kind::Feature, of_cells(&[(1, n)]));
        let expected = if is_enough {
            (Verdict::Drift, None)
        } else {
            (Verdict::InsufficientData, Some(Undefined::TooFewSamples))
        };
        for method in [Method::Psi, Method::Ks] {
            assert_eq!(verdict_of(&rows, method), expected, "{n} {}", method.name());
        }
        let row = rows.iter().find(|row| row.measure.method == Method::Psi).unwrap();
        assert!(row.measure.value.is_ok(), "the value stands beside the reason");
    }
    // A table test needs two cells that are expected to hold five.
    let rows = judged(Kind::Feature, of_names(&[("A", 5)]));
    let expected = (Verdict::InsufficientData, Some(Undefined::TooFewSamples));
    assert_eq!(verdict_of(&rows, Method::Chi2), expected);
    assert_eq!(verdict_of(&rows, Method::Linf), expected);
}

/// Each number so many times.
fn times(counts: &[(f64, usize)]) -> Vec<f64> {
    counts.iter().flat_map(|&(x, n)| std::iter::repeat_n(x, n)).collect()
}

/// So many numbers, evenly from 0 on, that stay below 100.
fn below_100(count: u32) -> Vec<f64> {
    (0..count).map(|n| 100.0 / f64::from(count) * f64::from(n)).collect()
}

/// The primary method sees it, and so do all others over bins.
#[test]
fn a_common_number_that_goes_is_drift_whatever_comes_instead() {
    let capped = || [below_100(80), times(&[(100.0, 920)])].concat();
    let evenly = || times(&[(1.0, 200), (2.0, 200), (3.0, 200), (4.0, 200), (5.0, 200)]);
    let cases = [
        // A flag that hardly ever, or never, was another.
        (times(&[(0.0, 50), (1.0, 950)]), times(&[(0.0, 1000)])),
        (times(&[(0.0, 950), (1.0, 50)]), times(&[(1.0, 1000)])),
        (times(&[(0.0, 5), (1.0, 995)]), times(&[(0.0, 1000)])),
        (times(&[(5.0, 1000)]), times(&[(3.0, 1000)])),
        (times(&[(5.0, 1000)]), times(&[(7.0, 1000)])),
        // What nobody has seen, between others and below all.
        (times(&[(0.0, 50), (1.0, 950)]), times(&[(0.5, 1000)])),
        (times(&[(0.0, 600), (1.0, 400)]), times(&[(-1.0, 600), (1.0, 400)])),
        (evenly(), times(&[(1.0, 200), (2.0, 200), (2.5, 200), (4.0, 200), (5.0, 200)])),
        // A limit that most reach, and then none; and a lower one.
        (capped(), below_100(1000)),
        (capped(), [below_100(80), times(&[(99.9, 920)])].concat()),
    ];
    let over_bins = [
        Method::Psi,
        Method::Js,
        Method::Hellinger,
        Method::Linf,
        Method::Tv,
        Method::Chi2,
        Method::G,
    ];
    for (at, (reference, window)) in cases.into_iter().enumerate() {
        let profile = feature_of(reference.into_iter().map(FeatureValue::Number));
        let cells = profile.numeric().unwrap().gather(window.into_iter().map(|x| (x, 1)));
        let measures = drift(&profile, &CurrentCounts::Cells { cells: &cells, missing: 0 });
        let rows = judged(Kind::Feature, measures);
        for method in over_bins {
            let found = verdict_of(&rows, method);
            assert_eq!(found, (Verdict::Drift, None), "case {at}: {}", method.name());
        }
    }
}

/// Earlier versions gave a common number no edge below it: such a profile still says what it said.
#[test]
fn edges_of_a_stored_profile_stay_what_they_are() {
    let mut profile = uniform();
    let Values::Numeric(numeric) = &mut profile.values else { panic!("numbers") };
    (numeric.min, numeric.max, numeric.sd) = (0.0, 1.0, 0.217_944_947_2);
    numeric.fine_edges = vec![0.0, 1.0].into();
    numeric.bin_edges = vec![1.0];
    (numeric.counts, numeric.has_given_edges) = (vec![50, 950, 0], false);
    let measures = drift(&profile, &CurrentCounts::Cells { cells: &[(1, 1000)], missing: 0 });
    let psi = of(&measures, Method::Psi);
    assert_eq!((psi.value, psi.p_value, psi.bins), (Ok(0.0), Ok(1.0), 1));
    check(of(&measures, Method::Ks).value.unwrap(), 0.95, 1e-15);
    assert_eq!(verdict_of(&judged(Kind::Feature, measures), Method::Psi), (Verdict::Ok, None));
}

/// A document may state any.
#[test]
fn a_deviation_that_is_next_to_nothing_makes_no_infinite_distance() {
    let mut profile = uniform();
    let Values::Numeric(numeric) = &mut profile.values else { panic!("numbers") };
    numeric.sd = 5e-324;
    let measures = drift(&profile, &CurrentCounts::Cells { cells: CELLS, missing: 0 });
    let rows = judged(Kind::Feature, measures);
    let expected = (Verdict::InsufficientData, Some(Undefined::Overflow));
    assert_eq!(verdict_of(&rows, Method::Wasserstein), expected);
}

/// The distances have a law that does not hold where names are rare: there a test that merges them must agree.
#[test]
fn distances_of_rare_names_are_judged_by_the_table_test_too() {
    let compared = |reference: &[(&str, u64)], names: &[(&str, u64)]| {
        drift(&listed(reference), &CurrentCounts::Names { names, other: 0, missing: 0 })
    };
    let distances = [Method::Psi, Method::Js, Method::Hellinger];
    // Of 2 in 1,000 and 100 in 20,000 the reference is expected to have 4.86, and the window 97: nothing is merged.
    // With one degree of freedom the p-value is erfc(√(chi2/2)).
    let measures = compared(&[("A", 998), ("B", 2)], &[("A", 19_900), ("B", 100)]);
    assert_eq!(of(&measures, Method::Chi2).bins, 2);
    for method in distances {
        let measure = of(&measures, method);
        assert!(measure.p_value.unwrap() < 0.15, "by its own law");
        check(measure.judged_p.unwrap(), 0.182_971_841_4, 0.51e-10);
    }
    // 8 are enough for the distance's own law.
    let measures = compared(&[("A", 992), ("B", 8)], &[("A", 19_900), ("B", 100)]);
    let psi = of(&measures, Method::Psi);
    check(psi.p_value.unwrap(), 0.245_016_924_3, 0.51e-10);
    assert_eq!(psi.judged_p, psi.p_value);
    check(of(&measures, Method::Chi2).p_value.unwrap(), 0.195_552_491_2, 0.51e-10);
    // Of 10 in 1,000 and 5 in 200 the window is expected to have 2.5: all is one cell, there is no test to agree.
    let measures = compared(&[("A", 990), ("B", 10)], &[("A", 195), ("B", 5)]);
    assert_eq!(of(&measures, Method::Chi2).judged_p, Err(Undefined::TooFewSamples));
    for method in distances {
        let measure = of(&measures, method);
        assert_eq!(measure.judged_p, measure.p_value, "{}", method.name());
    }
    // A flag that hardly ever was set and now often is.
    let measures = compared(&[("A", 990), ("B", 10)], &[("A", 160), ("B", 40)]);
    assert_eq!(verdict_of(&judged(Kind::Feature, measures), Method::Psi).0, Verdict::Drift);
}

/// Category A so often, and so many without one.
fn of_a(count: u64, missing: u64) -> Vec<Measure> {
    let names = [("A", count)];
    drift(&named(), &CurrentCounts::Names { names: &names, other: 0, missing })
}

/// How far the lower limit of a rate lies above the upper one of the reference's.
fn above_reference(rate: Measure) -> f64 {
    rate.value_lower.unwrap() - rate.reference_upper.unwrap()
}

/// By the limits of Wilson's intervals (statsmodels): of each two counts the first is not enough yet.
#[test]
fn a_rate_drifts_once_its_lower_limit_is_far_enough_above_the_reference() {
    let verdict_of = |measures: &[Measure], method| {
        verdict_of(&judged(Kind::Feature, measures.to_vec()), method)
    };
    // In the reference 10 of 1010 are missing: at most 0.0181291643.
    for (missing, above, verdict) in
        [(38, 0.009_679_840_2, Verdict::Ok), (39, 0.010_529_796_6, Verdict::Drift)]
    {
        let measures = of_a(1000 - missing, missing);
        let rate = of(&measures, Method::MissingRate);
        assert_eq!((rate.n, rate.reference_n), (1000, 1010));
        check(above_reference(rate), above, 0.51e-10);
        assert_eq!(verdict_of(&measures, Method::MissingRate), (verdict, None), "{missing}");
    }
    // New names, and numbers out of range, are never in it: at most 0.0038267585.
    for (some, above, verdict) in
        [(6, 0.009_993_555_9, Verdict::Ok), (7, 0.013_228_783_5, Verdict::Drift)]
    {
        for (measures, method) in [
            (of_names(&[("A", 200 - some), ("D", some)]), Method::NewCategoryRate),
            (of_cells(&[(0, 3), (1, 200 - some), (6, some - 3)]), Method::OutOfRangeRate),
        ] {
            let rate = of(&measures, method);
            assert_eq!((rate.n, rate.reference_n), (200, 1000));
            check(above_reference(rate), above, 0.51e-10);
            assert_eq!(verdict_of(&measures, method), (verdict, None), "{some} {}", method.name());
        }
    }
    let too_few = (Verdict::InsufficientData, Some(Undefined::TooFewSamples));
    for (n, verdict) in [(99, too_few), (100, (Verdict::Drift, None))] {
        assert_eq!(verdict_of(&of_names(&[("D", n)]), Method::NewCategoryRate), verdict, "{n}");
    }
}

/// Beyond the extremes of 100 values lie on average 2 of 100, however many a window has, and seldom 5; beyond those of
/// 1,000 lie 2 of 1,000.
#[test]
fn what_a_small_reference_lacks_may_come_without_drift() {
    let of_window = |reference: u64, outside: u64| {
        let mut profile = uniform();
        let Values::Numeric(numeric) = &mut profile.values else { panic!("numbers") };
        numeric.counts = vec![reference / 5; 5];
        let cells = [(0, outside / 2), (3, 10_000 - outside), (6, outside / 2)];
        drift(&profile, &CurrentCounts::Cells { cells: &cells, missing: 0 })
    };
    // Of 0 of M the upper limit is z^2 / (M + z^2).
    for (reference, most) in [(100, 0.036_993_498_2), (1000, 0.003_826_758_5)] {
        let rate = of(&of_window(reference, 0), Method::OutOfRangeRate);
        check(rate.reference_upper.unwrap(), most, 0.51e-10);
    }
    for (reference, outside, verdict) in [
        (100, 200, Verdict::Ok),
        (100, 400, Verdict::Ok),
        (100, 600, Verdict::Drift),
        (1000, 100, Verdict::Ok),
        (1000, 200, Verdict::Drift),
    ] {
        let rows = judged(Kind::Feature, of_window(reference, outside));
        let found = verdict_of(&rows, Method::OutOfRangeRate);
        assert_eq!(found, (verdict, None), "{outside} beyond {reference}");
    }
}

#[test]
fn as_much_as_is_asked_for_is_drift_of_a_rate() {
    let measures = of_a(970, 30);
    let drift_at = above_reference(of(&measures, Method::MissingRate));
    for (drift_at, verdict) in [(drift_at, Verdict::Drift), (drift_at.next_up(), Verdict::Ok)] {
        let mut options = Options::default();
        let limits = Limits { warn_at: None, drift_at, alpha: 0.05 };
        options.set_limits(Method::MissingRate, limits);
        let feature = Arc::from("x");
        let one = Measured { kind: Kind::Feature, feature, measures: measures.clone() };
        let rows = judge(vec![one], &options);
        assert_eq!(verdict_of(&rows, Method::MissingRate), (verdict, None));
    }
}

#[test]
fn labels_are_a_family_of_their_own() {
    let measured =
        |kind, feature: &str, measures| Measured { kind, feature: Arc::from(feature), measures };
    let equal = || of_cells(&[(1, 40), (2, 40), (3, 40), (4, 40), (5, 40)]);
    let rows = judge(
        vec![
            measured(Kind::Feature, "a", of_cells(CELLS)),
            measured(Kind::Feature, "b", equal()),
            measured(Kind::Score, "", equal()),
            measured(Kind::Prediction, "", equal()),
            measured(Kind::Label, "", of_cells(CELLS)),
        ],
        &Options::default(),
    );
    let of_psi: Vec<&Judged> =
        rows.iter().filter(|row| row.measure.method == Method::Psi).collect();
    let p_value = of_psi[0].measure.p_value.unwrap();
    assert!(is_near(of_psi[0].p_adjusted.unwrap(), 4.0 * p_value));
    assert_eq!(of_psi[1].p_adjusted, Ok(1.0));
    assert_eq!(of_psi[4].p_adjusted, Ok(p_value));
    let rate = rows.iter().find(|row| row.measure.method == Method::MissingRate).unwrap();
    assert_eq!(rate.p_adjusted, Err(Undefined::NotApplicable));
}

#[test]
fn values_of_another_kind_are_not_compared() {
    let cells = CurrentCounts::Cells { cells: CELLS, missing: 0 };
    for measure in drift(&named(), &cells) {
        assert_eq!(measure.value, Err(Undefined::NotApplicable), "{}", measure.method.name());
    }
}

/// As of counts that were made without the reference, or with another one.
#[test]
fn cells_that_the_reference_does_not_have_are_not_compared() {
    // Five between its edges, and two outermost ones.
    assert!(of(&of_cells(&[(3, 50), (6, 1)]), Method::Psi).value.is_ok());
    for cell in [7, 6217, u64::MAX] {
        let measures = of_cells(&[(3, 50), (cell, 1)]);
        assert_eq!(measures.len(), 11, "one of each method");
        for measure in measures {
            let found = (measure.value, measure.effect, measure.p_value);
            let none = Err(Undefined::NotApplicable);
            assert_eq!(found, (none, none, none), "{}", measure.method.name());
        }
    }
}

/// Where the reference does not list all its names, an unknown one is not new.
#[test]
fn unknown_names_are_other_where_the_reference_has_some() {
    let mut profile = named();
    let Values::Categorical(names) = &mut profile.values else { unreachable!() };
    names.other = 100;
    let current = CurrentCounts::Names {
        names: &[("A", 50), ("B", 30), ("C", 20), ("D", 4)],
        other: 6,
        missing: 0,
    };
    let measures = drift(&profile, &current);
    assert_eq!(of(&measures, Method::NewCategoryRate).value, Err(Undefined::Capped));
    check(of(&measures, Method::Psi).value.unwrap(), 0.0, 1e-12);
}

#[test]
fn options_say_what_is_enough_and_which_method_counts() {
    let measured =
        || vec![Measured { kind: Kind::Score, feature: Arc::from(""), measures: of_cells(CELLS) }];
    let verdicts = |options: &Options| {
        let rows = judge(measured(), options);
        let primary: Vec<_> = rows.iter().filter(|row| row.is_primary).collect();
        assert_eq!(primary.len(), 1);
        (primary[0].measure.method, primary[0].verdict, primary[0].reason)
    };
    // 200 values in five bins.
    let mut options = Options::new(Method::Js, 200);
    assert_eq!(verdicts(&options), (Method::Js, Verdict::Warn, None));
    options.min_n = 201;
    let too_few = Some(Undefined::TooFewSamples);
    assert_eq!(verdicts(&options), (Method::Js, Verdict::InsufficientData, too_few));
    // Ten for each bin, whatever is configured.
    options.min_n = 1;
    let few = vec![Measured {
        kind: Kind::Score,
        feature: Arc::from(""),
        measures: of_cells(&[(1, 9), (2, 10), (3, 10), (4, 10), (5, 10)]),
    }];
    assert_eq!(verdict_of(&judge(few, &options), Method::Js).1, too_few);
    let limits = Limits { warn_at: Some(0.05), drift_at: 0.15, alpha: 0.05 };
    options.set_limits(Method::Js, limits);
    assert_eq!(verdicts(&options), (Method::Js, Verdict::Drift, None));
    options.set_limits(Method::Js, Limits { alpha: 0.0001, ..limits });
    assert_eq!(verdicts(&options), (Method::Js, Verdict::Ok, None));
}
