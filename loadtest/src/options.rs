//! The command line: one set of options for each scenario, and what they have in common stated once.
//!
//! argh has no way to share options, so a macro writes the structs. All of them become one [`Settings`], in which what a
//! scenario does not know is absent; [`crate::plan`] checks the whole.

use std::path::PathBuf;

use argh::FromArgs;

/// What was asked for, before it is checked.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are the options, which tell what they are where argh reads it")]
pub struct Settings {
    pub scenario: &'static str,
    pub url: Vec<String>,
    pub dialect: Option<String>,
    pub clients: Option<usize>,
    pub senders: Option<usize>,
    pub rate: Option<f64>,
    pub size: Option<usize>,
    pub seconds: Option<f64>,
    pub warmup: Option<f64>,
    pub settle: Option<f64>,
    pub drain: Option<f64>,
    pub ramp: Option<f64>,
    pub pid: Vec<u32>,
    pub spawn: Option<String>,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub processes: Option<usize>,
    pub spin: bool,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub assert: Vec<String>,
    pub closed_loop: bool,
    pub until: Option<String>,
    pub window: Option<u32>,
    pub steps: Option<String>,
    pub hold: Vec<String>,
    pub slow: Option<usize>,
    pub stalled: Option<usize>,
    pub slow_bytes: Option<u64>,
    pub behind: Option<u32>,
    pub join: bool,
    pub visits: Option<f64>,
    pub stay: Option<f64>,
    pub connections: Option<usize>,
    pub get_rate: Option<f64>,
    pub path: Option<String>,
}

