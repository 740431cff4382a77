//! Tumbling windows: epoch-aligned, UTC, `[start, end)`.

use super::time::{EventTime, Millis};

/// One tumbling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First millisecond inside.
    pub start: EventTime,
    /// First millisecond after it.
    pub end: EventTime,
}

impl Window {
    /// The window of length `size` (greater than 0) that holds `time`.
    pub fn of(time: EventTime, size: Millis) -> Self {
        let start = time.0.div_euclid(size.0).saturating_mul(size.0);
        Self { start: EventTime(start), end: EventTime(start.saturating_add(size.0)) }
    }

    /// Its length.
    pub fn size(self) -> Millis {
        Millis(self.end.0 - self.start.0)
    }

    /// Whether `other` lies wholly inside.
    pub fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}
