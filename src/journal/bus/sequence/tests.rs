use super::window::{ORIGINAL_BYTES, WINDOW, Window};
use super::*;
use crate::chat::entry::Epoch;
use crate::journal::bus::wire::{Body, Declared};
use crate::journal::tests::{raw, said};

const FIRST: Stamp = Stamp { epoch: Epoch(1), base: Position(0) };
const SECOND: Stamp = Stamp { epoch: Epoch(2), base: Position(100) };
const THIRD: Stamp = Stamp { epoch: Epoch(3), base: Position(300) };

fn id(number: u64) -> DraftId {
    DraftId { instance: 7, number }
}

fn life(stamp: Stamp, after: u64) -> Declared {
    Declared { stamp, after }
}

fn meta(lives: &[Declared]) -> Meta {
    Meta { lives: lives.to_vec(), ..Meta::default() }
}

fn bounds(first: u64, last: u64) -> Bounds {
    Bounds { first, last }
}

fn message(stamp: Stamp, number: u64, text: &str) -> Option<Message> {
    let draft = if text.is_empty() { Body::Mark } else { Body::Said(said("room", (1, "Ann"), text, text)) };
    Some(Message { stamp, id: id(number), body: draft })
}

fn at(stamp: Stamp, offset: u64, number: u64) -> Mark {
    Mark { stamp, offset, id: Some(id(number)) }
}

/// What is told of a record: `lost 4 in 2, 5 text`.
fn told(taken: Option<Taken>) -> String {
    let Some(Taken { lost, what, .. }) = taken else { return "-".to_owned() };
    let lost = lost.map_or(String::new(), |lost| format!("lost {} in {}, ", lost.upto, lost.epoch.0));
    let text = |entry: &Entry| format!("{} {}", entry.position, crate::journal::tests::text(entry));
    match what {
        What::Entry(entry) => lost + &text(&entry),
        What::Repeat(entry) => format!("{lost}again {}", text(&entry)),
        What::Nothing => lost + "nothing",
    }
}

fn route(verdict: Verdict) -> Route {
    match verdict {
        Verdict::Follow(route) => route,
        Verdict::Declare { base } => panic!("a life at {base} is to be declared"),
    }
}

#[test]
fn what_is_done_with_a_log() {
    let declare = |base| Verdict::Declare { base: Position(base) };
    let go = |after, known, goes_on, has_skipped| {
        Verdict::Follow(Route { after, known, in_force: None, goes_on, has_skipped, end: 0 })
    };
    let (anew, goes_on) = (
        |after, known, skipped| go(after, known, false, skipped),
        |after, known, skipped| go(after, known, true, skipped),
    );
    let (store, memory) = (Keeping::Store, Keeping::Memory);
    let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
    let all = [life(FIRST, 0), life(SECOND, 80), life(THIRD, 200)];
    let (ours, other) = (Found::Record(Some(id(50))), Found::Record(Some(id(9))));
    let unread = Found::Record(None);
    let (none, mark) = (None, Some(at(FIRST, 50, 50)));
    let far = Some(at(FIRST, 90_000, 50));
    let unknown = Found::Unknown;
    for (name, keeping, last, mark, lives, bounds, found, expected) in [
        ("nothing anywhere", store, 0, none, &[][..], bounds(1, 0), unknown, declare(0)),
        ("a new log", store, 0, none, &lives, bounds(1, 0), unknown, anew(0, 0, false)),
        ("a log to be kept", store, 0, none, &lives, bounds(4, 900_000), unknown, anew(3, 3, false)),
        ("a log to be had", memory, 0, none, &lives, bounds(4, 900), unknown, anew(3, 3, false)),
        ("its newest", memory, 0, none, &lives, bounds(4, 900_000), unknown, anew(600_000, 650_000, false)),
        ("kept without a bus", store, 30, none, &[], bounds(1, 0), unknown, declare(30)),
        ("too low for what was kept", store, 30, none, &lives, bounds(1, 9), unknown, declare(30)),
        ("high enough", store, 100, none, &both, bounds(1, 90), unknown, anew(80, 80, true)),
        ("where we stand", store, 50, mark, &lives, bounds(1, 60), ours, goes_on(0, 50, false)),
        ("at the end", store, 50, mark, &lives, bounds(1, 50), ours, goes_on(0, 50, false)),
        ("of a newer program", store, 50, mark, &lives, bounds(1, 50), unread, goes_on(0, 50, false)),
        ("far in", store, 90_000, far, &lives, bounds(1, 90_000), ours, goes_on(40_000, 90_000, false)),
        ("trimmed behind us", store, 50, mark, &lives, bounds(20, 60), ours, goes_on(19, 50, false)),
        ("trimmed up to us", store, 50, mark, &lives, bounds(51, 60), unknown, goes_on(50, 50, false)),
        ("trimmed beyond us", store, 50, mark, &lives, bounds(52, 60), unknown, goes_on(51, 50, true)),
        ("written without a bus since", store, 55, mark, &lives, bounds(1, 60), unknown, declare(55)),
        ("its end is lost", store, 50, mark, &lives, bounds(1, 49), unknown, declare(50)),
        ("all of it is lost", store, 50, mark, &[], bounds(1, 0), unknown, declare(50)),
        ("another chat", store, 50, mark, &lives, bounds(1, 60), other, declare(50)),
        ("a hole", store, 50, mark, &lives, bounds(1, 60), Found::Nothing, declare(50)),
        ("its lives are lost", store, 50, mark, &[], bounds(1, 60), ours, declare(50)),
        ("others have said so", store, 50, mark, &both, bounds(1, 49), unknown, anew(49, 49, true)),
        ("they had said so", store, 50, mark, &both, bounds(1, 95), other, anew(80, 80, true)),
        ("twice", store, 50, mark, &all, bounds(1, 295), other, anew(80, 80, true)),
        ("and it has begun", store, 50, mark, &both, bounds(1, 95), ours, goes_on(0, 50, false)),
        ("but not far enough", store, 130, Some(at(FIRST, 130, 50)), &both, bounds(1, 95), unknown, declare(130)),
    ] {
        let sequence = Sequence::new(keeping, true, Position(last), mark);
        let expected = match expected {
            Verdict::Follow(route) => Verdict::Follow(Route { end: bounds.last, ..route }),
            Verdict::Declare { .. } => expected,
        };
        assert_eq!(sequence.judge(&meta(lives), bounds, found, Trust::Sure), expected, "{name}");
    }
}

