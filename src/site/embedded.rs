//! The page that comes with the program: a copy of `public/`, made when it was built.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rust_embed::RustEmbed;

use super::file::{Author, Representation, Whole};
use crate::http::conditional::{Validators, seconds};

#[derive(RustEmbed)]
#[folder = "public/"]
struct Public;

/// All files of the copy, found by path; they never change and are never copied.
#[derive(Debug)]
pub(super) struct Embedded {
    entries: HashMap<String, Entry>,
}

/// What lies at a path of the copy.
#[derive(Debug)]
pub(super) enum Entry {
    File(Whole),
    /// A folder, whose own path ends with a slash.
    Folder,
}

impl Embedded {
    pub(super) fn new() -> Self {
        let mut entries = HashMap::new();
        for name in Public::iter() {
            let Some(file) = Public::get(&name) else { continue };
            for (slash, _) in name.match_indices('/') {
                entries.insert(name[..slash].to_owned(), Entry::Folder);
            }
            let hash = file.metadata.sha256_hash();
            let etag: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            let modified = UNIX_EPOCH + Duration::from_secs(file.metadata.last_modified().unwrap_or(0));
            let validators =
                Validators { etag: format!("\"{etag}\""), modified: seconds(modified), is_date_strong: true };
            let representation = Representation::new(name.as_bytes(), validators, Author::Us);
            let content = match file.data {
                Cow::Borrowed(content) => Bytes::from_static(content),
                Cow::Owned(content) => content.into(),
            };
            entries.insert(name.into_owned(), Entry::File(Whole { representation, content }));
        }
        Embedded { entries }
    }

    /// What lies at this path; that of a folder stands for its index.html.
    pub(super) fn look(&self, path: &[u8]) -> Option<&Entry> {
        let path = std::str::from_utf8(path).ok()?;
        if path.is_empty() || path.ends_with('/') {
            let index = self.entries.get(&format!("{path}index.html"))?;
            return matches!(index, Entry::File(_)).then_some(index);
        }
        self.entries.get(path)
    }
}
