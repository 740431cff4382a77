//! One HTTP request after the other, each read whole before it goes on, each answer likewise: so that a fault can aim
//! at certain requests, and be put at a certain point of one.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::{Instant, sleep, sleep_until};

use super::bytes::Lane;
use super::{Connection, Cut, Did, Way};

/// What can happen to one request or its answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// The server answers 200, then the connection is reset; the answer is lost. Other answers pass, and do not count.
    CutAnswer,
    /// The same after half of the answer.
    CutAnswerHalfWay,
    /// The server answers 200, and nothing more ever comes: half-open.
    LoseAnswer,
    /// Half of the body goes on, then both sides get a reset.
    CutBody,
    /// Half of the body goes on, then nothing more ever comes on either side: half-open.
    LoseBody,
    /// Half of the body goes on, then the server sees an end; the client gets a reset.
    EndBody,
    /// The server never sees the request; the proxy answers.
    Answer(Reply),
    /// The server does as asked and says so (200); the proxy answers something else.
    ReplaceAnswer(Reply),
    /// The server's answer (200) comes byte by byte over so many milliseconds.
    Drip { lasts_ms: u64 },
}

/// Answers of the proxy's own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reply {
    /// 200 with `X-ClickHouse-Exception-Code`.
    ExceptionInHeader,
    /// 200, rows, then an exception as ClickHouse up to 25.10 puts it there.
    ExceptionInBody,
    /// 200, rows, then an exception between marks, as ClickHouse from 25.11 on puts it there.
    MarkedExceptionInBody,
    /// The same, in pieces of a few bytes.
    MarkedExceptionInPieces,
    /// 400 with ClickHouse's words.
    BadRequest,
    /// 404 of something that is not ClickHouse.
    NotFound,
    /// 429 of something that is not ClickHouse.
    TooMany,
    /// 500 with ClickHouse's words.
    ServerError,
    /// 503 of something that is not ClickHouse, without a body.
    Unavailable,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    inserts_only: bool,
    table: Option<&'static str>,
}

impl Aim {
    /// Any request.
    pub const ANY: Self = Self { inserts_only: false, table: None };
    /// Any insert.
    pub const INSERTS: Self = Self { inserts_only: true, table: None };

    /// Any insert into this table, named without its database.
    pub const fn inserts_into(table: &'static str) -> Self {
        Self { inserts_only: true, table: Some(table) }
    }

    fn is_at(self, request: &Message) -> bool {
        let table = request.insert_table();
        let is_insert = table.is_some();
        (is_insert || !self.inserts_only)
            && (self.table.is_none() || self.table == table.as_deref())
    }
}

/// A fault that is to be made.
pub(super) struct Order {
    pub(super) fault: Fault,
    pub(super) aim: Aim,
    pub(super) left: usize,
}

