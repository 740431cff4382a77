//! The proxy that makes network faults: each of them does what it says, and is counted.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::net::TcpSocket;

use crate::support::proxy::front::Reply;
use crate::support::proxy::{Aim, Coordinator, Did, Fault, Kind, Proxy, Way};
use crate::support::services::Kafka;
use crate::support::{http, wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
/// How long what is held up takes at least, and how long nothing is waited for.
const A_WHILE: Duration = Duration::from_millis(300);

/// A server whose connections run `serve`, for as long as the test program does.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// Gives back each byte.
fn echo() -> u16 {
    server(|mut stream| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    })
}

fn try_connect(proxy: &Proxy) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy.address())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

fn connect(proxy: &Proxy) -> TcpStream {
    try_connect(proxy).unwrap()
}

fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

/// What a connection of its own meets. One that is reset at once can fail while it is made, or later.
fn greet(proxy: &Proxy) -> io::Result<Vec<u8>> {
    say(&mut try_connect(proxy)?, b"hello")
}

fn took<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
    let begun = std::time::Instant::now();
    let done = work();
    (begun.elapsed(), done)
}

#[test]
fn bytes_pass_both_ways_also_many() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut stream = connect(&proxy);
    let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for piece in text.chunks(50_000) {
        assert_eq!(say(&mut stream, piece).unwrap(), piece);
    }
    assert_eq!((proxy.did(Did::Connect), proxy.open()), (1, 1));
    drop(stream);
    wait_until("the connection's end", DEADLINE, || proxy.open() == 0);
    assert_eq!(proxy.counts().len(), 1);
}

#[test]
fn delay_holds_bytes_back_and_loses_none() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut stream = connect(&proxy);
    say(&mut stream, b"at once").unwrap();
    for way in Way::BOTH {
        proxy.delay(way, A_WHILE);
    }
    let (time, back) = took(|| say(&mut stream, b"later"));
    assert_eq!(back.unwrap(), b"later");
    assert!(time >= A_WHILE * 2, "{time:?}");
    assert_eq!(proxy.did(Did::Delay), 2);
    proxy.pass();
    say(&mut stream, b"at once again").unwrap();
    assert_eq!(proxy.did(Did::Delay), 2, "nothing is held back any more");
}

#[test]
fn trickle_gives_so_many_bytes_a_second() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut stream = connect(&proxy);
    proxy.trickle(Way::ToClient, 1000);
    let text = [7; 500];
    let (time, back) = took(|| say(&mut stream, &text));
    assert_eq!(back.unwrap(), text);
    assert!(time > Duration::from_millis(400) && time < Duration::from_secs(20), "{time:?}");
    assert!(proxy.did(Did::Trickle) > 0);
}

#[test]
fn reset_is_seen_as_one() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut first = connect(&proxy);
    say(&mut first, b"here").unwrap();
    assert_eq!(proxy.reset_all(), 1);
    let seen = first.read(&mut [0]).unwrap_err();
    assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
    proxy.reset_next(1);
    greet(&proxy).unwrap_err();
    greet(&proxy).unwrap();
    assert_eq!(proxy.did(Did::Reset), 2);
}

#[test]
fn half_open_connection_loses_bytes_and_ends_and_stays_so() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    for (half_open, way) in (1..).zip(Way::BOTH) {
        let mut stream = connect(&proxy);
        say(&mut stream, b"heard").unwrap();
        proxy.lose(way);
        stream.write_all(b"lost").unwrap();
        // Else the bytes may come when they pass again.
        wait_until("the loss", DEADLINE, || proxy.did(Did::Lose) == half_open);
        stream.set_read_timeout(Some(A_WHILE)).unwrap();
        let nothing = stream.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "{way:?}");
        proxy.pass();
        stream.write_all(b"lost too").unwrap();
        assert!(stream.read(&mut [0]).is_err());
        // Others do not suffer. Their end would be lost too, if it came after the next loss has begun.
        say(&mut connect(&proxy), b"heard").unwrap();
        wait_until("the end of the other", DEADLINE, || proxy.open() == half_open);
    }
    assert_eq!(proxy.did(Did::Lose), 2);
}

#[test]
fn refused_connections_leave_open_ones_and_the_port_alone() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut stream = connect(&proxy);
    say(&mut stream, b"here").unwrap();
    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        say(&mut stream, b"still here").unwrap();
        proxy.pass();
        say(&mut connect(&proxy), b"again").unwrap();
    }
    assert_eq!(proxy.did(Did::Refuse), 3);
}

#[test]
fn server_that_is_away_is_away_behind_the_proxy_too() {
    // Bound, so that nobody else can listen there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::start(Kind::Bytes, held.local_addr().unwrap().port());
    greet(&proxy).unwrap_err();
    assert_eq!(proxy.did(Did::NotConnect), 1);
    proxy.aim_at(echo());
    greet(&proxy).unwrap();
}

