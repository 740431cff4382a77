//! The byte budget: what is left unread, what is freed, and when the process gives up.

use super::*;

/// Bytes held by the first worker, as telemetry says.
fn state_bytes(telemetry: &Telemetry) -> usize {
    let text = telemetry.encode();
    let line = text.lines().find_map(|l| l.strip_prefix("tidegauge_state_bytes{worker=\"0\"} "));
    line.map_or(0, |bytes| bytes.parse().unwrap())
}

fn inference(log: &mut Log, partition: i32, id: &str, time: i64) {
    let payload = format!(r#"{{"request_id":"{id}","model":"m0","timestamp":{time},"score":0.5}}"#);
    add(log, Stream::Inferences, partition, time, payload);
}

fn label(log: &mut Log, id: &str, time: i64) {
    let payload = format!(r#"{{"request_id":"{id}","timestamp":{time},"label":1}}"#);
    add(log, Stream::Labels, 0, time, payload);
}

/// Settings with so many bytes for states.
fn budget(partitions: i32, bytes: usize) -> PipelineSettings {
    PipelineSettings { state_budget_bytes: bytes, ..settings(partitions) }
}

/// Records of one partition, tables for their rows, and settings with so many bytes for their states.
fn crowded(bytes: usize) -> (Log, Memory, PipelineSettings) {
    (traffic(1, 20_000, 20), Memory::new(), budget(1, bytes))
}

#[test]
fn silent_labels_leave_the_inferences_unread_at_the_byte_budget() {
    let (log, memory, settings) = crowded(2_000_000);
    block_on(async {
        let first = shared(&log);
        first.lock().unwrap().remove(&(Stream::Labels, PartitionId(0)));
        let mut running = start(settings.clone(), &first, &[&[0]], false, &memory);
        let telemetry = running.telemetry.clone();
        running
            .until("the reason is given", || {
                telemetry
                    .reasons()
                    .iter()
                    .any(|(c, why)| *c == Cause::StateBudget && why.contains("labels"))
            })
            .await;
        assert!(counted(&telemetry) < 20_000, "some are left unread");
        let labels = log[&(Stream::Labels, PartitionId(0))].clone();
        first.lock().unwrap().insert((Stream::Labels, PartitionId(0)), labels);
        running
            .until("all is marked", || {
                let held = state_bytes(&telemetry);
                assert!(held <= 2_400_000, "{held} bytes are over the budget by more than a fifth");
                written(&memory) == ends(&log)
            })
            .await;
        running.stop().await.unwrap();
    });
    assert_complete(&settings, &log, &memory);
}

#[test]
fn while_clickhouse_is_down_reading_ends_at_the_byte_budget_and_nothing_is_lost() {
    let (log, memory, settings) = crowded(2_500_000);
    memory.lock().mode = Mode::Fails(usize::MAX);
    block_on(async {
        let mut running = start(settings.clone(), &shared(&log), &[&[0]], true, &memory);
        let telemetry = running.telemetry.clone();
        running
            .until("both reasons are given", || {
                let causes: Vec<Cause> = telemetry.reasons().iter().map(|(c, _)| *c).collect();
                causes == [Cause::Starting, Cause::ClickHouse, Cause::StateBudget]
            })
            .await;
        let records: usize = log.values().map(Vec::len).sum();
        assert!(counted(&telemetry) < records, "some are left unread");
        memory.lock().mode = Mode::Good;
        running.end().await.unwrap();
    });
    assert_complete(&settings, &log, &memory);
}

/// A minute passes at once where nothing but the clock is waited for.
#[test]
fn memory_that_fills_while_no_flush_ends_is_warned_of_in_time() {
    let (growing, memory) = (shared(&Log::new()), Memory::new());
    memory.lock().mode = Mode::Fails(usize::MAX);
    block_on(async {
        tokio::time::pause();
        let mut running = start(budget(2, 2_000_000), &growing, &[&[0, 1]], false, &memory);
        let telemetry = running.telemetry.clone();
        let (mut sent, mut flushes) = (0, None);
        while telemetry.warning().is_none() {
            let reasons = telemetry.reasons();
            assert!(reasons.iter().all(|(cause, _)| *cause != Cause::StateBudget), "{reasons:?}");
            for _ in 0..15 {
                let partition = i32::from(sent % 10 > 0);
                let (id, time) = (format!("r{sent}"), START + sent * 40);
                inference(&mut growing.lock().unwrap(), partition, &id, time);
                sent += 1;
            }
            let is_read = || counted(&telemetry) == usize::try_from(sent).unwrap();
            running.until("all is read", is_read).await;
            // One that began before the partitions came may have ended.
            flushes.get_or_insert(telemetry.flushes());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let warning = telemetry.warning().unwrap();
        assert!(warning.contains(" hours; partition 1 holds the most"), "{warning}");
        assert!(warning.ends_with("its topic labels is behind"), "{warning}");
        let text = telemetry.encode();
        let meter = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        let hours = meter("tidegauge_state_budget_hours_left");
        assert!((0.0..24.0).contains(&hours), "{hours}");
        assert_eq!(meter("tidegauge_state_budget_partition").to_string(), "1");
        assert_eq!(Some(telemetry.flushes()), flushes, "none has ended since");

        memory.lock().mode = Mode::Good;
        let all = growing.lock().unwrap().clone();
        running.until("all is marked", || written(&memory) == ends(&all)).await;
        tokio::time::resume();
        running.stop().await.unwrap();
    });
}

#[test]
fn a_budget_that_can_not_do_ends_the_process_and_names_the_partition() {
    let (mut log, memory, settings) = crowded(400_000);
    log.remove(&(Stream::Labels, PartitionId(0)));
    let error =
        block_on(async { start(settings, &shared(&log), &[&[0]], true, &memory).end().await });
    let error = error.unwrap_err();
    assert_eq!(error.code(), "state_budget_exceeded");
    assert!(error.to_string().contains("partition 0 of topic labels"), "{error}");
}

#[test]
fn a_worker_that_holds_nothing_does_not_give_up_for_one_that_frees_memory_slowly() {
    let log = traffic(1, 20_000, 20);
    for workers in [&[&[0][..]][..], &[&[0], &[]]] {
        let settings = budget(1, 2_000_000);
        let memory = Memory::new();
        block_on(async {
            start(settings.clone(), &shared(&log), workers, true, &memory).end().await
        })
        .unwrap();
        assert_complete(&settings, &log, &memory);
    }
}

/// Labels go on after the last inference, and nothing is sealed before the end: memory gets near the budget by labels,
/// when the topic that is behind has nothing left to give.
#[test]
fn a_topic_that_has_ended_is_not_waited_for() {
    let mut log = Log::new();
    for n in 0..20_000 {
        inference(&mut log, 0, &format!("r{n}"), START + n / 4);
    }
    for n in 0..20_000 {
        label(&mut log, &format!("r{n}"), START + 12_000 + n / 4);
    }
    let run = |settings: &PipelineSettings, memory: &Memory| {
        block_on(async {
            let running = start(settings.clone(), &shared(&log), &[&[0]], true, memory);
            let telemetry = running.telemetry.clone();
            running.end().await.unwrap();
            state_bytes(&telemetry)
        })
    };
    let all = run(&settings(1), &Memory::new());
    let (settings, memory) = (budget(1, all), Memory::new());
    assert!(run(&settings, &memory) > all / 10 * 9, "it was near");
    assert_eq!(written(&memory), ends(&log));
    let (read, _) = direct(&settings, &log);
    assert_eq!(memory.lock().states.len(), read.len(), "state rows");
}

/// A partition with no record at all, and one with inferences and next to no labels: its label clock never shows a time.
#[test]
fn a_partition_that_holds_next_to_nothing_holds_up_no_other() {
    for idle in [0, 40] {
        let mut log = traffic(1, 20_000, 20);
        for step in 0..idle {
            inference(&mut log, 1, &format!("idle-{step}"), START + step * 10_000);
        }
        let settings = budget(2, 4_000_000);
        let memory = Memory::new();
        block_on(async {
            let mut running = start(settings.clone(), &shared(&log), &[&[0, 1]], false, &memory);
            running.until("all is marked", || written(&memory) == ends(&log)).await;
            running.stop().await.unwrap();
        });
        let (read, _) = direct(&settings, &log);
        assert_eq!(memory.lock().states.len(), read.len(), "state rows");
    }
}

/// An inference every other millisecond of the first 140 s, its label two seconds later. One of them may be stamped so
/// far ahead that its window stays open: then a restart reads all again that came after it.
fn steady(skewed: bool) -> Log {
    let mut log = Log::new();
    for n in 0..70_000 {
        let (time, lag) = (START + n * 2, 1_000);
        let ahead = if skewed && n == 10_000 { 600_000 } else { 0 };
        inference(&mut log, 0, &format!("r{n}"), time + ahead);
        if n >= lag {
            label(&mut log, &format!("r{}", n - lag), time);
        }
    }
    log
}

#[test]
fn a_restart_needs_hardly_more_memory_than_the_run_before_held() {
    for skewed in [false, true] {
        let log = steady(skewed);
        let before = |all: &Vec<Record<'static>>| all[..all.len() / 14 * 13].to_vec();
        let part: Log = log.iter().map(|(&key, all)| (key, before(all))).collect();
        let memory = Memory::new();
        let mut settings = settings(1);
        block_on(async {
            let first = start(settings.clone(), &shared(&part), &[&[0]], true, &memory);
            let telemetry = first.telemetry.clone();
            first.end().await.unwrap();
            assert_eq!(written(&memory), ends(&part));
            settings.state_budget_bytes = state_bytes(&telemetry) / 10 * 13;
            let second = start(settings.clone(), &shared(&log), &[&[0]], true, &memory);
            second.end().await.unwrap();
        });
        assert_complete(&settings, &log, &memory);
    }
}

/// Labels fill the memory; what they took is free again when they are orphans, so that all that comes then is read.
#[test]
fn labels_that_come_first_give_their_memory_back() {
    let mut log = Log::new();
    for n in 0..30_000 {
        label(&mut log, &format!("none{n}"), START + n);
    }
    let memory = Memory::new();
    let settings = budget(1, 3_000_000);
    let growing = shared(&log);
    block_on(async {
        let mut running = start(settings.clone(), &growing, &[&[0]], false, &memory);
        let telemetry = running.telemetry.clone();
        let reason = || telemetry.reasons().into_iter().find(|(c, _)| *c == Cause::StateBudget);
        running
            .until("the reason is given", || {
                reason().is_some_and(|(_, why)| why.contains("partition 0 of topic inferences"))
            })
            .await;
        assert!(counted(&telemetry) < 30_000, "some are left unread");
        for n in 0..6_000 {
            inference(&mut log, 0, &format!("r{n}"), START + 60_000 + n * 10);
            label(&mut log, &format!("r{n}"), START + 61_000 + n * 10);
        }
        growing.lock().unwrap().clone_from(&log);
        running.until("all is marked", || written(&memory) == ends(&log)).await;
        running.until("there is room again", || reason().is_none()).await;
        running.stop().await.unwrap();
    });
    assert_complete(&settings, &log, &memory);
}

#[test]
fn names_that_fill_the_memory_are_named() {
    let mut log = Log::new();
    for n in 0..30_000 {
        let (time, id) = (START + n * 10, format!("r{n}"));
        let text = format!("a sentence of the model's own, which is never the same: {n}");
        let payload = format!(
            r#"{{"request_id":"{id}","model":"m0","timestamp":{time},"prediction":"{text}"}}"#
        );
        add(&mut log, Stream::Inferences, 0, time, payload);
        label(&mut log, &id, time);
    }
    let settings = budget(1, 3_000_000);
    let (error, reasons) = block_on(async {
        let running = start(settings, &shared(&log), &[&[0]], true, &Memory::new());
        let telemetry = running.telemetry.clone();
        (running.end().await.unwrap_err(), telemetry.reasons())
    });
    assert_eq!(error.code(), "state_budget_exceeded");
    let names = error.to_string();
    let count = names.split_once(" names take ").unwrap().0.rsplit(' ').next().unwrap();
    assert!((5_000..=30_100).contains(&count.parse::<usize>().unwrap()), "{names}");
    assert!(names.contains("free text or an ID comes as a model, version"), "{names}");
    let reason = &reasons.iter().find(|(cause, _)| *cause == Cause::StateBudget).unwrap().1;
    assert!(reason.contains(" names take "), "{reason}");
}

/// What is gathered for a group is weighed once, however often a correction had it added to the states before.
#[test]
fn corrections_make_no_memory_of_what_is_gathered() {
    let mut log = Log::new();
    for step in 0..6_000 {
        let (time, id) = (START + step, format!("r{step}"));
        let inference = format!(
            r#"{{"request_id":"{id}","model":"m0","timestamp":{time},"score":0.{:03},"segments":{{"region":"r0"}}}}"#,
            step % 1000
        );
        add(&mut log, Stream::Inferences, 0, time, inference);
        let correction = (step % 50 == 49 && step < 5_800).then_some(0);
        for value in [Some(1), correction].into_iter().flatten() {
            let label = format!(r#"{{"request_id":"{id}","timestamp":{time},"label":{value}}}"#);
            add(&mut log, Stream::Labels, 0, time, label);
        }
    }
    let settings = settings(1);
    let mut names = Names::default();
    let mark = Mark::start(PartitionId(0), Positions::default(), 2);
    let mut shard = Shard::new(Arc::clone(&settings.shard), &mark);
    for stream in Stream::BOTH {
        let of = settings.decoders[stream.index()].as_ref().unwrap();
        let mut decoder = Decoder::new(of, Arc::clone(&settings.schemas)).unwrap();
        for record in &log[&(stream, PartitionId(0))] {
            let at = Arrival { stream, offset: record.offset, time: record.time };
            let event = decoder.decode(record.payload, &mut names).unwrap();
            assert_ne!(shard.observe(at, &event, &mut names), Outcome::Dead);
        }
    }
    let gathered = shard.standing().bytes;
    shard.settle();
    let settled = shard.standing().bytes;
    assert!(gathered < settled * 2, "{gathered} bytes before all is added, {settled} after");
}

/// Labels with old timestamps that never end keep nobody from reading inferences.
#[test]
fn a_topic_that_is_behind_for_good_leaves_the_other_its_turn() {
    let ahead = START + 3_600_000;
    let mut log = Log::new();
    for n in 0..100 {
        inference(&mut log, 0, &format!("first-{n}"), ahead + n);
        label(&mut log, &format!("early-{n}"), START + n);
    }
    let (growing, memory) = (shared(&log), Memory::new());
    block_on(async {
        let mut running = start(settings(1), &growing, &[&[0]], false, &memory);
        running.until("the first records are marked", || written(&memory) == ends(&log)).await;
        for n in 0..100 {
            inference(&mut growing.lock().unwrap(), 0, &format!("later-{n}"), ahead + 100 + n);
        }
        let key = (Stream::Inferences, PartitionId(0));
        let end = growing.lock().unwrap()[&key].last().unwrap().offset.0 + 1;
        let mut labels = 0;
        let mut more = |count| {
            for _ in 0..count {
                labels += 1;
                label(&mut growing.lock().unwrap(), &format!("more-{labels}"), START + 100);
            }
        };
        more(100_000);
        let are_marked = || {
            more(1_000);
            memory.lock().marks.values().any(|mark| mark.positions.inferences == end)
        };
        running.until("inferences are marked while labels come", are_marked).await;
        let marked = memory.lock().marks[&PartitionId(0)].positions.labels;
        let key = (Stream::Labels, PartitionId(0));
        let last = growing.lock().unwrap()[&key].last().unwrap().offset.0;
        assert!(marked < last, "labels were still to be read");
        running.stop().await.unwrap();
    });
}