/// Writes the struct of one scenario: the options that all have, and its own. `talks` adds those of scenarios with
/// senders on schedule, `loops` those of scenarios that can also go round in a closed loop.
macro_rules! scenario {
    ($(#[$meta:meta])* $name:ident($scenario:literal) loops { $($own:tt)* } [$($own_field:ident)*]) => {
        scenario! {
            $(#[$meta])* $name($scenario) talks {
                /// send the next message when the previous one was delivered, instead of on schedule
                #[argh(switch)]
                pub closed_loop: bool,
                /// with --closed-loop, when a message counts as delivered: `last` when every member has it, `echo` when
                /// its sender has heard it (default last)
                #[argh(option)]
                pub until: Option<String>,
                /// with --closed-loop, messages of one sender that may be on their way (default 1)
                #[argh(option)]
                pub window: Option<u32>,
                /// rates to go through one after another, such as 100,200,400
                #[argh(option)]
                pub steps: Option<String>,
                /// search for the highest rate that holds this, such as 'p99<50ms', beginning with --rate; repeatable
                #[argh(option)]
                pub hold: Vec<String>,
                $($own)*
            } [closed_loop until window steps hold $($own_field)*]
        }
    };
    ($(#[$meta:meta])* $name:ident($scenario:literal) talks { $($own:tt)* } [$($own_field:ident)*]) => {
        scenario! {
            $(#[$meta])* $name($scenario) rests {
                /// how many of the clients talk as well (default 1; all of them in `chatter`, 10 in `slow` and `cluster`)
                #[argh(option)]
                pub senders: Option<usize>,
                /// messages per second of all senders together, sent on schedule (default 10; 200 in `slow`)
                #[argh(option)]
                pub rate: Option<f64>,
                /// payload of a message in bytes, at least 40 (default 64)
                #[argh(option)]
                pub size: Option<usize>,
                /// talk this long before the measured interval (default 0)
                #[argh(option)]
                pub warmup: Option<f64>,
                $($own)*
            } [senders rate size warmup $($own_field)*]
        }
    };
    ($(#[$meta:meta])* $name:ident($scenario:literal) rests { $($own:tt)* } [$($own_field:ident)*]) => {
        #[derive(FromArgs, Debug, Clone)]
        $(#[$meta])*
        pub struct $name {
            /// where to connect to, ws:// or wss://; path and query are kept (default ws://127.0.0.1:8080); repeatable:
            /// clients take turns
            #[argh(option)]
            pub url: Vec<String>,
            /// how to speak: `raw`, or `v1` for chat.v1 in the room of the url's ?room= (default raw; v1 in `storm` and
            /// `cluster`)
            #[argh(option)]
            pub dialect: Option<String>,
            /// sockets to open, all of which listen (default 100)
            #[argh(option)]
            pub clients: Option<usize>,
            /// length of the measured interval (default 10)
            #[argh(option)]
            pub seconds: Option<f64>,
            /// rest between the last handshake and the first message (default 0.2)
            #[argh(option)]
            pub settle: Option<f64>,
            /// wait at most this long for what is still on its way at the end (default 5)
            #[argh(option)]
            pub drain: Option<f64>,
            /// connections opened per second (default: as fast as the server answers)
            #[argh(option)]
            pub ramp: Option<f64>,
            /// process id of the server: report its CPU time, memory and context switches; repeatable: those of several
            /// instances are added up
            #[argh(option)]
            pub pid: Vec<u32>,
            /// command that starts the server, such as 'chat-app --port {port} --memory'; it is measured like --pid and
            /// ended afterwards
            #[argh(option)]
            pub spawn: Option<String>,
            /// for wss://: file with certificates, in PEM, to believe instead of those that this machine trusts
            #[argh(option)]
            pub ca: Option<PathBuf>,
            /// for wss://: believe every certificate, such as one that a server has signed itself
            #[argh(switch)]
            pub insecure: bool,
            /// never sleep while waiting: keeps the wake-up of this process, which the kernel charges to a server on the
            /// same machine, out of the server's CPU time
            #[argh(switch)]
            pub spin: bool,
            /// write the results to this file as JSON
            #[argh(option)]
            pub json: Option<PathBuf>,
            /// write a page with plots to this file
            #[argh(option)]
            pub html: Option<PathBuf>,
            /// fail unless this holds, such as 'p99<50ms' or 'lost==0'; repeatable
            #[argh(option)]
            pub assert: Vec<String>,
            $($own)*
        }

        impl From<$name> for Settings {
            fn from(options: $name) -> Settings {
                let $name {
                    url, dialect, clients, seconds, settle, drain, ramp, pid, spawn, ca, insecure, spin, json, html, assert, $($own_field,)* ..
                } = options;
                Settings {
                    scenario: $scenario,
                    url, dialect, clients, seconds, settle, drain, ramp, pid, spawn, ca, insecure, spin, json, html, assert, $($own_field,)*
                    ..Settings::default()
                }
            }
        }
    };
}

scenario! {
    /// Opens thousands of WebSockets against a chat server that sends every message to everybody, its sender included, and
    /// measures what they get: loss, duplicates, disorder, latency to each member and to the last one, and with --pid or
    /// --spawn what it costs the server. Without the name of a scenario it is `fanout`.
    #[argh(
        note = "Times are seconds and may be fractions. Latency counts from when a message was due, not from when it could be \
                sent. `loadtest SCENARIO --help` tells the options of a scenario.",
        example = "loadtest --url 'ws://127.0.0.1:8080/?room=load' --clients 10000 --senders 10 --rate 50 --pid 4711",
        example = "loadtest slow --spawn 'chat-app --port {{port}}' --clients 1000 --slow 200 --rate 2000 --html slow.html",
        error_code(0, "Everybody heard every message once and in order, and every assertion holds."),
        error_code(1, "A message was lost, doubled, disordered or changed, a client was refused or thrown out, or an assertion does not hold."),
        error_code(2, "The command line asks for what cannot be."),
    )]
    Options("fanout") loops {
        /// worker processes, for more sockets than one may open (default 1)
        #[argh(option)]
        pub processes: Option<usize>,
        /// send nothing, only hold the sockets and answer pings
        #[argh(switch)]
        pub idle: bool,
        /// print version and exit
        #[argh(switch)]
        pub version: bool,
        #[argh(subcommand)]
        #[allow(missing_docs)]
        pub command: Option<Command>,
    } [processes]
}

/// What comes instead of the options of `fanout`.
#[derive(FromArgs, Debug, Clone)]
#[argh(subcommand)]
#[allow(missing_docs, reason = "each is documented where its options are")]
pub enum Command {
    Fanout(Fanout),
    Chatter(Chatter),
    Idle(Idle),
    Storm(Storm),
    Slow(Slow),
    Churn(Churn),
    Cluster(Cluster),
    Http(Http),
    Diff(Diff),
}

scenario! {
    /// Few talk and many listen: 100 clients of which one says 10 messages per second, unless told otherwise.
    #[argh(subcommand, name = "fanout")]
    Fanout("fanout") loops {
        /// worker processes, for more sockets than one may open (default 1)
        #[argh(option)]
        pub processes: Option<usize>,
    } [processes]
}

scenario! {
    /// Everybody talks, in a closed loop unless --rate is given.
    #[argh(subcommand, name = "chatter")]
    Chatter("chatter") loops {
        /// worker processes, for more sockets than one may open (default 1)
        #[argh(option)]
        pub processes: Option<usize>,
    } [processes]
}

scenario! {
    /// Nobody talks: memory per connection, and pings.
    #[argh(subcommand, name = "idle")]
    Idle("idle") rests {
        /// worker processes, for more sockets than one may open (default 1)
        #[argh(option)]
        pub processes: Option<usize>,
    } [processes]
}

scenario! {
    /// All drop and come back at once: the time until all have caught up. With chat.v1 (the default here) they resume behind
    /// the last position they have heard; raw clients only come back.
    #[argh(subcommand, name = "storm")]
    Storm("storm") talks {
        /// messages that are said while they are away (default 200)
        #[argh(option)]
        pub behind: Option<u32>,
        /// nobody was there before: all come for the first time, which makes them known to each other
        #[argh(switch)]
        pub join: bool,
    } [behind join]
}

scenario! {
    /// A share of the members reads slowly or not at all. The others' latency is compared with an interval before, in which all
    /// read; then the slow ones read on, and have to have heard everything.
    #[argh(subcommand, name = "slow")]
    Slow("slow") talks {
        /// how many read slowly or not at all (default: a fifth of the clients)
        #[argh(option)]
        pub slow: Option<usize>,
        /// how many of these do not read at all (default: half of them)
        #[argh(option)]
        pub stalled: Option<usize>,
        /// what one that reads slowly takes per second, in bytes (default 10000)
        #[argh(option)]
        pub slow_bytes: Option<u64>,
    } [slow stalled slow_bytes]
}

scenario! {
    /// Connections come and go while others talk. Half of them close properly, half are cut.
    #[argh(subcommand, name = "churn")]
    Churn("churn") talks {
        /// connections that come and go, per second (default 100)
        #[argh(option)]
        pub visits: Option<f64>,
        /// how long one stays, in seconds (default 1)
        #[argh(option)]
        pub stay: Option<f64>,
    } [visits stay]
}

scenario! {
    /// Several instances are one chat: give --url for each. Clients and senders are spread over them; everybody has to hear
    /// everything, and with chat.v1 (the default here) the same at the same position.
    #[argh(subcommand, name = "cluster")]
    Cluster("cluster") loops {
        /// worker processes, for more sockets than one may open (default 1)
        #[argh(option)]
        pub processes: Option<usize>,
    } [processes]
}

scenario! {
    /// The site is asked for a file, again and again on connections that stay open, while others chat.
    #[argh(subcommand, name = "http")]
    Http("http") talks {
        /// connections that ask (default 10)
        #[argh(option)]
        pub connections: Option<usize>,
        /// requests per second of all of them, sent on schedule (default: each asks again when it was answered)
        #[argh(option)]
        pub get_rate: Option<f64>,
        /// what to ask for (default /)
        #[argh(option)]
        pub path: Option<String>,
    } [connections get_rate path]
}

/// Compares the JSON files of two runs, figure by figure.
#[derive(FromArgs, Debug, Clone)]
#[argh(subcommand, name = "diff")]
pub struct Diff {
    /// the JSON file of the former run
    #[argh(positional)]
    pub before: PathBuf,
    /// the JSON file of the later run
    #[argh(positional)]
    pub after: PathBuf,
}

/// What the command line wants.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A run.
    Run(Box<Settings>),
    /// A comparison of two former ones.
    Diff(Diff),
    /// The version.
    Version,
}

impl Options {
    /// Chooses between the scenarios; the error is a sentence. `first` is the first word of the command line.
    pub fn wanted(mut self, first: Option<&str>) -> Result<Wanted, String> {
        if self.version {
            return Ok(Wanted::Version);
        }
        let idle = self.idle;
        let mut settings = match self.command.take() {
            None => Settings::from(self),
            Some(_) if first.is_some_and(|word| word.starts_with('-')) => {
                return Err("options go behind the name of the scenario".into());
            }
            Some(Command::Fanout(options)) => options.into(),
            Some(Command::Chatter(options)) => options.into(),
            Some(Command::Idle(options)) => options.into(),
            Some(Command::Storm(options)) => options.into(),
            Some(Command::Slow(options)) => options.into(),
            Some(Command::Churn(options)) => options.into(),
            Some(Command::Cluster(options)) => options.into(),
            Some(Command::Http(options)) => options.into(),
            Some(Command::Diff(diff)) => return Ok(Wanted::Diff(diff)),
        };
        if idle {
            settings.scenario = "idle";
        }
        Ok(Wanted::Run(Box::new(settings)))
    }
}

/// Splits `--name=value` in two, which argh does not do by itself.
pub fn normalise(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut out = Vec::new();
    for argument in arguments {
        match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => out.extend([name.to_owned(), value.to_owned()]),
            _ => out.push(argument),
        }
    }
    out
}
