//! Whether what a client was told is true: each answer by itself, and its view of a room as it goes on.
//!
//! What it is told next must be the next entry of the room, but for gaps that are announced; and a gap must have a reason:
//! entries were trimmed, could not be read, are more than are replayed, belong to another epoch, or were lost by the bus.
//! With a memory journal the reason is the bound of the tails. What the bus has lost must be announced to whoever can be
//! told.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::common::{Claim, Common};
use super::{Asked, ROOMS, Truth, room_name};
use crate::chat::entry::{Content, Entry};

/// How far somebody has heard a room.
#[derive(Debug)]
pub(in crate::reactor::simulation) struct View {
    pub(in crate::reactor::simulation) room: usize,
    pub(in crate::reactor::simulation) upto: u64,
    /// The epoch in which it was told so.
    pub(in crate::reactor::simulation) epoch: String,
    /// Reads that had failed when it asked to listen.
    pub(in crate::reactor::simulation) unread: u64,
    common: Option<Rc<RefCell<Common>>>,
    /// What it has heard since it was last told of a gap.
    claim: Claim,
}

impl Truth {
    /// The entry that somebody is told of, which must be as it is told.
    pub(in crate::reactor::simulation) fn entry(&self, room: usize, told: &Value) -> &Entry {
        let position = told["position"].as_u64().expect("a position");
        let entries = self.between(room, position.saturating_sub(1), position);
        let Some(entry) = entries.first() else { panic!("{told} was never emitted in {}", room_name(room)) };
        self.check_told(told, entry);
        entry
    }

    /// The entry that somebody is told to have said before. It may be older than what is known at this instance.
    pub(in crate::reactor::simulation) fn check_original(&self, room: usize, told: &Value) {
        let position = told["position"].as_u64().expect("a position");
        if let (Some(common), []) = (&self.common, self.between(room, position.saturating_sub(1), position)) {
            let common = common.borrow();
            let mut entries = common.entries_at(position);
            let is_it = |entry: &Entry| Some(&*String::from_utf8_lossy(entry.content.bytes())) == told["text"].as_str();
            assert!(entries.any(is_it), "{told} was never said");
        } else {
            self.entry(room, told);
        }
    }

    /// What was posted is at the position that the answer tells.
    pub(in crate::reactor::simulation) fn check_post(&self, room: usize, position: u64, text: &str, key: &str) {
        let is_it = |entry: &Entry| {
            let nonce = entry.nonce.as_ref().map(|nonce| &*nonce.0);
            let is_named = nonce == Some(key) || (nonce.is_none() && self.common.is_some());
            is_named && entry.content.bytes() == text.as_bytes()
        };
        let here = self.between(room, position.saturating_sub(1), position).iter().any(is_it);
        let there = || self.common.as_ref().is_some_and(|common| common.borrow().entries_at(position).any(is_it));
        assert!(here || there(), "{text} was never emitted at {position}");
    }

    /// Whether nobody was told of an entry here, though it is on the bus: it came where this instance has lost something, and
    /// whoever has said it is told where it is when it comes again.
    pub(in crate::reactor::simulation) fn has_passed_over(&self, room: usize, position: u64) -> bool {
        self.common.is_some() && self.between(room, position.saturating_sub(1), position).is_empty()
    }

