//! Records from files: JSON Lines, CSV and Parquet, in the order of the files' names and of their rows.
//!
//! A row becomes the JSON object that a topic would carry, so that one decoder, its field paths and its checks serve
//! both: a column `features.amount` is entry `amount` of `features`, an empty cell is a field that is not there, what
//! Parquet knows as a time becomes milliseconds since 1970-01-01 UTC, and what it knows as a UUID the usual text.

mod list;
mod folder;
mod digests;
mod taken;
mod object;
mod lines;
mod csv;
mod parquet;
pub mod ahead;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use digests::Digests;
pub use folder::{Folder, Landed};
pub use list::{File, FileFormat, FileList};
pub use taken::{Next, Taken, TakenFile};

/// Which columns the records are made of. Other columns are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Dotted paths of all that may be used; a path stands for everything below it too.
    pub wanted: Vec<String>,
    /// Of these there must be one column for each list: a field may have several places.
    pub required: Vec<Vec<String>>,
    /// Paths of maps, whose entries are named by all that follows: of `features.a.b` the feature is `a.b`.
    pub maps: Vec<String>,
    /// Paths of single values. Where one lies below a map, its dots part names as they do elsewhere.
    pub values: Vec<String>,
    /// Columns whose CSV cells are text, whatever they look like: IDs and names may consist of digits.
    pub text: Vec<String>,
    /// Columns whose CSV cells are truth values or else text: whether something went wrong, or what.
    pub truth_or_text: Vec<String>,
    /// CSV cells that stand for a value that is not there, beside empty ones and NaN.
    pub nulls: Vec<String>,
    /// Rows in which all of these are missing are left out; with no path here, none is.
    pub given: Vec<String>,
}

impl Columns {
    /// Whether a column of that name is one of `wanted`, holds one, or lies below one.
    pub fn wants(&self, column: &str) -> bool {
        self.wanted.iter().any(|path| is_within(column, path) || is_within(path, column))
    }

    /// The names on the way to the value of a column, from the record on.
    fn names<'a>(&'a self, column: &'a str) -> Vec<&'a str> {
        let entry = |map: &'a String| {
            let name = column.strip_prefix(map.as_str())?.strip_prefix('.')?;
            Some((map.as_str(), name))
        };
        let deepest = self.maps.iter().filter_map(entry).max_by_key(|(map, _)| map.len());
        match deepest {
            Some((map, name)) if !self.values.iter().any(|path| path == column) => {
                map.split('.').chain([name]).collect()
            }
            _ => column.split('.').collect(),
        }
    }

    /// Whether a row is to be left out. One that can't be read is not: who decodes it will say what is wrong.
    fn leaves_out(&self, object: &[u8]) -> bool {
        let is_missing = |path: &String| match sonic_rs::get(object, path.split('.')) {
            Ok(value) => value.as_raw_str() == "null",
            Err(error) => error.is_not_found(),
        };
        !self.given.is_empty() && self.given.iter().all(is_missing)
    }

    /// Refuses a file that lacks a column without which no row of it can be used.
    fn check(&self, file: &Path, found: &[String]) -> Result<(), FileError> {
        let has = |path: &String| found.iter().any(|c| is_within(c, path) || is_within(path, c));
        match self.required.iter().find(|paths| !paths.iter().any(has)) {
            None => Ok(()),
            Some(paths) => Err(FileError::MissingColumn {
                file: file.to_owned(),
                column: paths.join("` or `"),
                found: found.join(", "),
            }),
        }
    }
}

