//! Markdown, for a pull request or a ticket: charts become tables of their windows.

use std::fmt::Write as _;

use super::text::{count, number, percent};
use super::{Block, Chart, Quantiles, Report, Shares, Spread};
use crate::calendar::time;

/// A longer chart shows its newest windows.
const MOST_WINDOWS: usize = 24;

/// The whole text.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!("# {}\n\n{}.\n", cell(&report.title), cell(&report.source));
    if let Some(overview) = &report.overview {
        write!(text, "\n{}", table(&overview.header, overview.rows.iter().cloned()))
            .expect("a String takes all");
    }
    for model in &report.models {
        write!(text, "\n## {}\n", cell(&model.name())).expect("a String takes all");
        for section in &model.sections {
            write!(text, "\n### {}\n", section.title).expect("a String takes all");
            for one in &section.blocks {
                text.push('\n');
                text.push_str(&block(one));
            }
        }
    }
    text.push_str("\n## Method\n\n");
    for method in &report.methods {
        writeln!(text, "- {method}").expect("a String takes all");
    }
    text
}

fn block(block: &Block) -> String {
    match block {
        // It may name what records name.
        Block::Text(text) => cell(text) + "\n",
        Block::Facts(facts) => {
            let rows = facts.iter().map(|f| vec![f.name.clone(), f.value.clone(), f.note.clone()]);
            table(&["", "", ""].map(str::to_owned), rows)
        }
        Block::Table(grid) => table(&grid.header, grid.rows.iter().cloned()),
        Block::Chart(chart) => of_chart(chart),
        Block::Reliability(bins) => {
            let header = ["Mean score", "Positive", "95 % interval", "n"].map(str::to_owned);
            let rows = bins.iter().map(|bin| {
                let interval = bin.interval.map_or_else(String::new, between);
                vec![number(bin.score), number(bin.rate), interval, count(bin.n)]
            });
            table(&header, rows)
        }
        Block::Spread(spread) => of_spread(spread),
        Block::Shares(shares) => of_shares(shares),
    }
}

fn of_spread(spread: &Spread) -> String {
    let header =
        [&*spread.feature, "1 %", "25 %", "Median", "75 %", "99 %", "n"].map(str::to_owned);
    let line = |(name, of): (&str, &Quantiles)| {
        let values = of.values.iter().map(|value| number(*value));
        [name.to_owned()].into_iter().chain(values).chain([count(of.n)]).collect()
    };
    let sets = [("now", Some(&spread.now)), ("reference", spread.reference.as_ref())];
    table(&header, sets.into_iter().filter_map(|(name, of)| Some(line((name, of?)))))
}

fn of_shares(shares: &Shares) -> String {
    let header = [&*shares.feature, "Share", "95 % interval", "Reference"].map(str::to_owned);
    let rows = shares.categories.iter().map(|one| {
        let interval = one.interval.map_or_else(String::new, |[lower, upper]| {
            format!("{} to {}", percent(lower), percent(upper))
        });
        let reference = one.reference.map_or_else(|| "–".to_owned(), percent);
        vec![one.category.clone(), percent(one.now), interval, reference]
    });
    table(&header, rows)
}

fn of_chart(chart: &Chart) -> String {
    let header = ["Window", &chart.title, "95 % interval", "n"].map(str::to_owned);
    let hidden = chart.points.len().saturating_sub(MOST_WINDOWS);
    let rows = chart.points.iter().skip(hidden).map(|point| {
        let value = point.value.map_or_else(|| "–".to_owned(), number);
        let interval = point.interval.map_or_else(String::new, between);
        vec![time(point.start_ms), value, interval, count(point.n)]
    });
    let mut text = table(&header, rows);
    if hidden > 0 {
        let all = chart.points.len();
        writeln!(text, "\nThe newest {MOST_WINDOWS} of {all} windows.")
            .expect("a String takes all");
    }
    text
}

fn between([lower, upper]: [f64; 2]) -> String {
    format!("{} to {}", number(lower), number(upper))
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = vec!["---".to_owned(); header.len()];
    let rows: String = rows.map(|row| line(&row)).collect();
    line(header) + &line(&rule) + &rows
}

/// Names come from records: none of their signs may end a cell or begin markup.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '\n' | '\r' => cell.push(' '),
            '|' | '<' | '>' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' => {
                cell.push('\\');
                cell.push(sign);
            }
            _ => cell.push(sign),
        }
    }
    cell
}
