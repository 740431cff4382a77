//! Records of files, or of a range of topics, that can't be used: counted, the first ones told, and all written to a
//! file where one is named.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{DeadLetter, DeadLetters, SinkError};
use crate::source::feed::FeedProgress;

/// So many are told in the log.
const TOLD: u64 = 10;

/// Where records come from.
#[derive(Debug)]
enum Places {
    Files(FeedProgress),
    /// The topics' names, inferences first.
    Topics([String; 2]),
}

/// Takes the records that can't be used of a [`Feed`](crate::source::feed::Feed) or of ranges of topics.
#[derive(Debug)]
pub struct Rejected {
    places: Places,
    file: Option<(PathBuf, File)>,
    count: u64,
}

impl Rejected {
    /// Adds to `file`, one JSON object for each record: `file`, `record`, `code`, `reason` and the `payload` as text.
    pub fn new(places: FeedProgress, file: Option<&Path>) -> Result<Self, SinkError> {
        Self::of(Places::Files(places), file)
    }

    /// The same for records of topics, with `topic`, `partition` and `offset` in place of `file` and `record`.
    pub fn of_topics(names: [&str; 2], file: Option<&Path>) -> Result<Self, SinkError> {
        Self::of(Places::Topics(names.map(str::to_owned)), file)
    }

    fn of(places: Places, file: Option<&Path>) -> Result<Self, SinkError> {
        let open = |path: &Path| {
            let open = File::options().create(true).append(true).open(path);
            open.map(|file| (path.to_owned(), file)).map_err(|error| unwritable(path, &error))
        };
        Ok(Self { places, file: file.map(open).transpose()?, count: 0 })
    }

    fn line(&self, letter: &DeadLetter) -> (String, String) {
        let record = &letter.record;
        let payload = record.payload.as_deref().map(String::from_utf8_lossy);
        let (code, reason) = (letter.code, &letter.reason);
        let (place, line) = match &self.places {
            Places::Files(places) => {
                let place = places.place(record.stream, record.offset.0);
                let (file, number) = place.unwrap_or_default();
                let line = serde_json::json!({
                    "file": file.to_string_lossy(), "record": number,
                    "code": code, "reason": reason, "payload": payload,
                });
                (format!("{}, record {number}", file.display()), line)
            }
            Places::Topics(names) => {
                let (partition, offset) = (record.partition.0, record.offset.0);
                let topic = &names[record.stream.index()];
                let line = serde_json::json!({
                    "topic": topic, "partition": partition, "offset": offset,
                    "code": code, "reason": reason, "payload": payload,
                });
                (format!("topic {topic}, partition {partition}, offset {offset}"), line)
            }
        };
        (place, format!("{line}\n"))
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> SinkError {
    SinkError::Rejected(format!("{}: {error}", path.display()))
}

impl DeadLetters for Rejected {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let mut text = String::new();
        for letter in letters {
            let (place, line) = self.line(letter);
            if self.count < TOLD {
                tracing::warn!(%place, code = letter.code, reason = %letter.reason, "rejected");
            }
            self.count += 1;
            text.push_str(&line);
        }
        if let Some((path, file)) = &mut self.file {
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
            written.map_err(|error| unwritable(path, &error))?;
        }
        Ok(())
    }
}
