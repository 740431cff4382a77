//! CSV. Its cells have no types, so what looks like a number or a truth value is one, but for names and IDs. Empty
//! cells and NaN are no value in any column; other words for that, which may as well be names, the user says.

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::object::{self, Shape};
use super::{Columns, Fault, File, FileError, Rows, unreadable};

/// What the cells of a column may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    /// What they look like.
    Any,
    Text,
    TruthOrText,
}

impl Cells {
    fn of(column: &str, columns: &Columns) -> Self {
        let is_one_of = |paths: &[String]| paths.iter().any(|path| path == column);
        if is_one_of(&columns.text) {
            Self::Text
        } else if is_one_of(&columns.truth_or_text) {
            Self::TruthOrText
        } else {
            Self::Any
        }
    }
}

pub(super) struct CsvRows {
    reader: Reader<std::fs::File>,
    row: ByteRecord,
    shape: Shape,
    /// By column.
    cells: Vec<Cells>,
    /// What stands for no value.
    nulls: Vec<String>,
    bytes: u64,
    number: u64,
}

impl CsvRows {
    pub(super) fn open(file: &File, delimiter: u8, columns: &Columns) -> Result<Self, FileError> {
        let open =
            std::fs::File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        let mut reader =
            ReaderBuilder::new().delimiter(delimiter).buffer_capacity(1 << 20).from_reader(open);
        let header = reader.headers().map_err(|error| {
            fault(&error).worded(|reason| format!("the header: {reason}")).at(file, 0)
        })?;
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        columns.check(&file.path, &names)?;
        let used = names.iter().enumerate().filter(|(_, name)| columns.wants(name));
        let shape = Shape::new(used.map(|(i, name)| (i, name.as_str())), columns)
            .map_err(|reason| Fault::Content(reason).at(file, 0))?;
        let cells = names.iter().map(|name| Cells::of(name, columns)).collect();
        let nulls = columns.nulls.iter().map(|null| null.trim().to_owned()).collect();
        let row = ByteRecord::new();
        Ok(Self { reader, row, shape, cells, nulls, bytes: file.bytes, number: 0 })
    }
}

impl Rows for CsvRows {
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        if !self.reader.read_byte_record(&mut self.row).map_err(|error| fault(&error))? {
            return Ok(None);
        }
        self.number += 1;
        let mut wrong = None;
        self.shape.write(object, &mut |column, out| match std::str::from_utf8(
            self.row.get(column).unwrap_or_default(),
        ) {
            Ok(cell) if is_null(cell.trim(), &self.nulls) => {}
            Ok(cell) => cell_value(out, cell, self.cells[column]),
            Err(_) => wrong = Some(column + 1),
        });
        match wrong {
            Some(column) => {
                let reason = format!("cell {column} is not UTF-8: write the file in UTF-8");
                Err(Fault::Content(reason))
            }
            None => Ok(Some(self.number)),
        }
    }

    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    fn share(&self) -> f64 {
        self.reader.position().byte() as f64 / self.bytes.max(1) as f64
    }
}

/// The crate's errors do not name their cause as others do.
fn fault(error: &::csv::Error) -> Fault {
    match error.kind() {
        ErrorKind::Io(error) => Fault::of(error),
        _ => Fault::of(error),
    }
}

/// Whether a cell stands for a value that is not there.
fn is_null(bare: &str, nulls: &[String]) -> bool {
    bare.is_empty() || bare.eq_ignore_ascii_case("nan") || nulls.iter().any(|null| null == bare)
}

fn cell_value(out: &mut Vec<u8>, cell: &str, cells: Cells) {
    match cell.trim() {
        _ if cells == Cells::Text => object::text(out, cell),
        "true" | "True" | "TRUE" => out.extend_from_slice(b"true"),
        "false" | "False" | "FALSE" => out.extend_from_slice(b"false"),
        bare if cells == Cells::TruthOrText => match bare.parse() {
            Ok(1.0) => out.extend_from_slice(b"true"),
            Ok(0.0) => out.extend_from_slice(b"false"),
            _ => object::text(out, cell),
        },
        "inf" | "Infinity" => object::number(out, f64::INFINITY),
        "-inf" | "-Infinity" => object::number(out, f64::NEG_INFINITY),
        bare if is_number(bare) => out.extend_from_slice(bare.as_bytes()),
        _ => object::text(out, cell),
    }
}

/// Whether it is a number in JSON's notation; `007` is a name.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let starts = digits.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    starts && serde_json::from_str::<serde_json::Number>(text).is_ok()
}
