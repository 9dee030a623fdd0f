//! A network that can fail, between an instance and its broker.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Hands on what comes, both ways, as long as it is allowed to.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    is_closed: AtomicBool,
    /// Whoever comes is sent away.
    refuses: AtomicBool,
    lines: Mutex<Vec<Arc<Line>>>,
}

/// A connection through the relay: the end of the instance, the end of the broker, and what is held between them.
#[derive(Debug)]
struct Line {
    instance: TcpStream,
    broker: TcpStream,
    flow: Mutex<Flow>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flow {
    held: Option<Held>,
    is_cut: bool,
}

/// What does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// What the broker answers: the instance does not know what it has done.
    Answers,
    /// Both ways. When it is let go, it arrives, even from connections that have been given up meanwhile.
    Everything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBroker,
    ToInstance,
}

impl Relay {
    /// A relay to a broker, on a port of its own.
    pub fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            broker,
            is_closed: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            lines: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for instance in listener.incoming().map_while(Result::ok) {
                if theirs.is_closed.load(Ordering::Relaxed) {
                    break;
                }
                // Without a broker the connection ends at once.
                if !theirs.refuses.load(Ordering::Relaxed)
                    && let Ok(broker) = TcpStream::connect(theirs.broker)
                {
                    theirs.join(instance, broker);
                }
            }
        });
        Relay { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds something of all connections there are. Those that come later are not affected.
    pub fn hold(&self, held: Held) {
        for line in self.shared.lines().iter() {
            line.flow().held = Some(held);
        }
    }

    /// Lets everything go that was held.
    pub fn release(&self) {
        for line in self.shared.lines().iter() {
            line.flow().held = None;
            line.changed.notify_all();
        }
    }

    /// As if the broker could not be reached, or as before. What is held is lost.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Relaxed);
        self.cut();
    }

    /// Ends all connections there are. What is held is lost.
    pub fn cut(&self) {
        for line in self.shared.lines().drain(..) {
            line.cut();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut();
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Vec<Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, instance: TcpStream, broker: TcpStream) {
        for end in [&instance, &broker] {
            end.set_nodelay(true).expect("TCP_NODELAY");
        }
        let line = Arc::new(Line { instance, broker, flow: Mutex::default(), changed: Condvar::new() });
        for direction in [Direction::ToBroker, Direction::ToInstance] {
            let line = Arc::clone(&line);
            thread::spawn(move || line.pump(direction));
        }
        let mut lines = self.lines();
        lines.retain(|line| Arc::strong_count(line) > 1);
        lines.push(line);
    }
}

impl Line {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on what comes one way, until one end has closed.
    fn pump(&self, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::ToBroker => (&self.instance, &self.broker),
            Direction::ToInstance => (&self.broker, &self.instance),
        };
        let mut buffer = vec![0; 64 << 10];
        loop {
            // A reset ends it like the end of the stream: what came before is handed on.
            let length = from.read(&mut buffer).unwrap_or(0);
            if !self.may_pass(direction) || to.write_all(&buffer[..length]).is_err() {
                return self.cut();
            }
            if length == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }

    /// Waits while this way is held; `false` when the line has been cut.
    fn may_pass(&self, direction: Direction) -> bool {
        let is_held = |flow: &mut Flow| {
            let held = match direction {
                Direction::ToBroker => flow.held == Some(Held::Everything),
                Direction::ToInstance => flow.held.is_some(),
            };
            held && !flow.is_cut
        };
        let flow = self.changed.wait_while(self.flow(), is_held).unwrap_or_else(PoisonError::into_inner);
        !flow.is_cut
    }

    fn cut(&self) {
        self.flow().is_cut = true;
        self.changed.notify_all();
        for end in [&self.instance, &self.broker] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
