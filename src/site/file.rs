//! A file as it is served: its type, its validators, its prepared fields, its content.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::http::conditional::{self, Validators, Verdict};
use crate::http::response::field_line;
use crate::http::{Body, Request, Response};

/// What our own page may do: nothing but its own scripts, styles and WebSocket.
const OUR_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'";

/// Whose pages are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// The page that comes with the program gets a Content-Security-Policy.
    Us,
    /// A folder of somebody's own. A policy of ours would break their inline scripts.
    Operator,
}

/// What is told of a file, prepared once for all its responses.
#[derive(Debug)]
pub(super) struct Representation {
    validators: Validators,
    fields: Bytes,
    not_modified_fields: Bytes,
}

impl Representation {
    /// `name` is the path of the file, by whose extension its type is guessed.
    pub(super) fn new(name: &[u8], validators: Validators, author: Author) -> Self {
        let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(validators.modified));
        let content_type = content_type(name);
        let mut not_modified_fields = Vec::new();
        for (name, value) in
            [("ETag", validators.etag.as_str()), ("Last-Modified", &modified), ("Cache-Control", "no-cache")]
        {
            not_modified_fields.extend(line(name, value));
        }
        let mut fields = line("Content-Type", &content_type);
        fields.extend(line("X-Content-Type-Options", "nosniff"));
        if author == Author::Us && content_type.starts_with("text/html") {
            fields.extend(line("Content-Security-Policy", OUR_POLICY));
        }
        fields.extend_from_slice(&not_modified_fields);
        Representation { validators, fields: fields.into(), not_modified_fields: not_modified_fields.into() }
    }

    /// The response to a GET or HEAD request, according to its conditions.
    pub(super) fn respond(&self, request: &Request, body: Body) -> Response {
        match conditional::evaluate(&request.headers, &self.validators) {
            Verdict::Send => Response::prepared(StatusCode::OK, self.fields.clone(), body),
            Verdict::NotModified => {
                Response::prepared(StatusCode::NOT_MODIFIED, self.not_modified_fields.clone(), Body::Empty)
            }
            Verdict::Failed => {
                Response::text(StatusCode::PRECONDITION_FAILED, "The file is not in the state that the request wants.")
            }
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.fields.len() + self.not_modified_fields.len() + self.validators.etag.len()
    }
}

/// A file whose content is in memory.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) representation: Representation,
    pub(super) content: Bytes,
}

impl Whole {
    pub(super) fn respond(&self, request: &Request) -> Response {
        self.representation.respond(request, Body::Bytes(self.content.clone()))
    }
}

/// A large file, open for all who are being sent it. Reads name their offset, so they share it.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    /// How many there are. Only the worker makes them, everybody ends them.
    count: Arc<AtomicUsize>,
}

impl OpenFile {
    pub(super) fn new(file: File, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        OpenFile { file, count: Arc::clone(count) }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rest of a large file that is being sent. It holds the file open.
#[derive(Debug, Clone)]
pub struct FileStream {
    file: Arc<OpenFile>,
    next: u64,
    end: u64,
}

/// What came of reading on.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes, at least one, and what is still to come.
    Read(Bytes, Option<FileStream>),
    /// The disk would have to be waited for.
    Cold(FileStream),
    /// The file ends before it should, or cannot be read.
    Lost,
}

impl FileStream {
    pub(super) fn new(file: Arc<OpenFile>, length: u64) -> Self {
        FileStream { file, next: 0, end: length }
    }

    /// The bytes that are still to come.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.end - self.next
    }

    /// Reads up to so many bytes if they are in the page cache. It never waits.
    pub(super) fn read_warm(self, max_bytes: usize) -> Piece {
        let mut buffer = self.buffer(max_bytes);
        let read = preadv2(&self.file.file, &mut [IoSliceMut::new(&mut buffer)], self.next, ReadWriteFlags::NOWAIT);
        match read {
            Ok(length) => self.advance(buffer, length),
            // Cold, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::INTR) => Piece::Cold(self),
            Err(_) => Piece::Lost,
        }
    }

