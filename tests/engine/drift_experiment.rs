//! How often windows that did not drift get a verdict that they did, and how often a planted shift is found: the
//! figures of the README's table, from seeded samples.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use tidegauge::engine::event::FeatureValue;
use tidegauge::engine::metrics::drift::method::{Method, Options as DriftOptions};
use tidegauge::engine::metrics::drift::verdict::{Judged, Kind, Measured, Verdict, judge};
use tidegauge::engine::metrics::drift::{CurrentCounts, drift};
use tidegauge::engine::metrics::lattice::score_cell;
use tidegauge::engine::metrics::reference::{FeatureProfile, Profile};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};

use crate::drift_golden::{NOTHING, feature_of};

const REFERENCE_N: usize = 5000;
const WINDOWS: [(usize, u32); 4] = [(50, 25), (200, 25), (1000, 10), (10_000, 2)];
const REFERENCES: u64 = 4;
/// Shifts of one feature by their population stability index, in windows of 1,000.
const SHIFTS: [f64; 4] = [0.05, 0.1, 0.25, 0.35];
const SHIFTED_N: usize = 1000;
const SHIFTED_WINDOWS: u32 = 25;
/// Sizes of the windows in which each column is judged by itself: ten values for each of 30 names, and of 100.
const SIZES_ALONE: [usize; 2] = [320, 1000];
const REFERENCES_ALONE: u32 = 8;
const WINDOWS_ALONE: u32 = 40;

/// `SplitMix64` (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap();
        (f64::from(bits) + 0.5) / 4_294_967_296.0
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit(), self.unit());
        (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * angle)
    }
}

/// How often the first of so many names come, one more of them at each place, if the k-th comes as often as 1/(k √k)
/// says (Zipf's law with the exponent 1.5).
fn zipf(names: u32) -> Vec<f64> {
    let weights = (1..=names).map(|k| 1.0 / (f64::from(k) * f64::from(k).sqrt()));
    let sums = weights.scan(0.0_f64, |sum, weight| {
        *sum += weight;
        Some(*sum)
    });
    sums.collect()
}

/// Few names that make up most values, and 30 or 100 in all: the rarest come in one value of 370, or of 2,400.
static ZIPF: LazyLock<[Vec<f64>; 2]> = LazyLock::new(|| [30, 100].map(zipf));

/// A name by how often it or an earlier one comes.
fn drawn(random: &mut Random, sums: &[f64]) -> String {
    let at = random.unit() * sums[sums.len() - 1];
    format!("n{}", sums.partition_point(|sum| *sum <= at))
}

/// One inference: five numbers of different shapes, four with names, a flag, and a score that decides.
struct Sample {
    numbers: [f64; 5],
    names: [String; 4],
    truth: bool,
    score: f64,
}

const NUMBERS: [&str; 5] = ["shifted", "amount", "count", "mostly_zero", "share"];
const NAMES: [&str; 4] = ["even", "skewed", "zipf_30", "zipf_100"];

fn sample(random: &mut Random, shift: f64) -> Sample {
    let numbers = [
        random.normal() + shift,
        (libm::exp(3.0 + random.normal()) * 100.0).round() / 100.0,
        (random.unit() * 4.0).floor() + (random.unit() * 4.0).floor(),
        if random.unit() < 0.8 { 0.0 } else { random.normal() },
        random.unit(),
    ];
    // Five names of one frequency; and about thirty, each rarer than the one before.
    let [of_30, of_100] = &*ZIPF;
    let names = [
        format!("n{}", (random.unit() * 5.0).floor()),
        format!("n{}", (-libm::log(random.unit()) * 4.0).floor()),
        drawn(random, of_30),
        drawn(random, of_100),
    ];
    let score = random.unit() * random.unit();
    Sample { numbers, names, truth: random.unit() < 0.02, score }
}

fn class(score: f64) -> &'static str {
    if score >= 0.4 { "1" } else { "0" }
}

