//! What several test binaries share. Each binary uses a part of it.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "every test binary includes this as a module of its own, and uses another part of it"
)]

pub mod http;
pub mod job;
pub mod letters;
pub mod log;
pub mod odd_requests;
pub mod oracle;
pub mod proxy;
pub mod receiver;
pub mod requests;
pub mod services;

use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `condition` until it is true. Panics at the deadline, with `what` was waited for.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Polls `condition` until it gives a value. Panics at the deadline, with `what` was waited for.
#[expect(clippy::disallowed_methods, reason = "the one place where a test measures waiting time")]
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}
