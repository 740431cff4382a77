//! What cells of CSV are, and where a record ends.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{columns, list, read, read_of, write};
use crate::source::files::Columns;

#[test]
fn cells_without_a_value_are_empty_ones_nan_and_those_that_the_user_says() {
    let folder = TempDir::new().unwrap();
    let text = "request_id,model,timestamp,version,prediction,features.a,features.b,features.c\n\
                r,m,5,None,None,NA,null,-999\n\
                s,m,5,NaN,nan, NAN ,,NULL\n\
                t,m,5,NA,Na,-999.0, NA ,N/A\n";
    let path = write(&folder, "a.csv", text);
    let fixed = |id: &str| json!({"request_id": id, "model": "m", "timestamp": 5});
    let with = |id: &str, more: Value| {
        let mut object = fixed(id);
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let found = |nulls: &[&str]| -> Vec<Value> {
        let columns = Columns { nulls: list(nulls), ..columns() };
        read_of(&path, columns).unwrap().into_iter().map(|(_, record)| record).collect()
    };
    let expected = [
        with(
            "r",
            json!({"version": "None", "prediction": "None",
                   "features": {"a": "NA", "b": "null", "c": -999}}),
        ),
        with("s", json!({"features": {"c": "NULL"}})),
        with(
            "t",
            json!({"version": "NA", "prediction": "Na",
                   "features": {"a": -999.0, "b": " NA ", "c": "N/A"}}),
        ),
    ];
    assert_eq!(found(&[]), expected);
    let expected = [
        with("r", json!({"version": "None", "prediction": "None", "features": {"b": "null"}})),
        with("s", json!({"features": {"c": "NULL"}})),
        with("t", json!({"prediction": "Na", "features": {"a": -999.0, "c": "N/A"}})),
    ];
    assert_eq!(found(&["NA", "-999"]), expected);
}

#[test]
fn numbers_of_csv_are_those_of_other_programs_too() {
    let folder = TempDir::new().unwrap();
    let of = |cell: &str| {
        let text = format!("request_id,model,timestamp,features.a\nr,m,5,{cell}\n");
        let path = write(&folder, "a.csv", text);
        read(&path).unwrap().remove(0).1["features"]["a"].clone()
    };
    let cases = [(".5", 0.5), ("-.25", -0.25), ("5.", 5.0), ("-0.5", -0.5), ("1e-3", 1e-3)];
    for (cell, number) in cases {
        assert_eq!(of(cell), json!(number), "{cell}");
    }
    for cell in ["inf", "Inf", "INF", "infinity", "Infinity", "1e400", "-Inf", "-1e999"] {
        let sign = if cell.starts_with('-') { -1.0 } else { 1.0 };
        assert_eq!(of(cell), json!(f64::MAX * sign), "{cell}");
    }
    for cell in ["007", "+49", ".", "-", "1.2.3", "info", "0x10", "1_000", "e5", "-.", "00.5"] {
        assert_eq!(of(cell), json!(cell), "it is text");
    }
}

#[test]
fn quotes_that_close_at_the_end_of_a_file_are_closed() {
    let folder = TempDir::new().unwrap();
    let header = "request_id,model,timestamp";
    for last in
        ["\"m\",1", "m,\"1\"", "\"a\"\"b\",\"1\"", "\"two\nlines\",1", "5\" \"\",1", "\"a\"b\",1"]
    {
        for end in ["", "\n", "\r\n"] {
            let path = write(&folder, "a.csv", format!("{header}\nr,m,1\nr,{last}{end}"));
            assert_eq!(read(&path).unwrap().len(), 2, "{last:?} {end:?}");
        }
    }
}

#[test]
fn a_truth_value_of_a_column_of_truth_values_or_text_is_one_and_another_number_is_text() {
    let folder = TempDir::new().unwrap();
    // Whoever keeps whole numbers in a column with gaps writes them as doubles.
    let text =
        "request_id,error\na,False\nb,TRUE\nc,\nd,NaN\ne,timeout\nf,500\ng,0\nh,1\ni,0.0\nj,1.0\n";
    let path = write(&folder, "a.csv", text);
    let columns = Columns {
        wanted: list(&["request_id", "error"]),
        truth_or_text: list(&["error"]),
        ..Columns::default()
    };
    let expected = [
        json!({"request_id": "a", "error": false}),
        json!({"request_id": "b", "error": true}),
        json!({"request_id": "c"}),
        json!({"request_id": "d"}),
        json!({"request_id": "e", "error": "timeout"}),
        json!({"request_id": "f", "error": "500"}),
        json!({"request_id": "g", "error": false}),
        json!({"request_id": "h", "error": true}),
        json!({"request_id": "i", "error": false}),
        json!({"request_id": "j", "error": true}),
    ];
    let found = read_of(&path, columns).unwrap().into_iter();
    assert_eq!(found.map(|(_, record)| record).collect::<Vec<_>>(), expected);
}
