//! One pass over the rules: what the rows say now, held against what has been written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::deliver::{Own, own_keys};
use super::message::{idempotency_key, payload};
use crate::alerts::{AlertKey, AlertRow, Machine, Recent, Rule, State, Told, changes, left_behind};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::failpoint::{self, Point};
use crate::sink::SinkError;
use crate::sink::alerts::{Notification, SeenRow, Status, alert_rows, notification_rows};
use crate::sink::clickhouse::ClickHouse;

/// Windows of one key that are read at once, at first and at most: four hours and a week of five minutes.
const WINDOWS_AT_ONCE: [i64; 2] = [48, 2016];
/// Where fewer rows come at once the next page is twice as long, and half as long where more than twice as many do.
const ROWS_AT_ONCE: usize = 50_000;
/// An alert that is first seen when it has been over for longer than this is written, and nobody is told.
const NEWS_MS: i64 = 86_400_000;

/// Alerts that no rule is about, or only with another metric, are looked for at the start and this often. More often, an
/// instance that still has other rules, as while a new configuration is rolled out, would take back again and again what
/// the others say.
const LEFT_EVERY: Duration = Duration::from_secs(3600);

/// How far a rule has got: windows that end by `until` are sealed and judged.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    until: Option<EventTime>,
    machines: BTreeMap<AlertKey, Machine>,
}

/// What one pass found for one rule.
struct Found {
    checkpoint: Checkpoint,
    /// Of keys whose rows were all of one flush.
    machines: BTreeMap<AlertKey, Machine>,
    newest: EventTime,
}

/// What a pass over all rules came to.
pub(super) struct Pass {
    /// How many alerts are open.
    pub(super) open: usize,
    /// Why rules were not judged, each with its rule's name.
    pub(super) failed: Vec<SinkError>,
}

/// All rules, each with its checkpoint. The checkpoints spare reading; a process without them finds the same.
#[derive(Debug)]
pub(super) struct Evaluator {
    rules: Vec<(Rule, Checkpoint)>,
    targets: Vec<String>,
    partitions: i32,
    looked_for_left: Option<Instant>,
    /// What the last pass left behind.
    known: Vec<AlertRow>,
    /// What was told before the first pass, and before rows were found to be older than they were.
    told: Option<Told>,
}

impl Evaluator {
    pub(super) fn new(rules: Vec<Rule>, targets: Vec<String>, partitions: i32) -> Self {
        let rules = rules.into_iter().map(|rule| (rule, Checkpoint::default())).collect();
        let (looked_for_left, known, told) = (None, Vec::new(), None);
        Self { rules, targets, partitions, looked_for_left, known, told }
    }

    /// Writes what has changed. Keys of changes that it notes are added to `own`.
    pub(super) async fn pass(
        &mut self,
        clickhouse: &ClickHouse,
        own: &Own,
    ) -> Result<Pass, SinkError> {
        let sealed = clickhouse.sealed_until(self.partitions).await?;
        let mut stored = clickhouse.alerts().await?;
        if self.told.is_none() || self.is_older(clickhouse.job(), &stored) {
            self.begin(clickhouse).await?;
        }
        // What an earlier pass wrote and did not come to note.
        self.note(clickhouse, &stored, own).await?;
        if self.looked_for_left.is_none_or(|at| at.elapsed() >= LEFT_EVERY) {
            let left = left_behind(&stored, self.told(), |row| {
                let is_of = |rule: &Rule| rule.owns(&row.key) && rule.about() == *row.metric;
                self.rules.iter().any(|(rule, _)| is_of(rule))
            });
            self.write(clickhouse, left, &mut stored, own).await?;
            self.looked_for_left = Some(Instant::now());
        }
        let mut judged = Vec::new();
        for (rule, checkpoint) in &self.rules {
            judged.push(self.judge(clickhouse, (rule, checkpoint), sealed, &mut stored, own).await);
        }
        // One rule that fails, as on too many rows, does not hold up the others.
        let mut failed = Vec::new();
        for ((rule, checkpoint), next) in self.rules.iter_mut().zip(judged) {
            match next {
                Ok(next) => *checkpoint = next,
                Err(error) => failed.push(error.about(&format!("rule {}", rule.name))),
            }
        }
        let is_open = |row: &&AlertRow| row.alert.state == State::Opened;
        let open = stored.iter().filter(is_open).count();
        self.known = stored;
        Ok(Pass { open, failed })
    }

