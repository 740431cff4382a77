//! A naive batch computation of every row, from the raw logs of both topics. Written to be read beside the rules, not
//! to be fast: whole logs in memory, loops over pairs, quantiles by sorting, plain floating sums.
//! It shares no code with the program, so that the two can only agree by both being right.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;

#[path = "oracle/figures.rs"]
pub mod figures;
#[path = "oracle/join.rs"]
mod join;

/// What a job goes by. All times are milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub window: i64,
    pub lateness: i64,
    pub label_wait: i64,
    pub max_future: i64,
    pub max_gap: i64,
    pub clock_stamps: usize,
    /// Distinct models, versions of a model, values of a segment dimension.
    pub caps: [usize; 3],
    /// Distinct features of one key in one window and partition.
    pub most_features: usize,
    /// Classes of one key that are counted by name, and those whose scores are kept.
    pub class_caps: [usize; 2],
    pub models: Vec<ModelRule>,
    /// Coarser windows, beside the base window.
    pub grains: Vec<i64>,
    pub has_labels: bool,
    /// Whether the records' own times move the clocks.
    pub event_progress: bool,
    pub generation: u16,
}

/// How to read the records of some models: the first pattern that fits counts.
#[derive(Clone, Debug)]
pub struct ModelRule {
    pub pattern: String,
    pub task: Option<Task>,
    pub positive: Vec<Given>,
    pub threshold: f64,
    /// Others, ascending.
    pub thresholds: Vec<f64>,
    pub dimensions: Vec<String>,
    /// What tp, fp, fn and tn are worth.
    pub value: Option<[f64; 4]>,
    /// Whether label weights count.
    pub weighted: bool,
    /// Whether distinct numbers of its features are counted.
    pub distinct: bool,
}

impl Default for ModelRule {
    fn default() -> Self {
        Self {
            pattern: "*".to_owned(),
            task: None,
            positive: vec![Given::Number(1.0), Given::Boolean(true)],
            threshold: 0.5,
            thresholds: Vec::new(),
            dimensions: Vec::new(),
            value: None,
            weighted: false,
            distinct: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Binary,
    Multiclass,
    Regression,
}

/// A prediction or a true value as a record gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    Number(f64),
    Boolean(bool),
    Text(String),
}

impl Given {
    /// The form in which two values are compared.
    pub fn normal(&self) -> Self {
        match self {
            Self::Text(text) => {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let number: f64 = if whole { text.parse().unwrap() } else { f64::NAN };
                if number.abs() < 9_007_199_254_740_992.0 {
                    Self::Number(number + 0.0)
                } else if text == "true" || text == "false" {
                    Self::Boolean(text == "true")
                } else {
                    self.clone()
                }
            }
            Self::Number(number) => Self::Number(number + 0.0),
            Self::Boolean(_) => self.clone(),
        }
    }

    /// The text by which it is compared as a class.
    pub fn class(&self) -> String {
        match self.normal() {
            Self::Text(text) => text,
            Self::Number(number) => format!("{number}"),
            Self::Boolean(boolean) => format!("{boolean}"),
        }
    }
}

/// One record of a log.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    /// The Kafka timestamp.
    pub stamp: i64,
    pub body: Body,
}

/// What a record decodes to.
#[derive(Clone, Debug)]
pub enum Body {
    Inference(Inference),
    Label(Label),
    /// Cannot be decoded.
    Dead,
}

#[derive(Clone, Debug, Default)]
pub struct Inference {
    pub id: String,
    pub model: String,
    pub version: String,
    pub time: i64,
    pub prediction: Option<Given>,
    pub score: Option<f64>,
    /// Probability by class, each class once.
    pub scores: Vec<(String, f64)>,
    pub latency_ms: Option<f64>,
    pub failed: bool,
    /// Dimension and value.
    pub segments: Vec<(String, String)>,
    /// Each name once.
    pub features: Vec<(String, Held)>,
}

/// The value of a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    Null,
    /// NaN or infinite, or beyond 1e150.
    NotFinite,
    Number(f64),
    Text(String),
    Boolean(bool),
}

impl Held {
    pub fn number(&self) -> Option<f64> {
        match self {
            // -0.0 is 0.0.
            Self::Number(number) => Some(number + 0.0),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }
}

/// What takes the names that a cap leaves out.
pub const OTHER: &str = "(other)";

#[derive(Clone, Debug)]
pub struct Label {
    pub id: String,
    pub model: Option<String>,
    pub time: i64,
    pub value: Given,
    pub weight: f64,
}

/// Both logs of one partition number.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub inferences: Vec<Record>,
    pub labels: Vec<Record>,
}

/// What the tables must hold once both logs are read to their ends.
#[derive(Clone, Debug)]
pub struct Tables {
    pub rows: Vec<Row>,
    pub partitions: Vec<Account>,
}

/// One metric row.
#[expect(clippy::struct_field_names, reason = "the column's name")]
#[derive(Clone, Debug)]
pub struct Row {
    pub table: &'static str,
    pub grain: i64,
    pub model: String,
    pub version: String,
    pub segment: String,
    pub start: i64,
    /// Of a table that has several rows where others have one: what tells them apart, as text.
    pub own_key: String,
    pub cells: Vec<(String, Cell)>,
    pub sealed: bool,
    pub row_version: u64,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Count(u64),
    Time(i64),
    Text(String),
    Number(f64),
    /// A count of many that is only estimated.
    About(f64),
    Null(&'static str),
}

/// What became of the records of one partition number.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// End of the newest sealed window, whether or not it has records.
    pub seal_mark: Option<i64>,
    /// By topic (0 inferences, 1 labels) and model: accepted, duplicate, late, dead; matched, kept, orphan, dead.
    pub tally: BTreeMap<(usize, String), [i64; 4]>,
    /// Next offsets to read.
    pub positions: [i64; 2],
    pub clocks: [Option<i64>; 2],
}

