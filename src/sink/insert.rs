//! One insert over HTTP, and which answer acknowledges it.
//!
//! Not the client crate's own: that one shows the answer to nobody, and takes every 200 for success whose last piece
//! does not look like an exception, so that rows would be lost behind an exception that arrives in two pieces or
//! behind a gateway's friendly page.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use clickhouse::error::Error;
use http_body::{Body, Frame};
use reqwest::{Client, Response, Url};

use crate::client::http_client;

/// A server that does not even take a connection is tried again soon.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below the 3 s after which older servers hang up, so that no insert meets a closing connection.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Rows compressed at once.
const FRAME_BYTES: usize = 1 << 20;
/// So much of an answer that is no acknowledgement says enough.
const ANSWER_BYTES: usize = 16 << 10;
/// What ClickHouse says in every answer, and hardly anything else does.
const QUERY_ID: &str = "X-ClickHouse-Query-Id";
const EXCEPTION_CODE: &str = "X-ClickHouse-Exception-Code";

/// The server, and as whom.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) url: &'a str,
    pub(super) user: &'a str,
    /// Empty where the user has none.
    pub(super) password: &'a str,
}

/// A pool of connections for inserts; clones share it.
#[derive(Clone)]
pub(super) struct Inserts {
    client: Client,
}

impl Inserts {
    /// Where there is none, why: `https` needs CA certificates.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let client = http_client(url, |builder| {
            let builder = builder.connect_timeout(CONNECT_TIMEOUT).pool_idle_timeout(IDLE_TIMEOUT);
            // An insert that a redirect makes a GET of does nothing, and may be answered with 200.
            builder.redirect(reqwest::redirect::Policy::none()).no_proxy()
        })?;
        Ok(Self { client })
    }

    /// Sends the rows, compressed piece by piece, and waits for the acknowledgement.
    pub(super) async fn send(
        &self,
        login: Login<'_>,
        sql: &str,
        rows: &Bytes,
        settings: impl Iterator<Item = (&str, &str)>,
    ) -> Result<(), Error> {
        let mut url = Url::parse(login.url).map_err(|error| Error::InvalidParams(error.into()))?;
        url.query_pairs_mut()
            .clear()
            .append_pair("query", sql)
            .append_pair("decompress", "1")
            .extend_pairs(settings);
        let mut request = self.client.post(url).header("X-ClickHouse-User", login.user);
        if !login.password.is_empty() {
            request = request.header("X-ClickHouse-Key", login.password);
        }
        let body = reqwest::Body::wrap(Compressed { rest: rows.clone() });
        let answer = request.body(body).send().await.map_err(network)?;
        acknowledged(answer).await
    }
}

/// The URL may hold a secret.
fn network(error: reqwest::Error) -> Error {
    Error::Network(Box::new(error.without_url()))
}

/// ClickHouse acknowledges with status 200, its own header, no exception's code, and not a byte of body.
async fn acknowledged(mut answer: Response) -> Result<(), Error> {
    let status = answer.status();
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let is_its = header(QUERY_ID).is_some();
    let exception = header(EXCEPTION_CODE).map(|code| format!("Code: {code}"));
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES {
        match answer.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            // Of a failure the status says enough.
            Err(_) if status != 200 => break,
            Err(error) => return Err(network(error)),
        }
    }
    if status == 200 && exception.is_none() && body.is_empty() && is_its {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body);
    let text = text.find("Code: ").map_or(&*text, |at| &text[at..]).trim();
    Err(Error::BadResponse(match (exception, text) {
        (_, text) if text.starts_with("Code: ") => text.to_owned(),
        (Some(exception), text) => format!("{exception}. {text}"),
        (None, text) if status == 200 => {
            format!("200, but not as ClickHouse acknowledges an insert: {text:?}")
        }
        (None, text) => format!("{status} {text}").trim().to_owned(),
    }))
}

/// Rows in ClickHouse's own compressed frames, made as the connection takes them.
struct Compressed {
    rest: Bytes,
}

impl Body for Compressed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.rest.len().min(FRAME_BYTES);
        let piece = self.rest.split_to(most);
        Poll::Ready(Some(Ok(Frame::data(compressed(&piece)))))
    }
}

/// 16 bytes of `CityHash`, the method, both lengths, LZ4.
/// <https://clickhouse.com/docs/en/native-protocol/compression>
fn compressed(piece: &[u8]) -> Bytes {
    const METHOD_LZ4: u8 = 0x82;
    const HEADER_BYTES: usize = 9;
    let data = lz4_flex::block::compress(piece);
    let length = |bytes: usize| u32::try_from(bytes).expect("a piece is a mebibyte");
    let mut frame = BytesMut::with_capacity(16 + HEADER_BYTES + data.len());
    frame.put_u128_le(0);
    frame.put_u8(METHOD_LZ4);
    frame.put_u32_le(length(HEADER_BYTES + data.len()));
    frame.put_u32_le(length(piece.len()));
    frame.put_slice(&data);
    let hash = cityhash_rs::cityhash_102_128(&frame[16..]).rotate_right(64);
    frame[..16].copy_from_slice(&hash.to_le_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sent_whole_in_frames_of_known_lengths() {
        let rows: Bytes = (0..700_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let mut body = Compressed { rest: rows.clone() };
        let mut back = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            let frame = frame.into_data().unwrap();
            let length = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
            assert_eq!(usize::try_from(length(17)).unwrap(), frame.len() - 16);
            let whole = usize::try_from(length(21)).unwrap();
            back.extend(lz4_flex::block::decompress(&frame[25..], whole).unwrap());
        }
        assert!(back == rows, "{} of {} bytes", back.len(), rows.len());
    }
}
