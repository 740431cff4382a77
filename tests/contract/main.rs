//! What the parts promise each other, in memory and in seconds.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
#![expect(clippy::disallowed_methods, reason = "tests measure time and use small channels")]

mod memory;
mod pipeline;
