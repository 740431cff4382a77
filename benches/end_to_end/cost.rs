//! What the program costs beside a consumer that throws the same records away, and beside other systems.

use super::measured::{Measured, median};
use super::peers::Peer;
use super::sets::{Case, Made, Set, Stage};
use super::targets::{self, Figure};
use super::{Args, SMALL};
use tidegauge::traffic::Shape;

/// What is started in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Bare(&'static str),
    Tidegauge,
    Peer(Peer),
}

/// The floor, which the others are held against.
const FLOOR: Program = Program::Bare("batch");

/// Each set by each program.
pub fn run(
    stage: &mut Stage,
    args: &Args,
    kinds: &[Set],
    inferences: u64,
    rounds: usize,
) -> Vec<Figure> {
    println!("{inferences} inferences with a label each, {} partitions", args.partitions);
    let mut figures = Vec::new();
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
        figures.extend(report(&whole, &programs, &base, &runs));
    }
    figures
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

fn report(made: &Made, programs: &[Program], base: &Rounds, rounds: &Rounds) -> Vec<Figure> {
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

    let set = made.case.set;
    let (most_cpu, least_rate) = targets::of_bare(set);
    let own = place(Program::Tidegauge);
    let own_cpu = more(own, |run| run.cpu_s);
    let of_rate = more(place(FLOOR), |run| run.wall_s) / more(own, |run| run.wall_s);
    let mut figures = vec![
        Figure::at_most(most_cpu, own_cpu / floor, format!("CPU of bare batch's, {}", set.name())),
        Figure::at_least(least_rate, of_rate, format!("rate of bare batch's, {}", set.name())),
    ];
    for (at, program) in programs.iter().enumerate() {
        if let Program::Peer(peer) = program {
            let times = more(at, |run| run.cpu_s) / own_cpu;
            let what = format!("CPU of {} by Tidegauge's, {}", peer.name(), set.name());
            figures.push(Figure::at_least(targets::of_peer(*peer), times, what));
        }
    }
    figures
}