fn reference(random: &mut Random) -> Profile {
    let mut builder = ProfileBuilder::new(Options::new("reference")).unwrap();
    for _ in 0..REFERENCE_N {
        let Sample { numbers, names, truth, score } = sample(random, 0.0);
        let mut features: Vec<(&str, FeatureValue<'_>)> =
            NUMBERS.into_iter().zip(numbers.map(FeatureValue::Number)).collect();
        features.push(("flag", FeatureValue::Boolean(truth)));
        let texts = names.iter().map(|name| FeatureValue::Text(name.as_str()));
        features.extend(NAMES.into_iter().zip(texts));
        let prediction = FeatureValue::Text(class(score));
        builder
            .add(&Record { features: &features, score: Some(score), prediction, ..NOTHING })
            .unwrap();
    }
    builder.finish().unwrap().profile
}

/// The measures of each column of a window of n records.
fn measured(profile: &Profile, random: &mut Random, n: usize, shift: f64) -> Vec<Measured> {
    let samples: Vec<Sample> = (0..n).map(|_| sample(random, shift)).collect();
    let numeric = |kind, name: &str, profile: &FeatureProfile, values: Vec<f64>| {
        let cells = profile.numeric().unwrap().gather(values.into_iter().map(|x| (x, 1)));
        let measures = drift(profile, &CurrentCounts::Cells { cells: &cells, missing: 0 });
        Measured { kind, feature: Arc::from(name), measures }
    };
    let named = |kind, name: &str, profile: &FeatureProfile, values: Vec<&str>| {
        let mut counts = BTreeMap::new();
        for value in values {
            *counts.entry(value).or_insert(0) += 1;
        }
        let names: Vec<(&str, u64)> = counts.into_iter().collect();
        let current = CurrentCounts::Names { names: &names, other: 0, missing: 0 };
        Measured { kind, feature: Arc::from(name), measures: drift(profile, &current) }
    };
    let mut measured = Vec::new();
    for (i, name) in NUMBERS.into_iter().enumerate() {
        let values = samples.iter().map(|sample| sample.numbers[i]).collect();
        measured.push(numeric(Kind::Feature, name, &profile.features[name], values));
    }
    for (i, name) in NAMES.into_iter().enumerate() {
        let values = samples.iter().map(|sample| &*sample.names[i]).collect();
        measured.push(named(Kind::Feature, name, &profile.features[name], values));
    }
    let truths = samples.iter().map(|it| if it.truth { "true" } else { "false" }).collect();
    measured.push(named(Kind::Feature, "flag", &profile.features["flag"], truths));
    let scores = samples.iter().map(|sample| f64::from(score_cell(sample.score))).collect();
    measured.push(numeric(Kind::Score, "", profile.score.as_ref().unwrap(), scores));
    let classes = samples.iter().map(|sample| class(sample.score)).collect();
    measured.push(named(Kind::Prediction, "", profile.prediction.as_ref().unwrap(), classes));
    measured
}

/// The verdicts on a window of n records.
fn window(profile: &Profile, random: &mut Random, n: usize, shift: f64) -> Vec<Judged> {
    judge(measured(profile, random, n, shift), &DriftOptions::default())
}

/// The standard normal distribution function.
fn normal_below(x: f64) -> f64 {
    libm::erfc(-x / 2.0_f64.sqrt()) / 2.0
}

/// The shift of a standard normal whose population stability index over tenths is this.
fn shift_of(index: f64) -> f64 {
    let bisect = |mut low: f64, mut high: f64, is_below: &dyn Fn(f64) -> bool| {
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if is_below(middle) { low = middle } else { high = middle }
        }
        low
    };
    let mut edges = vec![f64::NEG_INFINITY];
    for tenth in 1..10 {
        edges.push(bisect(-9.0, 9.0, &|x| normal_below(x) < f64::from(tenth) / 10.0));
    }
    edges.push(f64::INFINITY);
    let index_at = |shift: f64| -> f64 {
        let share = |pair: &[f64]| normal_below(pair[1] - shift) - normal_below(pair[0] - shift);
        edges.windows(2).map(|pair| (share(pair) - 0.1) * libm::log(share(pair) / 0.1)).sum()
    };
    bisect(0.0, 3.0, &|shift| index_at(shift) < index)
}

/// How many of the rows that are meant there are, and how many of them count.
#[derive(Clone, Copy, Default)]
struct Share {
    hits: u32,
    of: u32,
}

impl Share {
    fn of<'a>(
        rows: impl IntoIterator<Item = &'a Judged>,
        is_meant: impl Fn(&Judged) -> bool,
        is_hit: impl Fn(&Judged) -> bool,
    ) -> Self {
        let mut share = Self::default();
        for row in rows.into_iter().filter(|row| is_meant(row)) {
            share.of += 1;
            share.hits += u32::from(is_hit(row));
        }
        share
    }

    fn percent(self) -> f64 {
        100.0 * f64::from(self.hits) / f64::from(self.of)
    }

    /// Mean and standard deviation of the hits if each is one by a chance of 1 in 20.
    fn by_chance(self) -> (f64, f64) {
        let of = f64::from(self.of);
        (0.05 * of, (0.05 * 0.95 * of).sqrt())
    }
}

