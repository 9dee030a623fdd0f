//! What the end-to-end tests share: the real server as a process, and clients that never wait forever.
//!
//! Everything that waits, waits for a condition, until [`DEADLINE`]; then the test fails and says what did not happen.
//! When a test fails, the log of its server is printed.

#![allow(dead_code, unused_imports, reason = "each test crate uses its own part of this module")]
#![allow(unreachable_pub, reason = "the module is private in every crate that includes it")]
#![allow(clippy::print_stderr, reason = "what is printed here belongs to the output of a test")]

mod brokers;
mod chat;
mod http;
mod kept;
#[path = "../../loadtest/src/port.rs"]
mod port;
mod redis;
mod relay;
pub mod rooms;
mod stopwatch;
mod v1;
mod ws;

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

pub use self::brokers::{NatsServer, RabbitServer};
pub use self::chat::ChatClient;
pub use self::http::{End, Raw, Response, connect_from, connect_narrow, get, http};
pub use self::kept::Kept;
pub use self::port::Port;
pub use self::redis::RedisServer;
pub use self::relay::{Held, Relay};
pub use self::stopwatch::Stopwatch;
pub use self::v1::V1;
pub use self::ws::{Frame, WsClient, close_frame, crowd, frame, upgrade_request};

/// The longest that anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again and again until `condition` gives something.
///
/// # Panics
/// When [`DEADLINE`] has passed.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Asks again and again until `condition` holds.
///
/// # Panics
/// When [`DEADLINE`] has passed.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Allows this process as many open files as it may have, for tests with many clients.
pub fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit anybody may");
}

/// The binary with its output in pipes, and none of the variables that may be set around us.
pub fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-app"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CHAT_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process of ours, which does not outlive its test.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Runs a command.
    pub fn spawn(command: &mut Command) -> Self {
        Process(command.spawn().expect("the binary runs"))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it has not by [`DEADLINE`].
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process ends", || self.0.try_wait().expect("a child can be waited for"))
    }

    /// Gathers, from now on, what it writes on standard error; nothing, if that is no pipe of ours.
    pub fn gather_log(&mut self) -> Arc<Mutex<String>> {
        let log = Arc::new(Mutex::new(String::new()));
        let Some(stderr) = self.0.stderr.take() else { return log };
        let stderr = BufReader::new(stderr);
        let gathered = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = gathered.lock().expect("nobody panics while writing the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then both do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the binary where it is expected to end by itself, and to print no more than a pipe holds.
///
/// # Panics
/// When it has not ended by [`DEADLINE`].
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut process = Process::spawn(&mut command(arguments, variables));
    let status = process.wait();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    process.0.stdout.take().expect("piped").read_to_end(&mut stdout).expect("standard output is read");
    process.0.stderr.take().expect("piped").read_to_end(&mut stderr).expect("standard error is read");
    Output { status, stdout, stderr }
}

/// A running server: the real binary, on 127.0.0.1 and a free port, with a memory journal.
#[derive(Debug)]
pub struct Server {
    process: Process,
    first_line: String,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts with these arguments, which win over what is said above.
    pub fn start(arguments: &[&str]) -> Self {
        Server::start_with(arguments, |_| ())
    }

    /// Starts after `prepare` has changed the command: a working directory, variables.
    ///
    /// # Panics
    /// When it does not say where it listens by [`DEADLINE`].
    pub fn start_with(arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let defaults = [("CHAT_PORT", "0"), ("CHAT_HOST", "127.0.0.1"), ("CHAT_MEMORY", "1")];
        let mut command = command(arguments, &defaults);
        prepare(&mut command);
        let mut process = Process::spawn(&mut command);
        let log = process.gather_log();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(process.0.stdout.take().expect("piped"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

        let placeholder = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Server { process, first_line: String::new(), address: placeholder, log };
        server.first_line = lines.recv_timeout(DEADLINE).expect("the server says where it listens");
        let address = server.first_line.strip_prefix("listening on http://").expect("the form of the first line");
        server.address = address.parse().expect("an address in the first line");
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first line on standard output.
    pub fn first_line(&self) -> &str {
        &self.first_line
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics while writing the log").clone()
    }

    /// What `/metrics` says: a value for each series, by its name and labels as they stand in the text.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        self.metrics_over(&mut Raw::connect(self.address))
    }

    /// What `/metrics` says on a connection that is there already, and stays.
    pub fn metrics_over(&self, connection: &mut Raw) -> BTreeMap<String, f64> {
        connection.send(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.address));
        let response = connection.response();
        assert_eq!(response.status, 200);
        let samples = response.text().lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| line.rsplit_once(' ').expect("a series and its value"));
        samples.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
    }

    /// One series of [`metrics`](Self::metrics).
    ///
    /// # Panics
    /// When there is no such series.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        *metrics.get(series).unwrap_or_else(|| panic!("{series} is not among {:?}", metrics.keys()))
    }

    /// Waits until one series of [`metrics`](Self::metrics) has a value.
    ///
    /// # Panics
    /// When it has not by [`DEADLINE`].
    pub fn wait_for_metric(&self, series: &str, expected: impl Fn(f64) -> bool) -> f64 {
        let mut connection = Raw::connect(self.address);
        wait_for(series, || {
            let value = self.metrics_over(&mut connection)[series];
            expected(value).then_some(value)
        })
    }

    /// Waits until all have left and nothing of them has stayed behind.
    ///
    /// # Panics
    /// When something is still there at [`DEADLINE`].
    pub fn wait_until_empty(&self) {
        let mut connection = Raw::connect(self.address);
        // Whoever asks is a connection too.
        let expected = [
            ("chat_connections{kind=\"http\"}", 1.0),
            ("chat_connections{kind=\"websocket\"}", 0.0),
            ("chat_rooms", 0.0),
            ("chat_catching_up_members", 0.0),
            ("chat_waiting_reads{for=\"join\"}", 0.0),
            ("chat_outbox_bytes", 0.0),
            ("chat_drafts_in_flight", 0.0),
            ("chat_drafts_in_flight_bytes", 0.0),
        ];
        let mut left = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let metrics = self.metrics_over(&mut connection);
            left = expected.into_iter().filter(|(series, value)| metrics[*series] != *value).collect();
            if left.is_empty() {
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let metrics = self.metrics_over(&mut connection);
        panic!("{:?}", left.iter().map(|(series, _)| (series, metrics[*series])).collect::<Vec<_>>());
    }

    /// Processor time it has used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process lives");
        // After the name, which may hold anything: state, and then eleven others before utime and stime.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().expect("ticks")).sum();
        Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).expect("a small number")
    }

    /// Lets it open so many files more than it has open now; what is open stays so.
    pub fn allow_descriptors(&self, further: usize) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process lives");
        let open =
            open.map(|file| file.expect("a descriptor").file_name().to_string_lossy().parse().expect("a number"));
        let open: HashSet<u64> = open.collect();
        // New files get the lowest free number, and the limit is the first number that is not given out.
        let limit = (0..).filter(|number| !open.contains(number)).nth(further);
        let limit = Rlimit { current: limit, maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(Some(Pid::from_child(&self.process.0)), Resource::Nofile, limit).expect("a limit for our own child");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("the server lives");
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it (SIGKILL), as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of the server on {}:\n{}", self.address, self.log());
        }
    }
}
