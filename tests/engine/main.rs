//! The engine, without I/O: rules, figures and laws.

#[path = "../support/oracle.rs"]
mod oracle;

mod drive;
mod properties;
mod scenarios;
