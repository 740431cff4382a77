//! Times in RFC 3339 text, strictly.

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
    era * 146_097 + day_of_era - 719_468
}