    /// An entry is told as it is.
    fn check_told(&self, told: &Value, entry: &Entry) {
        let author = entry.author.as_ref();
        assert_eq!(told["from"]["id"].as_str(), author.map(|author| author.id.to_string()).as_deref(), "{told}");
        assert_eq!(told["from"]["name"].as_str(), author.map(|author| &*author.name), "{told}");
        // What was said again when it was no longer known to be a repeat has taken the nonce with it.
        let nonce = entry.nonce.as_ref().filter(|_| !(self.common.is_some() && told["nonce"].is_null()));
        assert_eq!(told["nonce"].as_str(), nonce.map(|nonce| &*nonce.0), "{told}");
        assert_eq!(told["at"].as_u64(), Some(entry.at.0), "{told}");
        let (text, data) = match &entry.content {
            Content::Text(text) => (Some(String::from_utf8_lossy(text).into_owned()), None),
            Content::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        assert_eq!((told["text"].as_str(), told["data"].as_str()), (text.as_deref(), data.as_deref()), "{told}");
    }

    /// Whether somebody who has asked with a position of an epoch may be told that there is a gap because this is not known
    /// here, now that it is the epoch `told`. Whoever comes from another instance may know more than this one, which then
    /// waits for that, and for as long as it can come.
    pub(in crate::reactor::simulation) fn is_unknown(
        &self,
        (after, epoch): (u64, &str),
        told: &str,
        asked: Asked,
        now: Instant,
    ) -> bool {
        let Some(common) = &self.common else { return epoch != told || after > asked.present };
        let is_over = || self.lives.iter().any(|(life, _)| life == epoch) || common.borrow().is_over(epoch);
        let has_waited = now.duration_since(asked.at) >= self.limits.ahead_timeout;
        if epoch == told { after > asked.present && has_waited } else { is_over() || has_waited }
    }

    /// Whether somebody who has heard a room up to `after` may be told that there is a gap.
    pub(in crate::reactor::simulation) fn may_skip(&self, room: usize, after: u64, unread: u64) -> bool {
        if self.losses.iter().any(|upto| *upto > after) {
            return true;
        }
        if self.keeps {
            return self.floor(room) > after || self.unread() > unread;
        }
        // Tails go in whole batches, and rooms in which there is nobody are forgotten beyond a bound.
        let least = self.limits.tail_entries.saturating_sub(self.limits.entries_per_turn);
        let is_narrow = self.limits.tail_bytes.min(self.limits.tails_total_bytes) < 100_000;
        let is_forgetful = self.limits.max_tails <= ROOMS || is_narrow;
        is_forgetful || self.between(room, after, u64::MAX).len() >= least
    }

    /// Entries that somebody is told at once, which must be as they are in the room, without one left out.
    pub(in crate::reactor::simulation) fn slice(&self, room: usize, told: &Value) -> Option<(u64, u64)> {
        let told = told.as_array().expect("a list of entries");
        let positions: Vec<u64> = told.iter().map(|entry| self.entry(room, entry).position.0).collect();
        let (first, last) = (*positions.first()?, *positions.last()?);
        let true_ones: Vec<u64> = self.between(room, first - 1, last).iter().map(|entry| entry.position.0).collect();
        assert_eq!(positions, true_ones, "a part of the room without a hole");
        Some((first, last))
    }

    /// Judges `joined`, and returns how far the joiner knows the room. It has asked with `after` and an epoch.
    pub(in crate::reactor::simulation) fn joined(
        &self,
        room: usize,
        joined: &Value,
        after: Option<&(u64, String)>,
        asked: Asked,
        now: Instant,
    ) -> View {
        let Asked { present, unread, .. } = asked;
        let told_epoch = joined["epoch"].as_str().expect("an epoch");
        let position = joined["position"].as_u64().expect("a position");
        assert!(position <= self.last, "{joined} is ahead of {}", self.last);
        assert!(self.has_lived(told_epoch, position), "{joined} in {:?}", self.lives);
        let view = |after: u64| self.view(room, told_epoch, after, position, unread);
        let (gap, more, older) = (joined["gap"] == true, joined["more"] == true, joined["older"] == true);
        let slice = self.slice(room, &joined["entries"]);
        let told = joined["entries"].as_array().map_or(0, Vec::len) as u64;
        let last = slice.map_or(0, |(_, last)| last);
        assert!(self.between(room, last, position).is_empty() || slice.is_none(), "{joined} lacks the last");
        assert!(more || self.between(room, position, present).is_empty(), "{joined} is behind {present}");
        let missed = joined["missed"].as_u64();
        match after {
            Some((after, epoch)) if !gap => {
                assert_eq!(epoch, told_epoch, "{joined}");
                assert!(!self.is_lost_between(*after, position), "{joined} says nothing of {:?}", self.losses);
                let expected = self.between(room, *after, position);
                assert_eq!(expected.len() as u64, told, "{joined} after {after}: {expected:?}");
                let missed = missed.expect("a number");
                assert_eq!(more, missed > told, "{joined} after {after}");
                assert!(missed >= self.between(room, *after, present).len() as u64, "{joined} after {after}");
                assert!(missed <= self.between(room, *after, self.last).len() as u64, "{joined} after {after}");
                let mut view = view(*after);
                view.claim.heard = expected.iter().map(|entry| entry.position.0).collect();
                return view;
            }
            Some((after, epoch)) => {
                let is_justified = self.is_unknown((*after, epoch), told_epoch, asked, now)
                    || self.between(room, *after, self.last).len() > self.limits.backfill_entries
                    || self.may_skip(room, *after, unread);
                assert!(is_justified, "{joined} after {after}: there was no reason for a gap");
            }
            None => assert!(!gap, "{joined}"),
        }
        assert!(!more && missed.is_none(), "{joined}");
        if self.keeps && self.unread() == unread {
            let first = slice.map_or(position + 1, |(first, _)| first);
            let left_out = self.between(room, self.floor(room), first - 1);
            assert!(older || left_out.is_empty(), "{joined} says nothing of {left_out:?}");
            assert!(slice.is_some() || left_out.is_empty(), "{joined} says nothing of {left_out:?}");
        }
        view(position)
    }

    /// The view of somebody who has heard a room behind `after` up to a position.
    pub(in crate::reactor::simulation) fn view(
        &self,
        room: usize,
        epoch: &str,
        after: u64,
        upto: u64,
        unread: u64,
    ) -> View {
        let (common, epoch) = (self.common.clone(), epoch.to_owned());
        let claim = Claim { room: Some(room_name(room)), epoch: epoch.clone(), after, upto, heard: Vec::new() };
        View { room, upto, epoch, unread, common, claim }
    }

    /// Judges a page of the entries before `before`, or without it before the present, of which entries up to `present`
    /// were there when it was asked for.
    pub(in crate::reactor::simulation) fn page_before(
        &self,
        room: usize,
        page: &Value,
        before: Option<u64>,
        limit: u64,
        present: u64,
    ) {
        let slice = self.slice(room, &page["entries"]);
        assert!(page["entries"].as_array().map_or(0, Vec::len) as u64 <= limit, "{page}");
        let upto = before.map_or(present, |before| before - 1);
        let last = slice.map_or_else(|| self.floor(room), |(_, last)| last);
        assert!(!self.keeps || self.between(room, last, upto).is_empty(), "{page} lacks something before {before:?}");
        assert!(before.is_none_or(|before| last < before) || slice.is_none(), "{page} before {before:?}");
        let first = slice.map_or(upto + 1, |(first, _)| first);
        let is_complete = !self.keeps || self.between(room, self.floor(room), first - 1).is_empty();
        assert!(page["more"] == true || is_complete, "{page} has more before it");
    }

    /// Judges a page of the entries behind `after`, of which entries up to `present` were there when it was asked for.
    pub(in crate::reactor::simulation) fn page_after(
        &self,
        room: usize,
        page: &Value,
        after: u64,
        limit: u64,
        asked: Asked,
    ) {
        let Asked { present, unread, .. } = asked;
        let slice = self.slice(room, &page["entries"]);
        assert!(page["entries"].as_array().map_or(0, Vec::len) as u64 <= limit, "{page}");
        let (first, last) = slice.unwrap_or((present + 1, after));
        let left_out = self.between(room, after, first - 1);
        let is_told = page["gap"] == true && self.may_skip(room, after, unread);
        assert!(left_out.is_empty() || is_told, "{page} leaves out {left_out:?}");
        assert!(slice.is_none() || first > after, "{page} begins before {after}");
        let rest = self.between(room, last, present);
        let is_complete = rest.is_empty() || (slice.is_none() && self.may_skip(room, after, unread));
        assert!(page["more"] == true || is_complete, "{page} has more behind it: {rest:?}");
        let position = page["position"].as_u64().expect("a position");
        let passed = self.between(room, last, position);
        let is_told = slice.is_none() && self.may_skip(room, after, unread);
        assert!(passed.is_empty() || is_told, "{page} passes over {passed:?}");
        assert!(page["more"] == true || position >= present, "{page} is behind {present}");
    }

    /// Judges a page of the entries behind a position that may be of another instance.
    pub(in crate::reactor::simulation) fn page_behind(
        &self,
        room: usize,
        page: &Value,
        (after, epoch): &(u64, String),
        limit: u64,
        asked: Asked,
        now: Instant,
    ) {
        let (gap, told) = (page["gap"] == true, page["epoch"].as_str().expect("an epoch"));
        if gap && self.is_unknown((*after, epoch), told, asked, now) {
            // Everything that is kept comes.
            return self.page_after(room, page, 0, limit, asked);
        }
        assert!(gap || epoch == told, "{page} after {after} of {epoch}");
        assert!(
            !gap || self.may_skip(room, *after, asked.unread),
            "{page} after {after}: there was no reason for a gap"
        );
        self.page_after(room, page, *after, limit, asked);
    }
}

impl View {
    /// What comes is the next entry of the room.
    pub(in crate::reactor::simulation) fn hear(&mut self, truth: &Truth, told: &Value) {
        let position = truth.entry(self.room, told).position.0;
        let next = truth.between(self.room, self.upto, u64::MAX).first().map(|entry| entry.position.0);
        assert_eq!(Some(position), next, "{told} is told after {}", self.upto);
        let is_lost = truth.is_lost_between(self.upto, position);
        assert!(!is_lost, "{told} is told after {}, and nothing of {:?}", self.upto, truth.losses);
        self.upto = position;
        self.claim.upto = position;
        self.claim.heard.push(position);
    }

