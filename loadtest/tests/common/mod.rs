//! Runs the program, and servers for it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use loadtest::frame::{self, Opcode};
use serde_json::Value;

/// The yardstick on a free port; it ends with its owner.
pub(crate) struct Yardstick {
    child: Child,
    pub(crate) port: u16,
}

impl Yardstick {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yardstick"));
        let mut child = command.arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').unwrap().1.parse().unwrap();
        assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
        Yardstick { child, port }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes a whole frame off what a client has sent, if there is one: its kind, and its payload without the mask.
pub(crate) fn take_frame(bytes: &mut Vec<u8>) -> Option<(Opcode, Vec<u8>)> {
    let header = frame::header(bytes).unwrap()?;
    let end = header.header_bytes + header.payload_bytes;
    let mut payload = bytes.get(header.header_bytes..end)?.to_vec();
    frame::apply_mask(&mut payload, header.mask.expect("clients mask"));
    bytes.drain(..end);
    Some((header.opcode, payload))
}

pub(crate) fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

/// Runs against the room `name` at `port` and gives the exit code, what was printed, and the JSON file.
pub(crate) fn measure(port: u16, name: &str, arguments: &[&str]) -> (Option<i32>, String, Value) {
    let url = format!("--url=ws://127.0.0.1:{port}/?room={name}");
    report(&[arguments, &[&url]].concat(), &format!("{name}-{port}"))
}

/// Runs with `arguments` and gives the exit code, what was printed, and the JSON file, which is called `name` meanwhile.
pub(crate) fn report(arguments: &[&str], name: &str) -> (Option<i32>, String, Value) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    let output = loadtest(&[arguments, &["--json", path.to_str().unwrap()]].concat());
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let json = serde_json::from_str(&std::fs::read_to_string(&path).expect(&text)).unwrap();
    std::fs::remove_file(&path).unwrap();
    (output.status.code(), text, json)
}

/// The command that starts the chat server of this workspace on `{port}`, with everything in memory. In a run of all tests
/// it was built with them; else it is now.
pub(crate) fn chat_app() -> String {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_loadtest")).with_file_name("chat-app");
    if !path.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--locked", "-p", "chat-app", "--bin", "chat-app"]).status();
        assert!(built.unwrap().success());
    }
    format!("'{}' --port {{port}} --memory --say-rate 0", path.display())
}
