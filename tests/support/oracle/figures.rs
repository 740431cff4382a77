//! Every figure of one row, from the list of its inferences.

#![expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "counts in tests are far below 2^53, and a panic is a failed test"
)]

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{Cell, Folded, ModelRule, Settings};

#[path = "calibration.rs"]
mod calibration;
#[path = "features.rs"]
mod features;
#[path = "multiclass.rs"]
mod multiclass;
#[path = "regression.rs"]
mod regression;

type Cells = Vec<(String, Cell)>;
type Figure = Result<f64, &'static str>;
/// Score, whether the label is positive, the label's weight.
type Scored = (f64, bool, f64);

/// Some records: how many, the sum of their weights, and that of the squares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weighed {
    n: usize,
    w: f64,
    w2: f64,
}

impl Weighed {
    fn of(weights: impl Iterator<Item = f64>) -> Self {
        let add = |all: Self, w: f64| Self { n: all.n + 1, w: all.w + w, w2: all.w2 + w * w };
        weights.fold(Self::default(), add)
    }

    /// Records of weight 1.
    fn plain(n: usize) -> Self {
        Self { n, w: n as f64, w2: n as f64 }
    }

    /// Kish's effective sample size.
    fn effective(self) -> f64 {
        if self.w2 > 0.0 { self.w * self.w / self.w2 } else { 0.0 }
    }
}

impl std::ops::Add for Weighed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { n: self.n + other.n, w: self.w + other.w, w2: self.w2 + other.w2 }
    }
}

const Z: f64 = 1.959_963_984_540_054;
const DAY_MS: u64 = 86_400_000;
/// Above this many pairs the areas are counted by distinct cell; a test shows that both ways agree.
const PAIRS_LIMIT: usize = 20_000;

/// Latency in whole microseconds, rounded half up.
pub fn whole_us(latency_ms: f64) -> u64 {
    ((latency_ms * 1000.0 + 0.5).floor() as u64).min(u64::from(u32::MAX))
}

/// The rows of these inferences: table, what tells several rows of it apart, columns.
pub fn tables(
    window_ms: i64,
    settings: &Settings,
    rule: &ModelRule,
    members: &[&Folded],
) -> Vec<(&'static str, String, Cells)> {
    let mut tables = vec![("serving", serving(window_ms, members)), ("labels", labels(members))];
    let mut narrow = Vec::new();
    let weighted = rule.weighted;
    if members.iter().any(|one| one.binary) {
        tables.push(("quality_binary", binary(rule, members)));
        let scored = scored(members, weighted);
        for threshold in &rule.thresholds {
            let cells = at_threshold(*threshold, rule.value, &scored);
            narrow.push(("quality_threshold", threshold.to_string(), cells));
        }
        if !scored.is_empty() {
            tables.push(("calibration", calibration::summary(&scored)));
            let bins = calibration::bins(&scored).into_iter();
            narrow.extend(bins.map(|(bin, cells)| ("calibration_bins", bin.to_string(), cells)));
        }
    }
    if members.iter().any(|one| one.regression) {
        tables.push(("quality_regression", regression::figures(members, weighted)));
    }
    let features = features::rows(settings.most_features, rule.distinct, members).into_iter();
    narrow.extend(features.map(|(name, cells)| ("data_quality", name, cells)));
    let categories = features::categories(settings.most_features, members).into_iter();
    narrow.extend(categories.map(|(key, cells)| ("categories", key, cells)));
    if members.iter().any(|one| one.multiclass) {
        let labelled = multiclass::labelled(members, settings.class_caps, weighted);
        tables.push(("quality_multiclass", multiclass::figures(&labelled)));
        let classes = multiclass::by_class(&labelled).into_iter();
        narrow.extend(classes.map(|(class, cells)| ("quality_classes", class, cells)));
        let pairs = multiclass::confusion(&labelled).into_iter();
        narrow.extend(pairs.map(|(pair, cells)| ("confusion", pair, cells)));
    }
    let wide = tables.into_iter().map(|(table, cells)| (table, String::new(), cells));
    wide.chain(narrow).collect()
}

fn put(cells: &mut Cells, name: &str, cell: Cell) {
    cells.push((name.to_owned(), cell));
}

fn count(cells: &mut Cells, name: &str, number: usize) {
    put(cells, name, Cell::Count(number as u64));
}

