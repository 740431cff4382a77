//! A webhook that tells what it received, and answers as the test wants.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What it was answered; 0 if nothing.
    pub status: u16,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Answers with one status until told otherwise; with 0 it takes the request and answers nothing.
pub struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    refused: Arc<Mutex<Option<(String, u16)>>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let status = Arc::new(AtomicU16::new(status));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let refused: Arc<Mutex<Option<(String, u16)>>> = Arc::default();
        let (answer, list) = (Arc::clone(&status), Arc::clone(&received));
        let unwanted = Arc::clone(&refused);
        // Ends with the test's process.
        thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                let mut status = answer.load(Ordering::Relaxed);
                if let Some(request) = read(&stream) {
                    let unwanted = unwanted.lock().expect("nobody panics with it");
                    let found = unwanted.iter().find(|(part, _)| request.body.contains(part));
                    status = found.map_or(status, |(_, status)| *status);
                    list.lock()
                        .expect("nobody panics with it")
                        .push(Received { status, ..request });
                }
                match status {
                    0 => silent.push(stream),
                    status => drop(write!(
                        &stream,
                        "HTTP/1.1 {status} x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                    )),
                }
            }
        });
        Self { url, status, refused, received }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What has this in its body gets this answer, from now on.
    pub fn refuse(&self, part: &str, status: u16) {
        *self.refused.lock().expect("nobody panics with it") = Some((part.to_owned(), status));
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("nobody panics with it").clone()
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length?.1.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Received { headers, body: String::from_utf8(body).ok()?, status: 0 })
}
