//! Negative controls: the simulator with one promise broken at one of the seams. A simulator that catches none of them
//! would show nothing. Each control says by which invariants it is caught.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidegauge::engine::event::{PartitionId, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::accumulator::Value;
use tidegauge::engine::metrics::state_columns;
use tidegauge::engine::state::{Frozen, Version};
use tidegauge::engine::time::RecordTime;
use tidegauge::sink::StateVersion;
use tidegauge::source::Record;

use crate::simulator::{Case, Schedule, Tamper, run};

/// Seeds within which a control must be caught.
const SEEDS: u64 = 100;

/// Runs seeds until an invariant breaks; it must be one of these.
#[expect(clippy::print_stdout, reason = "says which check caught it")]
fn must_be_caught<T: Tamper + 'static>(control: &str, by: &[&str], make: impl Fn() -> T) {
    for seed in 0..SEEDS {
        if let Err(failure) = run(&Case::new(seed), &Schedule::new(seed), Arc::new(make())) {
            let invariant = failure.violation.invariant;
            let text = failure.violation.text.lines().take(2).collect::<Vec<_>>().join(" ");
            println!("{control}: caught by {invariant} at seed {seed}: {text}");
            assert!(by.contains(&invariant), "{control}: caught by {:?}", failure.violation);
            return;
        }
    }
    panic!("{control}: not caught within {SEEDS} seeds");
}

struct MarksFirst;

impl Tamper for MarksFirst {
    fn is_marks_first(&self) -> bool {
        true
    }
}

#[test]
fn marks_written_before_rows_are_caught() {
    let by = ["I3 state rows", "I3 seal marks", "I3 metric rows"];
    must_be_caught("marks before rows", &by, || MarksFirst);
}

struct FailuresAreAcknowledged;

impl Tamper for FailuresAreAcknowledged {
    fn acknowledges_failures(&self) -> bool {
        true
    }
}

#[test]
fn dropped_rows_of_a_failed_insert_are_caught() {
    // I3 looks at the tables that have one row for each key; the others are compared at the end.
    let by = ["I1 rows", "I3 state rows", "I3 seal marks", "I3 metric rows"];
    must_be_caught("rows of a failed insert dropped", &by, || FailuresAreAcknowledged);
}

/// A later write wins, whatever it says.
struct VersionsFromAClock;

impl Tamper for VersionsFromAClock {
    fn frozen(&self, frozen: &mut [Frozen], step: u64) {
        for row in frozen.iter_mut().flat_map(|shard| &mut shard.states) {
            row.version =
                Version::of(row.version.generation(), step * 1000, row.version.is_sealed());
        }
    }

    fn has_true_versions(&self) -> bool {
        false
    }
}

#[test]
fn versions_from_a_clock_are_caught() {
    must_be_caught("version from a clock", &["I1 rows"], || VersionsFromAClock);
}

/// Each writer counts its own writes.
#[derive(Default)]
struct VersionsFromACounter(Mutex<BTreeMap<PartitionId, u64>>);

impl Tamper for VersionsFromACounter {
    fn frozen(&self, frozen: &mut [Frozen], _step: u64) {
        let mut counters = self.0.lock().unwrap();
        for shard in frozen {
            let counter = counters.entry(shard.mark.partition).or_insert(1_000_000);
            *counter += 1000;
            for row in &mut shard.states {
                row.version =
                    Version::of(row.version.generation(), *counter, row.version.is_sealed());
            }
        }
    }

    fn has_true_versions(&self) -> bool {
        false
    }
}

#[test]
fn versions_from_a_counter_are_caught() {
    must_be_caught("version from a counter", &["I1 rows"], VersionsFromACounter::default);
}

struct PartitionIsForgotten;

impl Tamper for PartitionIsForgotten {
    fn versions(&self, versions: &mut Vec<StateVersion>) {
        versions.retain(|version| version.partition != PartitionId(1));
    }
}

