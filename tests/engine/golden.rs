//! Figures against those of other implementations: the worked example of `metrics.md` 14.1, and `golden.json`
//! (written by `golden.py` with scikit-learn, scipy and statsmodels).

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;
use tidegauge::engine::event::PartitionId;
use tidegauge::engine::metrics::accumulator::{Accumulator, Asked, Undefined, Value, ValueMatrix};
use tidegauge::engine::metrics::binary::BinaryInput;
use tidegauge::engine::metrics::calibration::CalibrationInput;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::estimate::{EstimateInput, Estimated};
use tidegauge::engine::metrics::labels::LabelsInput;
use tidegauge::engine::metrics::method::Options;
use tidegauge::engine::metrics::multiclass::MulticlassInput;
use tidegauge::engine::metrics::regression::RegressionInput;
use tidegauge::engine::metrics::serving::ServingInput;
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::OTHER;
use tidegauge::engine::state::{Key, StateRow, Version};
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::evaluate::{Merged, MetricRow, RowContext, grain_name};

/// 2026-01-05 00:00 UTC.
const START: EventTime = EventTime(1_767_571_200_000);
const GRAIN: Millis = Millis(300_000);
/// Beside the own one: the same, and another.
const THRESHOLDS: &[f64] = &[0.5, 0.7];

/// One inference, and its labels in offset order.
#[derive(Clone, Debug)]
struct Record {
    score: Option<f64>,
    own: Option<bool>,
    labels: Vec<bool>,
    latency_us: Option<u32>,
    delay_ms: u64,
    failed: bool,
}

impl Record {
    fn decision(&self) -> Option<bool> {
        self.own.or(self.score.map(|score| score >= 0.5))
    }

    fn labelled(&self, positive: bool) -> BinaryInput<'static> {
        let by_score = self.score.map(|score| score >= 0.5);
        let off_threshold = self.own.is_some() && by_score.is_some() && self.own != by_score;
        let (decision, score) = (self.decision(), self.score);
        BinaryInput::Labelled {
            decision,
            off_threshold,
            score,
            positive,
            thresholds: THRESHOLDS,
            weight: None,
        }
    }

    fn calibration(&self, positive: bool) -> Option<CalibrationInput> {
        self.score.map(|score| CalibrationInput { score, positive, weight: None })
    }

    /// The score as its own probability.
    fn estimated(&self) -> Option<Estimated> {
        let (score, decision) = self.score.zip(self.decision())?;
        Some(Estimated { score, probability: score, decision })
    }

    /// Folds inference and labels in as a join would: each later label corrects, or repeats.
    fn fold(&self, into: &mut Families) {
        let decision = self.decision();
        let latency_us = self.latency_us;
        into.serving.add(&ServingInput {
            time: START,
            latency_us,
            failed: self.failed,
            freshness_ms: 0,
        });
        into.labels.add(&LabelsInput::Inference { decision });
        into.binary.get_mut().add(&BinaryInput::Inference { score: self.score });
        if let Some(of) = self.estimated() {
            into.estimate.get_mut().add(&EstimateInput::Inference(of));
        }
        let Some((&first, later)) = self.labels.split_first() else { return };
        let labelled =
            |positive| self.estimated().map(|of| EstimateInput::Labelled { of, positive });
        if let Some(input) = labelled(first) {
            into.estimate.get_mut().add(&input);
        }
        into.labels.add(&LabelsInput::First { delay_ms: self.delay_ms, decision });
        into.binary.get_mut().add(&self.labelled(first));
        if let Some(input) = self.calibration(first) {
            into.calibration.get_mut().add(&input);
        }
        let mut winner = first;
        for &label in later {
            if label == winner {
                into.labels.add(&LabelsInput::Duplicate { conflict: false });
            } else {
                into.labels.add(&LabelsInput::Correction);
                into.binary.get_mut().remove(&self.labelled(winner));
                into.binary.get_mut().add(&self.labelled(label));
                if let Some((old, new)) = self.calibration(winner).zip(self.calibration(label)) {
                    into.calibration.get_mut().remove(&old);
                    into.calibration.get_mut().add(&new);
                }
                if let Some((old, new)) = labelled(winner).zip(labelled(label)) {
                    into.estimate.get_mut().remove(&old);
                    into.estimate.get_mut().add(&new);
                }
                winner = label;
            }
        }
    }
}

