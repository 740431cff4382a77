//! An insert counts as done only when ClickHouse says so. A tiny server gives the answers that a real one gives rarely.

use std::time::Duration;

use tidegauge::engine::event::PartitionId;
use tidegauge::engine::time::EventTime;
use tidegauge::engine::window::Window;
use tidegauge::sink::clickhouse::{ClickHouse, ClickHouseSettings};
use tidegauge::sink::{RowBatch, Sink, SinkError, row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// For an answer that comes, however loaded the machine is.
const PATIENT: Duration = Duration::from_secs(60);
/// For one that does not come.
const IMPATIENT: Duration = Duration::from_millis(500);

/// What a test server sends once it has read the whole request, and whether it then hangs or hangs up.
struct Script {
    answer: &'static str,
    hangs: bool,
}

/// Reads one request with a chunked or counted body, or what there is of it when the client hangs up; its bytes.
async fn request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.expect("the client writes");
        if read == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&buffer[..read]);
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(head) = head else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map(|length| length.parse::<usize>().expect("a number"));
        let is_whole = match length {
            Some(length) => bytes.len() >= head + 4 + length,
            None => bytes.ends_with(b"\r\n0\r\n\r\n"),
        };
        if is_whole {
            return bytes;
        }
    }
}

/// Sends one batch to a server that answers by `script`; the outcome and the request.
async fn write_to(script: Script) -> (Result<(), SinkError>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        let request = request(&mut stream).await;
        stream.write_all(script.answer.as_bytes()).await.expect("the client reads");
        // Held open until the client has given up, whether or not it then closes its end.
        (request, script.hangs.then_some(stream))
    };
    let timeout = if script.hangs { IMPATIENT } else { PATIENT };
    let mut sink = client(&format!("http://{address}"), timeout);
    let batch = batch();
    let (outcome, (request, _held_open)) = tokio::join!(sink.write(&batch), server);
    (outcome, request)
}

fn client(url: &str, timeout: Duration) -> ClickHouse {
    let mut settings = ClickHouseSettings::new(url, "tidegauge", "job");
    settings.user = "writer".into();
    settings.password = "secret-word".into();
    settings.timeout = timeout;
    settings.insert_settings = vec![("insert_quorum".into(), "2".into())];
    ClickHouse::new(settings)
}

fn batch() -> RowBatch {
    row::seals("job", 0, &[(PartitionId(0), EventTime(1))]).unwrap()
}

async fn code(answer: &'static str, hangs: bool) -> &'static str {
    let (outcome, _) = write_to(Script { answer, hangs }).await;
    let error = outcome.expect_err(answer);
    assert!(!error.to_string().contains("secret-word"), "{error}");
    error.code()
}

const OK: &str = "HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: 1\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn clickhouses_empty_200_is_an_acknowledgement_and_every_setting_was_sent() {
    let (outcome, request) = write_to(Script { answer: OK, hangs: false }).await;
    outcome.expect("acknowledged");
    let text = String::from_utf8_lossy(&request);
    for part in [
        "async_insert=0",
        "wait_end_of_query=1",
        "insert_deduplicate=0",
        "deduplicate_blocks_in_dependent_materialized_views=0",
        "input_format_skip_unknown_fields=0",
        "insert_quorum=2",
        "INSERT+INTO+%60tidegauge%60.%60seals%60+FORMAT+RowBinaryWithNamesAndTypes",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn an_exception_is_seen_whatever_the_status_is() {
    let unknown_table =
        "HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Code: 60\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(code(unknown_table, false).await, "clickhouse_schema");
    let in_the_body = "HTTP/1.1 200 OK\r\nContent-Length: 89\r\n\r\n\
         Code: 241. DB::Exception: Memory limit. (MEMORY_LIMIT) (version 24.8.1 (official build))\n";
    assert_eq!(code(in_the_body, false).await, "clickhouse_unavailable");
    let tagged = "HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Tag: abcdefghijklmnop\r\nTransfer-Encoding: chunked\r\n\r\n\
         72\r\n\r\n__exception__\r\nabcdefghijklmnop\r\nCode: 243. DB::Exception: Not enough space\n\
         43 abcdefghijklmnop\r\n__exception__\r\n\r\n0\r\n\r\n";
    assert_eq!(code(tagged, false).await, "clickhouse_refused");
    let status = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 45\r\n\r\n\
         Code: 243. DB::Exception: Cannot reserve 1 M.";
    assert_eq!(code(status, false).await, "clickhouse_refused");
}

#[tokio::test]
async fn no_strangers_200_no_4xx_and_no_5xx_is_an_acknowledgement() {
    for (answer, expected) in [
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "clickhouse_unavailable"),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "clickhouse_refused"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "clickhouse_unavailable"),
        // Of whoever it is, not of ClickHouse.
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "clickhouse_unavailable"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "clickhouse_unavailable"),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            "clickhouse_unavailable",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "clickhouse_unavailable"),
    ] {
        assert_eq!(code(answer, false).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_cut_half_or_missing_answer_is_no_acknowledgement() {
    for answer in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 90\r\n\r\nCode: 6",
    ] {
        assert_eq!(code(answer, false).await, "clickhouse_unavailable", "cut: {answer}");
        assert_eq!(code(answer, true).await, "clickhouse_unavailable", "hangs: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // Bound, so that nobody else can listen there.
    let held = TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = held.local_addr().expect("it is bound");
    let mut sink = client(&format!("http://{address}"), PATIENT);
    let error = sink.write(&batch()).await.expect_err("nobody listens");
    assert_eq!(error.code(), "clickhouse_unavailable");
    assert!(error.to_string().to_lowercase().contains("refused"), "the cause is named: {error}");
    let span = Window { start: EventTime(0), end: EventTime(1) };
    assert_eq!(sink.state_versions(span).await.expect_err("read").code(), "clickhouse_unavailable");
    let mut nowhere = client("not a url", PATIENT);
    assert_eq!(nowhere.write(&batch()).await.expect_err("url").code(), "clickhouse_refused");
}

#[tokio::test]
async fn an_answer_with_other_columns_or_cut_rows_is_never_taken_for_rows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut sink = client(&format!("http://{address}"), PATIENT);
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>portal</>";
        stream.write_all(answer.as_bytes()).await.expect("the client reads");
    };
    let (seals, ()) = tokio::join!(sink.seals(), server);
    assert_eq!(seals.expect_err("a portal's page").code(), "clickhouse_schema");
}