fn figure(cells: &mut Cells, name: &str, figure: Figure) {
    put(cells, name, figure.map_or_else(Cell::Null, Cell::Number));
}

/// A figure with its interval.
fn with_interval(
    cells: &mut Cells,
    name: &str,
    value: Figure,
    interval: Result<[f64; 2], &'static str>,
) {
    figure(cells, name, value);
    figure(cells, &format!("{name}_lower"), interval.map(|limits| limits[0]));
    figure(cells, &format!("{name}_upper"), interval.map(|limits| limits[1]));
}

/// A ratio with its Wilson interval.
fn ratio(cells: &mut Cells, name: &str, part: Weighed, whole: Weighed, reason: &'static str) {
    let value = quotient(part.w, whole, reason);
    with_interval(cells, name, value, value.map(|_| wilson(part, whole)));
}

fn divide(part: f64, whole: usize, reason: &'static str) -> Figure {
    if whole == 0 { Err(reason) } else { Ok(part / whole as f64) }
}

/// A sum of weighted terms over the weights of the records.
fn quotient(part: f64, whole: Weighed, reason: &'static str) -> Figure {
    match whole.n {
        0 => Err(reason),
        _ if whole.w > 0.0 => Ok(part / whole.w),
        _ => Err("zero_denominator"),
    }
}

fn weight(cells: &mut Cells, name: &str, of: Weighed) {
    figure(cells, &format!("{name}_weight"), Ok(of.w));
}

/// Wilson score interval.
fn wilson(part: Weighed, whole: Weighed) -> [f64; 2] {
    let n = whole.effective();
    let p = part.w / whole.w;
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)]
}

/// Quantiles by sorting, held to the upper end of the lattice cell and to the maximum.
fn durations(
    cells: &mut Cells,
    names: [&str; 3],
    max: u64,
    per_ms: f64,
    reason: &'static str,
    all: &[u64],
) {
    let lattice = Histogram::<u64>::new_with_bounds(1, max, 2).unwrap();
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    for (name, percent) in names.into_iter().zip([50, 90, 99]) {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        let value = sorted.get(rank - 1).ok_or(reason).map(|&value| {
            let top = lattice.highest_equivalent(value.min(max));
            top.min(*sorted.last().unwrap()) as f64 / per_ms
        });
        figure(cells, name, value);
    }
}

fn greatest(all: &[u64], per_ms: f64, reason: &'static str) -> Figure {
    all.iter().max().map(|&value| value as f64 / per_ms).ok_or(reason)
}

fn serving(window_ms: i64, members: &[&Folded]) -> Cells {
    let mut cells = Cells::new();
    let n = members.len();
    count(&mut cells, "inferences", n);
    figure(&mut cells, "inferences_per_s", Ok(n as f64 / (window_ms as f64 / 1000.0)));
    let errors = members.iter().filter(|one| one.failed).count();
    count(&mut cells, "errors", errors);
    let [of_errors, of_all] = [errors, n].map(Weighed::plain);
    ratio(&mut cells, "error_rate", of_errors, of_all, "zero_denominator");
    let latencies: Vec<u64> = members.iter().filter_map(|one| one.latency_us).collect();
    count(&mut cells, "latency_n", latencies.len());
    let names = ["latency_p50_ms", "latency_p90_ms", "latency_p99_ms"];
    durations(&mut cells, names, u64::from(u32::MAX), 1000.0, "no_values", &latencies);
    figure(&mut cells, "latency_max_ms", greatest(&latencies, 1000.0, "no_values"));
    let sum = latencies.iter().sum::<u64>() as f64 / 1000.0;
    let known = if latencies.is_empty() { Err("no_values") } else { Ok(sum) };
    figure(&mut cells, "latency_sum_ms", known);
    figure(&mut cells, "latency_mean_ms", known.map(|sum| sum / latencies.len() as f64));
    let freshness: Vec<u64> = members.iter().map(|one| one.freshness).collect();
    let names = ["freshness_p50_ms", "freshness_p90_ms", "freshness_p99_ms"];
    durations(&mut cells, names, 400 * DAY_MS, 1.0, "no_values", &freshness);
    figure(&mut cells, "freshness_max_ms", greatest(&freshness, 1.0, "no_values"));
    let latest = members.iter().map(|one| one.time).max().unwrap();
    put(&mut cells, "latest_event_time", Cell::Time(latest));
    cells
}

