//! What a name stands beside: in these rows each column of each table has a value that no other has.

use super::*;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::{Column, Kind};

const TABLES: [&str; 9] = [
    "serving",
    "labels",
    "quality_binary",
    "quality_multiclass",
    "quality_regression",
    "quality_estimated",
    "calibration",
    "calibration_bins",
    "data_quality",
];
/// By how much the values of the segment are greater than those of all.
const OF_SEGMENT: u32 = 500;

const ESTIMATED: &str = "Estimated against realised quality";

/// Every fact that is shown, in order: section, name, table, column.
const FACTS: &[(&str, &str, &str, &str)] = &[
    ("Summary", "Inferences", "serving", "inferences"),
    ("Summary", "Labelled", "labels", "labelled"),
    ("Summary", "Errors", "serving", "errors"),
    ("Summary", "AUROC", "quality_binary", "auroc"),
    ("Summary", "Accuracy", "quality_binary", "accuracy"),
    ("Summary", "Accuracy", "quality_multiclass", "accuracy"),
    ("Summary", "Mean absolute error", "quality_regression", "mae"),
    ("Summary", "Root mean squared error", "quality_regression", "rmse"),
    ("Summary", "Calibration bias", "calibration", "calibration_bias"),
    ("Quality", "Accuracy", "quality_binary", "accuracy"),
    ("Quality", "Precision", "quality_binary", "precision"),
    ("Quality", "Recall", "quality_binary", "recall"),
    ("Quality", "Specificity", "quality_binary", "specificity"),
    ("Quality", "F1", "quality_binary", "f1"),
    ("Quality", "Matthews correlation", "quality_binary", "mcc"),
    ("Quality", "AUROC", "quality_binary", "auroc"),
    ("Quality", "Average precision", "quality_binary", "average_precision"),
    ("Quality", "Log loss", "quality_binary", "log_loss"),
    ("Quality", "Brier score", "quality_binary", "brier"),
    ("Quality", "Prevalence", "quality_binary", "prevalence"),
    ("Quality", "Decided positive", "quality_binary", "predicted_positive_rate"),
    ("Quality", "Value of the decisions", "quality_binary", "value_sum"),
    ("Quality", "Value per label", "quality_binary", "value_per_label"),
    ("Quality", "Accuracy", "quality_multiclass", "accuracy"),
    ("Quality", "Macro precision", "quality_multiclass", "macro_precision"),
    ("Quality", "Macro recall", "quality_multiclass", "macro_recall"),
    ("Quality", "Macro F1", "quality_multiclass", "macro_f1"),
    ("Quality", "Weighted F1", "quality_multiclass", "weighted_f1"),
    ("Quality", "Matthews correlation", "quality_multiclass", "mcc"),
    (
        "Quality",
        "AUROC, mean of each class against the rest",
        "quality_multiclass",
        "auroc_ovr_macro",
    ),
    ("Quality", "Log loss", "quality_multiclass", "log_loss"),
    ("Quality", "Brier score", "quality_multiclass", "brier"),
    ("Quality", "Mean error", "quality_regression", "mean_error"),
    ("Quality", "Mean absolute error", "quality_regression", "mae"),
    ("Quality", "Root mean squared error", "quality_regression", "rmse"),
    ("Quality", "R²", "quality_regression", "r2"),
    ("Quality", "Mean absolute relative error", "quality_regression", "mape"),
    ("Quality", "Correlation", "quality_regression", "pearson"),
    ("Quality", "Median absolute error", "quality_regression", "abs_error_p50"),
    ("Quality", "90 % quantile of absolute error", "quality_regression", "abs_error_p90"),
    (ESTIMATED, "Estimated accuracy", "quality_estimated", "est_accuracy"),
    (ESTIMATED, "Realised accuracy", "quality_estimated", "realized_accuracy"),
    (ESTIMATED, "Realised less estimated, of the labelled", "quality_estimated", "accuracy_gap"),
    (ESTIMATED, "Estimated AUROC", "quality_estimated", "est_auroc"),
    (ESTIMATED, "Realised AUROC", "quality_estimated", "realized_auroc"),
    (ESTIMATED, "Estimated F1", "quality_estimated", "est_f1"),
    ("Calibration", "Expected calibration error", "calibration", "ece"),
    ("Calibration", "Greatest calibration error", "calibration", "mce"),
    ("Calibration", "Bias", "calibration", "calibration_bias"),
    ("Calibration", "Standardised bias", "calibration", "calibration_z"),
    ("Label coverage", "Coverage", "labels", "coverage"),
    ("Label coverage", "Coverage of positive decisions", "labels", "coverage_positive"),
    ("Label coverage", "Coverage of negative decisions", "labels", "coverage_negative"),
    ("Label coverage", "Median label delay, ms", "labels", "label_delay_p50_ms"),
    ("Label coverage", "90 % quantile of label delay, ms", "labels", "label_delay_p90_ms"),
    ("Label coverage", "Corrections", "labels", "label_corrections"),
    ("Label coverage", "Conflicts", "labels", "label_conflicts"),
    ("Service", "Error rate", "serving", "error_rate"),
    ("Service", "Median latency, ms", "serving", "latency_p50_ms"),
    ("Service", "99 % quantile of latency, ms", "serving", "latency_p99_ms"),
    ("Service", "Greatest latency, ms", "serving", "latency_max_ms"),
];

