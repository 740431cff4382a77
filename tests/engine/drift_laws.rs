//! Laws of drift for any samples: brackets hold the distances of the raw values, equal samples are equal, and
//! distances do not mind which sample comes first.

use proptest::prelude::*;
use tidegauge::engine::event::FeatureValue;
use tidegauge::engine::metrics::drift::bins::{Bins, Tested};
use tidegauge::engine::metrics::drift::method::Method;
use tidegauge::engine::metrics::drift::verdict::false_discovery;
use tidegauge::engine::metrics::drift::{CurrentCounts, Measure, drift};
use tidegauge::engine::metrics::lattice::{SCORE_CELLS, score_cell, score_edge};
use tidegauge::engine::metrics::reference::FeatureProfile;
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};

use crate::drift_golden::{NOTHING, feature_of};

const ROUNDING: f64 = 1e-9;

type Distance = fn(&Bins) -> Tested;

fn share(of: &[f64], at_most: f64) -> f64 {
    let counted = |n: usize| f64::from(u32::try_from(n).unwrap());
    counted(of.iter().filter(|&&x| x <= at_most).count()) / counted(of.len())
}

/// All values of both, rising.
fn points(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut points = [a, b].concat();
    points.sort_by(f64::total_cmp);
    points
}

fn raw_ks(a: &[f64], b: &[f64]) -> f64 {
    points(a, b).iter().map(|&x| (share(a, x) - share(b, x)).abs()).fold(0.0, f64::max)
}

fn raw_wasserstein(a: &[f64], b: &[f64]) -> f64 {
    let points = points(a, b);
    let pieces = points.windows(2);
    pieces.map(|pair| (share(a, pair[0]) - share(b, pair[0])).abs() * (pair[1] - pair[0])).sum()
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -100.0..100.0_f64,
        (-5_i32..5).prop_map(f64::from),
        (-9.0..9.0_f64).prop_map(|power| 10.0_f64.powf(power)),
        Just(3.0),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0_f64, (0_u32..=20).prop_map(|x| f64::from(x) / 20.0), 0.9..0.9001_f64]
}

fn of(measures: &[Measure], method: Method) -> Measure {
    *measures.iter().find(|measure| measure.method == method).unwrap()
}

fn check_brackets(profile: &FeatureProfile, cells: &[f64], reference: &[f64], current: &[f64]) {
    let numeric = profile.numeric().unwrap();
    let counts = numeric.gather(cells.iter().map(|&x| (x, 1)));
    let measures = drift(profile, &CurrentCounts::Cells { cells: &counts, missing: 0 });
    let ks = of(&measures, Method::Ks);
    let raw = raw_ks(reference, current);
    assert!(ks.value_lower.unwrap() <= raw + ROUNDING, "{ks:?}, raw {raw}");
    assert!(raw <= ks.value_upper.unwrap() + ROUNDING, "{ks:?}, raw {raw}");
    if numeric.sd > 0.0 {
        let wasserstein = of(&measures, Method::Wasserstein);
        let raw = raw_wasserstein(reference, current) / numeric.sd;
        let tolerance = ROUNDING * raw.max(1.0);
        assert!(wasserstein.value_lower.unwrap() <= raw + tolerance, "{wasserstein:?}, raw {raw}");
        match wasserstein.value_upper {
            Ok(upper) => assert!(raw <= upper + tolerance, "{wasserstein:?}, raw {raw}"),
            Err(_) => assert!(of(&measures, Method::OutOfRangeRate).value.unwrap() > 0.0),
        }
    }
    for measure in measures {
        if let Ok(p_value) = measure.p_value {
            assert!((0.0..=1.0).contains(&p_value), "{measure:?}");
        }
        if let (Ok(value), Ok(lower)) = (measure.value, measure.value_lower) {
            assert!(value.is_finite() && lower <= value, "{measure:?}");
        }
    }
}

