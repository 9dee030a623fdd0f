//! A file as a whole: its representations, those that were found beside it and those that we have made of it, and which
//! of them a request gets.

use std::sync::Arc;

use http::header::RANGE;

use super::representation::Representation;
use crate::http::Request;
use crate::http::coding::{Accepted, Coding};

/// Shorter content is sent in one packet either way.
pub(super) const LEAST_COMPRESSED_BYTES: u64 = 512;

/// The codings in which we make copies of our own.
const MADE: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

/// What is served at a path.
#[derive(Debug)]
pub(super) struct Resource {
    /// The path of the file below the root; that of the request may be shorter.
    pub(super) name: Box<[u8]>,
    pub(super) identity: Representation,
    /// Those that lie beside it, compressed by somebody else.
    pub(super) siblings: Vec<Representation>,
    /// Copies may be made of it: it is text, there are none, and it is neither too small nor too large.
    pub(super) is_compressible: bool,
}

impl Resource {
    /// All content is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        let mut all = self.siblings.iter().chain([&self.identity]);
        all.all(|it| it.source.is_in_memory())
    }

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.name.len() + self.siblings.iter().chain([&self.identity]).map(Representation::weight).sum::<usize>()
    }

    /// Which representation answers a request (RFC 9110, section 12.5.3).
    pub(super) fn choose<'a>(&'a self, copies: &'a Copies, request: &Request) -> Choice<'a> {
        let accepted = Accepted::of(&request.headers);
        // Who asks for a part counts in bytes of the content as it is.
        if accepted == Accepted::PLAIN || request.headers.contains_key(RANGE) && accepted.takes_identity() {
            return Choice::Send(&self.identity);
        }
        let sibling = |coding| self.siblings.iter().find(|it| it.coding == Some(coding));
        let there = |coding| sibling(coding).or(copies.get(coding));
        let may_make = |coding: &Coding| self.is_compressible && !copies.is_useless(*coding);
        let possible = Coding::ALL.into_iter().filter(|coding| there(*coding).is_some() || may_make(coding));
        let identity = accepted.takes_identity().then_some(&self.identity);
        let Some(best) = accepted.best_of(possible) else {
            return identity.map_or(Choice::NotAcceptable, Choice::Send);
        };
        if let Some(best) = there(best) {
            return Choice::Send(best);
        }
        // Nobody waits for a copy who can be sent something else.
        let next_best = accepted.best_of(Coding::ALL.into_iter().filter(|coding| there(*coding).is_some()));
        match next_best.and_then(there).or(identity) {
            Some(meanwhile) => Choice::SendAndMake(meanwhile, best),
            None => Choice::WaitFor(best),
        }
    }
}

/// What is to be done about a request.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    /// Send this.
    Send(&'a Representation),
    /// Send this, and make a copy in this coding for those who come later.
    SendAndMake(&'a Representation, Coding),
    /// Make a copy: there is nothing else that the client takes.
    WaitFor(Coding),
    /// There is nothing that the client takes.
    NotAcceptable,
}

/// The copies that we have made of one file.
#[derive(Debug, Default)]
pub(super) struct Copies([Copy; MADE.len()]);

/// What is known of a copy in one coding.
#[derive(Debug, Default)]
pub(super) enum Copy {
    /// It has not been made, or there was no room for it.
    #[default]
    Untried,
    /// It was not smaller, or could not be made.
    Useless,
    /// It is there.
    Ready(Arc<Representation>),
}

impl Copies {
    fn place(coding: Coding) -> Option<usize> {
        MADE.iter().position(|made| *made == coding)
    }

    fn get(&self, coding: Coding) -> Option<&Representation> {
        match &self.0[Copies::place(coding)?] {
            Copy::Ready(copy) => Some(copy),
            Copy::Untried | Copy::Useless => None,
        }
    }

    /// It has been tried in vain, or is never tried.
    fn is_useless(&self, coding: Coding) -> bool {
        Copies::place(coding).is_none_or(|place| matches!(self.0[place], Copy::Useless))
    }

    /// Keeps what came of making a copy.
    pub(super) fn put(&mut self, coding: Coding, made: Copy) {
        if let Some(place) = Copies::place(coding) {
            self.0[place] = made;
        }
    }

    /// Bytes of memory that they take.
    pub(super) fn weight(&self) -> usize {
        MADE.into_iter().filter_map(|coding| self.get(coding)).map(Representation::weight).sum()
    }
}
