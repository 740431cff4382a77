//! A naive batch computation of every row, from the raw logs of both topics. Written to be read beside the rules, not
//! to be fast: whole logs in memory, loops over pairs, quantiles by sorting, plain floating sums.
//! It shares no code with the program, so that the two can only agree by both being right.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

#[path = "oracle/figures.rs"]
pub mod figures;

/// The name that takes what a cap leaves out.
const OTHER: &str = "(other)";

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
    pub dimensions: Vec<String>,
    /// What tp, fp, fn and tn are worth.
    pub value: Option<[f64; 4]>,
}

impl Default for ModelRule {
    fn default() -> Self {
        Self {
            pattern: "*".to_owned(),
            task: None,
            positive: vec![Given::Number(1.0), Given::Boolean(true)],
            threshold: 0.5,
            dimensions: Vec::new(),
            value: None,
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
    /// Whether it carries probabilities by class.
    pub has_scores: bool,
    pub latency_ms: Option<f64>,
    pub failed: bool,
    /// Dimension and value.
    pub segments: Vec<(String, String)>,
}

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
#[derive(Clone, Debug)]
pub struct Row {
    pub table: &'static str,
    pub grain: i64,
    pub model: String,
    pub version: String,
    pub segment: String,
    pub start: i64,
    pub cells: Vec<(String, Cell)>,
    pub sealed: bool,
    pub row_version: u64,
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    Count(u64),
    Time(i64),
    Number(f64),
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
pub struct Folded {
    pub window: i64,
    pub partition: usize,
    pub sealed: bool,
    pub time: i64,
    pub freshness: u64,
    pub latency_us: Option<u64>,
    pub failed: bool,
    pub binary: bool,
    pub score: Option<f64>,
    pub own: Option<bool>,
    pub decision: Option<bool>,
    pub off_threshold: bool,
    pub walk: Walk,
    keys: Vec<[String; 3]>,
}

/// What the matching labels of one inference did, in offset order.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    pub matched: u64,
    pub corrections: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    /// Of the first one.
    pub delay: Option<u64>,
    /// Whether the winner's value is the positive class.
    pub positive: Option<bool>,
}

/// The whole computation.
pub fn compute(settings: &Settings, partitions: &[Partition]) -> Tables {
    let mut folded = Vec::new();
    let mut accounts = Vec::new();
    for (number, logs) in partitions.iter().enumerate() {
        accounts.push(join(settings, number, logs, &mut folded));
    }
    Tables { rows: rows(settings, &accounts, &folded), partitions: accounts }
}

/// A record with its arrival.
struct Arrived<'a> {
    record: &'a Record,
    arrival: i64,
}

/// Walks one topic partition: arrival of each record, and the clock at its end.
fn arrivals<'a>(settings: &Settings, log: &'a [Record]) -> (Vec<Arrived<'a>>, Option<i64>) {
    let mut greatest = BinaryHeap::new(); // of negated stamps: the top is the smallest of the k greatest
    let mut clock = None;
    let mut all = Vec::new();
    for record in log {
        let own = match &record.body {
            Body::Inference(inference) => Some(inference.time),
            Body::Label(label) => Some(label.time),
            Body::Dead => None,
        };
        let stamp = if settings.event_progress { own } else { Some(record.stamp) };
        if let Some(stamp) = stamp {
            greatest.push(-stamp);
            if greatest.len() > settings.clock_stamps {
                greatest.pop();
            }
            if greatest.len() == settings.clock_stamps {
                clock = greatest.peek().map(|negated| -negated);
            }
        }
        let stamp = stamp.unwrap_or(record.stamp);
        let arrival = clock.map_or(stamp, |now| now.max(stamp.min(now + settings.max_gap)));
        all.push(Arrived { record, arrival });
    }
    (all, clock)
}

fn window_of(time: i64, size: i64) -> i64 {
    time.div_euclid(size) * size
}

/// Everything that happens in one partition.
fn join(settings: &Settings, number: usize, logs: &Partition, folded: &mut Vec<Folded>) -> Account {
    let (inferences, inference_clock) = arrivals(settings, &logs.inferences);
    let (labels, label_clock) = arrivals(settings, &logs.labels);
    let mut account = Account { clocks: [inference_clock, label_clock], ..Account::default() };
    for (topic, log) in [&logs.inferences, &logs.labels].into_iter().enumerate() {
        account.positions[topic] = log.last().map_or(0, |record| record.offset + 1);
    }
    let needed = if settings.has_labels { vec![0, 1] } else { vec![0] };
    let slowest = needed.iter().map(|&topic| account.clocks[topic]).min().flatten();
    let reach = settings.label_wait + 2 * settings.lateness;
    // The greatest multiple E of the window with E + reach < clock.
    account.seal_mark = slowest.map(|clock| window_of(clock - 1 - reach, settings.window));

    let accepted = accept(settings, &inferences, &mut account);
    let walks = match_labels(settings, &accepted, &labels, inference_clock, &mut account);
    let keys = capped_keys(settings, &accepted);
    for ((one, walk), keys) in accepted.iter().zip(walks).zip(keys) {
        let Body::Inference(inference) = &one.record.body else { continue };
        let window = window_of(inference.time, settings.window);
        let sealed = account.seal_mark.is_some_and(|mark| window + settings.window <= mark);
        folded.push(fold(settings, number, one, inference, walk, window, sealed, keys));
    }
    account.tally = capped_tally(&account.tally, settings.caps[0]);
    account
}

