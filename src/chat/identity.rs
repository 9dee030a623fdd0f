//! Who somebody is without an account: an id, a token that proves it, and a secret for the session.
//!
//! A token is the id and a MAC over it. Whoever brings it back is the same person; nobody else can make one. It grants no
//! rights beyond that, and does not expire.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::entry::PersonId;

const ID_BYTES: usize = 8;
/// A quarter of a SHA-256 would do against guessing over a network; half of it leaves no doubt.
const MAC_BYTES: usize = 16;

/// A secret that one page shares with the server while it lives, so that it can take over its own lost connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session(pub String);

/// Makes identities and recognises them.
pub struct Identities {
    key: [u8; 32],
    /// Signed before this one did.
    former_key: Option<[u8; 32]>,
    /// What ids and sessions are derived from, so that a simulation makes the same ones again.
    seed: [u8; 32],
    made: u64,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").finish_non_exhaustive()
    }
}

impl Identities {
    /// Identities signed with `key`, which is kept; `seed` is random and of this process alone.
    #[must_use]
    pub fn new(key: [u8; 32], seed: [u8; 32]) -> Self {
        Identities { key, former_key: None, seed, made: 0 }
    }

    /// Signs with another key from now on. Tokens of the key before are still recognised, and are replaced when whoever
    /// has one says hello.
    pub fn rekey(&mut self, key: [u8; 32]) {
        if key != self.key {
            self.former_key = Some(std::mem::replace(&mut self.key, key));
        }
    }

    /// A person who was never here.
    pub fn new_person(&mut self) -> PersonId {
        let bytes = self.derive(b"person");
        // Zero is nobody.
        PersonId(u64::from_be_bytes(bytes[..ID_BYTES].try_into().expect("eight bytes of 32")).max(1))
    }

    /// Whoever is known by a label alone, and has no token: the same person for the same label.
    #[must_use]
    pub fn guest(&self, label: &str) -> PersonId {
        let mut mac = keyed(&self.key);
        mac.update(b"guest");
        mac.update(label.as_bytes());
        let bytes = mac.finalize().into_bytes();
        PersonId(u64::from_be_bytes(bytes[..ID_BYTES].try_into().expect("eight bytes of 32")).max(1))
    }

    /// A new session's secret.
    pub fn new_session(&mut self) -> Session {
        Session(URL_SAFE_NO_PAD.encode(&self.derive(b"session")[..16]))
    }

    /// What the person brings back to be recognised.
    #[must_use]
    pub fn token(&self, person: PersonId) -> String {
        let mut token = person.0.to_be_bytes().to_vec();
        token.extend_from_slice(&mac_of(&self.key, person).finalize().into_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whose token this is, if it is one of ours.
    #[must_use]
    pub fn recognise(&self, token: &str) -> Option<PersonId> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == ID_BYTES + MAC_BYTES)?;
        let (id, mac) = bytes.split_at(ID_BYTES);
        let person = PersonId(u64::from_be_bytes(id.try_into().ok()?));
        // Compares in constant time.
        let is_of = |key: &[u8; 32]| mac_of(key, person).verify_truncated_left(mac).is_ok();
        (is_of(&self.key) || self.former_key.as_ref().is_some_and(is_of)).then_some(person)
    }

    fn derive(&mut self, purpose: &[u8]) -> [u8; 32] {
        self.made += 1;
        let mut mac = keyed(&self.seed);
        mac.update(purpose);
        mac.update(&self.made.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn mac_of(key: &[u8; 32], person: PersonId) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(b"chat.v1 token");
    mac.update(&person.0.to_be_bytes());
    mac
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a MAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_who_somebody_is() {
        let mut ours = Identities::new([1; 32], [2; 32]);
        let person = ours.new_person();
        let token = ours.token(person);
        assert_eq!(ours.recognise(&token), Some(person));
        assert_eq!(Identities::new([1; 32], [9; 32]).recognise(&token), Some(person), "the key is what counts");
        assert_eq!(Identities::new([3; 32], [2; 32]).recognise(&token), None);
        for place in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.recognise(std::str::from_utf8(&forged).unwrap()), None, "byte {place}");
        }
        for not in ["", "x", "AAAA", &token[1..], &format!("{token}A")] {
            assert_eq!(ours.recognise(not), None, "{not}");
        }
    }

    #[test]
    fn another_key_knows_those_whom_the_one_before_knew() {
        let mut ours = Identities::new([1; 32], [2; 32]);
        let person = ours.new_person();
        let before = ours.token(person);
        ours.rekey([3; 32]);
        ours.rekey([3; 32]);
        let after = ours.token(person);
        assert_ne!(before, after);
        assert_eq!((ours.recognise(&before), ours.recognise(&after)), (Some(person), Some(person)));
        assert_eq!(Identities::new([3; 32], [9; 32]).recognise(&after), Some(person));
    }

    #[test]
    fn people_and_sessions_differ() {
        let mut ours = Identities::new([1; 32], [2; 32]);
        let (one, other) = (ours.new_person(), ours.new_person());
        assert_ne!(one, other);
        assert_ne!(ours.new_session(), ours.new_session());
    }
}
