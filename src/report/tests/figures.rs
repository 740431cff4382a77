//! Of which window and over how many records a figure is.

use super::*;

/// Sets the counts of labelled records of one window.
fn set_labelled(rows: &mut [Row], hour: i64, counts: [(&str, u64); 3], is_sealed: bool) {
    let start_ms = 1_767_571_200_000 + hour * 3_600_000;
    for row in rows.iter_mut().filter(|row| row.start_ms == start_ms) {
        for (column, n) in counts {
            if let Some(value) = row.values.get_mut(column) {
                *value = json!(n);
            }
        }
        row.values.insert("sealed".to_owned(), json!(is_sealed));
    }
}

fn facts_of<'a>(report: &'a Report, section: &str) -> &'a [Fact] {
    let mut sections = report.models[0].sections.iter();
    let blocks = &sections.find(|of| of.title == section).unwrap().blocks;
    let facts = blocks.iter().find_map(|block| match block {
        Block::Facts(facts) => Some(&facts[..]),
        _ => None,
    });
    facts.unwrap()
}

fn note<'a>(facts: &'a [Fact], name: &str) -> &'a str {
    &facts.iter().find(|fact| fact.name == name).unwrap().note
}

#[test]
fn quality_is_of_the_newest_window_with_enough_labels_or_with_all_of_them() {
    for (counts, is_sealed, end, n) in [
        ([200, 300, 2], false, "02:00", 300),
        ([200, 300, 2], true, "06:00", 2),
        ([99, 3, 2], false, "06:00", 2),
        ([100, 3, 2], false, "01:00", 100),
    ] {
        let mut rows = rows();
        for (hour, n) in [0, 1, 5].into_iter().zip(counts) {
            let counts = ["n", "n_scored", "labelled"].map(|column| (column, n));
            set_labelled(&mut rows, hour, counts, is_sealed && hour == 5);
        }
        let report = report(&rows);
        let said = note(facts_of(&report, "Summary"), "AUROC");
        assert!(said.ends_with(&format!("to 2026-01-05 {end} UTC, n = {n}")), "{counts:?}: {said}");
        let segments = report.models[0].sections.last().unwrap();
        let Block::Text(about) = &segments.blocks[0] else { panic!("it says of when") };
        assert!(about.ends_with(&format!("to 2026-01-05 {end} UTC.")), "labels alike: {about}");
    }
}

#[test]
fn every_figure_has_the_records_that_it_is_over_itself() {
    let mut rows = rows();
    set_labelled(&mut rows, 5, [("n", 250), ("n_scored", 60), ("labelled", 250)], false);
    let report = report(&rows);
    let window = "2026-01-05 05:00 to 2026-01-05 06:00 UTC";
    let summary = facts_of(&report, "Summary");
    assert_eq!(note(summary, "AUROC"), format!("95 %: 0.7500 to 0.8750; {window}, n = 60"));
    assert_eq!(note(summary, "Accuracy"), format!("95 %: 0.6900 to 0.8100; {window}, n = 250"));
    let least = "Quality rests on 60 labelled records: see how wide its intervals are.".to_owned();
    assert!(report.models[0].sections[0].blocks.contains(&Block::Text(least)));
    let quality = facts_of(&report, "Quality");
    assert_eq!(note(quality, "AUROC"), "95 %: 0.7500 to 0.8750; n = 60");
    assert_eq!(note(quality, "Accuracy"), "95 %: 0.6900 to 0.8100; n = 250");
    assert_eq!(note(quality, "F1"), "n = 110", "true negatives do not enter it");
    assert_eq!(note(facts_of(&report, "Service"), "Error rate"), "n = 1\u{202f}234");
    // A figure that is not shown says nothing of what quality rests on.
    for row in rows.iter_mut().filter(|row| row.table == "quality_binary") {
        row.values.insert("auroc".to_owned(), json!(null));
    }
    let without = self::report(&rows);
    let blocks = &without.models[0].sections[0].blocks;
    assert!(
        !blocks.iter().any(|block| matches!(block, Block::Text(text) if text.contains("rests")))
    );
}

#[test]
fn a_figure_of_data_quality_that_is_not_defined_has_its_reason() {
    let mut rows = rows();
    let values = json!({"feature": "country", "kind": "categorical", "inferences": 90, "values": 70,
        "missing_rate": 0.25, "p25": null});
    rows.push(Row {
        table: "data_quality".to_owned(),
        segment: "all".to_owned(),
        undefined: "p25=not_numeric p50=not_numeric".to_owned(),
        values: values.as_object().unwrap().clone(),
        ..rows[0].clone()
    });
    let report = report(&rows);
    let section = report.models[0].sections.iter().find(|it| it.title == "Data quality").unwrap();
    let Block::Table(grid) = &section.blocks[1] else { panic!("a table") };
    assert_eq!(grid.header[..5], ["Feature", "Kind", "Inferences", "Values", "Missing"]);
    assert_eq!(grid.rows[0][..5], ["country", "categorical", "90", "70", "0.2500"]);
    assert_eq!(grid.rows[0][8..10], ["– (not numeric)", "– (not numeric)"]);
}

