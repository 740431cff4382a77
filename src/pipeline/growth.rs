//! How memory grows towards its budget, told in time: also while no flush ends, which is when it grows fastest.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::{PipelineSettings, Shared};
use crate::telemetry::{Growing, Telemetry};

/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks until it is told: once a minute.
const LOOKS: usize = 12;
/// Growth in less time says nothing.
const LEAST_SPAN: Duration = Duration::from_secs(60);
/// The parts of a span.
const PARTS: u8 = 12;

/// Looks at the memory for as long as it is polled.
pub(super) async fn watch(settings: &PipelineSettings, shared: &Shared, telemetry: &Telemetry) {
    let window = Duration::from_millis(u64::try_from(settings.shard.window.0).unwrap_or_default());
    let budget = settings.state_budget_bytes;
    let mut growth = Growth::new(window, settings.flush_interval);
    // The runtime's clock, which a test can move on.
    let started = Instant::now();
    loop {
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            growth.look(started.elapsed(), telemetry.flushes(), shared.state_bytes());
        }
        let bytes = shared.state_bytes();
        let hours = growth.hours_left(started.elapsed(), bytes, budget);
        let growing = hours.zip(shared.memory.largest());
        let growing =
            growing.map(|(hours_left, largest)| Growing { hours_left, bytes, budget, largest });
        telemetry.growth(growing);
    }
}

/// What memory held before. Times are since the start.
#[derive(Debug)]
struct Growth {
    /// The length of a part. A span is a window or more: between two seals memory grows always, so that only the most
    /// that is held in a span can be compared with the most of the span before.
    part: Duration,
    /// The parts of two spans, the newest last: when each began, and the most that was held in it.
    peaks: VecDeque<(Duration, usize)>,
    /// When the next part begins.
    next: Duration,
    /// If no flush ends for so long, all growth counts: only a flush frees memory.
    patience: Duration,
    /// How many flushes had ended, when that was first seen, and what was held then.
    flushed: (u64, Duration, usize),
}

impl Growth {
    fn new(window: Duration, flush_interval: Duration) -> Self {
        Self {
            part: window.max(LEAST_SPAN) / u32::from(PARTS),
            peaks: VecDeque::new(),
            next: Duration::ZERO,
            patience: flush_interval.saturating_mul(2).max(LEAST_SPAN),
            flushed: (0, Duration::ZERO, 0),
        }
    }

    /// So many flushes have ended, and so much is held.
    fn look(&mut self, at: Duration, flushes: u64, bytes: usize) {
        let (ended, since, _) = self.flushed;
        if flushes != ended {
            if at.saturating_sub(since) >= self.patience {
                // What was held meanwhile is no measure for what comes.
                self.peaks.clear();
                self.next = at;
            }
            self.flushed = (flushes, at, bytes);
        }
        // More than one where nobody looked for long.
        while self.next <= at {
            self.peaks.push_back((self.next, bytes));
            self.next += self.part;
        }
        let too_many = self.peaks.len().saturating_sub(2 * usize::from(PARTS));
        self.peaks.drain(..too_many);
        if let Some((_, most)) = self.peaks.back_mut() {
            *most = bytes.max(*most);
        }
    }

    /// The hours until memory is full; none where it does not grow, or where nobody can say yet.
    fn hours_left(&self, at: Duration, bytes: usize, budget: usize) -> Option<f64> {
        let (sizes, took) = self.compared(at, bytes)?;
        hours_left(budget, sizes, took.as_secs_f64())
    }

    /// The size before and the size now, and the time between.
    fn compared(&self, at: Duration, bytes: usize) -> Option<((usize, usize), Duration)> {
        let (_, since, before) = self.flushed;
        let waited = at.saturating_sub(since);
        if waited >= self.patience {
            return Some(((before, bytes), waited));
        }
        let parts = usize::from(PARTS);
        if self.peaks.len() < 2 * parts {
            return None;
        }
        let (begin, _) = *self.peaks.get(parts)?;
        let most = |of: Range<usize>| self.peaks.range(of).map(|&(_, most)| most).max();
        Some(((most(0..parts)?, most(parts..2 * parts)?), at.saturating_sub(begin)))
    }
}

