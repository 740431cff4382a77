//! Models with several classes, models that predict numbers, and calibration against `tasks.json`, written by `tasks.py`
//! with scikit-learn, scipy and statsmodels.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json};
use tidegauge::engine::metrics::accumulator::{Accumulator, FigureContext, Undefined, Value};
use tidegauge::engine::metrics::calibration::CalibrationInput;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::multiclass::MulticlassInput;
use tidegauge::engine::metrics::regression::RegressionInput;
use tidegauge::engine::metrics::{Families, MetricTable};

use crate::golden::is_near;

static GOLDEN: LazyLock<Json> =
    LazyLock::new(|| serde_json::from_str(include_str!("tasks.json")).unwrap());

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().unwrap()
}

fn numbers(json: &Json) -> Vec<f64> {
    list(json).iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Folds the records into three states, each of which is written and read back, and merges them.
fn folded<T>(records: impl IntoIterator<Item = T>, fold: impl Fn(&mut Families, T)) -> Families {
    let mut parts = [(); 3].map(|()| Families::default());
    for (at, record) in records.into_iter().enumerate() {
        fold(&mut parts[at % 3], record);
    }
    let mut all = Families::default();
    for part in parts {
        all.merge(&Families::restore(&part.state(), ClassCaps::DEFAULT).unwrap());
    }
    all
}

fn rows(families: &Families, table: MetricTable) -> Vec<Vec<Value>> {
    let context = FigureContext { window_ms: 300_000, ..FigureContext::default() };
    let all = families.figures(&context).into_iter();
    all.filter(|(of, _)| *of == table).map(|(_, row)| row).collect()
}

/// A figure of a row, or the reason why there is none.
fn look(table: MetricTable, row: &[Value], name: &str) -> Result<f64, &'static str> {
    let at = table.columns().iter().position(|column| column.name == name);
    match row[at.unwrap_or_else(|| panic!("{} has no {name}", table.name()))] {
        Value::Count(count) => Ok(f64::from(u32::try_from(count).unwrap())),
        Value::Figure(figure) => figure.map_err(Undefined::code),
        ref other => panic!("{name} is {other:?}"),
    }
}

/// Absolute errors in cells: from 2^-64 on within 1/256, what is less counts as 0.
fn is_in_cell(found: f64, raw: f64) -> bool {
    let floor = 0.5_f64.powi(64);
    if raw < floor { found == 0.0 } else { (found - raw).abs() <= raw / 256.0 }
}

/// Whether it shares the last cell of absolute errors with all that are greater.
fn is_beyond_cells(raw: &Json) -> bool {
    raw.as_f64().is_some_and(|raw| raw >= 2.0_f64.powi(63) - 2.0_f64.powi(55))
}

fn check(table: MetricTable, row: &[Value], expected: &Map<String, Json>, case: &str) {
    for (name, expected) in expected {
        let at = format!("{case}: {}.{name}", table.name());
        let found = |name: &str| look(table, row, name);
        match (name.strip_prefix("raw_"), expected) {
            (_, Json::String(reason)) => assert_eq!(found(name), Err(reason.as_str()), "{at}"),
            (Some(name), raw) if is_beyond_cells(raw) => {
                assert_eq!(found(name), Err("overflow"), "{at}");
            }
            (Some(name @ "abs_error_max"), expected) => {
                let (found, raw) = (found(name).unwrap(), expected.as_f64().unwrap());
                assert!(raw <= found, "{at}: {found} {raw}");
                assert!(
                    found <= (raw * (1.0 + 1.0 / 128.0)).max(0.5_f64.powi(64)),
                    "{at}: {found}"
                );
            }
            (Some(name), expected) => {
                let (found, raw) = (found(name).unwrap(), expected.as_f64().unwrap());
                assert!(is_in_cell(found, raw), "{at}: {found} {raw}");
            }
            (None, expected) => {
                let found = found(name).unwrap_or_else(|reason| panic!("{at} is {reason}"));
                let expected = expected.as_f64().unwrap();
                assert!(is_near(found, expected), "{at} is {found}, not {expected}");
            }
        }
    }
}

