//! What a report shows of a model: one function for each section, in the order of the report.

use std::collections::BTreeSet;

use super::classes::by_class;
use super::rows::{FEW, ModelRows, Row, odd_labels};
use super::spread::distributions;
use super::text::{
    FEATURE, about, count, count_cell, counted, figure, figure_cell, interval, number, numbers,
    percent, records, share, shown_name, words,
};
use super::{Bin, Block, Cell, Chart, Fact, Figure, Grid, ModelReport, Point, Section};
use crate::calendar::time;
use crate::engine::state::ALL;
use crate::evaluate::WHOLE;

const SUMMARY: &str = "Summary";

/// The sections; one that has nothing to show is left out.
const SECTIONS: &[fn(&ModelRows<'_>) -> Option<Section>] = &[
    summary,
    binary,
    multiclass,
    regression,
    custom,
    estimated,
    calibration,
    drift,
    distributions,
    data_quality,
    labels,
    serving,
    segments,
];

/// All that have something to show.
pub(super) fn all(rows: &ModelRows<'_>) -> Vec<Section> {
    SECTIONS.iter().filter_map(|section| section(rows)).collect()
}

/// How the figures are made.
pub(super) const METHODS: &[&str] = &[
    "Every figure is computed from the merged records of its window, never as an average of finer windows' figures. \
     Windows are aligned to 1970-01-01 UTC; a record belongs to the window of its inference's event time.",
    "Quality is that of the labelled inferences only. Where labels come for some decisions more often than for others \
     (see label coverage), it does not describe the rest.",
    "n beside a figure counts the records that this very figure is over: those decided positive for precision, those \
     with a score for AUROC. Without figures of the whole time, quality is that of the newest window with at least 100 \
     labelled records, or of which no more labels come; else of the newest window with any.",
    "Intervals cover 95 %: Wilson for shares (accuracy, precision, recall), DeLong for AUROC, normal for means (Brier \
     score, log loss, errors). They treat records as independent. Bands in charts are these intervals. Label coverage \
     has none: it counts all inferences.",
    "Calibration compares the mean score of each tenth of the scores with the share of positive labels in it. ECE is \
     the mean distance, biased upward for few records.",
    "A figure that is not defined is shown as –, with the reason, never as 0. (other) is all that is beyond a cap on \
     models, versions, segments, features or classes; what is then not known is shown as – (capped). [caps] in the \
     configuration raises them.",
];

/// The quality figures that stand for each kind of model, the main one of a table first: table, column, name.
const HEADLINES: &[(&str, &str, &str)] = &[
    ("quality_binary", "auroc", "AUROC"),
    ("quality_binary", "accuracy", "Accuracy"),
    ("quality_multiclass", "accuracy", "Accuracy"),
    ("quality_regression", "mae", "Mean absolute error"),
    ("quality_regression", "rmse", "Root mean squared error"),
];

/// Column and name of those of a table of quality, the main one first, for a place that has room for one.
pub(crate) fn headlines(table: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_table = HEADLINES.iter().filter(move |(of, ..)| *of == table);
    of_table.map(|&(_, column, name)| (column, name))
}

pub(super) fn fact(row: &Row, column: &str, name: &str) -> Fact {
    noted(row, column, name, None)
}

/// A fact beside counts of this time: of any other one it says of which.
fn dated(row: &Row, column: &str, name: &str, counted: (i64, i64)) -> Fact {
    noted(row, column, name, ((row.start_ms, row.end_ms) != counted).then(|| about(row)))
}

/// A fact with its interval, its window where that is to be said, and the records that it is over.
fn noted(row: &Row, column: &str, name: &str, window: Option<String>) -> Fact {
    let (value, figure) = (figure(row, column), numbers(row, column));
    let n = figure.n.map(|n| format!("n = {}", count(n)));
    let of: Vec<String> = window.into_iter().chain(n).collect();
    let parts = [interval(row, column), of.join(", ")].into_iter().filter(|part| !part.is_empty());
    let note = parts.collect::<Vec<_>>().join("; ");
    Fact { name: name.to_owned(), value, note, figure }
}

fn plain(name: &str, value: u64, note: String) -> Fact {
    Fact { name: name.to_owned(), value: count(value), note, figure: counted(value) }
}

fn summary(rows: &ModelRows<'_>) -> Option<Section> {
    let serving: Vec<&Row> = rows.over_time("serving").collect();
    let (first, last) = (serving.first()?, serving.last()?);
    let sum = |column: &str| serving.iter().map(|row| row.count(column)).sum::<u64>();
    let (inferences, errors) = (sum("inferences"), sum("errors"));
    let labelled: u64 = rows.over_time("labels").map(|row| row.count("labelled")).sum();
    // Of files a window of a coarser grain may hold less than its whole time: then the whole says which.
    let whole = rows.now_all("serving").filter(|row| row.grain == WHOLE);
    let whole = whole.filter(|row| row.count("inferences") == inferences);
    let counted = whole.map_or((first.start_ms, last.end_ms), |row| (row.start_ms, row.end_ms));
    let (start_ms, end_ms) = counted;
    let mut facts = vec![
        plain("Inferences", inferences, format!("{} to {} UTC", time(start_ms), time(end_ms))),
        plain("Labelled", labelled, format!("coverage {}", share(labelled, inferences))),
        plain("Errors", errors, format!("rate {}", share(errors, inferences))),
    ];
    let bias = ("calibration", "calibration_bias", "Calibration bias");
    let quality = HEADLINES.iter().copied().chain([bias]).filter_map(|(table, column, name)| {
        rows.now_all(table).map(|row| dated(row, column, name, counted))
    });
    let quality: Vec<Fact> = quality.collect();
    let shown = quality.iter().map(|fact| &fact.figure).filter(|figure| figure.number.is_some());
    let fewest = shown.filter_map(|figure| figure.n).min();
    facts.extend(quality);
    let mut blocks = vec![Block::Facts(facts)];
    blocks.extend(verdicts(rows, labelled, fewest).into_iter().map(Block::Text));
    Some(Section { title: SUMMARY, blocks })
}

/// The summaries of several models in one table.
pub(super) fn overview(models: &[ModelReport]) -> Grid {
    let facts = |model: &ModelReport| -> Vec<Fact> {
        let blocks = model.sections.iter().filter(|section| section.title == SUMMARY);
        let blocks = blocks.flat_map(|section| &section.blocks);
        let facts = blocks.filter_map(|block| match block {
            Block::Facts(facts) => Some(facts.clone()),
            Block::Text(_)
            | Block::Table(_)
            | Block::Chart(_)
            | Block::Reliability(_)
            | Block::Spread(_)
            | Block::Shares(_) => None,
        });
        facts.flatten().collect()
    };
    let facts: Vec<Vec<Fact>> = models.iter().map(facts).collect();
    let mut header = vec!["Model".to_owned()];
    for fact in facts.iter().flatten() {
        if !header.contains(&fact.name) {
            header.push(fact.name.clone());
        }
    }
    let row = |(model, facts): (&ModelReport, &Vec<Fact>)| -> Vec<Cell> {
        let cell = |name: &String| {
            let fact = facts.iter().find(|fact| fact.name == *name);
            fact.map_or_else(none, |fact| with_interval(fact.value.clone(), fact.figure.clone()))
        };
        std::iter::once(words(model.name())).chain(header.iter().skip(1).map(cell)).collect()
    };
    let rows = models.iter().zip(&facts).map(row).collect();
    let titled = |name: &String| {
        let mut of = facts.iter().flatten().filter(|fact| fact.name == *name);
        let beside = of.clone().any(|fact| fact.figure.lower.is_some());
        let beside = if beside { " (95 % interval, n)" } else { " (n)" };
        if of.any(|fact| fact.figure.n.is_some()) {
            format!("{name}{beside}")
        } else {
            name.clone()
        }
    };
    Grid::new(header.iter().map(titled).collect(), rows)
}

/// A place of a table where no figure is.
fn none() -> Cell {
    words("–")
}

/// What a reader has to know before he trusts the figures; `least` is the least number of records behind one.
fn verdicts(rows: &ModelRows<'_>, labelled: u64, least: Option<u64>) -> Vec<String> {
    let mut texts = Vec::new();
    if labelled == 0 {
        texts.push("No inference has a label, so nothing is said about quality.".to_owned());
    } else if let Some(n) = least.filter(|&n| n < FEW) {
        texts.push(format!(
            "Quality rests on {n} labelled records: see how wide its intervals are."
        ));
    }
    let tables = ["labels", "quality_binary", "quality_multiclass", "quality_regression"];
    let odd = odd_labels(tables.into_iter().filter_map(|table| rows.now_all(table)));
    if odd.is_empty()
        && let Some(row) = rows.now_all("calibration")
        && let (Some(z), Some(bias)) = (row.figure("calibration_z"), row.figure("calibration_bias"))
        && z.abs() > 2.0
    {
        let side = if bias > 0.0 { "too high" } else { "too low" };
        texts.push(format!(
            "Scores are {side} on average by {}: beyond chance (z = {}).",
            number(bias.abs()),
            number(z)
        ));
    }
    texts.extend(odd);
    if let Some(row) = rows.now_all("labels")
        && let (Some(positive), Some(negative)) =
            (row.figure("coverage_positive"), row.figure("coverage_negative"))
        && (positive - negative).abs() > 0.1
    {
        texts.push(format!(
            "Decisions get labels unequally often (positive {}, negative {}): quality describes the labelled ones only.",
            percent(positive),
            percent(negative)
        ));
    }
    texts
}

/// A figure of a table over time; none where no window has it.
fn chart(rows: &ModelRows<'_>, table: &str, column: &str, title: &str) -> Option<Block> {
    chart_of(rows.over_time(table), column, title)
}

/// A figure of rows by time.
pub(super) fn chart_of<'a>(
    rows: impl Iterator<Item = &'a Row>,
    column: &str,
    title: &str,
) -> Option<Block> {
    let points: Vec<Point> = rows
        .map(|row| Point {
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            value: row.figure(column),
            interval: row.interval(column),
            n: records(row, column).unwrap_or(0),
        })
        .collect();
    drawn(title, points)
}

