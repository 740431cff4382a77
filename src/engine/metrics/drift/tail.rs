//! Tail probabilities of the tests.

use statrs::function::gamma::checked_gamma_ur;

use crate::engine::metrics::interval::number;

/// The upper tail of chi-square with that many degrees of freedom: Q(x, k). With none all mass lies at 0.
pub fn chi_square_tail(x: f64, degrees: usize) -> f64 {
    if degrees == 0 || x <= 0.0 {
        return if x <= 0.0 { 1.0 } else { 0.0 };
    }
    let half = number(u64::try_from(degrees).unwrap_or(u64::MAX)) / 2.0;
    checked_gamma_ur(half, x / 2.0).expect("both are positive").clamp(0.0, 1.0)
}

/// The p-value of a Kolmogorov-Smirnov distance D between samples of n and m values: the limit law at
/// λ = D√N + 1/(6√N) + (D√N - 1)/(4N), N = nm/(n + m) (Vrbik 2018).
pub fn kolmogorov_tail(distance: f64, n: u64, m: u64) -> f64 {
    let size = (number(n) * number(m) / (number(n) + number(m))).round().max(1.0);
    let scaled = distance * size.sqrt();
    kolmogorov(scaled + 1.0 / (6.0 * size.sqrt()) + (scaled - 1.0) / (4.0 * size))
}

/// The upper tail of the Kolmogorov distribution: 2 Σ (-1)^(k-1) exp(-2k²λ²), or, where that converges slowly, one less
/// its Jacobi transform √(2π)/λ Σ exp(-(2k-1)²π²/(8λ²)).
fn kolmogorov(lambda: f64) -> f64 {
    const TERMS: u32 = 6;
    if lambda <= 0.0 {
        return 1.0;
    }
    let square = lambda * lambda;
    let tail = if lambda < 1.0 {
        let pi = std::f64::consts::PI;
        let term = |k: u32| libm::exp(-f64::from((2 * k - 1).pow(2)) * pi * pi / (8.0 * square));
        1.0 - (2.0 * pi).sqrt() / lambda * (1..=TERMS).map(term).sum::<f64>()
    } else {
        let sign = |k: u32| if k % 2 == 1 { 2.0 } else { -2.0 };
        let term = |k: u32| sign(k) * libm::exp(-2.0 * f64::from(k * k) * square);
        (1..=TERMS).map(term).sum()
    };
    tail.clamp(0.0, 1.0)
}
