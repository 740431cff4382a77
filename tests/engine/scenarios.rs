//! Runs every file of `scenarios/`: records by lines, then what must come of them. A file is read in three
//! interleavings (as written, inferences first, labels first), each with and without flushes and restarts; the
//! engine must equal the oracle each time, and the oracle the expected rows. The syntax is in `scenarios/README.md`.

use std::path::Path;

use tidegauge::engine::event::Stream;

use crate::drive::{self, Step};
use crate::oracle::{
    self, Body, Cell, Given, Held, Inference, Label, ModelRule, OF_METRICS, Partition, Record,
    Settings, Tables, Task,
};

const TOPICS: [&str; 2] = ["inference", "label"];
const OUTCOMES: [[&str; 4]; 2] =
    [["accepted", "duplicate", "late", "dead"], ["matched", "kept", "orphan", "dead"]];

pub(crate) struct Scenario<'a> {
    pub(crate) settings: Settings,
    pub(crate) logs: Vec<Partition>,
    pub(crate) steps: Vec<Vec<Step>>,
    expected: Vec<&'a str>,
}

#[test]
fn the_oracle_gives_the_expected_rows() {
    each(|scenario| {
        let tables = oracle::compute(&scenario.settings, &scenario.logs);
        for line in &scenario.expected {
            expect(line, &tables);
        }
    });
}

#[test]
fn the_engine_equals_the_oracle_in_any_interleaving() {
    each(|scenario| {
        for steps in interleavings(&scenario.logs, &scenario.steps) {
            drive::run(&scenario.settings, &scenario.logs, &steps)
                .must_equal(&scenario.settings, &scenario.logs);
        }
    });
}

fn each(hold: impl Fn(&Scenario<'_>) + std::panic::RefUnwindSafe) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/scenarios");
    let (mut count, mut failed) = (0, Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).unwrap();
            if std::panic::catch_unwind(|| hold(&parse(&text))).is_err() {
                failed.push(path);
            }
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} scenarios found");
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// As written, inferences first, labels first; and each with all settled and a flush after every record, and a restart
/// after some.
pub(crate) fn interleavings(logs: &[Partition], written: &[Vec<Step>]) -> Vec<Vec<Vec<Step>>> {
    let first = |stream| {
        let whole =
            |log: &Partition| vec![Step::Read(stream); log.inferences.len() + log.labels.len()];
        logs.iter().map(whole).collect::<Vec<_>>()
    };
    let mut all = vec![written.to_vec(), first(Stream::Inferences), first(Stream::Labels)];
    for plain in all.clone() {
        let disturb = |steps: Vec<Step>| {
            let mut disturbed = Vec::new();
            for (at, step) in steps.into_iter().enumerate() {
                disturbed.extend([step, Step::Settle, Step::Freeze { clean: at % 3 > 0 }]);
                if at % 4 == 3 {
                    disturbed.push(Step::Restart(at));
                }
            }
            disturbed
        };
        all.push(plain.into_iter().map(disturb).collect());
    }
    all
}

pub(crate) fn parse(text: &str) -> Scenario<'_> {
    let mut scenario = Scenario {
        settings: Settings {
            window: ms("5m"),
            lateness: ms("10m"),
            label_wait: ms("1h"),
            max_future: ms("5m"),
            max_gap: ms("7d"),
            clock_stamps: 1,
            caps: [1000; 3],
            most_features: 1000,
            class_caps: [256, 32],
            models: Vec::new(),
            grains: Vec::new(),
            has_labels: true,
            event_progress: false,
            generation: 0,
        },
        logs: vec![Partition::default()],
        steps: vec![Vec::new()],
        expected: Vec::new(),
    };
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = scenario.logs.len() - 1;
        match words[0] {
            "job" => words[1..].iter().for_each(|word| job(&mut scenario.settings, word)),
            "model" => scenario.settings.models.push(model(&words[1..])),
            "partition" => {
                scenario.logs.push(Partition::default());
                scenario.steps.push(Vec::new());
            }
            "inference" => {
                push(&mut scenario.logs[at].inferences, inference(&words[1..]));
                scenario.steps[at].push(Step::Read(Stream::Inferences));
            }
            "label" => {
                push(&mut scenario.logs[at].labels, label(&words[1..]));
                scenario.steps[at].push(Step::Read(Stream::Labels));
            }
            "flush" => scenario.steps[at].push(Step::Freeze { clean: true }),
            "catch_up" => scenario.steps[at].push(Step::CatchUp),
            "restart" => scenario.steps[at].push(Step::Restart(words[1].parse().unwrap())),
            "expect" => scenario.expected.push(line),
            other => panic!("unknown line {other:?}"),
        }
    }
    scenario
}

