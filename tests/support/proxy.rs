//! A TCP proxy in front of one port of this machine that misbehaves when told to: slow, deaf, cutting, refusing. For
//! ClickHouse it reads requests and answers ([`Kind::Http`]), for Kafka the header of each request ([`Kind::Kafka`]).
//! It counts what it did, so that a fault that did not happen is seen.

mod bytes;
mod frames;
pub mod front;
mod owner;

pub use frames::Coordinator;
pub use front::{Aim, Fault};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(10);
const BACKLOG: u32 = 1024;

/// What it understands of what passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Bytes,
    Http,
    Kafka,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    fn index(self) -> usize {
        usize::from(self == Self::ToClient)
    }
}

/// What it can have done; each is counted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Did {
    /// Took a connection and connected it with the server.
    Connect,
    /// Took a connection that the server did not.
    NotConnect,
    /// Reset a connection: one for each.
    Reset,
    /// Held bytes back: one for each piece that passed.
    Delay,
    /// Passed bytes one by one: one for each piece that had to be cut.
    Trickle,
    /// Began to lose the bytes of one direction of a connection: one for each.
    Lose,
    /// Refused connections for a while: one for each while.
    Refuse,
    /// Did this to a request.
    Http(Fault),
    /// Cut or stalled a connection to the group's coordinator: one for each.
    Coordinator,
}

/// What is being done at the moment.
#[derive(Default)]
struct Modes {
    delay: [Duration; 2],
    bytes_per_second: [Option<usize>; 2],
    lose: [bool; 2],
    refuse: bool,
    reset_next: usize,
    coordinator: Option<Coordinator>,
    requests: Vec<front::Order>,
    /// Only connections of this process are harmed.
    only: Option<u32>,
}

struct State {
    target: u16,
    listens: bool,
    modes: Modes,
    counts: BTreeMap<Did, usize>,
    connections: BTreeMap<usize, Arc<Connection>>,
    opened: usize,
}

/// One connection through the proxy.
struct Connection {
    client: SocketAddr,
    shared: Arc<Shared>,
    marks: Mutex<Marks>,
    cut: Notify,
}

#[derive(Default)]
struct Marks {
    /// A direction that has lost bytes stays deaf: no TCP gives bytes after a gap.
    lost: [bool; 2],
    /// It has carried a request to the group's coordinator.
    to_coordinator: bool,
    is_cut_off: bool,
    /// A process, and whether the connection is its.
    owner: Option<(u32, bool)>,
}

struct Shared {
    kind: Kind,
    port: u16,
    state: Mutex<State>,
    changed: Notify,
    stop: Notify,
}

/// The connection ends with a reset on both sides.
struct Cut;

impl From<std::io::Error> for Cut {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// A running proxy; it and its connections end with it.
pub struct Proxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("the option is there");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("the port is held for us");
    socket
}

