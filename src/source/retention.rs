//! How long the brokers keep records, against how far back a restart must read.

use super::SourceError;
use crate::engine::lateness::Limits;
use crate::engine::time::Millis;

/// What a topic's configuration says about how long its records stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `retention.ms`, where records are deleted by age at all and not kept for ever.
    pub kept: Option<Millis>,
    /// `min.compaction.lag.ms`, where records are compacted: a younger record is never taken out.
    pub compacted_after: Option<Millis>,
    /// `retention.bytes`, where there is a limit. It says nothing about time.
    pub bytes: Option<i64>,
}

impl Retention {
    /// Of the names and values of a topic's configuration.
    pub fn of(configs: &[(String, String)]) -> Self {
        let text = |wanted: &str| configs.iter().find(|(name, _)| name == wanted).map(|it| &*it.1);
        let number = |wanted: &str| text(wanted).and_then(|value| value.trim().parse::<i64>().ok());
        let limit = |wanted: &str| number(wanted).filter(|limit| *limit >= 0);
        let policy = text("cleanup.policy").unwrap_or("delete");
        let deletes = policy.contains("delete");
        let compacts = policy.contains("compact");
        Self {
            kept: limit("retention.ms").filter(|_| deletes).map(Millis),
            compacted_after: compacts
                .then(|| Millis(limit("min.compaction.lag.ms").unwrap_or_default())),
            bytes: limit("retention.bytes").filter(|_| deletes),
        }
    }

    /// Refuses a topic whose records may be gone before a restart needs them no more.
    ///
    /// A compacted topic is one of these: a replay that no longer finds the first record of a key decides otherwise
    /// than the first reading did. (A key is the request ID in most topics, and several models score one request, so
    /// compaction takes out records that are no repetition.) One that leaves young records alone is fine.
    pub fn check(&self, topic: &str, needed: Millis) -> Result<(), SourceError> {
        let of = [("retention.ms", self.kept), ("min.compaction.lag.ms", self.compacted_after)];
        for (setting, kept) in of {
            if let Some(kept) = kept.filter(|kept| *kept < needed) {
                let (kept_ms, needed_ms) = (kept.0, needed.0);
                let topic = topic.to_owned();
                return Err(SourceError::ShortRetention { topic, setting, kept_ms, needed_ms });
            }
        }
        Ok(())
    }
}

/// How far back from the newest record a restart may have to read, by the topics' own timestamps: inferences, labels.
/// Of a topic whose records go sooner the first restart would find its floor gone.
///
/// With the settling time T = `label_wait + 2 * lateness`: the newest sealed window's end S is less than T and a
/// window behind the clock. Inferences are needed from windows that end at or after S - T - `max_future`, so these
/// begin a window earlier, and their records may be stamped another `max_future` before their event times. Labels
/// are needed from `lateness` before the windows that are not sealed.
pub fn needed(limits: &Limits, window: Millis) -> [Millis; 2] {
    let settling = limits.label_wait.0.saturating_add(limits.lateness.0.saturating_mul(2));
    let of_one = settling.saturating_add(window.0);
    let inferences = of_one.saturating_add(limits.max_future.0).saturating_mul(2);
    let labels = of_one.saturating_add(window.0).saturating_add(limits.lateness.0);
    [Millis(inferences), Millis(labels)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn of(configs: &[(&str, &str)]) -> Retention {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Retention::of(&configs.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_deleted_too_early_is_refused() {
        let three_hours = Millis(3 * HOUR_MS);
        let check = |configs: &[(&str, &str)]| of(configs).check("t", three_hours);
        for fine in [
            &[("retention.ms", "-1")] as &[_],
            &[("retention.ms", "10800000")],
            &[("retention.ms", "604800000"), ("retention.bytes", "1000")],
            &[],
            &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "10800000")],
            // Nothing is deleted by age where the topic is only compacted.
            &[
                ("cleanup.policy", "compact"),
                ("retention.ms", "1"),
                ("min.compaction.lag.ms", "9223372036854775807"),
            ],
        ] {
            assert!(check(fine).is_ok(), "{fine:?}");
        }
        for (short, setting) in [
            (&[("retention.ms", "10799999")] as &[_], "retention.ms=10799999"),
            (&[("cleanup.policy", "compact")], "min.compaction.lag.ms=0"),
            (
                &[("cleanup.policy", "compact,delete"), ("retention.ms", "-1")],
                "min.compaction.lag.ms=0",
            ),
        ] {
            let error = check(short).unwrap_err();
            assert_eq!(error.code(), "retention_too_short");
            assert!(error.to_string().contains(setting), "{error}");
            assert!(error.to_string().contains("10800000"), "{error}");
        }
    }

    #[test]
    fn limits_by_size_are_known() {
        assert_eq!(of(&[("retention.bytes", "5")]).bytes, Some(5));
        assert_eq!(of(&[("retention.bytes", "-1")]).bytes, None);
        assert_eq!(of(&[("retention.bytes", "5"), ("cleanup.policy", "compact")]).bytes, None);
    }

    #[test]
    fn defaults_need_three_hours() {
        const MINUTE: i64 = 60_000;
        let limits = Limits {
            lateness: Millis(10 * MINUTE),
            label_wait: Millis(60 * MINUTE),
            max_future: Millis(5 * MINUTE),
            max_gap: Millis(0),
        };
        let all = needed(&limits, Millis(5 * MINUTE));
        assert_eq!(all, [Millis(180 * MINUTE), Millis(100 * MINUTE)]);
    }
}