fn labels(members: &[&Folded]) -> Cells {
    let mut cells = Cells::new();
    let labelled = |one: &&&Folded| one.walk.matched > 0;
    let n = members.len();
    let n_labelled = members.iter().filter(labelled).count();
    let expired = members.iter().filter(|one| one.sealed && one.walk.matched == 0).count();
    count(&mut cells, "inferences", n);
    count(&mut cells, "labelled", n_labelled);
    count(&mut cells, "pending", n - n_labelled - expired);
    count(&mut cells, "expired", expired);
    figure(&mut cells, "coverage", divide(n_labelled as f64, n, "zero_denominator"));
    let settled = (n_labelled + expired) as f64;
    figure(&mut cells, "settled_ratio", divide(settled, n, "zero_denominator"));
    let sum = |count: fn(&Folded) -> u64| Cell::Count(members.iter().map(|one| count(one)).sum());
    put(&mut cells, "labels_matched", sum(|one| one.walk.matched));
    put(&mut cells, "label_corrections", sum(|one| one.walk.corrections));
    put(&mut cells, "label_duplicates", sum(|one| one.walk.duplicates));
    put(&mut cells, "label_conflicts", sum(|one| one.walk.conflicts));
    let delays: Vec<u64> = members.iter().filter_map(|one| one.walk.delay).collect();
    let names = ["label_delay_p50_ms", "label_delay_p90_ms", "label_delay_p99_ms"];
    durations(&mut cells, names, 400 * DAY_MS, 1.0, "no_labels", &delays);
    figure(&mut cells, "label_delay_max_ms", greatest(&delays, 1.0, "no_labels"));
    let total = delays.iter().sum::<u64>() as f64;
    figure(&mut cells, "label_delay_mean_ms", divide(total, delays.len(), "no_labels"));
    let limits = [("1m", 60_000), ("10m", 600_000), ("1h", 3_600_000), ("1d", DAY_MS)];
    for (name, limit) in limits {
        let within = delays.iter().filter(|&&delay| delay <= limit).count();
        count(&mut cells, &format!("labelled_within_{name}"), within);
    }
    let decided = members.iter().any(|one| one.decision.is_some());
    for (name, side) in [("positive", true), ("negative", false)] {
        let of_side = members.iter().filter(|one| one.decision == Some(side));
        let all = of_side.clone().count();
        let with_label = of_side.filter(labelled).count();
        count(&mut cells, &format!("inferences_{name}"), all);
        count(&mut cells, &format!("labelled_{name}"), with_label);
        let reason = if decided { "zero_denominator" } else { "not_applicable" };
        let coverage = divide(with_label as f64, all, reason);
        figure(&mut cells, &format!("coverage_{name}"), coverage);
    }
    cells
}

/// Labels of binary inferences: whether they are positive.
fn truths<'a>(members: &'a [&Folded]) -> impl Iterator<Item = (&'a Folded, bool)> {
    let binary = members.iter().filter(|one| one.binary);
    binary.filter_map(|one| one.walk.positive.map(|positive| (*one, positive)))
}

/// What the label of a record counts for.
fn weight_of(one: &Folded, weighted: bool) -> f64 {
    if weighted { one.walk.weight } else { 1.0 }
}

/// Labelled scores.
fn scored(members: &[&Folded], weighted: bool) -> Vec<Scored> {
    let scored =
        |(one, positive): (&Folded, bool)| Some((one.score?, positive, weight_of(one, weighted)));
    truths(members).filter_map(scored).collect()
}

fn binary(rule: &ModelRule, members: &[&Folded]) -> Cells {
    let weighted = rule.weighted;
    let mut cells = Cells::new();
    let decided = |(one, positive): (&Folded, bool)| {
        Some((one.decision?, positive, weight_of(one, weighted)))
    };
    let decided: Vec<(bool, bool, f64)> = truths(members).filter_map(decided).collect();
    confusion(&mut cells, &decided);
    let scored = scored(members, weighted);
    areas(&mut cells, &scored, weighted);
    losses(&mut cells, &scored);
    let off = truths(members).filter(|(one, _)| one.off_threshold).count();
    count(&mut cells, "decisions_off_threshold", off);
    worth(&mut cells, rule.value, &decided);
    weights(&mut cells, &decided);
    let side = |own| scored.iter().filter(move |one| one.1 == own).map(|one| one.2);
    weight(&mut cells, "scored_positives", Weighed::of(side(true)));
    weight(&mut cells, "scored_negatives", Weighed::of(side(false)));
    cells
}