fn the_row(families: &Families, table: MetricTable, case: &str) -> Vec<Value> {
    let mut rows = rows(families, table);
    assert_eq!(rows.len(), 1, "{case}: rows of {}", table.name());
    rows.remove(0)
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

#[test]
fn classes_are_measured_as_by_scikit_learn() {
    let cases = list(&GOLDEN["classes"]);
    assert!(cases.len() >= 15);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let families = folded(list(&case["records"]), |families, record| {
            let scores: Vec<(&str, f64)> = record[2].as_object().map_or(Vec::new(), |scores| {
                scores.iter().map(|(class, score)| (&**class, score.as_f64().unwrap())).collect()
            });
            let multiclass = families.multiclass.get_mut();
            multiclass.add(&MulticlassInput::Inference);
            multiclass.add(&MulticlassInput::Labelled {
                predicted: record[1].as_str(),
                actual: record[0].as_str().unwrap(),
                scores: &scores,
                weight: None,
            });
        });
        let of = |table: MetricTable| case[table.name()].as_object().unwrap();
        let table = MetricTable::QualityMulticlass;
        check(table, &the_row(&families, table, name), of(table), name);
        let table = MetricTable::QualityClasses;
        let found = rows(&families, table);
        let classes: Vec<&str> = found.iter().map(|row| text(&row[0])).collect();
        assert_eq!(classes, of(table).keys().collect::<Vec<_>>(), "{name}");
        for row in &found {
            let expected = of(table)[text(&row[0])].as_object().unwrap();
            check(table, row, expected, &format!("{name}, {}", text(&row[0])));
        }
        let cells = rows(&families, MetricTable::Confusion).into_iter().map(|row| match &row[..] {
            [actual, predicted, Value::Count(n), _] => {
                serde_json::json!([text(actual), text(predicted), n])
            }
            other => panic!("{other:?} is no cell"),
        });
        assert_eq!(cells.collect::<Vec<_>>(), *list(&case["confusion"]), "{name}");
    }
}

#[test]
fn numbers_are_measured_as_by_scikit_learn() {
    let cases = list(&GOLDEN["numbers"]);
    assert!(cases.len() >= 15);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let pairs = numbers(&case["labels"]).into_iter().zip(numbers(&case["predictions"]));
        let mut families = folded(pairs, |families, (actual, predicted)| {
            let pair = RegressionInput::Labelled { predicted, actual, weight: None };
            families.regression.get_mut().add(&pair);
        });
        families.regression.get_mut().add(&RegressionInput::Inference);
        let table = MetricTable::QualityRegression;
        let expected = case[table.name()].as_object().unwrap();
        check(table, &the_row(&families, table, name), expected, name);
    }
}

#[test]
fn calibration_is_measured_as_by_scikit_learn() {
    let cases = list(&GOLDEN["calibration"]);
    assert!(cases.len() >= 10);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let labels = list(&case["labels"]).iter().map(|label| label.as_u64() == Some(1));
        let pairs = numbers(&case["scores"]).into_iter().zip(labels);
        let families = folded(pairs, |families, (score, positive)| {
            families.calibration.get_mut().add(&CalibrationInput { score, positive, weight: None });
        });
        let table = MetricTable::Calibration;
        let expected = case[table.name()].as_object().unwrap();
        check(table, &the_row(&families, table, name), expected, name);
        let table = MetricTable::CalibrationBins;
        let expected = case[table.name()].as_object().unwrap();
        let found = rows(&families, table);
        assert_eq!(found.len(), expected.len(), "{name}: bins");
        for row in &found {
            let bin = look(table, row, "bin").unwrap().to_string();
            check(table, row, expected[&bin].as_object().unwrap(), &format!("{name}, bin {bin}"));
        }
    }
}
