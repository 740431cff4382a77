//! Instructions of the hot path for fixed records, counted by valgrind: the same number in every run of one binary,
//! whatever else the machine does. Fails where a step needs 10 % more than `instructions.txt` says.
//!
//! `cargo bench --bench instructions` for the release profile, `cargo test --bench instructions` for the other;
//! `-- --write` puts the figures of this run into the file.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format};
use tidegauge::engine::Shard;
use tidegauge::engine::event::{Arrival, Event, Offset, PartitionId, Positions, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::names::Names;
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::time::RecordTime;
use tidegauge::sink::row;
use tidegauge::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA};
use tidegauge::traffic::{Produced, Shape, Shares, Traffic, TrafficSettings};

use support::{MINUTE, settings};

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const INFERENCES: u64 = 2000;
/// More than this share above the figure of the file is a failure.
const ALLOWED: f64 = 0.10;
/// What is counted: each with the function below that does it. (Two functions with one body would be made one.)
const STEPS: [(&str, &str); 4] = [
    ("decode_json", "decode_all"),
    ("decode_avro", "decode_all"),
    ("join_and_metrics", "join_and_metrics"),
    ("freeze_and_encode", "freeze_and_encode"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--step") {
        run(&arguments[at + 1]);
        return ExitCode::SUCCESS;
    }
    let profile = if arguments.iter().any(|it| it == "--bench") { "release" } else { "dev" };
    let mut figures = read();
    let mut is_good = true;
    for (step, function) in STEPS {
        let found = count(step, function);
        let known = figures.insert((profile.to_owned(), step.to_owned()), found);
        let ratio = known.map(|known| found / known);
        let said = ratio.map_or("new".to_owned(), |ratio| format!("{ratio:.3} of the figure kept"));
        println!("{profile} {step}: {found:.0} instructions a record, {said}");
        is_good &= ratio.is_some_and(|ratio| ratio <= 1.0 + ALLOWED);
    }
    if arguments.iter().any(|argument| argument == "--write") {
        write(&figures);
        return ExitCode::SUCCESS;
    }
    if !is_good {
        println!(
            "more than 10 % above benches/instructions.txt, or not in it: `-- --write` if that is meant"
        );
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions of one step for each record, by valgrind.
fn count(step: &str, function: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=instructions::{function}*"))
        .arg(std::env::current_exe().expect("it runs"))
        .args(["--step", step])
        .output()
        .expect("valgrind is there: `.ci/fetch test-packages` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let collected: f64 = collected
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("no count in what valgrind said:\n{said}"));
    assert!(collected > 0.0, "the step {step} was not found:\n{said}");
    let records = i32::try_from(2 * INFERENCES).expect("few");
    collected / f64::from(records)
}

/// By profile and step.
type Figures = BTreeMap<(String, String), f64>;

fn read() -> Figures {
    let text = fs::read_to_string(FIGURES).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(((words.next()?, words.next()?), words.next()?.parse().ok()?))
    };
    lines.map(|line| figure(line).unwrap_or_else(|| panic!("{FIGURES}: {line}"))).collect()
}

fn write(figures: &Figures) {
    let mut text =
        "# Instructions a record: profile, step, count. See instructions.rs.\n".to_owned();
    for ((profile, step), figure) in figures {
        writeln!(text, "{profile} {step} {figure:.0}").expect("memory");
    }
    fs::write(FIGURES, text).expect("the folder is there");
}

/// One step, once, after all that leads to it.
fn run(step: &str) {
    let json = records(Encoding::Json);
    match step {
        "decode_json" => {
            let mut names = Names::default();
            decode_all(&mut decoders(false), &json, &mut names);
        }
        "decode_avro" => {
            let mut names = Names::default();
            let avro = records(Encoding::Avro { ids: None });
            decode_all(&mut decoders(true), &avro, &mut names);
        }
        "join_and_metrics" => drop(folded(&json)),
        "freeze_and_encode" => {
            let (mut shard, names) = folded(&json);
            freeze_and_encode(&mut shard, &names);
        }
        other => panic!("no step {other}"),
    }
}

fn records(encoding: Encoding) -> Vec<Produced> {
    let settings = TrafficSettings {
        seed: 1,
        start_ms: 0,
        inferences_per_s: 10.0,
        window_ms: MINUTE,
        lateness_ms: 10 * MINUTE,
        label_wait_ms: 60 * MINUTE,
        falls_after_ms: i64::MAX / 2,
        shares: Shares::NONE,
        shape: Shape::USUAL,
    };
    let mut traffic = Traffic::new(settings, encoding);
    std::iter::from_fn(|| traffic.produce(traffic.inferences() < INFERENCES)).collect()
}

fn decoders(is_avro: bool) -> [Decoder; 2] {
    [(Stream::Inferences, INFERENCE_SCHEMA), (Stream::Labels, LABEL_SCHEMA)].map(
        |(stream, schema)| {
            let format = if is_avro { Format::AvroFile(schema.to_owned()) } else { Format::Json };
            let segments = vec!["region".to_owned()];
            let fields = FieldPaths::new(stream);
            let settings = DecoderSettings { stream, format, fields, segments };
            Decoder::new(&settings, Arc::new(Schemas::none())).expect("the settings are good")
        },
    )
}

#[inline(never)]
fn decode_all(decoders: &mut [Decoder; 2], records: &[Produced], names: &mut Names) {
    for record in records {
        let event = decoders[record.stream.index()].decode(record.payload.as_deref(), names);
        black_box(event).expect("the record is good");
    }
}

/// A shard that has read all records, joined and counted.
fn folded(records: &[Produced]) -> (Shard, Names) {
    let mut names = Names::default();
    let mut decoders = decoders(false);
    let mut shard = Shard::new(
        Arc::new(settings(1, &["region"])),
        &Mark::start(PartitionId(0), Positions::default(), 8),
    );
    let mut next = [0, 0];
    for record in records {
        let offset = &mut next[record.stream.index()];
        let at = Arrival {
            stream: record.stream,
            offset: Offset(*offset),
            time: RecordTime(record.at_ms),
        };
        *offset += 1;
        let decoder = &mut decoders[record.stream.index()];
        let event = decoder.decode(record.payload.as_deref(), &mut names).expect("good");
        join_and_metrics(&mut shard, at, &event, &mut names);
    }
    (shard, names)
}

#[inline(never)]
fn join_and_metrics(shard: &mut Shard, at: Arrival, event: &Event<'_>, names: &mut Names) {
    let outcome = shard.observe(at, event, names);
    assert!(matches!(outcome, Outcome::Accepted | Outcome::Matched), "{outcome:?}");
}

#[inline(never)]
fn freeze_and_encode(shard: &mut Shard, names: &Names) {
    let states = shard.freeze(names).states;
    let bytes: usize = row::states("bench", &states).map(|batch| batch.body.len()).sum();
    assert!(black_box(bytes) > 0, "no rows");
}
