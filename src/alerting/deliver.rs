//! One target's task: sends what is pending, again and again until it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::sync::watch;

use super::message::{NotTaken, alert_of};
use super::target::Target;
use crate::sink::SinkError;
use crate::sink::alerts::{Notification, Status, notification_rows};
use crate::sink::clickhouse::ClickHouse;
use crate::telemetry::Telemetry;

/// Keys of the changes that this process noted and that are still to be told, by target: it tells of them at once.
pub(super) type Own = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

pub(super) fn own_keys(own: &Own) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes out of a target's keys those that are no longer pending, whoever told them. What was noted while it was read
/// what is pending stays: `before` are the keys of the time before.
fn forget(keys: &mut BTreeSet<String>, before: &BTreeSet<String>, pending: &[Notification]) {
    let pending: BTreeSet<&str> = pending.iter().map(|pending| &*pending.key).collect();
    keys.retain(|key| !before.contains(key) || pending.contains(&**key));
}

/// A change that another instance noted is left to it for so long.
const OTHERS_MS: i64 = 15_000;
/// A target that refuses a change for so long is not asked again.
const GIVE_UP_MS: i64 = 86_400_000;
/// How often it is looked for changes that others left.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

fn longer(pause: Option<Duration>) -> Duration {
    pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX))
}

/// What a round came to.
#[derive(Default)]
struct Round {
    /// Changes that were taken.
    delivered: usize,
    /// Changes that are still pending.
    left: usize,
    /// What was said last of one that was not taken.
    refusal: Option<String>,
    /// Whether the target failed, so that no more were tried.
    is_down: bool,
}

/// What came of one change.
struct Told {
    status: Status,
    refusal: Option<NotTaken>,
}

/// Changes that were given up: nobody tells them any more.
#[derive(Default)]
struct GivenUp {
    count: usize,
    /// What was said of the last one.
    refusal: String,
}

pub(super) struct Deliverer {
    target: Target,
    clickhouse: ClickHouse,
    telemetry: Telemetry,
    own: Own,
    /// How long an end goes on while nothing is taken.
    patience: Duration,
    /// Until the next attempt after one in which the target failed.
    pause: Option<Duration>,
    /// Alerts of which it refused a change: when it is asked again, and the pause until then.
    refused: BTreeMap<String, (Instant, Duration)>,
    given_up: GivenUp,
}

impl Deliverer {
    pub(super) fn new(
        target: Target,
        clickhouse: ClickHouse,
        telemetry: Telemetry,
        own: Own,
        patience: Duration,
    ) -> Self {
        let (pause, refused, given_up) = (None, BTreeMap::new(), GivenUp::default());
        Self { target, clickhouse, telemetry, own, patience, pause, refused, given_up }
    }

    /// Sends until the evaluator is gone, then what is left; who was not told of what.
    pub(super) async fn run(mut self, mut woken: watch::Receiver<u64>) -> Option<String> {
        loop {
            let is_last = match self.pause {
                // A target that fails is not asked sooner because there is more to tell.
                Some(pause) => tokio::select! {
                    () = tokio::time::sleep(pause) => false,
                    () = closed(woken.clone()) => true,
                },
                None => {
                    matches!(tokio::time::timeout(LOOK_EVERY, woken.changed()).await, Ok(Err(_)))
                }
            };
            if is_last {
                return self.end().await;
            }
            self.pause = match self.round(false).await {
                Ok(round) => round.is_down.then(|| longer(self.pause)),
                Err(error) => {
                    warn(&error);
                    Some(PAUSE_MIN)
                }
            };
        }
    }

    /// Sends what is left until nothing is, or until nothing was taken for as long as the patience lasts: without any,
    /// once. Who was not told of what.
    async fn end(&mut self) -> Option<String> {
        let is_patient = !self.patience.is_zero();
        let (mut pause, mut give_up) = (None, now() + self.patience);
        loop {
            let left = match self.round(is_patient).await {
                Ok(Round { left: 0, .. }) => {
                    return untold(self.target.name(), None, &self.given_up);
                }
                Ok(round) => {
                    if round.delivered > 0 {
                        (pause, give_up) = (None, now() + self.patience);
                    }
                    let said = round.refusal.as_deref().unwrap_or("another instance has them");
                    format!("changes not taken: {}, {said}", round.left)
                }
                Err(error) => {
                    warn(&error);
                    error.to_string()
                }
            };
            let rest = give_up.saturating_duration_since(now());
            if rest.is_zero() {
                return untold(self.target.name(), Some(left), &self.given_up);
            }
            let next = longer(pause).min(rest);
            tokio::time::sleep(next).await;
            pause = Some(next);
        }
    }