#[test]
fn a_broker_that_was_restarted_is_doubted() {
    let named = |run: &str| Run::Named(run.to_owned());
    for (name, run, known, trust) in [
        ("the same run", named("a"), Some("a"), Trust::Sure),
        ("another", named("b"), Some("a"), Trust::Doubtful),
        ("the first that is told", named("a"), None, Trust::Sure),
        ("nothing is told any more", Run::Unmarked, Some("a"), Trust::Sure),
        ("nothing was ever told", Run::Unmarked, None, Trust::Sure),
    ] {
        assert_eq!(Trust::of(&run, known), trust, "{name}");
    }
}

#[test]
fn what_is_done_with_a_log_of_which_nobody_knows_whether_it_is_whole() {
    let declare = |base| Some(Position(base));
    let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
    let mark = Some(at(FIRST, 50, 50));
    let (ours, other) = (Found::Record(Some(id(50))), Found::Record(Some(id(9))));
    let (memory, store) = (Keeping::Memory, Keeping::Store);
    for (name, keeping, last, mark, lives, bounds, found, declared) in [
        ("who stands at its end vouches", store, 50, mark, &lives[..], bounds(1, 50), ours, None),
        ("whatever else was trimmed", store, 50, mark, &lives, bounds(50, 50), ours, None),
        ("who was away does not", store, 50, mark, &lives, bounds(1, 60), ours, declare(60)),
        ("also where its place is trimmed", store, 50, mark, &lives, bounds(55, 60), Found::Unknown, declare(60)),
        ("in a life that is over", store, 50, mark, &both, bounds(1, 90), ours, declare(190)),
        ("who knows nothing begins anew", memory, 0, None, &lives, bounds(1, 60), Found::Unknown, declare(60)),
        ("and so does an empty store", store, 0, None, &lives, bounds(1, 60), Found::Unknown, declare(60)),
        ("above the best life", memory, 0, None, &both, bounds(1, 90), Found::Unknown, declare(190)),
        ("of an empty log", memory, 0, None, &both, bounds(1, 0), Found::Unknown, declare(101)),
        ("who has something else", store, 50, mark, &both, bounds(1, 95), other, declare(195)),
        ("who was alone before", store, 30, None, &both, bounds(1, 95), Found::Unknown, declare(195)),
        ("who knows of more", store, 250, Some(at(FIRST, 250, 9)), &both, bounds(1, 95), other, declare(250)),
    ] {
        let sequence = Sequence::new(keeping, true, Position(last), mark);
        let verdict = match sequence.judge(&meta(lives), bounds, found, Trust::Doubtful) {
            Verdict::Declare { base } => Some(base),
            Verdict::Follow(route) => {
                assert!(route.goes_on, "{name}");
                None
            }
        };
        assert_eq!(verdict, declared, "{name}");
    }
}

