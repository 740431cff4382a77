//! Tidegauge measures machine-learning models from the streams that already describe them: it joins an inference
//! topic with a label topic, folds each pair into the tumbling window of the inference, computes metrics, and keeps
//! the rows in ClickHouse right while labels arrive.
//!
//! # The way of one record
//!
//! [`source`] polls a batch from Kafka → [`decode`] makes an [`Event`](engine::event::Event) of each record → a
//! [`Shard`](engine::Shard) of the [`engine`] observes it: the clock moves, lateness is judged, held inferences are
//! asked, the pair is folded into a window state → at a flush the [`pipeline`] freezes the states that changed,
//! [`evaluate`] makes metric rows of them, and the [`sink`] writes both, then the mark that says how far it came.
//!
//! # The map
//!
//! The number is the level: a file imports only from lower levels, and parts of one level do not import each other.
//! Inside a folder files stand in import order.
//!
//! | level | part | what it is |
//! |---|---|---|
//! | 9 | `main.rs` | arguments, one command, the error and its remedy, the exit code |
//! | 8 | [`commands`] | one file for each subcommand |
//! | 7 | [`config`] | what file and environment say → settings, checked once |
//! | 6 | [`http`], [`overview`] | `/healthz`, `/readyz`, `/metrics`; web pages over the metric rows |
//! | 5 | [`pipeline`], [`alerting`] | the flow: workers, the one writer, back-pressure, stop; rules evaluated beside it, people told |
//! | 4 | [`sink`] | rows and dead letters out |
//! | 3 | [`report`] | metric rows → a page for people |
//! | 2 | [`evaluate`], [`alerts`], [`decode`], [`source`], [`traffic`], [`embedded`], [`dashboards`] | states → metric rows; metric rows → alerts; bytes → events; Kafka in; seeded traffic; real services beside the process; chart definitions → files of BI tools |
//! | 1 | [`telemetry`], [`failpoint`], [`profile`], [`calendar`], [`client`] | the program's own counters, readiness, logs; where tests break it; reference profiles as documents; times ↔ text; how servers are asked over HTTP |
//! | 0 | [`engine`] | pure and deterministic: join, windows, metrics |
//!
//! # What always holds
//!
//! A row is a function of how far both topics have been read, never of when, by whom or in which mixture. A row's
//! version is the number of records in it, so that of all rows ever written for a key the truth wins. The mark is
//! written after the rows that it vouches for, so that every mark is safe to start from.

pub mod engine;
pub mod failpoint;
pub mod telemetry;
pub mod profile;
pub mod calendar;
pub mod client;
pub mod evaluate;
pub mod alerts;
pub mod decode;
pub mod source;
pub mod traffic;
pub mod embedded;
pub mod dashboards;
pub mod report;
pub mod sink;
pub mod pipeline;
pub mod alerting;
pub mod http;
pub mod overview;
pub mod config;
pub mod commands;
