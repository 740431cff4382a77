//! One target's task: sends what is pending, again and again until it is taken.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::watch;

use super::target::Target;
use crate::sink::SinkError;
use crate::sink::alerts::{Notification, Status, notification_rows};
use crate::sink::clickhouse::ClickHouse;
use crate::telemetry::Telemetry;

/// Keys of the changes that this process noted: it tells of them at once.
pub(super) type Own = Arc<Mutex<BTreeSet<String>>>;

pub(super) fn own_keys(own: &Own) -> MutexGuard<'_, BTreeSet<String>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A change that another instance noted is left to it for so long.
const OTHERS_MS: i64 = 15_000;
/// A target that refuses a change for so long is not asked again.
const GIVE_UP_MS: i64 = 86_400_000;
/// How often it is looked for changes that others left.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

pub(super) struct Deliverer {
    target: Target,
    clickhouse: ClickHouse,
    telemetry: Telemetry,
    own: Own,
    /// Until the next attempt after a failed one.
    pause: Option<Duration>,
}

impl Deliverer {
    pub(super) fn new(
        target: Target,
        clickhouse: ClickHouse,
        telemetry: Telemetry,
        own: Own,
    ) -> Self {
        Self { target, clickhouse, telemetry, own, pause: None }
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
                Ok(false) => Some(self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX))),
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

    /// Sends what is pending, in order, up to the first that is not taken; whether all were.
    async fn round(&self) -> Result<bool, SinkError> {
        let name = self.target.name();
        let pending = self.clickhouse.pending_notifications().await?;
        for notification in pending.into_iter().filter(|pending| pending.target == name) {
            let is_own = own_keys(&self.own).contains(&notification.key);
            if !is_own && notification.age_ms < OTHERS_MS {
                continue;
            }
            if !self.tell(notification).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends one and remembers that it was taken; whether the next may follow.
    async fn tell(&self, notification: Notification) -> Result<bool, SinkError> {
        let name = self.target.name();
        let change: Json = serde_json::from_str(&notification.payload).unwrap_or_default();
        let (status, answer) = match self.target.send(&change).await {
            Ok(answer) => {
                self.telemetry.notification(name, true);
                (Status::Delivered, answer)
            }
            Err(reason) => {
                self.telemetry.notification(name, false);
                let is_given_up = notification.age_ms > GIVE_UP_MS;
                tracing::warn!(target = name, reason, is_given_up, "a notification was not taken");
                if !is_given_up {
                    return Ok(false);
                }
                (Status::GivenUp, reason)
            }
        };
        let done = Notification { answer, status, ..notification };
        self.clickhouse.insert(&notification_rows(self.clickhouse.job(), &[done])).await?;
        Ok(true)
    }
}

/// Waits until the sender is gone.
async fn closed(mut woken: watch::Receiver<u64>) {
    while woken.changed().await.is_ok() {}
}
