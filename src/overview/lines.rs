//! Lines over time on the page of all models. All are over one span, so that what is missing is seen.

use maud::Markup;

use super::address::View;
use crate::report::rows::MOST_POINTS;
use crate::report::{Sparkline, number, sparkline};
use crate::sink::summary::ModelSummary;

/// Start of a window and a value.
type Point = (i64, f64);

/// What all lines of a page have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Start of the first window and end of the last one, in milliseconds since 1970-01-01 UTC.
    span_ms: [i64; 2],
    /// Length of a window; 0 where there are none.
    window_ms: i64,
    now: i64,
}

impl Frame {
    /// The chosen range; of the whole time, that of all rows.
    pub(super) fn new(view: &View, window_ms: i64, now_ms: i64, models: &[ModelSummary]) -> Self {
        let starts = || {
            models.iter().flat_map(|of| {
                let quality = of.quality.iter().flat_map(|quality| &quality.points);
                of.traffic.iter().chain(quality).map(|&(start, _)| start)
            })
        };
        let (first, last) = (starts().min(), starts().max());
        let (from, to) = match view.since_ms(now_ms) {
            Some(since_ms) => (since_ms, view.until_ms.unwrap_or(now_ms)),
            None => (first.unwrap_or(0), last.unwrap_or(0)),
        };
        // Whole windows, those that begin in the future of this clock included.
        let window = window_ms.max(1);
        let from = from.div_euclid(window) * window;
        let to = (to + window - 1).div_euclid(window) * window;
        let to = last.map_or(to, |last| to.max(last + window));
        // Where all lines were cut, what nobody knows of takes no room.
        let known = models.iter().filter(|of| !of.traffic.is_empty());
        let known = known.map(|of| known_from(&of.traffic, from));
        // Labels can come so late that figures of quality are all older than the traffic that is shown.
        let judged = models.iter().filter_map(|of| of.quality.as_ref()?.points.first());
        let judged = judged.map(|&(start, _)| start.max(from));
        let from = known.chain(judged).min().unwrap_or(from);
        Self { span_ms: [from, to], window_ms, now: now_ms }
    }

    /// Inferences by window, of those that have ended: what a running one has so far would look like a collapse.
    pub(super) fn traffic(&self, points: &[Point]) -> Markup {
        let line = self.counted(points);
        let ends = line.first().zip(line.last());
        let windows = ends.map_or(0, |(first, last)| (last.0 - first.0) / self.window_ms + 1);
        let label = said("Inferences", &windows.to_string(), &line, |count| format!("{count:.0}"));
        let runs = [&line[..]];
        let runs = &runs[..usize::from(!line.is_empty())];
        self.draw(&label, runs, true)
    }

    /// A figure of quality by window: where a window has none, nothing is known.
    pub(super) fn quality(&self, name: &str, points: &[Point]) -> Markup {
        let [from, to] = self.span_ms;
        let points = &points[points.partition_point(|&(start, _)| start < from)..];
        let runs = points.chunk_by(|a, b| b.0 - a.0 <= self.window_ms);
        let windows = format!("{} of {}", points.len(), (to - from) / self.window_ms.max(1));
        let label = said(name, &windows, points, number);
        self.draw(&label, &runs.collect::<Vec<_>>(), false)
    }

    fn draw(&self, label: &str, runs: &[&[Point]], from_zero: bool) -> Markup {
        let Self { span_ms, window_ms, .. } = *self;
        sparkline(Sparkline { label, span_ms, window_ms, runs, from_zero })
    }

    /// The corners of the line of inferences: in a window without a row none came.
    fn counted(&self, points: &[Point]) -> Vec<Point> {
        let Self { span_ms: [from, to], window_ms: window, now } = *self;
        let mut line = Vec::new();
        if window <= 0 {
            return line;
        }
        let mut next = known_from(points, from);
        for &(start, count) in points.iter().filter(|(start, _)| start + window <= now) {
            add_none(&mut line, next, start, window);
            line.push((start, count));
            next = start + window;
        }
        // The row of the window that ended last may be on its way.
        let silent_until = now.div_euclid(window) * window - window;
        add_none(&mut line, next, silent_until.min(to), window);
        line
    }
}

/// From where on it is known that a window without a point has no row: of more points than a line has room for only the
/// newest were read.
fn known_from(points: &[Point], from: i64) -> i64 {
    match points.first() {
        Some(&(start, _)) if points.len() >= MOST_POINTS => start.max(from),
        _ => from,
    }
}

/// Windows without inferences: the first and the last of them, between which the line is straight.
fn add_none(line: &mut Vec<Point>, from: i64, until: i64, window: i64) {
    let last = until - window;
    if from <= last {
        line.push((from, 0.0));
    }
    if from < last {
        line.push((last, 0.0));
    }
}

/// A line in words.
fn said(name: &str, windows: &str, points: &[Point], text: fn(f64) -> String) -> String {
    let values = || points.iter().map(|&(_, value)| value);
    let Some(newest) = values().next_back() else { return format!("{name}: no window") };
    let least = text(values().fold(f64::INFINITY, f64::min));
    let greatest = text(values().fold(f64::NEG_INFINITY, f64::max));
    format!("{name} in {windows} windows: {least} to {greatest}, newest {}", text(newest))
}
