//! The clock at past offsets, so that a replay can start there and judge as the first run did.

use std::collections::VecDeque;

use super::log_time::LogClock;

/// At most this many are kept: past it every other one goes, and a replay starts a little earlier.
const MOST: usize = 1024;

/// Clocks of one topic partition before some of the offsets read, ascending.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    points: VecDeque<(i64, LogClock)>,
    /// Records between two of them.
    interval: u32,
    since: u32,
}

impl Checkpoints {
    /// Reading begins at `offset` with this clock.
    pub fn new(offset: i64, clock: &LogClock) -> Self {
        Self { points: VecDeque::from([(offset, clock.clone())]), interval: 1, since: 0 }
    }

    /// The record at `offset` is about to move the clock.
    pub fn before(&mut self, offset: i64, clock: &LogClock) {
        self.since += 1;
        if self.since < self.interval {
            return;
        }
        self.since = 0;
        self.points.push_back((offset, clock.clone()));
        if self.points.len() > MOST {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.interval *= 2;
        }
    }

    /// The newest point at or before `needed`. Older ones are forgotten: what is needed never moves back.
    pub fn floor(&mut self, needed: i64) -> &(i64, LogClock) {
        while self.points.get(1).is_some_and(|(offset, _)| *offset <= needed) {
            self.points.pop_front();
        }
        if self.points.len() < MOST / 8 && self.interval > 1 {
            self.interval /= 2;
        }
        &self.points[0]
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let each = size_of::<(i64, LogClock)>() + self.points[0].1.k() * size_of::<i64>();
        self.points.capacity() * each
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::RecordTime;
    use super::*;

    #[test]
    fn a_floor_is_at_or_before_what_is_needed_and_has_the_clock_of_its_offset() {
        let mut clock = LogClock::new(3);
        let mut checkpoints = Checkpoints::new(0, &clock);
        for offset in 0..10_000 {
            checkpoints.before(offset, &clock);
            clock.read(RecordTime(offset * 10));
            assert!(checkpoints.points.len() <= MOST);
        }
        for needed in [0, 17, 5000, 9_999] {
            let (offset, clock) = checkpoints.floor(needed).clone();
            assert!(offset <= needed && needed - offset < 64, "{offset} for {needed}");
            let stamps: Vec<i64> = (0.max(offset - 3)..offset).map(|o| o * 10).collect();
            assert_eq!(clock.stamps(), stamps);
        }
    }
}