#[test]
fn bins_stand_beside_the_calibration_that_they_are_of() {
    let mut rows = rows();
    let first = rows[0].clone();
    let mut add = |table: &str, hour: i64, values: serde_json::Value| {
        let (table, values) = (table.to_owned(), values.as_object().unwrap().clone());
        let start_ms = first.start_ms + hour * 3_600_000;
        let end_ms = start_ms + 3_600_000;
        rows.push(Row { table, start_ms, end_ms, values, ..first.clone() });
    };
    for (hour, n) in [(1, 150_u64), (5, 40)] {
        add("calibration", hour, json!({"n_scored": n, "ece": 0.1}));
        let bin = json!({"bin": 1, "n": n / 3, "mean_score": 0.2, "positive_rate": 0.25});
        add("calibration_bins", hour, bin);
    }
    let report = report(&rows);
    let ece = note(facts_of(&report, "Calibration"), "Expected calibration error");
    assert_eq!(ece, "n = 150");
    let section = report.models[0].sections.iter().find(|it| it.title == "Calibration").unwrap();
    let Some(Block::Reliability(bins)) = section.blocks.last() else { panic!("a diagram") };
    assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [50]);
}

#[test]
fn a_feature_and_the_link_to_it_have_the_verdict_of_the_same_window() {
    let first = rows()[0].clone();
    let compared = |feature: &str, hour: i64, verdict: &str| {
        let values = json!({"feature": feature, "kind": "feature", "method": "psi", "is_primary": 1, "value": 0.4,
            "verdict": verdict, "n": 70, "reference_n": 200, "reference_id": "r"});
        let start_ms = first.start_ms + hour * 3_600_000;
        Row {
            table: "drift".to_owned(),
            start_ms,
            end_ms: start_ms + 3_600_000,
            values: values.as_object().unwrap().clone(),
            ..first.clone()
        }
    };
    let insufficient = "insufficient_data";
    let rows = [
        first.clone(),
        compared("rare", 0, "drift"),
        compared("rare", 1, insufficient),
        compared("usual", 1, "ok"),
        compared("never", 1, insufficient),
        compared("rare", 2, insufficient),
        compared("usual", 2, insufficient),
        compared("never", 2, insufficient),
    ];
    let found = verdicts(&rows, &first.model, &first.version);
    let hour = |window: Option<[i64; 2]>| (window.unwrap()[0] - first.start_ms) / 3_600_000;
    let named = found.iter().map(|of| (&*of.name, &*of.word, hour(of.window_ms)));
    let named: Vec<_> = named.collect();
    assert_eq!(
        named,
        [("rare", "drift", 0), ("usual", "ok", 1), ("never", "insufficient data", 2)]
    );
    for (name, verdict, hour) in named {
        let of_one: Vec<Row> =
            rows.iter().filter(|row| row.text("feature") == name).cloned().collect();
        let sections = of_feature(&of_one, &References::default());
        let [Block::Text(about), Block::Table(grid), ..] = &sections[0].blocks[..] else {
            panic!("a table")
        };
        assert_eq!(grid.rows[0][1], verdict, "{name}");
        let start = crate::calendar::time(first.start_ms + hour * 3_600_000);
        assert!(about.starts_with(&format!("{start} to ")), "{name}: {about}");
        assert_eq!(
            about.contains("Newer windows have too few records"),
            hour < 2,
            "{name}: {about}"
        );
    }
}

#[test]
fn labels_that_weigh_otherwise_than_one_are_told() {
    let texts = |weight: f64, effective: f64| -> Vec<String> {
        let mut rows = rows();
        for row in rows.iter_mut().filter(|row| row.table == "quality_binary") {
            row.values.insert("n_weight".to_owned(), json!(weight));
            row.values.insert("n_eff".to_owned(), json!(effective));
        }
        let report = report(&rows);
        let blocks = report.models[0].sections[1].blocks.iter();
        let texts = blocks.filter_map(|block| match block {
            Block::Text(text) => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    };
    assert_eq!(texts(250.0, 250.0).len(), 1, "each weighs 1");
    let said = "Figures and intervals go by the labels' weights, 312.50 together: they say as much as 187.50 labels";
    assert!(texts(312.5, 187.5)[1].starts_with(said), "{:?}", texts(312.5, 187.5));
    assert_eq!(texts(250.0, 187.5).len(), 2, "they weigh 1 on average");
}
