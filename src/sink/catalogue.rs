//! What each figure is in: its unit, and which way is better. One list, from which the view `metric_catalogue` follows.

use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::{Column, Kind};

use super::tables::Table;

/// One metric, as the view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The table that has it as a column.
    pub(super) family: &'static str,
    /// The name of that column.
    pub(super) metric: String,
    /// `count`, `ratio` (0 to 1), `1` (no unit), `ms`, `1/s`, `label`, `label^2`, `value` or `feature`.
    pub(super) unit: &'static str,
    /// `higher`, `lower`, `zero` (the nearer to 0 the better) or `none`.
    pub(super) better: &'static str,
    /// Whether `_lower` and `_upper`, the limits of its interval, stand beside it.
    pub(super) has_interval: bool,
    /// The column's comment.
    pub(super) description: String,
}

/// Names without [`PREFIXES`], their unit, and which way is better. Counts that are not here are in `count` and `none`.
const KNOWN: [(&str, &str, &str); 19] = [
    ("errors missing non_finite type_errors out_of_range new_category_values", "count", "lower"),
    ("label_conflicts log_loss_clipped expired", "count", "lower"),
    ("new_categories", "count", "lower"),
    ("distinct reference_n", "count", "none"),
    ("inferences_per_s", "1/s", "none"),
    ("latency_sum_ms", "ms", "none"),
    ("accuracy_gap f1_gap", "ratio", "zero"),
    ("error_rate missing_rate type_error_rate out_of_range_rate", "ratio", "lower"),
    ("coverage coverage_positive coverage_negative settled_ratio", "ratio", "higher"),
    (
        "accuracy precision npv recall specificity f1 balanced_accuracy top_2_accuracy top_3_accuracy top_5_accuracy",
        "ratio",
        "higher",
    ),
    (
        "prevalence predicted_positive_rate positive_rate mean_score bin_lower bin_upper is_constant share \
         reference_share",
        "ratio",
        "none",
    ),
    (
        "auroc auroc_ovr_macro average_precision average_precision_min average_precision_max mcc r2 pearson \
         brier_resolution",
        "1",
        "higher",
    ),
    (
        "log_loss brier ece mce brier_reliability auroc_error_bound auroc_se mape rmsle effect value",
        "1",
        "lower",
    ),
    ("calibration_bias calibration_z brier_residual auroc_gap accuracy_gap_z", "1", "zero"),
    ("brier_uncertainty score_sum p_value p_adjusted warn_at drift_at alpha", "1", "none"),
    (
        "mae rmse abs_error_p50 abs_error_p90 abs_error_p99 abs_error_max abs_error_sum",
        "label",
        "lower",
    ),
    ("mse error_square_sum", "label^2", "lower"),
    ("value_sum value_per_label", "value", "higher"),
    ("min max mean sd p01 p25 p50 p75 p99", "feature", "none"),
];

/// Before names that stand in [`KNOWN`] without them.
const PREFIXES: [&str; 6] =
    ["est_labelled_", "est_", "realized_", "blended_", "macro_", "weighted_"];

/// Unit, and which way is better.
fn known(column: &Column) -> Option<(&'static str, &'static str)> {
    let name = column.name;
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let found = KNOWN.iter().find(|(names, ..)| names.split(' ').any(|known| known == bare));
    if let Some((_, unit, better)) = found {
        return Some((unit, better));
    }
    match bare {
        "tp" | "fp" | "fn" | "tn" | "n_eff" => Some(("count", "none")),
        "mean_error" => Some(("label", "zero")),
        "label_mean" | "prediction_mean" | "label_sum" | "prediction_sum" => {
            Some(("label", "none"))
        }
        _ if name.ends_with("_ms") => Some(("ms", "lower")),
        _ if column.kind == Kind::Count || name.ends_with("_weight") => Some(("count", "none")),
        _ => None,
    }
}

/// Whether a figure is a share: 0 to 1, which a difference of two is not.
pub(crate) fn is_share(table: MetricTable, name: &str) -> bool {
    let column = table.columns().iter().find(|column| column.name == name);
    column.and_then(known).is_some_and(|(unit, better)| unit == "ratio" && better != "zero")
}

/// Every metric of every table but those that configurations define.
pub(super) fn entries() -> Vec<Entry> {
    let built_in = MetricTable::ALL.into_iter().filter(|table| *table != MetricTable::Custom);
    built_in.flat_map(of_table).collect()
}

fn of_table(table: MetricTable) -> Vec<Entry> {
    let spec = Table::Metric(table).spec();
    let comment = |name: &str| {
        let column = spec.columns.iter().find(|column| column.name == name);
        column.expect("the table has it").comment.clone()
    };
    let is_figure = |column: &&Column| {
        matches!(column.kind, Kind::Count | Kind::Number | Kind::Figure)
            && !table.is_limit(column.name)
    };
    let entry = |column: &Column| {
        let (unit, better) = known(column)
            .unwrap_or_else(|| unreachable!("{}.{} is in no list", table.name(), column.name));
        Entry {
            family: table.name(),
            metric: column.name.to_owned(),
            unit,
            better,
            has_interval: table.has_interval(column.name),
            description: comment(column.name),
        }
    };
    // Keys name a row; they measure nothing.
    table.columns().iter().skip(table.keys()).filter(is_figure).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_unit_and_every_listed_name_is_a_metric() {
        let entries = entries();
        assert!(entries.len() > 200, "{}", entries.len());
        assert!(entries.iter().all(|entry| !entry.description.is_empty()));
        let bare = |entry: &Entry| {
            let stripped = PREFIXES.iter().find_map(|prefix| entry.metric.strip_prefix(prefix));
            stripped.unwrap_or(&entry.metric).to_owned()
        };
        let found: Vec<_> = entries.iter().map(bare).collect();
        for name in KNOWN.iter().flat_map(|(names, ..)| names.split(' ')) {
            assert!(found.iter().any(|metric| metric == name), "{name} is no metric");
        }
    }

    #[test]
    fn units_and_directions_are_those_of_the_definitions() {
        let entries = entries();
        for (family, metric, unit, better, has_interval) in [
            ("serving", "inferences", "count", "none", false),
            ("serving", "error_rate", "ratio", "lower", true),
            ("serving", "latency_p99_ms", "ms", "lower", false),
            ("quality_binary", "auroc", "1", "higher", true),
            ("quality_regression", "mean_error", "label", "zero", true),
            ("quality_estimated", "est_f1", "ratio", "higher", true),
            ("calibration_bins", "bin_lower", "ratio", "none", false),
            ("drift", "effect", "1", "lower", false),
            ("drift", "value", "1", "lower", false),
        ] {
            let mut of = entries.iter().filter(|e| e.family == family && e.metric == metric);
            let found = of.next().expect(metric);
            assert_eq!((found.unit, found.better), (unit, better), "{metric}");
            assert_eq!(found.has_interval, has_interval, "{metric}");
            assert_eq!(of.next(), None, "{metric} once");
        }
    }
}
