//! What targets receive, and why they may not take it.

use serde_json::{Value as Json, json};

use crate::alerts::AlertRow;
use crate::calendar::instant;
use crate::engine::window::Window;
use crate::report::precise;

/// Alertmanager takes an alert without an end for over after some minutes, unless it is sent again and again.
const OPEN_FOR_MS: i64 = 366 * 86_400_000;

/// Why a target did not take a change, in words without secrets.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It takes none now: it is down or overloaded, or wants another address or login.
    #[error("{0}")]
    Target(String),
    /// It does not want this one; others it may.
    #[error("{0}")]
    Change(String),
}

/// The key of a change: the same in every attempt, at every target, after every restart.
pub(super) fn idempotency_key(job: &str, row: &AlertRow) -> String {
    format!("{}-{}", row.id(job), row.announced)
}

/// The alert that a change's key is of; the rest of the key is the number of the change.
pub(super) fn alert_of(key: &str) -> &str {
    key.rsplit_once('-').map_or(key, |(alert, _)| alert)
}

/// A change of an alert as generic webhooks receive it.
pub(super) fn payload(job: &str, row: &AlertRow) -> Json {
    let (key, alert) = (&row.key, &row.alert);
    let span = |window: Window| {
        json!({ "start_ms": window.start.0, "end_ms": window.end.0,
        "start": instant(window.start.0), "end": instant(window.end.0) })
    };
    json!({
        "idempotency_key": idempotency_key(job, row),
        "state": alert.state.name(),
        "severity": &*row.severity,
        "job": job,
        "rule": &*key.rule,
        "metric": &*row.metric,
        "model": &*key.model,
        "version": &*key.version,
        "segment": &*key.segment,
        "feature": &*key.feature,
        "grain": &*key.grain,
        "opened_window": span(alert.opened),
        "resolved_window": alert.resolved.map(span),
        "value": alert.value,
        "lower": alert.lower,
        "upper": alert.upper,
        "threshold": alert.threshold,
        "n": alert.n,
    })
}

/// A message that says that it is a test.
pub fn test_message(job: &str, key: &str, now_ms: i64) -> Json {
    let window = json!({ "start_ms": now_ms, "end_ms": now_ms, "start": instant(now_ms), "end": instant(now_ms) });
    json!({
        "idempotency_key": key, "state": "test", "severity": "info", "job": job, "rule": "tidegauge alerts test",
        "metric": "", "model": "", "version": "", "segment": "all", "feature": "", "grain": "",
        "opened_window": window, "resolved_window": window,
        "value": null, "lower": null, "upper": null, "threshold": null, "n": null,
    })
}

pub(super) fn text<'a>(change: &'a Json, name: &str) -> &'a str {
    change[name].as_str().unwrap_or_default()
}

/// One sentence for people.
pub(super) fn sentence(change: &Json) -> String {
    let about = ["model", "version", "segment", "feature"].map(|name| text(change, name));
    let about: Vec<&str> = about.into_iter().filter(|part| !part.is_empty()).collect();
    let number = |name: &str| change[name].as_f64().map(precise);
    let mut rule = format!("[{}] {}", text(change, "state"), text(change, "rule"));
    if !about.is_empty() {
        rule = format!("{rule}: {}", about.join(" / "));
    }
    let said = [
        Some(rule),
        number("value").map(|value| format!("{} {value}", text(change, "metric"))),
        number("threshold").map(|threshold| format!("threshold {threshold}")),
        change["n"].as_u64().map(|n| format!("n {n}")),
        Some(format!("window {}", text(&change["opened_window"], "start"))),
    ];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// For Slack and what understands its webhooks.
pub(super) fn slack(change: &Json) -> Json {
    // Slack reads these as markup.
    let plain = sentence(change).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": plain })
}

/// For Alertmanager's `POST /api/v2/alerts`. Opened and later states have the same labels, so that the one ends the
/// other.
pub(super) fn alertmanager(change: &Json) -> Json {
    let mut labels = serde_json::Map::new();
    labels.insert("alertname".to_owned(), change["rule"].clone());
    for name in ["job", "severity", "metric", "model", "version", "segment", "feature", "grain"] {
        if !text(change, name).is_empty() {
            labels.insert(name.to_owned(), change[name].clone());
        }
    }
    let start = change["opened_window"]["end_ms"].as_i64().unwrap_or_default();
    let end = match text(change, "state") {
        "opened" => start.saturating_add(OPEN_FOR_MS),
        "resolved" => change["resolved_window"]["end_ms"].as_i64().unwrap_or(start),
        _ => start,
    };
    labels.insert("opened_window".to_owned(), change["opened_window"]["start"].clone());
    json!([{
        "labels": labels,
        "annotations": { "summary": sentence(change), "state": text(change, "state"),
            "idempotency_key": text(change, "idempotency_key") },
        "startsAt": instant(start),
        "endsAt": instant(end),
    }])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::alerts::{Alert, AlertKey, State};
    use crate::engine::state::Version;
    use crate::engine::time::{EventTime, Millis};

    /// The example of a change in the README.
    fn example() -> Json {
        let readme = include_str!("../../README.md");
        let (_, text) = readme.split_once("**What targets get.**").unwrap();
        let (_, text) = text.split_once("```json\n").unwrap();
        serde_json::from_str(text.split_once("```").unwrap().0).unwrap()
    }

    fn names(object: &Json) -> BTreeSet<&String> {
        object.as_object().unwrap().keys().collect()
    }

    #[test]
    fn the_readme_shows_a_change_as_it_is_sent() {
        let window = |start| Window::of(EventTime(start), Millis(300_000));
        let row = AlertRow {
            key: AlertKey {
                rule: "precision low".into(),
                model: "fraud-cards".into(),
                version: "v3".into(),
                segment: "all".into(),
                feature: "".into(),
                grain: "5m".into(),
            },
            alert: Alert {
                opened: window(1_767_572_100_000),
                state: State::Resolved,
                resolved: Some(window(1_767_573_600_000)),
                value: Some(0.88),
                lower: Some(0.848),
                upper: Some(0.906),
                threshold: Some(0.8),
                n: Some(412),
            },
            metric: "quality_binary.precision".into(),
            severity: "warning".into(),
            announced: 2,
            version: Version(1),
        };
        assert_eq!(example(), payload("fraud", &row));
        let open = Alert { resolved: None, ..row.alert.clone() };
        let open = payload("fraud", &AlertRow { alert: open, ..row });
        assert_eq!(open["resolved_window"], Json::Null);
    }

    /// With a fixed number of decimals these would be 0, threshold 0.
    #[test]
    fn small_figures_are_not_said_to_be_0() {
        let mut change = example();
        change["value"] = json!(3.2e-6);
        change["threshold"] = json!(-0.000_2);
        let said = sentence(&change);
        assert!(said.contains("precision 3.2000e-6, threshold -2.0000e-4, n 412"), "{said}");
        change["value"] = json!(0.799_96);
        change["threshold"] = json!(0.8);
        let said = sentence(&change);
        assert!(said.contains("precision 0.79996, threshold 0.80000, n 412"), "{said}");
    }

    #[test]
    fn a_test_has_the_fields_of_a_change() {
        let (change, test) = (example(), test_message("fraud", "k", 0));
        assert_eq!(names(&test), names(&change));
        for window in ["opened_window", "resolved_window"] {
            assert_eq!(names(&test[window]), names(&change[window]));
        }
    }
}
