//! What every journal promises, played against each of them; and what the tests of each share.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::chat::entry::{Author, Content, Entry, MemberId, Nonce, PersonId, RoomName, Timestamp};

/// The longest that anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a journal rings when there is something.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_all();
    }
}

/// A journal as the loop sees it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) journal: Journal,
    bell: Arc<Bell>,
}

impl Desk {
    pub(super) fn new(open: impl FnOnce(Arc<Bell>) -> Journal) -> Self {
        let bell = Arc::new(Bell::default());
        Desk { journal: open(Arc::clone(&bell)), bell }
    }

    pub(super) fn sqlite(path: &Path, limits: &Limits) -> Self {
        Desk::new(|bell| Journal::sqlite(path, SyncMode::Normal, limits, move || bell.ring()).unwrap())
    }

    /// A turn's drafts.
    pub(super) fn say(&mut self, drafts: impl IntoIterator<Item = Draft>) {
        drafts.into_iter().for_each(|draft| self.journal.append(draft));
        self.journal.flush();
    }

    pub(super) fn event(&mut self) -> Event {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(event) = self.journal.poll_event() {
                return event;
            }
            let rung = self.bell.rung.lock().unwrap();
            let patience = deadline.saturating_duration_since(Instant::now());
            let (mut rung, wait) = self.bell.ringing.wait_timeout_while(rung, patience, |rung| !*rung).unwrap();
            assert!(!wait.timed_out(), "nothing has happened for {DEADLINE:?}");
            *rung = false;
        }
    }

    /// The next event that is about something that was said.
    pub(super) fn outcome(&mut self) -> Event {
        loop {
            match self.event() {
                // A bus tells this when it is reached.
                Event::Key(_) | Event::Lost(_) => {}
                event => return event,
            }
        }
    }

    pub(super) fn events(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.outcome()).collect()
    }

    /// Says all this in one turn, and gives what comes of it, all of it entries.
    pub(super) fn store(&mut self, drafts: impl IntoIterator<Item = Draft>) -> Vec<Entry> {
        self.say(drafts);
        let mut entries = Vec::new();
        while self.journal.in_flight() > 0 {
            match self.event() {
                Event::Entry(entry) => entries.push(entry),
                other => panic!("{other:?}"),
            }
        }
        entries
    }

    pub(super) fn page(&mut self, room: &str, range: Range, limit: usize, max_bytes: usize) -> Page {
        self.journal.read(Read { ticket: 7, room: self::room(room), range, limit, max_bytes, count: 1_000 });
        match self.event() {
            Event::Page(page) => page,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn find(&mut self, room: &str, query: &str, before: u64, limit: usize) -> Found {
        let range = Range::Matching { before: Position(before), query: query.to_owned() };
        self.journal.read(Read { ticket: 8, room: self::room(room), range, limit, max_bytes: usize::MAX, count: 0 });
        match self.event() {
            Event::Found(found) => found,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName::new(name, 64).unwrap()
}

/// Said in the raw dialect.
pub(super) fn raw(room: &str, text: &str) -> Draft {
    Draft {
        room: self::room(room),
        origin: Some(MemberId { slot: 3, serial: 4 }),
        author: None,
        nonce: None,
        at: Timestamp(1_700_000_000_000),
        content: Content::Text(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// Said by somebody.
pub(super) fn said(room: &str, by: (u64, &str), nonce: &str, text: &str) -> Draft {
    let author = Some(Author { id: PersonId(by.0), name: by.1.into() });
    Draft { author, nonce: Some(Nonce(nonce.into())), ..raw(room, text) }
}

/// Position and text of an entry or repeat.
pub(super) fn brief(event: &Event) -> (&'static str, u64, String) {
    match event {
        Event::Entry(entry) => ("entry", entry.position.0, text(entry)),
        Event::Repeat(entry) => ("repeat", entry.position.0, text(entry)),
        other => panic!("{other:?}"),
    }
}

pub(super) fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.content.bytes()).into_owned()
}

/// The same script for every journal.
pub(super) fn keeps_its_promises(desk: &mut Desk) {
    assert!(desk.journal.has_room() && desk.journal.in_flight() == 0);

    // One order over all rooms, dense, with everything as it was said.
    let binary = Draft { content: Content::Binary(Bytes::from_static(b"\0\xff")), ..raw("kitchen", "") };
    let drafts = [raw("lobby", "one"), said("kitchen", (u64::MAX, "Ann"), "n1", "two"), binary, raw("lobby", "")];
    for draft in &drafts {
        desk.journal.append(draft.clone());
    }
    assert_eq!((desk.journal.in_flight(), desk.journal.in_flight_bytes()), (4, 8));
    desk.journal.flush();
    let entries = desk.events(4);
    let Event::Entry(Entry { position: Position(first), .. }) = entries[0] else { panic!("{entries:?}") };
    // What a bus needs for itself has positions, too.
    let start = first - 1;
    assert!(start >= desk.journal.opened_at().0);
    let expected = drafts.iter().zip(1..).map(|(draft, place)| Event::Entry(draft.clone().at(Position(start + place))));
    assert_eq!(entries, expected.collect::<Vec<_>>());
    assert_eq!((desk.journal.in_flight(), desk.journal.in_flight_bytes()), (0, 0));

    // A repeat is the original, however it reads and wherever it is said; it is given to whoever repeats it.
    let again = MemberId { slot: 9, serial: 9 };
    desk.say([
        Draft { origin: Some(again), ..said("lobby", (u64::MAX, "Anna"), "n1", "two, changed") },
        said("kitchen", (1, "Bob"), "n1", "three"),
        said("kitchen", (1, "Bob"), "n2", "four"),
        said("kitchen", (1, "Bob"), "n2", "four"),
        raw("kitchen", "five"),
    ]);
    let events = desk.events(5);
    // On a bus a repeat has a position of its own, which nobody is told.
    let place = u64::from(matches!(desk.journal, Journal::Bus(_)));
    let (three, four, five) = (5 + place, 6 + place, 7 + 2 * place);
    let expected = [("repeat", 2, "two"), ("entry", three, "three"), ("entry", four, "four"), ("repeat", four, "four")];
    let expected = expected.into_iter().chain([("entry", five, "five")]);
    let expected: Vec<_> = expected.map(|(what, place, text)| (what, start + place, text.to_owned())).collect();
    assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), expected);
    let Event::Repeat(repeat) = &events[0] else { panic!("{events:?}") };
    assert_eq!(*repeat, Entry { origin: Some(again), ..drafts[1].clone().at(Position(start + 2)) });
    assert_eq!((desk.journal.in_flight(), desk.journal.in_flight_bytes()), (0, 0));

    // A draft is taken even when there is no room for another.
    let mut said = 0;
    while desk.journal.has_room() {
        desk.journal.append(raw("lobby", "x"));
        said += 1;
    }
    desk.journal.append(raw("lobby", "one more"));
    desk.journal.flush();
    let last = desk.events(said + 1).pop().unwrap();
    assert_eq!(brief(&last), ("entry", start + five + 1 + said as u64, "one more".to_owned()));
    assert!(desk.journal.has_room());

    // Whatever is read is answered, with its ticket.
    let end = Position(u64::MAX);
    for range in [Range::Before(end), Range::After { after: Position::START, upto: end }] {
        assert_eq!(desk.page("lobby", range, 10, 1000).ticket, 7);
    }
    assert_eq!(desk.find("lobby", "one", u64::MAX, 10).ticket, 8);
    assert_eq!(desk.journal.poll_event(), None, "everything was told once");
}

#[test]
fn every_journal_keeps_its_promises() {
    let limits = Limits { max_drafts_in_flight: 20, max_draft_bytes_in_flight: 1000, ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    keeps_its_promises(&mut Desk::new(|_| Journal::memory(&limits, Epoch(1))));
    for sync in [SyncMode::Normal, SyncMode::Full] {
        let path = folder.path().join(format!("{sync:?}.db"));
        let open = |bell: Arc<Bell>| Journal::sqlite(&path, sync, &limits, move || bell.ring()).unwrap();
        keeps_its_promises(&mut Desk::new(open));
    }
}
