//! Where a partition begins that has no mark yet.

use super::audit::settle;
use super::*;
use tidegauge::pipeline::worker::{FromWorker, Known, ToWorker, Worker};
use tidegauge::pipeline::writer::{Gathered, Workers, Writer};

/// Where the logs of the only partition end.
fn end(log: &Log) -> Positions {
    let end = |stream: Stream| log[&(stream, PartitionId(0))].last().unwrap().offset.0 + 1;
    Positions { inferences: end(Stream::Inferences), labels: end(Stream::Labels) }
}

/// What is behind a place.
fn from(log: &Log, begin: Positions) -> Log {
    let mut rest = log.clone();
    for ((stream, _), records) in &mut rest {
        records.retain(|record| record.offset.0 >= begin.of(*stream));
    }
    rest
}

/// The mark of the only partition when it begins there.
fn beginning(begin: Positions) -> Mark {
    Mark::start(PartitionId(0), begin, 2)
}

/// Reads a log to its end; without a mark it begins at `begin`.
fn player(log: &Log, begin: Positions) -> Player {
    let mut player = Player::new(&shared(log), &[0], true);
    player.begin = begin;
    player
}

/// As with `start = "latest"`, or with a log that has lost its first records when the next instance starts.
#[test]
fn a_partition_whose_first_flush_died_goes_on_from_where_it_began() {
    let log = traffic(1, 400, 700);
    let (begin, then) = (end(&part(&log, 1)), end(&part(&log, 2)));
    // One flush, at the end.
    let settings = PipelineSettings {
        flush_interval: Duration::from_secs(3600),
        drain_budget: Duration::from_millis(100),
        ..settings(1)
    };
    let memory = Memory::new();
    memory.lock().mode = Mode::HangsAt(Table::Metric(MetricTable::Serving));
    block_on(async {
        let players = vec![player(&part(&log, 2), begin)];
        let mut first = start_with(settings.clone(), players, &memory);
        first.until("states are written", || !memory.lock().states.is_empty()).await;
        assert!(!first.stop().await.unwrap().is_drained, "it dies in its first flush");
        assert_eq!(memory.lock().marks[&PartitionId(0)], beginning(begin));
        memory.lock().mode = Mode::Good;
        memory.lock().calls.clear();
        start_with(settings.clone(), vec![player(&log, then)], &memory).end().await.unwrap();
    });
    assert_complete(&settings, &from(&log, begin), &memory);
    let tables = memory.lock();
    let first = |call: &str| tables.calls.iter().position(|it| it == call);
    let is_begun_once = first("write window_state").unwrap() < first("write marks").unwrap();
    assert!(is_begun_once, "it had a mark to go on from");
}

/// Workers that have frozen this, and do nothing else.
struct Frozens {
    frozen: Vec<Frozen>,
    begun_again: usize,
}

impl Workers for Frozens {
    async fn freeze(&mut self) -> Result<Gathered, PipelineError> {
        Ok(Gathered { frozen: self.frozen.clone(), ..Gathered::default() })
    }

    async fn clean(&mut self, _marks: &[Mark]) -> Result<(), PipelineError> {
        Ok(())
    }

    async fn begin_again(&mut self) -> Result<(), PipelineError> {
        self.begun_again += 1;
        Ok(())
    }
}

#[test]
fn rows_of_a_partition_that_another_instance_has_begun_elsewhere_are_not_written() {
    let log = traffic(1, 100, 700);
    let settings = settings(1);
    let ours = beginning(end(&part(&log, 2)));
    let theirs = beginning(end(&part(&log, 1)));
    let frozen = fed(&settings, &from(&log, ours.positions), &ours);
    for (stored, is_begun) in [(None, true), (Some(&ours), true), (Some(&theirs), false)] {
        let memory = Memory::new();
        memory.lock().marks.extend(stored.map(|mark| (mark.partition, mark.clone())));
        let mut workers = Frozens { frozen: vec![frozen.clone()], begun_again: 0 };
        let (commits, sink, letters) = (memory.clone(), memory.clone(), memory.clone());
        let all = Arc::new(settings.clone());
        let mut writer = Writer::new(all, commits, sink, letters, Telemetry::new());
        let report = block_on(writer.flush(&mut workers)).unwrap();
        assert_eq!((report.has_marked, workers.begun_again == 0), (is_begun, is_begun));
        let tables = memory.lock();
        assert_eq!(!tables.states.is_empty(), is_begun);
        let newest = if is_begun { &frozen.mark } else { &theirs };
        assert_eq!(tables.marks[&PartitionId(0)].positions, newest.positions);
    }
}

/// The shard that a worker has of the only partition, of which nothing more comes, once it has come back with a mark.
fn back(begin: Positions, stored: &Mark) -> Frozen {
    let player = player(&Log::new(), begin);
    let control = Arc::clone(&player.control);
    let (telemetry, all) = (Telemetry::new(), Arc::default());
    let mut worker = Worker::new(0, player, Arc::new(settings(1)), all, telemetry).unwrap();
    settle(&mut worker, &control, &Known::default());
    let partitions = vec![PartitionId(0)];
    control.lock().unwrap().push_back(Control::Lose(partitions.clone()));
    control.lock().unwrap().push_back(Control::Assign(partitions));
    let known = Known { marks: vec![stored.clone()], gone_back: Vec::new() };
    settle(&mut worker, &control, &known);
    worker.receive(ToWorker::Freeze { flush: 1 }).unwrap();
    let mut frozen = Vec::new();
    for message in worker.outbox().drain(..) {
        if let FromWorker::Frozen { frozen: all, .. } = message {
            frozen.extend(all);
        }
    }
    frozen.pop().unwrap()
}

#[test]
fn a_shard_that_began_without_a_mark_is_given_up_where_another_instance_has_begun() {
    let place = |inferences, labels| Positions { inferences, labels };
    let (own, other) = (place(5, 5), place(3, 4));
    assert_eq!(back(own, &beginning(own)).began, beginning(own));
    assert_eq!(back(own, &beginning(other)).began, beginning(other));
}

/// Then a shard that was kept need not be rebuilt. Holes in the log make it say no.
#[test]
fn a_mark_says_where_its_partition_began() {
    let log = traffic(1, 300, 700);
    let mut whole = log.clone();
    for records in whole.values_mut() {
        (0..).zip(records).for_each(|(offset, record)| record.offset = Offset(offset));
    }
    let settings = settings(1);
    let read = |log: &Log, begin| fed(&settings, &from(log, begin), &beginning(begin)).mark;
    let [one, two] = [1, 2].map(|n| end(&part(&whole, n)));
    let mark = read(&whole, one);
    assert!(mark.order() > two.inferences + two.labels, "it has read on");
    assert!(mark.has_begun_at(one) && beginning(one).has_begun_at(one));
    assert!(!mark.has_begun_at(two) && !mark.has_begun_at(Positions::default()));
    assert!(!read(&log, one).has_begun_at(one));
}