#[test]
fn a_partition_forgotten_in_evaluation_is_caught() {
    let by = ["I1 rows", "I3 metric rows"];
    must_be_caught("a partition's parts forgotten", &by, || PartitionIsForgotten);
}

/// A replay that is counted: the mark's accounts stay, but its positions are those of its floor.
struct ReplayIsCounted;

impl Tamper for ReplayIsCounted {
    fn marks(&self, marks: &mut [Mark]) {
        for mark in marks {
            mark.positions = mark.floor.positions;
            mark.clocks = [mark.floor.inferences.clone(), mark.floor.labels.clone()];
        }
    }
}

#[test]
fn records_of_a_replay_that_are_counted_again_are_caught() {
    must_be_caught("replay counted", &["I2 accounts"], || ReplayIsCounted);
}

/// Where each payload was first.
#[derive(Default)]
struct DuplicatesAreNew(Mutex<BTreeMap<(PartitionId, &'static [u8]), i64>>);

impl Tamper for DuplicatesAreNew {
    fn record(&self, record: Record<'static>, _latest: i64) -> Record<'static> {
        let Some(payload) = record.payload.filter(|_| record.stream == Stream::Inferences) else {
            return record;
        };
        let mut first = self.0.lock().unwrap();
        if *first.entry((record.partition, payload)).or_insert(record.offset.0) == record.offset.0 {
            return record;
        }
        let text = std::str::from_utf8(payload).unwrap();
        let text = text.replace(r#""request_id":""#, r#""request_id":"again "#);
        Record { payload: Some(Box::leak(text.into_bytes().into_boxed_slice())), ..record }
    }
}

#[test]
fn duplicates_folded_twice_are_caught() {
    let by = ["I1 rows", "I4 beyond the truth", "I4 invented key"];
    must_be_caught("duplicates folded twice", &by, DuplicatesAreNew::default);
}

/// Progress of either topic counts for both.
struct OtherTopicsProgress;

impl Tamper for OtherTopicsProgress {
    fn record(&self, record: Record<'static>, latest: i64) -> Record<'static> {
        Record { time: RecordTime(latest), ..record }
    }
}

#[test]
fn lateness_by_the_other_topics_progress_is_caught() {
    let by = ["I1 rows", "I2 accounts", "I3 state rows", "I3 metric rows", "I4 beyond the truth"];
    must_be_caught("lateness by the other topic", &by, || OtherTopicsProgress);
}

/// A sum that is another one each time, by no more than doubles round.
struct SumsByTheStep;

impl Tamper for SumsByTheStep {
    fn frozen(&self, frozen: &mut [Frozen], step: u64) {
        // No figure tells whether this one is exact: what is caught are rows of one version that differ.
        let mut columns = state_columns();
        let at = columns.position(|column| column.name == "calibration_variance_sum").unwrap();
        let ulps = f64::from(u32::try_from(step % 97).unwrap());
        for row in frozen.iter_mut().flat_map(|shard| &mut shard.states) {
            let mut values = row.state.columns().into_owned();
            let Value::Sum(sum) = &mut values[at] else { panic!("an exact sum") };
            let nudge = sum.value() * ulps * f64::EPSILON;
            sum.add(nudge);
            row.state = values.into();
        }
    }
}

#[test]
fn sums_that_depend_on_how_they_came_about_are_caught() {
    must_be_caught("a sum nudged by some ulps", &["I7 one row of a version"], || SumsByTheStep);
}

struct OlderMarksAreHidden;

impl Tamper for OlderMarksAreHidden {
    fn hides_older_marks(&self) -> bool {
        true
    }
}

#[test]
fn tables_that_went_back_unnoticed_are_caught() {
    let by = ["I1 rows", "I3 state rows", "I3 seal marks", "I3 metric rows", "I5 lag"];
    must_be_caught("tables that went back unnoticed", &by, || OlderMarksAreHidden);
}