/// Of each topic the accounts of the models whose names come first by XXH3-64 and of the nameless; the others' sum.
fn capped_tally(
    tally: &BTreeMap<(usize, String), [i64; 4]>,
    cap: usize,
) -> BTreeMap<(usize, String), [i64; 4]> {
    let mut capped: BTreeMap<(usize, String), [i64; 4]> = BTreeMap::new();
    let order = |name: &str| (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), name.to_owned());
    for ((topic, name), counts) in tally {
        let named = tally.keys().filter(|(other, name)| other == topic && !name.is_empty());
        let before = named.filter(|(_, other)| order(other) < order(name)).count();
        let shown = if name.is_empty() || before < cap { name } else { OTHER };
        let sum = capped.entry((*topic, shown.to_owned())).or_default();
        (0..4).for_each(|at| sum[at] += counts[at]);
    }
    capped
}

/// Late, in the future, duplicate or accepted.
fn accept<'a, 'b>(
    settings: &Settings,
    inferences: &'b [Arrived<'a>],
    account: &mut Account,
) -> Vec<&'b Arrived<'a>> {
    let mut horizons: BTreeMap<[&str; 3], Vec<i64>> = BTreeMap::new();
    let mut accepted = Vec::new();
    for one in inferences {
        let Body::Inference(inference) = &one.record.body else {
            account.tally.entry((0, String::new())).or_default()[3] += 1;
            continue;
        };
        let counts = account.tally.entry((0, inference.model.clone())).or_default();
        if one.arrival - inference.time > settings.lateness {
            counts[2] += 1;
            continue;
        }
        if inference.time > one.arrival + settings.max_future {
            counts[3] += 1;
            continue;
        }
        let identity = [&*inference.id, &*inference.model, &*inference.version];
        let earlier = horizons.entry(identity).or_default();
        if earlier.iter().any(|&horizon| one.arrival <= horizon) {
            counts[1] += 1;
        } else {
            counts[0] += 1;
            accepted.push(one);
        }
        let end = window_of(inference.time, settings.window) + settings.window;
        earlier.push(end + settings.label_wait + 2 * settings.lateness);
    }
    accepted
}

/// The walk of each accepted inference, and the outcome of each label.
fn match_labels(
    settings: &Settings,
    accepted: &[&Arrived<'_>],
    labels: &[Arrived<'_>],
    inference_clock: Option<i64>,
    account: &mut Account,
) -> Vec<Walk> {
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, one) in accepted.iter().enumerate() {
        if let Body::Inference(inference) = &one.record.body {
            by_id.entry(&inference.id).or_default().push(at);
        }
    }
    let mut walks = vec![Walk::default(); accepted.len()];
    let mut winners: Vec<Option<&Arrived<'_>>> = vec![None; accepted.len()];
    for one in labels {
        let Body::Label(label) = &one.record.body else {
            account.tally.entry((1, String::new())).or_default()[3] += 1;
            continue;
        };
        let mut first_model = None; // accepted is in offset order
        for &at in by_id.get(&*label.id).map_or(&[][..], |all| all) {
            let Body::Inference(inference) = &accepted[at].record.body else { continue };
            let delay = one.arrival - inference.time;
            let fits = label.model.as_ref().is_none_or(|model| *model == inference.model);
            if fits && -settings.lateness <= delay && delay <= settings.label_wait {
                first_model.get_or_insert(&inference.model);
                let rule = rule_of(settings, &inference.model);
                step(&mut walks[at], &mut winners[at], one, label, delay, &rule);
            }
        }
        let is_over = inference_clock.is_some_and(|now| now > one.arrival + 2 * settings.lateness);
        let model = label.model.as_ref().or(first_model).cloned().unwrap_or_default();
        let outcome = if first_model.is_some() { 0 } else { 1 + usize::from(is_over) };
        account.tally.entry((1, model)).or_default()[outcome] += 1;
    }
    walks
}

/// One more matching label.
fn step<'a>(
    walk: &mut Walk,
    winner: &mut Option<&'a Arrived<'a>>,
    one: &'a Arrived<'a>,
    label: &'a Label,
    delay: i64,
    rule: &ModelRule,
) {
    walk.matched += 1;
    let said = |label: &Label| (label.value.normal(), (label.weight * 1_048_576.0).round());
    if let Some(Arrived { record: Record { offset, body: Body::Label(best), .. }, .. }) = *winner {
        let wins = (label.time, one.record.offset) > (best.time, *offset);
        let differs = said(label) != said(best);
        if wins && differs {
            walk.corrections += 1;
        } else {
            walk.duplicates += 1;
            walk.conflicts += u64::from(differs);
        }
        if !wins {
            return;
        }
    } else {
        walk.delay = Some(u64::try_from(delay.max(0)).unwrap());
    }
    *winner = Some(one);
    walk.positive = Some(is_positive(rule, &label.value));
}

