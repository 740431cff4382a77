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
pub mod wait;

pub use wait::{wait_for, wait_until};
