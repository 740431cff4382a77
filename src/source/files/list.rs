//! Which files: paths and patterns, each file once, in the order of the names.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::{FileError, unreadable};

/// Begins a digest of all bytes. Earlier versions looked at both ends only, and theirs begin with a hex digit.
const WHOLE: &str = "whole-";
/// So many bytes at either end of a file go into a digest of its ends.
const END_BYTES: u64 = 64 << 10;
/// So many bytes are hashed at once.
const PART_BYTES: u64 = 1 << 20;

/// How a file is written; its name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object on each line: `.jsonl`, `.ndjson`, `.json`.
    Lines,
    /// A header, then one record for each row: `.csv`, `.tsv`.
    Csv {
        /// Between two cells.
        delimiter: u8,
    },
    /// `.parquet`.
    Parquet,
}

/// One file, as it was when the list was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// How it is written.
    pub format: FileFormat,
    /// Its size.
    pub bytes: u64,
}

impl File {
    /// The file at a path, as it is now. Refused where it is a folder, empty, or named after no format.
    pub fn find(path: PathBuf) -> Result<Self, FileError> {
        let file = Self::look(path)?;
        if file.bytes == 0 { Err(FileError::Empty { file: file.path }) } else { Ok(file) }
    }

    /// The same of a file that is known to be complete: without a byte, one of lines has no record.
    fn find_complete(path: PathBuf) -> Result<Self, FileError> {
        let file = Self::look(path)?;
        if file.lacks_a_header() { Err(FileError::Empty { file: file.path }) } else { Ok(file) }
    }

    /// Whether it has no byte, and its format needs some.
    pub(super) fn lacks_a_header(&self) -> bool {
        self.bytes == 0 && self.format != FileFormat::Lines
    }

    fn look(path: PathBuf) -> Result<Self, FileError> {
        let about = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if about.is_dir() {
            let reason = "it is a folder: name its files, like 'FOLDER/*.parquet'".to_owned();
            return Err(FileError::Unreadable { file: path, reason });
        }
        let Some(format) = format_of(&path) else {
            return Err(FileError::UnknownFormat { file: path });
        };
        Ok(Self { path, format, bytes: about.len() })
    }

    /// Refuses a file that somebody writes to.
    pub(super) fn check_unchanged(&self) -> Result<(), FileError> {
        let about =
            std::fs::metadata(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if about.len() != self.bytes {
            let (was, is) = (self.bytes, about.len());
            return Err(FileError::Changed { file: self.path.clone(), was, is });
        }
        Ok(())
    }
}

fn format_of(path: &Path) -> Option<FileFormat> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "jsonl" | "ndjson" | "json" => FileFormat::Lines,
        "csv" => FileFormat::Csv { delimiter: b',' },
        "tsv" => FileFormat::Csv { delimiter: b'\t' },
        "parquet" | "pq" => FileFormat::Parquet,
        _ => return None,
    })
}

/// The files of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList(Vec<File>);

impl From<File> for FileList {
    fn from(file: File) -> Self {
        Self(vec![file])
    }
}

impl FileList {
    /// All files that fit the paths and patterns (`*`, `?`, `[ab]`, `**` for folders), pattern by pattern, by name.
    pub fn find(patterns: &[String]) -> Result<Self, FileError> {
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for pattern in patterns {
            let mut found = matching(pattern)?;
            found.sort();
            for path in found {
                if seen.insert(path.clone()) {
                    files.push(File::find_complete(path)?);
                }
            }
        }
        Ok(Self(files))
    }

    /// One file after the last.
    pub fn push(&mut self, file: File) {
        self.0.push(file);
    }

    /// They, in the order in which they are read.
    pub fn files(&self) -> &[File] {
        &self.0
    }

    /// All their bytes.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.bytes).sum()
    }

    /// Digest of names, sizes and all bytes of all files: other files have another one. Reads them through, and tells
    /// `read` how many bytes it has read since it told last.
    pub fn digest(&self, mut read: impl FnMut(u64)) -> Result<String, FileError> {
        let digest = self.hash(|file, hash| whole(file, hash, &mut read))?;
        Ok(format!("{WHOLE}{digest}"))
    }

    /// The digest that earlier versions gave them: says nothing of what lies between both ends of a file.
    pub fn digest_of_ends(&self) -> Result<String, FileError> {
        self.hash(ends)
    }

    /// In hex; `add` adds what a file holds.
    fn hash(
        &self,
        mut add: impl FnMut(&File, &mut Xxh3) -> std::io::Result<()>,
    ) -> Result<String, FileError> {
        let mut hash = Xxh3::new();
        for file in &self.0 {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            hash.update(name.as_bytes());
            hash.update(&[0]);
            hash.update(&file.bytes.to_le_bytes());
            add(file, &mut hash).map_err(|error| unreadable(&file.path, &error))?;
        }
        Ok(format!("{:032x}", hash.digest128()))
    }
}

/// Whether an earlier version gave this digest, which is of both ends only.
pub(super) fn is_of_ends(digest: &str) -> bool {
    !digest.starts_with(WHOLE)
}

fn whole(file: &File, hash: &mut Xxh3, read: &mut impl FnMut(u64)) -> std::io::Result<()> {
    // What has been added since the list was made is refused by whoever reads the records.
    let mut rest = std::fs::File::open(&file.path)?.take(file.bytes);
    let mut part = Vec::new();
    loop {
        part.clear();
        let bytes = rest.by_ref().take(PART_BYTES).read_to_end(&mut part)?;
        if bytes == 0 {
            return Ok(());
        }
        hash.update(&part);
        read(u64::try_from(bytes).unwrap_or(PART_BYTES));
    }
}

fn ends(file: &File, hash: &mut Xxh3) -> std::io::Result<()> {
    let mut open = std::fs::File::open(&file.path)?;
    for start in [0, file.bytes.saturating_sub(END_BYTES)] {
        open.seek(SeekFrom::Start(start))?;
        let mut part = Vec::new();
        open.by_ref().take(END_BYTES).read_to_end(&mut part)?;
        hash.update(&part);
    }
    Ok(())
}

/// A path that exists is taken as it is, whatever signs it holds.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    if Path::new(pattern).exists() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let unusable = |reason: String| FileError::Unreadable { file: pattern.into(), reason };
    let paths = glob::glob(pattern).map_err(|error| unusable(error.to_string()))?;
    let found: Result<Vec<PathBuf>, _> = paths.collect();
    let mut found = found.map_err(|error| unusable(error.to_string()))?;
    found.retain(|path| !path.is_dir());
    if found.is_empty() {
        return Err(FileError::NoMatch { pattern: pattern.to_owned() });
    }
    Ok(found)
}
