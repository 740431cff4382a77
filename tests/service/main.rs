//! Tests with real services: Kafka, a schema registry, ClickHouse. `make test` fetches them.

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod backfill;
mod bad_input;
mod budget;
mod check;
mod class_estimates;
mod clickhouse;
mod demo;
mod end_to_end;
mod faults;
mod learned;
mod operation;
mod profile;
mod proxy;
mod ranges;
mod real_data;
mod reference;
mod refusals;
mod rolling;
mod services;
mod simulate;
mod transactions;
mod watch;
