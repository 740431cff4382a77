//! Durations, byte counts and secrets as the file writes them.

use crate::engine::time::Millis;

/// A text that no log, error or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// `500ms`, `90s`, `5m`, `1h`, `7d`: a whole number and one unit.
pub fn duration(text: &str) -> Option<Millis> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: i64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit).map(Millis)
}

/// `1000`, `64kB`, `512MB`, `2GiB`: a whole number and, if any, one unit.
pub fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(duration("500ms"), Some(Millis(500)));
        assert_eq!(duration("90s"), Some(Millis(90_000)));
        assert_eq!(duration("5m"), Some(Millis(300_000)));
        assert_eq!(duration("7d"), Some(Millis(604_800_000)));
        for wrong in ["", "5", "m", "1h30m", "-5m", "5 m", "1.5h", "99999999999999999d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_know_both_kinds_of_units() {
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("4GB"), Some(4_000_000_000));
        assert_eq!(bytes("2GiB"), Some(1 << 31));
        assert_eq!(bytes("2 MiB"), Some(2 << 20));
        for wrong in ["", "GB", "4TBs", "-1"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "(secret) (secret)");
    }
}
