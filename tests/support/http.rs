//! One HTTP request at a time over a connection of its own: enough for tests, and independent of
//! the clients that the program uses.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// As text; bytes that are none are replaced.
    pub body: String,
}

/// `GET` of a URL such as `http://127.0.0.1:8123/ping`.
pub fn get(url: &str) -> io::Result<Answer> {
    request("GET", url, &[], b"")
}

/// One request with a body. `url` is `http://host:port/path?query`, percent-encoded by the caller.
pub fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let rest = url.strip_prefix("http://").expect("tests use plain http");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // Version 1.0: the answer is neither chunked nor kept alive, so it ends where the stream ends.
    let mut head = format!("{method} /{path} HTTP/1.0\r\nHost: {authority}\r\n");
    for (name, value) in headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {head:?}")))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
