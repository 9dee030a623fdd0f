//! One representation of a file: its content in one coding, its validators, its prepared fields, and how it answers a
//! request.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    LAST_MODIFIED, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};

use super::manner::Manner;
use super::space::Space;
use super::stream::{FileStream, OpenFile, Part};
use crate::http::coding::Coding;
use crate::http::conditional::{self, Validators, Verdict};
use crate::http::range::{self, Multipart, Selection};
use crate::http::response::field_line;
use crate::http::{Body, Request, Response};

/// What our own page may do: nothing but its own scripts, styles and WebSocket.
const OUR_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'";

/// Whose page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// Our own gets a Content-Security-Policy, and tells nobody the name of the room.
    Us,
    /// Somebody else's. A policy of ours would break its inline scripts.
    Operator,
}

impl Author {
    /// Of so many bytes at the beginning.
    pub(super) const SHOWN_WITHIN: usize = 1024;

    /// Our page says so at its beginning, wherever it is served from. Whoever writes another leaves that out.
    pub(super) fn of(content: &[u8]) -> Author {
        const MARK: &[u8] = br#"<meta name="generator" content="chat-app">"#;
        let beginning = &content[..content.len().min(Author::SHOWN_WITHIN)];
        if memchr::memmem::find(beginning, MARK).is_some() { Author::Us } else { Author::Operator }
    }
}

/// Where its content comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A small one is in memory.
    Memory(Bytes),
    /// A large one is read as it is sent: so many bytes of it. Or it is a copy in memory, and sent by the kernel.
    Open(Arc<OpenFile>, u64),
}

impl Source {
    pub(super) fn is_in_memory(&self) -> bool {
        match self {
            Source::Memory(_) => true,
            Source::Open(file, _) => file.is_copy(),
        }
    }

    /// Whether parts of so many bytes are copied out of what is in memory. Whoever is sent them as they are holds all of it
    /// until it has taken them, and counts only for what it is sent: so they are at least half of it.
    fn is_copied(&self, bytes: u64) -> bool {
        self.is_in_memory() && bytes < self.length() / 2
    }

    /// A copy of these bytes of what is in memory, each behind what stands before them, if there is room for it.
    fn copy<'a>(&self, parts: impl IntoIterator<Item = &'a Part> + Clone, room: &Space) -> Option<Bytes> {
        let length = |part: &Part| part.before.len() as u64 + (part.range.end - part.range.start);
        let length: u64 = parts.clone().into_iter().map(length).sum();
        let share = room.take(usize::try_from(length).ok()?)?;
        let mut copy = Vec::with_capacity(length as usize);
        for Part { before, range } in parts {
            copy.extend_from_slice(before);
            match self {
                Source::Memory(content) => copy.extend_from_slice(&content[range.start as usize..range.end as usize]),
                Source::Open(file, _) => file.read_part(range, &mut copy).expect("a file in memory can be read"),
            }
        }
        Some(share.filled(copy))
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Source::Memory(content) => content.len() as u64,
            Source::Open(_, length) => *length,
        }
    }
}

/// Everything but the content that makes a representation what it is.
#[derive(Debug)]
pub(super) struct Traits<'a> {
    /// The path of the file below the root, by whose extension its type is guessed.
    pub(super) name: &'a [u8],
    pub(super) validators: Validators,
    pub(super) coding: Option<Coding>,
    /// There is, or may be, the same in another coding.
    pub(super) varies: bool,
    pub(super) author: Author,
}

/// A representation, with the fields of all its responses made beforehand.
#[derive(Debug)]
pub(super) struct Representation {
    pub(super) coding: Option<Coding>,
    pub(super) validators: Validators,
    pub(super) author: Author,
    pub(super) source: Source,
    content_type: Box<str>,
    /// The type; then what tells of the content; then what any response tells; then the validators and for how long it is
    /// fresh; then whether it has ranges. So the fields of each kind of response stand together.
    fields: Bytes,
    /// Where these begin, but for the first.
    content: usize,
    always: usize,
    state: usize,
    ranges: usize,
}

/// What a request is answered, and what follows it if its content is streamed.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) stream: Option<FileStream>,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Reply { response, stream: None }
    }
}

