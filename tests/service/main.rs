//! Tests with real services: Kafka, a schema registry, ClickHouse. `make test` fetches them.

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod clickhouse;
mod end_to_end;
mod real_data;
mod services;
