//! What a shard holds: no more after a restart than before, and no longer what is gone.

use std::sync::Arc;

use tidegauge::engine::event::{
    Arrival, Event, Feature, FeatureValue, Inference, Label, Offset, PartitionId, Positions,
    RequestId, Segment, Stream, Target, WEIGHT_ONE,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::keys::{KeyState, Spread};
use tidegauge::engine::metrics::features::FeaturesInput;
use tidegauge::engine::names::{FeatureId, ModelId, Names, SegmentId, VersionId};
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::time::{EventTime, RecordTime};
use tidegauge::engine::{Shard, ShardSettings};

use crate::{scenarios, shard};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Windows of 5 minutes, 10 minutes of lateness, an hour of label wait.
fn settings(job: &str) -> Arc<ShardSettings> {
    Arc::new(shard::settings(&scenarios::parse(job).settings))
}

struct Run {
    shard: Shard,
    names: Names,
}

impl Run {
    fn new(settings: &Arc<ShardSettings>, mark: &Mark) -> Self {
        Self { shard: Shard::new(Arc::clone(settings), mark), names: Names::default() }
    }

    fn inference(&mut self, offset: i64, time: i64, region: i64) {
        let region = SegmentId(self.names.intern(&format!("region={region}")));
        let inference = Inference {
            id: RequestId::of(&offset.to_le_bytes()),
            model: ModelId(self.names.intern("m")),
            version: VersionId(Names::EMPTY),
            time: EventTime(time),
            prediction: Target::Absent,
            latency_us: None,
            failed: false,
            score: Some(0.5),
            scores: &[],
            features: &[],
            segments: &[Segment { dimension: 0, id: region }],
        };
        let outcome = self.observe(Stream::Inferences, offset, time, &Event::Inference(inference));
        assert_eq!(outcome, Outcome::Accepted);
    }

    fn label(&mut self, offset: i64, time: i64) {
        let label = Label {
            id: RequestId::of(&offset.to_le_bytes()),
            model: None,
            time: EventTime(time),
            value: Target::Number(1.0),
            weight: WEIGHT_ONE,
        };
        let outcome = self.observe(Stream::Labels, offset, time, &Event::Label(label));
        assert_ne!(outcome, Outcome::Dead);
    }

    fn observe(&mut self, stream: Stream, offset: i64, time: i64, event: &Event<'_>) -> Outcome {
        let at = Arrival { stream, offset: Offset(offset), time: RecordTime(time) };
        self.shard.observe(at, event, &mut self.names)
    }

    fn flush(&mut self) -> Mark {
        let mark = self.shard.freeze(&self.names).mark;
        self.shard.clean(&mark);
        mark
    }

    fn bytes(&self) -> usize {
        self.shard.standing().bytes
    }
}

fn beginning(settings: &ShardSettings) -> Mark {
    Mark::start(PartitionId(0), Positions::default(), settings.clock_stamps)
}

/// An inference each 200 ms for six hours, each with its label a minute later. The stamp of one may be hours ahead: until
/// its window is sealed, a replay begins at it.
struct Steady {
    ahead: i64,
}

impl Steady {
    const STEP: i64 = 200;
    const LAG: i64 = MINUTE / Self::STEP;
    const END: Positions =
        Positions { inferences: 6 * HOUR / Self::STEP, labels: 6 * HOUR / Self::STEP - Self::LAG };

    /// Plays the records between these positions by time; `each` is called behind each of them.
    fn play(&self, run: &mut Run, from: Positions, to: Positions, mut each: impl FnMut(&mut Run)) {
        let mut next = from;
        while next != to {
            let inferences_are_behind = next.inferences <= next.labels + Self::LAG;
            if next.inferences < to.inferences
                && (inferences_are_behind || next.labels == to.labels)
            {
                let ahead = if next.inferences == HOUR / Self::STEP { self.ahead } else { 0 };
                run.inference(next.inferences, next.inferences * Self::STEP + ahead, 0);
                next.inferences += 1;
            } else {
                run.label(next.labels, (next.labels + Self::LAG) * Self::STEP);
                next.labels += 1;
            }
            each(run);
        }
    }
}

#[test]
fn a_replay_holds_hardly_more_than_the_run_that_it_goes_on_from() {
    let settings = settings("job clock_stamps=8");
    for ahead in [0, 5 * HOUR] {
        let steady = Steady { ahead };
        let mut run = Run::new(&settings, &beginning(&settings));
        let (mut mark, mut records, mut most) = (beginning(&settings), 0, 0);
        steady.play(&mut run, Positions::default(), Steady::END, |run| {
            records += 1;
            if records % 1_000 == 0 {
                most = most.max(run.bytes());
                mark = run.flush();
            }
        });
        let mut again = Run::new(&settings, &mark);
        let mut most_again = 0;
        steady.play(&mut again, mark.floor.positions, mark.positions, |run| {
            most_again = most_again.max(run.bytes());
        });
        assert!(again.shard.has_caught_up());
        let read_again = mark.positions.inferences - mark.floor.positions.inferences;
        assert!(read_again * Steady::STEP > if ahead > 0 { 4 * HOUR } else { 2 * HOUR });
        assert!(most_again < most * 11 / 10, "{most_again} bytes, {most} in the run before");
    }
}

/// Each of very many groups counts until its window is dropped.
#[test]
fn groups_that_are_gone_give_their_memory_back() {
    let settings = settings("job without_labels max_segments=2\nmodel m segments=region");
    let mut run = Run::new(&settings, &beginning(&settings));
    for n in 0..20_000 {
        run.inference(n, 0, n);
    }
    run.flush();
    let most = run.bytes();
    for n in 0..6 * 60 {
        run.inference(20_000 + n, n * MINUTE, 0);
        run.flush();
    }
    assert!(run.bytes() < most / 20, "{} of {most} bytes", run.bytes());
}

/// Nothing is frozen between, which weighs too.
#[test]
fn many_new_states_are_weighed_in_time() {
    let settings = settings("job without_labels max_segments=10000\nmodel m segments=region");
    for states in [1_000, 5_000] {
        let mut run = Run::new(&settings, &beginning(&settings));
        for n in 0..states {
            run.inference(n, 0, n);
        }
        let said = run.bytes();
        run.shard.settle();
        assert!(said * 5 >= run.bytes() * 4, "{said} of {} bytes", run.bytes());
    }
}

/// Those of one key go to its state at once, while its records are counted when what else they say is folded in.
#[test]
fn features_are_weighed_however_few_records_wait() {
    let mut names = Names::default();
    let id = names.intern("all");
    let city = FeatureId(names.intern("city"));
    for keys in [1, 2] {
        let of_key = |_| KeyState::new(ModelId(id), VersionId(id), SegmentId(id));
        let mut states: Vec<_> = (0..keys).map(of_key).collect();
        let mut spread = Spread::new((0..keys).collect(), 1);
        assert!(spread.fold(&mut states, 1, |_| {}), "it gathers from now on");
        let weigh = |spread: &Spread, states: &mut [KeyState]| {
            states.iter_mut().map(KeyState::bytes).sum::<usize>() + spread.gathered_bytes()
        };
        for text in ["a".repeat(10_000), "b".repeat(10_000)] {
            let before = weigh(&spread, &mut states);
            let features = &[Feature { name: city, value: FeatureValue::Text(&text) }];
            let (names, most) = (&names, 100);
            let input = FeaturesInput { features, names, reference: None, most, distinct: &[] };
            spread.fold_features(&mut states, &input);
            let after = weigh(&spread, &mut states);
            assert!(after >= before + text.len(), "{after} bytes, {before} before, {keys} keys");
        }
    }
}