/// A chart of points by time; none where no point has a value.
pub(super) fn drawn(title: &str, points: Vec<Point>) -> Option<Block> {
    points.iter().any(|point| point.value.is_some()).then(|| {
        let span_ms = [points[0].start_ms, points[points.len() - 1].end_ms];
        Block::Chart(Chart { title: title.to_owned(), span_ms, points })
    })
}

/// A section of figures of a table: as they stand now with what else tells of them, then some of them over time.
fn figures(
    rows: &ModelRows<'_>,
    table: &str,
    title: &'static str,
    facts: &[(&str, &str)],
    more: Vec<Block>,
    charts: &[(&str, &str)],
) -> Option<Section> {
    let now = rows.now_all(table)?;
    let mut blocks = vec![Block::Text(format!("{}.", about(now)))];
    blocks.extend(weighed(now).map(Block::Text));
    let facts = facts.iter().map(|(column, name)| fact(now, column, name));
    blocks.push(Block::Facts(facts.collect()));
    blocks.extend(more);
    blocks.extend(charts.iter().filter_map(|(column, name)| chart(rows, table, column, name)));
    Some(Section { title, blocks })
}

/// What is said where labels weigh otherwise than 1.
#[expect(
    clippy::float_cmp,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "where they weigh 1 it is n"
)]
fn weighed(row: &Row) -> Option<String> {
    let (weight, effective) = (row.figure("n_weight")?, row.figure("n_eff")?);
    let n = row.count("n") as f64;
    ([weight, effective] != [n, n]).then(|| {
        format!(
            "Figures and intervals go by the labels' weights, {} together: they say as much as {} labels of one weight \
             (effective sample size). n and counts in tables are records.",
            number(weight),
            number(effective)
        )
    })
}