    /// Something is missing up to `position`, which is of an epoch.
    pub(in crate::reactor::simulation) fn skip(&mut self, truth: &Truth, position: u64, epoch: &str) {
        let is_anew = epoch != self.epoch;
        assert!(position > self.upto || (is_anew && position == self.upto), "a gap up to {position} after {self:?}");
        assert!(position <= truth.last, "a gap up to {position} of {}", truth.last);
        let is_justified = is_anew || truth.may_skip(self.room, self.upto, self.unread);
        assert!(is_justified, "no reason for a gap after {}", self.upto);
        assert!(truth.has_lived(epoch, position), "a gap up to {position} of {epoch} in {:?}", truth.lives);
        let unread = self.unread;
        *self = truth.view(self.room, epoch, position, position, unread);
    }
}

impl Drop for View {
    /// What it has heard is judged in the end.
    fn drop(&mut self) {
        if let Some(common) = &self.common {
            common.borrow_mut().claim(self.claim.clone());
        }
    }
}

/// What a raw member hears of an entry: opcode and content.
pub(in crate::reactor::simulation) fn raw_form(entry: &Entry) -> (u8, Vec<u8>) {
    match (&entry.author, &entry.content) {
        (_, Content::Binary(bytes)) => (0x82, bytes.to_vec()),
        (None, Content::Text(text)) => (0x81, text.to_vec()),
        (Some(author), Content::Text(text)) => (0x81, [author.name.as_bytes(), b": ", text].concat()),
    }
}
