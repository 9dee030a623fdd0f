//! How many messages does the store take in batches of each size, and how long does it take to read a page of a large one?
//!
//! "append" is the way of the loop: drafts in, flush, and entries out once they are committed. "page" and "search" read
//! among `ENTRIES` messages, of which one in ten is in the room.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use chat_app::chat::entry::{Author, Content, Draft, Nonce, PersonId, Position, RoomName, Timestamp};
use chat_app::journal::{Event, Journal, Range, Read, SyncMode};
use chat_app::limits::Limits;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// `cargo test --benches` runs each bench once, and needs no large file for that.
const ENTRIES: u64 = if cfg!(debug_assertions) { 4_000 } else { 1_000_000 };
const ROOMS: u64 = 10;
const PAGE: usize = 100;

struct Desk {
    journal: Journal,
    woken: Receiver<()>,
    said: u64,
}

impl Desk {
    fn open(path: &Path, sync: SyncMode) -> Self {
        let (wake, woken) = channel();
        let journal = Journal::sqlite(path, sync, &Limits::default(), move || _ = wake.send(())).expect("it opens");
        Desk { said: journal.opened_at().0, journal, woken }
    }

    fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.journal.poll_event() {
                return event;
            }
            self.woken.recv().expect("the journal lives");
        }
    }

    fn say(&mut self, count: u64) {
        for _ in 0..count {
            self.said += 1;
            self.journal.append(draft(self.said));
        }
        self.journal.flush();
        while self.journal.in_flight() > 0 {
            assert!(matches!(self.event(), Event::Entry(_)));
        }
    }

    fn ask(&mut self, range: Range) -> Event {
        self.journal.read(Read { ticket: 0, room: room(0), range, limit: PAGE, max_bytes: usize::MAX, count: 0 });
        self.event()
    }
}

fn room(number: u64) -> RoomName {
    RoomName::new(&format!("room {number}"), 64).expect("a name")
}

fn draft(number: u64) -> Draft {
    let text = format!("message number {number} of somebody who has something to say about topic {}", number % 1_000);
    Draft {
        room: room(number % ROOMS),
        origin: None,
        author: Some(Author { id: PersonId(number % 97), name: Arc::from("Somebody") }),
        nonce: Some(Nonce(format!("{number:x}").into())),
        at: Timestamp(1_700_000_000_000 + number),
        content: Content::Text(Bytes::from(text)),
    }
}

fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for sync in [SyncMode::Normal, SyncMode::Full] {
        let mut group = criterion.benchmark_group(format!("append/{sync:?}"));
        let mut desk = Desk::open(&folder.path().join(format!("{sync:?}.db")), sync);
        for batch in [1, 100, 1_000] {
            group.throughput(Throughput::Elements(batch));
            group.bench_function(BenchmarkId::from_parameter(batch), |bencher| bencher.iter(|| desk.say(batch)));
        }
        group.finish();
    }
}

fn read(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = Desk::open(&folder.path().join("large.db"), SyncMode::Normal);
    while desk.said < ENTRIES {
        desk.say(1_000);
    }
    let middle = Position(ENTRIES / 2);
    // The first search of a new file waits until the index has been made.
    while let Event::Found(found) = desk.ask(Range::Matching { before: Position(11), query: "number 10 ".to_owned() })
        && found.hits.as_ref().is_ok_and(Vec::is_empty)
    {}
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Elements(PAGE as u64));
    for (name, range) in [
        ("after", Range::After { after: middle, upto: Position(ENTRIES) }),
        ("before", Range::Before(middle)),
        ("newest", Range::Before(Position(ENTRIES + 1))),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let Event::Page(page) = desk.ask(range.clone()) else { panic!("not a page") };
                assert_eq!(page.entries.map(|entries| entries.len()), Ok(PAGE));
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("search");
    for (name, query) in
        [("common", "message "), ("rare", "\"topic 70\" number "), ("beginning", "som"), ("none", "nowhere ")]
    {
        let range = Range::Matching { before: middle, query: query.to_owned() };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let Event::Found(found) = desk.ask(range.clone()) else { panic!("nothing found") };
                assert!(found.hits.is_ok());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