fn binary(rows: &ModelRows<'_>) -> Option<Section> {
    let table = "quality_binary";
    let now = rows.now_all(table)?;
    let confusion = Block::Table(confusion(now));
    let value = [("value_sum", "Value of the decisions"), ("value_per_label", "Value per label")];
    let value = value.into_iter().filter(|(column, _)| now.figure(column).is_some());
    let facts = [
        ("accuracy", "Accuracy"),
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("specificity", "Specificity"),
        ("f1", "F1"),
        ("mcc", "Matthews correlation"),
        ("auroc", "AUROC"),
        ("average_precision", "Average precision"),
        ("log_loss", "Log loss"),
        ("brier", "Brier score"),
        ("prevalence", "Prevalence"),
        ("predicted_positive_rate", "Decided positive"),
    ];
    let facts: Vec<_> = facts.into_iter().chain(value).collect();
    let charts = [
        ("auroc", "AUROC"),
        ("accuracy", "Accuracy"),
        ("precision", "Precision"),
        ("recall", "Recall"),
    ];
    figures(rows, table, "Quality", &facts, vec![confusion], &charts)
}

fn confusion(row: &Row) -> Grid {
    let cell = |column: &str| count_cell(row.count(column));
    let header = ["", "Labelled positive", "Labelled negative"].map(str::to_owned).into();
    let rows = vec![
        vec![words("Decided positive"), cell("tp"), cell("fp")],
        vec![words("Decided negative"), cell("fn"), cell("tn")],
    ];
    Grid::new(header, rows)
}

