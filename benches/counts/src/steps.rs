//! The steps that are counted: what the loop, and the thread that stores, do again and again.
//!
//! A number must not depend on the hour: no step looks at the clock or waits. Where maps are seeded at random the step has
//! few keys. The index is brought up to date in steps that end after some milliseconds, of which there are few under
//! valgrind, so one entry at a time.

use std::hint::black_box;
use std::time::Duration;

use chat_app::chat::dialect::Dialect;
use chat_app::chat::v1;
use chat_app::http::Http;
use chat_app::journal::SyncMode;
use chat_app::limits::Limits;
use chat_app::ws::OriginPolicy;
use chat_app::ws::frame::{self, Opcode};

use crate::common::connection::{Clockwork, Mailbox};
use crate::common::hall::{Hall, SAY};
use crate::common::store::Desk;
use crate::common::web::{self, BROWSER, SHORT, Shelf, UPGRADE};
use crate::common::websocket::{Listener, masked_text};

/// Something that is done again and again.
pub(crate) struct Step {
    /// In which bench it is measured as well, and what it does.
    pub(crate) name: &'static str,
    /// How often it is taken before it is counted, so that buffers have grown.
    pub(crate) warm_up: u32,
    /// How often it is counted. What happens at times only is spread over all of them.
    pub(crate) times: u32,
    /// What of it is counted.
    pub(crate) part: Part,
    /// Makes ready, and gives what is to be counted.
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

/// What is counted of a step.
pub(crate) enum Part {
    /// All that its own thread does.
    Whole,
    /// What this function does, in whatever thread. It must never be inlined, and not call itself.
    Function(&'static str),
}

/// A step that is counted as a whole.
const fn step(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Step {
    Step { name, warm_up: 100, times: 100, part: Part::Whole, prepare }
}

/// A step that takes so long that it is counted a few times only.
const fn long(name: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Step {
    Step { warm_up: 4, times: 4, ..step(name, prepare) }
}

/// A step of the store, of which a function is counted that runs once each time.
const fn stored(name: &'static str, function: &'static str, prepare: fn() -> Box<dyn FnMut()>) -> Step {
    Step { warm_up: 10, times: 20, part: Part::Function(function), ..step(name, prepare) }
}

/// All of them.
pub(crate) const STEPS: &[Step] = &[
    step("fanout: raw, 1 message, 1 member", || turns(Dialect::Raw, 1, 1)),
    step("fanout: raw, 1 message, 100 members", || turns(Dialect::Raw, 1, 100)),
    step("fanout: raw, 50 messages, 100 members", || turns(Dialect::Raw, 50, 100)),
    step("fanout: chat.v1, 1 message, 1 member", || turns(Dialect::V1, 1, 1)),
    step("fanout: chat.v1, 50 messages, 100 members", || turns(Dialect::V1, 50, 100)),
    step("chat: parse a say", || {
        Box::new(|| {
            black_box(v1::parse(black_box(SAY)).expect("a request"));
        })
    }),
    step("chat: from a say to a draft", || {
        let mut hall = Hall::of(Dialect::V1, 1);
        Box::new(move || hall.say())
    }),
    long("chat: catch up 1,000 entries, raw", || catches_up(Dialect::Raw)),
    long("chat: catch up 1,000 entries, chat.v1", || catches_up(Dialect::V1)),
    step("connection: outbox that keeps up", || posts(1)),
    step("connection: outbox 200 batches behind", || posts(200)),
    step("connection: put a timer off", || {
        let mut clockwork = Clockwork::of(10_000);
        Box::new(move || clockwork.put_off())
    }),
    step("connection: a turn of 10,000 timers", || {
        let mut clockwork = Clockwork::of(10_000);
        Box::new(move || clockwork.turn(Duration::from_millis(200)))
    }),
    step("ws: upgrade", || {
        let (request, origins) = (web::request(UPGRADE), OriginPolicy::new(&[]).expect("no origin is wrong"));
        Box::new(move || web::upgrade(&request, &origins))
    }),
    step("ws: decode 1 text of 64 bytes", || hears(masked_text(64), 1)),
    step("ws: decode 50 texts of 64 bytes", || hears(masked_text(64).repeat(50), 50)),
    step("ws: decode a text of 60 KiB", || hears(masked_text(60 * 1024), 1)),
    step("ws: encode 50 texts of 64 bytes", || {
        let mut out = Vec::new();
        Box::new(move || {
            out.clear();
            for _ in 0..50 {
                frame::encode(Opcode::Text, black_box(&[b'x'; 64]), &mut out);
            }
            black_box(&out);
        })
    }),
    step("http: a short head", || reads(SHORT, SHORT.len())),
    step("http: the head of a browser", || reads(BROWSER, BROWSER.len())),
    step("http: the head of a browser, in two pieces", || reads(BROWSER, BROWSER.len() / 2 + 1)),
    step("http: a file of 1 KiB in memory", || serves(1024)),
    step("http: a file of 100 KiB in memory", || serves(100 * 1024)),
    step("http: a 404", || {
        let request = web::request(SHORT);
        Box::new(move || web::not_found(&request))
    }),
    stored("journal: append a batch of 1", "Appender::append", || appends(1)),
    stored("journal: append a batch of 100", "Appender::append", || appends(100)),
    stored("journal: index 1 entry", "Upkeep::index", || {
        let (folder, mut desk) = desk();
        Box::new(move || {
            desk.say(1);
            desk.index();
            let _ = &folder;
        })
    }),
];

/// The step of a name.
pub(crate) fn named(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

fn turns(dialect: Dialect, messages: u64, members: u32) -> Box<dyn FnMut()> {
    let mut hall = Hall::of(dialect, members);
    Box::new(move || hall.turn(messages))
}

fn catches_up(dialect: Dialect) -> Box<dyn FnMut()> {
    let mut hall = Hall::of(dialect, 1);
    for _ in 0..20 {
        hall.turn(50);
    }
    Box::new(move || hall.catch_up(1_000))
}

fn posts(batches: usize) -> Box<dyn FnMut()> {
    let mut mailbox = Mailbox::for_batches_of(1024);
    Box::new(move || mailbox.turn(batches))
}

fn hears(read: Vec<u8>, messages: usize) -> Box<dyn FnMut()> {
    let mut listener = Listener::new();
    Box::new(move || assert_eq!(listener.hear(&read), messages))
}

fn reads(head: &'static [u8], piece_bytes: usize) -> Box<dyn FnMut()> {
    let (mut http, limits) = (Http::new(), Limits::default());
    Box::new(move || web::read_head(&mut http, &limits, head, piece_bytes))
}

fn serves(length: usize) -> Box<dyn FnMut()> {
    let mut shelf = Shelf::with_file_of(length);
    Box::new(move || shelf.answer())
}

fn desk() -> (tempfile::TempDir, Desk) {
    let folder = tempfile::tempdir().expect("a folder");
    let desk = Desk::open(&folder.path().join("counted.db"), SyncMode::Normal);
    (folder, desk)
}

fn appends(batch: u64) -> Box<dyn FnMut()> {
    let (folder, mut desk) = desk();
    Box::new(move || {
        desk.say(batch);
        let _ = &folder;
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_step_has_a_name_of_its_own_and_can_be_taken() {
        for (place, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..place].iter().all(|other| other.name != step.name), "{}", step.name);
            assert!(!step.name.contains('='), "{}", step.name);
            (step.prepare)()();
        }
    }

    #[test]
    fn each_bench_asks_a_question_and_has_steps_that_are_counted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the benches");
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let files: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect();
        let bench_of = |step: &Step| step.name.split_once(": ").expect("the name of a bench").0;
        for file in &files {
            let text = fs::read_to_string(file).expect("a source file");
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//! ") && first.ends_with('?'), "{}: {first}", file.display());
            let is_counted = STEPS.iter().any(|step| file.file_stem().is_some_and(|stem| stem == bench_of(step)));
            assert!(is_counted, "{}", file.display());
        }
        let benches: BTreeSet<&str> = STEPS.iter().map(bench_of).collect();
        assert_eq!(benches.len(), files.len(), "{benches:?}");
    }
}
