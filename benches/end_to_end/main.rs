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
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(unreachable_pub, reason = "modules of one program")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod bare;
mod freshness;
mod measured;
mod peer;
mod peers;
mod restart;
mod scale;
mod sets;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tidegauge::traffic::Shape;

use measured::{Measured, median};
use peers::Peer;
use sets::{Case, Made, Set, Stage};

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
}

/// What is started in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Bare(&'static str),
    Tidegauge,
    Peer(Peer),
}

/// The floor, which the others are held against.
const FLOOR: Program = Program::Bare("batch");
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
        cost(&mut stage, &args, &[Set::Avro, Set::JsonLz4], few, 1);
        scale::run(&mut stage, &[scale::widest(base)], few, SMALL, 1);
        restart::run(&mut stage, base, few);
        return freshness::run(&mut stage, base, 1e3, Duration::from_secs(2));
    }
    let inferences = args.inferences.unwrap_or(1_000_000);
    match args.what {
        What::Cost => cost(&mut stage, &args, &args.sets, inferences, args.rounds),
        What::Scale => {
            println!("{inferences} inferences with a label each, {}; base: {base:?}\n", set.name());
            scale::run(&mut stage, &scale::cases(base), inferences, SMALL, args.rounds);
        }
        What::Restart => restart::run(&mut stage, base, inferences),
        What::Freshness => {
            let rate = args.rate.unwrap_or_else(|| most(&mut stage, base, inferences) / 2.0);
            freshness::run(&mut stage, base, rate, Duration::from_secs(args.seconds));
        }
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

/// Each set by each program.
fn cost(stage: &mut Stage, args: &Args, kinds: &[Set], inferences: u64, rounds: usize) {
    println!("{inferences} inferences with a label each, {} partitions", args.partitions);
    for &set in kinds {
        let case = Case { set, partitions: args.partitions, instances: 1, shape: Shape::USUAL };
        let [small, whole] = [SMALL, inferences].map(|count| stage.make(case, count));
        println!("\n## {}: {:.0} bytes a record\n", set.name(), whole.bytes_per_record());
        let peers = args.peers.iter().filter(|_| set.is_json()).map(|&peer| Program::Peer(peer));
        let own = [Program::Bare("poll"), FLOOR, Program::Tidegauge];
        let programs: Vec<_> = own.into_iter().chain(peers).collect();
        let [base, runs]: [Rounds; 2] = [&small, &whole].map(|made| {
            let round = |_| programs.iter().map(|program| program.run(stage, made)).collect();
            (0..rounds).map(round).collect()
        });
        report(&whole, &programs, &base, &runs);
    }
}

impl Program {
    fn name(self) -> String {
        match self {
            Self::Bare(how) => format!("bare consumer, {how}"),
            Self::Tidegauge => "tidegauge".to_owned(),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }

    fn run(self, stage: &mut Stage, made: &Made) -> Measured {
        match self {
            Self::Bare(how) => stage.run_bare(how, made),
            Self::Tidegauge => stage.run_program(made),
            Self::Peer(peer) => stage.run_peer(peer, made),
        }
    }
}

/// Runs of each program, round by round.
type Rounds = Vec<Vec<Measured>>;

fn report(made: &Made, programs: &[Program], base: &Rounds, rounds: &Rounds) {
    println!(
        "| program | seconds | M records/s | CPU s per M records | of bare batch | peak MiB | ClickHouse CPU s per M |"
    );
    println!("|---|---|---|---|---|---|---|");
    let of = |runs: &Rounds, program: usize, figure: fn(&Measured) -> f64| {
        median(runs.iter().map(|round| figure(&round[program])).collect())
    };
    let more = |program, figure| of(rounds, program, figure) - of(base, program, figure);
    let place = |wanted| programs.iter().position(|&it| it == wanted).expect("it always runs");
    let millions = made.records() / 1e6;
    let floor = more(place(FLOOR), |run| run.cpu_s);
    for (at, program) in programs.iter().enumerate() {
        let (wall, cpu) = (more(at, |run| run.wall_s), more(at, |run| run.cpu_s));
        println!(
            "| {} | {wall:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} |",
            program.name(),
            millions / wall,
            cpu / millions,
            cpu / floor,
            of(rounds, at, |run| run.peak_mib),
            more(at, |run| run.clickhouse_s) / millions,
        );
    }
    let last = &rounds.last().expect("at least one round")[place(Program::Tidegauge)];
    let threads = last.threads.iter().map(|(name, s)| format!("{name} {:.2}", s / millions));
    println!("\nCPU s per M records by threads: {}", threads.collect::<Vec<_>>().join(", "));
    println!("rows written: {}; every count equals the truth", last.rows);
}
