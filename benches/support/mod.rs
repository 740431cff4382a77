//! What several benchmarks share.
#![expect(unreachable_pub, reason = "every benchmark includes this as a module of its own")]

use tidegauge::engine::keys::GATHER_AFTER;
use tidegauge::engine::lateness::Limits;
use tidegauge::engine::time::Millis;
use tidegauge::engine::{Caps, ModelSettings, Progress, ShardSettings};

pub const MINUTE: i64 = 60_000;

/// One rule for all models, whose windows are so many minutes; each value of these dimensions is a segment.
pub fn settings(minutes: i64, dimensions: &[&str]) -> ShardSettings {
    let numbers = (0_u16..).take(dimensions.len()).collect();
    ShardSettings {
        window: Millis(minutes * MINUTE),
        limits: Limits {
            lateness: Millis(10 * MINUTE),
            label_wait: Millis(60 * MINUTE),
            max_future: Millis(5 * MINUTE),
            max_gap: Millis(7 * 24 * 60 * MINUTE),
        },
        clock_stamps: 8,
        progress: Progress::Log,
        has_labels: true,
        generation: 0,
        caps: Caps {
            models: 1000,
            versions: 100,
            segments: 1000,
            features: 100,
            max_classes: 256,
            auroc_classes: 32,
        },
        gather_after: GATHER_AFTER,
        dimensions: dimensions.iter().map(|&name| name.into()).collect(),
        models: vec![ModelSettings { dimensions: numbers, ..ModelSettings::default() }],
        custom: Vec::new(),
    }
}