fn at_threshold(threshold: f64, value: Option<[f64; 4]>, scored: &[Scored]) -> Cells {
    let mut cells = Cells::new();
    let decided: Vec<(bool, bool, f64)> =
        scored.iter().map(|(score, positive, w)| (*score >= threshold, *positive, *w)).collect();
    figure(&mut cells, "threshold", Ok(threshold));
    confusion(&mut cells, &decided);
    worth(&mut cells, value, &decided);
    weights(&mut cells, &decided);
    cells
}

fn worth(cells: &mut Cells, value: Option<[f64; 4]>, decided: &[(bool, bool, f64)]) {
    let [tp, fp, fn_, tn] = confusion_counts(decided);
    let sum = value
        .ok_or("not_configured")
        .map(|worth| worth[0] * tp.w + worth[1] * fp.w + worth[2] * fn_.w + worth[3] * tn.w);
    figure(cells, "value_sum", sum);
    let per_label = sum.and_then(|sum| quotient(sum, tp + fp + fn_ + tn, "no_labels"));
    figure(cells, "value_per_label", per_label);
}

fn weights(cells: &mut Cells, decided: &[(bool, bool, f64)]) {
    let [tp, fp, fn_, tn] = confusion_counts(decided);
    let n = tp + fp + fn_ + tn;
    for (name, of) in [("n", n), ("tp", tp), ("fp", fp), ("fn", fn_), ("tn", tn)] {
        weight(cells, name, of);
    }
    figure(cells, "n_eff", Ok(n.effective()));
}

/// tp, fp, fn, tn of decisions and labels.
fn confusion_counts(decided: &[(bool, bool, f64)]) -> [Weighed; 4] {
    let with = |decision: bool, truth: bool| {
        let of = decided.iter().filter(|(d, t, _)| *d == decision && *t == truth);
        Weighed::of(of.map(|(_, _, weight)| *weight))
    };
    [with(true, true), with(true, false), with(false, true), with(false, false)]
}

fn confusion(cells: &mut Cells, decided: &[(bool, bool, f64)]) {
    let [tp, fp, fn_, tn] = confusion_counts(decided);
    let n = tp + fp + fn_ + tn;
    let counts = [
        ("n", n),
        ("tp", tp),
        ("fp", fp),
        ("fn", fn_),
        ("tn", tn),
        ("positives", tp + fn_),
        ("negatives", fp + tn),
        ("predicted_positive", tp + fp),
    ];
    for (name, of) in counts {
        count(cells, name, of.n);
    }
    ratio(cells, "accuracy", tp + tn, n, "no_labels");
    ratio(cells, "precision", tp, tp + fp, "zero_denominator");
    ratio(cells, "npv", tn, tn + fn_, "zero_denominator");
    ratio(cells, "recall", tp, tp + fn_, "zero_denominator");
    ratio(cells, "specificity", tn, tn + fp, "zero_denominator");
    ratio(cells, "prevalence", tp + fn_, n, "no_labels");
    ratio(cells, "predicted_positive_rate", tp + fp, n, "no_labels");
    let f1 = quotient(2.0 * tp.w, tp + tp + fp + fn_, "zero_denominator");
    with_interval(cells, "f1", f1, f1_interval(tp, tp + fp + fn_));
    let parts = [(tp, tp + fn_), (tn, tn + fp)];
    let halves = parts.map(|(part, whole)| quotient(part.w, whole, "one_class"));
    let halves = halves[0].and_then(|a| Ok([a, halves[1]?]));
    let balanced = halves.map(|[a, b]| f64::midpoint(a, b));
    let interval = halves.map(|[a, b]| {
        let [la, ua] = wilson(parts[0].0, parts[0].1);
        let [lb, ub] = wilson(parts[1].0, parts[1].1);
        let lower = ((a - la).powi(2) + (b - lb).powi(2)).sqrt();
        let upper = ((ua - a).powi(2) + (ub - b).powi(2)).sqrt();
        [((a + b - lower) / 2.0).max(0.0), ((a + b + upper) / 2.0).min(1.0)]
    });
    with_interval(cells, "balanced_accuracy", balanced, interval);
    let product = [tp + fp, tp + fn_, tn + fp, tn + fn_].map(|k| k.w).iter().product::<f64>();
    let difference = tp.w * tn.w - fp.w * fn_.w;
    let mcc = if product > 0.0 { Ok(difference / product.sqrt()) } else { Err("zero_denominator") };
    figure(cells, "mcc", mcc);
}

