//! Scripts with their outcome, at every split.

use super::*;

pub(super) const MAX_MESSAGE_BYTES: usize = 300;
pub(super) const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame; `first` is its first byte: FIN, reserved bits and opcode.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        len @ 0..=125 => vec![len as u8],
        len @ 126..=0xffff => [&[126], &(len as u16).to_be_bytes()[..]].concat(),
        len => [&[127], &(len as u64).to_be_bytes()[..]].concat(),
    };
    frame_with_length(first, &length, payload)
}

/// A masked frame with the length written as given.
fn frame_with_length(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    frame.extend(length);
    frame[1] |= 0x80;
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn text(payload: &str) -> Vec<u8> {
    frame(FIN | 1, payload.as_bytes())
}

pub(super) fn close_frame(code: u16, words: &[u8]) -> Vec<u8> {
    frame(FIN | 8, &[&code.to_be_bytes(), words].concat())
}

/// A session with its surroundings, fed piece by piece.
pub(super) struct Desk {
    session: Session,
    bench: Workbench,
    pub(super) events: Vec<Event>,
    pub(super) output: Vec<u8>,
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk::with_limit(MAX_MESSAGE_BYTES)
    }

    fn with_limit(max_message_bytes: usize) -> Desk {
        let bench = Workbench::new(max_message_bytes);
        Desk { session: Session::new(), bench, events: Vec::new(), output: Vec::new() }
    }

    pub(super) fn receive(&mut self, input: &[u8]) -> &mut Desk {
        self.session.receive(input, &mut self.bench, &mut self.events, &mut self.output);
        self
    }
}

/// Everything that comes of an input given in pieces of this size.
fn in_pieces(input: &[u8], size: usize) -> Desk {
    let mut desk = Desk::new();
    input.chunks(size).for_each(|piece| _ = desk.receive(piece));
    desk
}

fn text_event(payload: &str) -> Event {
    Event::Text(Bytes::copy_from_slice(payload.as_bytes()))
}

fn closed(code: Option<u16>, reply: &'static [u8]) -> Event {
    Event::Closed { code, reply: Some(Bytes::from_static(reply)) }
}

/// Checks a script in one piece, in pieces of every size, and cut in two at every place.
fn check_every_split(name: &str, script: &[u8], events: &[Event], output: &[u8]) {
    for size in 1..=script.len() {
        let desk = in_pieces(script, size);
        assert_eq!(desk.events, events, "{name}, pieces of {size}");
        assert_eq!(desk.output, output, "{name}, pieces of {size}");
        let mut desk = Desk::new();
        desk.receive(&script[..size]).receive(&script[size..]);
        assert_eq!(desk.events, events, "{name}, cut at {size}");
        assert_eq!(desk.output, output, "{name}, cut at {size}");
    }
}

/// A name, the frames, and what comes of them: events, and output.
type Script = (&'static str, Vec<Vec<u8>>, Vec<Event>, &'static [u8]);