/// The rows of records that are spread over partitions: `part_of` has the partition of each.
fn rows_of(
    records: &[Record],
    part_of: &[usize],
    sealed: bool,
    value: ValueMatrix,
) -> Vec<MetricRow> {
    let parts = part_of.iter().max().map_or(1, |max| max + 1);
    let mut families = vec![Families::default(); parts];
    for (record, &part) in records.iter().zip(part_of) {
        record.fold(&mut families[part]);
    }
    rows_of_families(&families, sealed, value)
}

/// The rows of what each partition knows.
fn rows_of_families(parts: &[Families], sealed: bool, value: ValueMatrix) -> Vec<MetricRow> {
    rows_within(ClassCaps::DEFAULT, parts, sealed, value)
}

/// The same where states go by these caps.
fn rows_within(
    caps: ClassCaps,
    parts: &[Families],
    sealed: bool,
    value: ValueMatrix,
) -> Vec<MetricRow> {
    let key = Key {
        model: Arc::from("m"),
        version: Arc::from(""),
        segment: Arc::from("all"),
        window: Window::of(START, GRAIN),
    };
    let mut merged = Merged::default();
    for (part, families) in parts.iter().enumerate() {
        let mut families = families.clone();
        if sealed {
            families.labels.seal();
        }
        let row = StateRow {
            key: key.clone(),
            partition: PartitionId(i32::try_from(part).unwrap()),
            version: Version::of(3, families.labels.inferences(), sealed),
            state: families.state().into(),
        };
        merged.add(&row, caps).unwrap();
    }
    let (grain, thresholds) = (Arc::from(grain_name(GRAIN)), THRESHOLDS.to_vec());
    merged.rows(
        &key,
        &RowContext {
            grain,
            generation: 3,
            sealed,
            value: Some(value),
            thresholds,
            weighted: false,
            reference: None,
            drift: Options::default(),
            custom: Vec::new(),
        },
        Asked::All,
    )
}

/// A number, or the reason why there is none.
fn look(rows: &[MetricRow], table: &str, name: &str) -> Result<f64, &'static str> {
    let row = rows.iter().find(|row| row.table.name() == table).unwrap();
    let at = row.table.columns().iter().position(|column| column.name == name);
    match &row.values[at.unwrap_or_else(|| panic!("no column {table}.{name}"))] {
        Value::Count(count) => Ok(count.to_string().parse().unwrap()),
        Value::Figure(figure) => figure.map_err(Undefined::code),
        other => panic!("{table}.{name} is {other:?}"),
    }
}

/// Score, own prediction, labels, latency in ms, delay in s.
type Line = (Option<f64>, Option<u8>, &'static [u8], u32, u64);

fn example(is_corrected: bool) -> Vec<Record> {
    let table: [Line; 18] = [
        (Some(0.97), Some(1), &[1], 12, 30),
        (Some(0.93), Some(1), &[1], 15, 45),
        (Some(0.88), Some(1), &[0], 9, 61),
        (Some(0.81), Some(1), &[1], 20, 90),
        (Some(0.70), Some(1), &[1, 1], 11, 90),
        (Some(0.62), Some(1), &[0], 14, 120),
        (Some(0.6201), Some(1), &[1], 13, 150),
        (Some(0.60), Some(1), if is_corrected { &[0, 1] } else { &[0] }, 18, 60),
        (Some(0.50), Some(1), &[0], 10, 200),
        (Some(0.45), Some(0), &[1], 22, 240),
        (Some(0.45), Some(0), &[0], 17, 240),
        (Some(0.30), Some(0), &[0], 16, 300),
        (Some(0.30), Some(1), &[0], 19, 600),
        (Some(0.10), Some(0), &[0], 21, 900),
        (Some(0.0), Some(0), &[1], 250, 1800),
        (None, Some(0), &[0], 30, 3000),
        (Some(0.55), Some(1), &[], 27, 0),
        (None, None, &[], 24, 0),
    ];
    let records =
        table.iter().enumerate().map(|(i, &(score, own, labels, latency_ms, delay_s))| Record {
            score,
            own: own.map(|own| own == 1),
            labels: labels.iter().map(|&label| label == 1).collect(),
            latency_us: Some(latency_ms * 1000),
            delay_ms: delay_s * 1000,
            failed: i == 17,
        });
    records.collect()
}

const VALUE: ValueMatrix = ValueMatrix { tp: 10.0, fp: -4.0, fn_: -20.0, tn: 0.0 };

/// Half a unit of the last decimal that the example prints.
const PRINTED: f64 = 0.51e-10;

fn check_printed(rows: &[MetricRow], table: &str, figures: &[(&str, f64)]) {
    for &(name, expected) in figures {
        let found = look(rows, table, name).unwrap();
        assert!((found - expected).abs() < PRINTED, "{table}.{name}: {found}, expected {expected}");
    }
}

#[test]
fn example_serving() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let figures = [
        ("inferences", 18.0),
        ("inferences_per_s", 0.06),
        ("errors", 1.0),
        ("error_rate", 0.055_555_555_6),
        ("error_rate_lower", 0.009_875_191_0),
        ("error_rate_upper", 0.257_573_007_8),
        ("latency_n", 18.0),
        ("latency_p50_ms", 17.023),
        ("latency_p90_ms", 30.079),
        ("latency_p99_ms", 250.0),
        ("latency_max_ms", 250.0),
        ("latency_sum_ms", 548.0),
        ("latency_mean_ms", 30.444_444_444_4),
        ("freshness_max_ms", 0.0),
    ];
    check_printed(&rows, "serving", &figures);
    assert_eq!(rows[0].values.last(), Some(&Value::Time(START.0)));
    assert_eq!(rows[0].undefined, "");
}

