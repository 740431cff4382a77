//! Real services in or beside the process.
pub mod broker;
pub mod clickhouse;
