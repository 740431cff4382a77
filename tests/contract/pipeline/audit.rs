//! Tables that lose what they have acknowledged, under a running instance.

use super::*;
use crate::memory::{Reads, Tables};
use tidegauge::engine::metrics::MetricTable;
use tidegauge::pipeline::Shared;
use tidegauge::pipeline::worker::{FromWorker, Known, ToWorker, Worker};

/// The value of a counter, over all its labels.
fn counter(telemetry: &Telemetry, name: &str) -> u64 {
    let text = telemetry.encode();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn rows_of_sealed_windows_that_are_not_there_are_written_again_before_the_mark() {
    let log = traffic(2, 400, 700);
    for table in [Table::WindowState, Table::Seals, Table::Metric(MetricTable::Serving)] {
        let memory = Memory::new();
        memory.lock().forgets = Some((table, 2));
        let telemetry = block_on(async {
            let running = start(settings(2), &shared(&log), &[&[0], &[1]], true, &memory);
            let telemetry = running.telemetry.clone();
            running.end().await.unwrap();
            telemetry
        });
        assert_eq!(memory.lock().forgets, None, "{table:?} were forgotten");
        assert!(counter(&telemetry, "tidegauge_audit_mismatches_total") > 0, "{table:?}");
        assert_complete(&settings(2), &log, &memory);
    }
}

#[test]
fn rows_of_earlier_pieces_of_a_long_span_that_are_not_there_are_written_again() {
    let log = traffic(2, 1400, 700);
    let settings = PipelineSettings { flush_interval: Duration::from_secs(3600), ..settings(2) };
    for table in [Table::Seals, Table::Metric(MetricTable::Serving)] {
        let memory = Memory::new();
        memory.lock().forgets = Some((table, 1));
        block_on(async {
            start(settings.clone(), &shared(&log), &[&[0, 1]], true, &memory).end().await
        })
        .unwrap();
        assert_eq!(memory.lock().forgets, None, "{table:?} were forgotten");
        assert_complete(&settings, &log, &memory);
    }
}

#[test]
fn tables_put_back_to_an_older_state_are_noticed_and_made_whole_by_replay() {
    let log = traffic(2, 400, 700);
    let part = |share: usize| -> Log {
        log.iter().map(|(&key, all)| (key, all[..all.len() * share / 4].to_vec())).collect()
    };
    let memory = Memory::new();
    let telemetry = block_on(async {
        let shared = shared(&part(1));
        let mut running = start(settings(2), &shared, &[&[0], &[1]], false, &memory);
        let telemetry = running.telemetry.clone();
        let mut older = memory.lock().clone();
        for share in 1..=4 {
            *shared.lock().unwrap() = part(share);
            let all = ends(&part(share));
            running.until("all is written", || written(&memory) == all).await;
            match share {
                1 => older = memory.lock().clone(),
                // Also while nothing more comes.
                2 | 4 => {
                    *memory.lock() = older.clone();
                    running.until("all is written again", || written(&memory) == all).await;
                }
                _ => {}
            }
        }
        running.stop().await.unwrap();
        telemetry
    });
    assert!(counter(&telemetry, "tidegauge_tables_went_back_total") >= 2);
    assert_complete(&settings(2), &log, &memory);
}

/// The tables go back while the partition is elsewhere, and its other owner goes on from there: further in all, but not
/// in each topic. What the first owner keeps in memory was sealed before, and its rows are gone.
#[test]
fn a_shard_that_was_kept_is_not_taken_for_what_the_tables_have_lost() {
    let log = traffic(1, 3_000, 100);
    let part = |inferences: usize, labels: usize| -> Log {
        let share = |stream| if stream == Stream::Inferences { inferences } else { labels };
        log.iter().map(|(&key, all)| (key, all[..all.len() * share(key.0) / 30].to_vec())).collect()
    };
    let memory = Memory::new();
    block_on(async {
        let (mine, theirs) = (shared(&part(5, 5)), shared(&part(12, 30)));
        let mut one = start(settings(1), &mine, &[&[0]], false, &memory);
        let mut two = start(settings(1), &theirs, &[&[]], false, &memory);
        one.until("the beginning", || written(&memory) == ends(&part(5, 5))).await;
        let older = memory.lock().clone();
        *mine.lock().unwrap() = part(20, 20);
        one.until("more is marked", || written(&memory) == ends(&part(20, 20))).await;
        give_up(&mut one).await;
        *memory.lock() = older;
        assert!(ends(&part(12, 30)) > ends(&part(20, 20)), "further in all");
        two.controls[0].lock().unwrap().push_back(Control::Assign(vec![PartitionId(0)]));
        two.until("the other owner", || written(&memory) == ends(&part(12, 30))).await;
        give_up(&mut two).await;
        *mine.lock().unwrap() = log.clone();
        one.controls[0].lock().unwrap().push_back(Control::Assign(vec![PartitionId(0)]));
        one.until("all is marked", || written(&memory) == ends(&log)).await;
        one.stop().await.unwrap();
        two.stop().await.unwrap();
    });
    assert_complete(&settings(1), &log, &memory);
}

/// A second instance takes over before the end, from tables that `spoil` has changed. It knows nothing of the windows that
/// the first has done, and merges them into the coarser ones.
fn taken_over(spoil: impl FnOnce(&mut Tables)) -> Memory {
    let log = traffic(4, 800, 700);
    let part: Log =
        log.iter().map(|(&key, all)| (key, all[..all.len() * 9 / 10].to_vec())).collect();
    let memory = Memory::new();
    block_on(async {
        let partitions: &[&[i32]] = &[&[0, 2], &[1, 3]];
        let first = start(settings(4), &shared(&part), partitions, true, &memory);
        first.end().await.unwrap();
        spoil(&mut memory.lock());
        start(settings(4), &shared(&log), partitions, true, &memory).end().await.unwrap();
    });
    assert_complete(&settings(4), &log, &memory);
    memory
}

#[test]
fn a_server_that_can_only_answer_for_some_states_at_a_time_is_asked_for_some() {
    let memory = taken_over(|tables| {
        tables.most_states = 500;
        tables.calls.clear();
    });
    let questions = memory.lock().calls.iter().filter(|call| *call == "read states").count();
    assert!(questions > 1, "{questions} questions: there was nothing to ask in parts");
}

#[test]
fn a_server_that_cuts_its_answers_is_asked_again_before_anything_is_sealed() {
    let memory = taken_over(|tables| tables.cuts = 3);
    assert_eq!(memory.lock().cuts, 0, "nothing was cut");
}

/// As many state rows as take several questions are written in one flush and are read back.
#[test]
fn a_server_that_fails_now_and_then_while_rows_are_read_back_holds_no_flush_up() {
    let log = traffic(4, 800, 700);
    let settings = PipelineSettings { flush_interval: Duration::from_secs(3600), ..settings(4) };
    let memory = Memory::new();
    memory.lock().reads = Reads::FailsEvery(3);
    block_on(async {
        let partitions: &[&[i32]] = &[&[0, 1, 2, 3]];
        start(settings.clone(), &shared(&log), partitions, true, &memory).end().await.unwrap();
    });
    let questions = memory.lock().calls.iter().filter(|call| *call == "read states").count();
    assert!(questions > 3, "{questions} questions: none failed");
    assert_complete(&settings, &log, &memory);
}

#[test]
fn rows_that_are_lost_behind_a_cut_connection_after_they_were_compared_are_written_again() {
    let log = traffic(4, 800, 700);
    let settings = PipelineSettings { flush_interval: Duration::from_secs(3600), ..settings(4) };
    for question in [2, 3] {
        let memory = Memory::new();
        memory.lock().reads = Reads::LosesAt(question);
        let telemetry = block_on(async {
            let partitions: &[&[i32]] = &[&[0, 1, 2, 3]];
            let running = start(settings.clone(), &shared(&log), partitions, true, &memory);
            let telemetry = running.telemetry.clone();
            running.end().await.unwrap();
            telemetry
        });
        assert_eq!(memory.lock().reads, Reads::Good, "question {question} came");
        assert!(counter(&telemetry, "tidegauge_audit_mismatches_total") > 0);
        assert_complete(&settings, &log, &memory);
    }
}

/// Steps until all group events are served, and answers what the worker asks for.
pub(super) fn settle(
    worker: &mut Worker<Player>,
    control: &Mutex<VecDeque<Control>>,
    known: &Known,
) {
    for second in 0.. {
        worker.step(Duration::from_secs(second), Duration::ZERO).unwrap();
        while let Some(message) = worker.outbox().pop_front() {
            if let FromWorker::MarksWanted { request, .. } = message {
                worker.receive(ToWorker::Marks { request, known: known.clone() }).unwrap();
            }
        }
        if control.lock().unwrap().is_empty() {
            return;
        }
    }
}

#[test]
fn partitions_are_begun_again_also_where_the_group_took_them_away_in_between() {
    let log = shared(&Log::new());
    let player = Player::new(&log, &[0], false);
    let control = Arc::clone(&player.control);
    let (telemetry, all) = (Telemetry::new(), Arc::<Shared>::default());
    let mut worker = Worker::new(0, player, Arc::new(settings(1)), all, telemetry).unwrap();
    let nothing = Known::default();
    settle(&mut worker, &control, &nothing);
    // Twice at once is once.
    for _ in 0..2 {
        worker.receive(ToWorker::BeginAgain).unwrap();
        assert_eq!(control.lock().unwrap().len(), 2, "one loss and one assignment");
    }
    settle(&mut worker, &control, &nothing);
    // The partition has gone before the worker asks, so nothing comes of that; then the group gives it back.
    let (reply, _answered) = sync_channel(1);
    control.lock().unwrap().push_back(Control::Revoke(vec![PartitionId(0)], reply));
    settle(&mut worker, &control, &nothing);
    worker.receive(ToWorker::BeginAgain).unwrap();
    assert!(control.lock().unwrap().is_empty(), "there is nothing to begin again");
    control.lock().unwrap().push_back(Control::Assign(vec![PartitionId(0)]));
    settle(&mut worker, &control, &nothing);
    worker.receive(ToWorker::BeginAgain).unwrap();
    assert_eq!(control.lock().unwrap().len(), 2, "it asks anew");
}

/// Rows that no label changes are left out when labels come. Where a call has failed meanwhile they may have been lost as
/// well, and are written once more.
#[test]
fn rows_that_labels_leave_alone_are_written_again_where_they_may_have_been_lost() {
    let mut log = Log::new();
    for i in 0..40 {
        let time = START + i * 100;
        let inference =
            format!(r#"{{"request_id":"r{i}","model":"m","timestamp":{time},"score":0.25}}"#);
        add(&mut log, Stream::Inferences, 0, time, inference);
        let label = format!(r#"{{"request_id":"r{i}","timestamp":{time},"label":1}}"#);
        add(&mut log, Stream::Labels, 0, time, label);
    }
    let labelled = |labels: usize| {
        let mut part = log.clone();
        part.get_mut(&(Stream::Labels, PartitionId(0))).unwrap().truncate(labels);
        part
    };
    let memory = Memory::new();
    let of_serving =
        || memory.lock().metrics.keys().filter(|(table, _)| *table == "serving").count();
    let writes = |table: &str| {
        let call = format!("write {table}");
        memory.lock().calls.iter().filter(|it| **it == call).count()
    };
    block_on(async {
        let shared = shared(&labelled(0));
        let mut running = start(settings(1), &shared, &[&[0]], false, &memory);
        running.until("inferences", || written(&memory) == ends(&labelled(0))).await;
        let (rows, before) = (of_serving(), ["serving", "labels"].map(writes));
        assert!(rows > 0);
        *shared.lock().unwrap() = labelled(10);
        running.until("some labels", || written(&memory) == ends(&labelled(10))).await;
        let after = ["serving", "labels"].map(writes);
        assert_eq!(after[0], before[0], "no inference has come");
        assert!(after[1] > before[1]);
        {
            let mut tables = memory.lock();
            tables.metrics.retain(|(table, _), _| *table != "serving");
            tables.mode = Mode::Fails(1);
        }
        *shared.lock().unwrap() = labelled(20);
        running.until("more labels", || written(&memory) == ends(&labelled(20))).await;
        assert_eq!(of_serving(), rows, "written in the flush that failed for a while");
        running.stop().await.unwrap();
    });
}