/// Every chart, likewise.
const CHARTS: &[(&str, &str, &str, &str)] = &[
    ("Quality", "AUROC", "quality_binary", "auroc"),
    ("Quality", "Accuracy", "quality_binary", "accuracy"),
    ("Quality", "Precision", "quality_binary", "precision"),
    ("Quality", "Recall", "quality_binary", "recall"),
    ("Quality", "Accuracy", "quality_multiclass", "accuracy"),
    ("Quality", "Macro F1", "quality_multiclass", "macro_f1"),
    ("Quality", "Mean absolute error", "quality_regression", "mae"),
    ("Quality", "Mean error", "quality_regression", "mean_error"),
    ("Quality", "RMSE", "quality_regression", "rmse"),
    (ESTIMATED, "Estimated accuracy", "quality_estimated", "est_accuracy"),
    (ESTIMATED, "Realised accuracy", "quality_estimated", "realized_accuracy"),
    ("Label coverage", "Coverage", "labels", "coverage"),
    ("Service", "Inferences", "serving", "inferences"),
    ("Service", "Error rate", "serving", "error_rate"),
    ("Service", "99 % quantile of latency, ms", "serving", "latency_p99_ms"),
];

/// What this column has of all inferences.
fn value_of(table: &str, column: &str) -> u32 {
    let at = MetricTable::ALL.iter().position(|of| of.name() == table).unwrap();
    let mut columns = MetricTable::ALL[at].columns().iter();
    let place = columns.position(|of| of.name == column);
    let place = place.unwrap_or_else(|| panic!("{table} has no column {column}"));
    u32::try_from(1000 * (at + 1) + place).unwrap()
}

/// A report of one window with a segment.
fn numbered() -> Report {
    let first = rows()[0].clone();
    let row = |table: &str, segment: &str, more: u32| -> Row {
        let value = |column: &Column| {
            if column.kind == Kind::Text {
                json!(column.name)
            } else {
                json!(value_of(table, column.name) + more)
            }
        };
        let columns = MetricTable::named(table).unwrap().columns().iter();
        Row {
            table: table.to_owned(),
            segment: segment.to_owned(),
            undefined: String::new(),
            values: columns.map(|column| (column.name.to_owned(), value(column))).collect(),
            ..first.clone()
        }
    };
    let of_table = |table| [row(table, "all", 0), row(table, "region=eu", OF_SEGMENT)];
    report(&TABLES.into_iter().flat_map(of_table).collect::<Vec<Row>>())
}

type Named<'a> = Vec<(&'a str, &'a str, Option<f64>)>;

/// Section, name and number of each of these.
fn listed(of: &[(&'static str, &'static str, &str, &str)]) -> Named<'static> {
    let number = |table: &str, column: &str| Some(f64::from(value_of(table, column)));
    of.iter()
        .map(|&(section, name, table, column)| (section, name, number(table, column)))
        .collect()
}

