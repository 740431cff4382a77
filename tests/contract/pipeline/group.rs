//! Partitions that go from one instance to another, and back.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;

use super::audit::settle;
use super::*;
use tidegauge::pipeline::Shared;
use tidegauge::pipeline::worker::{FromWorker, Known, ToWorker, Worker};

#[test]
fn two_instances_give_the_rows_of_one() {
    let log = traffic(4, 300, 700);
    let memory = Memory::new();
    block_on(async {
        let both = shared(&log);
        let mut one = start(settings(4), &both, &[&[0, 1]], false, &memory);
        let two = start(settings(4), &both, &[&[2], &[3]], false, &memory);
        one.until("all is marked", || written(&memory) == ends(&log)).await;
        one.stop().await.unwrap();
        two.stop().await.unwrap();
    });
    assert_complete(&settings(4), &log, &memory);
}

/// The commit of the owner before may have failed in the rebalance that took its partitions away.
#[test]
fn who_takes_a_partition_over_commits_it_though_nothing_comes_any_more() {
    let log = traffic(2, 200, 700);
    let memory = Memory::new();
    // A flush once the memory of both is rebuilt, and one at the end. One of the timer's could come when only the first
    // partition is.
    let rare = PipelineSettings { flush_interval: Duration::from_secs(3600), ..settings(2) };
    block_on(async {
        start(settings(2), &shared(&log), &[&[0, 1]], true, &memory).end().await.unwrap();
        let committed = std::mem::take(&mut memory.lock().committed);
        assert_eq!(committed.len(), 2);
        memory.lock().calls.clear();
        let mut running = start(rare, &shared(&log), &[&[0, 1]], false, &memory);
        running.until("both are committed", || memory.lock().committed == committed).await;
        running.stop().await.unwrap();
    });
    // Once: lag tools need no more.
    assert_eq!(memory.lock().calls.iter().filter(|call| *call == "commit").count(), 1);
}

#[test]
fn a_revoked_partition_is_written_and_goes_on_when_it_comes_back() {
    let log = traffic(2, 600, 700);
    let memory = Memory::new();
    block_on(async {
        let growing = shared(&part(&log, 0));
        let mut running = start(settings(2), &growing, &[&[0, 1]], false, &memory);
        for sixths in 1..=6 {
            let before = written(&memory);
            // More comes in each round, so that none has nothing to write.
            *growing.lock().unwrap() = part(&log, sixths);
            running.until("something is written", || written(&memory) > before).await;
            give_up(&mut running).await;
            let mut control = running.controls[0].lock().unwrap();
            control.push_back(Control::Lose(vec![PartitionId(1)]));
            control.push_back(Control::Assign(vec![PartitionId(0), PartitionId(1)]));
        }
        running.until("all is marked", || written(&memory) == ends(&log)).await;
        running.stop().await.unwrap();
    });
    assert_complete(&settings(2), &log, &memory);
}

