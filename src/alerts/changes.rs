//! What the windows say, held against what has been written.

use std::collections::BTreeMap;
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

/// A change of an alert's state: its number, counted from 1, and the state. Number 0: nobody was told of the alert.
pub type Change = (u32, State);

/// The last change of each alert that targets may know of, however old the rows are that are stored: where these are
/// lost, or were put back to an earlier state, numbers go on and nothing is said twice.
#[derive(Clone, Debug, Default)]
pub struct Told {
    job: String,
    by_id: BTreeMap<String, Change>,
}

impl Told {
    /// Of no alert yet.
    pub const fn nothing() -> Self {
        Self { job: String::new(), by_id: BTreeMap::new() }
    }

    /// By the [ids](AlertRow::id) of alerts of a job.
    pub fn new(job: &str, by_id: BTreeMap<String, Change>) -> Self {
        Self { job: job.to_owned(), by_id }
    }

    /// What a row says of its alert, unless more is known.
    pub fn add(&mut self, row: &AlertRow) {
        let change = self.last(row, (row.announced, row.alert.state));
        self.by_id.insert(row.id(&self.job), change);
    }

    /// The last change of the alert that a row is about; `stored`, unless more is known.
    fn last(&self, row: &AlertRow, stored: Change) -> Change {
        if self.by_id.is_empty() {
            return stored;
        }
        let known = self.by_id.get(&row.id(&self.job)).copied();
        known.filter(|(number, _)| *number > stored.0).unwrap_or(stored)
    }
}

/// Which alerts are news.
#[derive(Clone, Copy, Debug)]
pub struct Recent<'a> {
    /// Stored alerts whose window ends at or before it are not looked at: they are final.
    pub after: EventTime,
    /// What is over is announced only if it ended after it, or if the last that was said is that it holds.
    pub news_after: EventTime,
    /// What was said before.
    pub told: &'a Told,
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
    recent: Recent<'_>,
) -> Vec<AlertRow> {
    let metric: Arc<str> = rule.about().into();
    let is_of_other = |row: &AlertRow| row.alert.state == State::Opened && row.metric != metric;
    let is_news = |alert: &Alert, said: Change| {
        alert.changed().end > recent.news_after || (said.1 == State::Opened && said.0 > 0)
    };
    let mut rows = Vec::new();
    for alert in found {
        let before = stored.iter().find(|row| row.alert.opened == alert.opened);
        if before.is_some_and(is_of_other) {
            continue;
        }
        let is_kept = |row: &&AlertRow| row.alert.state != State::Retracted && row.metric == metric;
        let severity = before.filter(is_kept).map_or(&rule.severity, |before| &before.severity);
        let mut new = AlertRow {
            key: key.clone(),
            alert: alert.clone(),
            metric: Arc::clone(&metric),
            severity: Arc::clone(severity),
            announced: before.map_or(0, |before| before.announced),
            version: before.map_or(version, |before| version.max(before.version)),
        };
        if before.is_some_and(|before| before.says_the_same(&new)) {
            continue;
        }
        // As if an alert that is not stored had been retracted.
        let state = before.map_or(State::Retracted, |before| before.alert.state);
        if state != alert.state {
            let said = recent.told.last(&new, (new.announced, state));
            let is_told =
                said.1 != alert.state && (alert.state == State::Opened || is_news(alert, said));
            new.announced = said.0 + u32::from(is_told);
        }
        rows.push(new);
    }
    for before in stored {
        let is_gone = before.alert.opened.end > recent.after
            && before.alert.state != State::Retracted
            && found.iter().all(|alert| alert.opened != before.alert.opened);
        if is_gone {
            let said = recent.told.last(before, (before.announced, before.alert.state));
            let row = retracted(before, said, is_news(&before.alert, said));
            rows.push(AlertRow { version: version.max(before.version), ..row });
        }
    }
    rows
}

/// The row that takes an alert back. Who was told of it is told, if that is news.
fn retracted(before: &AlertRow, said: Change, is_news: bool) -> AlertRow {
    let is_told = said.0 > 0 && said.1 != State::Retracted && is_news;
    let announced = said.0 + u32::from(is_told);
    AlertRow { alert: before.alert.retracted(), announced, ..before.clone() }
}

/// The rows to write so that no alert stays open that no rule can end any more: its own is gone, has another name,
/// another grain or another metric, or is about others now.
pub fn left_behind(
    stored: &[AlertRow],
    told: &Told,
    is_owned: impl Fn(&AlertRow) -> bool,
) -> Vec<AlertRow> {
    let is_left = |row: &&AlertRow| row.alert.state == State::Opened && !is_owned(row);
    // Of rows of one version the last one written counts, as when the rule comes back.
    let taken_back =
        |row: &AlertRow| retracted(row, told.last(row, (row.announced, row.alert.state)), true);
    stored.iter().filter(is_left).map(taken_back).collect()
}
