//! How many records stand behind a figure: the one list that views, pages, charts and rules go by.

use super::MetricTable;
use super::accumulator::Kind;
use super::estimate::is_of_labelled;

/// Columns whose sum is a number of records.
type Columns = &'static [&'static str];

const NONE: Columns = &[];
const INFERENCES: Columns = &["inferences"];
const N: Columns = &["n"];
const SCORED: Columns = &["n_scored"];
const VALUES: Columns = &["values"];

impl MetricTable {
    /// Columns that count the records behind a row, in the tables that have them: a window where they are 0 does not
    /// say how things stand.
    pub const MEASURED: [&'static str; 2] = ["n", "labelled"];

    /// The columns of the same row whose sum is the number of records that a column was computed over: what a ratio is
    /// divided by, and what a count is part of. Empty for keys, texts and times, for what is set and not measured, and
    /// where the table does not count those records.
    pub fn denominator(self, column: &str) -> &'static [&'static str] {
        let of = self.limited(column).unwrap_or(column);
        let mut measured = self.columns().iter().skip(self.keys());
        let is_measured = measured.any(|known| {
            known.name == of && matches!(known.kind, Kind::Count | Kind::Number | Kind::Figure)
        });
        if !is_measured {
            return NONE;
        }
        match self {
            Self::Serving if of.starts_with("latency_") => &["latency_n"],
            Self::Serving => INFERENCES,
            Self::Labels => of_labels(of),
            Self::QualityBinary | Self::QualityMulticlass if is_of_scores(of) => SCORED,
            Self::QualityBinary | Self::QualityThreshold => of_decisions(of),
            Self::Calibration => SCORED,
            // The edges of a bin.
            Self::CalibrationBins if of.starts_with("bin_") => NONE,
            Self::QualityRegression if of.starts_with("mape") => &["mape_n"],
            Self::QualityRegression if of.starts_with("rmsle") => &["rmsle_n"],
            Self::QualityClasses => of_class(of),
            Self::QualityEstimated if of == "n_labelled" || is_of_labelled(of) => &["n_labelled"],
            Self::Custom if ["inferences", "labelled"].contains(&of) => INFERENCES,
            Self::CalibrationBins
            | Self::QualityRegression
            | Self::QualityMulticlass
            | Self::Confusion
            | Self::QualityEstimated
            | Self::Custom => N,
            Self::DataQuality => of_feature(of),
            // How many values the reference has is not in the row.
            Self::Categories if of.starts_with("reference_") => NONE,
            Self::Categories => VALUES,
            Self::Drift => of_comparison(of),
        }
    }
}

fn of_labels(column: &str) -> Columns {
    match column {
        "coverage_positive" | "labelled_positive" => &["inferences_positive"],
        "coverage_negative" | "labelled_negative" => &["inferences_negative"],
        // Of an inference there may be several labels.
        "labels_matched" | "label_corrections" | "label_duplicates" | "label_conflicts" => {
            &["labels_matched"]
        }
        _ if column.starts_with("label_delay_") => &["labelled"],
        _ => INFERENCES,
    }
}

/// Of binary models and of several classes: what needs scores beside labels.
fn is_of_scores(column: &str) -> bool {
    const BEGINNINGS: [&str; 7] =
        ["n_scored", "scored_", "auroc", "average_precision", "log_loss", "brier", "top_"];
    column == "decisions_off_threshold" || BEGINNINGS.iter().any(|it| column.starts_with(it))
}

fn of_decisions(column: &str) -> Columns {
    match column {
        "precision" => &["predicted_positive"],
        "npv" => &["tn", "fn"],
        "recall" => &["positives"],
        "specificity" => &["negatives"],
        // True negatives do not enter it, nor its interval.
        "f1" => &["tp", "fp", "fn"],
        _ => N,
    }
}

fn of_class(column: &str) -> Columns {
    match column {
        "precision" | "predicted" | "predicted_weight" => &["predicted"],
        // Over the scored of all classes.
        "auroc" | "auroc_error_bound" => NONE,
        _ => &["support"],
    }
}

fn of_feature(column: &str) -> Columns {
    match column {
        "inferences" | "missing" | "missing_rate" | "non_finite" | "type_errors"
        | "type_error_rate" => INFERENCES,
        _ => VALUES,
    }
}