impl Representation {
    pub(super) fn new(traits: Traits<'_>, source: Source, manner: &Manner) -> Self {
        let Traits { name, validators, coding, varies, author } = traits;
        let content_type = content_type(name);
        let is_page = content_type.starts_with("text/html");
        let mut fields = Fields { text: Vec::new(), manner };

        fields.add(&CONTENT_TYPE, &content_type);
        let content = fields.text.len();
        if let Some(coding) = coding {
            fields.add(&CONTENT_ENCODING, coding.name());
        }
        fields.add(&X_CONTENT_TYPE_OPTIONS, "nosniff");
        if is_page {
            let policy = if author == Author::Us { "no-referrer" } else { "strict-origin-when-cross-origin" };
            fields.add(&REFERRER_POLICY, policy);
        }
        if is_page && author == Author::Us {
            fields.add(&CONTENT_SECURITY_POLICY, OUR_POLICY);
        }
        let always = fields.text.len();
        if varies {
            // An operator's own Vary stands beside it.
            fields.text.extend(field_line("Vary", &HeaderValue::from_static("Accept-Encoding")));
        }
        for (name, value) in &manner.headers {
            fields.text.extend(field_line(name.as_str(), value));
        }
        let state = fields.text.len();
        fields.add(&ETAG, &validators.etag);
        let modified = UNIX_EPOCH + Duration::from_secs(validators.modified);
        fields.add(&LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        if !manner.sets(&CACHE_CONTROL) {
            fields.text.extend(field_line("Cache-Control", &manner.cache_control(name)));
        }
        let ranges = fields.text.len();
        if coding.is_none() {
            fields.add(&ACCEPT_RANGES, "bytes");
        }
        let (content_type, fields) = (content_type.into(), fields.text.into());
        Representation { coding, validators, author, source, content_type, fields, content, always, state, ranges }
    }

    /// The response to a GET or HEAD request, according to its conditions and its range. `boundary` is for several parts:
    /// nobody may be able to guess it. What is copied for this client takes of `room`; without any it is sent more of what
    /// others are sent as well.
    pub(super) fn respond(&self, request: &Request, boundary: impl FnOnce() -> String, room: &Space) -> Reply {
        match conditional::evaluate(&request.headers, &self.validators) {
            Verdict::Send => {}
            Verdict::NotModified => {
                let fields = self.fields.slice(self.always..self.ranges);
                return Response::prepared(StatusCode::NOT_MODIFIED, fields, Body::Empty).into();
            }
            Verdict::Failed => {
                let message = "The file is not in the state that the request wants.";
                return Response::text(StatusCode::PRECONDITION_FAILED, message).into();
            }
        }
        let length = self.source.length();
        // Ranges are of the content as it is: parts of what was compressed at another time need not fit together.
        let selection = match self.coding {
            None => range::select(&request.method, &request.headers, &self.validators, length),
            Some(_) => Selection::Whole,
        };
        match selection {
            Selection::Whole => self.reply(StatusCode::OK, self.fields.clone(), 0..length),
            Selection::Part(part) => {
                let content_range = value(&range::content_range(&part, length));
                let mut reply = self.reply_with_part(part, room);
                reply.response = reply.response.with("Content-Range", &content_range);
                reply
            }
            Selection::Parts(parts) => {
                let multipart = Multipart { boundary: &boundary(), content_type: &self.content_type, length };
                self.reply_with_parts(&multipart, parts, room)
            }
            Selection::Unsatisfiable => {
                Response::text(StatusCode::RANGE_NOT_SATISFIABLE, "The file has no such bytes.")
                    .with("Content-Range", &value(&range::unsatisfied(length)))
                    .with("Accept-Ranges", &HeaderValue::from_static("bytes"))
                    .into()
            }
        }
    }

    /// The whole content with another status than 200: it stands for something that is not there, so it is told without
    /// what tells of its own state, and conditions do not apply to it (RFC 9110, section 13.2.1).
    pub(super) fn stand_in(&self, status: StatusCode) -> Reply {
        self.reply(status, self.fields.slice(..self.state), 0..self.source.length())
    }

    fn reply(&self, status: StatusCode, fields: Bytes, part: Range<u64>) -> Reply {
        match &self.source {
            Source::Memory(content) => {
                let body = content.slice(part.start as usize..part.end as usize);
                Response::prepared(status, fields, Body::Bytes(body)).into()
            }
            Source::Open(file, _) => {
                let body = Body::Streamed(part.end - part.start);
                let stream = Some(FileStream::new(Arc::clone(file), part));
                Reply { response: Response::prepared(status, fields, body), stream }
            }
        }
    }

    fn reply_with_part(&self, part: Range<u64>, room: &Space) -> Reply {
        let (status, fields) = (StatusCode::PARTIAL_CONTENT, self.fields.clone());
        if self.source.is_copied(part.end - part.start)
            && let Some(copy) = self.source.copy([&Part { before: Bytes::new(), range: part.clone() }], room)
        {
            return Response::prepared(status, fields, Body::Bytes(copy)).into();
        }
        self.reply(status, fields, part)
    }

    fn reply_with_parts(&self, multipart: &Multipart<'_>, parts: Vec<Range<u64>>, room: &Space) -> Reply {
        let fields = self.fields.slice(self.content..);
        let bytes = parts.iter().map(|part| part.end - part.start).sum();
        let mut pieces: VecDeque<Part> =
            parts.into_iter().map(|range| Part { before: multipart.head(&range).into(), range }).collect();
        pieces.push_back(Part { before: multipart.tail().into(), range: 0..0 });
        let is_copied = matches!(self.source, Source::Memory(_)) || self.source.is_copied(bytes);
        let copy = is_copied.then(|| self.source.copy(&pieces, room)).flatten();
        let (body, stream) = match (copy, &self.source) {
            (Some(copy), _) => (Body::Bytes(copy), None),
            (None, Source::Open(file, _)) => {
                let stream = FileStream::of_parts(Arc::clone(file), pieces);
                (Body::Streamed(stream.as_ref().map_or(0, FileStream::remaining_bytes)), stream)
            }
            // Who asks for ranges may be sent everything (RFC 9110, section 14.2), and that is in memory already.
            (None, Source::Memory(_)) => {
                return self.reply(StatusCode::OK, self.fields.clone(), 0..self.source.length());
            }
        };
        let response = Response::prepared(StatusCode::PARTIAL_CONTENT, fields, body)
            .with("Content-Type", &value(&multipart.content_type()));
        Reply { response, stream }
    }

    /// The same in a coding, with an entity tag of its own (RFC 9110, section 8.8.3.3).
    pub(super) fn coded(&self, name: &[u8], coding: Coding, content: Bytes, manner: &Manner) -> Representation {
        let etag = format!("{}-{}\"", self.validators.etag.trim_end_matches('"'), coding.name());
        let validators = Validators { etag, ..self.validators.clone() };
        let traits = Traits { name, validators, coding: Some(coding), varies: true, author: self.author };
        Representation::new(traits, Source::Memory(content), manner)
    }

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        let content = if self.source.is_in_memory() { self.source.length() as usize } else { 0 };
        content + self.fields.len() + self.validators.etag.len() + self.content_type.len() + size_of::<Self>()
    }
}

