//! Tables that refuse or do not answer, records that can't be used, and bugs: what is tried again, and what ends a run.

use super::*;

#[test]
fn failed_and_unanswered_writes_are_repeated_with_the_same_bytes() {
    let log = traffic(2, 200, 700);
    for mode in [Mode::Fails(4), Mode::LosesReplies(4), Mode::Refuses(2)] {
        let memory = Memory::new();
        memory.lock().mode = mode;
        block_on(async {
            start(settings(2), &shared(&log), &[&[0], &[1]], true, &memory).end().await
        })
        .unwrap();
        assert_complete(&settings(2), &log, &memory);
        let tables = memory.lock();
        let attempts = if mode == Mode::Refuses(2) { 3 } else { 5 };
        for body in &tables.bodies[1..attempts] {
            assert_eq!(body, &tables.bodies[0], "{mode:?}");
        }
    }
}

#[test]
fn readiness_says_what_the_operator_has_to_do_and_recovers() {
    let log = traffic(1, 200, 700);
    let memory = Memory::new();
    memory.lock().mode = Mode::Refuses(4);
    block_on(async {
        let mut running = start(settings(1), &shared(&log), &[&[0]], true, &memory);
        let telemetry = running.telemetry.clone();
        running
            .until("the reason is given", || {
                telemetry
                    .reasons()
                    .iter()
                    .any(|(c, why)| *c == Cause::ClickHouse && why.contains("disk full"))
            })
            .await;
        running.end().await.unwrap();
        assert!(telemetry.reasons().is_empty(), "{:?}", telemetry.reasons());
    });
    assert_complete(&settings(1), &log, &memory);
}

#[test]
fn a_final_failure_ends_the_process_with_its_code() {
    let log = traffic(1, 100, 700);
    let memory = Memory::new();
    memory.lock().mode = Mode::Unreadable;
    let running = async { start(settings(1), &shared(&log), &[&[0]], true, &memory).end().await };
    assert_eq!(block_on(running).unwrap_err().code(), "clickhouse_unreadable");
    assert!(memory.lock().marks.is_empty(), "no mark before the rows");
}

#[test]
fn too_many_dead_letters_stop_the_process_before_a_mark_passes_them() {
    let mut log = Log::new();
    for i in 0..400 {
        add(&mut log, Stream::Inferences, 0, START + i, "{broken".to_owned());
    }
    let memory = Memory::new();
    let mut settings = settings(1);
    settings.flush_interval = Duration::from_secs(3600);
    settings.dead_letter_limit = DeadLetterLimit { share: 0.1, at_least: 300 };
    let error =
        block_on(async { start(settings, &shared(&log), &[&[0]], true, &memory).end().await });
    let error = error.unwrap_err();
    assert_eq!(error.code(), "dead_letter_limit");
    assert!(error.to_string().contains("partition 0"), "{error}");
    assert!(memory.lock().marks.is_empty());
}

#[test]
fn a_panic_in_a_worker_ends_the_process() {
    let memory = Memory::new();
    let error = block_on(async {
        let running = start(settings(1), &shared(&Log::new()), &[&[0]], false, &memory);
        running.controls[0].lock().unwrap().push_back(Control::Panic);
        running.end().await
    });
    assert_eq!(error.unwrap_err().code(), "worker_failed");
}
