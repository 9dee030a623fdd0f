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
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(line: &str, environment: &[(&str, &str)]) -> Result<Command, UsageError> {
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Command::read(line.split_whitespace().map(OsString::from), variable)
    }

    fn config(line: &str, environment: &[(&str, &str)]) -> Config {
        match read(line, environment) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{line} {environment:?}: {other:?}"),
        }
    }

    #[test]
    fn the_defaults() {
        let defaults = config("", &[]);
        assert_eq!(defaults.limits, Limits::default());
        assert_eq!((defaults.port, defaults.public.clone(), defaults.memory), (8080, None, false));
        assert_eq!(defaults.hosts, ["0.0.0.0", "::"].map(|host| host.parse::<IpAddr>().unwrap()));
        assert!(defaults.hosts_are_default);
        assert_eq!(defaults.log.to_string(), "async_nats=off,lapin=off,info");
        assert!(defaults.allow_origins.is_empty() && defaults.trusted_proxies.is_empty());
        assert_eq!(config("--port 8080 --log info", &[]), defaults, "as the help says");
    }

    #[test]
    fn the_port_from_everywhere() {
        for (line, variable, expected) in [
            ("", "", 8080),
            ("8081", "", 8081),
            ("--port 8082", "", 8082),
            ("--port=8083", "", 8083),
            ("8084 --port 8084", "", 8084),
            ("", "8085", 8085),
            ("8086", "1", 8086),
            ("--port 8087", "1", 8087),
            ("--port=8088", "nonsense", 8088),
            ("-- 8089", "", 8089),
            ("--memory 8090", "", 8090),
            ("", "tcp://10.0.0.1:80", 8080),
        ] {
            assert_eq!(config(line, &[("CHAT_PORT", variable)]).port, expected, "{line:?} {variable:?}");
        }
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let config = config(
            "--host 127.0.0.1 --host=::1,127.0.0.1 --allow-origin http://a --allow-origin http://b,https://c:443",
            &[("CHAT_TRUST_PROXY", "127.0.0.1, 10.0.0.0/8"), ("CHAT_ALLOW_ORIGIN", "*"), ("CHAT_HOST", "::")],
        );
        assert_eq!(config.hosts, ["127.0.0.1", "::1"].map(|host| host.parse::<IpAddr>().unwrap()));
        assert!(!config.hosts_are_default);
        assert_eq!(config.allow_origins, ["http://a", "http://b", "https://c"], "the command line wins");
        assert_eq!(config.trusted_proxies, ["127.0.0.1/32", "10.0.0.0/8"].map(|net| net.parse::<IpNet>().unwrap()));
    }

    #[test]
    fn switches_and_limits_from_the_environment() {
        for (line, value, expected) in [
            ("", "1", true),
            ("", "yes", true),
            ("", "false", false),
            ("--memory", "0", true),
            ("--memory=no", "1", false),
        ] {
            assert_eq!(config(line, &[("CHAT_MEMORY", value)]).memory, expected, "{line:?} {value:?}");
        }
        let variables = [
            ("CHAT_MAX_MESSAGE", "128KiB"),
            ("CHAT_PING_INTERVAL", "5s"),
            ("CHAT_UNKNOWN", "x"),
            ("CHAT_VERSION", "1"),
        ];
        let limits = config("--ping-interval 7s", &variables).limits;
        assert_eq!((limits.max_message_bytes, limits.ping_interval), (128 << 10, Duration::from_secs(7)));
    }

    #[test]
    fn what_is_kept_and_where() {
        for (line, port, expected) in [
            ("", 8080, Some("chat-data/8080.db")),
            ("--port 80 --data /var/lib/chat", 80, Some("/var/lib/chat/80.db")),
            ("--memory", 8080, None),
            ("--port 0", 40_000, None),
            ("--port 0 --data here", 40_000, Some("here/40000.db")),
        ] {
            assert_eq!(config(line, &[]).store(port), expected.map(PathBuf::from), "{line}");
        }
        let both = config("--sync full --keep 90d,10GiB --keep 1000 --keep 30d", &[]);
        assert_eq!(both.sync, SyncMode::Full);
        let Limits { keep_age, keep_entries, keep_bytes, .. } = both.limits;
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!((keep_age, keep_entries, keep_bytes), (Some(month), Some(1000), Some(10 << 30)), "the least wins");
    }

    #[test]
    fn how_the_site_is_served() {
        let served = |variable: &str| {
            let variables = [("CHAT_CACHE_CONTROL", variable), ("CHAT_SPA", "1")];
            let line = ["--header", "A: b, c", "--header=A: d"].map(OsString::from);
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            match Command::read(line, variable) {
                Ok(Command::Serve(config)) => *config,
                other => panic!("{other:?}"),
            }
        };
        let config = served("*.css: no-store\n/a/*: max-age=1, public");
        assert!(config.spa && !config.listing);
        assert_eq!(config.headers.get_all("a").iter().collect::<Vec<_>>(), ["b, c", "d"]);
        let rules: Vec<_> = config.cache_control.iter().map(|(pattern, value)| (pattern.as_str(), value)).collect();
        let value = HeaderValue::from_static;
        assert_eq!(rules, [("*.css", &value("no-store")), ("/a/*", &value("max-age=1, public"))]);
    }

    #[test]
    fn mistakes_are_told_in_one_sentence() {
        let sizes = "expected bytes such as 65536, 64KiB or 8MiB, from 1 to 1024GiB";
        for (line, environment, expected) in [
            ("--port abc", None, "Error parsing option '--port' with value 'abc': expected a port from 0 to 65535"),
            ("--port=65536", None, "Error parsing option '--port' with value '65536': expected a port from 0 to 65535"),
            ("--port", None, "No value provided for option '--port'."),
            ("--port 1 --port 2", None, "Error parsing option '--port' with value '2': duplicate values provided"),
            ("abc", None, "Error parsing positional argument 'port' with value 'abc': expected a port from 0 to 65535"),
            ("8081 --port 8082", None, "The port is given twice, as 8081 and as --port 8082."),
            ("8081 8082", None, "Unrecognized argument: 8082"),
            ("--prot 8081", None, "Unrecognized argument: --prot"),
            ("--max-message 0", None, &format!("Error parsing option '--max-message' with value '0': {sizes}")),
            ("", Some(("CHAT_PORT", "x")), "Error parsing CHAT_PORT with value 'x': expected a port from 0 to 65535"),
            ("", Some(("CHAT_MAX_HEAD", "2X")), &format!("Error parsing CHAT_MAX_HEAD with value '2X': {sizes}")),
            (
                "",
                Some(("CHAT_MEMORY", "maybe")),
                "Error parsing CHAT_MEMORY with value 'maybe': expected 1, true, yes, 0, false or no",
            ),
            (
                "--header Date:now",
                None,
                "Error parsing option '--header' with value 'Date:now': the server says date itself",
            ),
            (
                "--cache-control no-store",
                None,
                "Error parsing option '--cache-control' with value 'no-store': expected a pattern and a value such as \
                 \"/assets/*: max-age=3600\" or \"*: no-store\"",
            ),
            ("--memory --data x", None, "--data and --memory contradict each other."),
            ("--reuse-port", None, "--reuse-port needs --data DIR, another folder for each instance, or --memory."),
            ("", Some(("CHAT_SYNC", "always")), "Error parsing CHAT_SYNC with value 'always': expected normal or full"),
            (
                "--outbox-low-water 256KiB",
                None,
                "--outbox-low-water (256KiB) must be less than --outbox-high-water (256KiB).",
            ),
            (
                "--read-per-connection 2MiB",
                None,
                "--read-per-connection (2MiB) must not exceed --read-per-turn (1MiB).",
            ),
            (
                "--file-piece 4095",
                None,
                "Error parsing option '--file-piece' with value '4095': expected bytes such as 65536, 64KiB or 8MiB, \
                 from 4096 to 1024GiB",
            ),
            (
                "--max-header-fields 4097",
                None,
                "Error parsing option '--max-header-fields' with value '4097': expected a whole number from 1 to 4096",
            ),
            ("--max-head 1000", None, "--max-target (8KiB) must not exceed --max-head (1000 bytes)."),
            ("--max-message 8MiB", None, "--max-message (8MiB) must not exceed --tail-bytes (4MiB)."),
            ("--tail-bytes 1GiB", None, "--tail-bytes (1GiB) must not exceed --tails-total (64MiB)."),
        ] {
            let result = read(line, environment.as_slice());
            assert_eq!(result.map_err(|err| err.to_string()).unwrap_err(), expected, "{line:?} {environment:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![b'-', 0xff]);
        let error = Command::read([bytes], |_| None).unwrap_err();
        assert_eq!(error.to_string(), r#"The argument "-\xFF" is not UTF-8."#);
    }

    #[test]
    fn help_and_version() {
        for line in ["--version", "-V", "--version --port 1"] {
            let Ok(Command::Print(text)) = read(line, &[("CHAT_PORT", "nonsense")]) else { panic!("{line}") };
            assert_eq!(text, "chat-app 0.1.0\n");
        }
        for line in ["--help", "-h", "help", "--port 1 --help"] {
            let Ok(Command::Print(text)) = read(line, &[("CHAT_PORT", "nonsense")]) else { panic!("{line}") };
            assert!(text.starts_with("Usage: chat-app [<port>] [<options>]\n"), "{text}");
        }
    }

    #[test]
    fn the_site() {
        let directory = tempfile::tempdir().unwrap();
        let site = |line: &str| config(line, &[]).site(directory.path());
        assert_eq!(site("").unwrap(), SiteRoot::Embedded, "no public");
        let public = directory.path().join("public");
        fs::create_dir(&public).unwrap();
        assert_eq!(site("").unwrap(), SiteRoot::Embedded, "public without index.html");
        assert_eq!(site(&format!("--public {}", public.display())).unwrap(), SiteRoot::Folder(public.clone()));
        fs::write(public.join("index.html"), "").unwrap();
        assert_eq!(site("").unwrap(), SiteRoot::Folder(public.clone()));
        for missing in [public.join("index.html"), public.join("nowhere")] {
            let error = site(&format!("--public {}", missing.display())).unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot serve the folder {}: ", missing.display())));
        }
    }
}
