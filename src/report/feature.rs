//! One feature, or the score, of one model: how it drifts and what its values are.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{ModelRows, References, Row, chart_grain};
use super::sections::{chart_of, comparisons, drawn, fact, is_main, judged, verdict, worst_first};
use super::spread::{EXPLAINED, shares, spread};
use super::text::{FEATURE, about, count, figure_cell, words};
use super::{Block, Fact, Figure, Point, Section};
use crate::engine::state::ALL;

/// What is said of one feature, or of whatever else is compared with the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `feature`, or `score`, `prediction`, `label`.
    pub(crate) kind: String,
    /// The feature, or the kind.
    pub(crate) name: String,
    /// Empty where it is not compared.
    pub(crate) word: String,
    /// The window that the verdict is of, in milliseconds since 1970-01-01 UTC.
    pub(crate) window_ms: Option<[i64; 2]>,
}

/// Each feature with its verdict, the worst first: the one that its own page begins with.
pub(crate) fn verdicts(rows: &[Row], model: &str, version: &str) -> Vec<Verdict> {
    let grain = chart_grain(rows);
    let none = References::default();
    let of_model = rows.iter().filter(|row| row.model == model && row.version == version);
    let of = ModelRows::new(of_model.collect(), &grain, &none);
    let mut compared_ones: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in of.over_time("drift").filter(|row| is_main(row)) {
        compared_ones.entry((row.text("kind"), row.text("feature"))).or_default().push(row);
    }
    let newest = compared_ones.values().filter_map(|of_one| {
        let start = shown_window(of_one)?;
        of_one.iter().copied().find(|row| row.start_ms == start)
    });
    let mut newest: Vec<&Row> = newest.collect();
    worst_first(&mut newest);
    let named = |row: &Row| {
        let kind = row.text("kind");
        let name = if kind == FEATURE { row.text("feature") } else { kind };
        Verdict {
            kind: kind.to_owned(),
            name: name.to_owned(),
            word: verdict(row),
            window_ms: Some([row.start_ms, row.end_ms]),
        }
    };
    let mut found: Vec<Verdict> = newest.into_iter().map(named).collect();
    let features = found.iter().filter(|one| one.kind == FEATURE);
    let known: BTreeSet<String> = features.map(|one| one.name.clone()).collect();
    for row in of.now("data_quality").into_iter().filter(|row| row.segment == ALL) {
        if !known.contains(row.text("feature")) {
            let [kind, name] = [FEATURE, row.text("feature")].map(str::to_owned);
            found.push(Verdict { kind, name, word: String::new(), window_ms: None });
        }
    }
    found
}

/// The start of the window whose comparisons of one feature are shown: the newest with a verdict, else the newest.
fn shown_window(rows: &[&Row]) -> Option<i64> {
    let newest = rows.iter().map(|row| row.start_ms).max();
    judged(rows.iter().copied()).or(newest)
}

/// What is known of one feature of one model: rows of `drift`, `data_quality` and `categories` of one grain, of that
/// feature only, by time; or of the score, and the like, rows of `drift` of its kind only.
pub(crate) fn of_feature(rows: &[Row], references: &References) -> Vec<Section> {
    let of = |table: &str| -> Vec<&Row> { rows.iter().filter(|row| row.table == table).collect() };
    let (drift, quality) = (of("drift"), of("data_quality"));
    let drawn = quality.last().and_then(|row| {
        spread(row, drift.last().copied(), references)
            .map(Block::Spread)
            .or_else(|| shares(of("categories").into_iter(), row).map(Block::Shares))
    });
    [drifted(&drift), distribution(&quality, drawn), missing(&quality)]
        .into_iter()
        .flatten()
        .collect()
}

fn drifted(rows: &[&Row]) -> Option<Section> {
    let shown = shown_window(rows)?;
    let now: Vec<&Row> = rows.iter().copied().filter(|row| row.start_ms == shown).collect();
    let grid = comparisons(&now, ["Method", "Value"], |row| {
        let main = if row.count("is_primary") > 0 { " (main)" } else { "" };
        [words(format!("{}{main}", row.text("method"))), figure_cell(row, "value")]
    });
    let reference = now[0].text("reference_id");
    let newer = rows.iter().any(|row| row.start_ms > shown);
    let newer = if newer { " Newer windows have too few records for a verdict." } else { "" };
    let mut blocks = vec![
        Block::Text(format!("{}, against reference {reference}.{newer}", about(now[0]))),
        Block::Table(grid),
    ];
    for row in &now {
        let method = row.text("method");
        let of_method = rows.iter().copied().filter(|row| row.text("method") == method);
        blocks.extend(chart_of(of_method, "value", &format!("Drift by {method}")));
    }
    Some(Section { title: "Drift", blocks })
}

fn distribution(rows: &[&Row], spread: Option<Block>) -> Option<Section> {
    let now = rows.last()?;
    let facts = [
        ("min", "Least"),
        ("p01", "1 % quantile"),
        ("p25", "25 % quantile"),
        ("p50", "Median"),
        ("p75", "75 % quantile"),
        ("p99", "99 % quantile"),
        ("max", "Greatest"),
        ("mean", "Mean"),
        ("sd", "Standard deviation"),
        ("distinct", "Distinct values"),
    ];
    let known = facts.iter().filter(|(column, _)| now.figure(column).is_some());
    let mut facts: Vec<Fact> = known.map(|(column, name)| fact(now, column, name)).collect();
    if !now.text("top_category").is_empty() {
        facts.push(Fact {
            name: "Most frequent text".to_owned(),
            value: now.text("top_category").to_owned(),
            note: format!(
                "{} of {}",
                count(now.count("top_category_n")),
                count(now.count("values"))
            ),
            figure: Figure::default(),
        });
    }
    let middle = |row: &&Row| Point {
        start_ms: row.start_ms,
        end_ms: row.end_ms,
        value: row.figure("p50"),
        interval: row.figure("p25").zip(row.figure("p75")).map(|(lower, upper)| [lower, upper]),
        n: row.count("values"),
    };
    let title = "Median, with the middle half of the values as a band";
    let mut blocks = vec![Block::Text(format!("{}.", about(now))), Block::Facts(facts)];
    if let Some(spread) = spread {
        blocks.extend([Block::Text(EXPLAINED.to_owned()), spread]);
    }
    blocks.extend(drawn(title, rows.iter().map(middle).collect()));
    Some(Section { title: "Values", blocks })
}

fn missing(rows: &[&Row]) -> Option<Section> {
    let now = rows.last()?;
    let facts = [
        ("missing_rate", "Missing"),
        ("type_error_rate", "Of another type"),
        ("out_of_range_rate", "Out of range"),
        ("new_categories", "New categories"),
    ];
    let facts = facts.map(|(column, name)| fact(now, column, name));
    let mut blocks = vec![Block::Text(format!("{}.", about(now))), Block::Facts(facts.into())];
    let charts = [
        ("missing_rate", "Missing rate"),
        ("out_of_range_rate", "Out-of-range rate"),
        ("new_categories", "New categories"),
    ];
    for (column, title) in charts {
        blocks.extend(chart_of(rows.iter().copied(), column, title));
    }
    Some(Section { title: "Data quality", blocks })
}
