//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// So many times as long as a look takes is rested after it.
const REST: u32 = 5;
/// The rest after a look that took long.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Polls `condition` until it is true. Panics at the deadline, with `what` was waited for.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Polls `condition` until it gives a value. Panics at the deadline, with `what` was waited for. The longer a look
/// takes, as a query does, the longer it rests: looking is not to be what keeps the machine busy.
#[expect(clippy::disallowed_methods, reason = "the one place where a test measures waiting time")]
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let looked = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep((looked.elapsed() * REST).clamp(POLL_INTERVAL, LONGEST_REST));
    }
}