    /// Whether ClickHouse was put back to an older state: alerts are gone or are as they were, also those that were final.
    fn is_older(&self, job: &str, stored: &[AlertRow]) -> bool {
        let is: BTreeMap<_, _> = stored.iter().map(|row| (row.id(job), row.version)).collect();
        // None is less than any.
        self.known.iter().any(|known| is.get(&known.id(job)) < Some(&known.version))
    }

    /// All windows are to be judged, at the start or again; asks what targets have been told of until now.
    async fn begin(&mut self, clickhouse: &ClickHouse) -> Result<(), SinkError> {
        let mut told = Told::new(clickhouse.job(), clickhouse.last_changes().await?);
        self.known.iter().for_each(|row| told.add(row));
        if !self.known.is_empty() {
            tracing::warn!("alerts are older than they were: all windows are judged again");
            self.rules.iter_mut().for_each(|(_, checkpoint)| *checkpoint = Checkpoint::default());
        }
        self.told = Some(told);
        Ok(())
    }

    fn told(&self) -> &Told {
        self.told.as_ref().expect("a pass begins with it")
    }

    /// Writes what has changed for one rule; how far it has got.
    async fn judge(
        &self,
        clickhouse: &ClickHouse,
        (rule, checkpoint): (&Rule, &Checkpoint),
        sealed: Option<EventTime>,
        stored: &mut Vec<AlertRow>,
        own: &Own,
    ) -> Result<Checkpoint, SinkError> {
        let found = find(clickhouse, rule, checkpoint, sealed).await?;
        let Some(found) = found else { return Ok(checkpoint.clone()) };
        self.write(clickhouse, differences(rule, &found, stored, self.told()), stored, own).await?;
        Ok(found.checkpoint)
    }

    /// Writes rows and notes them; they take the place of those stored.
    async fn write(
        &self,
        clickhouse: &ClickHouse,
        mut rows: Vec<AlertRow>,
        stored: &mut Vec<AlertRow>,
        own: &Own,
    ) -> Result<(), SinkError> {
        if rows.is_empty() {
            return Ok(());
        }
        let job = clickhouse.job();
        clickhouse.insert(&alert_rows(job, &rows)).await?;
        failpoint::hit(Point::AlertsWritten);
        self.note(clickhouse, &rows, own).await?;
        let ids: BTreeSet<String> = rows.iter().map(|row| row.id(job)).collect();
        stored.retain(|row| !ids.contains(&row.id(job)));
        stored.append(&mut rows);
        Ok(())
    }

    /// Writes a notification of each announced change that has none: one row for the change itself, so that it is not
    /// noted again for targets that come later, and one for each target.
    async fn note(
        &self,
        clickhouse: &ClickHouse,
        rows: &[AlertRow],
        own: &Own,
    ) -> Result<(), SinkError> {
        let job = clickhouse.job();
        let announced: Vec<_> = rows.iter().filter(|row| row.announced > 0).collect();
        if announced.is_empty() {
            return Ok(());
        }
        let noted: BTreeSet<String> = clickhouse.noted_changes().await?.into_iter().collect();
        let mut notifications = Vec::new();
        for row in announced {
            let key = idempotency_key(job, row);
            if noted.contains(&key) {
                continue;
            }
            let payload = payload(job, row).to_string();
            let targets = std::iter::once("").chain(self.targets.iter().map(String::as_str));
            notifications.extend(targets.map(|target| Notification {
                key: key.clone(),
                target: target.to_owned(),
                payload: payload.clone(),
                answer: String::new(),
                status: Status::Pending,
                age_ms: 0,
            }));
            tracing::info!(
                rule = &*row.key.rule,
                model = &*row.key.model,
                segment = &*row.key.segment,
                feature = &*row.key.feature,
                state = row.alert.state.name(),
                value = row.alert.value,
                opened_window_ms = row.alert.opened.start.0,
                "alert"
            );
        }
        // In one block, so that either all of a change's are there or none.
        clickhouse.insert(&notification_rows(job, &notifications)).await?;
        if !notifications.is_empty() {
            failpoint::hit(Point::NotificationsWritten);
        }
        let mut own = own_keys(own);
        for Notification { target, key, .. } in notifications {
            if !target.is_empty() {
                own.entry(target).or_default().insert(key);
            }
        }
        Ok(())
    }
}