fn regression(rows: &ModelRows<'_>) -> Option<Section> {
    let facts = [
        ("mean_error", "Mean error"),
        ("mae", "Mean absolute error"),
        ("rmse", "Root mean squared error"),
        ("r2", "R²"),
        ("mape", "Mean absolute relative error"),
        ("pearson", "Correlation"),
        ("abs_error_p50", "Median absolute error"),
        ("abs_error_p90", "90 % quantile of absolute error"),
    ];
    let charts = [("mae", "Mean absolute error"), ("mean_error", "Mean error"), ("rmse", "RMSE")];
    figures(rows, "quality_regression", "Quality", &facts, Vec::new(), &charts)
}

fn multiclass(rows: &ModelRows<'_>) -> Option<Section> {
    let table = "quality_multiclass";
    let facts = [
        ("accuracy", "Accuracy"),
        ("macro_precision", "Macro precision"),
        ("macro_recall", "Macro recall"),
        ("macro_f1", "Macro F1"),
        ("weighted_f1", "Weighted F1"),
        ("mcc", "Matthews correlation"),
        ("auroc_ovr_macro", "AUROC, mean of each class against the rest"),
        ("log_loss", "Log loss"),
        ("brier", "Brier score"),
    ];
    let charts = [("accuracy", "Accuracy"), ("macro_f1", "Macro F1")];
    let more = by_class(rows, rows.now_all(table)?);
    figures(rows, table, "Quality", &facts, more, &charts)
}

/// What the configuration defines: each with its newest value, then each over time.
fn custom(rows: &ModelRows<'_>) -> Option<Section> {
    let now: Vec<&Row> = rows.now("custom").into_iter().filter(|row| row.segment == ALL).collect();
    let first = now.first()?;
    let line = |row: &&Row| {
        vec![words(row.text("metric")), figure_cell(row, "value"), count_cell(row.count("n"))]
    };
    let header = ["Metric", "Value", "n"].map(str::to_owned).into();
    let grid = Grid::new(header, now.iter().map(line).collect());
    let mut blocks = vec![Block::Text(format!("{}.", about(first))), Block::Table(grid)];
    for row in &now {
        let name = row.text("metric");
        let of_metric = rows.over_time("custom").filter(|row| row.text("metric") == name);
        blocks.extend(chart_of(of_metric, "value", name));
    }
    Some(Section { title: "Custom metrics", blocks })
}