fn is_drift(row: &Judged) -> bool {
    row.verdict == Verdict::Drift
}

fn is_flagged(row: &Judged) -> bool {
    matches!(row.verdict, Verdict::Drift | Verdict::Warn)
}

/// All rows of windows of each size without a shift, and of windows of 1,000 with each shift.
fn experiment() -> (Vec<Vec<Judged>>, Vec<Vec<Judged>>) {
    let mut random = Random(20_260_105);
    let mut still = vec![Vec::new(); WINDOWS.len()];
    let mut shifted = vec![Vec::new(); SHIFTS.len()];
    for _ in 0..REFERENCES {
        let profile = reference(&mut random);
        for (rows, (n, windows)) in still.iter_mut().zip(WINDOWS) {
            for _ in 0..windows {
                rows.extend(window(&profile, &mut random, n, 0.0));
            }
        }
        for (rows, index) in shifted.iter_mut().zip(SHIFTS) {
            let shift = shift_of(index);
            for _ in 0..SHIFTED_WINDOWS {
                let judged = window(&profile, &mut random, SHIFTED_N, shift);
                rows.extend(judged.into_iter().filter(|row| &*row.feature == "shifted"));
            }
        }
    }
    (still, shifted)
}

fn table(still: &[Vec<Judged>], shifted: &[Vec<Judged>]) -> String {
    let mut text =
        "| method | `drift` without drift, n = 50 | 200 | 1,000 | 10,000 | p ≤ 0.05 at 1,000 |"
            .to_owned();
    for index in SHIFTS {
        write!(text, " found at PSI {index} |").unwrap();
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|---|---|\n");
    for method in Method::ALL {
        let is_meant = |row: &Judged| row.measure.method == method;
        write!(text, "| `{}` |", method.name()).unwrap();
        for rows in still {
            write!(text, " {:.1} % |", Share::of(rows, is_meant, is_drift).percent()).unwrap();
        }
        let is_unlikely = |row: &Judged| row.measure.judged_p.is_ok_and(|p| p <= 0.05);
        if method.is_rate() {
            text.push_str(" – | – | – | – | – |\n");
            continue;
        }
        write!(text, " {:.1} % |", Share::of(&still[2], is_meant, is_unlikely).percent()).unwrap();
        for rows in shifted {
            let flagged = Share::of(rows, is_meant, is_flagged).percent();
            let drift = Share::of(rows, is_meant, is_drift).percent();
            write!(text, " {flagged:.0} % ({drift:.0} %) |").unwrap();
        }
        text.push('\n');
    }
    text
}

/// Rows of windows of one size without a shift, each column judged by itself, so that no p-value is adjusted.
fn alone(n: usize) -> Vec<Judged> {
    let mut random = Random(20_260_106);
    let mut rows = Vec::new();
    for _ in 0..REFERENCES_ALONE {
        let profile = reference(&mut random);
        for _ in 0..WINDOWS_ALONE {
            for column in measured(&profile, &mut random, n, 0.0) {
                rows.extend(judge(vec![column], &DriftOptions::default()));
            }
        }
    }
    rows
}

#[test]
fn no_column_is_flagged_by_chance_more_often_than_alpha_says() {
    for n in SIZES_ALONE {
        let rows = alone(n);
        let mut columns: BTreeMap<_, Vec<&Judged>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.measure.method.is_rate()) {
            let column = (row.kind.name(), &*row.feature, row.measure.method);
            columns.entry(column).or_default().push(row);
        }
        for ((kind, name, method), rows) in columns {
            let column = format!("{kind} {name} by {} at {n}", method.name());
            let share = |is_hit: &dyn Fn(&Judged) -> bool| {
                Share::of(rows.iter().copied(), |_| true, is_hit)
            };
            let flagged = share(&is_flagged);
            let unlikely = share(&|row| row.measure.judged_p.is_ok_and(|p| p <= 0.05));
            // One in twenty, give or take some standard deviations of so many windows.
            let (mean, deviation) = unlikely.by_chance();
            let [flagged, unlikely] = [flagged.hits, unlikely.hits].map(f64::from);
            let most = mean + 4.0 * deviation;
            assert!(flagged <= most, "{flagged} of {mean}: {column}");
            // The likelihood ratio is somewhat too great where many cells are expected to hold hardly more than five.
            assert!(unlikely <= most || method == Method::G, "{unlikely} of {mean}: {column}");
            // Nor is it never: where both tests have to agree it is somewhat less often.
            if name.starts_with("zipf") && method == Method::Chi2 {
                assert!(unlikely >= mean - 3.0 * deviation, "{unlikely} of {mean}: {column}");
            }
            let has_verdicts = rows.iter().any(|row| row.verdict != Verdict::InsufficientData);
            assert!(has_verdicts || (name, n) == ("zipf_100", 320), "{column}");
        }
    }
}

