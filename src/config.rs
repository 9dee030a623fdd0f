//! What the server is told: the command line, the environment, and the defaults for everything else.
//!
//! [`Command::read`] turns them into a [`Config`], which is valid once it is constructed: every value has been checked,
//! and so have the relations between values. Nobody else reads arguments or the environment.
//!
//! It touches the file system in one place, [`Config::site`], and opens nothing.

mod args;
mod bus;
mod fields;
mod values;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use argh::EarlyExit;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use thiserror::Error;
use tracing_subscriber::filter::Targets;

use self::args::Args;
use self::bus::BusUrl;
use self::fields::{CacheRule, Field, Lines};
use self::values::{BusPrefix, Host, List, Network, Origin, Port, Size};
use crate::limits::Limits;

/// The port that is used when none is given.
const DEFAULT_PORT: u16 = 8080;

/// The folder in which messages are kept when none is given.
const DEFAULT_DATA: &str = "chat-data";

/// What names on a bus begin with when nothing else is given.
const DEFAULT_PREFIX: &str = "chat-app";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve(Box<Config>),
    /// Print this text (help or version) on standard output and end.
    Print(String),
}

/// What is wrong with the command line or the environment, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Everything that the server is told. Valid once constructed.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Addresses to listen on, without repeats; never empty.
    pub hosts: Vec<IpAddr>,
    /// Nobody asked for [`hosts`](Self::hosts) by name, so it is no error if this machine does not have one of them.
    pub hosts_are_default: bool,
    /// Port to listen on, the same on every host; 0 takes a free one.
    pub port: u16,
    /// Folder to serve, as given; [`site`](Self::site) knows what to do without.
    pub public: Option<PathBuf>,
    /// What is not found and has no extension gets the root's index.html.
    pub spa: bool,
    /// Folders without an index.html are listed.
    pub listing: bool,
    /// Patterns of paths and the `Cache-Control` of what they match; the first that matches counts.
    pub cache_control: Vec<(String, HeaderValue)>,
    /// Fields that are added to the responses of the site.
    pub headers: HeaderMap,
    /// Folder in which messages are kept, as given; [`store`](Self::store) knows the file.
    pub data: PathBuf,
    /// The file whose content signs tokens.
    pub secret_file: Option<PathBuf>,
    /// Clients that do not speak chat.v1 are refused.
    pub no_raw: bool,
    /// Messages are kept in memory only.
    pub memory: bool,
    /// Other instances may listen on the same port.
    pub reuse_port: bool,
    /// When messages are on the disk.
    pub sync: SyncMode,
    /// What makes several instances one chat.
    pub bus: Option<Bus>,
    /// Which log lines are written.
    pub log: Targets,
    /// Origins whose pages may open WebSockets besides our own, as browsers send them; `*` means all.
    pub allow_origins: Vec<String>,
    /// Peers that are believed when they tell the client's address and host.
    pub trusted_proxies: Vec<IpNet>,
    /// Every bound of the server.
    pub limits: Limits,
}

/// A bus, and what is ours on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bus {
    /// Where it is. It may have a password.
    pub url: String,
    /// What the names of everything on it begin with.
    pub prefix: String,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// When messages are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// When the system has written them; a machine that loses its power may lose the last moments.
    #[default]
    Normal,
    /// Before anybody hears them.
    Full,
}

/// Where the files of the site come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteRoot {
    /// A folder on disk.
    Folder(PathBuf),
    /// The copy of `public/` inside the binary.
    Embedded,
}

impl fmt::Display for SiteRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiteRoot::Folder(folder) => write!(f, "the folder {}", folder.display()),
            SiteRoot::Embedded => f.write_str("the page that is part of the program"),
        }
    }
}

/// The folder to serve cannot be served.
#[derive(Debug, Error)]
#[error("cannot serve the folder {}: {error}", folder.display())]
pub struct SiteError {
    folder: PathBuf,
    error: io::Error,
}

impl Command {
    /// Reads the arguments, without the name of the program, and the environment through `variable`.
    ///
    /// # Errors
    /// An unknown option, a value that is not accepted, or values that contradict each other.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let arguments = arguments.into_iter().map(|argument| {
            let not_utf8 = |argument: OsString| UsageError(format!("The argument {argument:?} is not UTF-8."));
            argument.into_string().map_err(not_utf8)
        });
        // What is not UTF-8 is kept with replacement characters, which no option but a folder accepts.
        let variable = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        match Args::read(arguments.collect::<Result<_, _>>()?, variable) {
            Ok(args) if args.version => Ok(Command::Print(format!("chat-app {}\n", env!("CARGO_PKG_VERSION")))),
            Ok(args) => Ok(Command::Serve(Box::new(Config::new(args)?))),
            Err(EarlyExit { output, status: Ok(()) }) => Ok(Command::Print(output)),
            Err(EarlyExit { output, status: Err(()) }) => Err(UsageError(output.trim_end().to_owned())),
        }
    }
}