/// Limits of F1 from those of tp of all that are decided or labelled positive.
fn f1_interval(tp: Weighed, jaccard: Weighed) -> Result<[f64; 2], &'static str> {
    let mapped = |j: f64| 2.0 * j / (1.0 + j);
    quotient(tp.w, jaccard, "zero_denominator").map(|_| wilson(tp, jaccard).map(mapped))
}

/// The score lattice: 256 cells for each halving of the distance to 0 or 1.
pub fn cell_of(score: f64) -> u64 {
    /// Steps from 2^-20 up to `t`, by doubling.
    fn steps(t: f64) -> u64 {
        let mut floor = 0.5_f64.powi(20);
        if t < floor {
            return 0;
        }
        let mut doublings = 0;
        while t >= 2.0 * floor {
            floor *= 2.0;
            doublings += 1;
        }
        1 + 256 * doublings + ((t / floor - 1.0) * 256.0).floor() as u64
    }
    if score < 0.5 { steps(score) } else { 9730 - steps(1.0 - score) }
}

/// Positives and negatives by cell, ascending.
fn by_cell(scored: &[Scored]) -> Vec<[usize; 2]> {
    weighed_by_cell(scored).into_iter().map(|cell| cell.map(|side| side.n)).collect()
}

fn weighed_by_cell(scored: &[Scored]) -> Vec<[Weighed; 2]> {
    let mut cells: BTreeMap<u64, [Weighed; 2]> = BTreeMap::new();
    for (score, positive, weight) in scored {
        let side = &mut cells.entry(cell_of(*score)).or_default()[usize::from(!positive)];
        *side = *side + Weighed::of(std::iter::once(*weight));
    }
    cells.into_values().collect()
}

/// For each positive twice the negatives below it (ties count half), and for each negative twice the positives
/// above it: by looking at every pair.
fn placements_by_pairs(scored: &[Scored]) -> [Vec<u128>; 2] {
    let cells: Vec<(u64, bool)> =
        scored.iter().map(|(s, positive, _)| (cell_of(*s), *positive)).collect();
    let of = |own: bool| {
        let others = |cell: u64| -> u128 {
            let beaten = cells.iter().filter(|(_, positive)| *positive != own).map(|(other, _)| {
                let (high, low) = if own { (cell, *other) } else { (*other, cell) };
                u128::from(high > low) + u128::from(high >= low)
            });
            beaten.sum()
        };
        cells
            .iter()
            .filter(|(_, positive)| *positive == own)
            .map(|(cell, _)| others(*cell))
            .collect()
    };
    [of(true), of(false)]
}

/// The same by distinct cells.
fn placements_by_cells(scored: &[Scored]) -> [Vec<u128>; 2] {
    let cells = by_cell(scored);
    let positives: usize = cells.iter().map(|cell| cell[0]).sum();
    let (mut below, mut up_to) = (0, 0);
    let mut both = [Vec::new(), Vec::new()];
    for [p, n] in cells {
        up_to += p;
        both[0].extend(std::iter::repeat_n((2 * below + n) as u128, p));
        both[1].extend(std::iter::repeat_n((2 * (positives - up_to) + p) as u128, n));
        below += n;
    }
    both
}

/// Sample variance of whole numbers, without rounding before the end.
fn variance(all: &[u128]) -> f64 {
    let n = all.len() as u128;
    let sum: u128 = all.iter().sum();
    let squares: u128 = all.iter().map(|a| a * a).sum();
    (n * squares - sum * sum) as f64 / (n * (n - 1)) as f64
}

