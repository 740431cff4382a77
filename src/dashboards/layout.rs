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

/// The charts of one tab, and where they stand on it.
#[derive(Clone, Debug)]
pub struct Tab<'a> {
    /// Its title; none where a dashboard has no tabs, and this is all of it.
    pub title: Option<&'a str>,
    /// Its charts, each with its place.
    pub charts: Vec<(&'a Chart, Place)>,
}

/// The tabs of a dashboard, in order.
pub fn tabs<'a>(charts: &[&'a Chart]) -> Vec<Tab<'a>> {
    let same = |a: &&Chart, b: &&Chart| a.tab == b.tab;
    let of = |charts: &[&'a Chart]| Tab {
        title: charts[0].tab.as_deref(),
        charts: charts.iter().copied().zip(flow(charts)).collect(),
    };
    charts.chunk_by(same).map(of).collect()
}

/// The place of each chart.
fn flow(charts: &[&Chart]) -> Vec<Place> {
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