fn estimated(rows: &ModelRows<'_>) -> Option<Section> {
    let facts = [
        ("est_accuracy", "Estimated accuracy"),
        ("realized_accuracy", "Realised accuracy"),
        ("accuracy_gap", "Realised less estimated, of the labelled"),
        ("est_auroc", "Estimated AUROC"),
        ("realized_auroc", "Realised AUROC"),
        ("est_f1", "Estimated F1"),
    ];
    let charts =
        [("est_accuracy", "Estimated accuracy"), ("realized_accuracy", "Realised accuracy")];
    figures(
        rows,
        "quality_estimated",
        "Estimated against realised quality",
        &facts,
        Vec::new(),
        &charts,
    )
}

/// The start of the newest window in which a main method comes to a verdict.
pub(super) fn judged<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<i64> {
    rows.filter(|row| is_main(row) && rank(row) < rank_of("")).map(|row| row.start_ms).max()
}

/// Whether verdicts go by the row's method.
pub(super) fn is_main(row: &Row) -> bool {
    row.count("is_primary") > 0
}

/// The verdicts by each feature's main method in the newest window that has any, the worst first; else in the newest
/// window.
fn verdicts_now<'a>(rows: &ModelRows<'a>) -> Vec<&'a Row> {
    let mut now: Vec<&Row> = match judged(rows.over_time("drift")) {
        Some(start) => rows.over_time("drift").filter(|row| row.start_ms == start).collect(),
        None => rows.now("drift").into_iter().filter(|row| row.segment == ALL).collect(),
    };
    now.retain(|row| is_main(row));
    worst_first(&mut now);
    now
}

/// Those that drift, then those worth a look, the greatest effect first.
pub(super) fn worst_first(rows: &mut [&Row]) {
    let effect = |row: &Row| row.figure("effect").unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| rank(a).cmp(&rank(b)).then(effect(b).total_cmp(&effect(a))));
}

fn rank(row: &Row) -> usize {
    rank_of(row.text("verdict"))
}

fn rank_of(verdict: &str) -> usize {
    ["drift", "warn", "ok"].iter().position(|known| *known == verdict).unwrap_or(3)
}

/// What was compared, as it is shown: a feature by its name, or the score.
pub(super) fn compared(row: &Row) -> String {
    match row.text("kind") {
        FEATURE => shown_name(FEATURE, row.text("feature")),
        kind => kind.to_owned(),
    }
}

/// The comparisons of the whole time, where they were made, and those of the newest window that has verdicts.
fn drift(rows: &ModelRows<'_>) -> Option<Section> {
    let is_whole = |row: &&Row| row.grain == WHOLE && row.segment == ALL && is_main(row);
    let mut whole: Vec<&Row> = rows.now("drift").into_iter().filter(is_whole).collect();
    worst_first(&mut whole);
    let mut newest = verdicts_now(rows);
    let span = |of: &[&Row]| of.first().map(|row| (row.start_ms, row.end_ms));
    if span(&newest) == span(&whole) {
        newest.clear();
    }
    let mut blocks = Vec::new();
    for now in [whole, newest] {
        let Some(first) = now.first() else { continue };
        let judged = now.iter().filter(|row| rank(row) < 3).count();
        let drifting = now.iter().filter(|row| rank(row) == 0).count();
        let said = if judged == 0 {
            "too few records for a verdict".to_owned()
        } else {
            format!("{drifting} of {judged} drift")
        };
        let grid = comparisons(&now, ["Compared", "Method"], |row| {
            [words(compared(row)), words(row.text("method"))]
        });
        blocks.extend([Block::Text(format!("{}: {said}.", about(first))), Block::Table(grid)]);
    }
    if blocks.is_empty() {
        return None;
    }
    blocks.extend(drawn("Features and scores that drift", drifting_over_time(rows)));
    Some(Section { title: "Drift", blocks })
}