/// Whether a dotted path is another one or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Why files can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A pattern that no file fits.
    #[error("no file fits `{pattern}`: correct the path, or quote the pattern")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// The file can't be opened or read.
    #[error("can't read {file}: {reason}")]
    Unreadable {
        /// The file or pattern.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The name does not say how the file is written.
    #[error(
        "{file} ends in none of .jsonl, .ndjson, .json, .csv, .tsv, .parquet: rename or convert it"
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
    },
    /// Parquet, compressed in a way that is not read.
    #[error("{file} is compressed with {codec}: write it with Snappy, with Zstandard or without")]
    Compression {
        /// The file.
        file: PathBuf,
        /// The compression.
        codec: String,
    },
    /// No byte in it.
    #[error("{file} is empty: leave it out, or write it again")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// A column that every record needs is not there.
    #[error("{file} has no column `{column}`, only {found}: add it, or name its place in `fields`")]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// The column, or those of which one would do.
        column: String,
        /// What there is.
        found: String,
    },
    /// What stands there is not of the format.
    #[error("{file}, record {record}: {reason}")]
    Broken {
        /// The file.
        file: PathBuf,
        /// The record within the file, from 1 on; 0 is the file as a whole.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file was written to while it was read.
    #[error("{file} had {was} bytes at the start and has {is} now: run again when it is complete")]
    Changed {
        /// The file.
        file: PathBuf,
        /// Its size at the start.
        was: u64,
        /// Its size now.
        is: u64,
    },
    /// A file that a job has taken holds more or less than it did then.
    #[error(
        "{file} ends at offset {is} of the job and ended at {was} when it was taken: put it back as it was"
    )]
    OtherRecords {
        /// The file.
        file: PathBuf,
        /// Where it ended.
        was: i64,
        /// Where it ends.
        is: i64,
    },
    /// The list of files taken lies in tables that were put back to an older state.
    #[error(
        "the tables were put back to an older state, and with them the list of files taken: start again"
    )]
    WentBack,
}

impl FileError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMatch { .. } => "file_missing",
            Self::Unreadable { .. } => "file_unreadable",
            Self::UnknownFormat { .. } | Self::Compression { .. } => "file_format",
            Self::Empty { .. } => "file_empty",
            Self::MissingColumn { .. } => "file_column_missing",
            Self::Broken { .. } => "file_broken",
            Self::Changed { .. } => "file_changed",
            Self::OtherRecords { .. } => "file_not_as_taken",
            Self::WentBack => "files_went_back",
        }
    }
}

/// Why a record can't be given, in words.
enum Fault {
    /// The system can't read the file, which says nothing about what stands there.
    System(String),
    /// What stands there is not of the format.
    Content(String),
}

impl Fault {
    /// What the error of a reader means. Decompressors too give errors of I/O, but without a number of the system.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = std::iter::successors(Some(error), |error| error.source());
        let is_systems = |error: &std::io::Error| error.raw_os_error().is_some();
        if chain.any(|error| error.downcast_ref().is_some_and(is_systems)) {
            Self::System(error.to_string())
        } else {
            Self::Content(error.to_string())
        }
    }

    /// The same, with more words about the content.
    fn worded(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Content(reason) => Self::Content(words(reason)),
            system @ Self::System(_) => system,
        }
    }

    /// The error of the file; record 0 is the file as a whole.
    fn at(self, file: &File, record: u64) -> FileError {
        let file = file.path.clone();
        match self {
            Self::System(reason) => FileError::Unreadable { file, reason },
            Self::Content(reason) => FileError::Broken { file, record, reason },
        }
    }
}

/// One kind of file.
trait Rows: Send {
    /// Puts the next record into the emptied `object`; its number in the file, from 1 on, or none at the end.
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault>;
    /// How much of the file is read, from 0 to 1.
    fn share(&self) -> f64;
    /// The names of all columns, also of those that are not read; none where the format has no columns.
    fn columns(&self) -> &[String] {
        &[]
    }
}

/// Reads the records of a list of files, one after the other.
pub struct FileReader {
    files: FileList,
    columns: Columns,
    /// Which file is read, or comes next.
    index: usize,
    /// Bytes of the files before it.
    bytes_before: u64,
    current: Option<Box<dyn Rows>>,
    /// The offset of the current file's first record.
    first_offset: i64,
    /// Rows of the current file so far, gaps and those that are left out included.
    row: u64,
    /// Rows of all files so far that were left out.
    left_out: u64,
    /// The offset after the last record that was given.
    position: i64,
    object: Vec<u8>,
}

/// One record of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRecord<'a> {
    /// Its place in the whole list: ascends, with gaps where a line is blank or left out.
    pub offset: i64,
    /// One JSON object.
    pub object: &'a [u8],
}