#[test]
fn faults_can_be_for_one_process() {
    let proxy = Proxy::start(Kind::Bytes, echo());
    let mut stream = connect(&proxy);
    say(&mut stream, b"here").unwrap();
    proxy.only(1);
    proxy.lose(Way::ToServer);
    assert_eq!(proxy.reset_all(), 0);
    say(&mut stream, b"init suffers, not this").unwrap();
    proxy.pass();
    proxy.only(std::process::id());
    assert_eq!(proxy.reset_all(), 1);
    assert!(stream.read(&mut [0]).is_err());
}

/// A server that takes notes of the requests it has read whole, and answers each with its number.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(String, usize)>>>);

impl Notes {
    fn all(&self) -> Vec<(String, usize)> {
        self.0.lock().unwrap().clone()
    }

    /// The first line and the number of body bytes of the next request.
    fn read(from: &mut BufReader<TcpStream>) -> io::Result<(String, usize)> {
        let (mut first, mut length) = (String::new(), 0);
        from.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        from.read_exact(&mut vec![0; length])?;
        Ok((first, length))
    }

    fn serve(&self) -> u16 {
        let notes = self.clone();
        server(move |stream| {
            let mut to = stream.try_clone().unwrap();
            let mut from = BufReader::new(stream);
            while let Ok(request) = Self::read(&mut from) {
                let number = {
                    let mut notes = notes.0.lock().unwrap();
                    notes.push(request);
                    notes.len().to_string()
                };
                let length = number.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                if to.write_all(format!("{head}{number}").as_bytes()).is_err() {
                    return;
                }
            }
        })
    }
}

const MARKS: &str = "?query=INSERT+INTO+%60db%60.%60marks%60+FORMAT+TSV";
const SEALS: &str = "?query=INSERT%20INTO%20db.seals%20FORMAT%20TSV";

/// One request over a connection of its own that stays open behind it.
fn post(proxy: &Proxy, query: &str, body: &[u8]) -> io::Result<http::Answer> {
    let mut stream = connect(proxy);
    let length = body.len();
    write!(stream, "POST /{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(body)?;
    let mut from = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    for line in head.lines() {
        length = line.strip_prefix("Content-Length: ").map_or(length, |it| it.parse().unwrap());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(http::Answer { status, head, body: String::from_utf8(body).unwrap() })
}

#[test]
fn requests_and_answers_pass_in_turn_over_one_connection() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    let mut stream = connect(&proxy);
    for number in ["1", "2", "3"] {
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut back = [0; 39];
        stream.read_exact(&mut back).unwrap();
        assert!(String::from_utf8_lossy(&back).ends_with(&format!("\r\n\r\n{number}")));
    }
    assert_eq!(proxy.did(Did::Connect), 1);
}

#[test]
fn cut_answer_comes_after_the_server_has_done_it() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    for fault in [Fault::CutAnswer, Fault::CutAnswerHalfWay] {
        proxy.inject(fault, Aim::INSERTS, 1);
        assert_eq!(post(&proxy, "", b"SELECT 1").unwrap().status, 200);
        let before = notes.all().len();
        post(&proxy, "", b"INSERT INTO db.t VALUES (1)").unwrap_err();
        assert_eq!(notes.all().len(), before + 1);
        assert_eq!((proxy.did(Did::Http(fault)), proxy.not_injected()), (1, 0));
        assert_eq!(post(&proxy, MARKS, b"7").unwrap().status, 200);
    }
}

#[test]
fn half_open_connection_can_begin_in_the_middle_of_a_request() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    for (fault, seen) in [(Fault::LoseBody, 0), (Fault::LoseAnswer, 1)] {
        proxy.inject(fault, Aim::INSERTS, 1);
        let before = notes.all().len();
        let mut stream = connect(&proxy);
        write!(stream, "POST /{MARKS} HTTP/1.1\r\nContent-Length: 8\r\n\r\n12345678").unwrap();
        wait_until("the fault", DEADLINE, || proxy.did(Did::Http(fault)) == 1);
        stream.set_read_timeout(Some(A_WHILE)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(notes.all().len(), before + seen);
    }
    assert_eq!(proxy.injected(), 2);
}

#[test]
fn cut_body_is_never_whole_for_the_server() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    for fault in [Fault::CutBody, Fault::EndBody] {
        proxy.inject(fault, Aim::inserts_into("marks"), 1);
        assert_eq!(post(&proxy, SEALS, b"12345678").unwrap().status, 200);
        let before = notes.all().len();
        post(&proxy, MARKS, b"12345678").unwrap_err();
        wait_until("the connection's end", DEADLINE, || proxy.open() == 0);
        assert_eq!(notes.all().len(), before);
        assert_eq!((proxy.did(Did::Http(fault)), proxy.not_injected()), (1, 0));
        assert_eq!(post(&proxy, MARKS, b"12345678").unwrap().status, 200);
    }
}

