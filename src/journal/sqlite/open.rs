//! Opening the file: who may have it, whether it is what it should be, and a sentence for whoever started us if not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use crate::chat::entry::Epoch;

use super::schema::{self, APPLICATION_ID, Life, VERSION};
use super::{Order, SyncMode};

/// Another program, a backup for one, may hold the file's lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Up to this size all tables are checked whenever the file is opened.
const CHECKED_BYTES: u64 = 64 << 20;
/// After a checkpoint the write-ahead log is cut to this.
const WAL_BYTES: i64 = 32 << 20;

/// Why what is kept cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not there and cannot be made, or nothing can be made in it.
    #[error("cannot keep messages in the folder {}: {error}; choose another with --data, or keep none with --memory",
        folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another instance has it.
    #[error("{} is in use by another chat-app{}; stop that one, or start this one with another --port or --data",
        path.display(), process.map(|process| format!(" (process {process})")).unwrap_or_default())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The other's process.
        process: Option<u32>,
    },
    /// It may not be written.
    #[error("cannot write {}: {detail}; make it writable, or choose another folder with --data", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the database or the system says.
        detail: String,
    },
    /// There is no space for it.
    #[error("cannot write {}: the disk is full; make space, or choose another folder with --data", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} holds something else than messages of chat-app; choose another folder with --data", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be understood.
    #[error("{} is damaged ({detail}); move it away to start anew, or rescue what is in it with `sqlite3 {} .recover`",
        path.display(), path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It comes from the future.
    #[error("{} was written by a newer chat-app (format {version}, and this one knows {VERSION}); start that one, \
        or choose another folder with --data", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: i32,
    },
    /// Something else is wrong.
    #[error("cannot open {}: {detail}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the database or the system says.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn new(path: &Path, error: &rusqlite::Error) -> OpenError {
        let (path, detail) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                OpenError::ReadOnly { path, detail }
            }
            Some(ErrorCode::DiskFull) => OpenError::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { path, detail },
            _ => OpenError::Failed { path, detail },
        }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> OpenError {
        OpenError::Failed { path: path.to_owned(), detail: error.to_string() }
    }
}

/// The file, opened for writing.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) life: Life,
    pub(super) lock: Lock,
}

/// Keeps other instances away for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Opens the file, makes or migrates it if need be, and begins a life in it. `boot` tells the machine's starts apart.
pub(super) fn open(path: &Path, sync: SyncMode, boot: &str, order: Order) -> Result<Opened, OpenError> {
    let lock = lock(path)?;
    create(path)?;
    let failed = |error: rusqlite::Error| OpenError::new(path, &error);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let version = check(path, &connection)?;
    // How free pages are given back must be said before there are tables. The log is said to be written ahead first of
    // all that writes, so that no reader ever waits.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let detail = "its file system has no shared memory; choose a local disk with --data".to_owned();
        return Err(OpenError::Failed { path: path.to_owned(), detail });
    }
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES).map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    schema::migrate(&mut connection, version).map_err(failed)?;
    let random = |error: getrandom::Error| OpenError::io(path, &error.into());
    let mut fresh = Life { epoch: Epoch(getrandom::u64().map_err(random)?), secret: [0; 32], mark: None };
    getrandom::fill(&mut fresh.secret).map_err(random)?;
    let life = schema::begin_life(&mut connection, sync, boot, order, &fresh).map_err(failed)?;
    connection.pragma_update(None, "synchronous", sync.name()).map_err(failed)?;
    Ok(Opened { connection, life, lock })
}

/// Another connection, that never writes.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, OpenError> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| OpenError::new(path, &error))
}

/// Another connection, for checkpoints.
pub(super) fn open_to_checkpoint(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    connection.map_err(|error| OpenError::new(path, &error))
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The lock is a file of its own beside the messages: SQLite's locks on theirs would go when any handle to it is closed.
fn lock(path: &Path) -> Result<Lock, OpenError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let unusable = |error| OpenError::Folder { folder: folder.to_owned(), error };
    // It holds the key that makes people who they are: it is nobody else's.
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    let lock_path = beside(path, "lock");
    let mut file = OpenOptions::new();
    let file = file.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = file.open(&lock_path).map_err(unusable)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(OpenError::io(&lock_path, &error.into()));
        }
        let mut process = String::new();
        let _ = file.read_to_string(&mut process);
        return Err(OpenError::InUse { path: path.to_owned(), process: process.trim().parse().ok() });
    }
    // The number is for people; the lock holds without it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", process::id()));
    Ok(Lock { _file: file })
}

/// Makes an empty file that nobody else may read, if there is none.
fn create(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(OpenError::ReadOnly { path: path.to_owned(), detail: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// Whether the file is one of ours, of a version that we know, and sound. Gives the version; 0 means an empty file.
fn check(path: &Path, connection: &Connection) -> Result<i32, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::new(path, &error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let path = path.to_owned();
    if pragma("schema_version")? == 0 {
        return Ok(0);
    }
    if pragma("application_id")? != APPLICATION_ID {
        return Err(OpenError::Foreign { path });
    }
    let version = pragma("user_version")?;
    if version > VERSION {
        return Err(OpenError::Newer { path, version });
    }
    if path.metadata().is_ok_and(|metadata| metadata.len() <= CHECKED_BYTES) {
        for table in ["meta", "rooms", "entries"] {
            let sql = format!("PRAGMA quick_check({table})");
            let detail: String = connection.query_row(&sql, [], |row| row.get(0)).map_err(failed)?;
            if detail != "ok" {
                // The first of several lines is a heading.
                let detail = detail.lines().last().unwrap_or_default().to_owned();
                return Err(OpenError::Damaged { path, detail });
            }
        }
    }
    Ok(version)
}

/// `8080.db.lock` for `8080.db`.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