/// A table of rows of `drift`: what names each, its verdict, what else is told of it, and what the verdict rests on.
pub(super) fn comparisons(
    rows: &[&Row],
    [name, told]: [&str; 2],
    own: impl Fn(&Row) -> [Cell; 2],
) -> Grid {
    let header = [name, "Verdict", told, "Effect", "Drift from", "Adjusted p", "n", "Reference n"];
    let line = |row: &&Row| {
        let [name, told] = own(row);
        vec![
            name,
            words(verdict(row)),
            told,
            figure_cell(row, "effect"),
            figure_cell(row, "drift_at"),
            figure_cell(row, "p_adjusted"),
            count_cell(row.count("n")),
            count_cell(row.count("reference_n")),
        ]
    };
    Grid::new(header.map(str::to_owned).into(), rows.iter().map(line).collect())
}

/// What a row of `drift` comes to, in words.
pub(super) fn verdict(row: &Row) -> String {
    row.text("verdict").replace('_', " ")
}

/// How many drift, window by window; no value where no verdict is known.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a handful of features")]
fn drifting_over_time(rows: &ModelRows<'_>) -> Vec<Point> {
    let main: Vec<&Row> = rows.over_time("drift").filter(|row| is_main(row)).collect();
    let windows = main.chunk_by(|a, b| a.start_ms == b.start_ms).map(|window| {
        let judged = window.iter().filter(|row| rank(row) < 3).count();
        let drifting = window.iter().filter(|row| rank(row) == 0).count();
        Point {
            start_ms: window[0].start_ms,
            end_ms: window[0].end_ms,
            value: (judged > 0).then_some(drifting as f64),
            interval: None,
            n: window.iter().map(|row| row.count("n")).max().unwrap_or(0),
        }
    });
    windows.collect()
}

fn data_quality(rows: &ModelRows<'_>) -> Option<Section> {
    let now: Vec<&Row> =
        rows.now("data_quality").into_iter().filter(|row| row.segment == ALL).collect();
    let first = now.first()?;
    let columns = [
        ("missing_rate", "Missing"),
        ("type_error_rate", "Other type"),
        ("out_of_range_rate", "Out of range"),
        ("new_categories", "New categories"),
        ("p25", "25 %"),
        ("p50", "Median"),
        ("p75", "75 %"),
    ];
    // What is missing or of another type is a share of the inferences, all else is of the values.
    let header = ["Feature", "Kind", "Inferences", "Values"].into_iter();
    let header = header.chain(columns.map(|(_, name)| name));
    let line = |row: &&Row| -> Vec<Cell> {
        let about = [words(row.text("feature")), words(row.text("kind"))].into_iter();
        let about =
            about.chain(["inferences", "values"].map(|column| count_cell(row.count(column))));
        about.chain(columns.iter().map(|(column, _)| figure_cell(row, column))).collect()
    };
    let grid = Grid::new(header.map(str::to_owned).collect(), now.iter().map(line).collect());
    let blocks = vec![Block::Text(format!("{}.", about(first))), Block::Table(grid)];
    Some(Section { title: "Data quality", blocks })
}

fn calibration(rows: &ModelRows<'_>) -> Option<Section> {
    let now = rows.now_all("calibration")?;
    let bins = rows.beside("calibration_bins", now).filter(|row| row.segment == ALL);
    let mut bins: Vec<Bin> = bins
        .filter_map(|row| {
            let (score, rate) = (row.figure("mean_score")?, row.figure("positive_rate")?);
            Some(Bin { score, rate, interval: row.interval("positive_rate"), n: row.count("n") })
        })
        .collect();
    bins.sort_by(|a, b| a.score.total_cmp(&b.score));
    if bins.is_empty() {
        return None;
    }
    let facts = [
        ("ece", "Expected calibration error"),
        ("mce", "Greatest calibration error"),
        ("calibration_bias", "Bias"),
        ("calibration_z", "Standardised bias"),
    ];
    let blocks = vec![
        Block::Text(format!("{}.", about(now))),
        Block::Facts(facts.map(|(column, name)| fact(now, column, name)).into()),
        Block::Reliability(bins),
    ];
    Some(Section { title: "Calibration", blocks })
}

