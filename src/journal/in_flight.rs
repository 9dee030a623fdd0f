//! How many drafts, and how much of them, a journal has been given and has not told the end of.

use std::collections::VecDeque;

use crate::chat::entry::Draft;
use crate::limits::Limits;

/// Drafts that are in flight, each with what is to be known again when it comes back. They come back in the same order.
#[derive(Debug)]
pub(super) struct InFlight<T = ()> {
    drafts: VecDeque<(usize, T)>,
    bytes: usize,
    max_drafts: usize,
    max_bytes: usize,
}

impl<T> InFlight<T> {
    /// None, within the bounds of `limits`.
    pub(super) fn new(limits: &Limits) -> Self {
        let (max_drafts, max_bytes) = (limits.max_drafts_in_flight, limits.max_draft_bytes_in_flight);
        InFlight { drafts: VecDeque::new(), bytes: 0, max_drafts, max_bytes }
    }

    /// Whether another one may be taken, however large it is.
    pub(super) fn has_room(&self) -> bool {
        self.drafts.len() < self.max_drafts && self.bytes < self.max_bytes
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Bytes of their content.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One is handed over.
    pub(super) fn push(&mut self, draft: &Draft, known: T) {
        let bytes = draft.content.bytes().len();
        self.drafts.push_back((bytes, known));
        self.bytes += bytes;
    }

    /// The first of them has come back, if there is any.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (bytes, known) = self.drafts.pop_front()?;
        self.bytes -= bytes;
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::raw;

    #[test]
    fn both_bounds_count() {
        let limits = Limits { max_drafts_in_flight: 3, max_draft_bytes_in_flight: 10, ..Limits::default() };
        for (texts, has_room) in
            [(&["", ""][..], true), (&["", "", ""], false), (&["nine byte"], true), (&["nine byte", "x"], false)]
        {
            let mut in_flight = InFlight::new(&limits);
            for (number, text) in texts.iter().enumerate() {
                assert!(in_flight.has_room(), "{texts:?}");
                in_flight.push(&raw("lobby", text), number);
            }
            assert_eq!(in_flight.has_room(), has_room, "{texts:?}");
            let bytes: usize = texts.iter().map(|text| text.len()).sum();
            assert_eq!((in_flight.len(), in_flight.bytes()), (texts.len(), bytes));
            let popped: Vec<usize> = std::iter::from_fn(|| in_flight.pop()).collect();
            assert!(popped.is_sorted() && popped.len() == texts.len(), "{popped:?}");
            assert_eq!((in_flight.len(), in_flight.bytes()), (0, 0));
        }
    }
}
