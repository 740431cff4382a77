//! Calls that are repeated until they succeed.

use std::time::Duration;

use crate::pipeline::PipelineError;
use crate::sink::{FailureClass, SinkError};
use crate::telemetry::{Cause, Telemetry};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// So many failures in a row make the program not ready, also when it needs no operator.
const FAILURES_UNTIL_NOT_READY: u32 = 4;

/// Repeats a call to the sink or the letters until it succeeds or fails for ever.
macro_rules! persist {
    ($self:ident, $call:expr) => {{
        let mut failures = $crate::pipeline::writer::attempts::Failures::default();
        loop {
            match $call.await {
                Ok(value) => {
                    failures.end(&$self.telemetry);
                    break value;
                }
                Err(error) => {
                    $self.failures += 1;
                    failures.pause(error, &$self.telemetry).await?;
                }
            }
        }
    }};
}

pub(super) use persist;

/// Failures in a row of one call.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    cause: Option<Cause>,
}

impl Failures {
    /// Waits before the next attempt, longer each time; an error when no attempt can help.
    pub(super) async fn pause(
        &mut self,
        error: SinkError,
        telemetry: &Telemetry,
    ) -> Result<(), PipelineError> {
        let cause = match error {
            SinkError::Letters(_) | SinkError::Rejected(_) => Cause::DeadLetters,
            SinkError::Unavailable(_)
            | SinkError::Refused(_)
            | SinkError::Schema(_)
            | SinkError::Unreadable(_) => Cause::ClickHouse,
        };
        let is_told = match error.class() {
            FailureClass::Retry => self.count + 1 >= FAILURES_UNTIL_NOT_READY,
            FailureClass::WaitForOperator => true,
            FailureClass::Final => return Err(error.into()),
        };
        if is_told {
            self.cause = Some(cause);
            telemetry.not_ready(cause, error.to_string());
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.count.min(16)).min(LONGEST_PAUSE);
        telemetry.retry(error.code(), &error, pause);
        self.count += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    pub(super) fn end(&self, telemetry: &Telemetry) {
        if let Some(cause) = self.cause {
            telemetry.ready(cause);
        }
    }
}