/// A request or an answer: its first line and headers with the empty line, and the bytes behind them as they came.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// None where the stream ends before it begins.
    async fn read(from: &mut BufReader<ReadHalf<'_>>) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut head).await? == 0 {
                let is_cut = !head.is_empty();
                return if is_cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut message = Self { head, body: Vec::new() };
        message.read_body(from).await?;
        Ok(Some(message))
    }

    async fn read_body(&mut self, from: &mut BufReader<ReadHalf<'_>>) -> io::Result<()> {
        let is_chunked =
            self.header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"));
        if is_chunked {
            while self.read_chunk(from).await? > 0 {}
            return Ok(());
        }
        if let Some(length) = self.header("content-length") {
            let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            self.body.resize(length, 0);
            from.read_exact(&mut self.body).await?;
        } else if self.head.starts_with("HTTP/") && !matches!(self.status(), 204 | 304) {
            from.read_to_end(&mut self.body).await?;
        }
        Ok(())
    }

    /// Its size; the last one, of size 0, with the lines behind it.
    async fn read_chunk(&mut self, from: &mut BufReader<ReadHalf<'_>>) -> io::Result<usize> {
        let start = self.body.len();
        from.read_until(b'\n', &mut self.body).await?;
        let line = String::from_utf8_lossy(&self.body[start..]).into_owned();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size > 0 {
            let begin = self.body.len();
            self.body.resize(begin + size + 2, 0);
            from.read_exact(&mut self.body[begin..]).await?;
            return Ok(size);
        }
        loop {
            let start = self.body.len();
            if from.read_until(b'\n', &mut self.body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.body[start..] == *b"\r\n" {
                return Ok(0);
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        named.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Of an answer; 0 where it has none.
    fn status(&self) -> u16 {
        let code = self.head.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The table of an INSERT, which stands in the query of the URL or at the beginning of the body.
    fn insert_table(&self) -> Option<String> {
        let mut words = self.head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (_, parameters) = target.split_once('?').unwrap_or_default();
        let asked = parameters.split('&').find_map(|pair| pair.strip_prefix("query="));
        let asked = asked.map_or_else(
            || String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned(),
            unescaped,
        );
        let (_, rest) = (method == "POST").then(|| asked.split_once("INSERT INTO "))??;
        let name = rest.split([' ', '(']).next()?.replace('`', "");
        Some(name.rsplit('.').next().unwrap_or(&name).to_owned())
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    /// Up to the middle of the body.
    fn half(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body[..self.body.len() / 2]].concat()
    }
}

/// Text as a URL carries it.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) async fn carry(
    connection: &Connection,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> Result<(), Cut> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut front = Front {
        connection,
        from_client: BufReader::new(from_client),
        from_server: BufReader::new(from_server),
        up: Lane { connection, way: Way::ToServer, out: to_server },
        down: Lane { connection, way: Way::ToClient, out: to_client },
    };
    while front.exchange().await? {}
    Ok(())
}

struct Front<'a> {
    connection: &'a Connection,
    from_client: BufReader<ReadHalf<'a>>,
    from_server: BufReader<ReadHalf<'a>>,
    up: Lane<'a>,
    down: Lane<'a>,
}

impl Front<'_> {
    /// One request and its answer; false where the connection has ended.
    async fn exchange(&mut self) -> Result<bool, Cut> {
        let request = tokio::select! {
            request = Message::read(&mut self.from_client) => request?,
            // A server that hangs up between requests, or speaks unasked.
            _ = self.from_server.fill_buf() => None,
        };
        let Some(request) = request else { return Ok(false) };
        match self.take_fault(&request) {
            None => {
                let Some(answer) = self.ask(&request).await? else { return Ok(false) };
                self.give(&answer.bytes()).await?;
            }
            Some(Fault::CutBody) => {
                self.up.send(&request.half()).await?;
                self.made(Fault::CutBody);
                return Err(Cut);
            }
            Some(Fault::LoseBody) => {
                self.up.send(&request.half()).await?;
                self.made(Fault::LoseBody);
                self.be_deaf().await;
            }
            Some(Fault::EndBody) => {
                self.up.send(&request.half()).await?;
                self.up.out.shutdown().await?;
                self.made(Fault::EndBody);
                // Whatever the server says to that is lost.
                tokio::io::copy(&mut self.from_server, &mut sink()).await?;
                return Err(Cut);
            }
            Some(fault @ Fault::Answer(reply)) => {
                self.made(fault);
                self.give_pieces(reply).await?;
            }
            Some(fault) => return self.answer_with(fault, &request).await,
        }
        Ok(true)
    }

    /// The server gets the request; faults of its answer.
    async fn answer_with(&mut self, fault: Fault, request: &Message) -> Result<bool, Cut> {
        let Some(answer) = self.ask(request).await? else {
            self.put_back(fault, request);
            return Ok(false);
        };
        if answer.status() != 200 {
            self.put_back(fault, request);
            self.give(&answer.bytes()).await?;
            return Ok(true);
        }
        self.made(fault);
        match fault {
            Fault::CutAnswerHalfWay => {
                let bytes = answer.bytes();
                self.give(&bytes[..bytes.len() / 2]).await?;
            }
            Fault::ReplaceAnswer(reply) => self.give_pieces(reply).await?,
            Fault::LoseAnswer => self.be_deaf().await,
            Fault::Drip { lasts_ms } => {
                let (begun, bytes) = (Instant::now(), answer.bytes());
                let each =
                    Duration::from_millis(lasts_ms) / u32::try_from(bytes.len()).unwrap_or(1);
                for (byte, number) in bytes.iter().zip(1..) {
                    sleep_until(begun + each * number).await;
                    self.down.send(&[*byte]).await?;
                }
                return Ok(true);
            }
            _ => {}
        }
        let goes_on = matches!(fault, Fault::ReplaceAnswer(_));
        if goes_on { Ok(true) } else { Err(Cut) }
    }

    /// Sends the request to the server, and reads its answer.
    async fn ask(&mut self, request: &Message) -> Result<Option<Message>, Cut> {
        self.connection.hold_back(Way::ToServer).await;
        self.up.send(&request.bytes()).await?;
        if self.connection.loses(Way::ToServer) {
            self.be_deaf().await;
        }
        let answer = Message::read(&mut self.from_server).await?;
        self.connection.hold_back(Way::ToClient).await;
        Ok(answer)
    }

    async fn give(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.down.send(bytes).await?;
        if self.connection.loses(Way::ToClient) {
            self.be_deaf().await;
        }
        Ok(())
    }

    async fn give_pieces(&mut self, reply: Reply) -> Result<(), Cut> {
        for piece in reply.pieces() {
            self.give(&piece).await?;
            if matches!(reply, Reply::MarkedExceptionInPieces) {
                // Each piece is to be a segment of its own, which the client reads by itself.
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Takes what comes and tells nobody, until the proxy ends the connection.
    async fn be_deaf(&mut self) {
        let (mut nowhere, mut nowhere_too) = (sink(), sink());
        let from_client = tokio::io::copy(&mut self.from_client, &mut nowhere);
        let from_server = tokio::io::copy(&mut self.from_server, &mut nowhere_too);
        drop(tokio::join!(from_client, from_server));
        std::future::pending().await
    }

    fn take_fault(&self, request: &Message) -> Option<Fault> {
        self.connection.mode(|modes| {
            let mut orders = modes.requests.iter_mut();
            let order = orders.find(|order| order.left > 0 && order.aim.is_at(request))?;
            order.left -= 1;
            Some(order.fault)
        })
    }

    /// The fault did not come to pass; the next such request will do.
    fn put_back(&self, fault: Fault, request: &Message) {
        self.connection.mode(|modes| {
            let mut orders = modes.requests.iter_mut();
            let is_it = |order: &&mut Order| order.fault == fault && order.aim.is_at(request);
            if let Some(order) = orders.find(is_it) {
                order.left += 1;
            }
        });
    }

    fn made(&self, fault: Fault) {
        self.connection.shared.count(Did::Http(fault));
    }
}

const TAG: &str = "rnywyenlaeqynhmu";
const SAID: &str = "Code: 241. DB::Exception: Memory limit exceeded by the proxy. \
                    (MEMORY_LIMIT_EXCEEDED) (version 26.7.2.1 (official build))\n";

fn answer(status: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl Reply {
    pub const ALL: [Self; 9] = [
        Self::ExceptionInHeader,
        Self::ExceptionInBody,
        Self::MarkedExceptionInBody,
        Self::MarkedExceptionInPieces,
        Self::BadRequest,
        Self::NotFound,
        Self::TooMany,
        Self::ServerError,
        Self::Unavailable,
    ];

    fn pieces(self) -> Vec<Vec<u8>> {
        let rows = "1\t2\n3\t4\n";
        let header = format!("X-ClickHouse-Exception-Tag: {TAG}\r\n");
        let said_length = SAID.len();
        let marked = format!(
            "{rows}\r\n__exception__\r\n{TAG}\r\n{SAID}{said_length} {TAG}\r\n__exception__\r\n"
        );
        let whole = match self {
            Self::ExceptionInHeader => {
                answer("200 OK", "X-ClickHouse-Exception-Code: 241\r\n", SAID)
            }
            Self::ExceptionInBody => answer("200 OK", "", &format!("{rows}{SAID}")),
            Self::MarkedExceptionInBody | Self::MarkedExceptionInPieces => {
                answer("200 OK", &header, &marked)
            }
            Self::BadRequest => {
                answer("400 Bad Request", "X-ClickHouse-Exception-Code: 241\r\n", SAID)
            }
            Self::NotFound => answer("404 Not Found", "", "<html>no such page</html>"),
            Self::TooMany => answer("429 Too Many Requests", "Retry-After: 1\r\n", "slow down"),
            Self::ServerError => {
                answer("500 Internal Server Error", "X-ClickHouse-Exception-Code: 241\r\n", SAID)
            }
            Self::Unavailable => answer("503 Service Unavailable", "", ""),
        };
        match self {
            Self::MarkedExceptionInPieces => whole.chunks(13).map(<[u8]>::to_vec).collect(),
            _ => vec![whole],
        }
    }
}
