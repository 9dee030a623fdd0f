//! Servers that keep what is said, and are started again on it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use super::Server;

/// A folder for messages and the port that belongs to them, for one server after the other.
#[derive(Debug)]
pub struct Kept {
    folder: TempDir,
    port: u16,
}

impl Kept {
    /// An empty folder, and a port that nobody has.
    pub fn new() -> Kept {
        Kept { folder: tempfile::tempdir().expect("a folder"), port: free_port() }
    }

    /// Starts a server on them.
    pub fn start(&self, arguments: &[&str]) -> Server {
        let port = self.port.to_string();
        let folder = self.folder().to_str().expect("UTF-8");
        let arguments = [&["--port", &port, "--data", folder], arguments].concat();
        Server::start_with(&arguments, |command| {
            command.env_remove("CHAT_MEMORY");
        })
    }

    /// Where the messages are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file in which they are.
    pub fn file(&self) -> PathBuf {
        self.folder().join(format!("{}.db", self.port))
    }

    /// The port of every server here.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A port below those that the system gives to clients: nobody gets it by chance between two servers.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % u32::from(PORTS)) as u16;
    let mut offsets = (0..PORTS).map(|_| NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(own.wrapping_mul(37)));
    let found = offsets.find_map(|offset| {
        let port = FIRST + offset % PORTS;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    found.expect("a free port")
}