#[test]
fn every_fact_is_the_column_that_its_name_says() {
    let report = numbered();
    let mut shown: Named<'_> = Vec::new();
    for section in &report.models[0].sections {
        for block in &section.blocks {
            let Block::Facts(facts) = block else { continue };
            shown.extend(facts.iter().map(|fact| {
                let number = fact.figure.number.as_ref().and_then(Number::as_f64);
                (section.title, fact.name.as_str(), number)
            }));
        }
    }
    assert_eq!(shown, listed(FACTS));
}

#[test]
fn every_chart_is_of_the_column_that_its_title_says() {
    let report = numbered();
    let mut shown: Named<'_> = Vec::new();
    for section in &report.models[0].sections {
        for block in &section.blocks {
            let Block::Chart(chart) = block else { continue };
            assert_eq!(chart.points.len(), 1, "{}", chart.title);
            shown.push((section.title, chart.title.as_str(), chart.points[0].value));
        }
    }
    assert_eq!(shown, listed(CHARTS));
}

/// The tables below a title.
fn grids<'a>(report: &'a Report, title: &str) -> Vec<&'a Grid> {
    let of_title = report.models[0].sections.iter().filter(|section| section.title == title);
    let grids = of_title.flat_map(|section| &section.blocks).filter_map(|block| match block {
        Block::Table(grid) => Some(grid),
        _ => None,
    });
    grids.collect()
}

/// The numbers of a line, each with its heading.
fn numbers_of(grid: &Grid, line: usize) -> Vec<(&str, Option<f64>)> {
    assert_eq!(grid.header.len(), grid.figures[line].len());
    let numbers = grid.header.iter().zip(&grid.figures[line]).filter_map(|(heading, figure)| {
        let number = figure.as_ref()?.number.as_ref().and_then(Number::as_f64);
        Some((heading.as_str(), number))
    });
    numbers.collect()
}

/// The same of these headings, tables and columns.
fn headed<'a>(of: &[(&'a str, &str, &str)], more: u32) -> Vec<(&'a str, Option<f64>)> {
    let number = |table: &str, column: &str| Some(f64::from(value_of(table, column) + more));
    of.iter().map(|&(heading, table, column)| (heading, number(table, column))).collect()
}

#[test]
fn every_number_of_a_table_is_the_column_that_its_heading_says() {
    let report = numbered();
    let [confusion] = grids(&report, "Quality")[..] else { panic!("one of them has a table") };
    let [positive, negative] = ["Labelled positive", "Labelled negative"];
    for (line, decided, cells) in
        [(0, "Decided positive", ["tp", "fp"]), (1, "Decided negative", ["fn", "tn"])]
    {
        let of_line =
            [(positive, "quality_binary", cells[0]), (negative, "quality_binary", cells[1])];
        assert_eq!(confusion.rows[line][0], decided);
        assert_eq!(numbers_of(confusion, line), headed(&of_line, 0));
    }
    let [quality] = grids(&report, "Data quality")[..] else { panic!("one table") };
    let columns = [
        ("Inferences", "data_quality", "inferences"),
        ("Values", "data_quality", "values"),
        ("Missing", "data_quality", "missing_rate"),
        ("Other type", "data_quality", "type_error_rate"),
        ("Out of range", "data_quality", "out_of_range_rate"),
        ("New categories", "data_quality", "new_categories"),
        ("25 %", "data_quality", "p25"),
        ("Median", "data_quality", "p50"),
        ("75 %", "data_quality", "p75"),
    ];
    assert_eq!(numbers_of(quality, 0), headed(&columns, 0));
    let [segments] = grids(&report, "Segments")[..] else { panic!("one table") };
    let columns = [
        ("Inferences", "serving", "inferences"),
        ("Error rate", "serving", "error_rate"),
        ("Coverage", "labels", "coverage"),
        ("AUROC (95 % interval, n)", "quality_binary", "auroc"),
        ("Accuracy (95 % interval, n)", "quality_binary", "accuracy"),
        ("Accuracy (95 % interval, n)", "quality_multiclass", "accuracy"),
        ("Mean absolute error (95 % interval, n)", "quality_regression", "mae"),
        ("Root mean squared error (95 % interval, n)", "quality_regression", "rmse"),
    ];
    for (line, segment, more) in [(0, "all", 0), (1, "region=eu", OF_SEGMENT)] {
        assert_eq!(segments.rows[line][0], segment);
        assert_eq!(numbers_of(segments, line), headed(&columns, more));
    }
}
