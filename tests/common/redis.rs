//! A real Redis server, on a free port and in a folder of its own, which does not outlive its test.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::port::Port;

/// The longest that a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, or one that has been killed and may be started again on what it has kept.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Child>,
    folder: TempDir,
    port: Port,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts a server that keeps nothing but for what `arguments` say.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not come up.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (folder, port) = (tempfile::tempdir().expect("a folder"), Port::take().expect("a free port"));
        let mut server = RedisServer { process: None, folder, port, arguments };
        server.start_again();
        server
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(self.folder.path());
        command.arg("--unixsocket").arg(self.socket()).args(["--save", "", "--appendonly", "no"]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server, of the Debian package of that name, is installed"));
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            assert!(Instant::now() < deadline, "redis-server has not come up");
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Whether it has read what it kept and takes commands.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()) else { return false };
        let mut answer = [0; 7];
        let _ = stream.set_read_timeout(Some(PATIENCE));
        // Whoever has to log in first is told so, which is an answer, too.
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && (answer == *b"+PONG\r\n" || answer == *b"-NOAUTH")
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it: it does nothing, and its connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("it is a child of ours");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// The URL of it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The socket on which it listens as well.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("redis.sock")
    }

    /// Where it keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
