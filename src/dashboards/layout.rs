//! Where charts stand: from left to right in the order of their names, and below when a row is full.

use super::chart::Chart;

/// A place on a page of twelve columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which row of charts, from 0.
    pub row: usize,
    /// Columns to the left.
    pub x: u32,
    /// Rows of 30 pixels above.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows of 30 pixels: those of the row's highest chart.
    pub height: u32,
}

/// The place of each chart.
pub fn flow(charts: &[&Chart]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let (mut row, mut first, mut x, mut y) = (0, 0, 0, 0);
    for chart in charts {
        if x + chart.width > 12 {
            y += level(&mut places[first..]);
            (row, first, x) = (row + 1, places.len(), 0);
        }
        places.push(Place { row, x, y, width: chart.width, height: chart.height });
        x += chart.width;
    }
    level(&mut places[first..]);
    places
}

/// Gives all places of a row the height of the highest.
fn level(row: &mut [Place]) -> u32 {
    let height = row.iter().map(|place| place.height).max().unwrap_or(0);
    for place in row {
        place.height = height;
    }
    height
}