#[test]
fn what_was_read_in_part_is_read_again() {
    let (lives, mark) = ([life(FIRST, 0)], Some(at(FIRST, 50, 50)));
    for (read_upto, after) in [(0, 0), (20, 0), (49, 0), (50, 50), (55, 55)] {
        let mut sequence = Sequence::new(Keeping::Store, true, Position(50), mark);
        let judge = |sequence: &Sequence| {
            let found = Found::Record(sequence.mark().and_then(|mark| mark.id));
            route(sequence.judge(&meta(&lives), bounds(1, 60), found, Trust::Sure))
        };
        sequence.follow(judge(&sequence));
        for offset in 1..=read_upto {
            sequence.take(offset, message(FIRST, offset, &offset.to_string()));
        }
        assert_eq!(judge(&sequence).after, after, "read up to {read_upto}");
    }
}

#[test]
fn whoever_has_followed_a_log_vouches_for_it() {
    let lives = [life(FIRST, 0)];
    let mark = Some(at(FIRST, 50, 50));
    for (name, keeping, mark, end, read_upto, vouches) in [
        ("a store that was level", Keeping::Store, mark, 60, 60, true),
        ("and heard more", Keeping::Store, mark, 60, 65, true),
        ("one that was still behind", Keeping::Store, mark, 60, 55, false),
        ("or had not got to where it stood", Keeping::Store, mark, 60, 30, false),
        ("who began with nothing and was level", Keeping::Memory, None, 60, 60, true),
        ("and who was not", Keeping::Memory, None, 60, 59, false),
    ] {
        let mut sequence = Sequence::new(keeping, true, Position(mark.map_or(0, |mark| mark.offset)), mark);
        let found = |number| Found::Record(Some(id(number)));
        let first = sequence.judge(&meta(&lives), bounds(1, end), found(50), Trust::Sure);
        sequence.follow(route(first));
        for offset in 1..=read_upto {
            sequence.take(offset, message(FIRST, offset, &offset.to_string()));
        }
        let stands = sequence.mark().map_or(0, |mark| mark.offset);
        let verdict = sequence.judge(&meta(&lives), bounds(1, 70), found(stands), Trust::Doubtful);
        let expected = if vouches { None } else { Some(Position(70)) };
        let declared = match verdict {
            Verdict::Declare { base } => Some(base),
            Verdict::Follow(_) => None,
        };
        assert_eq!(declared, expected, "{name}");
    }
}

#[test]
fn records_in_their_places() {
    let mut sequence = Sequence::new(Keeping::Store, true, Position::START, None);
    sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(1, 0), Found::Unknown, Trust::Sure)));
    for (name, offset, message, expected) in [
        ("the first tells the life", 1, message(FIRST, 1, "one"), "lost 0 in 1, 1 one"),
        ("the next", 2, message(FIRST, 2, "two"), "2 two"),
        ("given twice by the broker", 2, message(FIRST, 2, "two"), "-"),
        ("a mark has a position", 3, message(FIRST, 3, ""), "nothing"),
        ("so has what is not understood", 4, None, "-"),
        ("published twice", 5, message(FIRST, 2, "two"), "nothing"),
        ("said twice", 6, message(FIRST, 4, "one"), "again 1 one"),
        ("said twice and published twice", 7, message(FIRST, 4, "one"), "nothing"),
        ("a hole is told", 9, message(FIRST, 5, "nine"), "lost 8 in 1, 9 nine"),
        ("another life", 10, message(SECOND, 6, "ten"), "lost 109 in 2, 110 ten"),
        ("whoever has not heard of it is in it", 11, message(FIRST, 7, "eleven"), "111 eleven"),
        ("nothing is known from the life before", 12, message(SECOND, 8, "one"), "112 one"),
        ("of equal lives the first", 13, message(Stamp { epoch: Epoch(9), ..SECOND }, 9, "x"), "113 x"),
        ("another by a mark", 14, message(THIRD, 10, ""), "lost 313 in 3, nothing"),
        ("which is told once", 15, message(THIRD, 11, "y"), "315 y"),
    ] {
        assert_eq!(told(sequence.take(offset, message)), expected, "{name}");
    }
    assert_eq!(sequence.mark(), Some(at(THIRD, 15, 11)));
    assert_eq!(sequence.in_force(), Some(THIRD));
}

