//! Real RabbitMQ and NATS servers: each on free ports and in a folder of its own, and none outlives its test.
//!
//! A server can be killed as a crash would, started again on the same port with what it has kept, and stopped for a
//! while. It also ends when the test does not come to its end: the kernel kills it with the thread that started it.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::port::Port;

/// The longest that a server may take to come up. RabbitMQ needs some seconds for itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the Debian package has the script that does not change the user.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The machine is shared: schedulers that have nothing to do sleep.
const QUIET: &str = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";
/// RabbitMQ 3.10 writes down only after three minutes that it has streams: one that is killed before does not find them
/// again. Here it does so all the time. The shell would split this at spaces.
const WRITE_DOWN: &str = "spawn(fun()->F=fun(F)->timer:sleep(50),[dets:sync(T)||T<-dets:all()],F(F)end,F(F)end).";

/// A RabbitMQ node, or one that has been killed and may be started again on what it has kept.
///
/// Drop comes in the order of the fields: the folder goes last.
#[derive(Debug)]
pub struct RabbitServer {
    node: Running,
    /// The register of Erlang nodes, which a node would otherwise start for the whole machine.
    register: Running,
    port: Port,
    register_port: Port,
    node_port: Port,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl RabbitServer {
    /// Starts a node with the user `guest`.
    ///
    /// # Panics
    /// When there is no `rabbitmq-server`, or it does not come up.
    pub fn start() -> Self {
        Self::start_with("", &[])
    }

    /// Starts a node with these lines of `rabbitmq.conf` and these variables.
    ///
    /// # Panics
    /// When there is no `rabbitmq-server`, or it does not come up.
    pub fn start_with(lines: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = Port::take().expect("a free port");
        // Less than everything: the tests have nothing to do with full disks. Guests are let in from this machine only.
        let config = format!("listeners.tcp.local = 127.0.0.1:{port}\ndisk_free_limit.absolute = 1MB\n{lines}\n");
        fs::write(folder.path().join("rabbitmq.conf"), config).expect("a configuration");
        fs::write(folder.path().join("plugins"), "[].").expect("no plugins");
        let settings = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut server = RabbitServer {
            node: Running::default(),
            register: Running::default(),
            port,
            register_port: Port::take().expect("a free port"),
            node_port: Port::take().expect("a free port"),
            settings,
            folder,
        };
        server.start_again();
        server
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        if !self.register.is_running() {
            let port = self.register_port.to_string();
            self.register.start(&["epmd", "-address", "127.0.0.1", "-port", &port], &[]);
            wait_until("epmd", || connect(self.register_port.number()).is_some());
        }
        let path = |name: &str| self.folder.path().join(name).to_str().expect("a plain path").to_owned();
        let own = [
            ("HOME", path("")),
            ("RABBITMQ_HOME_DIR", path("")),
            ("RABBITMQ_NODENAME", format!("chat-{}@localhost", self.port)),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_PID_FILE", path("pid")),
            ("RABBITMQ_DIST_PORT", self.node_port.to_string()),
            ("ERL_EPMD_PORT", self.register_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("{QUIET} -eval {WRITE_DOWN}")),
            // With it the script becomes the node, so that the node has the id that we know.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
        ];
        let mut variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.node.start(&[RABBITMQ], &variables);
        let (node, port) = (&mut self.node, self.port.number());
        wait_until("rabbitmq-server", || {
            assert!(node.is_running(), "rabbitmq-server has ended");
            // It listens only when it has read what it keeps. It greets whoever says which protocol it speaks.
            let mut greeting = [0; 1];
            connect(port).is_some_and(|mut stream| {
                stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut greeting).is_ok()
            })
        });
    }

    /// The first two numbers of its version, which it tells whoever connects (AMQP 0-9-1, 4.2.2: server properties).
    ///
    /// # Panics
    /// When it does not run.
    pub fn version(&self) -> [u16; 2] {
        let mut stream = connect(self.port.number()).expect("it listens");
        stream.write_all(b"AMQP\0\0\x09\x01").expect("it reads");
        // A frame: type, channel, length of its content.
        let mut head = [0; 7];
        stream.read_exact(&mut head).expect("it greets");
        let [.., a, b, c, d] = head;
        let mut greeting = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
        stream.read_exact(&mut greeting).expect("it greets");
        let key = b"\x07versionS\0\0\0";
        let at = greeting.windows(key.len()).position(|window| window == key).expect("its version") + key.len();
        let length = usize::from(greeting[at]);
        let version = String::from_utf8_lossy(&greeting[at + 1..][..length]).into_owned();
        let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
        [(); 2].map(|()| numbers.next().expect("two numbers"))
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        wait_until("what rabbitmq-server knows of its streams", || self.knows_its_streams());
        self.node.kill();
    }