/// Which file of the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePlace<'a> {
    /// Its index in the list.
    pub file: usize,
    /// Where it is.
    pub path: &'a Path,
    /// The offset of its first record.
    pub first_offset: i64,
}

impl FileReader {
    /// A reader at the first record.
    pub fn new(files: FileList, columns: Columns) -> Self {
        Self {
            files,
            columns,
            index: 0,
            bytes_before: 0,
            current: None,
            first_offset: 0,
            row: 0,
            left_out: 0,
            position: 0,
            object: Vec::new(),
        }
    }

    /// The same, where the first record has this offset.
    #[must_use]
    pub fn starting_at(self, first_offset: i64) -> Self {
        Self { first_offset, position: first_offset, ..self }
    }

    /// Adds a file that is read after the last, where its first record has this offset.
    pub fn push(&mut self, file: File, first_offset: i64) {
        self.files.push(file);
        (self.first_offset, self.position) = (first_offset, first_offset);
    }

    /// Whether all that was read ends there: behind the last record, or behind the rows that were left out after it,
    /// which earlier versions counted when they took a file.
    pub fn ends_at(&self, offset: i64) -> bool {
        [self.position, self.first_offset].contains(&offset)
    }

    /// Opens every file: what is wrong with its format or columns shows before anything is read. The names of all
    /// columns that there are.
    pub fn check(&self) -> Result<BTreeSet<String>, FileError> {
        let mut names = BTreeSet::new();
        for file in self.files.files() {
            names.extend(open(file, &self.columns)?.columns().iter().cloned());
        }
        Ok(names)
    }

    /// The next record; none after the last.
    pub fn next_record(&mut self) -> Result<Option<FileRecord<'_>>, FileError> {
        loop {
            let Some(file) = self.files.files().get(self.index) else { return Ok(None) };
            let rows = match &mut self.current {
                Some(rows) => rows,
                current => current.insert(open(file, &self.columns)?),
            };
            self.object.clear();
            let next = rows.next(&mut self.object).map_err(|fault| fault.at(file, self.row + 1))?;
            if let Some(row) = next {
                self.row = row;
                if self.columns.leaves_out(&self.object) {
                    self.left_out += 1;
                    continue;
                }
                break;
            }
            file.check_unchanged()?;
            self.current = None;
            self.index += 1;
            self.bytes_before += file.bytes;
            self.first_offset += signed(self.row);
            self.row = 0;
        }
        self.position = self.first_offset + signed(self.row);
        Ok(Some(FileRecord { offset: self.position - 1, object: &self.object }))
    }

    /// The offset after the last record that was read. Rows that are left out after it take up none.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Rows so far that were left out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The file that was read to its end last; none before the first.
    pub fn last_path(&self) -> Option<PathBuf> {
        let last = self.index.checked_sub(1)?;
        self.files.files().get(last).map(|file| file.path.clone())
    }

    /// The file that is read; none after the last.
    pub fn place(&self) -> Option<FilePlace<'_>> {
        let (file, first_offset) = (self.index, self.first_offset);
        self.files.files().get(file).map(|of| FilePlace { file, path: &of.path, first_offset })
    }

    /// Bytes read, about.
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure for people"
    )]
    pub fn bytes_read(&self) -> u64 {
        let file = self.files.files().get(self.index);
        let share = self.current.as_ref().map_or(0.0, |rows| rows.share());
        self.bytes_before + file.map_or(0.0, |file| file.bytes as f64 * share) as u64
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("no file has 2^63 records")
}

fn open(file: &File, columns: &Columns) -> Result<Box<dyn Rows>, FileError> {
    if file.lacks_a_header() {
        return Err(FileError::Empty { file: file.path.clone() });
    }
    file.check_unchanged()?;
    Ok(match file.format {
        FileFormat::Lines => Box::new(lines::LineRows::open(file)?),
        FileFormat::Csv { delimiter } => Box::new(csv::CsvRows::open(file, delimiter, columns)?),
        FileFormat::Parquet => Box::new(parquet::ParquetRows::open(file, columns)?),
    })
}

/// An error of the system about a file.
fn unreadable(file: &Path, error: &std::io::Error) -> FileError {
    FileError::Unreadable { file: file.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
