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
use tokio::task::JoinSet;

use crate::alerts::Rule;
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
/// After a failed evaluation.
const PAUSE: Duration = Duration::from_secs(2);

/// The rules and targets of one job.
pub struct Alerting {
    evaluator: Evaluator,
    clickhouse: ClickHouse,
    telemetry: Telemetry,
    targets: Vec<Target>,
    own: Own,
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
        Ok(Self { evaluator, clickhouse, telemetry, targets, own: Own::default() })
    }

    /// Evaluates after each flush until the sender is dropped, then once more, and sends what is pending.
    pub async fn run(mut self, mut flushed: watch::Receiver<u64>) {
        let (wake, woken) = watch::channel(0_u64);
        let mut deliveries = JoinSet::new();
        for target in std::mem::take(&mut self.targets) {
            let (clickhouse, telemetry) = (self.clickhouse.clone(), self.telemetry.clone());
            let deliverer = Deliverer::new(target, clickhouse, telemetry, Arc::clone(&self.own));
            deliveries.spawn(deliverer.run(woken.clone()));
        }
        let mut pause = Duration::ZERO;
        loop {
            let changed = tokio::time::timeout(pause, flushed.changed()).await;
            let is_last = matches!(changed, Ok(Err(_)));
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
            pause = if failed.is_empty() { EVALUATE_EVERY } else { PAUSE };
            // Also after a failure: other rules may have changes.
            wake.send_modify(|passes| *passes += 1);
            if is_last {
                break;
            }
        }
        drop(wake);
        while deliveries.join_next().await.is_some() {}
    }
}

impl std::fmt::Debug for Alerting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerting").field("targets", &self.targets.len()).finish_non_exhaustive()
    }
}