impl Config {
    fn new(args: Args) -> Result<Self, UsageError> {
        let limits = args.limits(&Limits::default());
        check(&limits)?;
        let port = match (args.named_port, args.port) {
            (Some(Port(named)), Some(Port(bare))) if named != bare => {
                return Err(UsageError(format!("The port is given twice, as {bare} and as --port {named}.")));
            }
            (named, bare) => named.or(bare).map_or(DEFAULT_PORT, |Port(port)| port),
        };
        if args.memory && args.data.is_some() {
            return Err(UsageError("--data and --memory contradict each other.".to_owned()));
        }
        if args.reuse_port && args.data.is_none() && !args.memory {
            let sentence = "--reuse-port needs --data DIR, another folder for each instance, or --memory.";
            return Err(UsageError(sentence.to_owned()));
        }
        let hosts_are_default = args.host.is_empty();
        let mut hosts = Vec::new();
        for Host(host) in flat(args.host) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        if hosts_are_default {
            hosts = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        }
        let prefix = args.bus_prefix.map_or_else(|| DEFAULT_PREFIX.to_owned(), |BusPrefix(prefix)| prefix);
        let url = args.bus.map(BusUrl::checked).transpose()?;
        let bus = url.map(|url| Bus { url, prefix });
        let rules = args.cache_control.into_iter().flat_map(|Lines(rules)| rules);
        let fields = args.header.into_iter().flat_map(|Lines(fields)| fields);
        let mut headers = HeaderMap::new();
        for Field(name, value) in fields {
            headers.append(name, value);
        }
        Ok(Config {
            hosts,
            hosts_are_default,
            port,
            public: args.public,
            spa: args.spa,
            listing: args.listing,
            cache_control: rules.map(|CacheRule(pattern, value)| (pattern, value)).collect(),
            headers,
            secret_file: args.secret_file,
            no_raw: args.no_raw,
            reuse_port: args.reuse_port,
            memory: args.memory || port == 0 && args.data.is_none(),
            data: args.data.unwrap_or_else(|| DEFAULT_DATA.into()),
            sync: args.sync.map_or(SyncMode::default(), |values::SyncMode(sync)| sync),
            bus,
            log: args.log.unwrap_or_default().0,
            allow_origins: flat(args.allow_origin).map(|Origin(origin)| origin).collect(),
            trusted_proxies: flat(args.trust_proxy).map(|Network(network)| network).collect(),
            limits,
        })
    }

    /// The file in which messages are kept, for the port that was bound; `None` if they are kept in memory only.
    #[must_use]
    pub fn store(&self, bound_port: u16) -> Option<PathBuf> {
        (!self.memory).then(|| self.data.join(format!("{bound_port}.db")))
    }

    /// Finds the site: the folder of `--public`; else `public` in `working_directory`, if it holds an `index.html`;
    /// else the embedded copy.
    ///
    /// # Errors
    /// The folder of `--public` does not exist, is not a folder, or may not be read.
    pub fn site(&self, working_directory: &Path) -> Result<SiteRoot, SiteError> {
        match &self.public {
            Some(folder) => match fs::read_dir(folder) {
                Ok(_) => Ok(SiteRoot::Folder(folder.clone())),
                Err(error) => Err(SiteError { folder: folder.clone(), error }),
            },
            None => {
                let folder = working_directory.join("public");
                let found = folder.join("index.html").is_file();
                Ok(if found { SiteRoot::Folder(folder) } else { SiteRoot::Embedded })
            }
        }
    }
}

fn flat<T>(lists: Vec<List<T>>) -> impl Iterator<Item = T> {
    lists.into_iter().flat_map(|List(items)| items)
}

/// The relations between limits without which the server could not keep its promises.
fn check(limits: &Limits) -> Result<(), UsageError> {
    let outbox = ("--outbox-high-water", limits.outbox_high_water_bytes);
    let message = ("--max-message", limits.max_message_bytes);
    let tail = ("--tail-bytes", limits.tail_bytes);
    let at_most = [
        (("--read-per-connection", limits.read_bytes_per_connection), ("--read-per-turn", limits.read_bytes_per_turn)),
        (("--max-target", limits.max_target_bytes), ("--max-head", limits.max_head_bytes)),
        (outbox, ("--outboxes-total", limits.outboxes_total_bytes)),
        (message, ("--outboxes-total", limits.outboxes_total_bytes)),
        (message, ("--draft-bytes-in-flight", limits.max_draft_bytes_in_flight)),
        (message, tail),
        (tail, ("--tails-total", limits.tails_total_bytes)),
    ];
    let told = |(name, bytes): (&str, usize)| format!("{name} ({})", Size::from(bytes));
    for (smaller, larger) in at_most {
        if smaller.1 > larger.1 {
            return Err(UsageError(format!("{} must not exceed {}.", told(smaller), told(larger))));
        }
    }
    let low = ("--outbox-low-water", limits.outbox_low_water_bytes);
    if low.1 >= outbox.1 {
        return Err(UsageError(format!("{} must be less than {}.", told(low), told(outbox))));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
