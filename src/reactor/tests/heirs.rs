//! A page that comes back takes the place of the connection it has lost, in whatever state that is.

use serde_json::{Value, json};

use super::*;
use crate::chat::dialect::Message;
use crate::chat::entry::Timestamp;
use crate::reactor::member_id;

impl Stand {
    /// A page that says hello in the packet in which it asks for an upgrade.
    fn page(&mut self, hello: &Value) -> Peer {
        let peer = self.connect(WIDE);
        let upgrade = UPGRADE.strip_suffix("\r\n").unwrap();
        let mut request = format!("{upgrade}Sec-WebSocket-Protocol: chat.v1\r\n\r\n").into_bytes();
        request.extend(masked(0x81, hello.to_string().as_bytes()));
        self.send(&peer, request);
        peer
    }

    #[expect(clippy::needless_pass_by_value, reason = "requests are made where they are asked")]
    fn ask(&mut self, peer: &Peer, request: Value) {
        self.say(peer, &request.to_string());
    }

    /// What it was told, and the code with which it was closed.
    fn told(&mut self, peer: &Peer) -> (Vec<Value>, Option<u16>) {
        let (mut told, mut code) = (Vec::new(), None);
        let head = peer.wire.borrow().to_client.iter().copied().collect::<Vec<u8>>();
        if head.starts_with(b"HTTP/1.1 101 ") {
            let end = head.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
            self.take(peer, end + 4);
        }
        for (opcode, payload) in self.frames(peer) {
            assert_eq!(code, None, "nothing follows the close frame");
            match opcode {
                0x81 => told.push(serde_json::from_slice(&payload).expect("JSON")),
                0x88 => code = Some(u16::from_be_bytes([payload[0], payload[1]])),
                other => panic!("an unexpected frame {other:#x}"),
            }
        }
        (told, code)
    }

    /// Somebody's draft is on its way and does not come back, so that no other is taken.
    fn hold_up(&mut self, peer: &Peer) {
        let draft = self.reactor.hub.draft(member_id(peer.id), Message::Text(b"held up"), Timestamp(0));
        self.reactor.journal.append(draft.expect("it is raw"));
    }
}

fn say() -> Value {
    json!({"type": "say", "room": "lobby", "text": "hi", "nonce": "n"})
}

#[test]
fn the_connection_whose_place_is_taken_ends_in_that_turn_and_is_told_nothing_else() {
    /// What happens to a connection before its page comes back, and in the turn in which it does.
    type Act = fn(&mut Stand, &Peer);
    let nothing: Act = |_, _| {};
    let asks: Act = |stand, ghost| {
        stand.ask(ghost, json!({"type": "join", "room": "other"}));
        stand.ask(ghost, say());
    };
    let is_full: Act = |stand, ghost| {
        ghost.wire.borrow_mut().capacity = 0;
        (0..5_000).for_each(|_| stand.ask(ghost, json!({"type": "nonsense"})));
        stand.settle();
        assert_eq!(stand.metric("chat_held_connections"), 1);
    };
    let closes: Act = |stand, ghost| stand.send(ghost, masked(0x88, &1000_u16.to_be_bytes()));
    let says_and_closes: Act = |stand, ghost| {
        stand.ask(ghost, say());
        stand.send(ghost, masked(0x88, &1000_u16.to_be_bytes()));
    };
    let says_and_ends: Act = |stand, ghost| {
        stand.ask(ghost, say());
        stand.half_close(ghost);
    };
    let resets: Act = |stand, ghost| stand.reset(ghost);
    // name, before, in the same turn, the codes with which it may be closed
    let table: [(&str, Act, Act, &[Option<u16>]); 9] = [
        ("is at rest", nothing, nothing, &[Some(4000)]),
        ("asks in the same turn", nothing, asks, &[Some(4000)]),
        ("has asked", asks, nothing, &[Some(4000)]),
        ("takes nothing", is_full, nothing, &[None]),
        ("takes nothing, and is reset", is_full, resets, &[None]),
        ("closes in the same turn", nothing, closes, &[Some(4000), Some(1000)]),
        ("says something and closes in the same turn", nothing, says_and_closes, &[Some(4000), Some(1000)]),
        ("says something and ends in the same turn", nothing, says_and_ends, &[Some(4000), None]),
        ("is reset in the same turn", nothing, resets, &[None]),
    ];
    for is_first in [true, false] {
        for holds_up in [true, false] {
            for (name, before, meanwhile, codes) in table {
                let name = format!("{name}, is read first: {is_first}, the journal is full: {holds_up}");
                let limits = Limits { max_drafts_in_flight: 1, say_rate: 0, ..Limits::default() };
                let mut stand = Stand::new(limits);
                let other = stand.member(WIDE);
                let ghost = stand.page(&json!({"type": "hello", "name": "Ann"}));
                stand.ask(&ghost, json!({"type": "join", "room": "lobby"}));
                stand.settle();
                stand.turn();
                let (told, _) = stand.told(&ghost);
                let kinds: Vec<_> = told.iter().map(|told| told["type"].as_str().unwrap()).collect();
                assert_eq!(kinds[..2], ["welcome", "joined"], "{name}");
                let hello = json!({"type": "hello", "token": told[0]["token"], "session": told[0]["session"]});
                before(&mut stand, &ghost);
                stand.settle();
                stand.turn();
                stand.told(&ghost);

                if holds_up {
                    stand.hold_up(&other);
                }
                if is_first {
                    meanwhile(&mut stand, &ghost);
                }
                let heir = stand.page(&hello);
                if !is_first {
                    meanwhile(&mut stand, &ghost);
                }
                stand.turn();
                let (welcome, code) = stand.told(&heir);
                assert_eq!((&welcome[0]["type"], code), (&json!("welcome"), None), "{name}");
                // Of a connection that was seen to have gone there is nothing to be taken over.
                let is_heir = welcome[0]["session"] == told[0]["session"];
                assert!(is_heir || ghost.wire.borrow().is_reset, "{name}");
                assert!(stand.connection(&ghost).is_none_or(|ghost| !ghost.is_open()), "{name}: it goes on");
                let (told, code) = stand.told(&ghost);
                let is_error = |told: &&Value| told["type"] == "error";
                assert_eq!(told.iter().find(is_error), None, "{name}");
                assert!(codes.contains(&code), "{name}: {code:?}");
                assert_eq!(stand.reactor.hub.members(), 2, "{name}");
            }
        }
    }
}
