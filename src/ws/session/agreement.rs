//! Random scripts in random pieces mean to a session what they mean to one context that gets them whole.

use proptest::prelude::*;

use super::tests::{Desk, FIN, MAX_MESSAGE_BYTES, close_frame, frame};
use super::*;

/// What one context makes of an input that comes whole, told in our events, and the pongs.
fn plain(input: &[u8]) -> (Vec<Event>, Vec<u8>) {
    let mut context = Workbench::new(MAX_MESSAGE_BYTES).context(4096);
    let (mut events, mut output) = (Vec::new(), Vec::new());
    let mut stream = Memory { input, output: &mut output };
    loop {
        match context.read(&mut stream) {
            Ok(Message::Text(text)) => events.push(Event::Text(text.into())),
            Ok(Message::Binary(payload)) => events.push(Event::Binary(payload)),
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                events.push(Event::Fault(CloseReason::Protocol));
                break;
            }
            Ok(Message::Close(close)) => {
                let code = close.map(|close| close.code.into());
                let mut reply = Vec::new();
                crate::ws::frame::close(code, "", &mut reply);
                events.push(Event::Closed { code, reply: Some(reply.into()) });
                break;
            }
            Ok(_) => {}
            Err(Error::Io(_)) => break,
            Err(error) => {
                events.push(Event::Fault(reason_of(&error)));
                break;
            }
        }
    }
    (events, output)
}

fn pieces(input: &[u8], sizes: &[usize]) -> Desk {
    let mut desk = Desk::new();
    let (mut rest, mut sizes) = (input, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = rest.len().min(*sizes.next().expect("an endless series"));
        desk.receive(&rest[..size]);
        rest = &rest[size..];
    }
    desk
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z\u{e9}\u{20ac}\u{1f600}]{0,70}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => proptest::collection::vec(Just(b'x'), 120..MAX_MESSAGE_BYTES + 5),
        1 => Just(b"\xe2\x82".to_vec()),
        1 => Just(b"\xac".to_vec()),
    ]
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let data =
        prop_oneof![4 => Just(FIN | 1), 4 => Just(FIN | 2), 1 => Just(1), 1 => Just(2), 2 => Just(0), 2 => Just(FIN)];
    let control = prop_oneof![Just(FIN | 9), Just(FIN | 10)];
    // A small payload: a frame that is wrong in two ways may be told by either.
    let wrong = (any::<u8>(), "[a-z]{2,4}").prop_map(|(first, payload)| frame(first & 0xf7, payload.as_bytes()));
    let code = prop_oneof![Just(1000), Just(4000), any::<u16>()];
    prop_oneof![
        40 => (data, any_payload()).prop_map(|(first, payload)| frame(first, &payload)),
        12 => (control, proptest::collection::vec(any::<u8>(), 0..127)).prop_map(|(first, payload)| frame(first, &payload)),
        1 => wrong,
        1 => (code, "[a-z\u{20ac}]{0,10}").prop_map(|(code, words)| close_frame(code, words.as_bytes())),
        1 => any_payload().prop_map(|words| close_frame(1000, &words[..words.len().min(100)])),
        1 => proptest::collection::vec(any::<u8>(), 0..3).prop_map(|payload| frame(FIN | 8, &payload[..payload.len().min(1)])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_frames_give_what_one_context_gives(
        frames in proptest::collection::vec(any_frame(), 0..25),
        sizes in proptest::collection::vec(prop_oneof![1..8_usize, 1..2000_usize], 1..10),
    ) {
        let script = frames.concat();
        let (mut events, output) = plain(&script);
        let desk = pieces(&script, &sizes);
        if let (Some(Event::Fault(CloseReason::Protocol)), Some(last @ Event::Fault(CloseReason::MessageTooBig))) =
            (desk.events.last(), events.last_mut())
        {
            // A frame that is wrong as well as too long is wrong to us.
            *last = Event::Fault(CloseReason::Protocol);
        }
        prop_assert_eq!(desk.events, events);
        prop_assert_eq!(desk.output, output);
    }

    #[test]
    fn garbage_ends_where_it_ends_for_one_context(
        frames in proptest::collection::vec(any_frame(), 0..5),
        garbage in proptest::collection::vec(any::<u8>(), 0..40),
        sizes in proptest::collection::vec(1..100_usize, 1..10),
    ) {
        // The zeros complete any frame that is short enough to be allowed, and are a fault themselves.
        let script = [frames.concat(), garbage, vec![0; MAX_MESSAGE_BYTES + 20]].concat();
        let (mut events, output) = plain(&script);
        let mut desk = pieces(&script, &sizes);
        if let (Some(Event::Fault(_)), Some(Event::Fault(_))) = (events.last(), desk.events.last()) {
            // What is wrong in two ways may be told by either.
            events.pop();
            desk.events.pop();
        }
        prop_assert_eq!(desk.events, events);
        prop_assert_eq!(desk.output, output);
    }
}
