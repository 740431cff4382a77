//! What a report shows of a model: one function for each section, in the order of the report.

use super::rows::{ModelRows, Row};
use super::text::{count, figure, interval, number, percent, time};
use super::{Bin, Block, Chart, Fact, Grid, ModelReport, Point, Section};
use crate::engine::state::ALL;

const SUMMARY: &str = "Summary";
/// Below so many labelled records a figure says little.
const FEW: u64 = 100;

/// The sections; one that has nothing to show is left out.
const SECTIONS: &[fn(&ModelRows<'_>) -> Option<Section>] =
    &[summary, binary, regression, calibration, labels, serving, segments];

/// All that have something to show.
pub(super) fn all(rows: &ModelRows<'_>) -> Vec<Section> {
    SECTIONS.iter().filter_map(|section| section(rows)).collect()
}

/// How the figures are made.
pub(super) const METHODS: &[&str] = &[
    "Every figure is computed from the merged records of its window, never as an average of finer windows' figures. \
     Windows are aligned to 1970-01-01 UTC; a record belongs to the window of its inference's event time.",
    "Quality is that of the labelled inferences (n) only. Where labels come for some decisions more often than for \
     others (see label coverage), it does not describe the rest.",
    "Intervals cover 95 %: Wilson for shares (accuracy, precision, recall, coverage), DeLong for AUROC, normal for \
     means (Brier score, log loss, errors). They treat records as independent. Bands in charts are these intervals.",
    "Calibration compares the mean score of each tenth of the scores with the share of positive labels in it. ECE is \
     the mean distance, biased upward for few records.",
    "A figure that is not defined is shown as –, with the reason, never as 0.",
];

/// The quality figures that stand for each kind of model: table, column, name.
const HEADLINES: &[(&str, &str, &str)] = &[
    ("quality_binary", "auroc", "AUROC"),
    ("quality_binary", "accuracy", "Accuracy"),
    ("quality_regression", "mae", "Mean absolute error"),
    ("quality_regression", "rmse", "Root mean squared error"),
];

fn fact(row: &Row, column: &str, name: &str) -> Fact {
    Fact { name: name.to_owned(), value: figure(row, column), note: interval(row, column) }
}

fn plain(name: &str, value: String, note: String) -> Fact {
    Fact { name: name.to_owned(), value, note }
}

fn summary(rows: &ModelRows<'_>) -> Option<Section> {
    let serving: Vec<&Row> = rows.over_time("serving").collect();
    let (first, last) = (serving.first()?, serving.last()?);
    let sum = |column: &str| serving.iter().map(|row| row.count(column)).sum::<u64>();
    let (inferences, errors) = (sum("inferences"), sum("errors"));
    let labelled: u64 = rows.over_time("labels").map(|row| row.count("labelled")).sum();
    let mut facts = vec![
        plain(
            "Inferences",
            count(inferences),
            format!("{} to {} UTC", time(first.start_ms), time(last.end_ms)),
        ),
        plain("Labelled", count(labelled), format!("coverage {}", share(labelled, inferences))),
        plain("Errors", count(errors), format!("rate {}", share(errors, inferences))),
    ];
    let mut n = None;
    for &(table, column, name) in HEADLINES {
        if let Some(row) = rows.now_all(table) {
            facts.push(fact(row, column, name));
            n = Some(row.count("n"));
        }
    }
    if let Some(row) = rows.now_all("calibration") {
        facts.push(fact(row, "calibration_bias", "Calibration bias"));
    }
    let mut blocks = vec![Block::Facts(facts)];
    blocks.extend(verdicts(rows, labelled, n).into_iter().map(Block::Text));
    Some(Section { title: SUMMARY, blocks })
}

/// The summaries of several models in one table.
pub(super) fn overview(models: &[ModelReport]) -> Grid {
    let facts = |model: &ModelReport| -> Vec<Fact> {
        let blocks = model.sections.iter().filter(|section| section.title == SUMMARY);
        let blocks = blocks.flat_map(|section| &section.blocks);
        let facts = blocks.filter_map(|block| match block {
            Block::Facts(facts) => Some(facts.clone()),
            Block::Text(_) | Block::Table(_) | Block::Chart(_) | Block::Reliability(_) => None,
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
    let row = |(model, facts): (&ModelReport, &Vec<Fact>)| {
        let value = |name: &String| facts.iter().find(|fact| fact.name == *name);
        let cell = |name| value(name).map_or_else(|| "–".to_owned(), |fact| fact.value.clone());
        std::iter::once(model.name()).chain(header.iter().skip(1).map(cell)).collect()
    };
    let rows = models.iter().zip(&facts).map(row).collect();
    Grid { header, rows }
}

/// What a reader has to know before he trusts the figures.
fn verdicts(rows: &ModelRows<'_>, labelled: u64, n: Option<u64>) -> Vec<String> {
    let mut texts = Vec::new();
    if labelled == 0 {
        texts.push("No inference has a label, so nothing is said about quality.".to_owned());
    } else if let Some(n) = n.filter(|&n| n < FEW) {
        texts.push(format!(
            "Quality rests on {n} labelled records: see how wide its intervals are."
        ));
    }
    if let Some(row) = rows.now_all("calibration")
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

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// A figure of a table over time; none where no window has it.
fn chart(rows: &ModelRows<'_>, table: &str, column: &str, title: &str, n: &str) -> Option<Block> {
    let points: Vec<Point> = rows
        .over_time(table)
        .map(|row| Point {
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            value: row.figure(column),
            interval: row.interval(column),
            n: row.count(n),
        })
        .collect();
    points.iter().any(|point| point.value.is_some()).then(|| {
        let span_ms = [points[0].start_ms, points[points.len() - 1].end_ms];
        Block::Chart(Chart { title: title.to_owned(), span_ms, points })
    })
}

fn binary(rows: &ModelRows<'_>) -> Option<Section> {
    let table = "quality_binary";
    let now = rows.now_all(table)?;
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
    let mut blocks = vec![
        Block::Text(format!("{}, n = {}.", about(now), count(now.count("n")))),
        Block::Facts(facts.map(|(column, name)| fact(now, column, name)).into()),
        Block::Table(confusion(now)),
    ];
    let charts = [("auroc", "AUROC", "n_scored"), ("accuracy", "Accuracy", "n")];
    let more =
        [("precision", "Precision", "predicted_positive"), ("recall", "Recall", "positives")];
    let charts = charts.into_iter().chain(more);
    blocks.extend(charts.filter_map(|(column, name, n)| chart(rows, table, column, name, n)));
    Some(Section { title: "Quality", blocks })
}

fn confusion(row: &Row) -> Grid {
    let cell = |column: &str| count(row.count(column));
    let texts = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
    Grid {
        header: texts(["", "Labelled positive", "Labelled negative"]),
        rows: vec![
            vec!["Decided positive".to_owned(), cell("tp"), cell("fp")],
            vec!["Decided negative".to_owned(), cell("fn"), cell("tn")],
        ],
    }
}

fn regression(rows: &ModelRows<'_>) -> Option<Section> {
    let table = "quality_regression";
    let now = rows.now_all(table)?;
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
    let mut blocks = vec![
        Block::Text(format!("{}, n = {}.", about(now), count(now.count("n")))),
        Block::Facts(facts.map(|(column, name)| fact(now, column, name)).into()),
    ];
    let charts = [("mae", "Mean absolute error"), ("mean_error", "Mean error"), ("rmse", "RMSE")];
    blocks.extend(charts.iter().filter_map(|(column, name)| chart(rows, table, column, name, "n")));
    Some(Section { title: "Quality", blocks })
}

fn calibration(rows: &ModelRows<'_>) -> Option<Section> {
    let now = rows.now_all("calibration")?;
    let bins = rows.now("calibration_bins").into_iter().filter(|row| row.segment == ALL);
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
        Block::Text(format!("{}, n = {}.", about(now), count(now.count("n_scored")))),
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
        facts.push(plain(name, count(now.count(column)), String::new()));
    }
    let mut blocks = vec![Block::Text(format!("{}.", about(now))), Block::Facts(facts)];
    blocks.extend(chart(rows, "labels", "coverage", "Coverage", "inferences"));
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
        ("inferences", "Inferences", "inferences"),
        ("error_rate", "Error rate", "inferences"),
        ("latency_p99_ms", "99 % quantile of latency, ms", "latency_n"),
    ];
    let charts =
        charts.iter().filter_map(|(column, name, n)| chart(rows, "serving", column, name, n));
    blocks.extend(charts);
    Some(Section { title: "Service", blocks })
}

fn segments(rows: &ModelRows<'_>) -> Option<Section> {
    let of =
        |table: &str, segment: &str| rows.now(table).into_iter().find(|row| row.segment == segment);
    let known = rows.now("serving");
    if known.iter().all(|row| row.segment == ALL) {
        return None;
    }
    let shown: Vec<_> =
        HEADLINES.iter().filter(|(table, _, _)| !rows.now(table).is_empty()).collect();
    let mut header: Vec<String> =
        ["Segment", "Inferences", "Error rate", "Coverage"].map(str::to_owned).into();
    header.extend(shown.iter().map(|(_, _, name)| format!("{name} (95 % interval, n)")));
    let lines = known.iter().map(|row| {
        let coverage = of("labels", &row.segment);
        let mut line = vec![
            row.segment.clone(),
            count(row.count("inferences")),
            figure(row, "error_rate"),
            coverage.map_or_else(|| "–".to_owned(), |row| figure(row, "coverage")),
        ];
        line.extend(shown.iter().map(|(table, column, _)| {
            of(table, &row.segment).map_or_else(|| "–".to_owned(), |row| with_interval(row, column))
        }));
        line
    });
    let grid = Grid { rows: lines.collect(), header };
    Some(Section { title: "Segments", blocks: vec![Block::Table(grid)] })
}

fn with_interval(row: &Row, column: &str) -> String {
    let limits = row.interval(column).map_or_else(String::new, |[lower, upper]| {
        format!("{} to {}, ", number(lower), number(upper))
    });
    format!("{} ({limits}{})", figure(row, column), count(row.count("n")))
}

/// Which time a row covers.
fn about(row: &Row) -> String {
    format!("{} to {} UTC", time(row.start_ms), time(row.end_ms))
}
