//! How cost grows: from a base case along one axis at a time.

use tidegauge::traffic::Shape;

use super::measured::{Measured, median};
use super::sets::{Case, Stage, float};

/// Beside a consumer that throws the same records away.
const FLOOR: &str = "batch";

/// The base case, and what differs from it.
pub fn cases(base: Case) -> Vec<(String, Case)> {
    let mut all = vec![("base".to_owned(), base)];
    for partitions in [1, 2, 4, 8, 64] {
        all.push((format!("partitions {partitions}"), Case { partitions, ..base }));
    }
    all.push(("instances 2".to_owned(), Case { instances: 2, ..base }));
    for models in [1, 10, 1_000] {
        all.push((format!("models {models}"), base.with(Shape { models, ..base.shape })));
    }
    for (name, delay) in [("a minute", 60_000), ("an hour", 3_600_000), ("a day", 86_400_000)] {
        let shape = Shape { label_delay_ms: Some(delay), ..base.shape };
        all.push((format!("labels within {name}"), base.with(shape)));
    }
    all.push(("features 50".to_owned(), base.with(Shape { features: 50, ..base.shape })));
    // An axis runs through the base case itself, which is measured once.
    all.retain(|(name, case)| name == "base" || *case != base);
    all
}

/// All axes at once.
pub fn widest(base: Case) -> (String, Case) {
    let shape = Shape { models: 20, label_delay_ms: Some(3_600_000), features: 50 };
    ("all axes".to_owned(), Case { partitions: 8, instances: 2, ..base.with(shape) })
}

/// Prints a table with a line for each case.
pub fn run(
    stage: &mut Stage,
    cases: &[(String, Case)],
    inferences: u64,
    small: u64,
    rounds: usize,
) {
    println!(
        "| case | CPU s per M records | k records/s | of bare batch | peak MiB | rows | ClickHouse CPU s per M |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (name, case) in cases {
        let [base, whole] = [small, inferences].map(|count| {
            let made = stage.make(*case, count);
            let runs: Vec<_> = (0..rounds)
                .map(|_| [stage.run_bare(FLOOR, &made), stage.run_program(&made)])
                .collect();
            stage.forget(&made);
            (runs, made.records())
        });
        let of = |runs: &[[Measured; 2]], program: usize, figure: fn(&Measured) -> f64| {
            median(runs.iter().map(|round| figure(&round[program])).collect())
        };
        let more = |program, figure| of(&whole.0, program, figure) - of(&base.0, program, figure);
        let (cpu, millions) = (more(1, |run| run.cpu_s), whole.1 / 1e6);
        println!(
            "| {name} | {:.2} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
            cpu / millions,
            whole.1 / 1e3 / more(1, |run| run.wall_s),
            cpu / more(0, |run| run.cpu_s),
            of(&whole.0, 1, |run| run.peak_mib),
            of(&whole.0, 1, |run| float(run.rows)),
            more(1, |run| run.clickhouse_s) / millions,
        );
    }
    println!("\nevery count of every run equals the truth");
}
