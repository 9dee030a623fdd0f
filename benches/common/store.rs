//! A journal in a file, as the loop sees it: drafts in, flush, and entries out once they are committed.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use chat_app::chat::entry::{Author, Content, Draft, Nonce, PersonId, Position, RoomName, Timestamp};
use chat_app::journal::{Event, Journal, Range, Read, SyncMode};
use chat_app::limits::Limits;

/// Rooms among which what is said goes round.
pub const ROOMS: u64 = 10;
/// Entries that are asked for at once.
pub const PAGE: usize = 100;

/// Somebody who waits for each answer.
pub struct Desk {
    journal: Journal,
    woken: Receiver<()>,
    said: u64,
}

impl Desk {
    /// Opens the file, or makes it.
    pub fn open(path: &Path, sync: SyncMode) -> Self {
        let (wake, woken) = channel();
        let journal = Journal::sqlite(path, sync, &Limits::default(), move || _ = wake.send(())).expect("it opens");
        Desk { said: journal.opened_at().0, journal, woken }
    }

    /// How many entries the file has.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// Has so many texts stored in one batch.
    pub fn say(&mut self, count: u64) {
        for _ in 0..count {
            self.said += 1;
            self.journal.append(draft(self.said));
        }
        self.journal.flush();
        while self.journal.in_flight() > 0 {
            assert!(matches!(self.event(), Event::Entry(_)), "it is stored");
        }
    }

    /// Reads a page of the first room.
    pub fn ask(&mut self, range: Range) -> Event {
        self.journal.read(Read { ticket: 0, room: room(0), range, limit: PAGE, max_bytes: usize::MAX, count: 0 });
        self.event()
    }

    /// Searches for a word that nobody has said, which waits until everything is in the index.
    pub fn index(&mut self) {
        let range = Range::Matching { before: Position(self.said + 1), query: "nowhere ".to_owned() };
        let Event::Found(found) = self.ask(range) else { panic!("not found") };
        assert_eq!(found.hits.map(|hits| hits.len()), Ok(0));
    }

    fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.journal.poll_event() {
                return event;
            }
            self.woken.recv().expect("the journal lives");
        }
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
