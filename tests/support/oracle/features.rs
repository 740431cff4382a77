//! What each feature holds, by looking at the list of its values.

use std::collections::BTreeMap;

use super::super::{Cell, Folded, Held, OTHER};
use super::{Cells, Figure, Weighed, careful_sum, count, divide, figure, put, ratio};

/// Cells for each doubling of a number's size.
const STEPS: f64 = 32.0;
/// Distinct texts, or numbers, that are told apart; of more their number is estimated.
const TOLD_APART: usize = 100;
/// Categories of a feature with rows of their own.
const CATEGORY_ROWS: usize = 20;

/// The rows of `data_quality` by feature.
pub fn rows(most: usize, with_numbers: bool, members: &[&Folded]) -> Vec<(String, Cells)> {
    let all = by_name(most, members);
    let are_capped = all.contains_key(OTHER);
    all.into_iter()
        .map(|(name, values)| {
            let with_numbers = with_numbers && name != OTHER;
            let row = row(&name, &values, members.len(), (with_numbers, are_capped));
            (name, row)
        })
        .collect()
}

/// The rows of `categories` by feature and category: the most frequent, then all others together.
pub fn categories(most: usize, members: &[&Folded]) -> Vec<(String, Cells)> {
    let mut rows = Vec::new();
    for (feature, values) in by_name(most, members) {
        let texts: Vec<String> =
            values.iter().filter_map(|value| value.text().map(str::to_owned)).collect();
        let booleans: Vec<String> =
            values.iter().filter_map(|value| value.boolean().map(|it| it.to_string())).collect();
        let numbers = values.iter().filter(|value| value.number().is_some()).count();
        let of_kind = if numbers >= texts.len().max(booleans.len()) {
            continue;
        } else if texts.len() >= booleans.len() {
            texts
        } else {
            booleans
        };
        let names = told_apart(of_kind.iter().map(String::as_str));
        let mut counts: Vec<(usize, &str)> = names
            .into_iter()
            .map(|name| (of_kind.iter().filter(|value| value.as_str() == name).count(), name))
            .collect();
        counts.sort_by(|(n, a), (m, b)| m.cmp(n).then(a.cmp(b)));
        counts.truncate(CATEGORY_ROWS);
        let others = of_kind.len() - counts.iter().map(|(n, _)| n).sum::<usize>();
        counts.extend((others > 0).then_some((others, OTHER)));
        for (n, category) in counts {
            let mut cells = Cells::new();
            put(&mut cells, "feature", Cell::Text(feature.clone()));
            put(&mut cells, "category", Cell::Text(category.to_owned()));
            count(&mut cells, "n", n);
            count(&mut cells, "values", of_kind.len());
            let [part, whole] = [n, of_kind.len()].map(Weighed::plain);
            ratio(&mut cells, "share", part, whole, "no_values");
            figure(&mut cells, "reference_n", Err("no_reference"));
            figure(&mut cells, "reference_share", Err("no_reference"));
            rows.push((format!("{feature}/{category}"), cells));
        }
    }
    rows
}

/// Of the names those that have counts of their own: of many the ones with the least hashes.
fn told_apart<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.filter(|name| *name != OTHER).collect();
    names.sort_by_key(|name| (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), *name));
    names.dedup();
    names.truncate(TOLD_APART);
    names
}

/// All values of each feature. Each partition's state of each window keeps the features that came first.
fn by_name<'a>(most: usize, members: &[&'a Folded]) -> BTreeMap<String, Vec<&'a Held>> {
    let mut parts: BTreeMap<(usize, i64), Vec<&Folded>> = BTreeMap::new();
    for one in members {
        parts.entry((one.partition, one.window)).or_default().push(one);
    }
    let mut all: BTreeMap<String, Vec<&Held>> = BTreeMap::new();
    for mut part in parts.into_values() {
        part.sort_by_key(|one| one.offset);
        let mut kept: Vec<&String> = Vec::new();
        for (name, value) in part.into_iter().flat_map(|one| &one.features) {
            if !kept.contains(&name) && kept.len() < most {
                kept.push(name);
            }
            let counted_as = if kept.contains(&name) { name } else { OTHER };
            all.entry(counted_as.to_owned()).or_default().push(value);
        }
    }
    all
}