/// `1h5m`, `-3s`, `10ms` in milliseconds.
fn ms(text: &str) -> i64 {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut sum = 0;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("{text}: no unit"));
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let scale = match &tail[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            other => panic!("{text}: unknown unit {other:?}"),
        };
        sum += number.parse::<i64>().unwrap() * scale;
        rest = &tail[unit..];
    }
    sign * sum
}

fn pair(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

fn given(text: &str) -> Given {
    match text {
        "true" | "false" => Given::Boolean(text == "true"),
        _ if text.starts_with('\'') => Given::Text(text.trim_matches('\'').to_owned()),
        _ => text.parse().map_or_else(|_| Given::Text(text.to_owned()), Given::Number),
    }
}

fn job(settings: &mut Settings, word: &str) {
    let (name, value) = pair(word);
    match name {
        "window" => settings.window = ms(value),
        "lateness" => settings.lateness = ms(value),
        "label_wait" => settings.label_wait = ms(value),
        "max_future" => settings.max_future = ms(value),
        "max_gap" => settings.max_gap = ms(value),
        "clock_stamps" => settings.clock_stamps = value.parse().unwrap(),
        "max_models" => settings.caps[0] = value.parse().unwrap(),
        "max_versions" => settings.caps[1] = value.parse().unwrap(),
        "max_segments" => settings.caps[2] = value.parse().unwrap(),
        "grains" => settings.grains = value.split(',').map(ms).collect(),
        "without_labels" => settings.has_labels = false,
        "progress" => settings.event_progress = value == "event",
        "generation" => settings.generation = value.parse().unwrap(),
        other => panic!("unknown option {other:?}"),
    }
}

fn model(words: &[&str]) -> ModelRule {
    let mut rule = ModelRule { pattern: words[0].to_owned(), ..ModelRule::default() };
    for word in &words[1..] {
        let (name, value) = pair(word);
        match name {
            "task" if value == "binary" => rule.task = Some(Task::Binary),
            "task" if value == "regression" => rule.task = Some(Task::Regression),
            "task" if value == "multiclass" => rule.task = Some(Task::Multiclass),
            "positive" => rule.positive = value.split(',').map(given).collect(),
            "threshold" => rule.threshold = value.parse().unwrap(),
            "thresholds" => {
                rule.thresholds = value.split(',').map(|one| one.parse().unwrap()).collect();
            }
            "segments" => rule.dimensions = value.split(',').map(str::to_owned).collect(),
            "weights" if value == "use" => rule.weighted = true,
            "worth" => {
                let worth: Vec<f64> = value.split(',').map(|one| one.parse().unwrap()).collect();
                rule.value = Some(worth.try_into().unwrap());
            }
            other => panic!("unknown option {other:?}"),
        }
    }
    rule
}

/// Appends at the offset that the line names, or at the next.
fn push(log: &mut Vec<Record>, (offset, stamp, body): (Option<i64>, i64, Body)) {
    let next = log.last().map_or(0, |last| last.offset + 1);
    log.push(Record { offset: offset.unwrap_or(next), stamp, body });
}

fn inference(words: &[&str]) -> (Option<i64>, i64, Body) {
    let stamp = ms(words[0]);
    let mut offset = None;
    let mut said = Inference { id: words[1].to_owned(), time: stamp, ..Inference::default() };
    "m".clone_into(&mut said.model);
    for word in &words[2..] {
        let (name, value) = pair(word);
        match name {
            "offset" => offset = Some(value.parse().unwrap()),
            "event" => said.time = ms(value),
            "model" => value.clone_into(&mut said.model),
            "version" => value.clone_into(&mut said.version),
            "prediction" => said.prediction = Some(given(value)),
            "score" => said.score = Some(value.parse().unwrap()),
            "scores" => said.scores = scores(value),
            "latency_ms" => said.latency_ms = Some(value.parse().unwrap()),
            "error" => said.failed = true,
            feature if feature.starts_with("f.") => {
                said.features.push((feature[2..].to_owned(), held(value)));
            }
            dimension => said.segments.push((dimension.to_owned(), value.to_owned())),
        }
    }
    let body = if said.id == "(broken)" { Body::Dead } else { Body::Inference(said) };
    (offset, stamp, body)
}

/// The value of a feature: `null`, `nan`, a number, a boolean or else a text.
fn held(text: &str) -> Held {
    match text {
        "null" => Held::Null,
        "nan" => Held::NotFinite,
        "true" | "false" => Held::Boolean(text == "true"),
        _ => text.parse().map_or_else(|_| Held::Text(text.to_owned()), Held::Number),
    }
}

/// `a:0.7,b:0.3`.
fn scores(value: &str) -> Vec<(String, f64)> {
    let score = |pair: &str| {
        let (class, score) = pair.split_once(':').unwrap();
        (class.to_owned(), score.parse().unwrap())
    };
    value.split(',').map(score).collect()
}

fn label(words: &[&str]) -> (Option<i64>, i64, Body) {
    let stamp = ms(words[0]);
    let mut offset = None;
    let mut said = Label {
        id: words[1].to_owned(),
        model: None,
        time: stamp,
        value: Given::Number(1.0),
        weight: 1.0,
    };
    for word in &words[2..] {
        let (name, value) = pair(word);
        match name {
            "offset" => offset = Some(value.parse().unwrap()),
            "stamped" => said.time = ms(value),
            "model" => said.model = Some(value.to_owned()),
            "label" => said.value = given(value),
            "weight" => said.weight = value.parse().unwrap(),
            other => panic!("unknown field {other:?}"),
        }
    }
    let body = if said.id == "(broken)" { Body::Dead } else { Body::Label(said) };
    (offset, stamp, body)
}

fn expect(line: &str, tables: &Tables) {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    match words[0] {
        "inference_outcomes" | "label_outcomes" => expect_tally(line, &words, tables),
        "sealed_until" => {
            for (account, word) in tables.partitions.iter().zip(&words[1..]) {
                let wanted = (*word != "nothing").then(|| ms(word));
                assert_eq!(account.seal_mark, wanted, "{line}");
            }
        }
        "rows" => {
            let rows = tables.rows.iter().filter(|row| row.table == words[1]).count();
            assert_eq!(rows, words[2].parse::<usize>().unwrap(), "{line}");
        }
        table => expect_row(line, table, &words[1..], tables),
    }
}

/// `expect inference_outcomes MODEL accepted=1 ...`; outcomes that are not named are 0. `-` is the model without a name.
fn expect_tally(line: &str, words: &[&str], tables: &Tables) {
    let topic = usize::from(words[0] == "label_outcomes");
    let model = if words[1] == "-" { "" } else { words[1] };
    let mut sum = [0; 4];
    for account in &tables.partitions {
        if let Some(counts) = account.tally.get(&(topic, model.to_owned())) {
            (0..4).for_each(|at| sum[at] += counts[at]);
        }
    }
    let mut wanted = [0; 4];
    for word in &words[2..] {
        let (name, value) = pair(word);
        let at = OUTCOMES[topic].iter().position(|outcome| *outcome == name);
        let at = at.unwrap_or_else(|| panic!("{line}: no outcome {name} of a {}", TOPICS[topic]));
        wanted[at] = value.parse().unwrap();
    }
    assert_eq!(sum, wanted, "{line}");
}

/// `expect TABLE MODEL/VERSION/SEGMENT START+LENGTH column=value ...`; of a table that has several rows where others
/// have one, `TABLE/KEY`.
fn expect_row(line: &str, table: &str, words: &[&str], tables: &Tables) {
    let names: Vec<&str> = words[0].splitn(3, '/').collect();
    let (start, grain) = words[1].split_once('+').unwrap();
    let (table, own_key) = table.split_once('/').unwrap_or((table, ""));
    let row = tables.rows.iter().find(|row| {
        (row.table, &*row.own_key) == (table, own_key)
            && [&*row.model, &*row.version, &*row.segment] == *names
            && (row.start, row.grain) == (ms(start), ms(grain))
    });
    let row = row.unwrap_or_else(|| panic!("no row for {line}\nof {:?}", tables.rows));
    for word in &words[2..] {
        let (name, value) = pair(word);
        let is_right = match name {
            "sealed" => row.sealed == (value == "yes"),
            "version" => row.row_version - OF_METRICS == value.parse::<u64>().unwrap(),
            column => {
                let found = row.cells.iter().find(|(name, _)| name == column);
                let (_, cell) = found.unwrap_or_else(|| panic!("{line}: no column {column}"));
                is_right(cell, value)
            }
        };
        assert!(is_right, "{line}\n{name} is not {value} in {row:?}");
    }
}

fn is_right(cell: &Cell, text: &str) -> bool {
    match cell {
        Cell::Count(count) => *count == text.parse::<u64>().unwrap(),
        Cell::Time(time) => *time == ms(text),
        Cell::Text(is) => is == text,
        Cell::Null(reason) => *reason == text,
        Cell::Number(number) | Cell::About(number) => {
            let wanted: f64 = text.parse().unwrap_or(f64::NAN);
            (number - wanted).abs() <= 1e-9 * wanted.abs().max(0.1)
        }
    }
}
