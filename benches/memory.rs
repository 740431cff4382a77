//! Resident memory for each held inference at 10 million: without label, then with one each. Targets: 64 and 96 bytes.
//!
//! `cargo bench --bench memory` (another number of inferences: `-- 1000000`; in test mode it runs with 20,000).
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::as_conversions, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;

use std::sync::Arc;
use std::time::Instant;

use tidegauge::engine::Shard;
use tidegauge::engine::event::{
    Arrival, Event, Inference, Label, Offset, PartitionId, Positions, RequestId, Segment, Stream,
    Target, WEIGHT_ONE,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::names::{ModelId, Names, SegmentId, VersionId};
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::time::{EventTime, RecordTime};

use support::{MINUTE, settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let number = std::env::args().find_map(|arg| arg.parse().ok());
    // Only `cargo bench` says what it is.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let inferences: i64 = number.unwrap_or(if is_test { 20_000 } else { 10_000_000 });

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

fn at(stream: Stream, offset: i64, time: i64) -> Arrival {
    Arrival { stream, offset: Offset(offset), time: RecordTime(time) }
}

fn print(what: &str, target: u64, shard: &Shard, before: u64, each_ns: f64, longest_ns: u128) {
    let standing = shard.standing();
    let held = standing.held.max(1) as f64;
    println!(
        "memory/{what}: {:.1} resident bytes per held inference (target <= {target}); {:.1} by own count; \
         {} held; {each_ns:.0} ns a record, longest {:.1} ms",
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
