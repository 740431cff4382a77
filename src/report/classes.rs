//! How well a model that decides between several classes knows each of them, and which it takes for which.

use super::rows::{ModelRows, Row};
use super::text::{count_cell, figure_cell, words};
use super::{Block, Cell, Grid};
use crate::engine::state::ALL;

/// Classes in the table, and in the matrix, which is as wide as it is long.
const MOST: usize = 20;
const MOST_IN_MATRIX: usize = 10;

/// A table of the classes with most labels and a matrix of them, of the window of this row; neither where the rows of
/// classes were not read.
pub(super) fn by_class(rows: &ModelRows<'_>, now: &Row) -> Vec<Block> {
    let of = |table: &'static str| rows.beside(table, now).filter(|row| row.segment == ALL);
    let mut classes: Vec<&Row> = of("quality_classes").collect();
    classes.sort_by(|a, b| {
        let support = b.count("support").cmp(&a.count("support"));
        support.then_with(|| a.text("class").cmp(b.text("class")))
    });
    if classes.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![Block::Table(table(&classes))];
    if let Some(more @ 1..) = classes.len().checked_sub(MOST) {
        blocks.push(Block::Text(format!(
            "The {MOST} classes with most labels; there are {more} more."
        )));
    }
    let names: Vec<&str> = classes.iter().map(|row| row.text("class")).collect();
    let cells: Vec<&Row> = of("confusion").collect();
    blocks.extend((!cells.is_empty()).then(|| Block::Table(matrix(&names, &cells))));
    blocks
}

fn table(classes: &[&Row]) -> Grid {
    let header = ["Class", "Labelled", "Predicted", "Precision", "Recall", "F1", "AUROC"];
    let line = |row: &&Row| {
        let figures = ["precision", "recall", "f1", "auroc"].map(|column| figure_cell(row, column));
        let counts = ["support", "predicted"].map(|column| count_cell(row.count(column)));
        [words(row.text("class"))].into_iter().chain(counts).chain(figures).collect()
    };
    Grid::new(header.map(str::to_owned).into(), classes.iter().take(MOST).map(line).collect())
}

/// Counts by true class, line by line, and predicted class; all classes but the first ones are one, so that it adds up.
fn matrix(classes: &[&str], cells: &[&Row]) -> Grid {
    let shown = &classes[..classes.len().min(MOST_IN_MATRIX)];
    let has_others = classes.len() > shown.len();
    let width = shown.len() + usize::from(has_others);
    let place = |class: &str| shown.iter().position(|known| *known == class).unwrap_or(width - 1);
    let mut counts = vec![vec![0_u64; width]; width];
    for cell in cells {
        let [line, column] = ["true_class", "predicted_class"].map(|name| place(cell.text(name)));
        counts[line][column] += cell.count("n");
    }
    let named = |what: &str| -> Vec<String> {
        let names = shown.iter().map(|class| format!("{what} {class}"));
        names.chain(has_others.then(|| format!("{what} others"))).collect()
    };
    let header = [String::new()].into_iter().chain(named("Predicted")).collect();
    let lines = named("Labelled").into_iter().zip(counts).map(|(name, counts)| {
        [words(name)].into_iter().chain(counts.into_iter().map(count_cell)).collect::<Vec<Cell>>()
    });
    Grid::new(header, lines.collect())
}