#[test]
fn example_labels() {
    for sealed in [false, true] {
        let rows = rows_of(&example(true), &[0; 18], sealed, VALUE);
        let figures = [
            ("inferences", 18.0),
            ("labelled", 16.0),
            ("pending", if sealed { 0.0 } else { 2.0 }),
            ("expired", if sealed { 2.0 } else { 0.0 }),
            ("coverage", 0.888_888_888_9),
            ("settled_ratio", if sealed { 1.0 } else { 0.888_888_888_9 }),
            ("coverage_positive", 0.909_090_909_1),
            ("coverage_negative", 1.0),
            ("inferences_positive", 11.0),
            ("labelled_positive", 10.0),
            ("inferences_negative", 6.0),
            ("labelled_negative", 6.0),
            ("labels_matched", 18.0),
            ("label_corrections", 1.0),
            ("label_duplicates", 1.0),
            ("label_conflicts", 0.0),
            ("label_delay_p50_ms", 150_527.0),
            ("label_delay_p90_ms", 1_802_239.0),
            ("label_delay_p99_ms", 3_000_000.0),
            ("label_delay_max_ms", 3_000_000.0),
            ("label_delay_mean_ms", 7_926_000.0 / 16.0),
            ("labelled_within_1m", 3.0),
            ("labelled_within_10m", 13.0),
            ("labelled_within_1h", 16.0),
            ("labelled_within_1d", 16.0),
        ];
        check_printed(&rows, "labels", &figures);
        assert!(rows.iter().all(|row| row.sealed == sealed));
        // 18 inferences twice, one for the sealed part, one for the sealed row; the generation once, and what versions of
        // metric rows have beside. What reads no labels counts inferences alone, and no parts.
        for row in &rows {
            let parts = u64::from(sealed && row.table != MetricTable::Serving);
            let version = (3 << 48) + (1 << 46) + 36 + parts + u64::from(sealed);
            assert_eq!(row.version, Version(version), "{row:?}");
        }
    }
}

#[test]
fn example_decisions() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let figures = [
        ("n", 16.0),
        ("tp", 6.0),
        ("fp", 4.0),
        ("fn", 2.0),
        ("tn", 4.0),
        ("accuracy", 0.625),
        ("accuracy_lower", 0.386_410_405_5),
        ("accuracy_upper", 0.815_187_674_4),
        ("precision", 0.6),
        ("precision_lower", 0.312_673_769_7),
        ("precision_upper", 0.831_819_670_3),
        ("recall", 0.75),
        ("recall_lower", 0.409_275_430_3),
        ("recall_upper", 0.928_520_787_2),
        ("specificity", 0.5),
        ("specificity_lower", 0.215_216_062_2),
        ("specificity_upper", 0.784_783_937_8),
        ("npv", 0.666_666_666_7),
        ("npv_lower", 0.299_993_315_1),
        ("npv_upper", 0.903_228_588_9),
        ("f1", 0.666_666_666_7),
        ("f1_lower", 0.404_825_845_4),
        ("f1_upper", 0.854_667_894_2),
        ("balanced_accuracy", 0.625),
        ("balanced_accuracy_lower", 0.402_966_712_2),
        ("balanced_accuracy_upper", 0.793_056_212_8),
        ("mcc", 0.258_198_889_7),
        ("decisions_off_threshold", 1.0),
        ("value_sum", 4.0),
        ("value_per_label", 0.25),
    ];
    check_printed(&rows, "quality_binary", &figures);
}