fn of_comparison(column: &str) -> Columns {
    match column {
        "warn_at" | "drift_at" | "alpha" | "is_primary" => NONE,
        "reference_n" => &["reference_n"],
        _ => N,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::metrics::accumulator::Column;

    /// Counts and figures, without what tells rows of one window apart.
    fn measured(table: MetricTable) -> impl Iterator<Item = &'static Column> {
        let columns = table.columns().iter().skip(table.keys());
        columns.filter(|c| matches!(c.kind, Kind::Count | Kind::Number | Kind::Figure))
    }

    #[test]
    fn every_figure_has_counts_of_its_table_behind_it_or_is_known_to_have_none() {
        let mut without = BTreeSet::new();
        for table in MetricTable::ALL {
            for column in measured(table) {
                let of = table.denominator(column.name);
                let is_count = |name: &&str| {
                    table.columns().iter().any(|c| c.name == *name && c.kind == Kind::Count)
                };
                assert!(of.iter().all(is_count), "{}.{}: {of:?}", table.name(), column.name);
                if of.is_empty() {
                    assert_ne!(table.keys(), 0, "{} in the long view", column.name);
                    without.insert(format!("{}.{}", table.name(), column.name));
                }
            }
        }
        let known = [
            "calibration_bins.bin_lower",
            "calibration_bins.bin_upper",
            "categories.reference_n",
            "categories.reference_share",
            "drift.alpha",
            "drift.drift_at",
            "drift.is_primary",
            "drift.warn_at",
            "quality_classes.auroc",
            "quality_classes.auroc_error_bound",
            "quality_classes.auroc_lower",
            "quality_classes.auroc_upper",
        ];
        assert_eq!(without, BTreeSet::from(known.map(str::to_owned)));
    }

    /// What a column's comment, as `tp / (tp + fp).`, divides by: columns of the table, whose weights count as they do.
    fn divided_by(table: MetricTable, comment: &str) -> Option<BTreeSet<String>> {
        let (_, behind) = comment.split_once(" / ")?;
        let sum = match behind.strip_prefix('(') {
            Some(inner) => inner.split_once(')')?.0,
            None => behind.split_once(['.', ':', ';'])?.0,
        };
        // A factor, as in `2 tp`, counts no other records.
        let names = sum.split(" + ").map(|term| term.trim_start_matches("2 "));
        let names = names.map(|name| name.strip_suffix("_weight").unwrap_or(name).to_owned());
        let names: BTreeSet<String> = names.collect();
        names.iter().all(|name| table.has(name)).then_some(names)
    }

    /// The cells that a count is the sum of by its comment, as `tp + fp.`; else itself.
    fn cells(table: MetricTable, name: &str) -> BTreeSet<String> {
        let column = table.columns().iter().find(|column| column.name == name).unwrap();
        let terms = column.comment.trim_end_matches('.').split(" + ");
        let terms: BTreeSet<String> = terms.map(str::to_owned).collect();
        if terms.iter().all(|term| table.has(term)) { terms } else { [name.to_owned()].into() }
    }

    #[test]
    fn a_ratio_is_over_what_its_comment_divides_by() {
        let mut compared = 0;
        for table in MetricTable::ALL {
            for column in measured(table) {
                let Some(expected) = divided_by(table, column.comment) else { continue };
                // A true positive would count twice: both as of the class and as taken for it.
                if (table, column.name) == (MetricTable::QualityClasses, "f1") {
                    continue;
                }
                let found = table.denominator(column.name).iter();
                let found: BTreeSet<_> = found.flat_map(|name| cells(table, name)).collect();
                let expected = expected.iter().flat_map(|name| cells(table, name));
                let expected: BTreeSet<_> = expected.collect();
                assert_eq!(found, expected, "{}.{}", table.name(), column.name);
                compared += 1;
            }
        }
        assert!(compared > 30, "only {compared} comments have a ratio");
    }

    #[test]
    fn limits_stand_on_the_records_of_their_figure_and_other_columns_on_none() {
        let expected: [(MetricTable, &str, &[&str]); 16] = [
            (MetricTable::QualityMulticlass, "brier", &["n_scored"]),
            (MetricTable::QualityMulticlass, "top_3_accuracy_upper", &["n_scored"]),
            (MetricTable::QualityMulticlass, "auroc_ovr_macro", &["n_scored"]),
            (MetricTable::QualityMulticlass, "macro_f1", &["n"]),
            (MetricTable::QualityRegression, "rmsle", &["rmsle_n"]),
            (MetricTable::QualityBinary, "npv_lower", &["tn", "fn"]),
            (MetricTable::QualityBinary, "average_precision_min", &["n_scored"]),
            (MetricTable::QualityThreshold, "recall", &["positives"]),
            (MetricTable::QualityEstimated, "accuracy_gap_z", &["n_labelled"]),
            (MetricTable::QualityEstimated, "blended_accuracy", &["n"]),
            (MetricTable::Drift, "value_lower", &["n"]),
            (MetricTable::DataQuality, "p50", &["values"]),
            (MetricTable::DataQuality, "top_category", &[]),
            (MetricTable::CalibrationBins, "bin", &[]),
            (MetricTable::Serving, "latest_event_time", &[]),
            (MetricTable::Serving, "unknown", &[]),
        ];
        for (table, column, of) in expected {
            assert_eq!(table.denominator(column), of, "{}.{column}", table.name());
        }
    }

    #[test]
    fn the_edges_of_a_bin_are_limits_of_no_figure() {
        let is_limit = MetricTable::is_limit;
        assert!(is_limit(MetricTable::CalibrationBins, "positive_rate_lower"));
        assert!(is_limit(MetricTable::QualityBinary, "auroc_upper"));
        for edge in ["bin_lower", "bin_upper", "bin", "positive_rate"] {
            assert!(!is_limit(MetricTable::CalibrationBins, edge), "{edge}");
        }
        assert!(!is_limit(MetricTable::Serving, "auroc_upper"), "of another table");
    }

    #[test]
    fn an_interval_is_of_a_figure_and_never_what_binning_may_have_changed() {
        for (table, column, expected) in [
            (MetricTable::QualityBinary, "auroc", true),
            (MetricTable::CalibrationBins, "positive_rate", true),
            (MetricTable::DataQuality, "missing_rate", true),
            (MetricTable::QualityBinary, "mcc", false),
            (MetricTable::QualityBinary, "auroc_lower", false),
            (MetricTable::QualityEstimated, "realized_auroc", false),
            (MetricTable::CalibrationBins, "bin", false),
            (MetricTable::Serving, "auroc", false),
            (MetricTable::Drift, "value", false),
        ] {
            assert_eq!(table.has_interval(column), expected, "{}.{column}", table.name());
        }
    }
}