/// One value of each column that has a common one: two flags that are seldom and hardly ever 0, a limit that most
/// reach, and zeros with greater ones.
fn common(random: &mut Random) -> [f64; 4] {
    [
        if random.unit() < 0.02 { 0.0 } else { 1.0 },
        if random.unit() < 0.003 { 0.0 } else { 1.0 },
        if random.unit() < 0.08 { random.unit() * 100.0 } else { 100.0 },
        if random.unit() < 0.6 { 0.0 } else { random.unit() },
    ]
}

/// What they have beside their common value is rare, and makes bins that few values fall in.
#[test]
fn no_column_with_a_common_value_is_flagged_by_chance_more_often_than_alpha_says() {
    const COLUMNS: [&str; 4] = ["mostly_one", "hardly_ever_zero", "capped", "zero_or_more"];
    for n in [120, SIZES_ALONE[0], SIZES_ALONE[1]] {
        let mut random = Random(20_260_107);
        let mut columns: BTreeMap<_, Vec<Judged>> = BTreeMap::new();
        for _ in 0..REFERENCES_ALONE {
            let records: Vec<[f64; 4]> = (0..REFERENCE_N).map(|_| common(&mut random)).collect();
            let profiles = [0_usize, 1, 2, 3].map(|column| {
                feature_of(records.iter().map(|record| FeatureValue::Number(record[column])))
            });
            for _ in 0..WINDOWS_ALONE {
                let window: Vec<[f64; 4]> = (0..n).map(|_| common(&mut random)).collect();
                for (column, profile) in profiles.iter().enumerate() {
                    let numeric = profile.numeric().unwrap();
                    let cells = numeric.gather(window.iter().map(|record| (record[column], 1)));
                    let current = CurrentCounts::Cells { cells: &cells, missing: 0 };
                    let (kind, feature) = (Kind::Feature, Arc::from(COLUMNS[column]));
                    let one = Measured { kind, feature, measures: drift(profile, &current) };
                    for row in judge(vec![one], &DriftOptions::default()) {
                        columns.entry((column, row.measure.method)).or_default().push(row);
                    }
                }
            }
        }
        for ((column, method), rows) in columns {
            let flagged = Share::of(&rows, |_| true, is_flagged);
            let (mean, deviation) = flagged.by_chance();
            let flagged = f64::from(flagged.hits);
            let place = format!("{} by {} at {n}", COLUMNS[column], method.name());
            assert!(flagged <= mean + 4.0 * deviation, "{flagged} of {mean}: {place}");
        }
    }
}

#[test]
fn verdicts_are_seldom_wrong_and_shifts_are_found() {
    let (still, shifted) = experiment();
    for (rows, (n, _)) in still.iter().zip(WINDOWS) {
        for method in Method::ALL {
            let is_meant = |row: &Judged| row.measure.method == method;
            let share = Share::of(rows, is_meant, is_drift);
            assert!(share.of >= 30 && share.percent() <= 5.0, "{} at {n}", method.name());
        }
        let all = Share::of(rows, |_| true, |row| row.verdict == Verdict::InsufficientData);
        assert_eq!(all.hits == all.of, n < 100, "verdicts at {n} begin with 100 values");
    }
    let at = SHIFTS.iter().position(|index| *index == 0.25).unwrap();
    let is_primary = |row: &Judged| row.is_primary;
    let found = Share::of(&shifted[at], is_primary, is_flagged);
    assert!(found.of == 100 && found.percent() >= 80.0, "{}", found.percent());
    let readme = include_str!("../../README.md");
    let table = table(&still, &shifted);
    assert!(readme.contains(&table), "the README's table of drift verdicts should be:\n{table}");
}