/// Where features `are_capped`, nobody can tell whether values of it stand under (other).
fn row(
    name: &str,
    values: &[&Held],
    inferences: usize,
    (with_numbers, are_capped): (bool, bool),
) -> Cells {
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.number()).collect();
    let mut texts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in values.iter().filter_map(|value| value.text()) {
        *texts.entry(text).or_default() += 1;
    }
    let booleans: Vec<bool> = values.iter().filter_map(|value| value.boolean()).collect();
    let not_finite = values.iter().filter(|value| matches!(value, Held::NotFinite)).count();
    let text_values: usize = texts.values().sum();
    let present = numbers.len() + text_values + booleans.len();
    let kinds =
        [("numeric", numbers.len()), ("categorical", text_values), ("boolean", booleans.len())];
    let most = kinds.iter().map(|(_, n)| *n).max().unwrap();
    let (kind, of_kind) = *kinds.iter().find(|(_, n)| *n == most).unwrap();

    let mut cells = Cells::new();
    put(&mut cells, "feature", Cell::Text(name.to_owned()));
    put(&mut cells, "kind", Cell::Text(kind.to_owned()));
    count(&mut cells, "inferences", inferences);
    count(&mut cells, "values", of_kind);
    let missing = inferences.saturating_sub(present);
    count(&mut cells, "missing", missing);
    let [of_missing, of_all] = [missing, inferences].map(Weighed::plain);
    if are_capped {
        for column in ["missing_rate", "missing_rate_lower", "missing_rate_upper"] {
            figure(&mut cells, column, Err("capped"));
        }
    } else {
        ratio(&mut cells, "missing_rate", of_missing, of_all, "no_values");
    }
    count(&mut cells, "non_finite", not_finite);
    let wrong = present - of_kind;
    count(&mut cells, "type_errors", wrong);
    figure(
        &mut cells,
        "type_error_rate",
        divide(wrong.min(inferences) as f64, inferences, "no_values"),
    );
    let [of_numbers, of_texts] = ["numeric", "categorical"]
        .map(|is| if kind == is { "no_reference" } else { "not_applicable" });
    figure(&mut cells, "out_of_range", Err(of_numbers));
    figure(&mut cells, "out_of_range_rate", Err(of_numbers));
    figure(&mut cells, "new_categories", Err(of_texts));
    figure(&mut cells, "new_category_values", Err(of_texts));
    let distinct_booleans =
        [false, true].iter().filter(|one| booleans.contains(one)).count() as f64;
    let is_numeric = kind == "numeric";
    let mut bits: Vec<u64> = numbers.iter().map(|x| x.to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    let distinct = match kind {
        "numeric" if with_numbers => bits.len(),
        "categorical" => texts.len(),
        _ => distinct_booleans as usize,
    };
    let cell = match distinct {
        _ if is_numeric && !with_numbers => Cell::Null("not_configured"),
        many if many > TOLD_APART => Cell::About(many as f64),
        few => Cell::Number(few as f64),
    };
    put(&mut cells, "distinct", cell);
    let all_equal = match kind {
        "numeric" => numbers.iter().all(|x| x.to_bits() == numbers[0].to_bits()),
        "categorical" => texts.len() == 1,
        _ => distinct_booleans < 2.0,
    };
    let constant = f64::from(u8::from(all_equal && of_kind > 1));
    figure(&mut cells, "is_constant", if of_kind == 0 { Err("no_values") } else { Ok(constant) });
    numeric(&mut cells, is_numeric.then_some(numbers));
    top(&mut cells, &if kind == "categorical" { texts } else { BTreeMap::new() });
    cells
}

fn numeric(cells: &mut Cells, numbers: Option<Vec<f64>>) {
    let reason = if numbers.is_none() { "not_applicable" } else { "no_values" };
    let mut numbers = numbers.unwrap_or_default();
    numbers.sort_by(f64::total_cmp);
    let n = numbers.len();
    let ends = numbers.first().zip(numbers.last());
    figure(cells, "min", ends.map(|(least, _)| *least).ok_or(reason));
    figure(cells, "max", ends.map(|(_, greatest)| *greatest).ok_or(reason));
    let mean = divide(careful_sum(numbers.iter().copied()), n, reason);
    figure(cells, "mean", mean);
    let deviation: Figure = mean.and_then(|mean| {
        if n < 2 {
            return Err("too_few_samples");
        }
        let squares = careful_sum(numbers.iter().map(|x| (x - mean).powi(2)));
        Ok((squares / (n - 1) as f64).sqrt())
    });
    figure(cells, "sd", deviation);
    for (name, percent) in [("p01", 1), ("p25", 25), ("p50", 50), ("p75", 75), ("p99", 99)] {
        let rank = (percent * n).div_ceil(100).max(1);
        let quantile =
            ends.map(|(least, greatest)| middle(numbers[rank - 1]).clamp(*least, *greatest));
        figure(cells, name, quantile.ok_or(reason));
    }
}

/// The middle of the cell of a number. Numbers of the outermost cells have none: clamped, it is the extreme.
fn middle(x: f64) -> f64 {
    if x.abs() >= 2.0_f64.powi(63) * 63.0 / 64.0 {
        return x.signum() * f64::INFINITY;
    }
    let mut floor = 0.5_f64.powi(64);
    if x.abs() < floor {
        return 0.0;
    }
    while x.abs() >= 2.0 * floor {
        floor *= 2.0;
    }
    let step = floor / STEPS;
    x.signum() * (floor + (((x.abs() - floor) / step).floor() + 0.5) * step)
}

/// The most frequent of all texts, if those that are not told apart came less often than it, all of them together.
fn top(cells: &mut Cells, texts: &BTreeMap<&str, usize>) {
    let mut best = ("", 0);
    for (&text, &n) in texts {
        if n > best.1 {
            best = (text, n);
        }
    }
    let told = told_apart(texts.keys().copied());
    let hidden = texts.iter().filter(|(text, _)| !told.contains(*text));
    let hidden: usize = hidden.map(|(_, n)| n).sum();
    if !told.contains(&best.0) || best.1 <= hidden {
        best = ("", 0);
    }
    put(cells, "top_category", Cell::Text(best.0.to_owned()));
    count(cells, "top_category_n", best.1);
}
