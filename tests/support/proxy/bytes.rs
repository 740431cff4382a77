//! Bytes through a connection, in both directions at once, with what a network does to them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::frames::Frames;
use super::{Connection, Cut, Did, Kind, Way};

const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way, so that a delay holds up what passes and does not thin it out.
const PIECES: usize = 1024;
/// How often a trickle gives some bytes.
const DRIP: Duration = Duration::from_millis(20);

/// One direction's way out.
pub(super) struct Lane<'a> {
    pub(super) connection: &'a Connection,
    pub(super) way: Way,
    pub(super) out: WriteHalf<'a>,
}

impl Lane<'_> {
    /// Passes the bytes on, or loses them. Not delayed.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Cut> {
        let mut is_counted = false;
        while !bytes.is_empty() {
            if self.connection.loses(self.way) {
                return Ok(());
            }
            let at = self.way.index();
            let rate = self.connection.mode(|modes| modes.bytes_per_second[at]);
            let drips_per_second = 50;
            let most = rate.map_or(bytes.len(), |rate| (rate / drips_per_second).max(1));
            let (some, rest) = bytes.split_at(most.min(bytes.len()));
            self.out.write_all(some).await?;
            bytes = rest;
            if rate.is_some() && !(bytes.is_empty() && is_counted) {
                if !std::mem::replace(&mut is_counted, true) {
                    self.connection.shared.count(Did::Trickle);
                }
                sleep(DRIP).await;
            }
        }
        Ok(())
    }

    /// After the last byte: the end is passed on, unless it is lost as bytes would be.
    async fn end(&mut self) -> Result<(), Cut> {
        if self.connection.loses(self.way) {
            std::future::pending().await
        }
        Ok(self.out.shutdown().await?)
    }
}

pub(super) async fn carry(
    connection: &Connection,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> Result<(), Cut> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Lane { connection, way: Way::ToServer, out: to_server };
    let down = Lane { connection, way: Way::ToClient, out: to_client };
    let frames = (connection.shared.kind == Kind::Kafka).then(Frames::default);
    tokio::try_join!(pump(from_client, up, frames), pump(from_server, down, None))?;
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: Lane<'_>,
    mut frames: Option<Frames>,
) -> Result<(), Cut> {
    let (connection, way) = (to.connection, to.way);
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async {
        let sender = sender;
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece).await;
            let count = match read {
                Ok(count) => count,
                // A reset is lost too.
                Err(_) if connection.loses(way) => 0,
                Err(error) => return Err(error.into()),
            };
            if count == 0 {
                return Ok(());
            }
            piece.truncate(count);
            if let Some(frames) = &mut frames {
                let passes = frames.check(connection, &piece)?;
                piece.truncate(passes);
            }
            let due = Instant::now() + connection.delay(way);
            // The other half only ends with an error of its own.
            if sender.send((due, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to.send(&piece).await?;
        }
        to.end().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}
