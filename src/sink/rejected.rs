//! Records of files, or of a range of topics, that can't be used: counted, the first ones told, and all written to a
//! file where one is named.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{DeadLetter, DeadLetters, RecordBuf, SinkError};
use crate::engine::event::{Offset, PartitionId};
use crate::source::feed::FeedProgress;

/// So many are told in the log.
const TOLD: u64 = 10;
/// So many bytes of lines at most wait for the file.
const WAITING_BYTES: usize = 64 << 10;

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In a file: the record's number in it, from 1 on.
    File(PathBuf, i64),
    /// In a topic.
    Topic(&'a str, PartitionId, Offset),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, number) => write!(f, "{}, record {number}", file.display()),
            Self::Topic(topic, partition, offset) => {
                write!(f, "topic {topic}, partition {}, offset {}", partition.0, offset.0)
            }
        }
    }
}

impl Place<'_> {
    fn line(&self, code: &str, reason: &dyn fmt::Display, payload: Option<&[u8]>) -> String {
        let payload = payload.map(String::from_utf8_lossy);
        let mut line = serde_json::json!({
            "code": code, "reason": reason.to_string(), "payload": payload,
        });
        match self {
            Self::File(file, number) => {
                line["file"] = file.to_string_lossy().into();
                line["record"] = (*number).into();
            }
            Self::Topic(topic, partition, offset) => {
                line["topic"] = (*topic).into();
                line["partition"] = partition.0.into();
                line["offset"] = offset.0.into();
            }
        }
        format!("{line}\n")
    }
}

/// The file that such records are added to, or none.
#[derive(Debug, Default)]
pub struct RejectedFile {
    file: Option<(PathBuf, File)>,
    /// Lines that are not written yet.
    waiting: String,
}

impl RejectedFile {
    /// Makes the file where it is not there.
    pub fn open(path: Option<&Path>) -> Result<Self, SinkError> {
        let open = |path: &Path| {
            let open = File::options().create(true).append(true).open(path);
            open.map(|file| (path.to_owned(), file)).map_err(|error| unwritable(path, &error))
        };
        Ok(Self { file: path.map(open).transpose()?, waiting: String::new() })
    }

    /// Adds a record as one JSON object: its place (`file` and `record`, or `topic`, `partition` and `offset`), `code`,
    /// `reason` and the `payload` as text. The file has it after the next [`write`](Self::write).
    pub fn add(
        &mut self,
        place: &Place<'_>,
        code: &str,
        reason: &dyn fmt::Display,
        payload: Option<&[u8]>,
    ) -> Result<(), SinkError> {
        if self.file.is_none() {
            return Ok(());
        }
        self.waiting.push_str(&place.line(code, reason, payload));
        if self.waiting.len() < WAITING_BYTES { Ok(()) } else { self.write() }
    }

    /// Writes what waits.
    pub fn write(&mut self) -> Result<(), SinkError> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.write_all(self.waiting.as_bytes()).map_err(|error| unwritable(path, &error))?;
        self.waiting.clear();
        Ok(())
    }

    /// Waits until the disk has what was written.
    fn sync(&self) -> Result<(), SinkError> {
        let Some((path, file)) = &self.file else { return Ok(()) };
        file.sync_data().map_err(|error| unwritable(path, &error))
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> SinkError {
    SinkError::Rejected(format!("{}: {error}", path.display()))
}

/// Where records come from.
#[derive(Debug)]
enum Places {
    Files(FeedProgress),
    /// The topics' names, inferences first.
    Topics([String; 2]),
}

impl Places {
    fn of(&self, record: &RecordBuf) -> Place<'_> {
        match self {
            Self::Files(progress) => {
                let place = progress.place(record.stream, record.offset.0);
                let (file, number) = place.unwrap_or_default();
                Place::File(file, number)
            }
            Self::Topics(names) => {
                Place::Topic(&names[record.stream.index()], record.partition, record.offset)
            }
        }
    }
}

/// Takes the records that can't be used of a [`Feed`](crate::source::feed::Feed) or of ranges of topics.
#[derive(Debug)]
pub struct Rejected {
    places: Places,
    file: RejectedFile,
    count: u64,
}

impl Rejected {
    /// Of files; all are added to `file`.
    pub fn new(places: FeedProgress, file: Option<&Path>) -> Result<Self, SinkError> {
        Self::of(Places::Files(places), file)
    }

    /// The same for records of topics of these names.
    pub fn of_topics(names: [&str; 2], file: Option<&Path>) -> Result<Self, SinkError> {
        Self::of(Places::Topics(names.map(str::to_owned)), file)
    }

    fn of(places: Places, file: Option<&Path>) -> Result<Self, SinkError> {
        Ok(Self { places, file: RejectedFile::open(file)?, count: 0 })
    }
}

impl DeadLetters for Rejected {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        for letter in letters {
            let place = self.places.of(&letter.record);
            if self.count < TOLD {
                tracing::warn!(%place, code = letter.code, reason = %letter.reason, "rejected");
            }
            self.count += 1;
            let payload = letter.record.payload.as_deref();
            self.file.add(&place, letter.code, &letter.reason, payload)?;
        }
        self.file.write()?;
        self.file.sync()
    }
}