fn is_positive(rule: &ModelRule, value: &Given) -> bool {
    rule.positive.iter().any(|positive| positive.normal() == value.normal())
}

/// The capped model, version and segments of each accepted inference, in offset order.
fn capped_keys(settings: &Settings, accepted: &[&Arrived<'_>]) -> Vec<Vec<[String; 3]>> {
    /// The name, or `(other)` once the set is full.
    fn held(set: &mut BTreeSet<String>, cap: usize, name: &str) -> String {
        if set.contains(name) || set.len() < cap {
            set.insert(name.to_owned());
            name.to_owned()
        } else {
            OTHER.to_owned()
        }
    }
    let mut models: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let mut versions: BTreeMap<(i64, String), BTreeSet<String>> = BTreeMap::new();
    let mut segments: BTreeMap<(i64, String, String, String), BTreeSet<String>> = BTreeMap::new();
    let mut all = Vec::new();
    for one in accepted {
        let Body::Inference(inference) = &one.record.body else { continue };
        let window = window_of(inference.time, settings.window);
        let model = held(models.entry(window).or_default(), settings.caps[0], &inference.model);
        let version = if model == OTHER {
            String::new()
        } else {
            let known = versions.entry((window, model.clone())).or_default();
            held(known, settings.caps[1], &inference.version)
        };
        let mut keys = vec![[model.clone(), version.clone(), "all".to_owned()]];
        for dimension in rule_of(settings, &inference.model).dimensions {
            for (_, value) in inference.segments.iter().filter(|(name, _)| *name == dimension) {
                let group = (window, model.clone(), version.clone(), dimension.clone());
                let value = held(segments.entry(group).or_default(), settings.caps[2], value);
                keys.push([model.clone(), version.clone(), format!("{dimension}={value}")]);
            }
        }
        all.push(keys);
    }
    all
}

#[expect(clippy::too_many_arguments, reason = "one record and all that is known about it")]
fn fold(
    settings: &Settings,
    partition: usize,
    one: &Arrived<'_>,
    inference: &Inference,
    walk: Walk,
    window: i64,
    sealed: bool,
    keys: Vec<[String; 3]>,
) -> Folded {
    let rule = rule_of(settings, &inference.model);
    let shape = match inference.prediction.as_ref().map(Given::normal) {
        _ if inference.has_scores => Some(Task::Multiclass),
        _ if inference.score.is_some() => Some(Task::Binary),
        Some(Given::Boolean(_)) => Some(Task::Binary),
        Some(Given::Text(_)) => Some(Task::Multiclass),
        Some(Given::Number(_)) => Some(Task::Regression),
        None => None,
    };
    let binary = rule.task.or(shape) == Some(Task::Binary);
    let own = inference.prediction.as_ref().map(|value| is_positive(&rule, value));
    let own = own.filter(|_| binary);
    let by_score = inference.score.filter(|_| binary).map(|score| score >= rule.threshold);
    Folded {
        window,
        partition,
        sealed,
        time: inference.time,
        freshness: u64::try_from((one.arrival - inference.time).max(0)).unwrap(),
        latency_us: inference.latency_ms.map(figures::whole_us),
        failed: inference.failed,
        binary,
        score: inference.score.filter(|_| binary),
        own,
        decision: own.or(by_score),
        off_threshold: own.is_some() && by_score.is_some() && own != by_score,
        walk,
        keys,
    }
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

/// Groups the folded inferences by key, for the base window and each coarser grain.
fn rows(settings: &Settings, accounts: &[Account], folded: &[Folded]) -> Vec<Row> {
    let mut rows = Vec::new();
    for grain in std::iter::once(settings.window).chain(settings.grains.iter().copied()) {
        let mut groups: BTreeMap<(&[String; 3], i64), Vec<&Folded>> = BTreeMap::new();
        for one in folded {
            for key in &one.keys {
                groups.entry((key, window_of(one.time, grain))).or_default().push(one);
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
            let body = parts.values().sum::<u64>() + u64::from(sealed);
            let value = rule_of(settings, model).value;
            for (table, cells) in figures::tables(grain, value, &members) {
                rows.push(Row {
                    table,
                    grain,
                    model: model.clone(),
                    version: version.clone(),
                    segment: segment.clone(),
                    start,
                    cells,
                    sealed,
                    row_version: (u64::from(settings.generation) << 48) + body,
                });
            }
        }
    }
    rows
}

/// Whether two figures are the same but for rounding.
pub fn is_close(left: f64, right: f64) -> bool {
    (left - right).abs() <= (1e-9 * left.abs().max(right.abs())).max(1e-12)
}
