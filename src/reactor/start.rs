//! How the server comes up: limits of the process, sockets, signals, and what each part needs from the configuration.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Token, Waker};
use sha2::{Digest, Sha256};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use thiserror::Error;

use crate::chat::entry::Epoch;
use crate::chat::hub::{Hub, Journaled};
use crate::chat::identity::Identities;
use crate::chat::report::InstanceId;
use crate::config::{self, Config, SiteError, SiteRoot};
use crate::http::DateCache;
use crate::journal::{BusError, BusOptions, Journal, OpenError, SyncMode};
use crate::limits::Limits;
use crate::logging::Chatter;
use crate::metrics::Metrics;
use crate::net::connections::Connections;
use crate::net::listener::{self, Listener, Sharing};
use crate::net::timers::Timers;
use crate::site::{Manner, Root, Site};
use crate::ws::origin::{InvalidOrigin, OriginPolicy};
use crate::ws::session::Workbench;

use super::api::Desk;
use super::descriptors::Shares;
use super::end::Goodbyes;
use super::talk::Gate;
use super::{Budgets, FIRST_LISTENER, Reactor, SIGNALS, Scratch, WAKER};

/// A secret that is shorter can be guessed.
const LEAST_SECRET_BYTES: usize = 16;
/// Lines about clients in the log, in one second.
const CLIENT_LINES_PER_SECOND: u32 = 20;