/// The hours until bytes that grew from one size to another in so many seconds take nine tenths of the budget. None
/// where they do not grow, and below half of the budget, where growth is how every start looks.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "an estimate")]
fn hours_left(budget: usize, (before, bytes): (usize, usize), seconds: f64) -> Option<f64> {
    let left = (budget / 10 * 9).saturating_sub(bytes) as f64;
    let grown = bytes.saturating_sub(before) as f64;
    (grown > 0.0 && bytes > budget / 2).then(|| left / grown * seconds / 3600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 1_000_000;
    /// Bytes an hour.
    const RATE: f64 = 36_000.0;

    /// What is told each minute of so many, by the bytes that are held and the flushes that have ended at a second.
    fn told(
        minutes: u64,
        window: u64,
        held: impl Fn(u64) -> u64,
        flushes: impl Fn(u64) -> u64,
    ) -> Vec<Option<f64>> {
        let seconds = Duration::from_secs;
        let held = |at| usize::try_from(held(at)).unwrap();
        let mut growth = Growth::new(seconds(window), seconds(5));
        let tell = |minute: u64| {
            for at in (minute * 60 - 55..=minute * 60).step_by(5) {
                growth.look(seconds(at), flushes(at), held(at));
            }
            growth.hours_left(seconds(minute * 60), held(minute * 60), BUDGET)
        };
        (1..=minutes).map(tell).collect()
    }

    /// Whether these are the hours until nine tenths are held, about.
    fn is_right(hours: Option<f64>, held: u32) -> bool {
        let expected = f64::from(900_000 - held) / RATE;
        hours.is_some_and(|hours| (hours / expected - 1.0).abs() < 0.03)
    }

    #[test]
    fn memory_that_each_seal_frees_again_does_not_grow() {
        for (window, period) in [(300, 300), (300, 290), (60, 10), (10, 10), (60, 7)] {
            let held = |at: u64| 600_000 + at % period * 900;
            let told = told(180, window, held, |at| at);
            assert!(told.iter().all(Option::is_none), "{window} {period}: {told:?}");
        }
    }

    #[test]
    fn steady_growth_gives_the_hours_once_two_windows_can_be_compared() {
        let told = told(120, 300, |at| 600_000 + at * 10, |at| at);
        assert!(told[..9].iter().all(Option::is_none), "{told:?}");
        for (minute, &hours) in (10..).zip(&told[9..]) {
            assert!(is_right(hours, 600_000 + minute * 600), "minute {minute}: {hours:?}");
        }
    }

    /// However long the windows are: nothing is freed before it ends.
    #[test]
    fn growth_counts_at_once_while_no_flush_ends_and_no_more_when_it_has() {
        for window in [300, 86_400] {
            let is_stuck = |at: u64| (600..=1200).contains(&at);
            let held = |at| if is_stuck(at) { 600_000 + (at - 600) * 10 } else { 600_000 };
            let told = told(120, window, held, |at| if is_stuck(at) { 600 } else { at });
            assert!(told[..10].iter().all(Option::is_none), "{told:?}");
            for (minute, &hours) in (1..).zip(&told[10..20]) {
                assert!(is_right(hours, 600_000 + minute * 600), "minute {minute}: {hours:?}");
            }
            assert!(told[20..].iter().all(Option::is_none), "{told:?}");
        }
    }

    #[test]
    fn the_hours_left_follow_from_growth_above_half_of_the_budget() {
        let of = |sizes, seconds| hours_left(1000, sizes, seconds);
        assert_eq!(of((600, 700), 3600.0), Some(2.0));
        assert_eq!(of((600, 700), 1800.0), Some(1.0));
        assert_eq!(of((600, 800), 3600.0), Some(0.5));
        assert_eq!(of((800, 950), 60.0), Some(0.0), "nine tenths are taken");
        assert_eq!(of((700, 700), 60.0), None, "nothing grows");
        assert_eq!(of((800, 700), 60.0), None, "it shrinks");
        assert_eq!(of((100, 500), 60.0), None, "a start");
        assert_eq!(of((101, 501), 3600.0), Some(399.0 / 400.0));
    }
}
