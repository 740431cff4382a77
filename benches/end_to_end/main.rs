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
mod sets;

use clap::Parser;

use measured::{Measured, median};
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
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as the bare consumer instead: how, brokers, topics, records.
    #[arg(long, num_args = 5, hide = true)]
    bare: Option<Vec<String>>,
}

/// What is started in each round.
const BARE: [&str; 2] = ["poll", "batch"];
/// Less than a flush holds, so that its run is starting and stopping.
const SMALL: u64 = 1000;

fn main() {
    let args = Args::parse();
    if let Some(bare) = &args.bare {
        return bare::run(bare);
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
        let [base, runs]: [Rounds; 2] =
            [&small, &whole].map(|made| (0..rounds).map(|_| one_round(&mut stage, made)).collect());
        report(&whole, &base, &runs);
    }
}

/// One run of each program over a set: poll, batch, then the program itself.
fn one_round(stage: &mut Stage, made: &Made) -> Vec<Measured> {
    let mut runs: Vec<_> = BARE.iter().map(|how| stage.run_bare(how, made)).collect();
    runs.push(stage.run_program(made));
    runs
}

/// Runs of each program, round by round.
type Rounds = Vec<Vec<Measured>>;

fn report(made: &Made, base: &Rounds, rounds: &Rounds) {
    println!(
        "| program | seconds | M records/s | CPU s per M records | of batch | peak MiB | ClickHouse CPU s per M |"
    );
    println!("|---|---|---|---|---|---|---|");
    let of = |runs: &Rounds, program: usize, figure: fn(&Measured) -> f64| {
        median(runs.iter().map(|round| figure(&round[program])).collect())
    };
    let more = |program, figure| of(rounds, program, figure) - of(base, program, figure);
    let millions = made.records() / 1e6;
    let batch = more(1, |run| run.cpu_s);
    for (program, name) in ["bare, poll", "bare, batch", "tidegauge"].into_iter().enumerate() {
        let (wall, cpu) = (more(program, |run| run.wall_s), more(program, |run| run.cpu_s));
        println!(
            "| {name} | {wall:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} |",
            millions / wall,
            cpu / millions,
            cpu / batch,
            of(rounds, program, |run| run.peak_mib),
            more(program, |run| run.clickhouse_s) / millions,
        );
    }
    let last = rounds.last().expect("at least one round");
    let program = last.last().expect("three programs");
    let threads = program.threads.iter().map(|(name, s)| format!("{name} {:.2}", s / millions));
    println!("\nCPU s per M records by threads: {}", threads.collect::<Vec<_>>().join(", "));
    println!("rows written: {}; every count equals the truth", program.rows);
}