#[test]
fn good_scripts_mean_the_same_at_every_split() {
    let long = "long ".repeat(60);
    let table: [Script; 13] = [
        ("one text", vec![text("hi")], vec![text_event("hi")], b""),
        ("empty messages", vec![text(""), frame(FIN | 2, b"")], vec![text_event(""), Event::Binary(Bytes::new())], b""),
        ("binary", vec![frame(FIN | 2, b"\xff\0")], vec![Event::Binary(Bytes::from_static(b"\xff\0"))], b""),
        ("as long as allowed", vec![text(&long), text("x")], vec![text_event(&long), text_event("x")], b""),
        ("several", vec![text("a"), text("b"), text("c")], ["a", "b", "c"].map(text_event).into(), b""),
        (
            "fragments",
            vec![frame(1, b"a"), frame(0, b"b"), frame(FIN, b"c"), text("d")],
            vec![text_event("abc"), text_event("d")],
            b"",
        ),
        ("empty fragments", vec![frame(1, b""), frame(0, b""), frame(FIN, b"")], vec![text_event("")], b""),
        (
            "a character cut by fragments",
            vec![text("0"), frame(1, b"\xe2\x82"), frame(0, b""), frame(FIN, b"\xac"), text("1")],
            ["0", "\u{20ac}", "1"].map(text_event).into(),
            b"",
        ),
        (
            "pings between fragments",
            vec![frame(2, b"a"), frame(FIN | 9, b"1"), frame(0, b"b"), frame(FIN | 9, b"2"), frame(FIN, b"c")],
            vec![Event::Binary(Bytes::from_static(b"abc"))],
            b"\x8a\x011\x8a\x012",
        ),
        (
            "every ping has its pong",
            vec![frame(FIN | 9, b""), text("a"), frame(FIN | 9, b"x"), frame(FIN | 9, b"y")],
            vec![text_event("a")],
            b"\x8a\x00\x8a\x01x\x8a\x01y",
        ),
        ("pongs nobody asked for", vec![frame(FIN | 10, b"?"), text("a")], vec![text_event("a")], b""),
        (
            "a length written longer than needed",
            vec![
                frame_with_length(FIN | 1, &[126, 0, 1], b"a"),
                frame_with_length(FIN | 1, &[127, 0, 0, 0, 0, 0, 0, 0, 1], b"b"),
            ],
            vec![text_event("a"), text_event("b")],
            b"",
        ),
        (
            "a close in the middle, and nothing after it",
            vec![text("a"), frame(FIN | 9, b"p"), frame(1, b"b"), close_frame(1000, b"bye"), text("c"), vec![0xff]],
            vec![text_event("a"), closed(Some(1000), b"\x88\x02\x03\xe8")],
            b"\x8a\x01p",
        ),
    ];
    for (name, script, events, output) in table {
        check_every_split(name, &script.concat(), &events, output);
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    let words = "w".repeat(123);
    let table: [(u16, &[u8]); 14] = [
        (1000, b""),
        (1000, words.as_bytes()),
        (1001, b"away"),
        (1002, b"Protocol violation"),
        (1003, b""),
        (1007, b""),
        (1008, b""),
        (1009, b""),
        (1010, b""),
        (1011, b""),
        (1012, b""),
        (1013, b""),
        (3000, b""),
        (4999, "\u{20ac}".as_bytes()),
    ];
    for (code, words) in table {
        let reply = Bytes::from([b"\x88\x02", &code.to_be_bytes()[..]].concat());
        let event = Event::Closed { code: Some(code), reply: Some(reply) };
        check_every_split(&code.to_string(), &close_frame(code, words), &[event], b"");
    }
    let without_code = [frame(FIN | 8, b""), text("after")].concat();
    check_every_split("no code", &without_code, &[closed(None, b"\x88\x00")], b"");
}

#[test]
fn bad_frames_end_the_session_with_their_code() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let (protocol, utf8, too_big) = (CloseReason::Protocol, CloseReason::InvalidUtf8, CloseReason::MessageTooBig);
    let long = [b'x'; MAX_MESSAGE_BYTES + 1];
    let half = &long[..MAX_MESSAGE_BYTES / 2 + 1];
    let mut table: Vec<(String, Vec<Vec<u8>>, CloseReason)> = [
        ("unmasked text", vec![unmasked(0x81, b"a")], protocol),
        ("unmasked, empty", vec![unmasked(0x81, b"")], protocol),
        ("unmasked ping", vec![unmasked(0x89, b"")], protocol),
        ("unmasked close", vec![unmasked(0x88, b"")], protocol),
        ("fragmented ping", vec![frame(9, b"")], protocol),
        ("fragmented pong", vec![frame(10, b"")], protocol),
        ("fragmented close", vec![frame(8, b"\x03\xe8")], protocol),
        ("long ping", vec![frame(FIN | 9, &[0; 126])], protocol),
        ("long pong", vec![frame(FIN | 10, &[0; 126])], protocol),
        ("long close", vec![close_frame(1000, &[b'x'; 124])], protocol),
        ("ping longer than a message", vec![frame(FIN | 9, &long)], protocol),
        ("continuation of nothing", vec![frame(0, b"a")], protocol),
        ("last continuation of nothing", vec![frame(FIN, b"a")], protocol),
        ("text inside of a text", vec![frame(1, b"a"), text("b")], protocol),
        ("fragment inside of a text", vec![frame(1, b"a"), frame(1, b"b")], protocol),
        ("binary inside of a text", vec![frame(1, b"a"), frame(FIN | 2, b"b")], protocol),
        ("highest bit of a length", vec![frame_with_length(FIN | 1, &[127, 128, 0, 0, 0, 0, 0, 0, 0], b"a")], protocol),
        ("one byte of close", vec![frame(FIN | 8, b"\x03")], protocol),
        ("broken text", vec![frame(FIN | 1, b"a\xff")], utf8),
        ("broken text, long", vec![frame(FIN | 1, &[b"a\xff", &long[..200]].concat())], utf8),
        ("overlong text", vec![frame(FIN | 1, b"\xc0\xaf")], utf8),
        ("surrogate", vec![frame(FIN | 1, b"\xed\xa0\x80")], utf8),
        ("beyond the last character", vec![frame(FIN | 1, b"\xf4\x90\x80\x80")], utf8),
        ("half a character", vec![frame(FIN | 1, b"\xe2\x82")], utf8),
        ("half a character, fragments", vec![frame(1, b"a"), frame(0, b"\xe2\x82"), frame(FIN, b"")], utf8),
        ("broken first fragment", vec![frame(1, b"\xff")], utf8),
        ("broken later fragment", vec![frame(1, b"a"), frame(0, b"\xff")], utf8),
        ("character broken by fragments", vec![frame(1, b"\xe2\x82"), frame(0, b"a")], utf8),
        ("words of a close", vec![close_frame(1000, b"\xff")], utf8),
        ("too big", vec![frame(FIN | 1, &long)], too_big),
        ("too big, binary fragment", vec![frame(2, &long)], too_big),
        ("too big together", vec![frame(1, half), frame(0, half)], too_big),
        (
            "much too big",
            vec![frame_with_length(FIN | 2, &[127, 127, 255, 255, 255, 255, 255, 255, 255], b"")],
            too_big,
        ),
    ]
    .map(|(name, script, reason)| (name.to_owned(), script, reason))
    .into();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        table.push((format!("opcode {opcode}"), vec![frame(FIN | opcode, b"a")], protocol));
        table.push((format!("opcode {opcode}, fragment"), vec![frame(1, b""), frame(opcode, b"")], protocol));
    }
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for (opcode, payload) in [(1, &b"a"[..]), (2, b""), (8, b""), (9, b""), (10, b"a")] {
            table.push((
                format!("bits {bits:x}, opcode {opcode}"),
                vec![frame(FIN | bits | opcode, payload)],
                protocol,
            ));
        }
        table.push((format!("bits {bits:x}, continuation"), vec![frame(1, b""), frame(bits, b"")], protocol));
    }
    for code in [0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        table.push((format!("code {code}"), vec![close_frame(code, b"")], protocol));
        table.push((format!("code {code} with words"), vec![close_frame(code, b"words")], protocol));
    }

    for (name, bad, reason) in table {
        // What came before it counts, what comes after it does not.
        let script =
            [vec![text("before"), frame(FIN | 9, b"p")], bad, vec![text("after"), close_frame(1000, b"")]].concat();
        check_every_split(&name, &script.concat(), &[text_event("before"), Event::Fault(reason)], b"\x8a\x01p");

        let mut desk = in_pieces(&script.concat(), 7);
        assert!(desk.session.is_deaf() && !desk.session.is_open() && !desk.session.is_midway(), "{name}");
        desk.output.clear();
        let (code, words) = reason.close_code().expect("a fault has a code");
        desk.session.close(code, words, &mut desk.output);
        desk.session.close(1001, "again", &mut desk.output);
        desk.session.ping(&mut desk.output);
        desk.receive(&text("late")).receive(&close_frame(1000, b""));
        assert_eq!(desk.output[2..4], code.to_be_bytes(), "{name}");
        assert_eq!(desk.output.len(), 4 + words.len(), "{name}: one close frame");
        assert_eq!(desk.events.len(), 2, "{name}: a fault is final");
    }
}