impl Proxy {
    /// On a free port, in front of this port.
    pub fn start(kind: Kind, target: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        // Bound and never listening, it keeps the port ours while connections are refused.
        let held = socket(0);
        let port = held.local_addr().expect("it is bound").port();
        let state = State {
            target,
            listens: false,
            modes: Modes::default(),
            counts: BTreeMap::new(),
            connections: BTreeMap::new(),
            opened: 0,
        };
        let state = Mutex::new(state);
        let (changed, stop) = (Notify::new(), Notify::new());
        let shared = Arc::new(Shared { kind, port, state, changed, stop });
        let its = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(accept(&its));
            drop(held);
        });
        let proxy = Self { shared, thread: Some(thread) };
        proxy.wait_to_listen(true);
        proxy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    fn change(&self, change: impl FnOnce(&mut Modes)) {
        change(&mut self.state().modes);
        self.shared.changed.notify_one();
    }

    fn wait_to_listen(&self, listens: bool) {
        wait_until("the proxy's listener", DEADLINE, || self.state().listens == listens);
    }

    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Connects new connections with another port.
    pub fn aim_at(&self, target: u16) {
        self.state().target = target;
    }

    /// Number of a request's faults that were made, of any kind.
    pub fn injected(&self) -> usize {
        let is_one = |did: &Did| matches!(did, Did::Http(_));
        self.state().counts.iter().filter(|(did, _)| is_one(did)).map(|(_, count)| count).sum()
    }

    /// How often it did this.
    pub fn did(&self, what: Did) -> usize {
        self.state().counts.get(&what).copied().unwrap_or_default()
    }

    /// All that it did.
    pub fn counts(&self) -> BTreeMap<Did, usize> {
        self.state().counts.clone()
    }

    /// Connections that are open at present.
    pub fn open(&self) -> usize {
        self.state().connections.len()
    }

    /// Ends all faults. A connection that has lost bytes stays deaf.
    pub fn pass(&self) {
        self.change(|modes| *modes = Modes::default());
        self.wait_to_listen(true);
    }

    /// Every byte of this direction comes so much later.
    pub fn delay(&self, way: Way, by: Duration) {
        self.change(|modes| modes.delay[way.index()] = by);
    }

    /// So many bytes a second of each connection pass in this direction.
    pub fn trickle(&self, way: Way, bytes_per_second: usize) {
        self.change(|modes| modes.bytes_per_second[way.index()] = Some(bytes_per_second));
    }

    /// Half-open connections: bytes of this direction vanish, an end or a reset too, and nobody is told.
    pub fn lose(&self, way: Way) {
        self.change(|modes| modes.lose[way.index()] = true);
    }

    /// New connections are refused; those that are open stay.
    pub fn refuse(&self) {
        self.change(|modes| modes.refuse = true);
        self.wait_to_listen(false);
        self.shared.count(Did::Refuse);
    }

    /// Resets all connections that are open; gives their number.
    pub fn reset_all(&self) -> usize {
        let connections: Vec<_> = self.state().connections.values().cloned().collect();
        let harmed = connections.iter().filter(|connection| connection.may_be_harmed());
        harmed.map(|connection| connection.cut.notify_one()).count()
    }

    /// Resets the next so many connections as soon as they are there.
    pub fn reset_next(&self, connections: usize) {
        self.change(|modes| modes.reset_next = connections);
    }

    /// Harms only connections of this process. Set before the fault, ends with [`Proxy::pass`].
    pub fn only(&self, process: u32) {
        self.change(|modes| modes.only = Some(process));
    }

    /// Does this to the next so many requests that are aimed at.
    pub fn inject(&self, fault: Fault, aim: Aim, times: usize) {
        assert_eq!(self.shared.kind, Kind::Http, "only this kind reads requests");
        self.change(|modes| modes.requests.push(front::Order { fault, aim, left: times }));
    }

    /// How many injections have been ordered and not been made.
    pub fn not_injected(&self) -> usize {
        self.state().modes.requests.iter().map(|order| order.left).sum()
    }

    /// The group's coordinator can't be reached, while fetching goes on.
    pub fn lose_coordinator(&self, how: Coordinator) {
        assert_eq!(self.shared.kind, Kind::Kafka, "only this kind reads Kafka's requests");
        self.change(|modes| modes.coordinator = Some(how));
        let connections: Vec<_> = self.state().connections.values().cloned().collect();
        for connection in connections {
            if lock(&connection.marks).to_coordinator && connection.may_be_harmed() {
                connection.lose_coordinator(how);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the proxy panicked");
        }
    }
}

impl Shared {
    fn count(&self, what: Did) {
        *lock(&self.state).counts.entry(what).or_default() += 1;
    }
}

impl Connection {
    fn may_be_harmed(&self) -> bool {
        let Some(only) = lock(&self.shared.state).modes.only else { return true };
        let mut marks = lock(&self.marks);
        match marks.owner {
            Some((process, is_its)) if process == only => is_its,
            _ => {
                let is_its = owner::owns(only, self.client, self.shared.port);
                marks.owner = Some((only, is_its));
                is_its
            }
        }
    }

    /// What is being done to this connection at the moment.
    fn mode<T: Default>(&self, of: impl FnOnce(&mut Modes) -> T) -> T {
        if self.may_be_harmed() { of(&mut lock(&self.shared.state).modes) } else { T::default() }
    }

