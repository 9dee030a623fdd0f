//! `--spawn`: a server that is started for the run, and ended after it.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::Port;

/// A server has to accept connections by then.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// And to end by then, when it is asked to; it is killed otherwise.
const END_PATIENCE: Duration = Duration::from_secs(15);
/// So much of what it last said on standard error is kept, for when it fails.
const LAST_WORDS_BYTES: usize = 4 * 1024;
/// How often we look whether it is there.
const PAUSE: Duration = Duration::from_millis(10);

/// A server that runs; it ends with its owner.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    /// Keeps the port from others, unless the server cannot share it.
    _holder: Option<Port>,
    last_words: Receiver<String>,
}

impl Server {
    /// Starts `command`, in which `{port}` stands for a free port, and waits until it accepts connections there. The error
    /// is a sentence.
    pub fn start(command: &str) -> Result<Self, String> {
        if !command.contains("{port}") {
            return Err(format!("--spawn needs to tell the server its port: put {{port}} into `{command}`"));
        }
        let words = split(command)?;
        let take = || Port::take().map_err(|err| format!("cannot find a free port: {err}"));
        let port = take()?;
        // The few servers that listen without `SO_REUSEADDR` cannot while we hold it.
        Self::start_on(command, &words, port.number(), Some(port)).or_else(|_| {
            let port = take()?.number();
            Self::start_on(command, &words, port, None)
        })
    }

    fn start_on(command: &str, words: &[String], port: u16, holder: Option<Port>) -> Result<Self, String> {
        let words: Vec<String> = words.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let (program, arguments) = words.split_first().ok_or("--spawn names no program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| format!("cannot start {program}: {err}"))?;
        let (said, last_words) = mpsc::channel();
        if let Some(mut stderr) = child.stderr.take() {
            thread::spawn(move || said.send(keep_the_end(&mut stderr)));
        }
        let mut server = Server { child, port, _holder: holder, last_words };
        server.wait_until_it_accepts(command)?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn wait_until_it_accepts(&mut self, command: &str) -> Result<(), String> {
        let patience = Instant::now() + START_PATIENCE;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        loop {
            if TcpStream::connect_timeout(&address, PAUSE * 10).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let words = self.last_words.recv_timeout(PAUSE * 100).unwrap_or_default();
                return Err(format!("`{command}` has ended ({status}): {}", words.trim()));
            }
            if Instant::now() > patience {
                let seconds = START_PATIENCE.as_secs();
                return Err(format!("`{command}` accepts no connections on port {} after {seconds} s", self.port));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // Our child that we have not waited for: the id is nobody else's.
            let _ = kill_process(pid, Signal::TERM);
        }
        let patience = Instant::now() + END_PATIENCE;
        while Instant::now() < patience {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all there is, so that nobody waits for a full pipe, and keeps the end of it.
fn keep_the_end(stream: &mut impl Read) -> String {
    let mut end = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        end.extend_from_slice(&piece[..count]);
        let excess = end.len().saturating_sub(LAST_WORDS_BYTES);
        end.drain(..excess);
    }
    String::from_utf8_lossy(&end).into_owned()
}

/// The words of `command`; blanks belong to a word between quotes, as in a shell, which is not asked.
fn split(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(format!("`{command}` has a quote that does not end")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("", Some(&[])),
            ("a  b\tc", Some(&["a", "b", "c"])),
            ("a 'b c' \"d'e\" f''g ''", Some(&["a", "b c", "d'e", "fg", ""])),
            ("a 'b", None),
        ];
        for (command, expected) in table {
            let expected = expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
            assert_eq!(split(command).ok(), expected, "{command}");
        }
    }

    #[test]
    fn what_does_not_start_says_why() {
        let table = [
            ("server", "put {port}"),
            ("/no/such/program {port}", "cannot start /no/such/program"),
            ("sh -c 'echo no room >&2; exit 3' {port}", "no room"),
        ];
        for (command, part) in table {
            let error = Server::start(command).map(|_| ()).unwrap_err();
            assert!(error.contains(part), "{command}: {error}");
        }
    }

    #[test]
    fn nobody_else_gets_the_port() {
        let sharing = "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); time.sleep(100)";
        let server = Server::start(&format!("python3 -c \"{sharing}\" {{port}}")).unwrap();
        assert_eq!(server._holder.as_ref().map(Port::number), Some(server.port()));
        let alone = "import socket, sys, time; s = socket.socket(); s.bind(('', int(sys.argv[1]))); s.listen(); time.sleep(100)";
        let server = Server::start(&format!("python3 -c \"{alone}\" {{port}}")).unwrap();
        assert!(server._holder.is_none(), "it cannot share");
    }
}
