//! Tables that lose what they have acknowledged, under a running instance.

use super::*;
use tidegauge::sink::tables::Table;

/// The value of a counter, over all its labels.
fn counter(telemetry: &Telemetry, name: &str) -> u64 {
    let text = telemetry.encode();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn rows_of_sealed_windows_that_are_not_there_are_written_again_before_the_mark() {
    let log = traffic(2, 400, 700);
    for table in [Table::WindowState, Table::Seals, Table::Serving] {
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
            let ends = part(share);
            let ends = ends.values().filter_map(|all| Some(all.last()?.offset.0 + 1));
            let all: i64 = ends.sum();
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