/// An accepted inference with all that is folded for it.
#[expect(clippy::struct_excessive_bools, reason = "each says another thing about one record")]
pub struct Folded {
    pub window: i64,
    pub partition: usize,
    /// Of the inference.
    pub offset: i64,
    pub sealed: bool,
    pub time: i64,
    pub freshness: u64,
    pub latency_us: Option<u64>,
    pub failed: bool,
    pub binary: bool,
    pub score: Option<f64>,
    pub decision: Option<bool>,
    pub off_threshold: bool,
    pub regression: bool,
    /// The predicted number of a regression model.
    pub number: Option<f64>,
    pub multiclass: bool,
    /// The class that a multiclass model decided for.
    pub class: Option<String>,
    /// Its scores by class.
    pub scores: Vec<(String, f64)>,
    /// Its own prediction, else what its scores say.
    pub said: Option<Given>,
    pub walk: Walk,
    /// Model, version and segment, capped.
    pub keys: Vec<[String; 3]>,
    pub features: Vec<(String, Held)>,
}

/// What the matching labels of one inference did, in offset order.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    pub matched: u64,
    /// Offsets of the matching labels.
    pub labels: Vec<i64>,
    pub corrections: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    /// Of the first one.
    pub delay: Option<u64>,
    /// The winner's weight, a multiple of 2^-20.
    pub weight: f64,
    /// Whether the winner's value is the positive class.
    pub positive: Option<bool>,
    /// The winner's value, where it is a number.
    pub number: Option<f64>,
    /// The winner's value as a class.
    pub class: Option<String>,
    /// That of every label that was the winner.
    pub winners: Vec<String>,
}

/// The whole computation.
pub fn compute(settings: &Settings, partitions: &[Partition]) -> Tables {
    let (accounts, folded) = fold(settings, partitions);
    Tables { rows: rows(settings, &accounts, &folded), partitions: accounts }
}

/// What becomes of the records, before it is grouped.
pub fn fold(settings: &Settings, partitions: &[Partition]) -> (Vec<Account>, Vec<Folded>) {
    let mut folded = Vec::new();
    let mut accounts = Vec::new();
    for (number, logs) in partitions.iter().enumerate() {
        accounts.push(join::join(settings, number, logs, &mut folded));
    }
    (accounts, folded)
}

/// What the configuration says about a model.
pub fn rule_of(settings: &Settings, model: &str) -> ModelRule {
    fn fits(pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
                (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(tail, &rest[at..]))
            }),
        }
    }
    let found = settings.models.iter().find(|rule| fits(&rule.pattern, model));
    found.cloned().unwrap_or_default()
}

/// Tables whose rows read no labels: their versions count inferences alone.
const OF_INFERENCES: [&str; 3] = ["serving", "data_quality", "categories"];
/// What the version of every metric row has beside its counts.
pub const OF_METRICS: u64 = 1 << 46;

/// Groups the folded inferences by key, for the base window and each coarser grain.
fn rows(settings: &Settings, accounts: &[Account], folded: &[Folded]) -> Vec<Row> {
    let mut rows = Vec::new();
    for grain in std::iter::once(settings.window).chain(settings.grains.iter().copied()) {
        let mut groups: BTreeMap<(&[String; 3], i64), Vec<&Folded>> = BTreeMap::new();
        for one in folded {
            for key in &one.keys {
                groups.entry((key, join::window_of(one.time, grain))).or_default().push(one);
            }
        }
        for (([model, version, segment], start), members) in groups {
            let sealed = accounts
                .iter()
                .all(|account| account.seal_mark.is_some_and(|mark| start + grain <= mark));
            // Each part is one partition's state of one base window.
            let mut parts: BTreeMap<(usize, i64), u64> = BTreeMap::new();
            for one in &members {
                let part = parts.entry((one.partition, one.window));
                *part.or_insert(u64::from(one.sealed)) += 2 * (1 + one.walk.matched);
            }
            let all = parts.values().sum::<u64>();
            let inferences = 2 * u64::try_from(members.len()).expect("few");
            let rule = rule_of(settings, model);
            for (table, own_key, cells) in figures::tables(grain, settings, &rule, &members) {
                let body = if OF_INFERENCES.contains(&table) { inferences } else { all };
                rows.push(Row {
                    own_key,
                    table,
                    grain,
                    model: model.clone(),
                    version: version.clone(),
                    segment: segment.clone(),
                    start,
                    cells,
                    sealed,
                    row_version: (u64::from(settings.generation) << 48)
                        + OF_METRICS
                        + body
                        + u64::from(sealed),
                });
            }
        }
    }
    rows
}

/// Whether an estimate is within four standard errors of what it estimates.
pub fn is_about(estimate: f64, exact: f64) -> bool {
    (estimate - exact).abs() <= 4.0 * 1.04 / 64.0 * exact
}

/// Whether two figures are the same but for rounding.
pub fn is_close(left: f64, right: f64) -> bool {
    (left - right).abs() <= (1e-9 * left.abs().max(right.abs())).max(1e-12)
}
