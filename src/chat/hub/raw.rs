//! What members of the raw dialect say.

use std::time::Instant;

use bytes::Bytes;

use super::{Bucket, Content, Draft, Hub, MemberId, Message, Timestamp};

impl Hub {
    /// What a raw member says, as a draft for its room; `None` if it is not there. The content is copied here, so that
    /// what is kept never keeps a read buffer alive.
    #[must_use]
    pub fn draft(&mut self, member: MemberId, message: Message<'_>, at: Timestamp) -> Option<Draft> {
        let found = self.member_mut(member)?;
        let room = found.seats.first()?.room;
        found.in_flight += 1;
        let content = match message {
            Message::Text(text) => Content::Text(Bytes::copy_from_slice(text)),
            Message::Binary(bytes) => Content::Binary(Bytes::copy_from_slice(bytes)),
        };
        let room = self.rooms[room].name.clone();
        Some(Draft { room, origin: Some(member), author: None, nonce: None, at, content })
    }

    /// A raw member has said something: until when it is not to be read, so that it keeps to its rate.
    pub fn pace(&mut self, member: MemberId, now: Instant) -> Option<Instant> {
        let rate = self.bounds.raw;
        if rate.per_second == 0 {
            return None;
        }
        let bucket = self.member_mut(member)?.raw.get_or_insert(Bucket::full(now));
        bucket.spend(rate, now);
        Some(bucket.wait(rate, now)).filter(|wait| !wait.is_zero()).map(|wait| now + wait)
    }
}
