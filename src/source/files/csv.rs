//! CSV. Its cells have no types, so what looks like a number or a truth value is one, but for names and IDs. Empty
//! cells and NaN are no value in any column; other words for that, which may as well be names, the user says.

use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

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
    path: PathBuf,
    delimiter: u8,
    reader: Reader<std::fs::File>,
    row: ByteRecord,
    names: Vec<String>,
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
        if let [only] = &names[..]
            && let Some(other) = [';', '\t', '|', ','].iter().find(|sign| only.contains(**sign))
        {
            let reason = format!(
                "the header is one cell that holds {other:?}: separate cells by commas in .csv, by tabs in .tsv"
            );
            return Err(Fault::Content(reason).at(file, 0));
        }
        columns.check(&file.path, &names)?;
        let used = names.iter().enumerate().filter(|(_, name)| columns.wants(name));
        let shape = Shape::new(used.map(|(i, name)| (i, name.as_str())), columns)
            .map_err(|reason| Fault::Content(reason).at(file, 0))?;
        let cells = names.iter().map(|name| Cells::of(name, columns)).collect();
        let nulls = columns.nulls.iter().map(|null| null.trim().to_owned()).collect();
        let row = ByteRecord::new();
        let (path, bytes) = (file.path.clone(), file.bytes);
        Ok(Self { path, delimiter, reader, row, names, shape, cells, nulls, bytes, number: 0 })
    }

    /// Refuses a record that ends with the file where a quote is open: it holds all records behind that quote.
    fn check_closed(&self) -> Result<(), Fault> {
        let Some(start) = self.row.position() else { return Ok(()) };
        let open = || -> std::io::Result<bool> {
            let mut file = std::fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(start.byte()))?;
            ends_in_quotes(BufReader::new(file), self.delimiter)
        };
        if !open().map_err(|error| Fault::of(&error))? {
            return Ok(());
        }
        let line = start.line();
        Err(Fault::Content(format!(
            "a cell opens with a quote in line {line} or later, and no quote closes it: close it, and double each quote \
             within"
        )))
    }
}

/// Whether a quote is open at the end of what begins with a record; quotes count as the reader counts them.
fn ends_in_quotes(bytes: impl std::io::BufRead, delimiter: u8) -> std::io::Result<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Begin,
        Bare,
        Quoted,
        Quote,
    }
    let mut at = At::Begin;
    for byte in bytes.bytes() {
        at = match (at, byte?) {
            (At::Quoted, b'"') => At::Quote,
            (At::Begin | At::Quote, b'"') | (At::Quoted, _) => At::Quoted,
            (_, b'\n' | b'\r') => At::Begin,
            (_, other) if other == delimiter => At::Begin,
            _ => At::Bare,
        };
    }
    Ok(at == At::Quoted)
}

impl Rows for CsvRows {
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        let read = self.reader.read_byte_record(&mut self.row);
        // A record that has swallowed others may have too few cells too.
        if !matches!(read, Ok(false)) && self.reader.position().byte() >= self.bytes {
            self.check_closed()?;
        }
        if !read.map_err(|error| fault(&error))? {
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

    fn columns(&self) -> &[String] {
        &self.names
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
        bare => match number(bare) {
            Some(Number::Written) => out.extend_from_slice(bare.as_bytes()),
            Some(Number::Other(value)) => object::number(out, value),
            None => object::text(out, cell),
        },
    }
}

enum Number {
    /// In JSON's notation.
    Written,
    /// As other programs write numbers.
    Other(f64),
}

/// The number that a cell is: also `.5`, `5.`, an infinity in any case, and what is beyond every double. `007` is a name,
/// and `+49` may be a part of one.
fn number(bare: &str) -> Option<Number> {
    let digits = bare.strip_prefix('-').unwrap_or(bare);
    let mut bytes = digits.bytes();
    let (first, second) = (bytes.next()?, bytes.next());
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
    let is_infinite = ["inf", "infinity"].iter().any(|word| digits.eq_ignore_ascii_case(word));
    let is_numeric = match first {
        b'0' => !is_digit(second),
        b'.' => is_digit(second),
        _ => first.is_ascii_digit() || is_infinite,
    };
    if !is_numeric {
        return None;
    }
    if serde_json::from_str::<serde_json::Number>(bare).is_ok() {
        return Some(Number::Written);
    }
    bare.parse().ok().map(Number::Other)
}
