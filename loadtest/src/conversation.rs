//! What a client of chat.v1 makes of what it is told: who it is, where it sits, and what that means for the ledger.

use crate::chat::{self, Entry, Person, Told};
use crate::client::Phase;
use crate::fleet::{Tally, count};
use crate::ledger::{Ledger, Role};

/// One client, as long as it hears something.
#[derive(Debug)]
pub struct Talker<'a> {
    /// Which one.
    pub place: usize,
    /// How it takes part once it is in.
    pub role: Role,
    /// How far it has come.
    pub phase: &'a mut Phase,
    /// Who it is.
    pub person: &'a mut Person,
    /// Where it wants to sit.
    pub room: &'a str,
    /// The books.
    pub ledger: &'a mut Ledger,
    /// Other counts.
    pub tally: &'a mut Tally,
}

impl Talker<'_> {
    /// Hears `payload`, which came in `frame`, at `now`; gives what is to be answered. The error is why it cannot go on.
    pub fn hear(&mut self, payload: &[u8], frame: &[u8], now: u64) -> Result<Option<String>, String> {
        match chat::read(payload)? {
            Told::Welcome { token, session, say_per_second } if *self.phase == Phase::Greeting => {
                self.person.token = token.into_owned();
                self.person.session = session.into_owned();
                self.tally.say_per_second = say_per_second;
                *self.phase = Phase::Joining;
                let was_there = self.ledger.is_part(self.place) && !self.person.epoch.is_empty();
                let after = was_there.then(|| self.ledger.position(self.place));
                Ok(Some(chat::join(self.room, self.person, after)))
            }
            Told::Joined { epoch, position, entries, gap, more } if *self.phase == Phase::Joining => {
                self.joined(&epoch, position, &entries, (gap, more), now);
                Ok(None)
            }
            Told::Said(Entry { position, text }) => {
                if *self.phase == Phase::Open {
                    self.ledger.hear(self.place, text.as_bytes(), Some(frame), position, now);
                }
                Ok(None)
            }
            Told::Gap => {
                self.tally.gaps += 1;
                Ok(None)
            }
            Told::Error { reason, .. } if *self.phase != Phase::Open => Err(reason),
            Told::Error { reason, nonce } => {
                count(&mut self.tally.errors, reason);
                if let Some(nonce) = nonce {
                    self.ledger.refuse(nonce.as_bytes());
                }
                Ok(None)
            }
            Told::Welcome { .. } | Told::Joined { .. } => Err("a welcome or a seat that nobody has asked for".into()),
            Told::Other => Ok(None),
        }
    }

    fn joined(&mut self, epoch: &str, position: u64, entries: &[Entry<'_>], (gap, more): (bool, bool), now: u64) {
        *self.phase = Phase::Open;
        let was_there = self.ledger.is_part(self.place);
        self.ledger.join(self.place, self.role);
        if was_there && gap {
            self.tally.gaps += 1;
        }
        self.person.epoch = epoch.to_owned();
        if was_there {
            // What it has missed. To somebody new it is the past, which nobody has promised it.
            for entry in entries {
                self.ledger.hear(self.place, entry.text.as_bytes(), None, entry.position, now);
            }
        }
        if !more {
            self.ledger.is_level(self.place, position);
        }
    }
}
