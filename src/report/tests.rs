mod figures;
mod names;

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::engine::metrics::reference::Profile;

/// Windows of an hour; the third has no labels, and the fourth does not follow it.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (hour, n) in [(0, 200_u64), (1, 300), (2, 0), (5, 250)] {
        let start_ms = 1_767_571_200_000 + hour * 3_600_000;
        for segment in ["all", "region=<eu>|x"] {
            let mut add = |table: &str, undefined: &str, values: serde_json::Value| {
                rows.push(Row {
                    table: table.to_owned(),
                    model: "<script>alert(1)</script>".to_owned(),
                    version: "2".to_owned(),
                    segment: segment.to_owned(),
                    grain: "1h".to_owned(),
                    start_ms,
                    end_ms: start_ms + 3_600_000,
                    undefined: undefined.to_owned(),
                    values: values.as_object().unwrap().clone(),
                });
            };
            let serving = json!({"inferences": 1234, "errors": 12, "error_rate": 0.0097});
            add("serving", "latency_p50_ms=no_latencies", serving);
            add("labels", "", json!({"inferences": 1234, "labelled": n, "coverage": 0.2}));
            if n > 0 {
                let quality = json!({
                    "n": n, "n_scored": n, "tp": 60, "fp": 20, "fn": 30, "tn": 90, "accuracy": 0.75,
                    "accuracy_lower": 0.69, "accuracy_upper": 0.81, "auroc": 0.8125,
                    "auroc_lower": 0.75, "auroc_upper": 0.875,
                });
                add("quality_binary", "mcc=one_class", quality);
            } else {
                add("quality_binary", "accuracy=no_labels auroc=no_labels", json!({"n": 0}));
            }
        }
    }
    rows
}

fn report(rows: &[Row]) -> Report {
    compared(rows, &References::default())
}

fn compared(rows: &[Row], references: &References) -> Report {
    Report::new("Fraud & more".to_owned(), "Rows of job fraud".to_owned(), rows, references)
}

#[test]
fn the_summary_adds_up_counts_and_takes_quality_from_the_newest_labelled_window() {
    let report = report(&rows());
    let model = &report.models[0];
    let titles: Vec<_> = model.sections.iter().map(|section| section.title).collect();
    assert_eq!(titles, ["Summary", "Quality", "Label coverage", "Service", "Segments"]);
    let Block::Facts(facts) = &model.sections[0].blocks[0] else { panic!("facts come first") };
    let of = |name: &str| {
        let fact = facts.iter().find(|fact| fact.name == name).unwrap();
        (fact.value.as_str(), fact.note.as_str())
    };
    assert_eq!(of("Inferences"), ("4\u{202f}936", "2026-01-05 to 2026-01-05 06:00 UTC"));
    assert_eq!(of("Labelled"), ("750", "coverage 15.19 %"));
    let note = "95 %: 0.7500 to 0.8750; 2026-01-05 05:00 to 2026-01-05 06:00 UTC, n = 250";
    assert_eq!(of("AUROC"), ("0.8125", note));
    let Block::Text(about) = &model.sections[1].blocks[0] else { panic!("it says of when") };
    assert_eq!(about, "2026-01-05 05:00 to 2026-01-05 06:00 UTC.");
}

