//! Resident memory for each held inference at 10 million: without label, then with one each; and the longest that one
//! record waits while the tables grow. Targets: 64 and 96 bytes, 50 ms. Then the states of 1,000 models, 64 partitions
//! and 13 open windows, of 5 labelled inferences each, without features and with 12. Target: 4 GB.
//!
//! `cargo bench --bench memory` (another number of inferences: `-- 1000000`; in test mode it runs with 20,000, and with
//! 20 models of one partition).
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::as_conversions, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use tidegauge::engine::Shard;
use tidegauge::engine::event::{
    Arrival, Event, Feature, FeatureValue, Inference, Label, Offset, PartitionId, Positions,
    RequestId, Segment, Stream, Target, WEIGHT_ONE,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::names::{FeatureId, ModelId, Names, SegmentId, VersionId};
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::time::{EventTime, RecordTime};

use support::{MINUTE, settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // Only `cargo bench` says what it is.
    let is_test = !args.iter().any(|arg| arg == "--bench");
    let (inferences, models, partitions) =
        if is_test { (20_000, 20, 1) } else { (10_000_000, 1_000, 64) };
    if let Some(at) = args.iter().position(|arg| arg == STATES) {
        return states(models, partitions, args[at + 1].parse().expect("a number of features"));
    }
    held(args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(inferences));
    // In processes of their own, because memory that was freed may stay resident.
    for features in ["0", "12"] {
        let program = std::env::current_exe().expect("it runs");
        let status = Command::new(program).args(&args[1..]).args([STATES, features]).status();
        assert!(status.expect("it runs").success(), "states with {features} features");
    }
}

/// The states with so many features, and nothing else.
const STATES: &str = "--states";

/// All in one partition, so that its tables are the largest.
fn held(inferences: i64) {
    let mut names = Names::default();
    let models: Vec<ModelId> =
        (0..3).map(|i| ModelId(names.intern(&format!("model-{i}")))).collect();
    let version = VersionId(names.intern("v1"));
    let regions: Vec<Segment> = ["eu", "us", "ap"]
        .iter()
        .map(|r| Segment { dimension: 0, id: SegmentId(names.intern(&format!("region={r}"))) })
        .collect();
    let channels: Vec<Segment> = ["web", "app"]
        .iter()
        .map(|c| Segment { dimension: 1, id: SegmentId(names.intern(&format!("channel={c}"))) })
        .collect();

    // An hour of inferences, all within the label wait: nothing seals.
    let hour = 60 * MINUTE;
    let mut shard = Shard::new(
        Arc::new(settings(5, &["region", "channel"])),
        &Mark::start(PartitionId(0), Positions::default(), 8),
    );
    let before = resident_bytes();
    let mut longest_ns = 0;
    let started = Instant::now();
    for i in 0..inferences {
        let time = i * hour / inferences;
        let mix = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let event = Event::Inference(Inference {
            id: RequestId::of(&i.to_le_bytes()),
            model: models[(mix >> 60) as usize % 3],
            version,
            time: EventTime(time),
            prediction: Target::Absent,
            latency_us: Some((mix >> 50) as u32),
            failed: false,
            score: Some((mix >> 11) as f64 / (1_u64 << 53) as f64),
            scores: &[],
            features: &[],
            segments: &[regions[(mix >> 40) as usize % 3], channels[(mix >> 30) as usize % 2]],
        });
        let one = Instant::now();
        let outcome = shard.observe(at(Stream::Inferences, i, time), &event, &mut names);
        assert_eq!(outcome, Outcome::Accepted);
        longest_ns = longest_ns.max(one.elapsed().as_nanos());
    }
    let each = started.elapsed().as_nanos() as f64 / inferences as f64;
    print("without label", 64, &shard, before, each, longest_ns);

    longest_ns = 0;
    let started = Instant::now();
    for i in 0..inferences {
        let time = i * hour / inferences + MINUTE;
        let event = Event::Label(Label {
            id: RequestId::of(&i.to_le_bytes()),
            model: None,
            time: EventTime(time),
            value: Target::Number((i % 2) as f64),
            weight: WEIGHT_ONE,
        });
        let one = Instant::now();
        let outcome = shard.observe(at(Stream::Labels, i, time), &event, &mut names);
        assert_eq!(outcome, Outcome::Matched);
        longest_ns = longest_ns.max(one.elapsed().as_nanos());
    }
    let each = started.elapsed().as_nanos() as f64 / inferences as f64;
    print("with label", 96, &shard, before, each, longest_ns);
}

/// Windows that are open: an hour of label wait in steps of 5 minutes, and the one that fills.
const WINDOWS: i64 = 13;
/// For each state, each with a label.
const INFERENCES: i64 = 5;
/// Where the rest is no longer held, but estimated from the partitions that are.
const ENOUGH_BYTES: u64 = 10 << 30;

/// One version and no segments: a state for each model, partition and window.
fn states(models: i64, partitions: i32, features: u64) {
    let mut names = Names::default();
    let ids: Vec<_> = (0..models).map(|i| ModelId(names.intern(&format!("model-{i}")))).collect();
    let version = VersionId(names.intern("v1"));
    let features: Vec<_> =
        (0..features).map(|i| FeatureId(names.intern(&format!("feature-{i}")))).collect();
    let settings = Arc::new(settings(5, &[]));
    let before = resident_bytes();
    let mut shards = Vec::new();
    while shards.len() < partitions as usize && resident_bytes() - before < ENOUGH_BYTES {
        let partition = PartitionId(shards.len() as i32);
        let mut shard =
            Shard::new(Arc::clone(&settings), &Mark::start(partition, Positions::default(), 8));
        for i in 0..WINDOWS * models * INFERENCES {
            let mix = mix(i as u64 * 64 + partition.0 as u64);
            let time = i * 5 * MINUTE / (models * INFERENCES);
            let id = RequestId::of(&i.to_le_bytes());
            let values: Vec<_> = (0..)
                .zip(&features)
                .map(|(number, &name)| Feature {
                    name,
                    value: FeatureValue::Number(unit(mix.wrapping_add(number))),
                })
                .collect();
            let event = Event::Inference(Inference {
                id,
                model: ids[(i % models) as usize],
                version,
                time: EventTime(time),
                prediction: Target::Absent,
                latency_us: Some((mix >> 50) as u32),
                failed: false,
                score: Some(unit(mix)),
                scores: &[],
                features: &values,
                segments: &[],
            });
            let outcome = shard.observe(at(Stream::Inferences, i, time), &event, &mut names);
            assert_eq!(outcome, Outcome::Accepted);
            let event = Event::Label(Label {
                id,
                model: None,
                time: EventTime(time),
                value: Target::Boolean(mix.is_multiple_of(2)),
                weight: WEIGHT_ONE,
            });
            let outcome = shard.observe(at(Stream::Labels, i, time), &event, &mut names);
            assert_eq!(outcome, Outcome::Matched);
        }
        // Once written, a state keeps no more than its figures: as a flush leaves it.
        let frozen = shard.freeze(&names);
        assert_eq!(frozen.states.len() as i64, models * WINDOWS);
        shard.clean(&frozen.mark);
        shards.push(shard);
    }
    let bytes = (resident_bytes() - before) as f64;
    let (part, held) =
        (shards.len() as f64, shards.iter().map(|shard| shard.standing().held).sum::<usize>());
    let own: usize = shards.iter().map(|shard| shard.standing().bytes).sum();
    let of_all = f64::from(partitions) / part;
    println!(
        "memory/states with {} features: {:.2} GB resident (target <= 4; {:.2} by own count) of {models} models x {partitions} \
         partitions x {WINDOWS} windows, {:.0} bytes a state; measured in {part} partitions, which hold {held} inferences",
        features.len(),
        bytes * of_all / 1e9,
        own as f64 * of_all / 1e9,
        bytes / (part * (models * WINDOWS) as f64),
    );
}

/// `SplitMix64`: the same records in every run.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

fn at(stream: Stream, offset: i64, time: i64) -> Arrival {
    Arrival { stream, offset: Offset(offset), time: RecordTime(time) }
}

fn print(what: &str, target: u64, shard: &Shard, before: u64, each_ns: f64, longest_ns: u128) {
    let standing = shard.standing();
    let held = standing.held.max(1) as f64;
    println!(
        "memory/{what}: {:.1} resident bytes per held inference (target <= {target}); {:.1} by own count; \
         {} held; {each_ns:.0} ns a record, longest {:.1} ms (target <= 50)",
        (resident_bytes() - before) as f64 / held,
        standing.bytes as f64 / held,
        standing.held,
        longest_ns as f64 / 1e6,
    );
}

/// Resident memory of this process, from Linux's `/proc/self/statm`.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("resident pages");
    pages * 4096
}
