//! The page that comes with the program: a copy of `public/`, made when it was built.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rust_embed::RustEmbed;

use super::manner::Manner;
use super::press::Made;
use super::representation::{Author, Representation, Source, Traits, content_type, is_compressible};
use super::resource::{Copies, LEAST_COMPRESSED_BYTES, Resource};
use crate::http::conditional::{Validators, seconds};

#[derive(RustEmbed)]
#[folder = "public/"]
struct Public;

/// All files of the copy, found by path; they never change and are never copied, but for compressed copies.
#[derive(Debug)]
pub(super) struct Embedded {
    entries: HashMap<String, Entry>,
}

/// What lies at a path of the copy.
#[derive(Debug)]
pub(super) enum Entry {
    File(Arc<Resource>, Copies),
    /// A folder, whose own path ends with a slash.
    Folder,
}

impl Embedded {
    pub(super) fn new(manner: &Manner) -> Self {
        let mut entries = HashMap::new();
        for name in Public::iter() {
            let Some(file) = Public::get(&name) else { continue };
            for (slash, _) in name.match_indices('/') {
                entries.insert(name[..slash].to_owned(), Entry::Folder);
            }
            let hash = file.metadata.sha256_hash();
            let etag: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            let modified = seconds(UNIX_EPOCH + Duration::from_secs(file.metadata.last_modified().unwrap_or(0)));
            let validators = Validators { etag: format!("\"{etag}\""), modified, is_date_strong: true };
            let content = match file.data {
                Cow::Borrowed(content) => Bytes::from_static(content),
                Cow::Owned(content) => content.into(),
            };
            let is_compressible =
                is_compressible(&content_type(name.as_bytes())) && content.len() as u64 >= LEAST_COMPRESSED_BYTES;
            let name = name.into_owned();
            let author = Author::of(&content);
            let traits = Traits { name: name.as_bytes(), validators, coding: None, varies: is_compressible, author };
            let identity = Representation::new(traits, Source::Memory(content), manner);
            let path = name.as_bytes().into();
            let resource = Resource { name: path, identity, siblings: Vec::new(), is_compressible };
            entries.insert(name, Entry::File(Arc::new(resource), Copies::default()));
        }
        Embedded { entries }
    }

    /// What lies at this path; that of a folder stands for its index.html, and any other for the page of that name.
    pub(super) fn look(&self, path: &[u8]) -> Option<&Entry> {
        let path = std::str::from_utf8(path).ok()?;
        let page = |name: String| self.entries.get(&name).filter(|entry| matches!(entry, Entry::File(..)));
        if path.is_empty() || path.ends_with('/') {
            return page(format!("{path}index.html"));
        }
        match self.entries.get(path) {
            file @ Some(Entry::File(..)) => file,
            other => page(format!("{path}.html")).or(other),
        }
    }

    /// Keeps what came of copying a file.
    pub(super) fn put_copy(&mut self, made: Made) {
        let name = String::from_utf8_lossy(&made.resource.name);
        if let Some(Entry::File(_, copies)) = self.entries.get_mut(&*name) {
            copies.put(made.coding, made.copy);
        }
    }
}
