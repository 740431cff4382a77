//! A range of the topics: rows of windows that lie wholly within, and accounts of all records.

use super::*;

/// Neither end lies where a window does. Whole windows of every grain lie between.
fn between(partitions: i32) -> PipelineSettings {
    let rows_within = Window { start: EventTime(START + 33_000), end: EventTime(START + 901_000) };
    assert!(GRAINS.iter().all(|grain| rows_within.holds_whole(*grain)));
    PipelineSettings { rows_within, ..settings(partitions) }
}

#[test]
fn windows_across_an_end_of_the_range_have_no_rows_and_their_records_are_counted() {
    let log = traffic(2, 1400, 700);
    let run = |settings: PipelineSettings| {
        let memory = Memory::new();
        let totals = block_on(async {
            start(settings.clone(), &shared(&log), &[&[0], &[1]], true, &memory).end().await
        });
        assert_complete(&settings, &log, &memory);
        (totals.unwrap(), memory)
    };
    let (whole, all) = run(settings(2));
    let (totals, memory) = run(between(2));
    assert_eq!((totals.records, totals.accounts), (whole.records, whole.accounts));
    // And what there is, is what the stream gives.
    let (tables, all) = (memory.lock(), all.lock());
    assert!(tables.metrics.len() > 1000 && tables.metrics.len() < all.metrics.len());
    assert!(tables.metrics.iter().all(|(key, row)| all.metrics.get(key) == Some(row)));
    assert_eq!(tables.seals, all.seals);
}

#[test]
fn a_range_goes_on_from_its_marks() {
    let log = traffic(2, 1400, 700);
    let memory = Memory::new();
    block_on(async {
        for share in 1..=6 {
            let log = shared(&part(&log, share));
            start(between(2), &log, &[&[0, 1]], true, &memory).end().await.unwrap();
        }
    });
    assert_complete(&between(2), &log, &memory);
}

/// The whole log is sealed at once, in pieces, and what is lost is found by reading back what was written.
#[test]
fn rows_of_a_range_that_are_lost_are_written_again() {
    let log = traffic(2, 1400, 700);
    let settings = PipelineSettings { flush_interval: Duration::from_secs(3600), ..between(2) };
    for table in [Table::WindowState, Table::Seals, Table::Metric(MetricTable::Serving)] {
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
