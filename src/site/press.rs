//! The thread that compresses, apart from the one that looks at the disk: nobody's look waits behind a large text.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Errand;
use super::manner::Manner;
use super::representation::Source;
use super::resource::{Copy, Resource};
use super::space::Space;
use crate::http::coding::Coding;

/// Copies that are being made, or wait for it, at once. Whoever wants another is sent the content as it is.
const MAX_COPIES_BEGUN: usize = 64;
/// Where brotli is about as fast as gzip and still a good deal smaller.
const BROTLI_QUALITY: i32 = 5;
/// Windows of 4 MiB, which every browser takes.
const BROTLI_WINDOW: i32 = 22;

/// Who makes copies, and which are begun.
#[derive(Debug)]
pub(super) struct Press {
    jobs: Sender<Job>,
    made: Receiver<Made>,
    /// Whoever waits for each.
    begun: HashMap<Key, Vec<Errand>>,
}

/// What is copied: a state of the file at a path, and in which coding.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key(Box<[u8]>, Box<str>, Coding);

impl Key {
    fn new(path: &[u8], resource: &Resource, coding: Coding) -> Self {
        Key(path.into(), resource.identity.validators.etag.as_str().into(), coding)
    }
}

#[derive(Debug)]
struct Job {
    path: Box<[u8]>,
    resource: Arc<Resource>,
    coding: Coding,
}

/// What came of a job.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) path: Box<[u8]>,
    /// Of which it is a copy.
    pub(super) resource: Arc<Resource>,
    pub(super) coding: Coding,
    pub(super) copy: Copy,
}

impl Press {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(manner: Arc<Manner>, space: Space, wake: impl Fn() + Send + 'static) -> io::Result<Press> {
        let (jobs, jobs_of_thread) = channel();
        let (made_by_thread, made) = channel();
        thread::Builder::new()
            .name("compress".to_owned())
            .spawn(move || run(&jobs_of_thread, &made_by_thread, &manner, &space, wake))?;
        Ok(Press { jobs, made, begun: HashMap::new() })
    }

    /// Has a copy made, unless it is being made already. Whoever waits for it comes back from [`finish`](Press::finish).
    /// False if too many are being made: then nothing is, and nobody waits.
    #[must_use]
    pub(super) fn make(
        &mut self,
        path: &[u8],
        resource: &Arc<Resource>,
        coding: Coding,
        waiting: Option<Errand>,
    ) -> bool {
        let key = Key::new(path, resource, coding);
        if let Some(others) = self.begun.get_mut(&key) {
            others.extend(waiting);
            return true;
        }
        let job = Job { path: path.into(), resource: Arc::clone(resource), coding };
        if self.begun.len() >= MAX_COPIES_BEGUN || self.jobs.send(job).is_err() {
            return false;
        }
        self.begun.insert(key, waiting.into_iter().collect());
        true
    }

    /// The next copy that is finished, and whoever has waited for it.
    pub(super) fn finish(&mut self) -> Option<(Made, Vec<Errand>)> {
        let made = self.made.try_recv().ok()?;
        let waiting = self.begun.remove(&Key::new(&made.path, &made.resource, made.coding)).unwrap_or_default();
        Some((made, waiting))
    }
}

fn run(jobs: &Receiver<Job>, made: &Sender<Made>, manner: &Manner, space: &Space, wake: impl Fn()) {
    for Job { path, resource, coding } in jobs {
        let original = &resource.identity;
        let content = match &original.source {
            Source::Memory(content) => compressed(content, coding),
            Source::Open(file, length) => {
                file.read_whole(*length).ok().and_then(|content| compressed(&content, coding))
            }
        };
        let copy = match content.map(|content| (space.take(content.len()), content)) {
            Some((Some(share), content)) => {
                Copy::Ready(Arc::new(original.coded(&resource.name, coding, share.filled(content), manner)))
            }
            // There is no room now, and there may be later.
            Some((None, _)) => Copy::Untried,
            None => Copy::Useless,
        };
        if made.send(Made { path, resource, coding, copy }).is_err() {
            return;
        }
        wake();
    }
}

/// `None` if that is not worth it: a tenth has to be gained.
fn compressed(content: &[u8], coding: Coding) -> Option<Vec<u8>> {
    let compressed = match coding {
        Coding::Brotli => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW,
                size_hint: content.len(),
                ..brotli::enc::BrotliEncoderParams::default()
            };
            let mut output = Vec::new();
            brotli::BrotliCompress(&mut &*content, &mut output, &parameters).ok()?;
            output
        }
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).ok()?;
            encoder.finish().ok()?
        }
        // We only pass on what others have made.
        Coding::Zstd => return None,
    };
    (compressed.len() < content.len() - content.len() / 10).then(|| compressed.into_boxed_slice().into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_compressed_comes_out_again_and_noise_is_left_alone() {
        let text = "All work and no play makes Jack a dull boy. ".repeat(1000);
        let noise: Vec<u8> = {
            let mut random = fastrand::Rng::with_seed(1);
            std::iter::repeat_with(|| random.u8(..)).take(10_000).collect()
        };
        for coding in [Coding::Brotli, Coding::Gzip] {
            let packed = compressed(text.as_bytes(), coding).unwrap();
            assert!(packed.len() < text.len() / 50, "{coding:?}: {}", packed.len());
            let mut unpacked = String::new();
            let length = match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&*packed).read_to_string(&mut unpacked),
                _ => brotli::Decompressor::new(&*packed, 4096).read_to_string(&mut unpacked),
            };
            assert_eq!((length.unwrap(), &unpacked), (text.len(), &text), "{coding:?}");
            assert!(compressed(&noise, coding).is_none(), "{coding:?}");
        }
    }
}
