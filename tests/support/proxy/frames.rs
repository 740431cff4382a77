//! Kafka's requests, as far as their header says which connections go to the group's coordinator.

use super::{Connection, Cut, lock};

/// OffsetCommit, OffsetFetch, JoinGroup, Heartbeat, LeaveGroup, SyncGroup. FindCoordinator may be answered.
const COORDINATOR_KEYS: [i16; 6] = [8, 9, 11, 12, 13, 14];
/// Size (4 bytes, not counting itself) and key of a request.
const HEADER_BYTES: usize = 6;

/// What happens to a connection that carries a request to the group's coordinator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coordinator {
    /// Reset.
    Cut,
    /// Half-open both ways.
    Stalled,
}

/// Where one connection's stream of requests is.
#[derive(Default)]
pub(super) struct Frames {
    header: Vec<u8>,
    left: usize,
}

impl Frames {
    /// How many bytes of the piece may pass.
    pub(super) fn check(&mut self, connection: &Connection, piece: &[u8]) -> Result<usize, Cut> {
        let mut at = 0;
        while at < piece.len() {
            if self.left > 0 {
                let passes = self.left.min(piece.len() - at);
                self.left -= passes;
                at += passes;
                continue;
            }
            let start = at;
            let more = (HEADER_BYTES - self.header.len()).min(piece.len() - at);
            self.header.extend(&piece[at..at + more]);
            at += more;
            if self.header.len() < HEADER_BYTES {
                continue;
            }
            let size = i32::from_be_bytes(self.header[..4].try_into().expect("4 bytes"));
            let key = i16::from_be_bytes(self.header[4..].try_into().expect("2 bytes"));
            self.left = usize::try_from(size).map_err(|_| Cut)?.saturating_sub(2);
            self.header.clear();
            if COORDINATOR_KEYS.contains(&key) && !may_pass(connection) {
                return Ok(start);
            }
        }
        Ok(at)
    }
}

/// A request to the coordinator is on its way.
fn may_pass(connection: &Connection) -> bool {
    lock(&connection.marks).to_coordinator = true;
    let lost = connection.mode(|modes| modes.coordinator);
    if let Some(how) = lost {
        connection.lose_coordinator(how);
    }
    lost.is_none()
}
