//! Servers that keep what is said, and are started again on it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Port, Server};

/// A folder for messages and the port that belongs to them, for one server after the other.
#[derive(Debug)]
pub struct Kept {
    folder: TempDir,
    port: Port,
}

impl Kept {
    /// An empty folder, and a port that nobody has.
    pub fn new() -> Kept {
        Kept { folder: tempfile::tempdir().expect("a folder"), port: Port::take().expect("a free port") }
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
        self.port.number()
    }
}