#[test]
fn offsets_with_holes_are_no_loss_where_they_may_have_some() {
    let mut sequence = Sequence::new(Keeping::Store, false, Position::START, None);
    sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(1, 0), Found::Unknown, Trust::Sure)));
    for (offset, expected) in [(2, "lost 1 in 1, 2 a2"), (7, "7 a7"), (8, "8 a8")] {
        assert_eq!(told(sequence.take(offset, message(FIRST, offset, &format!("a{offset}")))), expected);
    }
    // It is one when the log says that it begins later.
    sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(11, 20), Found::Unknown, Trust::Sure)));
    assert_eq!(told(sequence.take(12, message(FIRST, 12, "b"))), "lost 11 in 1, 12 b");
}

/// All that is told of a log by an instance that reads it from where it stands.
fn read(mut sequence: Sequence, lives: &[Declared], log: &[(u64, Stamp, u64, &str)]) -> Vec<String> {
    let bounds = bounds(log.first().map_or(1, |first| first.0), log.last().map_or(0, |last| last.0));
    let found =
        sequence.mark().map_or(Found::Unknown, |mark| match log.iter().find(|(offset, ..)| *offset == mark.offset) {
            Some((_, _, number, _)) => Found::Record(Some(id(*number))),
            None => Found::Unknown,
        });
    let route = route(sequence.judge(&meta(lives), bounds, found, Trust::Sure));
    sequence.follow(route);
    let rest = log.iter().filter(|(offset, ..)| *offset > route.after);
    rest.map(|(offset, stamp, number, text)| told(sequence.take(*offset, message(*stamp, *number, text))))
        .filter(|told| told != "-")
        .collect()
}

#[test]
fn whoever_starts_later_decides_alike() {
    let lives = [life(FIRST, 0)];
    let log = [
        (1, FIRST, 1, "a"),
        (2, FIRST, 2, "b"),
        (3, FIRST, 1, "a"),
        (4, FIRST, 3, "b"),
        (5, FIRST, 4, "c"),
        (6, FIRST, 3, "b"),
        (7, FIRST, 5, "a"),
    ];
    let all = ["lost 0 in 1, 1 a", "2 b", "nothing", "again 2 b", "5 c", "nothing", "again 1 a"];
    assert_eq!(read(Sequence::new(Keeping::Store, true, Position::START, None), &lives, &log), all);
    for start in 1..7 {
        let mark = at(FIRST, start as u64, log[start - 1].2);
        let sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
        assert_eq!(read(sequence, &lives, &log), all[start..], "from {start}");
    }
}

#[test]
fn whoever_is_cut_off_while_it_learns_what_was_before_begins_again() {
    let (lives, log) = ([life(FIRST, 0)], bounds(1, 5));
    let mark = at(FIRST, 4, 4);
    for cut_after in 0..=4 {
        let mut sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
        let judge =
            |sequence: &Sequence| route(sequence.judge(&meta(&lives), log, Found::Record(Some(id(4))), Trust::Sure));
        let learn = |sequence: &mut Sequence, after: u64, upto: u64| {
            for offset in after + 1..=upto {
                assert_eq!(sequence.take(offset, message(FIRST, offset, &format!("a{offset}"))), None);
            }
        };
        let first = judge(&sequence);
        sequence.follow(first);
        learn(&mut sequence, first.after, cut_after);
        let second = judge(&sequence);
        assert_eq!(second.after, if cut_after == 4 { 4 } else { 0 }, "cut off behind {cut_after}");
        sequence.follow(second);
        learn(&mut sequence, second.after, 4);
        assert_eq!(told(sequence.take(5, message(FIRST, 5, "a3"))), "again 3 a3", "cut off behind {cut_after}");
    }
}

