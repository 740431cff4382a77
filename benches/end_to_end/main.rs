//! The whole program beside a consumer that throws the same records away: Kafka and ClickHouse on this machine, rows
//! acknowledged, totals held against what the generator knows. In each round every program runs once; medians count.
//!
//! `cargo bench --bench end_to_end`; `-- --inferences 5000000 --sets avro,json-lz4 --rounds 3 --workers 1` for others.
//! A run over the smallest set is subtracted, so that starting and stopping do not count.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(unreachable_pub, reason = "modules of one program")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod bare;
mod measured;
mod peer;
mod peers;
mod sets;

use clap::Parser;

use measured::{Measured, median};
use peers::Peer;
use sets::{Made, Set, Stage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole program beside a bare consumer.
#[derive(Debug, Parser)]
struct Args {
    /// Inferences; each has a label.
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
    /// Without a reference: no rows of drift and estimates.
    #[arg(long)]
    no_reference: bool,
    /// Programs beside: streams, flink, clickhouse, for sets of JSON; `.ci/fetch peers` brings what they run on.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
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
    if let Some(peer) = &args.peer {
        return println!("{}", peer::run(peer));
    }
    // Only `cargo bench` says what it is: as a test it shows that it runs.
    let (inferences, rounds, kinds) = if args.bench {
        (args.inferences.unwrap_or(1_000_000), args.rounds, args.sets.clone())
    } else {
        (2 * SMALL, 1, vec![Set::Avro, Set::JsonLz4])
    };
    let mut stage = Stage::start(args.workers, args.partitions, !args.no_reference);
    println!("{inferences} inferences with a label each, {} partitions", args.partitions);
    for set in kinds {
        let [small, whole] = [SMALL, inferences].map(|count| stage.make(set, count));
        println!("\n## {}: {:.0} bytes a record\n", set.name(), whole.bytes_per_record());
        let peers = args.peers.iter().filter(|_| set.is_json()).map(|&peer| Program::Peer(peer));
        let own = [Program::Bare("poll"), FLOOR, Program::Tidegauge];
        let programs: Vec<_> = own.into_iter().chain(peers).collect();
        let [base, runs]: [Rounds; 2] = [&small, &whole].map(|made| {
            let round = |_| programs.iter().map(|program| program.run(&mut stage, made)).collect();
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
