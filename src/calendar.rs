//! Times as text: read strictly as RFC 3339 has them, and written for machines and for people.
#![deny(clippy::indexing_slicing)]
#![warn(missing_docs)]

const DAY_MS: i64 = 86_400_000;
/// Days of an era: the 400 years after which the Gregorian calendar repeats itself.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01, the first of an era, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Milliseconds since 1970 of a time with any offset, rounded down. A leap second is the second after it.
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't' | b' ', rest @ ..] =
        text.as_bytes()
    else {
        return None;
    };
    let [h0, h1, b':', i0, i1, b':', s0, s1, rest @ ..] = rest else { return None };
    let year = pair(*y0, *y1)? * 100 + pair(*y2, *y3)?;
    let (month, day) = (pair(*m0, *m1)?, pair(*d0, *d1)?);
    let (hour, minute, second) = (pair(*h0, *h1)?, pair(*i0, *i1)?, pair(*s0, *s1)?);
    let (millis, rest) = fraction(rest)?;
    let sound = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sound {
        return None;
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes(rest)?;
    Some((minutes * 60 + second) * 1000 + millis)
}

/// The same of a time, or of the start (UTC) of a day that stands alone, as `2026-11-27`.
pub(crate) fn time_or_day(text: &str) -> Option<i64> {
    milliseconds(text).or_else(|| milliseconds(&format!("{text}T00:00:00Z")))
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    let digit = |c: u8| c.is_ascii_digit().then(|| i64::from(c - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', digits @ ..] = text else { return Some((0, text)) };
    let count = digits.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(count)?;
    let place = |i: usize| digits.get(i).map_or(0, |c| i64::from(c - b'0'));
    (count > 0).then_some((place(0) * 100 + place(1) * 10 + place(2), rest))
}

fn offset_minutes(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (pair(*h0, *h1)?, pair(*m0, *m1)?);
            let sign = if *sign == b'-' { -1 } else { 1 };
            (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
        }
        _ => None,
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// `2026-11-27 15:04` of milliseconds since 1970-01-01 UTC; without the time of day at midnight, and with seconds and
/// their thousandths where these are not 0, so that short windows have names of their own.
pub(crate) fn time(ms: i64) -> String {
    let (days, within) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    let day = format!("{year:04}-{month:02}-{day:02}");
    let (minutes, seconds, thousandths) = (within / 60_000, within / 1000 % 60, within % 1000);
    let time = format!("{day} {:02}:{:02}", minutes / 60, minutes % 60);
    match (within, seconds, thousandths) {
        (0, ..) => day,
        (_, 0, 0) => time,
        (_, _, 0) => format!("{time}:{seconds:02}"),
        _ => format!("{time}:{seconds:02}.{thousandths:03}"),
    }
}

/// Year and month of milliseconds since 1970-01-01 UTC: tables are partitioned by it.
pub(crate) fn month(ms: i64) -> (i64, i64) {
    let (year, month, _) = date(ms.div_euclid(DAY_MS));
    (year, month)
}

/// `2026-11-27T15:04:05.678Z` of milliseconds since 1970-01-01 UTC.
pub fn instant(ms: i64) -> String {
    let (year, month, day) = date(ms.div_euclid(DAY_MS));
    let (seconds, millis) = (ms.rem_euclid(DAY_MS) / 1000, ms.rem_euclid(1000));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar, counted in eras of 400 years that begin on
/// the first of March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(ms), expected);
            assert_eq!(milliseconds(expected), Some(ms), "{expected}");
        }
    }

    #[test]
    fn times_have_what_tells_short_windows_apart() {
        for (ms, expected) in [
            (0, "1970-01-01"),
            (3_600_000, "1970-01-01 01:00"),
            (10_000, "1970-01-01 00:00:10"),
            (86_399_000, "1970-01-01 23:59:59"),
            (60_001, "1970-01-01 00:01:00.001"),
            (250, "1970-01-01 00:00:00.250"),
        ] {
            assert_eq!(time(ms), expected);
        }
    }

    #[test]
    fn a_day_stands_for_its_start() {
        for (text, expected) in [
            ("2024-02-29", 1_709_164_800_000),
            ("2024-02-29T00:00:00.001Z", 1_709_164_800_001),
            ("2024-02-29 02:00:00+02:00", 1_709_164_800_000),
        ] {
            assert_eq!(time_or_day(text), Some(expected), "{text}");
        }
        for wrong in ["", "2023-02-29", "2024-2-29", "2024-02", "2024-02-29T", " 2024-02-29"] {
            assert_eq!(time_or_day(wrong), None, "{wrong}");
        }
        assert_eq!(milliseconds("2024-02-29"), None);
    }
}
