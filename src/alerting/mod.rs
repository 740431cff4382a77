//! Rules evaluated beside the stream, and people told: nothing here is waited for by a flush.
//!
//! After a flush the evaluator reads what it needs from ClickHouse, holds it against the stored alerts and writes the
//! difference; then it notes each change as a notification. Both are keyed by what they are about, so that a restart,
//! or another instance, finds or makes the same. Each target has a task of its own that sends what is pending.

mod message;
mod kafka;
mod email;
mod target;
mod deliver;
mod evaluate;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::alerts::Rule;
use crate::sink::SinkError;
use crate::sink::clickhouse::ClickHouse;
use crate::telemetry::Telemetry;

use deliver::{Deliverer, Own};
pub use email::Letter;
use evaluate::Evaluator;
pub use kafka::Topic;
pub use message::{NotTaken, test_message};
pub use target::{AlertingError, Medium, Target, TargetSettings};

/// Rules are evaluated after each flush, and this often without one: another instance may have written.
const EVALUATE_EVERY: Duration = Duration::from_secs(30);
/// After a failed evaluation; at an end it grows.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The rules and targets of one job.
pub struct Alerting {
    evaluator: Evaluator,
    clickhouse: ClickHouse,
    telemetry: Telemetry,
    targets: Vec<Target>,
    own: Own,
    patience: Duration,
}

/// What an end left undone.
#[derive(Debug, Default)]
pub struct Left {
    /// Why rules were not evaluated over all rows.
    pub failed: Vec<SinkError>,
    /// The targets that were not told of all changes, each with the reason.
    pub untold: Vec<String>,
}

impl Alerting {
    /// Connects to nothing yet. `partitions` are those of each topic.
    pub fn new(
        rules: Vec<Rule>,
        targets: &[TargetSettings],
        partitions: i32,
        clickhouse: ClickHouse,
        telemetry: Telemetry,
    ) -> Result<Self, AlertingError> {
        let targets = targets.iter().map(Target::new).collect::<Result<Vec<_>, _>>()?;
        let names = targets.iter().map(|target| target.name().to_owned()).collect();
        let evaluator = Evaluator::new(rules, names, partitions);
        let (own, patience) = (Own::default(), Duration::ZERO);
        Ok(Self { evaluator, clickhouse, telemetry, targets, own, patience })
    }

    /// At the end ClickHouse and targets that fail are asked again for so long: for jobs that no other start follows.
    #[must_use]
    pub fn insisting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Evaluates after each flush until the sender is dropped, then once more, and sends what is pending.
    pub async fn run(mut self, mut flushed: watch::Receiver<u64>) -> Left {
        let (wake, woken) = watch::channel(0_u64);
        let mut deliveries = JoinSet::new();
        for target in std::mem::take(&mut self.targets) {
            let (clickhouse, telemetry) = (self.clickhouse.clone(), self.telemetry.clone());
            let (own, patience) = (Arc::clone(&self.own), self.patience);
            let deliverer = Deliverer::new(target, clickhouse, telemetry, own, patience);
            deliveries.spawn(deliverer.run(woken.clone()));
        }
        let mut pause = Duration::ZERO;
        let failed = loop {
            let changed = tokio::time::timeout(pause, flushed.changed()).await;
            let is_last = matches!(changed, Ok(Err(_)));
            let failed = self.evaluate(&wake).await;
            if is_last {
                break self.insist(failed, &wake).await;
            }
            pause = if failed.is_empty() { EVALUATE_EVERY } else { PAUSE };
        };
        drop(wake);
        let mut untold = Vec::new();
        while let Some(told) = deliveries.join_next().await {
            let fault = |error: JoinError| Some(format!("a target's task failed: {error}"));
            untold.extend(told.unwrap_or_else(fault));
        }
        Left { failed, untold }
    }

    /// Evaluates all rules once and wakes the deliverers; why rules were not judged.
    async fn evaluate(&mut self, wake: &watch::Sender<u64>) -> Vec<SinkError> {
        let failed = match self.evaluator.pass(&self.clickhouse, &self.own).await {
            Ok(pass) => {
                self.telemetry.alerts_open(pass.open);
                pass.failed
            }
            Err(error) => vec![error],
        };
        for error in &failed {
            tracing::warn!(code = error.code(), %error, "rules are not evaluated; trying again");
        }
        // Also after a failure: other rules may have changes.
        wake.send_modify(|passes| *passes += 1);
        failed
    }

    /// Repeats a last evaluation that failed for as long as the patience lasts; why rules are not judged then.
    async fn insist(
        &mut self,
        mut failed: Vec<SinkError>,
        wake: &watch::Sender<u64>,
    ) -> Vec<SinkError> {
        let (begun, mut pause) = (Instant::now(), PAUSE);
        while !failed.is_empty() {
            let rest = self.patience.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                break;
            }
            tokio::time::sleep(pause.min(rest)).await;
            pause = (pause * 2).min(PAUSE_MAX);
            failed = self.evaluate(wake).await;
        }
        failed
    }
}

impl std::fmt::Debug for Alerting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerting").field("targets", &self.targets.len()).finish_non_exhaustive()
    }
}
