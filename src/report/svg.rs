//! Charts as inline SVG. Colours come from the page's style, so that they follow light and dark.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::text::{count, number, percent};
use super::{Bin, CategoryShare, Chart, Point, Shares, Spread};
use crate::calendar::time;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// Lines across a chart.
const TICKS: f64 = 4.0;
const SQUARE: f64 = 280.0;

/// From figures to places.
struct Scale {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        self.low + share * (self.high - self.low)
    }
}

/// A figure over time with its intervals as a band.
pub(super) fn chart(chart: &Chart) -> Markup {
    let [step, bottom, top] = ticks(&chart.points);
    let y = Scale { from: bottom, to: top, low: HEIGHT - BOTTOM, high: TOP };
    let [from, to] = chart.span_ms.map(as_f64);
    let x = Scale { from, to, low: LEFT, high: WIDTH - RIGHT };
    let middle = |point: &Point| x.at(f64::midpoint(as_f64(point.start_ms), as_f64(point.end_ms)));
    let runs = runs(&chart.points);
    html! {
        figure {
            figcaption { (chart.title) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(describe(chart)) {
                @for tick in lines(bottom, top, step) {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(place(y.at(tick))) y2=(place(y.at(tick))) {}
                    text x=(LEFT - 6.0) y=(place(y.at(tick) + 4.0)) text-anchor="end" { (number(tick)) }
                }
                text x=(LEFT) y=(HEIGHT - 6.0) { (time(chart.span_ms[0])) }
                text x=(WIDTH - RIGHT) y=(HEIGHT - 6.0) text-anchor="end" { (time(chart.span_ms[1])) }
                @for run in &runs {
                    @for part in run.chunk_by(|a, b| a.interval.is_some() && b.interval.is_some()) {
                        (band(part, &middle, &y))
                    }
                    path.line d=(line(run, &middle, &y)) {}
                }
                @for point in chart.points.iter().filter(|point| point.value.is_some()) {
                    circle.point cx=(place(middle(point))) cy=(place(y.at(point.value.unwrap_or(0.0)))) r="2.5" {
                        title { (hint(point)) }
                    }
                }
            }
        }
    }
}

/// A small line without axes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sparkline<'a> {
    /// It in words.
    pub(crate) label: &'a str,
    /// Start of the first window and end of the last one that it may show, in milliseconds since 1970-01-01 UTC.
    pub(crate) span_ms: [i64; 2],
    /// Length of a window.
    pub(crate) window_ms: i64,
    /// Starts of windows and values, by time; between two runs nothing is known.
    pub(crate) runs: &'a [&'a [(i64, f64)]],
    /// Whether it stands on 0.
    pub(crate) from_zero: bool,
}

/// Draws it over its span: what is missing at its ends stays empty, and it breaks between runs. A run of one window is
/// a dot.
pub(crate) fn sparkline(of: Sparkline<'_>) -> Markup {
    let values = || of.runs.iter().copied().flatten().map(|&(_, value)| value);
    let least = if of.from_zero { 0.0 } else { values().fold(f64::INFINITY, f64::min) };
    let greatest = values().fold(f64::NEG_INFINITY, f64::max).max(least);
    // What does not change is drawn in the middle, what is always 0 below.
    let more = if greatest > least { 0.0 } else { 1.0 };
    let less = if of.from_zero { 0.0 } else { more };
    let y = Scale { from: least - less, to: greatest + more, low: 26.0, high: 3.0 };
    let [from, to] = of.span_ms.map(as_f64);
    let x = Scale { from, to, low: 3.0, high: 117.0 };
    let middle = |start: i64| x.at(as_f64(start) + as_f64(of.window_ms) / 2.0);
    let at = |&(start, value): &(i64, f64)| (middle(start), y.at(value));
    let newest = of.runs.last().and_then(|run| run.last());
    html! {
        svg.spark viewBox="0 0 120 29" role="img" aria-label=(of.label) {
            @for run in of.runs {
                @match run {
                    [only] => (dot(at(only), "1.5")),
                    _ => path.line d=(path(run.iter().map(at), 'M')) {}
                }
            }
            @if let Some(newest) = newest { (dot(at(newest), "2.5")) }
        }
    }
}

fn dot((x, y): (f64, f64), radius: &str) -> Markup {
    html! { circle.point cx=(place(x)) cy=(place(y)) r=(radius) {} }
}

