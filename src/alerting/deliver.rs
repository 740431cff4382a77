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

pub(super) struct Deliverer {
    target: Target,
    clickhouse: ClickHouse,
    telemetry: Telemetry,
    own: Own,
    /// Until the next attempt after one in which the target failed.
    pause: Option<Duration>,
    /// Alerts of which it refused a change: when it is asked again, and the pause until then.
    refused: BTreeMap<String, (Instant, Duration)>,
}

impl Deliverer {
    pub(super) fn new(
        target: Target,
        clickhouse: ClickHouse,
        telemetry: Telemetry,
        own: Own,
    ) -> Self {
        Self { target, clickhouse, telemetry, own, pause: None, refused: BTreeMap::new() }
    }

    /// Sends until the evaluator is gone, then once more.
    pub(super) async fn run(mut self, mut woken: watch::Receiver<u64>) {
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
            self.pause = match self.round().await {
                Ok(true) => None,
                Ok(false) => Some(longer(self.pause)),
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "notifications are not read or marked");
                    Some(PAUSE_MIN)
                }
            };
            if is_last {
                break;
            }
        }
    }

    /// Sends what is pending, in order, until the target fails; whether it did not. A change that it refuses holds up
    /// its own alert alone.
    async fn round(&mut self) -> Result<bool, SinkError> {
        let begun = now();
        let name = self.target.name().to_owned();
        let own = own_keys(&self.own).get(&name).cloned().unwrap_or_default();
        let pending = self.clickhouse.pending_notifications(&name).await?;
        if let Some(keys) = own_keys(&self.own).get_mut(&name) {
            forget(keys, &own, &pending);
        }
        for notification in pending {
            let refused = self.refused.get(alert_of(&notification.key));
            let is_own = own.contains(&notification.key);
            if refused.is_some_and(|(again, _)| *again > begun)
                || (!is_own && notification.age_ms < OTHERS_MS)
            {
                continue;
            }
            if !self.tell(notification).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends one and remembers what came of it; whether those of other alerts may follow.
    async fn tell(&mut self, notification: Notification) -> Result<bool, SinkError> {
        let name = self.target.name();
        let change: Json = serde_json::from_str(&notification.payload).unwrap_or_default();
        let sent = self.target.send(&change).await;
        self.telemetry.notification(name, sent.is_ok());
        let is_given_up = notification.age_ms > GIVE_UP_MS;
        if let Err(reason) = &sent {
            tracing::warn!(target = name, %reason, is_given_up, "a notification was not taken");
        }
        let is_target_up = !matches!(sent, Err(NotTaken::Target(_)));
        let alert = alert_of(&notification.key);
        let (status, answer) = match sent {
            Ok(answer) => (Status::Delivered, answer),
            Err(reason) if is_given_up => (Status::GivenUp, reason.to_string()),
            Err(NotTaken::Target(_)) => return Ok(false),
            Err(NotTaken::Change(_)) => {
                let pause = longer(self.refused.get(alert).map(|(_, pause)| *pause));
                self.refused.insert(alert.to_owned(), (now() + pause, pause));
                return Ok(true);
            }
        };
        self.refused.remove(alert);
        let done = Notification { answer, status, ..notification };
        self.clickhouse.insert(&notification_rows(self.clickhouse.job(), &[done])).await?;
        Ok(is_target_up)
    }
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
}
