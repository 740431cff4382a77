//! What the windows say, held against what has been written.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::engine::state::Version;
use crate::engine::time::EventTime;

use super::machine::{Alert, State};
use super::rule::{AlertKey, Rule};

/// One row of table `alerts`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    /// What it is about.
    pub key: AlertKey,
    /// The alert.
    pub alert: Alert,
    /// The column that the rule was about when it opened, as `quality_binary.precision`.
    pub metric: Arc<str>,
    /// The severity that the rule had then.
    pub severity: Arc<str>,
    /// Changes of state that were announced so far.
    pub announced: u32,
    /// Of several rows of one alert the greatest is the truth.
    pub version: Version,
}

impl AlertRow {
    /// Names the alert among all of a job, whatever its state.
    pub fn id(&self, job: &str) -> String {
        let AlertKey { rule, model, version, segment, feature, grain } = &self.key;
        let opened = self.alert.opened.start.0;
        let text = format!("{:?}", (job, rule, model, version, segment, feature, grain, opened));
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.alert == other.alert && self.severity == other.severity && self.metric == other.metric
    }
}

/// Which alerts are news.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    /// Stored alerts whose window ends at or before it are not looked at: they are final.
    pub after: EventTime,
    /// What is over is announced only if it ended after it, or if the last that was said is that it holds.
    pub news_after: EventTime,
}

/// The rows to write so that `stored` becomes what was found. Each change of state is counted in
/// [`AlertRow::announced`]; a row that only has another figure is not.
///
/// An alert keeps the severity and the metric that it was opened with: targets may know it by them. Where the rule has
/// another metric now, one that is open and found again is left alone until [`left_behind`] takes it back: an instance
/// that has the rule as it was may have written it. Then it is opened anew. A row is never older than the one it
/// replaces, also where rows of windows are gone: of rows of one version the last one written counts.
pub fn changes(
    rule: &Rule,
    key: &AlertKey,
    (found, version): (&[Alert], Version),
    stored: &[AlertRow],
    recent: Recent,
) -> Vec<AlertRow> {
    let metric: Arc<str> = rule.about().into();
    let is_of_other = |row: &AlertRow| row.alert.state == State::Opened && row.metric != metric;
    let is_news = |alert: &Alert, before: Option<&AlertRow>| {
        alert.changed().end > recent.news_after
            || before.is_some_and(|row| row.alert.state == State::Opened && row.announced > 0)
    };
    let mut rows = Vec::new();
    for alert in found {
        let before = stored.iter().find(|row| row.alert.opened == alert.opened);
        if before.is_some_and(is_of_other) {
            continue;
        }
        let is_kept = |row: &&AlertRow| row.alert.state != State::Retracted && row.metric == metric;
        let severity = before.filter(is_kept).map_or(&rule.severity, |before| &before.severity);
        let is_change = before.is_none_or(|before| before.alert.state != alert.state);
        let announced = before.map_or(0, |before| before.announced);
        let is_told = is_change && (alert.state == State::Opened || is_news(alert, before));
        let new = AlertRow {
            key: key.clone(),
            alert: alert.clone(),
            metric: Arc::clone(&metric),
            severity: Arc::clone(severity),
            announced: announced + u32::from(is_told),
            version: before.map_or(version, |before| version.max(before.version)),
        };
        if before.is_none_or(|before| !before.says_the_same(&new)) {
            rows.push(new);
        }
    }
    for before in stored {
        let is_gone = before.alert.opened.end > recent.after
            && before.alert.state != State::Retracted
            && found.iter().all(|alert| alert.opened != before.alert.opened);
        if is_gone {
            let is_told = before.announced > 0 && is_news(&before.alert, Some(before));
            rows.push(AlertRow {
                alert: before.alert.retracted(),
                announced: before.announced + u32::from(is_told),
                version: version.max(before.version),
                ..before.clone()
            });
        }
    }
    rows
}

/// The rows to write so that no alert stays open that no rule can end any more: its own is gone, has another name,
/// another grain or another metric, or is about others now.
pub fn left_behind(stored: &[AlertRow], is_owned: impl Fn(&AlertRow) -> bool) -> Vec<AlertRow> {
    let is_left = |row: &&AlertRow| row.alert.state == State::Opened && !is_owned(row);
    let retracted = |row: &AlertRow| AlertRow {
        alert: row.alert.retracted(),
        announced: row.announced + u32::from(row.announced > 0),
        // Of rows of one version the last one written counts, as when the rule comes back.
        ..row.clone()
    };
    stored.iter().filter(is_left).map(retracted).collect()
}
