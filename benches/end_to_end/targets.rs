//! What is aimed at, and what was reached.

/// A measured figure with its target.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    measured: f64,
    target: f64,
    is_least: bool,
}

impl Figure {
    /// One that must not be greater.
    pub fn at_most(target: f64, measured: f64, what: String) -> Self {
        Self { what, measured, target, is_least: false }
    }

    /// One that must not be smaller.
    pub fn at_least(target: f64, measured: f64, what: String) -> Self {
        Self { is_least: true, ..Self::at_most(target, measured, what) }
    }

    fn is_reached(&self) -> bool {
        if self.is_least { self.measured >= self.target } else { self.measured <= self.target }
    }
}

/// One line for each.
pub fn print(figures: &[Figure]) {
    println!("\n| figure | measured | target | |\n|---|---:|---:|---|");
    for figure in figures {
        let Figure { what, measured, target, is_least } = figure;
        let sign = if *is_least { ">=" } else { "<=" };
        let verdict = if figure.is_reached() { "reached" } else { "missed" };
        println!("| {what} | {measured:.2} | {sign} {target} | {verdict} |");
    }
}