/// A rebalance gives a partition away and back: its first owner reads what it has missed, and nothing again.
#[test]
fn a_partition_that_was_elsewhere_meanwhile_is_read_on_and_not_again() {
    let log = traffic(1, 1_200, 100);
    let memory = Memory::new();
    let reread = block_on(async {
        let growing = shared(&part(&log, 2));
        let mut one = start(settings(1), &growing, &[&[0]], false, &memory);
        let mut two = start(settings(1), &growing, &[&[]], false, &memory);
        for (sixths, one_has_it) in [(2, true), (4, false), (6, true)] {
            let now = part(&log, sixths);
            let all = ends(&now);
            *growing.lock().unwrap() = now;
            let (owner, next) = if one_has_it { (&mut one, &two) } else { (&mut two, &one) };
            owner.until("all that is there is marked", || written(&memory) == all).await;
            give_up(owner).await;
            let assign = Control::Assign(vec![PartitionId(0)]);
            next.controls[0].lock().unwrap().push_back(assign);
        }
        let meters = one.telemetry.encode();
        one.stop().await.unwrap();
        two.stop().await.unwrap();
        meters
            .lines()
            .filter(|line| line.contains("reread_records_total{"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    assert_complete(&settings(1), &log, &memory);
    let letters = memory.lock().letters.len();
    let broken = |r: &&Record<'_>| r.payload == Some(b"{broken");
    assert_eq!(letters, log.values().flatten().filter(broken).count(), "no letter twice");
    assert!(reread.len() == 2 && reread.iter().all(|line| line.ends_with(" 0")), "{reread:?}");
}

/// A flush that never ends holds up nobody: time is left for the group to be told.
#[test]
fn a_revocation_is_answered_when_four_fifths_of_the_drain_budget_are_over() {
    let player = Player::new(&shared(&traffic(1, 50, 700)), &[0], false);
    let control = Arc::clone(&player.control);
    let settings = PipelineSettings { drain_budget: Duration::from_secs(3), ..settings(1) };
    let (telemetry, all) = (Telemetry::new(), Arc::<Shared>::default());
    let mut worker = Worker::new(0, player, Arc::new(settings), all, telemetry).unwrap();
    settle(&mut worker, &control, &Known::default());
    let (reply, answered) = sync_channel::<()>(0);
    control.lock().unwrap().push_back(Control::Revoke(vec![PartitionId(0)], reply));
    let is_answered = |worker: &mut Worker<Player>, after_ms: u64| {
        let now = Duration::from_secs(1_000) + Duration::from_millis(after_ms);
        worker.step(now, Duration::ZERO).unwrap();
        answered.try_recv() == Err(TryRecvError::Disconnected)
    };
    assert!(!is_answered(&mut worker, 0), "the partition is written first");
    assert!(worker.outbox().iter().any(|message| matches!(message, FromWorker::FlushWanted)));
    worker.receive(ToWorker::Freeze { flush: 1 }).unwrap();
    let answers = [1_000, 2_399, 2_400].map(|after_ms| is_answered(&mut worker, after_ms));
    assert_eq!(answers, [false, false, true]);
}

/// The group stands still until it is answered, and what was read since that flush began is read again.
#[test]
fn a_revocation_during_a_flush_is_answered_once_that_flush_has_ended() {
    let player = Player::new(&shared(&traffic(1, 50, 700)), &[0], false);
    let control = Arc::clone(&player.control);
    let (telemetry, all) = (Telemetry::new(), Arc::<Shared>::default());
    let mut worker = Worker::new(0, player, Arc::new(settings(1)), all, telemetry).unwrap();
    settle(&mut worker, &control, &Known::default());
    worker.receive(ToWorker::Freeze { flush: 1 }).unwrap();
    let frozen = worker.outbox().pop_front();
    let Some(FromWorker::Frozen { frozen, .. }) = frozen else { panic!("{frozen:?}") };
    let (reply, answered) = sync_channel::<()>(0);
    control.lock().unwrap().push_back(Control::Revoke(vec![PartitionId(0)], reply));
    worker.step(Duration::from_secs(1_000), Duration::ZERO).unwrap();
    assert_eq!(answered.try_recv(), Err(TryRecvError::Empty), "the flush has not ended");
    let asks = |message: &FromWorker| matches!(message, FromWorker::FlushWanted);
    assert!(!worker.outbox().iter().any(asks), "another one would hold the group up");
    let marks = frozen.into_iter().map(|shard| shard.mark).collect();
    worker.receive(ToWorker::Clean { flush: 1, marks }).unwrap();
    assert_eq!(answered.try_recv(), Err(TryRecvError::Disconnected));
}

/// What was read of it since that flush began is in no row, though the flush was written.
#[test]
fn a_partition_that_is_taken_away_during_a_flush_has_not_ended() {
    let log = traffic(1, 300, 700);
    let memory = Memory::new();
    memory.lock().mode = Mode::Waits;
    let totals = block_on(async {
        let growing = shared(&part(&log, 3));
        let player = Player::new(&growing, &[0], true);
        let (polls, control) = (Arc::clone(&player.polls), Arc::clone(&player.control));
        let mut running = start_with(settings(1), vec![player], &memory);
        running.until("a write waits", || !memory.lock().bodies.is_empty()).await;
        growing.lock().unwrap().clone_from(&log);
        let telemetry = running.telemetry.clone();
        let records: usize = log.values().map(Vec::len).sum();
        running.until("all is read", || counted(&telemetry) == records).await;
        let lost = [Control::Lose(vec![PartitionId(0)]), Control::Assign(vec![PartitionId(0)])];
        control.lock().unwrap().extend(lost);
        running.until("it is taken away", || control.lock().unwrap().is_empty()).await;
        // The worker says what it has before it asks for more.
        let before = polls.load(Ordering::Relaxed);
        running.until("it is told", || polls.load(Ordering::Relaxed) > before + 1).await;
        memory.lock().mode = Mode::Good;
        running.end().await.unwrap()
    });
    assert!(totals.is_drained && written(&memory) == ends(&log), "{totals:?}");
    assert_complete(&settings(1), &log, &memory);
}

/// Tables may go back twice, and be found to have while a worker already waits for the marks of before.
#[test]
fn a_worker_that_waits_for_marks_begins_with_them_and_can_begin_again_later() {
    let player = Player::new(&shared(&traffic(1, 50, 700)), &[0], false);
    let control = Arc::clone(&player.control);
    let (telemetry, all) = (Telemetry::new(), Arc::<Shared>::default());
    let mut worker = Worker::new(0, player, Arc::new(settings(1)), all, telemetry).unwrap();
    settle(&mut worker, &control, &Known::default());
    for round in 0..3 {
        worker.receive(ToWorker::BeginAgain).unwrap();
        while !control.lock().unwrap().is_empty() {
            worker.step(Duration::from_secs(1_000), Duration::ZERO).unwrap();
        }
        let wanted = worker.outbox().drain(..).filter_map(|message| match message {
            FromWorker::MarksWanted { request, .. } => Some(request),
            _ => None,
        });
        let wanted: Vec<u64> = wanted.collect();
        assert_eq!(wanted.len(), 1, "round {round}");
        // Of a flush that began before.
        worker.receive(ToWorker::BeginAgain).unwrap();
        assert!(control.lock().unwrap().is_empty(), "it begins already");
        let known = Known::default();
        worker.receive(ToWorker::Marks { request: wanted[0], known }).unwrap();
    }
}

#[test]
fn an_instance_is_ready_once_its_rows_are_written_or_it_has_nothing_to_do() {
    let log = traffic(1, 300, 700);
    let starting = |running: &Running| {
        running.telemetry.reasons().iter().any(|(cause, _)| *cause == Cause::Starting)
    };
    let memory = Memory::new();
    memory.lock().mode = Mode::Hangs;
    block_on(async {
        let mut running = start(settings(1), &shared(&log), &[&[0]], false, &memory);
        running.until("a write hangs", || !memory.lock().bodies.is_empty()).await;
        assert!(starting(&running), "nothing is written");
        running.stop().await.unwrap();
    });
    memory.lock().mode = Mode::Good;
    block_on(async {
        let mut running = start(settings(1), &shared(&log), &[&[0]], false, &memory);
        let telemetry = running.telemetry.clone();
        running.until("it starts", || !telemetry.reasons().is_empty()).await;
        running.until("it is ready", || telemetry.reasons().is_empty()).await;
        assert!(!memory.lock().marks.is_empty(), "rows are written first");
        running.stop().await.unwrap();
        // More instances than partitions.
        let mut idle = start(settings(1), &shared(&log), &[&[]], false, &memory);
        let telemetry = idle.telemetry.clone();
        idle.until("it starts", || !telemetry.reasons().is_empty()).await;
        idle.until("it is ready", || telemetry.reasons().is_empty()).await;
        idle.stop().await.unwrap();
    });
}

#[test]
fn a_revocation_and_a_stop_come_to_an_end_while_clickhouse_hangs() {
    let log = traffic(1, 300, 700);
    let memory = Memory::new();
    memory.lock().mode = Mode::Hangs;
    let settings = PipelineSettings { drain_budget: Duration::from_secs(1), ..settings(1) };
    block_on(async {
        let mut running = start(settings, &shared(&log), &[&[0]], false, &memory);
        running.until("a write hangs", || !memory.lock().bodies.is_empty()).await;
        give_up(&mut running).await;
        assert!(!running.stop().await.unwrap().is_drained, "nothing was acknowledged");
    });
    assert!(memory.lock().marks.is_empty());
}