proptest! {
    #[test]
    fn brackets_hold_the_distances_of_raw_numbers(
        reference in prop::collection::vec(number(), 1..200),
        current in prop::collection::vec(number(), 1..100),
    ) {
        let profile = feature_of(reference.iter().map(|&x| FeatureValue::Number(x)));
        check_brackets(&profile, &current, &reference, &current);
    }

    #[test]
    fn brackets_hold_the_distances_of_raw_scores(
        reference in prop::collection::vec(score(), 1..200),
        current in prop::collection::vec(score(), 1..100),
    ) {
        let mut builder = ProfileBuilder::new(Options::new("test")).unwrap();
        for &score in &reference {
            builder.add(&Record { score: Some(score), ..NOTHING }).unwrap();
        }
        let profile = builder.finish().unwrap().profile.score.unwrap();
        let cells: Vec<f64> = current.iter().map(|&score| f64::from(score_cell(score))).collect();
        check_brackets(&profile, &cells, &reference, &current);
    }

    #[test]
    fn a_score_lies_between_the_edges_of_its_cell(score in score()) {
        let cell = score_cell(score);
        prop_assert!(score_edge(cell) <= score && score <= score_edge(cell + 1));
    }

    #[test]
    fn a_sample_does_not_differ_from_itself(reference in prop::collection::vec(number(), 1..200)) {
        let profile = feature_of(reference.iter().map(|&x| FeatureValue::Number(x)));
        let cells = profile.numeric().unwrap().gather(reference.iter().map(|&x| (x, 1)));
        for measure in drift(&profile, &CurrentCounts::Cells { cells: &cells, missing: 0 }) {
            if let Ok(value) = measure.value {
                // A square root makes 1e-8 of the rounding of its square.
                prop_assert!(value.abs() < 1e-7, "{:?}", measure);
            }
            if let Ok(p_value) = measure.p_value {
                prop_assert!(p_value > 0.999, "{:?}", measure);
            }
        }
    }

    #[test]
    fn distances_are_symmetric_and_within_their_bounds(
        counts in prop::collection::vec((0_u64..500, 0_u64..500), 1..12),
    ) {
        let turned = counts.iter().map(|&(a, b)| (b, a));
        let Some((one, other)) = Bins::new(counts.iter().copied()).zip(Bins::new(turned)) else {
            return Ok(());
        };
        let distances: [(Distance, f64); 5] = [
            (Bins::psi, f64::INFINITY),
            (Bins::js, 1.0),
            (Bins::hellinger, 1.0),
            (Bins::linf, 1.0),
            (Bins::tv, 1.0),
        ];
        for (distance, most) in distances {
            let (there, back) = (distance(&one).value, distance(&other).value);
            prop_assert!((there - back).abs() <= 1e-12 * there.max(1.0));
            prop_assert!((0.0..=most + 1e-12).contains(&there));
        }
        // Total variation bounds the greatest difference, and the Hellinger distance brackets it.
        let (linf, tv) = (one.linf().value, one.tv().value);
        let hellinger = one.hellinger().value;
        prop_assert!(linf <= tv + 1e-12);
        prop_assert!(hellinger * hellinger <= tv + 1e-12);
        prop_assert!(tv <= hellinger * 2.0_f64.sqrt() + 1e-12);
    }

    #[test]
    fn adjusted_p_values_keep_their_order(p_values in prop::collection::vec(0.0..=1.0_f64, 0..30)) {
        let adjusted = false_discovery(&p_values);
        for (i, (&p, &a)) in p_values.iter().zip(&adjusted).enumerate() {
            prop_assert!(p <= a && a <= 1.0);
            for j in 0..i {
                prop_assert!(p_values[j] > p || adjusted[j] <= a);
            }
        }
    }
}

#[test]
fn cells_of_scores_touch() {
    assert_eq!((score_edge(0), score_edge(SCORE_CELLS)), (0.0, 1.0));
    for cell in 0..SCORE_CELLS {
        let (lower, upper) = (score_edge(cell), score_edge(cell + 1));
        // The cell of 0.5 holds nothing else.
        assert!(lower < upper || (lower, upper) == (0.5, 0.5), "{cell}");
        let middle = f64::midpoint(lower, upper);
        assert_eq!(score_cell(middle), cell, "{middle}");
    }
}