    /// Reads up to so many bytes, and waits for the disk if it must.
    pub(super) fn read_waiting(self, max_bytes: usize) -> Piece {
        let mut buffer = self.buffer(max_bytes);
        loop {
            match self.file.file.read_at(&mut buffer, self.next) {
                Ok(length) => return self.advance(buffer, length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Piece::Lost,
            }
        }
    }

    fn buffer(&self, max_bytes: usize) -> Vec<u8> {
        let length = self.remaining_bytes().min(max_bytes.max(1) as u64);
        vec![0; usize::try_from(length).unwrap_or(max_bytes)]
    }

    fn advance(mut self, mut buffer: Vec<u8>, length: usize) -> Piece {
        if length == 0 {
            return Piece::Lost;
        }
        buffer.truncate(length);
        self.next += length as u64;
        let rest = (self.next < self.end).then_some(self);
        Piece::Read(buffer.into(), rest)
    }
}

/// The media type, with a charset for what is text.
fn content_type(name: &[u8]) -> String {
    let Some(guess) = mime_guess::from_path(Path::new(OsStr::from_bytes(name))).first() else {
        return "application/octet-stream".to_owned();
    };
    let essence = match guess.essence_str() {
        // RFC 9239 has made this the one type for scripts.
        "application/javascript" => "text/javascript",
        essence => essence,
    };
    let is_text = essence.starts_with("text/")
        || ["/json", "/xml", "+json", "+xml"].iter().any(|ending| essence.ends_with(ending));
    let charset = if is_text { "; charset=utf-8" } else { "" };
    format!("{essence}{charset}")
}

/// A field line of ours, of characters that may stand in one.
fn line(name: &str, value: &str) -> Vec<u8> {
    field_line(name, &HeaderValue::from_str(value).expect("prepared fields are visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTM", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("data.json", "application/json; charset=utf-8"),
            ("app.webmanifest", "application/manifest+json; charset=utf-8"),
            ("logo.svg", "image/svg+xml; charset=utf-8"),
            ("feed.xml", "text/xml; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("logo.png", "image/png"),
            ("favicon.ico", "image/x-icon"),
            ("font.woff2", "font/woff2"),
            ("code.wasm", "application/wasm"),
            ("dir.html/file", "application/octet-stream"),
            ("unknown.xyzzy", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn only_our_own_pages_get_a_policy() {
        for (name, author, expected) in
            [("index.html", Author::Us, true), ("index.html", Author::Operator, false), ("app.js", Author::Us, false)]
        {
            let validators = Validators { etag: "\"x\"".to_owned(), modified: 0, is_date_strong: true };
            let fields = Representation::new(name.as_bytes(), validators, author).fields;
            let text = std::str::from_utf8(&fields).unwrap();
            assert_eq!(text.contains("Content-Security-Policy: default-src 'self'; "), expected, "{name} {author:?}");
            assert!(!text.contains("unsafe-inline"));
        }
    }

    #[test]
    fn what_is_cold_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        std::fs::write(&path, vec![b'x'; 700]).unwrap();
        let open = || Arc::new(OpenFile::new(File::open(&path).unwrap(), &Arc::default()));
        let mut stream = FileStream::new(open(), 700);
        let mut lengths = Vec::new();
        loop {
            let Piece::Read(bytes, rest) = stream.read_waiting(300) else { panic!("lost") };
            lengths.push(bytes.len());
            match rest {
                Some(rest) => stream = rest,
                None => break,
            }
        }
        assert_eq!(lengths, [300, 300, 100]);
        let beyond = FileStream::new(open(), 701);
        let Piece::Read(_, Some(rest)) = beyond.read_waiting(700) else { panic!("the first piece is there") };
        assert!(matches!(rest.read_waiting(700), Piece::Lost));
    }
}