#[test]
fn a_bad_header_is_told_before_its_payload_comes() {
    let table: [(&str, &[u8], CloseReason); 6] = [
        ("too big", b"\x82\xfe\x01\x2d\0\0\0\0", CloseReason::MessageTooBig),
        ("huge", b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", CloseReason::MessageTooBig),
        ("bits", b"\xc2\x85\0\0\0\0", CloseReason::Protocol),
        ("opcode", b"\x83\x85\0\0\0\0", CloseReason::Protocol),
        ("unmasked", b"\x81\x05", CloseReason::Protocol),
        ("continuation", b"\x80\x85\0\0\0\0", CloseReason::Protocol),
    ];
    for (name, header, reason) in table {
        check_every_split(name, header, &[Event::Fault(reason)], b"");
    }
}

#[test]
fn broken_text_is_told_before_its_frame_ends() {
    let mut desk = Desk::new();
    let whole = frame(FIN | 1, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited");
    desk.receive(&whole[..6 + 12]);
    assert_eq!(desk.events, []);
    desk.receive(&whole[6 + 12..6 + 13]);
    assert_eq!(desk.events, [Event::Fault(CloseReason::InvalidUtf8)]);

    // A first fragment is looked at as well.
    let mut desk = Desk::new();
    desk.receive(&frame(1, b"good\xffgood")[..6 + 5]);
    assert_eq!(desk.events, [Event::Fault(CloseReason::InvalidUtf8)]);
}

#[test]
fn our_close_waits_for_theirs_and_hears_nothing_else() {
    // In the middle of a message, and of a frame.
    let theirs = [frame(1, b"begun"), frame(0, b"more"), close_frame(1001, b"")].concat();
    let mut desk = Desk::new();
    desk.receive(&theirs[..14]);
    desk.session.close(1001, "bye", &mut desk.output);
    desk.session.close(1000, "twice", &mut desk.output);
    assert_eq!(desk.output, b"\x88\x05\x03\xe9bye");
    assert!(!desk.session.is_open() && !desk.session.is_deaf());
    desk.receive(&theirs[14..]);
    assert_eq!(desk.events, [Event::Closed { code: Some(1001), reply: None }]);
    assert!(desk.session.is_deaf() && !desk.session.is_midway());

    let mut desk = Desk::new();
    desk.session.close(1001, "", &mut desk.output);
    let rest =
        [text("late"), frame(FIN | 9, b"late"), frame(1, b"late"), close_frame(1001, b""), text("later")].concat();
    for piece in rest.chunks(5) {
        desk.receive(piece);
    }
    desk.session.ping(&mut desk.output);
    assert_eq!(desk.events, [Event::Closed { code: Some(1001), reply: None }]);
    assert_eq!(desk.output, b"\x88\x02\x03\xe9", "nothing follows a close frame");

    let mut desk = Desk::new();
    desk.session.close(1001, "", &mut desk.output);
    desk.receive(&frame(FIN | 3, b""));
    desk.session.close(1002, "", &mut desk.output);
    assert_eq!(desk.events, [Event::Fault(CloseReason::Protocol)]);
    assert_eq!(desk.output, b"\x88\x02\x03\xe9", "it was said already");
}

#[test]
fn after_their_close_we_say_nothing_but_the_reply() {
    let mut desk = Desk::new();
    desk.receive(&close_frame(1000, b""));
    desk.session.close(1001, "late", &mut desk.output);
    desk.session.ping(&mut desk.output);
    assert_eq!((desk.output.len(), desk.events.len()), (0, 1));
    assert!(desk.session.is_deaf());
}

#[test]
fn pings_go_out_while_the_session_is_open() {
    let mut desk = Desk::new();
    desk.session.ping(&mut desk.output);
    assert_eq!(desk.output, b"\x89\x00");
}

#[test]
fn a_flood_of_pings_makes_less_output_than_it_is() {
    let flood = frame(FIN | 9, &[b'p'; 125]).repeat(500);
    let desk = in_pieces(&flood, 64 * 1024);
    assert_eq!(desk.output.len(), 500 * 127);
}

#[test]
fn a_resting_session_holds_nothing() {
    assert!(size_of::<Session>() <= 24, "{}", size_of::<Session>());
    const LARGE: usize = 64 * 1024;
    let large = text(&"x".repeat(LARGE));
    let fragments = [frame(1, &[b'x'; LARGE / 2]), frame(0, &[b'x'; LARGE / 4]), frame(FIN, b"")].concat();
    for script in [text("small"), large, fragments, frame(FIN | 9, b"")] {
        for size in [1000, 50_000, script.len()] {
            let mut desk = Desk::with_limit(LARGE);
            for piece in script.chunks(size) {
                desk.receive(piece);
            }
            assert!(desk.session.partial.is_none() && desk.session.message.is_none(), "pieces of {size}");
        }
    }
}

#[test]
fn a_frame_that_only_promises_its_length_costs_what_has_come() {
    let mut desk = Desk::with_limit(1 << 30);
    let header = frame_with_length(FIN | 2, &[127, 0, 0, 0, 0, 64, 0, 0, 0], b"");
    desk.receive(&header);
    for come in 1..=10_000 {
        desk.receive(b"x");
        let capacity = desk.session.partial.as_ref().expect("a frame that is not whole").bytes.capacity();
        assert!(capacity <= 2 * (header.len() + come), "{capacity} bytes for {come}");
    }

    // And never more than the frame will be.
    let mut desk = Desk::with_limit(1000);
    let whole = frame(FIN | 2, &[0; 1000]);
    for (place, byte) in whole[..whole.len() - 1].iter().enumerate() {
        desk.receive(&[*byte]);
        let capacity = desk.session.partial.as_ref().expect("a frame that is not whole").bytes.capacity();
        assert!(capacity <= whole.len(), "{capacity} bytes at {place}");
    }
}

#[test]
fn ten_thousand_tiny_fragments_are_one_message() {
    let mut script = frame(2, b"x");
    for _ in 0..10_000 {
        script.extend(frame(0, b"x"));
        script.extend(frame(0, b""));
    }
    script.extend(frame(FIN, b"x"));
    for size in [7, 4096, script.len()] {
        let mut desk = Desk::with_limit(64 * 1024);
        script.chunks(size).for_each(|piece| _ = desk.receive(piece));
        assert_eq!(desk.events, [Event::Binary(Bytes::from(vec![b'x'; 10_002]))], "pieces of {size}");
        assert!(!desk.session.is_midway());
    }
}