/// Why the server cannot start, as a sentence a person can act on.
#[derive(Debug, Error)]
pub enum StartError {
    /// The folder to serve is not one.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The files to serve cannot be opened.
    #[error("cannot serve files: {0}")]
    Files(io::Error),
    /// An allowed origin is not an origin.
    #[error("--allow-origin: {0}")]
    Origin(#[from] InvalidOrigin),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The bus cannot be used, or the store beside it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The file that signs tokens cannot be used.
    #[error("cannot use the secret in {}: {error}", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {why}", why = describe(.error))]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The system refuses what every event loop needs.
    #[error("cannot set up the event loop: {0}")]
    Loop(#[from] io::Error),
}

impl StartError {
    /// Whether what was asked for can never be had, on any machine.
    #[must_use]
    pub fn is_of_usage(&self) -> bool {
        matches!(self, StartError::Origin(_) | StartError::Bus(BusError::Url(_)))
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program; choose another with --port".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 are for root".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

impl Reactor {
    /// Binds the sockets and makes everything ready. Nothing is accepted before [`run`](Reactor::run).
    ///
    /// # Errors
    ///
    /// When something the configuration asks for cannot be had.
    pub fn start(config: &Config) -> Result<Reactor, StartError> {
        let root = config.site(Path::new("."))?;
        let mut limits = config.limits.clone();
        if matches!(root, SiteRoot::Embedded) {
            // All of it is in memory.
            limits.max_open_files = Some(0);
        }
        let shares = Shares::of_process(&limits);
        let Shares { descriptors, most_connections, open_files, most_open_files } = shares;
        if open_files > most_open_files {
            tracing::warn!(
                "--max-open-files {open_files} is more than the {most_open_files} that {descriptors} open files allow \
                 beside as many clients; raise the limit of open files (ulimit -n)"
            );
        }
        let max_connections = limits.max_connections.unwrap_or(most_connections);
        if max_connections > most_connections {
            tracing::warn!(
                "--max-connections {max_connections} is more than the {most_connections} that {descriptors} open files \
                 allow; raise the limit of open files (ulimit -n)"
            );
        }
        limits.max_connections = Some(max_connections);
        limits.max_open_files = Some(open_files);
        let poll = Poll::new()?;
        let sharing = if config.reuse_port { Sharing::Shared } else { Sharing::Exclusive };
        let mut listeners = listener::bind_all(
            &config.hosts,
            config.port,
            config.hosts_are_default,
            sharing,
            limits.notsent_low_water_bytes,
        )
        .map_err(|(address, error)| StartError::Listen { address, error })?;
        for (place, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(FIRST_LISTENER + place))?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        poll.registry().register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let wake = move || {
            // A waker fails only when its descriptor is gone, and then so is the loop.
            let _ = waker.wake();
        };
        tracing::info!("serving {root}");
        let root = match root {
            SiteRoot::Folder(folder) => Root::Folder(folder),
            SiteRoot::Embedded => Root::Embedded,
        };
        let manner = Manner {
            spa: config.spa,
            listing: config.listing,
            cache_control: config.cache_control.clone(),
            headers: config.headers.clone(),
        };
        let site = Site::start_with(root, manner, &limits, wake.clone()).map_err(StartError::Files)?;
        let gate = Gate {
            origins: OriginPolicy::new(&config.allow_origins)?,
            trusted_proxies: config.trusted_proxies.clone(),
            refuses_raw: config.no_raw,
        };
        tracing::info!(
            "up to {max_connections} connections and {open_files} streamed files, as {descriptors} open files are allowed"
        );
        let bound_port = listeners.first().map_or(config.port, |listener| listener.address().port());
        let sync = match config.sync {
            config::SyncMode::Normal => SyncMode::Normal,
            config::SyncMode::Full => SyncMode::Full,
        };
        let store = config.store(bound_port);
        let journal = match (&config.bus, &store) {
            (Some(bus), store) => {
                let (url, prefix) = (bus.url.clone(), bus.prefix.clone());
                let options = BusOptions { url, prefix, has_key: config.secret_file.is_some() };
                Journal::bus(&options, store.as_deref(), sync, &limits, wake)?
            }
            (None, Some(path)) => Journal::sqlite(path, sync, &limits, wake)?,
            (None, None) => Journal::memory(&limits, Epoch(getrandom::u64().map_err(io::Error::from)?)),
        };
        match &store {
            None if config.bus.is_some() => tracing::info!("messages are kept in memory, and on the bus"),
            None => tracing::info!("messages are kept in memory, and are gone when this process ends"),
            Some(path) => tracing::info!("messages are kept in {}", path.display()),
        }
        let key = match &config.secret_file {
            Some(path) => secret_of(path)?,
            None => journal.secret().map_or_else(random, Ok)?,
        };
        let identities = Identities::new(key, random()?);
        let now = Instant::now();
        let mut reactor = Reactor::new(poll, journal, identities, site, gate, limits, now);
        if config.bus.is_some() {
            reactor.hub.report_as(InstanceId(getrandom::u64().map_err(io::Error::from)?), now);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
        if !addresses.first().is_some_and(|address| reactor.connections.inquire(*address)) {
            tracing::debug!("the kernel does not tell what slow clients take (sock_diag)");
        }
        Ok(Reactor { signals: Some(signals), listeners, addresses, ..reactor })
    }

    /// Puts the parts together, but for the sockets and signals through which the world reaches them.
    pub(super) fn new(
        poll: Poll,
        journal: Journal,
        identities: Identities,
        site: Site,
        gate: Gate,
        limits: Limits,
        now: Instant,
    ) -> Reactor {
        let journaled =
            Journaled { epoch: journal.epoch(), position: journal.opened_at(), keeps_history: journal.keeps_history() };
        let input = vec![0; limits.read_bytes_per_connection.min(limits.read_bytes_per_turn)].into_boxed_slice();
        Reactor {
            poll,
            signals: None,
            addresses: Vec::new(),
            listeners: Vec::new(),
            first_listener: 0,
            max_connections: limits.max_connections.unwrap_or(usize::MAX),
            accept_paused_until: None,
            connections: Connections::new(&limits),
            surplus: 0,
            addresses_there: HashMap::new(),
            timers: Timers::new(now),
            hub: Hub::new(&limits, journaled, identities),
            journal,
            site,
            streams: HashMap::new(),
            waiting: VecDeque::new(),
            budgets: Budgets::default(),
            desk: Desk::default(),
            gate,
            workbench: Workbench::new(limits.max_message_bytes),
            dates: DateCache::new(),
            metrics: Metrics::default(),
            lines: Chatter::new(CLIENT_LINES_PER_SECOND),
            started: now,
            now,
            drain_until: None,
            goodbyes: Goodbyes::default(),
            farewells: Vec::new(),
            scratch: Scratch { input, ..Scratch::default() },
            limits,
        }
    }
}

/// The key that a file of any content is.
fn secret_of(path: &Path) -> Result<[u8; 32], StartError> {
    let failed = |error| StartError::Secret { path: path.to_owned(), error };
    let content = std::fs::read(path).map_err(failed)?;
    if content.len() < LEAST_SECRET_BYTES {
        return Err(failed(io::Error::other(format!("it has less than {LEAST_SECRET_BYTES} bytes"))));
    }
    Ok(Sha256::digest(content).into())
}

/// A secret of this process.
fn random() -> Result<[u8; 32], io::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
