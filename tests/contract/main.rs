//! What the parts promise each other and their users, in memory and in seconds.

mod acknowledgement;
mod tables;
