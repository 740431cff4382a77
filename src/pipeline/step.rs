//! Where a flush is, for whoever wonders why it does not end: a wait that no failure ends leaves no other trace.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// After so long, and again after each further such time, it is told.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(30);

/// What a flush does at present; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Step(Arc<AtomicUsize>);

/// What a flush does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Freeze,
    States,
    Seals,
    Metrics,
    Letters,
    Marks,
    Clean,
}

impl At {
    const ALL: [Self; 7] = [
        Self::Freeze,
        Self::States,
        Self::Seals,
        Self::Metrics,
        Self::Letters,
        Self::Marks,
        Self::Clean,
    ];

    fn waits_for(self) -> &'static str {
        match self {
            Self::Freeze => "the workers' states",
            Self::States => {
                "Kafka to say that the topics are the same, then ClickHouse to take the states"
            }
            Self::Seals => "ClickHouse to take the seal marks",
            Self::Metrics => "ClickHouse to take the metric rows",
            Self::Letters => "Kafka to take the dead letters",
            Self::Marks => "ClickHouse to take the marks",
            Self::Clean => "the workers to note what was written",
        }
    }
}

impl Step {
    /// The flush comes to this.
    pub(super) fn set(&self, at: At) {
        let index = At::ALL.iter().position(|known| *known == at);
        self.0.store(index.unwrap_or_default(), Ordering::Relaxed);
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> &'static str {
        At::ALL[self.0.load(Ordering::Relaxed).min(At::ALL.len() - 1)].waits_for()
    }
}

/// Does the work, and tells each time that so long has passed without its end: how long it has been at it.
pub(super) async fn told<F: Future>(
    work: F,
    every: Duration,
    mut tell: impl FnMut(Duration),
) -> F::Output {
    let mut work = pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        if let Ok(done) = tokio::time::timeout(every, &mut work).await {
            return done;
        }
        waited += every;
        tell(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn long_work_is_told_and_done_all_the_same() {
        let (second, mut told_at) = (Duration::from_secs(1), Vec::new());
        let work = async {
            tokio::time::sleep(second * 100).await;
            7
        };
        assert_eq!(told(work, second * 30, |waited| told_at.push(waited.as_secs())).await, 7);
        assert_eq!(told_at, [30, 60, 90]);
        assert_eq!(told(async { 8 }, second, |_| panic!("it took no time")).await, 8);
    }

    #[test]
    fn each_step_says_what_it_waits_for() {
        let step = Step::default();
        for at in At::ALL {
            step.clone().set(at);
            assert_eq!(step.waits_for(), at.waits_for());
        }
    }
}