fn areas(cells: &mut Cells, scored: &[Scored], weighted: bool) {
    let positives = scored.iter().filter(|(_, positive, _)| *positive).count();
    let negatives = scored.len() - positives;
    count(cells, "n_scored", scored.len());
    count(cells, "scored_positives", positives);
    count(cells, "scored_negatives", negatives);
    if weighted {
        return weighted_areas(cells, scored);
    }
    let both = if positives == 0 || negatives == 0 { Err("one_class") } else { Ok(()) };
    let (p, n) = (positives as f64, negatives as f64);
    let pairs = positives * negatives;
    // Where there is no pair, nothing is to be counted.
    let few = (1..=PAIRS_LIMIT).contains(&pairs);
    let placements = if few { placements_by_pairs(scored) } else { placements_by_cells(scored) };
    let wins: u128 = placements[0].iter().sum();
    let auroc = both.map(|()| wins as f64 / 2.0 / pairs as f64);
    let se = both.and_then(|()| {
        if positives < 2 || negatives < 2 {
            return Err("too_few_samples");
        }
        let of_positives = variance(&placements[0]) / (4.0 * n * n);
        let of_negatives = variance(&placements[1]) / (4.0 * p * p);
        let se = (of_positives / p + of_negatives / n).sqrt();
        if se > 0.0 { Ok(se) } else { Err("zero_variance") }
    });
    let interval =
        auroc.and_then(|area| se.map(|se| [(area - Z * se).max(0.0), (area + Z * se).min(1.0)]));
    with_interval(cells, "auroc", auroc, interval);
    let lattice = by_cell(scored);
    let ties: usize = lattice.iter().map(|cell| cell[0] * cell[1]).sum();
    figure(cells, "auroc_error_bound", both.map(|()| ties as f64 / 2.0 / pairs as f64));
    figure(cells, "auroc_se", se);
    let precision = average_precision(&lattice);
    let own = both.map(|()| precision[0]);
    let interval = own.and_then(|ap| {
        let spread = p * ap * (1.0 - ap);
        let middle = (ap / (1.0 - ap)).ln();
        let mapped = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        if spread > 0.0 {
            Ok([mapped(middle - Z / spread.sqrt()), mapped(middle + Z / spread.sqrt())])
        } else {
            Err("zero_variance")
        }
    });
    with_interval(cells, "average_precision", own, interval);
    figure(cells, "average_precision_min", both.map(|()| precision[1]));
    figure(cells, "average_precision_max", both.map(|()| precision[2]));
}

/// The same columns of weighted labels: a pair weighs the product of its weights.
fn weighted_areas(cells: &mut Cells, scored: &[Scored]) {
    let side = |own: bool| scored.iter().filter(move |one| one.1 == own);
    let [p, n] = [true, false].map(|own| side(own).map(|one| one.2).sum::<f64>());
    let both = if p > 0.0 && n > 0.0 { Ok(()) } else { Err("one_class") };
    let (mut wins, mut ties) = (0.0, 0.0);
    for high in side(true) {
        for low in side(false) {
            let (ours, theirs) = (cell_of(high.0), cell_of(low.0));
            wins += high.2 * low.2 * f64::from(u8::from(ours > theirs));
            ties += high.2 * low.2 * f64::from(u8::from(ours == theirs));
        }
    }
    let none = || both.and(Err("weighted"));
    with_interval(cells, "auroc", both.map(|()| (wins + ties / 2.0) / p / n), none());
    figure(cells, "auroc_error_bound", both.map(|()| ties / 2.0 / p / n));
    figure(cells, "auroc_se", both.and(Err("weighted")));
    let (mut above, mut negatives_above, mut sums) = (0.0, 0.0, [0.0; 3]);
    for [positives, negatives] in weighed_by_cell(scored).iter().rev() {
        let [own, others] = [positives.w, negatives.w];
        if own > 0.0 {
            sums[0] += own * (above + own) / (above + own + negatives_above + others);
            let all = negatives_above + others;
            let at = |x: f64| (above + x) / (above + x + all);
            // Its positives one by one where they weigh the same.
            let step = own / positives.n as f64;
            let squares = positives.w2 * positives.n as f64;
            sums[1] += if squares.total_cmp(&(own * own)).is_eq() {
                (1..=positives.n).map(|j| step * at(j as f64 * step)).sum::<f64>()
            } else {
                // Else in units of 2^-20: the integral, and half of what the ends differ.
                let lost = if all > 0.0 { all * (own / (above + all)).ln_1p() } else { 0.0 };
                let start = if above + all > 0.0 { at(0.0) } else { 1.0 };
                own - lost + (at(own) - start) / 2.0 / 1_048_576.0
            };
            sums[2] += own * (above + own) / (above + own + negatives_above);
        }
        above += own;
        negatives_above += others;
    }
    let precision = sums.map(|sum| both.map(|()| sum / p));
    with_interval(cells, "average_precision", precision[0], none());
    figure(cells, "average_precision_min", precision[1]);
    figure(cells, "average_precision_max", precision[2]);
}