#[test]
fn example_scores() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let figures = [
        ("n_scored", 15.0),
        ("scored_positives", 8.0),
        ("scored_negatives", 7.0),
        ("auroc", 0.714_285_714_3),
        ("auroc_lower", 0.427_218_843_9),
        ("auroc_upper", 1.0),
        ("auroc_error_bound", 0.017_857_142_9),
        ("auroc_se", 0.146_465_380_3),
        ("average_precision", 0.772_997_835_5),
        ("average_precision_lower", 0.394_383_064_2),
        ("average_precision_upper", 0.946_826_634_1),
        ("average_precision_min", 0.772_997_835_5),
        ("average_precision_max", 0.795_833_333_3),
        ("brier", 0.236_001_600_7),
        ("brier_lower", 0.089_133_321_8),
        ("brier_upper", 0.382_869_879_6),
        ("log_loss", 2.913_255_283_7),
        ("log_loss_lower", 0.0),
        ("log_loss_upper", 7.558_625_841_1),
        ("log_loss_clipped", 1.0),
    ];
    check_printed(&rows, "quality_binary", &figures);
    assert_eq!(rows[2].undefined, "");
}

#[test]
fn example_calibration() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let figures = [
        ("n_scored", 15.0),
        ("positives", 8.0),
        ("score_sum", 8.2301),
        ("ece", 0.209_993_333_3),
        ("mce", 0.45),
        ("calibration_bias", 0.015_34),
        ("calibration_z", 0.144_666_176_1),
        ("brier_reliability", 0.069_505_289_1),
        ("brier_resolution", 0.093_333_333_3),
        ("brier_uncertainty", 0.248_888_888_9),
        ("brier_residual", 0.010_940_756_0),
    ];
    check_printed(&rows, "calibration", &figures);
    let bins = rows.iter().filter(|row| row.table == MetricTable::CalibrationBins);
    let found: Vec<[f64; 4]> = bins
        .map(|row| {
            let one = std::slice::from_ref(row);
            ["bin", "n", "positives", "score_sum"]
                .map(|name| look(one, "calibration_bins", name).unwrap())
        })
        .collect();
    let expected = [
        [1.0, 2.0, 1.0, 0.1],
        [3.0, 2.0, 0.0, 0.6],
        [5.0, 3.0, 1.0, 1.4],
        [6.0, 1.0, 1.0, 0.6],
        [7.0, 3.0, 2.0, 1.9401],
        [9.0, 2.0, 1.0, 1.69],
        [10.0, 2.0, 2.0, 1.9],
    ];
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
        assert!(is_near(*found, *expected), "{found} for {expected}");
    }
}

