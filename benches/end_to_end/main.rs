//! The whole program beside a consumer that throws the same records away: Kafka and ClickHouse on this machine, rows
//! acknowledged, totals held against what the generator knows. In each round every program runs once; medians count.
//!
//! `cargo bench --bench end_to_end`; `-- --inferences 5000000 --sets avro,json-lz4 --rounds 3 --workers 1` for others.
//! A run over the smallest set is subtracted, so that starting and stopping do not count.
//!
//! Other questions, each with `cargo bench --bench end_to_end -- ...`:
//!
//! - `scale`: how cost grows with partitions, instances, models, label delay and features, one axis at a time.
//! - `restart --inferences 10000000`: a job that holds so many is killed, or stopped; how long until its rows move again.
//! - `freshness --rate 200000`: how old what the rows show is, at half of what was measured before if no rate is given.
//! - `targets --peers streams,flink,clickhouse`: cost, restart and freshness after each other.
//!
//! All but `scale` end with one table of what is aimed at and what was reached.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(unreachable_pub, reason = "modules of one program")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod bare;
mod cost;
mod freshness;
mod measured;
mod peer;
mod peers;
mod restart;
mod scale;
mod sets;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tidegauge::traffic::Shape;

use freshness::Flow;
use peers::Peer;
use sets::{Case, Set, Stage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole program beside a bare consumer.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_value_t)]
    what: What,
    /// Inferences, by default a million; each has a label, but none where a restart is measured.
    #[arg(long)]
    inferences: Option<u64>,
    /// Out of avro, avro-lz4, json, json-lz4.
    #[arg(long, value_delimiter = ',', default_value = "avro,avro-lz4,json,json-lz4")]
    sets: Vec<Set>,
    /// How often each program runs; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Worker threads of the program; 0 is one for each core.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Records a second of `freshness`, inferences and labels.
    #[arg(long)]
    rate: Option<f64>,
    /// How long `freshness` sends.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Within so many seconds labels of `freshness` follow.
    #[arg(long, default_value_t = 10)]
    label_delay: u64,
    /// Without a reference: no rows of drift and estimates.
    #[arg(long)]
    no_reference: bool,
    /// Programs beside: streams, flink, clickhouse, for sets of JSON; `.ci/fetch peers` brings what they run on.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Another build of the program, to be measured in place of the one that belongs to this benchmark.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the bare consumer instead: how, brokers, topics, records.
    #[arg(long, num_args = 5, hide = true)]
    bare: Option<Vec<String>>,
    /// Run as one of several programs that a harness compares: brokers, topics, topic of the rows, inferences, labels.
    #[arg(long, num_args = 6)]
    peer: Option<Vec<String>>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum What {
    /// What it costs beside a bare consumer and others.
    #[default]
    Cost,
    /// How that grows.
    Scale,
    /// How long a restart takes.
    Restart,
    /// How old rows are.
    Freshness,
    /// All of these but how it grows, held against their targets.
    Targets,
}

/// Less than a flush holds, so that its run is starting and stopping.
const SMALL: u64 = 1000;

fn main() {
    let args = Args::parse();
    if let Some(bare) = &args.bare {
        return bare::run(bare);
    }
    if let Some(program) = &args.program {
        measured::measure_other(program.clone());
    }
    if let Some(peer) = &args.peer {
        return println!("{}", peer::run(peer));
    }
    let mut stage = Stage::start(args.workers, !args.no_reference);
    let set = args.sets[0];
    let base = Case { set, partitions: args.partitions, instances: 1, shape: Shape::USUAL };
    // Only `cargo bench` says what it is: as a test it shows that it runs.
    if !args.bench {
        let few = 2 * SMALL;
        let mut reached = cost::run(&mut stage, &args, &[Set::Avro, Set::JsonLz4], few, 1);
        scale::run(&mut stage, &[scale::widest(base)], few, SMALL, 1);
        reached.push(restart::run(&mut stage, base, few));
        reached.extend(freshness::run(&mut stage, base, args.flow(1e3, 2)));
        return targets::print(&reached);
    }
    let inferences = args.inferences.unwrap_or(1_000_000);
    let reached = match args.what {
        What::Cost => cost::run(&mut stage, &args, &args.sets, inferences, args.rounds),
        What::Scale => {
            println!("{inferences} inferences with a label each, {}; base: {base:?}\n", set.name());
            return scale::run(&mut stage, &scale::cases(base), inferences, SMALL, args.rounds);
        }
        What::Restart => vec![restart::run(&mut stage, base, inferences)],
        What::Freshness => {
            let rate = args.rate.unwrap_or_else(|| most(&mut stage, base, inferences) / 2.0);
            freshness::run(&mut stage, base, args.flow(rate, args.seconds))
        }
        What::Targets => {
            let rate = args.rate.unwrap_or_else(|| most(&mut stage, base, inferences) / 2.0);
            let mut reached = cost::run(&mut stage, &args, &args.sets, inferences, args.rounds);
            reached.push(restart::run(&mut stage, base, targets::HELD));
            reached.extend(freshness::run(&mut stage, base, args.flow(rate, args.seconds)));
            reached
        }
    };
    targets::print(&reached);
}

impl Args {
    fn flow(&self, records_per_s: f64, seconds: u64) -> Flow {
        let [length, label_delay] = [seconds, self.label_delay].map(Duration::from_secs);
        Flow { records_per_s, length, label_delay }
    }
}

/// Records a second that the program takes, in one run.
fn most(stage: &mut Stage, case: Case, inferences: u64) -> f64 {
    let [small, whole] = [SMALL, inferences].map(|count| {
        let made = stage.make(case, count);
        (stage.run_program(&made).wall_s, made.records())
    });
    whole.1 / (whole.0 - small.0)
}
