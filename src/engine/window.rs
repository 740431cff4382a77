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
    /// All of time, to hold others; it has no length.
    pub const ALL: Self = Self { start: EventTime(i64::MIN), end: EventTime(i64::MAX) };

    /// The window of length `size` (greater than 0) that holds `time`.
    ///
    /// ```
    /// use tidegauge::engine::time::{EventTime, Millis};
    /// use tidegauge::engine::window::Window;
    ///
    /// let window = Window::of(EventTime(-1), Millis(300_000));
    /// assert_eq!((window.start, window.end), (EventTime(-300_000), EventTime(0)));
    /// ```
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

    /// Whether a tumbling window of length `size` (greater than 0) lies wholly inside.
    ///
    /// ```
    /// use tidegauge::engine::time::{EventTime, Millis};
    /// use tidegauge::engine::window::Window;
    ///
    /// let hour = Millis(3_600_000);
    /// let span = |start, end| Window { start: EventTime(start), end: EventTime(end) };
    /// assert!(span(0, 3_600_000).holds_whole(hour) && Window::ALL.holds_whole(hour));
    /// assert!(!span(1, 7_199_999).holds_whole(hour), "parts of two");
    /// ```
    pub fn holds_whole(self, size: Millis) -> bool {
        // The first one that begins inside holds this time.
        let time = self.start.plus(size).minus(Millis(1));
        self.holds(Self::of(time, size))
    }
}