#[test]
fn replies_of_its_own_leave_the_server_out_or_hide_what_it_said() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    let replies = [
        (Reply::ExceptionInHeader, 200, "Exception-Code: 241"),
        (Reply::ExceptionInBody, 200, "DB::Exception: "),
        (Reply::MarkedExceptionInBody, 200, "\r\n__exception__\r\n"),
        (Reply::MarkedExceptionInPieces, 200, "\r\n__exception__\r\n"),
        (Reply::BadRequest, 400, "DB::Exception: "),
        (Reply::NotFound, 404, "no such page"),
        (Reply::TooMany, 429, "Retry-After"),
        (Reply::ServerError, 500, "Code: 241"),
        (Reply::Unavailable, 503, "Service Unavailable"),
    ];
    assert_eq!(replies.map(|(reply, _, _)| reply), Reply::ALL);
    for (reply, status, part) in replies {
        for (fault, seen) in [(Fault::Answer(reply), 0), (Fault::ReplaceAnswer(reply), 1)] {
            proxy.inject(fault, Aim::ANY, 1);
            let before = notes.all().len();
            let answer = post(&proxy, "", b"SELECT 1").unwrap();
            assert_eq!(answer.status, status);
            assert!(answer.head.contains(part) || answer.body.contains(part), "{answer:?}");
            assert_eq!(notes.all().len(), before + seen, "{fault:?}");
            assert_eq!(proxy.did(Did::Http(fault)), 1);
        }
    }
}

#[test]
fn dripping_answer_is_the_servers_own() {
    let proxy = Proxy::start(Kind::Http, Notes::default().serve());
    proxy.inject(Fault::Drip { lasts_ms: 500 }, Aim::ANY, 1);
    let (time, answer) = took(|| post(&proxy, "", b"SELECT 1").unwrap());
    assert_eq!(answer.body, "1");
    assert!(time > A_WHILE, "{time:?}");
}

#[test]
fn network_faults_hold_for_requests_too() {
    let notes = Notes::default();
    let proxy = Proxy::start(Kind::Http, notes.serve());
    proxy.delay(Way::ToServer, A_WHILE);
    assert!(took(|| post(&proxy, "", b"SELECT 1").unwrap()).0 > A_WHILE);
    proxy.pass();
    for (way, seen) in [(Way::ToServer, 0), (Way::ToClient, 1)] {
        proxy.lose(way);
        let before = notes.all().len();
        let mut stream = connect(&proxy);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        wait_until("the loss", DEADLINE, || proxy.did(Did::Lose) == seen + 1);
        stream.set_read_timeout(Some(A_WHILE)).unwrap();
        assert!(stream.read(&mut [0]).is_err());
        assert_eq!(notes.all().len(), before + seen);
        proxy.pass();
    }
}

/// One broker through the proxy: the group's coordinator is away, and records still come.
#[test]
fn coordinator_can_be_cut_off_while_records_come() {
    let kafka = Kafka::start_behind_proxy();
    kafka.create_topic("orders", 1, &[]);
    let mut through = kafka.client_config();
    through.set("bootstrap.servers", kafka.program_bootstrap());
    let producer: BaseProducer = through.create().unwrap();
    let send = |text: &str| {
        producer.send(BaseRecord::<(), _>::to("orders").payload(text)).unwrap();
        producer.flush(DEADLINE).unwrap();
    };
    through.set("group.id", "readers").set("auto.offset.reset", "earliest");
    // Longer than the coordinator is away: it alone gives back the partition that the end of a session takes.
    through.set("session.timeout.ms", "60000").set("heartbeat.interval.ms", "200");
    // A last commit would wait for a connection that has lost bytes.
    through.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = through.create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let next = |what: &str| {
        wait_for(what, DEADLINE, || consumer.poll(Duration::from_millis(50))?.ok().map(drop));
    };
    send("first");
    next("a record through the proxy");
    let proxy = kafka.proxy();
    assert_eq!(proxy.did(Did::Coordinator), 0);
    for (cuts, how) in [(1, Coordinator::Cut), (2, Coordinator::Stalled)] {
        proxy.lose_coordinator(how);
        wait_until("a heartbeat to meet it", DEADLINE, || proxy.did(Did::Coordinator) >= cuts);
        send("while it is away");
        next("a record without a coordinator");
        proxy.pass();
    }
    // It leaves its group while it can.
    drop(consumer);
    // No other client meets a fault.
    assert!(kafka.bootstrap() != kafka.program_bootstrap());
    proxy.refuse();
    kafka.create_topic("more", 1, &[]);
    proxy.pass();
}