#[test]
fn the_page_asks_for_nothing_from_outside_and_names_are_only_text() {
    let page = report(&rows()).render(Form::Html);
    for outside in ["http:", "https:", "//", "src=", "@import", "url(", "<link", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;, version 2"));
    assert!(page.contains("<title>Fraud &amp; more</title>"));
    assert!(page.contains("– (no latencies)"), "what is undefined has its reason");
    assert!(!page.contains("NaN"), "every place is a number");
    assert_eq!(page.matches("inf").count(), page.matches("infer").count(), "and a finite one");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let dark = "prefers-color-scheme: dark";
    assert!(page.contains(dark) && page.contains("@media print"));
}

#[test]
fn what_is_wider_than_a_phone_scrolls_with_the_keyboard_too() {
    let page = report(&rows()).render(Form::Html);
    let reachable = "tabindex=\"0\" role=\"region\" aria-label=\"";
    for (class, label) in [("wide", "Segments"), ("charts", "Charts: Quality")] {
        let boxes = page.matches(&format!("<div class=\"{class}\"")).count();
        assert!(boxes > 0, "{page}");
        let all = page.matches(&format!("<div class=\"{class}\" {reachable}")).count();
        assert_eq!(all, boxes, "{class}");
        assert!(page.contains(&format!("{reachable}{label}\"")), "{label}");
    }
    // The words of a chart shrink with it: 12 px of 640 at 36 rem.
    assert!(STYLE.contains("svg text { fill: var(--dim); font-size: 12px; }"));
    assert!(STYLE.contains("minmax(36rem, 1fr)); gap: 1rem; overflow-x: auto; }"));
}

#[test]
fn a_line_breaks_where_a_window_has_no_figure_or_is_missing() {
    let rows = rows();
    let report = report(&rows);
    let charts: Vec<&Chart> = report.models[0].sections[1]
        .blocks
        .iter()
        .filter_map(|block| if let Block::Chart(chart) = block { Some(chart) } else { None })
        .collect();
    assert_eq!(charts[0].title, "AUROC");
    let values: Vec<_> = charts[0].points.iter().map(|point| point.value).collect();
    assert_eq!(values, [Some(0.8125), Some(0.8125), None, Some(0.8125)]);
    let drawn = svg::chart(charts[0]).into_string();
    assert_eq!(drawn.matches("class=\"line\"").count(), 2, "{drawn}");
    assert_eq!(drawn.matches("<circle").count(), 3);
    // The interval of the window that stands alone is not lost.
    assert_eq!(drawn.matches("class=\"band\"").count(), 1, "{drawn}");
    let parts: Vec<&str> = drawn.split("<line class=\"bar\"").collect();
    let [_, bar] = parts[..] else { panic!("one bar: {drawn}") };
    let number = |name: &str| -> f64 {
        let text = bar.split(name).nth(1).unwrap().split('"').next().unwrap();
        text.parse().unwrap()
    };
    let [left, right, lower, upper] = ["x1=\"", "x2=\"", "y1=\"", "y2=\""].map(number);
    assert!((right - left).abs() < 0.01 && lower > upper + 10.0, "{bar}");
    assert!(drawn.contains("0.8125 (0.7500 to 0.8750), n = 300"));
}

#[test]
fn custom_metrics_are_listed_with_their_reasons_and_drawn_one_by_one() {
    let mut rows = rows();
    let mut add = |i: usize, metric: &str, value: serde_json::Value, undefined: &str| {
        let values = json!({"metric": metric, "value": value, "n": 7, "labelled": 7});
        let values = values.as_object().unwrap().clone();
        let (table, undefined) = ("custom".to_owned(), undefined.to_owned());
        rows.push(Row { table, undefined, values, ..rows[i].clone() });
    };
    for i in [0, 6] {
        add(i, "approval_rate", json!(0.25), "");
        add(i, "cost", serde_json::Value::Null, "value=zero_denominator");
    }
    let report = report(&rows);
    let of = |section: &&Section| section.title == "Custom metrics";
    let section = report.models[0].sections.iter().find(of).unwrap();
    let Block::Table(grid) = &section.blocks[1] else { panic!("a table comes first") };
    let [rate, cost] = [["approval_rate", "0.2500", "7"], ["cost", "– (zero denominator)", "7"]];
    assert_eq!(grid.rows, [rate, cost]);
    let Block::Chart(chart) = &section.blocks[2] else { panic!("then its chart") };
    assert_eq!((chart.title.as_str(), chart.points.len()), ("approval_rate", 2));
    assert_eq!(section.blocks.len(), 3, "what has no value has no chart");
}

#[test]
fn markdown_keeps_its_tables_whatever_names_hold() {
    let text = report(&rows()).render(Form::Markdown);
    assert!(text.starts_with("# Fraud & more\n"));
    assert!(text.contains("\n## \\<script\\>alert(1)\\</script\\>, version 2\n"), "{text}");
    assert!(text.contains("| region=\\<eu\\>\\|x | 1\u{202f}234 |"), "{text}");
    let remark = report(&rows()).with_remark("labels are <b>\n# 1").render(Form::Markdown);
    assert!(remark.contains("\nlabels are \\<b\\> \\# 1\n"), "{remark}");
    for lines in text.split("\n\n").filter(|part| part.starts_with("| ")) {
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let widths: Vec<_> = lines.lines().map(cells).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{lines}");
    }
}

#[test]
fn json_holds_all_that_the_page_shows() {
    let report = report(&rows());
    let json: serde_json::Value = serde_json::from_str(&report.render(Form::Json)).unwrap();
    assert_eq!(json["grain"], "1h");
    let sections = json["models"][0]["sections"].as_array().unwrap();
    assert_eq!(sections.len(), report.models[0].sections.len());
    let grid = &sections[1]["blocks"][2]["table"];
    assert_eq!(grid["rows"][0], json!(["Decided positive", "60", "20"]));
}

#[test]
fn json_has_the_number_beside_the_text_of_every_figure() {
    let json: serde_json::Value =
        serde_json::from_str(&report(&rows()).render(Form::Json)).unwrap();
    let sections = &json["models"][0]["sections"];
    let figure = |number: serde_json::Value, limits: Option<[f64; 2]>, n: Option<u64>| {
        let [lower, upper] = [0, 1].map(|at| limits.map(|limits| limits[at]));
        json!({"number": number, "lower": lower, "upper": upper, "n": n})
    };
    let facts = sections[0]["blocks"][0]["facts"].as_array().unwrap();
    let fact = |name: &str| {
        let fact = facts.iter().find(|fact| fact["name"] == name).unwrap();
        let mut numbers = fact.clone();
        for text in ["name", "value", "note"] {
            numbers.as_object_mut().unwrap().remove(text);
        }
        (fact["value"].clone(), numbers)
    };
    let inferences = (json!("4\u{202f}936"), figure(json!(4936), None, None));
    assert_eq!(fact("Inferences"), inferences);
    let auroc = figure(json!(0.8125), Some([0.75, 0.875]), Some(250));
    assert_eq!(fact("AUROC"), (json!("0.8125"), auroc.clone()));

    let cells = &sections[1]["blocks"][2]["table"]["figures"][0];
    assert_eq!(cells[0], json!(null), "a name is no figure");
    assert_eq!(cells[1], figure(json!(60), None, None));
    let quality = sections[1]["blocks"][1]["facts"].as_array().unwrap();
    let mcc = quality.iter().find(|fact| fact["name"] == "Matthews correlation").unwrap();
    assert_eq!((&mcc["value"], &mcc["number"]), (&json!("– (one class)"), &json!(null)));

    let segments = &sections[4]["blocks"][1]["table"];
    assert_eq!(segments["rows"][0][4], "0.8125 (0.7500 to 0.8750, 250)");
    assert_eq!(segments["figures"][0][4], auroc);
    let error_rate = figure(json!(0.0097), None, Some(1234));
    assert_eq!(segments["figures"][0][2], error_rate);
}

#[test]
fn a_figure_says_over_how_many_records_it_is() {
    let rows = rows();
    let row = rows.iter().find(|row| row.table == "quality_binary").unwrap();
    for (column, n) in [
        ("accuracy", Some(200)),
        ("npv", Some(90 + 30)),
        ("f1", Some(60 + 20 + 30)),
        ("f1_upper", Some(60 + 20 + 30)),
        ("recall", None),
        ("unknown", None),
    ] {
        assert_eq!(text::records(row, column), n, "{column}");
    }
}

#[test]
fn comparisons_of_a_model_and_of_a_feature_rest_on_the_same_columns() {
    let mut rows = rows();
    let values = json!({"feature": "amount", "kind": "feature", "method": "psi", "is_primary": 1, "value": 0.4,
        "effect": 0.3, "drift_at": 0.25, "p_adjusted": 0.01, "verdict": "insufficient_data", "n": 70,
        "reference_n": 200, "reference_id": "r"});
    let compared = Row {
        table: "drift".to_owned(),
        segment: "all".to_owned(),
        values: values.as_object().unwrap().clone(),
        ..rows[0].clone()
    };
    rows.push(compared.clone());
    let table = |sections: &[Section]| -> Vec<String> {
        let section = sections.iter().find(|section| section.title == "Drift").unwrap();
        let Block::Table(grid) = &section.blocks[1] else { panic!("what is compared") };
        assert_eq!(grid.header.len(), grid.rows[0].len());
        assert_eq!(grid.header[3..6], ["Effect", "Drift from", "Adjusted p"]);
        grid.rows[0].clone()
    };
    let verdict = "insufficient data";
    let rest = ["0.3000", "0.2500", "0.0100", "70", "200"];
    let of_model = table(&report(&rows).models[0].sections);
    assert_eq!(of_model[..3], ["amount", verdict, "psi"]);
    let of_one = table(&of_feature(&[compared], &References::default()));
    assert_eq!(of_one[..3], ["psi (main)", verdict, "0.4000"]);
    assert_eq!([&of_model[3..], &of_one[3..]], [rest, rest]);
}

#[test]
fn drift_of_the_whole_time_comes_before_that_of_the_newest_window() {
    let mut rows = rows();
    let (first_ms, newest) = (rows[0].start_ms, rows.last().unwrap().clone());
    let mut add = |grain: &str, start_ms: i64, verdict: &str| {
        let values = json!({"feature": "amount", "kind": "feature", "method": "psi", "is_primary": 1,
            "verdict": verdict});
        rows.push(Row {
            table: "drift".to_owned(),
            segment: "all".to_owned(),
            grain: grain.to_owned(),
            start_ms,
            values: values.as_object().unwrap().clone(),
            ..newest.clone()
        });
    };
    add("1h", newest.start_ms, "ok");
    add("all", first_ms, "drift");
    let texts = |rows: &[Row]| -> Vec<String> {
        let report = report(rows);
        let section = report.models[0].sections.iter().find(|section| section.title == "Drift");
        let blocks = section.unwrap().blocks.iter().filter_map(|block| match block {
            Block::Text(text) => Some(text.clone()),
            _ => None,
        });
        blocks.collect()
    };
    let of_newest = "2026-01-05 05:00 to 2026-01-05 06:00 UTC: 0 of 1 drift.";
    let of_whole = "2026-01-05 to 2026-01-05 06:00 UTC: 1 of 1 drift.";
    assert_eq!(texts(&rows), [of_whole, of_newest]);
    // Of one window they are the same.
    let whole = rows.last_mut().unwrap();
    whole.start_ms = newest.start_ms;
    assert_eq!(texts(&rows).len(), 1);
    rows.pop();
    assert_eq!(texts(&rows), [of_newest]);
}

#[test]
fn what_binning_may_have_changed_is_shown_as_no_interval() {
    let values = json!({"feature": "amount", "kind": "feature", "method": "ks", "is_primary": 1, "value": 0.25,
        "value_lower": 0.15, "value_upper": 0.35, "n": 70, "reference_n": 200, "reference_id": "r"});
    let compared = Row {
        table: "drift".to_owned(),
        segment: "all".to_owned(),
        values: values.as_object().unwrap().clone(),
        ..rows()[0].clone()
    };
    let sections = of_feature(&[compared], &References::default());
    let [Block::Text(_), Block::Table(grid), Block::Chart(chart)] = &sections[0].blocks[..] else {
        panic!("a table and a chart")
    };
    let figure = grid.figures[0][2].as_ref().unwrap();
    assert_eq!((&*grid.rows[0][2], figure.lower, figure.upper), ("0.2500", None, None));
    assert_eq!((chart.points[0].value, chart.points[0].interval), (Some(0.25), None));
}

#[test]
fn the_period_is_that_of_the_records_that_are_counted() {
    let mut rows = rows();
    let mut whole = rows[0].clone();
    (whole.grain, whole.start_ms) = ("all".to_owned(), whole.start_ms + 1_800_000);
    whole.values.insert("inferences".to_owned(), json!(4936));
    rows.push(whole);
    let period = |rows: &[Row]| {
        let report = report(rows);
        let Block::Facts(facts) = &report.models[0].sections[0].blocks[0] else { panic!("facts") };
        facts[0].note.clone()
    };
    assert_eq!(period(&rows), "2026-01-05 00:30 to 2026-01-05 01:00 UTC");
    // The windows hold more than the whole time that was merged: they are counted.
    rows.last_mut().unwrap().values.insert("inferences".to_owned(), json!(4000));
    assert_eq!(period(&rows), "2026-01-05 to 2026-01-05 06:00 UTC");
}

#[test]
fn a_remark_stands_in_every_summary() {
    let said = "none of 7 labels matches an inference";
    let report = report(&rows()).with_remark(said);
    let blocks = &report.models[0].sections[0].blocks;
    assert_eq!(blocks.last(), Some(&Block::Text(said.to_owned())));
    for form in [Form::Html, Form::Markdown, Form::Json] {
        assert!(report.render(form).contains(said), "{form:?}");
    }
}

#[test]
fn figures_of_the_whole_time_come_before_those_of_a_window() {
    let mut rows = rows();
    let mut whole = rows.iter().find(|row| row.table == "quality_binary").unwrap().clone();
    whole.grain = "all".to_owned();
    whole.values.insert("auroc".to_owned(), json!(0.5));
    rows.push(whole);
    // The counts beside it are of six hours.
    let times = [(6, ""), (5, "2026-01-05 to 2026-01-05 05:00 UTC, ")];
    for (hours, time) in times {
        let whole = rows.last_mut().unwrap();
        whole.end_ms = whole.start_ms + hours * 3_600_000;
        let report = report(&rows);
        let Block::Facts(facts) = &report.models[0].sections[0].blocks[0] else { panic!("facts") };
        let auroc = facts.iter().find(|fact| fact.name == "AUROC").unwrap();
        let note = format!("95 %: 0.7500 to 0.8750; {time}n = 200");
        assert_eq!((&*auroc.value, &*auroc.note), ("0.5000", &*note));
    }
}

#[test]
fn where_the_newest_window_has_no_labels_all_say_of_which_window_they_are() {
    let mut rows = rows();
    let [first, second] = [1, 2].map(|hour| 1_767_571_200_000_i64 + hour * 3_600_000);
    // The newest has a few inferences, none of them of the region.
    rows.retain(|row| row.start_ms == first || (row.start_ms == second && row.segment == "all"));
    for row in rows.iter_mut().filter(|row| row.start_ms == second) {
        row.values.insert("inferences".to_owned(), json!(3));
    }
    let report = report(&rows);
    let sections = &report.models[0].sections;
    let Block::Facts(facts) = &sections[0].blocks[0] else { panic!("facts come first") };
    let note = |name: &str| &*facts.iter().find(|fact| fact.name == name).unwrap().note;
    assert_eq!(note("Inferences"), "2026-01-05 01:00 to 2026-01-05 03:00 UTC");
    let window = "2026-01-05 01:00 to 2026-01-05 02:00 UTC";
    assert_eq!(note("AUROC"), format!("95 %: 0.7500 to 0.8750; {window}, n = 300"));
    assert_eq!(note("Accuracy"), format!("95 %: 0.6900 to 0.8100; {window}, n = 300"));

    let segments = sections.iter().find(|section| section.title == "Segments").unwrap();
    let [Block::Text(about), Block::Table(grid)] = &segments.blocks[..] else { panic!("a table") };
    assert_eq!(*about, format!("{window}."));
    let [auroc, accuracy] = ["0.8125 (0.7500 to 0.8750, 300)", "0.7500 (0.6900 to 0.8100, 300)"];
    let line = |segment| [segment, "1\u{202f}234", "0.0097", "0.2000", auroc, accuracy];
    assert_eq!(grid.rows, [line("all"), line("region=<eu>|x")]);
}

#[test]
fn a_segment_stands_in_the_table_though_the_rows_of_its_traffic_were_not_read() {
    let mut rows = rows();
    rows.retain(|row| row.table != "serving" || row.segment == "all");
    let report = report(&rows);
    let section = report.models[0].sections.iter().find(|it| it.title == "Segments").unwrap();
    let Block::Table(grid) = &section.blocks[1] else { panic!("a table") };
    assert_eq!(grid.rows[1][..4], ["region=<eu>|x", "1\u{202f}234", "–", "0.2000"]);
}

/// A profile of a feature with the numbers 1 to 200 once each.
fn reference() -> Arc<Profile> {
    let document = json!({
        "format": 1, "name": "r", "generation": 1,
        "features": {"amount": {
            "kind": "numeric", "missing": 0, "type_errors": 0, "scale": "linear", "min": 1.0, "max": 200.0,
            "mean": 100.5, "sd": 57.7, "fine_edges": (1..100).map(|n| f64::from(2 * n)).collect::<Vec<_>>(),
            "bin_edges": (1..10).map(|n| f64::from(20 * n)).collect::<Vec<_>>(), "counts": vec![2; 100],
            "has_given_edges": false,
        }},
    });
    Arc::new(crate::profile::read(&document.to_string()).unwrap())
}

#[test]
fn the_numbers_of_a_feature_lie_beside_those_of_the_reference() {
    let profile = reference();
    let mut rows = rows();
    let newest = rows.last().unwrap().clone();
    let mut add = |table: &str, values: serde_json::Value| {
        let values = values.as_object().unwrap().clone();
        rows.push(Row {
            table: table.to_owned(),
            segment: "all".to_owned(),
            values,
            ..newest.clone()
        });
    };
    let quantiles = json!({"feature": "amount", "kind": "numeric", "values": 70, "p01": 3.5, "p25": 20.0,
        "p50": 40.0, "p75": 60.0, "p99": 250.0});
    add("data_quality", quantiles);
    add("data_quality", json!({"feature": "country", "kind": "categorical", "values": 70}));
    add(
        "drift",
        json!({"feature": "amount", "kind": "feature", "method": "psi", "is_primary": 1,
        "verdict": "drift", "reference_id": &*profile.id}),
    );

    let references: References = [Arc::clone(&profile)].into_iter().collect();
    let expected = Spread {
        feature: "amount".to_owned(),
        now: Quantiles { values: [3.5, 20.0, 40.0, 60.0, 250.0], n: 70 },
        reference: Some(Quantiles { values: [2.0, 50.0, 100.0, 150.0, 198.0], n: 200 }),
    };
    let report = compared(&rows, &references);
    let sections = &report.models[0].sections;
    let found = sections.iter().find(|section| section.title == "Distributions").unwrap();
    assert_eq!(found.blocks[1..], [Block::Spread(expected.clone())]);
    let page = report.render(Form::Html);
    assert!(page.contains("reference: median 100.00, from 2.0000 to 198.00, n = 200"), "{page}");
    let text = report.render(Form::Markdown);
    assert!(
        text.contains("| reference | 2.0000 | 50.00 | 100.00 | 150.00 | 198.00 | 200 |"),
        "{text}"
    );
    let of_one = rows.iter().filter(|row| row.text("feature") == "amount").cloned();
    let of_feature = of_feature(&of_one.collect::<Vec<_>>(), &references);
    assert!(of_feature.iter().flat_map(|section| &section.blocks).any(|block| {
        matches!(block, Block::Spread(spread) if spread.reference == expected.reference)
    }));

    // Rows may be older than the reference that is known.
    let of_others = compared(&rows, &References::default());
    let blocks = of_others.models[0].sections.iter().flat_map(|section| &section.blocks);
    let spreads: Vec<_> = blocks
        .filter_map(|block| match block {
            Block::Spread(spread) => Some(spread),
            _ => None,
        })
        .collect();
    assert_eq!(spreads, [&Spread { reference: None, ..expected }]);
}

#[test]
fn the_categories_of_a_feature_stand_beside_those_of_the_reference() {
    let mut rows = rows();
    let newest = rows.last().unwrap().clone();
    let mut add = |table: &str, values: serde_json::Value| {
        let values = values.as_object().unwrap().clone();
        let (table, segment) = (table.to_owned(), "all".to_owned());
        rows.push(Row { table, segment, values, ..newest.clone() });
    };
    add("data_quality", json!({"feature": "country", "kind": "categorical", "values": 70}));
    for (category, n, reference) in
        [("(other)", 40, json!(0.1)), ("a <b>", 10, json!(null)), ("DE", 20, json!(0.5))]
    {
        let share = f64::from(n) / 70.0;
        add(
            "categories",
            json!({"feature": "country", "category": category, "n": n, "values": 70, "share": share,
            "share_lower": share - 0.1, "share_upper": share + 0.1, "reference_share": reference}),
        );
    }
    let shares = |sections: &[Section]| {
        let blocks = sections.iter().flat_map(|section| &section.blocks);
        let found: Vec<Shares> = blocks
            .filter_map(|block| match block {
                Block::Shares(shares) => Some(shares.clone()),
                _ => None,
            })
            .collect();
        found
    };
    let report = report(&rows);
    let found = shares(&report.models[0].sections);
    let [found] = &found[..] else { panic!("one feature") };
    let named: Vec<_> =
        found.categories.iter().map(|one| (one.category.as_str(), one.reference)).collect();
    assert_eq!(named, [("DE", Some(0.5)), ("a <b>", None), ("(other)", Some(0.1))]);
    assert_eq!((found.feature.as_str(), found.n), ("country", 70));
    let page = report.render(Form::Html);
    assert!(
        page.contains("country, n = 70; DE: 28.57 %, reference 50.00 %; a &lt;b&gt;: 14.29 %"),
        "{page}"
    );
    let text = report.render(Form::Markdown);
    assert!(text.contains("| DE | 28.57 % | 18.57 % to 38.57 % | 50.00 % |"), "{text}");
    let of_one = rows.iter().filter(|row| row.text("feature") == "country").cloned();
    let of_feature = of_feature(&of_one.collect::<Vec<_>>(), &References::default());
    assert_eq!(shares(&of_feature), std::slice::from_ref(found));

    // A window later it has no value: nothing is drawn under that window's name.
    let mut later = rows.iter().rfind(|row| row.table == "data_quality").unwrap().clone();
    later.values.insert("values".to_owned(), json!(0));
    (later.start_ms, later.end_ms) = (later.end_ms, later.end_ms + 3_600_000);
    rows.push(later);
    let of_one = rows.iter().filter(|row| row.text("feature") == "country").cloned();
    let of_later = super::of_feature(&of_one.collect::<Vec<_>>(), &References::default());
    assert_eq!(shares(&of_later), []);
}

#[test]
fn shares_are_0_or_100_only_where_they_are_just_that() {
    for (part, whole, expected) in [
        (0, 100_000, "0.00 %"),
        (3, 100_000, "< 0.01 %"),
        (10, 100_000, "0.01 %"),
        (99_990, 100_000, "99.99 %"),
        (99_996, 100_000, "> 99.99 %"),
        (100_000, 100_000, "100.00 %"),
        (0, 0, "–"),
    ] {
        assert_eq!(text::share(part, whole), expected, "{part}");
    }
}

/// Of a model whose classes have 30, 29, … 19 labels and are taken for the one after them once.
fn of_classes(classes: usize) -> Vec<Row> {
    let mut rows = rows();
    rows.retain(|row| row.segment == "all" && row.table != "quality_binary");
    let newest = rows.last().unwrap().clone();
    let mut add = |table: &str, values: serde_json::Value| {
        let values = values.as_object().unwrap().clone();
        rows.push(Row { table: table.to_owned(), values, ..newest.clone() });
    };
    add("quality_multiclass", json!({"n": 100, "correct": 90, "accuracy": 0.9}));
    for class in 0..classes {
        let support = 30 - class;
        let name = format!("c{class:02}");
        add(
            "quality_classes",
            json!({"class": name, "support": support, "predicted": support, "precision": 0.5, "recall": 0.25}),
        );
        let next = format!("c{:02}", (class + 1) % classes);
        for (predicted, n) in [(&name, support - 1), (&next, 1)] {
            let cell = json!({"true_class": name, "predicted_class": predicted, "n": n});
            add("confusion", cell);
        }
    }
    rows
}

#[test]
fn classes_have_their_figures_and_are_counted_by_what_they_were_taken_for() {
    let page = report(&of_classes(3)).render(Form::Markdown);
    let table = "| Class | Labelled | Predicted | Precision | Recall | F1 | AUROC |\n\
                 | --- | --- | --- | --- | --- | --- | --- |\n\
                 | c00 | 30 | 30 | 0.5000 | 0.2500 | – | – |\n";
    assert!(page.contains(table), "{page}");
    let matrix = "|  | Predicted c00 | Predicted c01 | Predicted c02 |\n| --- | --- | --- | --- |\n\
                  | Labelled c00 | 29 | 1 | 0 |\n| Labelled c01 | 0 | 28 | 1 |\n| Labelled c02 | 1 | 0 | 27 |\n";
    assert!(page.contains(matrix), "{page}");
    // Twelve classes are ten and others, and every label is still counted once.
    let report = report(&of_classes(12));
    let quality = report.models[0].sections.iter().find(|section| section.title == "Quality");
    let grids = quality.unwrap().blocks.iter().filter_map(|block| match block {
        Block::Table(grid) => Some(grid),
        _ => None,
    });
    let grids: Vec<&Grid> = grids.collect();
    assert_eq!((grids[0].rows.len(), grids[1].rows.len()), (12, 11));
    assert_eq!(grids[1].rows[10][0], "Labelled others");
    let counts = grids[1].rows.iter().flat_map(|row| &row[1..]).map(|cell| cell.parse::<usize>());
    assert_eq!(counts.sum::<Result<usize, _>>(), Ok((19..=30).sum()));
}

#[test]
fn several_models_are_compared_before_each_is_shown() {
    let mut rows = rows();
    assert!(report(&rows).overview.is_none());
    let other: Vec<Row> = rows
        .iter()
        .filter(|row| row.table != "quality_binary")
        .map(|row| Row { model: "a-model".to_owned(), version: String::new(), ..row.clone() })
        .collect();
    rows.extend(other);
    let overview = report(&rows).overview.unwrap();
    let quality = ["AUROC (95 % interval, n)", "Accuracy (95 % interval, n)"];
    assert_eq!(overview.header[..4], ["Model", "Inferences", "Labelled", "Errors"]);
    assert_eq!(overview.header[4..], quality);
    assert_eq!(overview.rows[1], ["a-model", "4\u{202f}936", "750", "48", "–", "–"]);
    assert_eq!(overview.rows[0][4], "0.8125 (0.7500 to 0.8750, 250)");
    assert_eq!(overview.figures[0][4].as_ref().unwrap().n, Some(250));
}

#[test]
fn no_rows_make_a_page_that_says_so() {
    let empty = report(&[]);
    assert!(empty.render(Form::Html).contains("No rows."));
    assert!(empty.models.is_empty());
}