#[test]
fn whoever_lags_does_not_bring_back_a_life_that_is_over() {
    let mark = at(SECOND, 50, 50);
    let sequence = Sequence::new(Keeping::Store, true, mark.position(), Some(mark));
    let lives = [life(FIRST, 0), life(SECOND, 20)];
    assert_eq!(read(sequence, &lives, &[(51, FIRST, 51, "a"), (52, SECOND, 52, "b")]), ["151 a", "152 b"]);
}

#[test]
fn after_a_loss_everybody_goes_on_with_the_same_positions() {
    // Ten were there, seven came back. Whoever had all ten has declared a life; somebody who knew of seven only had
    // said something before.
    let ten = Stamp { epoch: Epoch(5), base: Position(10) };
    let lives = [life(FIRST, 0), life(ten, 8)];
    let log = [
        (6, FIRST, 6, "f"),
        (7, FIRST, 7, "g"),
        (8, FIRST, 80, "early"),
        (9, ten, 90, ""),
        (10, FIRST, 91, "late"),
        (11, ten, 92, "k"),
    ];
    let new = ["20 late", "21 k"];
    let from = |offset: u64, number: u64| {
        let mark = at(FIRST, offset, number);
        read(Sequence::new(Keeping::Store, true, mark.position(), Some(mark)), &lives, &log)
    };
    let with = |first: &[&'static str]| [first, &new].concat();
    assert_eq!(from(10, 10), with(&["lost 18 in 5, nothing"]), "who had all");
    assert_eq!(from(8, 8), with(&["lost 18 in 5, nothing"]), "who had one of those that were lost");
    assert_eq!(from(7, 7), with(&["8 early", "lost 18 in 5, nothing"]), "who had none of them");
    assert_eq!(from(6, 6), with(&["7 g", "8 early", "lost 18 in 5, nothing"]), "who was behind");
    let fresh = read(Sequence::new(Keeping::Memory, true, Position::START, None), &lives, &log);
    assert_eq!(fresh[3..], with(&["lost 18 in 5, nothing"]), "who has just come");
}

#[test]
fn the_window_is_counted_in_positions() {
    let mut window = Window::default();
    let ann = |text: &str| Body::Said(said("room", (1, "Ann"), text, text));
    for (position, number, body, expected) in [
        (1, 1, ann("a"), "1 a"),
        (2, 2, Body::Said(raw("room", "raw")), "2 raw"),
        (1 + WINDOW, 3, ann("a"), "again 1 a"),
        (2 + WINDOW, 2, Body::Said(raw("room", "raw")), "nothing"),
        (2 + WINDOW, 4, ann("a"), "50002 a"),
        (3 + WINDOW, 2, Body::Said(raw("room", "raw")), "50003 raw"),
    ] {
        let what = window.judge(Position(position), id(number), body);
        assert_eq!(told(Some(Taken { id: id(number), lost: None, what })), expected, "at {position}");
    }
    window.forget_before(Position(9 * WINDOW));
    assert!(window.is_empty() && window.drafts.is_empty() && window.said.is_empty() && window.originals.is_empty());
    assert_eq!(window.original_bytes, 0);
}

#[test]
fn whoever_writes_a_client_or_runs_a_cluster_is_told_of_the_window() {
    let told = "50,000 positions";
    assert_eq!(told.replace([',', ' '], "").trim_end_matches("positions").parse(), Ok(WINDOW));
    for (name, text) in
        [("README", include_str!("../../../../README.md")), ("PROTOCOL", include_str!("../../../../docs/PROTOCOL.md"))]
    {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(told), "{name}");
    }
}

#[test]
fn originals_have_a_bound() {
    let mut window = Window::default();
    let long = "x".repeat(ORIGINAL_BYTES / 4);
    let say = |window: &mut Window, position: u64, nonce: &str, text: &str| {
        let what = window.judge(Position(position), id(position), Body::Said(said("r", (1, "A"), nonce, text)));
        match what {
            What::Entry(entry) | What::Repeat(entry) => (entry.position.0, entry.content.bytes().len()),
            What::Nothing => panic!("it has a text"),
        }
    };
    for position in 1..=9 {
        assert_eq!(say(&mut window, position, &position.to_string(), &long), (position, long.len()));
    }
    assert!(window.original_bytes <= ORIGINAL_BYTES);
    assert_eq!(say(&mut window, 10, "1", "short"), (1, 5), "it is known to be a repeat, not how it read");
    assert_eq!(say(&mut window, 11, "9", "short"), (9, long.len()));
}