/// Average precision over cells, and its certified bracket, positive by positive.
fn average_precision(lattice: &[[usize; 2]]) -> [f64; 3] {
    let positives: usize = lattice.iter().map(|cell| cell[0]).sum();
    let (mut above, mut negatives_above) = (0, 0);
    let mut sums = [0.0; 3];
    for [p, n] in lattice.iter().rev() {
        let own = (above + p) as f64 / (above + p + negatives_above + n) as f64;
        let best = (above + p) as f64 / (above + p + negatives_above).max(1) as f64;
        sums[0] += *p as f64 * own;
        for j in 1..=*p {
            sums[1] += (above + j) as f64 / (above + j + negatives_above + n) as f64;
        }
        sums[2] += *p as f64 * best;
        above += p;
        negatives_above += n;
    }
    sums.map(|sum| sum / positives as f64)
}

fn losses(cells: &mut Cells, scored: &[Scored]) {
    let epsilon = f64::EPSILON;
    let of_truth = |(score, positive, _): &Scored| if *positive { *score } else { 1.0 - score };
    let log = |one: &Scored| (-of_truth(one).clamp(epsilon, 1.0 - epsilon).ln(), one.2);
    let square = |(score, positive, weight): &Scored| {
        ((score - f64::from(u8::from(*positive))).powi(2), *weight)
    };
    mean(cells, "log_loss", [0.0, f64::INFINITY], "no_scores", scored.iter().map(log).collect());
    let clipped =
        scored.iter().map(of_truth).filter(|p| *p < epsilon || *p > 1.0 - epsilon).count();
    count(cells, "log_loss_clipped", clipped);
    mean(cells, "brier", [0.0, 1.0], "no_scores", scored.iter().map(square).collect());
}

/// Mean of weighted terms with its normal interval, held to what the figure can be.
fn mean(
    cells: &mut Cells,
    name: &str,
    range: [f64; 2],
    none: &'static str,
    mut terms: Vec<(f64, f64)>,
) {
    let all = Weighed::of(terms.iter().map(|(_, weight)| *weight));
    terms.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = quotient(careful_sum(terms.iter().map(|(term, w)| term * w)), all, none);
    let interval = mean.and_then(|mean| {
        if all.n < 2 || terms.iter().filter(|(_, weight)| *weight > 0.0).count() < 2 {
            return Err("too_few_samples");
        }
        terms.retain(|(_, weight)| *weight > 0.0);
        if terms.first().unwrap().0.total_cmp(&terms.last().unwrap().0).is_eq() {
            return Err("zero_variance");
        }
        let squares = careful_sum(terms.iter().map(|(term, w)| w * (term - mean).powi(2)));
        let half = Z * (squares / all.w / (all.effective() - 1.0)).sqrt();
        Ok([(mean - half).max(range[0]), (mean + half).min(range[1])])
    });
    with_interval(cells, name, mean, interval);
}

/// Neumaier's compensated sum.
fn careful_sum(terms: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0);
    for term in terms {
        let next = sum + term;
        lost += if sum.abs() >= term.abs() { (sum - next) + term } else { (term - next) + sum };
        sum = next;
    }
    sum + lost
}

#[test]
fn both_ways_to_count_pairs_agree() {
    let mut seed = 1_u64;
    let mut scored = Vec::new();
    for _ in 0..300 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let score = (seed >> 57) as f64 / 127.0;
        scored.push((score, (seed >> 40).is_multiple_of(3), 1.0));
        let [mut pairs, mut cells] = [placements_by_pairs(&scored), placements_by_cells(&scored)];
        for side in 0..2 {
            pairs[side].sort_unstable();
            cells[side].sort_unstable();
        }
        assert_eq!(pairs, cells);
    }
}

#[test]
fn cells_have_the_published_numbers() {
    let table = [(0.97, 5910), (0.93, 5603), (0.88, 5398), (0.81, 5244), (0.7, 5070), (0.62, 4988)];
    let edges =
        [(0.0, 0), (0.5_f64.powi(20), 1), (0.5_f64.next_down(), 4864), (0.5, 4865), (1.0, 9730)];
    let rest = [(0.6201, 4988), (0.6, 4968), (0.45, 4813), (0.3, 4660), (0.1, 4250)];
    for (score, cell) in table.into_iter().chain(edges).chain(rest) {
        assert_eq!(cell_of(score), cell, "{score}");
    }
}