/// Judges the windows since the checkpoint; none where the metric has no rows.
async fn find(
    clickhouse: &ClickHouse,
    rule: &Rule,
    checkpoint: &Checkpoint,
    sealed: Option<EventTime>,
) -> Result<Option<Found>, SinkError> {
    let size = rule.size.0;
    // A coarse window can be half before the checkpoint.
    let since = checkpoint.until.map(|until| EventTime(until.0.div_euclid(size) * size));
    let Some(span) = clickhouse.rule_span(rule, since).await? else { return Ok(None) };
    let mut from = span.start.0.div_euclid(size) * size;
    // Before anything is sealed there is no time that it could be rounded to.
    let sealed = sealed.filter(|sealed| sealed.0 > i64::MIN);
    let until = sealed.map(|sealed| EventTime(sealed.0.div_euclid(size) * size));
    let mut next = checkpoint.clone();
    let mut live = Vec::new();
    let [mut windows, most] = WINDOWS_AT_ONCE;
    while from < span.end.0 {
        let page_end = from.saturating_add(size.saturating_mul(windows)).min(span.end.0);
        let page = Window { start: EventTime(from), end: EventTime(page_end) };
        let rows = clickhouse.rule_windows(rule, page).await?;
        from = if rows.is_empty() && page_end < span.end.0 {
            // One record with a wrong time of 1970 must not make a query of every week since.
            let first = clickhouse.rule_next(rule, page.end).await?;
            first.map_or(span.end.0, |first| first.0.max(page_end))
        } else {
            page_end
        };
        if rows.len() < ROWS_AT_ONCE {
            windows = (windows * 2).min(most);
        } else if rows.len() > 2 * ROWS_AT_ONCE {
            windows = (windows / 2).max(1);
        }
        for row in rows {
            let is_final = until.is_some_and(|until| row.seen.window.end <= until);
            if is_final {
                judge(rule, &mut next.machines, &row);
            } else {
                live.push(row);
            }
        }
    }
    if let Some(until) = until {
        let silent_until = EventTime(until.0.min(span.end.0));
        next.machines.values_mut().for_each(|machine| fill(rule, machine, silent_until));
        next.until = next.until.max(Some(until));
    }
    let mut machines = next.machines.clone();
    let in_flux: BTreeSet<_> = live.iter().filter(|row| row.in_flux).map(|row| &row.key).collect();
    for row in &live {
        judge_live(rule, &mut machines, row);
    }
    machines.retain(|key, _| !in_flux.contains(key));
    // What is not written now must still be known in the next pass.
    for (key, machine) in &mut next.machines {
        if !in_flux.contains(key) {
            machine.settle();
        }
    }
    Ok(Some(Found { checkpoint: next, machines, newest: span.end }))
}

fn judge(rule: &Rule, machines: &mut BTreeMap<AlertKey, Machine>, row: &SeenRow) {
    let machine = machine_of(rule, machines, row);
    fill(rule, machine, row.seen.window.start);
    machine.step(rule, &row.seen);
}

/// The same beyond the seals: what is not there may still come.
fn judge_live(rule: &Rule, machines: &mut BTreeMap<AlertKey, Machine>, row: &SeenRow) {
    machine_of(rule, machines, row).step(rule, &row.seen);
}

fn machine_of<'a>(
    rule: &Rule,
    machines: &'a mut BTreeMap<AlertKey, Machine>,
    row: &SeenRow,
) -> &'a mut Machine {
    machines.entry(row.key.clone()).or_insert_with_key(|key| Machine::new(rule, key))
}

/// Judges the sealed windows without a row up to `end`, where silence counts.
fn fill(rule: &Rule, machine: &mut Machine, end: EventTime) {
    if rule.metric.counts_silence() {
        machine.pass_silence(rule, end);
    }
}

fn differences(rule: &Rule, found: &Found, stored: &[AlertRow], told: &Told) -> Vec<AlertRow> {
    let mut by_key: BTreeMap<&AlertKey, Vec<AlertRow>> = BTreeMap::new();
    // Someone may have dropped old rows: what had ended in them stays as it is written.
    let is_of_dropped = |row: &AlertRow| {
        let first = found.machines.get(&row.key).and_then(Machine::first);
        row.alert.state != State::Opened
            && first.is_some_and(|first| row.alert.opened.start < first.start)
    };
    let of_rule = stored.iter().filter(|row| row.key.rule == rule.name);
    for row in of_rule.filter(|row| !is_of_dropped(row)) {
        by_key.entry(&row.key).or_default().push(row.clone());
    }
    let news_after = EventTime(found.newest.0.saturating_sub(NEWS_MS));
    let of_key = |(key, machine): (&AlertKey, &Machine)| {
        let stored = by_key.get(key).map_or(&[][..], Vec::as_slice);
        let recent = Recent { after: machine.settled(), news_after, told };
        changes(rule, key, (machine.alerts(), machine.version()), stored, recent)
    };
    found.machines.iter().flat_map(of_key).collect()
}
