//! JSON Lines.

use std::io::{BufRead as _, BufReader};

use super::{Fault, File, FileError, Rows, unreadable};

/// A longer line is no record.
const LINE_BYTES_MAX: usize = 64 << 20;

pub(super) struct LineRows {
    reader: BufReader<std::fs::File>,
    bytes: u64,
    read: u64,
    line: u64,
}

impl LineRows {
    pub(super) fn open(file: &File) -> Result<Self, FileError> {
        let open =
            std::fs::File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        let reader = BufReader::with_capacity(1 << 20, open);
        Ok(Self { reader, bytes: file.bytes, read: 0, line: 0 })
    }

    /// One line with its end; false after the last.
    fn line(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        loop {
            let part = self.reader.fill_buf().map_err(|error| Fault::of(&error))?;
            if part.is_empty() {
                return Ok(!out.is_empty());
            }
            let end = part.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(part.len());
            out.extend_from_slice(&part[..taken]);
            self.reader.consume(taken);
            self.read += u64::try_from(taken).expect("usize is at most 64 bits");
            if out.len() > LINE_BYTES_MAX {
                return Err(Fault::Content(format!(
                    "a line of more than {LINE_BYTES_MAX} bytes: write one JSON object on each line"
                )));
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

impl Rows for LineRows {
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        while self.line(object)? {
            self.line += 1;
            if self.line == 1 && object.starts_with(b"\xef\xbb\xbf") {
                object.drain(..3);
            }
            let text = object.trim_ascii();
            if self.line == 1 && text.starts_with(b"[") {
                let reason = "holds an array: write one JSON object on each line";
                return Err(Fault::Content(reason.to_owned()));
            }
            if !text.is_empty() {
                object.truncate(object.trim_ascii_end().len());
                return Ok(Some(self.line));
            }
            object.clear();
        }
        Ok(None)
    }

    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    fn share(&self) -> f64 {
        self.read as f64 / self.bytes.max(1) as f64
    }
}