    /// Whether it has written down where it keeps the list of its streams, if it has any.
    fn knows_its_streams(&self) -> bool {
        let name = format!("chat-{}@localhost", self.port);
        let folder = self.folder.path().join("mnesia").join(&name).join("coordination").join(&name);
        let Ok(mut entries) = fs::read_dir(&folder) else { return true };
        let has_list = entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()));
        let names = fs::read(folder.join("names.dets")).unwrap_or_default();
        !has_list || names.windows(b"coordinator".len()).any(|window| window == b"coordinator")
    }

    /// Stops it: it does nothing, and its connections stay.
    pub fn pause(&self) {
        self.node.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.node.signal(Signal::CONT);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// The URL of it.
    pub fn url(&self) -> String {
        format!("amqp://{}", self.address())
    }

    /// Where it keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A NATS server with JetStream, or one that has been killed and may be started again on what it has kept.
#[derive(Debug)]
pub struct NatsServer {
    process: Running,
    port: Port,
    arguments: Vec<String>,
    folder: TempDir,
}

impl NatsServer {
    /// Starts a server that keeps its streams.
    ///
    /// # Panics
    /// When there is no `nats-server`, or it does not come up.
    pub fn start() -> Self {
        Self::start_with(&["-js"])
    }

    /// Starts a server with these arguments.
    ///
    /// # Panics
    /// When there is no `nats-server`, or it does not come up.
    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (folder, port) = (tempfile::tempdir().expect("a folder"), Port::take().expect("a free port"));
        let mut server = NatsServer { process: Running::default(), port, arguments, folder };
        server.start_again();
        server
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        let (port, folder) = (self.port.to_string(), self.folder.path().to_str().expect("a plain path"));
        let mut arguments = vec!["nats-server", "-a", "127.0.0.1", "-p", &port, "-sd", folder];
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.process.start(&arguments, &[]);
        let (process, port) = (&mut self.process, self.port.number());
        wait_until("nats-server", || {
            assert!(process.is_running(), "nats-server has ended");
            // It greets whoever comes. It listens only when it has read what it keeps.
            let mut greeting = [0; 4];
            connect(port).is_some_and(|mut stream| stream.read_exact(&mut greeting).is_ok() && greeting == *b"INFO")
        });
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it: it does nothing, and its connections stay.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// The URL of it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it keeps what it keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A process of ours, or none.
#[derive(Debug, Default)]
struct Running(Option<Child>);

impl Running {
    /// Runs a command, which the kernel kills when this thread ends, however that comes.
    fn start(&mut self, command: &[&str], variables: &[(&str, &str)]) {
        assert!(self.0.is_none(), "it runs");
        let mut process = Command::new("setpriv");
        process.args(["--pdeathsig", "KILL", "--"]).args(command).envs(variables.iter().copied());
        // Its input stays open, and says nothing: Erlang would take its end for a wish.
        process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.0 = Some(process.spawn().expect("setpriv, of the Debian package util-linux, is installed"));
    }

    fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|process| process.try_wait().expect("a child can be waited for").is_none())
    }

    /// Stops it. A thread of it may go on for a moment, which is waited for.
    fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.0.as_ref().expect("it runs").id());
        let is_stopped = |task: io::Result<fs::DirEntry>| {
            let stat = task.and_then(|task| fs::read_to_string(task.path().join("stat"))).unwrap_or_default();
            stat.is_empty() || stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        };
        wait_until("a process that stands still", || {
            fs::read_dir(&tasks).expect("it is a child of ours").all(is_stopped)
        });
    }

    fn signal(&self, signal: Signal) {
        let process = self.0.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("it is a child of ours");
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.0.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection that does not wait for long.
fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}

fn wait_until(what: &str, mut is_up: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_up() {
        assert!(Instant::now() < deadline, "{what}: not there within {PATIENCE:?}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