/// Field lines of ours, of characters that may stand in one, unless the operator has his own.
struct Fields<'a> {
    text: Vec<u8>,
    manner: &'a Manner,
}

impl Fields<'_> {
    fn add(&mut self, name: &HeaderName, text: &str) {
        if !self.manner.sets(name) {
            self.text.extend(field_line(&in_capitals(name), &value(text)));
        }
    }
}

/// `Content-Type` for `content-type`: as people are used to read it.
fn in_capitals(name: &HeaderName) -> String {
    match name.as_str() {
        "etag" => "ETag".to_owned(),
        name => {
            let mut is_first = true;
            let capital = |letter: char| match std::mem::replace(&mut is_first, letter == '-') {
                true => letter.to_ascii_uppercase(),
                false => letter,
            };
            name.chars().map(capital).collect()
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("our values are visible ASCII")
}

/// The media type, with a charset for what is text.
pub(super) fn content_type(name: &[u8]) -> String {
    let Some(guess) = mime_guess::from_path(Path::new(OsStr::from_bytes(name))).first() else {
        return "application/octet-stream".to_owned();
    };
    let essence = match guess.essence_str() {
        // RFC 9239 has made this the one type for scripts.
        "application/javascript" => "text/javascript",
        essence => essence,
    };
    let charset = if is_text(essence) { "; charset=utf-8" } else { "" };
    format!("{essence}{charset}")
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/") || ["/json", "/xml", "+json", "+xml"].iter().any(|ending| essence.ends_with(ending))
}

/// Whether a file of this type gets smaller when it is compressed.
pub(super) fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    is_text(essence)
        || matches!(
            essence,
            "application/wasm"
                | "application/rtf"
                | "application/x-sh"
                | "application/x-tar"
                | "application/vnd.ms-fontobject"
                | "font/otf"
                | "font/ttf"
                | "image/bmp"
                | "image/x-icon"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (name, expected, is_smaller) in [
            ("index.html", "text/html; charset=utf-8", true),
            ("INDEX.HTM", "text/html; charset=utf-8", true),
            ("style.css", "text/css; charset=utf-8", true),
            ("app.js", "text/javascript; charset=utf-8", true),
            ("app.mjs", "text/javascript; charset=utf-8", true),
            ("data.json", "application/json; charset=utf-8", true),
            ("app.webmanifest", "application/manifest+json; charset=utf-8", true),
            ("logo.svg", "image/svg+xml; charset=utf-8", true),
            ("feed.xml", "text/xml; charset=utf-8", true),
            ("a.txt", "text/plain; charset=utf-8", true),
            ("logo.png", "image/png", false),
            ("favicon.ico", "image/x-icon", true),
            ("font.woff2", "font/woff2", false),
            ("font.ttf", "font/ttf", true),
            ("code.wasm", "application/wasm", true),
            ("a.zip", "application/zip", false),
            ("a.mp4", "video/mp4", false),
            ("app.js.gz", "application/gzip", false),
            ("dir.html/file", "application/octet-stream", false),
            ("unknown.xyzzy", "application/octet-stream", false),
        ] {
            let content_type = content_type(name.as_bytes());
            assert_eq!((content_type.as_str(), is_compressible(&content_type)), (expected, is_smaller), "{name}");
        }
    }

    fn fields(name: &str, author: Author, headers: &[(&'static str, &'static str)]) -> String {
        let validators = Validators { etag: "\"x\"".to_owned(), modified: 0, is_date_strong: true };
        let traits = Traits { name: name.as_bytes(), validators, coding: None, varies: true, author };
        let mut manner = Manner::default();
        for (name, value) in headers {
            manner.headers.append(*name, HeaderValue::from_static(value));
        }
        let made = Representation::new(traits, Source::Memory(Bytes::new()), &manner);
        String::from_utf8(made.fields.to_vec()).unwrap()
    }

    #[test]
    fn only_our_own_pages_get_a_policy() {
        let ours = br#"<!doctype html><meta charset="utf-8"><meta name="generator" content="chat-app">"#;
        assert_eq!((Author::of(ours), Author::of(b"<!doctype html>")), (Author::Us, Author::Operator));
        for (name, author, expected) in
            [("index.html", Author::Us, true), ("index.html", Author::Operator, false), ("app.js", Author::Us, false)]
        {
            let text = fields(name, author, &[]);
            assert_eq!(text.contains("Content-Security-Policy: default-src 'self'; "), expected, "{name} {author:?}");
            assert!(!text.contains("unsafe-inline"));
        }
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let text = fields(
            "index.html",
            Author::Us,
            &[
                ("content-security-policy", "default-src *"),
                ("x-team", "a"),
                ("x-team", "b"),
                ("cache-control", "no-store"),
            ],
        );
        assert_eq!(
            text,
            "Content-Type: text/html; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nVary: Accept-Encoding\r\ncontent-security-policy: default-src *\r\n\
             x-team: a\r\nx-team: b\r\ncache-control: no-store\r\nETag: \"x\"\r\n\
             Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
        );
    }
}