    /// How long bytes of this direction are held back at the moment.
    fn delay(&self, way: Way) -> Duration {
        let delay = self.mode(|modes| modes.delay[way.index()]);
        if !delay.is_zero() {
            self.shared.count(Did::Delay);
        }
        delay
    }

    /// Waits as long as bytes of this direction are held back, or until they no longer are.
    async fn hold_back(&self, way: Way) {
        let begun = tokio::time::Instant::now();
        self.delay(way);
        while begun.elapsed() < self.mode(|modes| modes.delay[way.index()]) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Whether bytes of this direction vanish: for ever, once some have.
    fn loses(&self, way: Way) -> bool {
        let loses = self.mode(|modes| modes.lose[way.index()]);
        if loses {
            self.begin_to_lose(way);
        }
        lock(&self.marks).lost[way.index()]
    }

    /// It goes to the coordinator, which can't be reached.
    fn lose_coordinator(&self, how: Coordinator) {
        if !std::mem::replace(&mut lock(&self.marks).is_cut_off, true) {
            self.shared.count(Did::Coordinator);
        }
        match how {
            Coordinator::Cut => self.cut.notify_one(),
            Coordinator::Stalled => Way::BOTH.into_iter().for_each(|way| self.begin_to_lose(way)),
        }
    }

    fn begin_to_lose(&self, way: Way) {
        let was = std::mem::replace(&mut lock(&self.marks).lost[way.index()], true);
        if !was {
            self.shared.count(Did::Lose);
        }
    }
}

async fn accept(shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut listener = None;
    loop {
        let refuses = lock(&shared.state).modes.refuse;
        if refuses {
            listener = None;
        } else if listener.is_none() {
            listener = Some(socket(shared.port).listen(BACKLOG).expect("the port is ours"));
        }
        lock(&shared.state).listens = listener.is_some();
        tokio::select! {
            accepted = next(listener.as_ref()) => {
                connections.spawn(serve(Arc::clone(shared), accepted.0, accepted.1));
            }
            () = shared.changed.notified() => {}
            Some(ended) = connections.join_next() => ended.expect("a connection's task"),
            () = shared.stop.notified() => break,
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    match listener {
        Some(listener) => loop {
            // A client that is gone before it is taken is no matter.
            if let Ok(accepted) = listener.accept().await {
                return accepted;
            }
        },
        None => std::future::pending().await,
    }
}

async fn serve(shared: Arc<Shared>, mut client: TcpStream, address: SocketAddr) {
    let (connection, number, target) = {
        let mut state = lock(&shared.state);
        state.opened += 1;
        let connection = Arc::new(Connection {
            client: address,
            shared: Arc::clone(&shared),
            marks: Mutex::default(),
            cut: Notify::new(),
        });
        let number = state.opened;
        state.connections.insert(number, Arc::clone(&connection));
        (connection, number, state.target)
    };
    let is_reset = connection.mode(|modes| {
        let is_reset = modes.reset_next > 0;
        modes.reset_next -= usize::from(is_reset);
        is_reset
    });
    if is_reset {
        shared.count(Did::Reset);
        reset(client);
    } else if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
        shared.count(Did::Connect);
        if carry(&connection, &mut client, &mut server).await.is_err() {
            reset(server);
            reset(client);
        }
    } else {
        shared.count(Did::NotConnect);
        reset(client);
    }
    lock(&shared.state).connections.remove(&number);
}

/// The peer of the stream gets a reset.
fn reset(stream: TcpStream) {
    // A stream that is closed already takes no option, and needs none.
    drop(stream.set_zero_linger());
    drop(stream);
}

async fn carry(
    connection: &Connection,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> Result<(), Cut> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let kind = connection.shared.kind;
    let carried = async {
        match kind {
            Kind::Bytes | Kind::Kafka => bytes::carry(connection, client, server).await,
            Kind::Http => front::carry(connection, client, server).await,
        }
    };
    tokio::select! {
        ended = carried => ended,
        () = connection.cut.notified() => {
            connection.shared.count(Did::Reset);
            Err(Cut)
        }
    }
}