/// What scores promise against what labels say.
pub(super) fn reliability(bins: &[Bin]) -> Markup {
    let x = Scale { from: 0.0, to: 1.0, low: LEFT, high: SQUARE - RIGHT };
    let y = Scale { from: 0.0, to: 1.0, low: SQUARE - BOTTOM - 12.0, high: TOP };
    html! {
        figure.square {
            figcaption { "Reliability: share of positive labels by mean score" }
            svg viewBox=(format!("0 0 {SQUARE} {SQUARE}")) role="img" aria-label="Reliability diagram" {
                line.grid x1=(place(x.at(0.0))) y1=(place(y.at(0.0))) x2=(place(x.at(1.0))) y2=(place(y.at(1.0))) {}
                @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    text x=(place(x.at(tick))) y=(SQUARE - 18.0) text-anchor="middle" { (tick) }
                    text x=(LEFT - 6.0) y=(place(y.at(tick) + 4.0)) text-anchor="end" { (tick) }
                }
                text x=(place(x.at(0.5))) y=(SQUARE - 4.0) text-anchor="middle" { "mean score" }
                @for bin in bins {
                    @if let Some([lower, upper]) = bin.interval {
                        line.bar x1=(place(x.at(bin.score))) x2=(place(x.at(bin.score)))
                            y1=(place(y.at(lower))) y2=(place(y.at(upper))) {}
                    }
                    circle.point cx=(place(x.at(bin.score))) cy=(place(y.at(bin.rate))) r="4" {
                        title { "score " (number(bin.score)) ", positive " (number(bin.rate)) ", n = " (count(bin.n)) }
                    }
                }
            }
        }
    }
}

/// Quantiles as boxes: those of the window above those of the reference.
pub(super) fn spread(spread: &Spread) -> Markup {
    let sets = [("now", "", Some(&spread.now)), ("reference", " then", spread.reference.as_ref())];
    let sets: Vec<_> =
        sets.into_iter().filter_map(|(name, class, of)| Some((name, class, of?))).collect();
    let [least, greatest] = [0, 4].map(|end| {
        let ends = sets.iter().map(|(_, _, of)| of.values[end]);
        if end == 0 {
            ends.fold(f64::INFINITY, f64::min)
        } else {
            ends.fold(f64::NEG_INFINITY, f64::max)
        }
    });
    // What does not differ is drawn in the middle.
    let more = if greatest > least { 0.0 } else { 1.0 };
    let x =
        Scale { from: least - more, to: greatest + more, low: LEFT + 16.0, high: WIDTH - RIGHT };
    let words = sets.iter().map(|(name, _, of)| {
        let [low, _, middle, _, high] = of.values.map(number);
        format!("{name}: median {middle}, from {low} to {high}, n = {}", count(of.n))
    });
    let words = format!("{}, {}", spread.feature, words.collect::<Vec<_>>().join("; "));
    let rows = [16.0, 44.0];
    html! {
        figure {
            figcaption { (spread.feature) }
            svg viewBox=(format!("0 0 {WIDTH} 76")) role="img" aria-label=(words) {
                title { (words) }
                @for ((name, class, of), y) in sets.iter().zip(rows) {
                    @let [p01, p25, p50, p75, p99] = of.values.map(|value| x.at(value));
                    text x=(LEFT + 8.0) y=(y + 4.0) text-anchor="end" { (name) }
                    line class=(format!("bar{class}")) x1=(place(p01)) x2=(place(p99)) y1=(y) y2=(y) {}
                    rect class=(format!("box{class}")) x=(place(p25)) y=(y - 9.0) width=(place(p75 - p25)) height="18" {}
                    line class=(format!("bar{class}")) x1=(place(p50)) x2=(place(p50)) y1=(y - 9.0) y2=(y + 9.0) {}
                }
                text x=(LEFT + 16.0) y="72" { (number(least)) }
                text x=(WIDTH - RIGHT) y="72" text-anchor="end" { (number(greatest)) }
            }
        }
    }
}

/// Shares of categories as bars: that of the window above that of the reference.
pub(super) fn shares(shares: &Shares) -> Markup {
    const LINE: u32 = 26;
    const NAMES: f64 = 150.0;
    let greatest = shares.categories.iter().flat_map(|one| [one.now, one.reference.unwrap_or(0.0)]);
    let greatest = greatest.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let x = Scale { from: 0.0, to: greatest, low: NAMES, high: WIDTH - RIGHT - 120.0 };
    let said = |one: &CategoryShare| match one.reference {
        Some(reference) => format!("{}, reference {}", percent(one.now), percent(reference)),
        None => percent(one.now),
    };
    let words = shares.categories.iter().map(|one| format!("{}: {}", one.category, said(one)));
    let words = words.collect::<Vec<_>>().join("; ");
    let words = format!("{}, n = {}; {words}", shares.feature, count(shares.n));
    let places = (0..).map(|line: u32| f64::from(line * LINE) + 4.0);
    let height = places.clone().nth(shares.categories.len()).unwrap_or_default();
    html! {
        figure {
            figcaption { (shares.feature) }
            svg viewBox=(format!("0 0 {WIDTH} {}", place(height))) role="img" aria-label=(words) {
                title { (words) }
                @for (one, y) in shares.categories.iter().zip(places) {
                    text x=(NAMES - 8.0) y=(y + 14.0) text-anchor="end" { (shortened(&one.category)) }
                    rect class="share" x=(NAMES) y=(y) width=(place(x.at(one.now) - NAMES)) height="9" {}
                    @if let Some(reference) = one.reference {
                        rect class="share then" x=(NAMES) y=(y + 10.0) width=(place(x.at(reference) - NAMES)) height="9" {}
                    }
                    text x=(WIDTH - RIGHT) y=(y + 14.0) text-anchor="end" { (said(one).replace(", reference ", " / ")) }
                }
            }
        }
    }
}