    /// Sends what is pending, in order, until the target fails. A change that is not told holds up the later ones of its
    /// alert, which would overtake it, and no others. What was refused is tried after its pause, or `at_once`.
    async fn round(&mut self, at_once: bool) -> Result<Round, SinkError> {
        let begun = now();
        let name = self.target.name().to_owned();
        let own = own_keys(&self.own).get(&name).cloned().unwrap_or_default();
        let pending = self.clickhouse.pending_notifications(&name).await?;
        if let Some(keys) = own_keys(&self.own).get_mut(&name) {
            forget(keys, &own, &pending);
        }
        let mut round = Round { left: pending.len(), ..Round::default() };
        let mut held = BTreeSet::new();
        for notification in pending {
            let alert = alert_of(&notification.key).to_owned();
            let refused = self.refused.get(&alert);
            let rests = !at_once && refused.is_some_and(|(again, _)| *again > begun);
            let is_others = !own.contains(&notification.key) && notification.age_ms < OTHERS_MS;
            if rests || is_others || held.contains(&alert) {
                held.insert(alert);
                continue;
            }
            let told = self.tell(notification).await?;
            match told.status {
                Status::Delivered => round.delivered += 1,
                Status::GivenUp => self.given_up.count += 1,
                Status::Pending => {
                    held.insert(alert);
                }
            }
            round.left -= usize::from(told.status != Status::Pending);
            if let Some(refusal) = told.refusal {
                let said = refusal.to_string();
                if told.status == Status::GivenUp {
                    self.given_up.refusal.clone_from(&said);
                }
                round.refusal = Some(said);
                round.is_down = matches!(refusal, NotTaken::Target(_));
            }
            if round.is_down {
                break;
            }
        }
        Ok(round)
    }

    /// Sends one and remembers what came of it.
    async fn tell(&mut self, notification: Notification) -> Result<Told, SinkError> {
        let name = self.target.name();
        let change: Json = serde_json::from_str(&notification.payload).unwrap_or_default();
        let sent = self.target.send(&change).await;
        self.telemetry.notification(name, sent.is_ok());
        let is_given_up = notification.age_ms > GIVE_UP_MS;
        if let Err(reason) = &sent {
            tracing::warn!(target = name, %reason, is_given_up, "a notification was not taken");
        }
        let alert = alert_of(&notification.key);
        let (status, answer, refusal) = match sent {
            Ok(answer) => (Status::Delivered, answer, None),
            Err(refusal) if is_given_up => (Status::GivenUp, refusal.to_string(), Some(refusal)),
            Err(refusal) => {
                if matches!(refusal, NotTaken::Change(_)) {
                    let pause = longer(self.refused.get(alert).map(|(_, pause)| *pause));
                    self.refused.insert(alert.to_owned(), (now() + pause, pause));
                }
                return Ok(Told { status: Status::Pending, refusal: Some(refusal) });
            }
        };
        self.refused.remove(alert);
        let done = Notification { answer, status, ..notification };
        self.clickhouse.insert(&notification_rows(self.clickhouse.job(), &[done])).await?;
        Ok(Told { status, refusal })
    }
}

/// Who was not told of what: of what is `left`, and of what was given up.
fn untold(target: &str, left: Option<String>, given_up: &GivenUp) -> Option<String> {
    let GivenUp { count, refusal } = given_up;
    let given_up =
        (*count > 0).then(|| format!("changes given up after a day: {count}, {refusal}"));
    let parts: Vec<String> = left.into_iter().chain(given_up).collect();
    (!parts.is_empty()).then(|| format!("{target} ({})", parts.join("; ")))
}

fn warn(error: &SinkError) {
    tracing::warn!(code = error.code(), %error, "notifications are not read or marked");
}

#[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until the sender is gone.
async fn closed(mut woken: watch::Receiver<u64>) {
    while woken.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_forgotten_and_what_was_noted_meanwhile_is_not() {
        let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<BTreeSet<_>>();
        let pending = ["waits", "of another instance"].map(|key| Notification {
            key: key.to_owned(),
            target: "hook".to_owned(),
            payload: String::new(),
            answer: String::new(),
            status: Status::Pending,
            age_ms: 0,
        });
        let before = keys(&["told", "waits"]);
        let mut own = keys(&["told", "waits", "noted meanwhile"]);
        forget(&mut own, &before, &pending);
        assert_eq!(own, keys(&["noted meanwhile", "waits"]));
    }

    #[test]
    fn what_was_given_up_is_no_success() {
        let (none, two) =
            (GivenUp::default(), GivenUp { count: 2, refusal: "410 Gone".to_owned() });
        assert_eq!(untold("hook", None, &none), None);
        let left = || Some("changes not taken: 1, 503".to_owned());
        let said = untold("hook", left(), &none).unwrap();
        assert_eq!(said, "hook (changes not taken: 1, 503)");
        let said = untold("hook", None, &two).unwrap();
        assert_eq!(said, "hook (changes given up after a day: 2, 410 Gone)");
        let said = untold("hook", left(), &two).unwrap();
        assert!(said.contains("1, 503; changes given up after a day: 2, 410 Gone)"), "{said}");
    }
}
