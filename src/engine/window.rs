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
}
