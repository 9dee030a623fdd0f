//! What keeps the reading of the meta stream short.
//!
//! Each session leaves a mark in the meta stream, which is never trimmed. Read from its beginning, it would take longer
//! with each of them, and at last longer than a session may take to begin. So whoever has read many messages publishes a
//! *digest*: all records up to a place. Whoever comes later looks for one near the end, and reads on from that place.
//!
//! A digest says only what is there anyway: where none is found, everything is read. Older programs take it for a record
//! of a newer one, and pass it over.

use bytes::Bytes;
use lapin::protocol::BasicProperties;

use super::reader::{Kind, Message};
use super::{Failure, RabbitMqSession, place, word};

/// The type of a message that is a digest.
pub(super) const DIGEST: &str = "application/x-chat-app-digest";
/// Messages that are read without one before another is published.
const EVERY: u64 = 128;
/// It is looked for in so many messages at the end. Several who come at the same time may leave their marks behind it.
const NEAR: u64 = 4 * EVERY;
/// Who reads more than this publishes one on the way, so that nothing was in vain if the time is up before the end.
const ON_THE_WAY: u64 = 5_000;
/// One that is longer would cost more than it saves.
const MAX_BYTES: usize = 1 << 20;

/// The records of the meta stream up to an offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Digest {
    /// What comes behind this is not in it.
    pub(super) upto: u64,
    pub(super) records: Vec<Bytes>,
}

impl Digest {
    /// Offset, and each record behind its length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.upto.to_be_bytes().to_vec();
        for record in &self.records {
            out.extend_from_slice(&(record.len() as u64).to_be_bytes());
            out.extend_from_slice(record);
        }
        out
    }

    /// The digest that a message is, unless it is none.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let mut rest = message.bytes.clone();
        let number = |rest: &mut Bytes| {
            let bytes = (rest.len() >= 8).then(|| rest.split_to(8))?;
            Some(u64::from_be_bytes(bytes[..].try_into().ok()?))
        };
        // It cannot tell of what comes behind it.
        let is_one = message.kind == Kind::Digest;
        let upto = number(&mut rest).filter(|upto| is_one && *upto < message.offset)?;
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = usize::try_from(number(&mut rest)?).ok()?;
            records.push((length <= rest.len()).then(|| rest.split_to(length))?);
        }
        Some(Digest { upto, records })
    }
}

impl RabbitMqSession {
    /// All records of the meta stream, from a digest on if there is one.
    pub(super) async fn meta_records(&self) -> Result<Vec<Bytes>, Failure> {
        let end = self.meta_end().await?;
        let mut digest = self.last_digest(end).await?.unwrap_or_default();
        let mut reader = self.read(&self.names.meta, place(digest.upto + 1)).await?;
        let mut read_upto = digest.upto;
        while read_upto < end {
            let message = reader.message().await?;
            if message.offset <= read_upto {
                continue;
            }
            read_upto = message.offset;
            if message.kind == Kind::Record && read_upto < end {
                digest.records.push(message.bytes);
            }
            let unsaid = read_upto - digest.upto;
            if unsaid >= ON_THE_WAY || (read_upto >= end && unsaid >= EVERY) {
                digest.upto = read_upto.min(end);
                self.publish_digest(&digest).await?;
            }
        }
        Ok(digest.records)
    }

    /// Where the meta stream ends: a mark is there, and everything that was said before is before it.
    pub(super) async fn meta_end(&self) -> Result<u64, Failure> {
        let mut reader = self.read(&self.names.meta, word("last")).await?;
        let mark = self.mark(&self.names.meta).await?;
        loop {
            let message = reader.message().await?;
            if message.is(&mark) {
                return Ok(message.offset);
            }
        }
    }

    /// The digest that reaches furthest of those near the end, which is a mark.
    async fn last_digest(&self, end: u64) -> Result<Option<Digest>, Failure> {
        let from = end.saturating_sub(NEAR).max(1);
        let mut reader = self.read(&self.names.meta, place(from)).await?;
        let mut last: Option<Digest> = None;
        loop {
            let message = reader.message().await?;
            if message.offset >= end {
                return Ok(last);
            }
            let upto = last.as_ref().map_or(0, |digest| digest.upto);
            last = Digest::of(&message).filter(|digest| digest.upto > upto).or(last);
        }
    }

    async fn publish_digest(&self, digest: &Digest) -> Result<(), Failure> {
        let message = digest.encode();
        if message.len() > MAX_BYTES {
            return Ok(());
        }
        let properties = BasicProperties::default().with_content_type(DIGEST.into());
        self.confirmed(&self.names.meta, [&message[..]], &properties).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_as_it_was() {
        let digest = |upto, records: &[&'static str]| {
            let records = records.iter().map(|record| Bytes::from_static(record.as_bytes())).collect();
            Digest { upto, records }
        };
        let message = |kind, offset, bytes: &[u8]| Message { offset, kind, bytes: Bytes::copy_from_slice(bytes) };
        for one in [digest(1, &[]), digest(u64::MAX - 1, &[""]), digest(7, &["a", "", "{\"record\": 1}"])] {
            let bytes = one.encode();
            assert_eq!(Digest::of(&message(Kind::Digest, u64::MAX, &bytes)), Some(one.clone()));
            assert_eq!(Digest::of(&message(Kind::Record, u64::MAX, &bytes)), None, "it says that it is something else");
            assert_eq!(Digest::of(&message(Kind::Digest, one.upto, &bytes)), None, "it tells of itself");
            // Nothing that is cut off is taken for another, but for one that ends with a record.
            for length in 0..bytes.len() {
                let cut = Digest::of(&message(Kind::Digest, u64::MAX, &bytes[..length]));
                assert!(cut.is_none_or(|cut| cut.encode().len() == length));
            }
        }
    }
}