/// As much of a name as there is room for.
fn shortened(name: &str) -> String {
    const MOST: usize = 20;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a place on the screen")]
fn as_f64(ms: i64) -> f64 {
    ms as f64
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

fn hint(point: &Point) -> String {
    let mut text = format!("{} UTC: ", time(point.start_ms));
    text.push_str(&point.value.map_or_else(String::new, number));
    if let Some([lower, upper]) = point.interval {
        write!(text, " ({} to {})", number(lower), number(upper)).expect("a String takes all");
    }
    write!(text, ", n = {}", count(point.n)).expect("a String takes all");
    text
}

/// The chart in words, for those who do not see it.
fn describe(chart: &Chart) -> String {
    let values: Vec<f64> = chart.points.iter().filter_map(|point| point.value).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let newest = values.last().copied().unwrap_or(f64::NAN);
    format!("{}: {} to {}, newest {}", chart.title, number(least), number(greatest), number(newest))
}

/// Step, least and greatest of round numbers around the values and their intervals.
fn ticks(points: &[Point]) -> [f64; 3] {
    let all = points.iter().filter_map(|point| Some((point.value?, point.interval)));
    let ends = all.flat_map(|(value, interval)| {
        let [lower, upper] = interval.unwrap_or([value; 2]);
        [value, lower, upper]
    });
    let (least, greatest) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let span = (greatest - least).max(greatest.abs() * 1e-3).max(1e-9);
    let power = 10_f64.powf((span / TICKS).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|of| of * power);
    let step = step.into_iter().find(|step| step * TICKS >= span).unwrap_or(10.0 * power);
    let bottom = (least / step).floor() * step;
    [step, bottom, ((greatest / step).ceil() * step).max(bottom + step)]
}

fn lines(bottom: f64, top: f64, step: f64) -> impl Iterator<Item = f64> {
    let at = move |i: u32| bottom + f64::from(i) * step;
    (0..=10).map(at).take_while(move |&tick| tick <= top + step / 2.0)
}

/// Windows one after the other that have a value: a line breaks where there is none.
fn runs(points: &[Point]) -> Vec<&[Point]> {
    let runs =
        points.chunk_by(|a, b| a.value.is_some() && b.value.is_some() && a.end_ms == b.start_ms);
    runs.filter(|run| run.iter().all(|point| point.value.is_some())).collect()
}

fn line(run: &[Point], x: &impl Fn(&Point) -> f64, y: &Scale) -> String {
    let places = run.iter().map(|point| (x(point), y.at(point.value.unwrap_or(0.0))));
    path(places, 'M')
}

/// The intervals of windows one after the other. That of a window which stands alone is a bar: a band of it would have
/// no width.
fn band(run: &[Point], x: &impl Fn(&Point) -> f64, y: &Scale) -> Markup {
    let with = |point: &Point, end: usize| Some((x(point), y.at(point.interval?[end])));
    let upper: Vec<_> = run.iter().filter_map(|point| with(point, 1)).collect();
    let lower: Vec<_> = run.iter().rev().filter_map(|point| with(point, 0)).collect();
    match (&upper[..], &lower[..]) {
        ([], _) => html! {},
        (&[(x, top)], &[(_, bottom)]) => html! {
            line.bar x1=(place(x)) x2=(place(x)) y1=(place(bottom)) y2=(place(top)) {}
        },
        _ => html! { path.band d=(path(upper.into_iter().chain(lower), 'M') + "Z") {} },
    }
}

fn path(places: impl Iterator<Item = (f64, f64)>, first: char) -> String {
    let mut text = String::new();
    for (i, (x, y)) in places.enumerate() {
        let sign = if i == 0 { first } else { 'L' };
        write!(text, "{sign}{x:.1} {y:.1}").expect("a String takes all");
    }
    text
}
