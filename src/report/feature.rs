//! One feature, or the score, of one model: how it drifts and what its values are.

use std::collections::BTreeSet;

use super::rows::{ModelRows, References, Row, chart_grain};
use super::sections::{chart_of, compared, comparisons, drawn, fact, verdict, verdicts_now};
use super::spread::{EXPLAINED, shares, spread};
use super::text::{about, count, figure_cell, words};
use super::{Block, Fact, Figure, Point, Section};
use crate::engine::state::ALL;

/// Each feature, and whatever else is compared with the reference, with its verdict, the worst first.
pub(crate) fn verdicts(rows: &[Row], model: &str, version: &str) -> Vec<(String, String)> {
    let grain = chart_grain(rows);
    let none = References::default();
    let of_model = rows.iter().filter(|row| row.model == model && row.version == version);
    let of = ModelRows::new(of_model.collect(), &grain, &none);
    let named = |row: &Row| (compared(row), verdict(row));
    let mut found: Vec<_> = verdicts_now(&of).into_iter().map(named).collect();
    let judged: BTreeSet<String> = found.iter().map(|(name, _)| name.clone()).collect();
    for row in of.now("data_quality").into_iter().filter(|row| row.segment == ALL) {
        if !judged.contains(row.text("feature")) {
            found.push((row.text("feature").to_owned(), String::new()));
        }
    }
    found
}

/// What is known of one feature of one model: rows of `drift`, `data_quality` and `categories` of one grain, of that
/// feature only, by time.
pub(crate) fn of_feature(rows: &[Row], references: &References) -> Vec<Section> {
    let of = |table: &str| -> Vec<&Row> { rows.iter().filter(|row| row.table == table).collect() };
    let (drift, quality) = (of("drift"), of("data_quality"));
    let drawn = quality.last().and_then(|row| {
        spread(row, drift.last().copied(), references)
            .map(Block::Spread)
            .or_else(|| shares(&of("categories"), row.text("feature")).map(Block::Shares))
    });
    [drifted(&drift), distribution(&quality, drawn), missing(&quality)]
        .into_iter()
        .flatten()
        .collect()
}

fn drifted(rows: &[&Row]) -> Option<Section> {
    let newest = rows.iter().map(|row| row.start_ms).max()?;
    let now: Vec<&Row> = rows.iter().copied().filter(|row| row.start_ms == newest).collect();
    let grid = comparisons(&now, ["Method", "Value"], |row| {
        let main = if row.count("is_primary") > 0 { " (main)" } else { "" };
        [words(format!("{}{main}", row.text("method"))), figure_cell(row, "value")]
    });
    let reference = now[0].text("reference_id");
    let mut blocks = vec![
        Block::Text(format!("{}, against reference {reference}.", about(now[0]))),
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
    let mut blocks = vec![Block::Facts(facts.into())];
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
