//! The byte budget: what is left unread, what is freed, and when the process gives up.

use super::*;

/// Bytes held by the first worker, as telemetry says.
fn state_bytes(telemetry: &Telemetry) -> usize {
    let text = telemetry.encode();
    let line = text.lines().find_map(|l| l.strip_prefix("tidegauge_state_bytes{worker=\"0\"} "));
    line.map_or(0, |bytes| bytes.parse().unwrap())
}

#[test]
fn silent_labels_leave_the_inferences_unread_at_the_byte_budget() {
    let log = traffic(1, 20_000, 20);
    let memory = Memory::new();
    let mut settings = settings(1);
    settings.state_budget_bytes = 4_000_000;
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
        let all: i64 = log.values().map(|all| all.last().unwrap().offset.0 + 1).sum();
        running
            .until("all is marked", || {
                let held = state_bytes(&telemetry);
                assert!(held <= 4_800_000, "{held} bytes are over the budget by more than a fifth");
                written(&memory) == all
            })
            .await;
        running.stop().await.unwrap();
    });
    assert_complete(&settings, &log, &memory);
}

#[test]
fn while_clickhouse_is_down_reading_ends_at_the_byte_budget_and_nothing_is_lost() {
    let log = traffic(1, 20_000, 20);
    let memory = Memory::new();
    memory.lock().mode = Mode::Fails(usize::MAX);
    let mut settings = settings(1);
    settings.state_budget_bytes = 4_000_000;
    block_on(async {
        let mut running = start(settings.clone(), &shared(&log), &[&[0]], true, &memory);
        let telemetry = running.telemetry.clone();
        running
            .until("both reasons are given", || {
                let causes: Vec<Cause> = telemetry.reasons().iter().map(|(c, _)| *c).collect();
                causes == [Cause::ClickHouse, Cause::StateBudget]
            })
            .await;
        let records: usize = log.values().map(Vec::len).sum();
        assert!(counted(&telemetry) < records, "some are left unread");
        memory.lock().mode = Mode::Good;
        running.end().await.unwrap();
    });
    assert_complete(&settings, &log, &memory);
}

#[test]
fn a_budget_that_can_not_do_ends_the_process_and_names_the_partition() {
    let mut log = traffic(1, 20_000, 20);
    log.remove(&(Stream::Labels, PartitionId(0)));
    let memory = Memory::new();
    let mut settings = settings(1);
    settings.state_budget_bytes = 400_000;
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
        let mut settings = settings(1);
        settings.state_budget_bytes = 2_000_000;
        let memory = Memory::new();
        block_on(async {
            start(settings.clone(), &shared(&log), workers, true, &memory).end().await
        })
        .unwrap();
        assert_complete(&settings, &log, &memory);
    }
}