fn labels(rows: &ModelRows<'_>) -> Option<Section> {
    let now = rows.now_all("labels").filter(|row| row.count("labelled") > 0)?;
    let facts = [
        ("coverage", "Coverage"),
        ("coverage_positive", "Coverage of positive decisions"),
        ("coverage_negative", "Coverage of negative decisions"),
        ("label_delay_p50_ms", "Median label delay, ms"),
        ("label_delay_p90_ms", "90 % quantile of label delay, ms"),
    ];
    let mut facts: Vec<Fact> = facts.map(|(column, name)| fact(now, column, name)).into();
    for (column, name) in [("label_corrections", "Corrections"), ("label_conflicts", "Conflicts")] {
        facts.push(plain(name, now.count(column), String::new()));
    }
    let mut blocks = vec![Block::Text(format!("{}.", about(now))), Block::Facts(facts)];
    blocks.extend(chart(rows, "labels", "coverage", "Coverage"));
    Some(Section { title: "Label coverage", blocks })
}

fn serving(rows: &ModelRows<'_>) -> Option<Section> {
    let now = rows.now_all("serving")?;
    let facts = [
        ("error_rate", "Error rate"),
        ("latency_p50_ms", "Median latency, ms"),
        ("latency_p99_ms", "99 % quantile of latency, ms"),
        ("latency_max_ms", "Greatest latency, ms"),
    ];
    let mut blocks = vec![
        Block::Text(format!("{}.", about(now))),
        Block::Facts(facts.map(|(column, name)| fact(now, column, name)).into()),
    ];
    let charts = [
        ("inferences", "Inferences"),
        ("error_rate", "Error rate"),
        ("latency_p99_ms", "99 % quantile of latency, ms"),
    ];
    blocks.extend(charts.iter().filter_map(|(column, name)| chart(rows, "serving", column, name)));
    Some(Section { title: "Service", blocks })
}

fn segments(rows: &ModelRows<'_>) -> Option<Section> {
    // All columns are of one window: that of the newest labels, where there are any.
    let now = rows.now("labels").into_iter().chain(rows.now("serving")).next()?;
    let [serving, labels] = ["serving", "labels"].map(|table| rows.by_segment(table, now));
    let known: BTreeSet<&str> = serving.keys().chain(labels.keys()).copied().collect();
    if known.iter().all(|segment| *segment == ALL) {
        return None;
    }
    let headlines =
        HEADLINES.iter().map(|&(table, column, name)| (column, name, rows.by_segment(table, now)));
    let headlines: Vec<_> = headlines.filter(|(.., found)| !found.is_empty()).collect();
    let mut header: Vec<String> =
        ["Segment", "Inferences", "Error rate", "Coverage"].map(str::to_owned).into();
    header.extend(headlines.iter().map(|(_, name, _)| format!("{name} (95 % interval, n)")));
    let lines = known.iter().map(|&segment| {
        let [served, covered] = [&serving, &labels].map(|found| found.get(segment).copied());
        let inferences = served.or(covered).map_or(0, |row| row.count("inferences"));
        let mut line = vec![
            words(segment),
            count_cell(inferences),
            served.map_or_else(none, |row| figure_cell(row, "error_rate")),
            covered.map_or_else(none, |row| figure_cell(row, "coverage")),
        ];
        line.extend(headlines.iter().map(|(column, _, found)| {
            let shown = |row| with_interval(figure(row, column), numbers(row, column));
            found.get(segment).copied().map_or_else(none, shown)
        }));
        line
    });
    let grid = Grid::new(header, lines.collect());
    let blocks = vec![Block::Text(format!("{}.", about(now))), Block::Table(grid)];
    Some(Section { title: "Segments", blocks })
}

/// A figure in a table with its interval and the records that it is over, where it has them.
fn with_interval(value: String, figure: Figure) -> Cell {
    let limits = figure.lower.zip(figure.upper);
    let limits = limits.map(|(lower, upper)| format!("{} to {}", number(lower), number(upper)));
    let beside: Vec<String> = limits.into_iter().chain(figure.n.map(count)).collect();
    let text = if beside.is_empty() { value } else { format!("{value} ({})", beside.join(", ")) };
    (text, Some(figure))
}