#[test]
fn example_estimated() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let figures = [
        ("n", 16.0),
        ("est_tp", 7.4801),
        ("est_fp", 3.5199),
        ("est_fn", 1.3),
        ("est_tn", 3.7),
        ("est_accuracy", 0.698_756_25),
        ("est_accuracy_lower", 0.494_608_100_9),
        ("est_accuracy_upper", 0.902_904_399_1),
        ("est_precision", 0.680_009_090_9),
        ("est_precision_lower", 0.429_139_269_7),
        ("est_precision_upper", 0.930_878_912_2),
        ("est_recall", 0.851_937_905_0),
        ("est_recall_lower", 0.676_101_695_6),
        ("est_recall_upper", 1.0),
        ("est_f1", 0.756_325_802_2),
        ("est_f1_lower", 0.570_395_658_4),
        ("est_f1_upper", 0.942_255_946_0),
        ("n_labelled", 15.0),
        ("realized_accuracy", 0.6),
        ("realized_f1", 0.666_666_666_7),
        ("realized_auroc", 0.714_285_714_3),
        ("est_labelled_accuracy", 0.708_673_333_3),
        ("est_labelled_f1", 0.760_292_044_5),
        ("accuracy_gap", -0.108_673_333_3),
        ("f1_gap", -0.093_625_377_8),
        ("accuracy_gap_z", -1.024_860_206_9),
        ("blended_accuracy", 0.596_875),
    ];
    check_printed(&rows, "quality_estimated", &figures);
    // Probabilities are summed by cell in units of 2^-32.
    let of_cells = [
        ("est_auroc", 0.810_139_646_0),
        ("est_auroc_lower", 0.629_004_624_2),
        ("est_auroc_upper", 0.991_274_667_9),
        ("est_auroc_error_bound", 0.032_840_015_4),
        ("est_labelled_auroc", 0.821_628_314_5),
        ("auroc_gap", -0.107_342_600_2),
    ];
    for (name, expected) in of_cells {
        let found = look(&rows, "quality_estimated", name).unwrap();
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn example_at_other_thresholds() {
    let rows = rows_of(&example(true), &[0; 18], false, VALUE);
    let at: Vec<&MetricRow> =
        rows.iter().filter(|row| row.table == MetricTable::QualityThreshold).collect();
    assert_eq!(at.len(), THRESHOLDS.len());
    let half = std::slice::from_ref(at[0]);
    let figures =
        [("threshold", 0.5), ("n", 15.0), ("tp", 6.0), ("fp", 3.0), ("fn", 2.0), ("tn", 4.0)];
    check_printed(half, "quality_threshold", &figures);
    // Scores of 0.7 and more: four positives and one negative.
    let higher = std::slice::from_ref(at[1]);
    let figures = [
        ("threshold", 0.7),
        ("tp", 4.0),
        ("fp", 1.0),
        ("fn", 4.0),
        ("tn", 6.0),
        ("precision", 0.8),
        ("value_sum", -44.0),
    ];
    check_printed(higher, "quality_threshold", &figures);
}

/// `metrics.md` 14.3.
#[test]
fn example_regression() {
    let mut families = Families::default();
    let actual = [3.0, -0.5, 2.0, 7.0, 0.0, 10.0];
    for (predicted, actual) in [2.5, 0.0, 2.0, 8.0, 1.0, 9.0].into_iter().zip(actual) {
        let family = families.regression.get_mut();
        family.add(&RegressionInput::Inference);
        family.add(&RegressionInput::Labelled { predicted, actual, weight: None });
    }
    let rows = rows_of_families(&[families], false, VALUE);
    let figures = [
        ("n", 6.0),
        ("mean_error", 0.166_666_666_7),
        ("mean_error_lower", -0.486_654_661_5),
        ("mean_error_upper", 0.819_987_994_8),
        ("mae", 0.666_666_666_7),
        ("mae_lower", 0.340_006_002_6),
        ("mae_upper", 0.993_327_330_8),
        ("mse", 0.583_333_333_3),
        ("rmse", 0.763_762_615_8),
        ("r2", 0.958_924_205_4),
        ("mape", 0.281_904_761_9),
        ("mape_n", 5.0),
        ("rmsle", 0.408_593_835_5),
        ("rmsle_n", 6.0),
        ("pearson", 0.982_324_927_0),
        ("abs_error_p50", 0.501_953_125),
        ("abs_error_p90", 1.003_906_25),
        ("abs_error_max", 1.007_812_5),
        ("label_sum", 21.5),
        ("prediction_sum", 22.5),
        ("abs_error_sum", 4.0),
        ("error_square_sum", 3.5),
    ];
    check_printed(&rows, "quality_regression", &figures);
}

/// The greatest error is given by the upper edge of its cell, but never as more than all errors together: that of one
/// pair is its own.
#[test]
fn the_greatest_error_is_no_more_than_all_together() {
    let greatest = |pairs: &[(f64, f64)]| {
        let mut families = Families::default();
        for &(predicted, actual) in pairs {
            let family = families.regression.get_mut();
            family.add(&RegressionInput::Inference);
            family.add(&RegressionInput::Labelled { predicted, actual, weight: None });
        }
        let rows = rows_of_families(&[families], false, VALUE);
        look(&rows, "quality_regression", "abs_error_max")
    };
    // The edge is 0.25 + 26/512.
    assert_eq!(greatest(&[(1.3, 1.0)]), Ok(0.300_000_000_000_000_04));
    assert_eq!(greatest(&[(1.3, 1.0), (1.1, 1.0)]), Ok(0.300_781_25));
}

/// The worked example of `metrics.md` 14.2: true class, predicted class, scores of a, b, c and d.
const CLASSES: [(&str, &str, [f64; 4]); 8] = [
    ("a", "a", [0.7, 0.2, 0.1, 0.0]),
    ("a", "b", [0.3, 0.4, 0.2, 0.1]),
    ("a", "a", [0.5, 0.3, 0.1, 0.1]),
    ("b", "b", [0.2, 0.6, 0.1, 0.1]),
    ("b", "d", [0.1, 0.3, 0.2, 0.4]),
    ("c", "b", [0.2, 0.5, 0.3, 0.0]),
    ("c", "a", [0.4, 0.3, 0.2, 0.1]),
    ("b", "b", [0.25, 0.45, 0.2, 0.1]),
];

/// Two partitions, each with half of the example; one record is corrected from a class that no other has.
fn example_classes() -> Vec<MetricRow> {
    example_classes_within(ClassCaps::DEFAULT)
}

fn example_classes_within(caps: ClassCaps) -> Vec<MetricRow> {
    let mut parts = vec![Families::default(); 2];
    for (at, (actual, predicted, scores)) in CLASSES.into_iter().enumerate() {
        let family = parts[at % 2].multiclass.get_mut().go_by(caps);
        let scores: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(scores).collect();
        let labelled = |actual| MulticlassInput::Labelled {
            predicted: Some(predicted),
            actual,
            scores: &scores,
            weight: None,
        };
        family.add(&MulticlassInput::Inference);
        if at == 3 {
            family.add(&labelled("e"));
            family.remove(&labelled("e"));
        }
        family.add(&labelled(actual));
    }
    rows_within(caps, &parts, false, VALUE)
}

/// `metrics.md` 14.2.
#[test]
fn example_multiclass() {
    let rows = example_classes();
    let figures = [
        ("n", 8.0),
        ("correct", 4.0),
        ("accuracy", 0.5),
        ("accuracy_lower", 0.215_216_062_2),
        ("accuracy_upper", 0.784_783_937_8),
        ("macro_precision", 0.388_888_888_9),
        ("macro_precision_classes", 3.0),
        ("macro_recall", 0.444_444_444_4),
        ("macro_recall_classes", 3.0),
        ("macro_f1", 0.309_523_809_5),
        ("macro_f1_classes", 4.0),
        ("weighted_precision", 0.583_333_333_3),
        ("weighted_recall", 0.5),
        ("weighted_f1", 0.464_285_714_3),
        ("mcc", 0.275_344_395_9),
        ("n_scored", 8.0),
        ("log_loss", 0.947_563_971_2),
        ("log_loss_clipped", 0.0),
        ("brier", 0.526_875),
        ("top_2_hits", 7.0),
        ("top_2_accuracy", 0.875),
        ("auroc_ovr_macro", 0.847_222_222_2),
        ("auroc_ovr_classes", 3.0),
    ];
    check_printed(&rows, "quality_multiclass", &figures);
}

/// `metrics.md` 14.2, by class; the error bounds are those of no tie within a cell.
#[test]
fn example_by_class() {
    let rows = example_classes();
    let of = |class: &str| -> Vec<MetricRow> {
        let is_of = |row: &&MetricRow| row.values[0] == Value::Text(Arc::<str>::from(class).into());
        let rows = rows.iter().filter(|row| row.table == MetricTable::QualityClasses);
        rows.filter(is_of).cloned().collect()
    };
    for (class, support, predicted, tp) in
        [("a", 3.0, 3.0, 2.0), ("b", 3.0, 4.0, 2.0), ("c", 2.0, 0.0, 0.0), ("d", 0.0, 1.0, 0.0)]
    {
        let figures = [("support", support), ("predicted", predicted), ("tp", tp)];
        check_printed(&of(class), "quality_classes", &figures);
    }
    let table = "quality_classes";
    check_printed(
        &of("a"),
        table,
        &[
            ("precision", 0.666_666_666_7),
            ("recall", 0.666_666_666_7),
            ("f1", 0.666_666_666_7),
            ("auroc", 0.933_333_333_3),
        ],
    );
    check_printed(
        &of("b"),
        table,
        &[
            ("precision", 0.5),
            ("recall", 0.666_666_666_7),
            ("f1", 0.571_428_571_4),
            ("auroc", 0.733_333_333_3),
        ],
    );
    check_printed(&of("c"), table, &[("recall", 0.0), ("f1", 0.0), ("auroc", 0.875)]);
    check_printed(&of("d"), table, &[("precision", 0.0), ("f1", 0.0)]);
    assert_eq!(look(&of("c"), table, "precision"), Err("zero_denominator"));
    assert_eq!(look(&of("d"), table, "recall"), Err("zero_denominator"));
    assert_eq!(look(&of("d"), table, "auroc"), Err("one_class"));
    assert!(of("e").is_empty(), "what was corrected away has no row");
}

/// `metrics.md` 14.2 where two classes are counted and the scores of one are kept: d and b, of which d comes first, since
/// XXH3-64 of d, b, c, e and a ascends in this order (package `xxhash` 4.1.0 of Python).
#[test]
fn example_beyond_the_caps() {
    let rows = example_classes_within(ClassCaps { counted: 2, scored: 1 });
    let table = "quality_multiclass";
    let figures = [
        ("n", 8.0),
        ("correct", 4.0),
        ("accuracy", 0.5),
        ("macro_precision_classes", 2.0),
        ("log_loss", 0.947_563_971_2),
        ("brier", 0.526_875),
        ("top_2_accuracy", 0.875),
        ("auroc_ovr_classes", 0.0),
    ];
    check_printed(&rows, table, &figures);
    for figure in ["macro_precision", "macro_f1", "weighted_recall", "mcc", "auroc_ovr_macro"] {
        assert_eq!(look(&rows, table, figure), Err("capped"), "{figure}");
    }
    let table = "quality_classes";
    let of = |class: &str| -> Vec<MetricRow> {
        let is_of = |row: &&MetricRow| row.values[0] == Value::Text(Arc::<str>::from(class).into());
        let rows = rows.iter().filter(|row| row.table.name() == table);
        rows.filter(is_of).cloned().collect()
    };
    let b = [("support", 3.0), ("predicted", 4.0), ("tp", 2.0), ("precision", 0.5)];
    check_printed(&of("b"), table, &b);
    assert_eq!(look(&of("b"), table, "auroc"), Err("capped"));
    check_printed(&of("d"), table, &[("support", 0.0), ("predicted", 1.0), ("tp", 0.0)]);
    assert_eq!(look(&of("d"), table, "auroc"), Err("one_class"));
    // Of a predicted as b and c predicted as a none is right.
    check_printed(&of(OTHER), table, &[("support", 5.0), ("predicted", 3.0), ("tp", 2.0)]);
    for figure in ["precision", "recall", "f1", "auroc"] {
        assert_eq!(look(&of(OTHER), table, figure), Err("capped"), "{figure}");
    }
    let cells = rows.iter().filter(|row| row.table == MetricTable::Confusion);
    let cells: Vec<_> = cells.map(|row| row.values[..3].to_vec()).collect();
    let cell = |(actual, predicted, n): (&str, &str, u64)| {
        let classes = [actual, predicted].map(|class| Value::Text(Arc::<str>::from(class).into()));
        [&classes[..], &[Value::Count(n)]].concat()
    };
    let expected = [("b", "b", 2), ("b", "d", 1), (OTHER, "b", 2), (OTHER, OTHER, 3)];
    assert_eq!(cells, expected.map(cell));
}

/// `metrics.md` 14.2: all cells with a count.
#[test]
fn example_confusion() {
    let rows = example_classes();
    let cells = rows.iter().filter(|row| row.table == MetricTable::Confusion);
    let cells: Vec<_> = cells.map(|row| row.values.clone()).collect();
    let expected =
        [("a", "a", 2), ("a", "b", 1), ("b", "b", 2), ("b", "d", 1), ("c", "a", 1), ("c", "b", 1)];
    let cell = |(actual, predicted, n): (&str, &str, u32)| {
        let weight = Value::Figure(Ok(f64::from(n)));
        let classes = [actual, predicted].map(|class| Value::Text(Arc::<str>::from(class).into()));
        [&classes[..], &[Value::Count(n.into()), weight]].concat()
    };
    assert_eq!(cells, expected.map(cell));
}

#[test]
fn example_before_its_correction() {
    let rows = rows_of(&example(false), &[0; 18], false, VALUE);
    let figures = [
        ("accuracy", 0.5625),
        ("auroc", 0.714_285_714_3),
        ("average_precision", 0.753_772_418_1),
        ("brier", 0.249_334_934_0),
        ("log_loss", 2.940_286_290_9),
    ];
    check_printed(&rows, "quality_binary", &figures);
}

#[test]
fn undefined_figures_say_why() {
    let record = Record { own: Some(true), labels: vec![true], ..example(true)[17].clone() };
    let rows = rows_of(&[Record { latency_us: None, ..record }], &[0], false, VALUE);
    assert_eq!(
        rows[0].undefined,
        "latency_p50_ms=no_values latency_p90_ms=no_values latency_p99_ms=no_values \
         latency_max_ms=no_values latency_sum_ms=no_values latency_mean_ms=no_values"
    );
    assert_eq!(rows[1].undefined, "coverage_negative=zero_denominator");
    assert_eq!(
        rows[2].undefined,
        "npv=zero_denominator npv_lower=zero_denominator specificity=zero_denominator \
         specificity_lower=zero_denominator balanced_accuracy=one_class \
         balanced_accuracy_lower=one_class mcc=zero_denominator auroc=one_class \
         auroc_lower=one_class auroc_error_bound=one_class auroc_se=one_class \
         average_precision=one_class average_precision_lower=one_class \
         average_precision_min=one_class average_precision_max=one_class log_loss=no_scores \
         log_loss_lower=no_scores brier=no_scores brier_lower=no_scores"
    );
}

#[test]
fn no_binary_inference_no_quality_row() {
    let mut families = Families::default();
    families.labels.add(&LabelsInput::Inference { decision: None });
    families.labels.add(&LabelsInput::First { delay_ms: 1, decision: None });
    families.binary.get_mut();
    let values = families.state();
    assert_eq!(Families::restore(&values, ClassCaps::DEFAULT).unwrap(), families);
    let key = Key {
        model: Arc::from("m"),
        version: Arc::from("2"),
        segment: Arc::from("all"),
        window: Window::of(START, GRAIN),
    };
    let mut merged = Merged::default();
    let version = Version::of(1, 2, false);
    let row =
        StateRow { key: key.clone(), partition: PartitionId(0), version, state: values.into() };
    merged.add(&row, ClassCaps::DEFAULT).unwrap();
    let about = RowContext {
        grain: Arc::from("5m"),
        generation: 1,
        sealed: false,
        value: None,
        thresholds: Vec::new(),
        weighted: false,
        reference: None,
        drift: Options::default(),
        custom: Vec::new(),
    };
    let rows = merged.rows(&key, &about, Asked::All);
    let tables: Vec<_> = rows.iter().map(|row| row.table).collect();
    assert_eq!(tables, [MetricTable::Serving, MetricTable::Labels]);
    let reasons = "coverage_positive=not_applicable coverage_negative=not_applicable";
    assert_eq!(rows[1].undefined, reasons);
}

proptest! {
    #[test]
    fn example_is_the_same_however_it_is_split(part_of in prop::collection::vec(0_usize..5, 18)) {
        let whole = rows_of(&example(true), &[0; 18], false, VALUE);
        let split = rows_of(&example(true), &part_of, false, VALUE);
        prop_assert_eq!(format!("{whole:?}"), format!("{split:?}"));
    }
}

fn bit(value: &Json) -> Option<bool> {
    value.as_u64().map(|bit| bit == 1)
}

/// The records of one case of `golden.json`.
fn records_of(case: &Json) -> Vec<Record> {
    let list = |name: &str| case[name].as_array().unwrap();
    (0..list("scores").len())
        .map(|i| Record {
            score: list("scores")[i].as_f64(),
            own: bit(&list("predictions")[i]),
            labels: bit(&list("labels")[i]).into_iter().collect(),
            latency_us: list("latencies_us")[i].as_u64().map(|us| u32::try_from(us).unwrap()),
            delay_ms: 0,
            failed: list("failed")[i].as_bool().unwrap(),
        })
        .collect()
}

/// `metrics.md` 1.8: relative 1e-9, absolute 1e-12 below 1e-3.
pub(crate) fn is_near(found: f64, expected: f64) -> bool {
    let tolerance = if expected.abs() < 1e-3 { 1e-12 } else { expected.abs() * 1e-9 };
    (found - expected).abs() <= tolerance
}

fn check_figure(rows: &[MetricRow], table: &str, name: &str, expected: &Json, case: &str) {
    let at = format!("{case}: {table}.{name}");
    if let Some(reason) = expected.as_str() {
        return assert_eq!(look(rows, table, name), Err(reason), "{at}");
    }
    let expected = expected.as_f64().unwrap();
    let find = |name: &str| look(rows, table, name).unwrap_or_else(|e| panic!("{at}: {e}"));
    match name {
        "raw_auroc" => {
            let distance = (find("auroc") - expected).abs();
            assert!(distance <= find("auroc_error_bound") + 1e-12, "{at}: {distance}");
        }
        "raw_average_precision" => {
            let least = find("average_precision_min");
            let greatest = find("average_precision_max");
            assert!(least - 1e-12 <= expected && expected <= greatest + 1e-12, "{at}");
        }
        _ => match name.strip_prefix("raw_") {
            Some(quantile) => {
                let found = find(quantile);
                assert!(expected <= found && found <= expected * (1.0 + 1.0 / 128.0), "{at}");
            }
            None => assert!(is_near(find(name), expected), "{at}: {} {expected}", find(name)),
        },
    }
}

#[test]
fn other_implementations_agree() {
    let golden: Json = serde_json::from_str(include_str!("golden.json")).unwrap();
    let value = |name: &str| golden["value"][name].as_f64().unwrap();
    let value = ValueMatrix { tp: value("tp"), fp: value("fp"), fn_: value("fn"), tn: value("tn") };
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 15);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let records = records_of(case);
        let rows = rows_of(&records, &vec![0; records.len()], false, value);
        for table in ["serving", "quality_binary"] {
            for (column, expected) in case[table].as_object().unwrap() {
                check_figure(&rows, table, column, expected, name);
            }
        }
    }
}
