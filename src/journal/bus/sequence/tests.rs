mod repeats;

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
        What::Twice(position) => format!("{lost}twice {position}"),
        What::Nothing => lost + "nothing",
    }
}

fn new(keeping: Keeping, last: u64, mark: Option<Mark>) -> Sequence {
    Sequence::new(keeping, true, REACH, Position(last), mark)
}

/// What is there, published in the first life.
fn found(number: u64) -> Found {
    Found::Record(Some((FIRST, id(number))))
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
    // From where, up to where records are only remembered, and the life that is the least there.
    let go = |own, after, known, whole_after, least| {
        Verdict::Follow(Route { after, known, whole_after, in_force: None, least, own })
    };
    let newest = |after, known, least| go(Own::GoesOn, after, known, after, least);
    let goes_on = |after, known, least| go(Own::GoesOn, after, known, known, least);
    let skips = |after, known, least| go(Own::HasHole, after, known, after, least);
    let anew = |after, known, least| go(Own::IsOver, after, known, after, least);
    let (store, memory) = (Keeping::Store, Keeping::Memory);
    let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
    let all = [life(FIRST, 0), life(SECOND, 80), life(THIRD, 200)];
    let early = [life(FIRST, 0), life(SECOND, 40)];
    let (ours, other) = (found(50), found(9));
    let higher = Found::Record(Some((SECOND, id(50))));
    let unread = Found::Record(None);
    let (first, second) = (Some(FIRST), Some(SECOND));
    let (none, mark) = (None, Some(at(FIRST, 50, 50)));
    let far = Some(at(FIRST, 90_000, 50));
    let late = Some(at(SECOND, 150, 50));
    let unknown = Found::Unknown;
    for (name, keeping, last, mark, lives, bounds, found, expected) in [
        ("nothing anywhere", store, 0, none, &[][..], bounds(1, 0), unknown, declare(0)),
        ("a new log", store, 0, none, &lives, bounds(1, 0), unknown, newest(0, 0, None)),
        ("a log to be kept", store, 0, none, &lives, bounds(1, 900_000), unknown, newest(0, 0, None)),
        ("a log to be had", memory, 0, none, &lives, bounds(1, 900), unknown, newest(0, 0, None)),
        ("its newest", memory, 0, none, &lives, bounds(1, 900_000), unknown, newest(590_000, 650_000, first)),
        ("of two lives", memory, 0, none, &both, bounds(4, 900_000), unknown, newest(590_000, 650_000, second)),
        ("trimmed to be kept", store, 0, none, &lives, bounds(4, 900_000), unknown, newest(1_003, 61_003, first)),
        ("trimmed to be had", memory, 0, none, &both, bounds(4, 90_000), unknown, newest(1_003, 61_003, second)),
        ("trimmed to a little", memory, 0, none, &lives, bounds(4, 900), unknown, newest(3, 900, first)),
        ("kept without a bus", store, 30, none, &[], bounds(1, 0), unknown, declare(30)),
        ("too low for what was kept", store, 30, none, &lives, bounds(1, 9), unknown, declare(30)),
        ("high enough", store, 100, none, &both, bounds(1, 90), unknown, anew(80, 80, None)),
        ("where we stand", store, 50, mark, &lives, bounds(1, 60), ours, goes_on(0, 50, None)),
        ("at the end", store, 50, mark, &lives, bounds(1, 50), ours, goes_on(0, 50, None)),
        ("of a newer program", store, 50, mark, &lives, bounds(1, 50), unread, goes_on(0, 50, None)),
        ("far in", store, 90_000, far, &lives, bounds(1, 90_000), ours, goes_on(30_000, 90_000, first)),
        ("another life since", store, 90_000, far, &both, bounds(1, 90_000), ours, goes_on(30_000, 90_000, first)),
        ("trimmed behind us", store, 50, mark, &lives, bounds(20, 60), ours, goes_on(19, 50, first)),
        ("trimmed up to us", store, 50, mark, &lives, bounds(51, 60), unknown, goes_on(50, 50, first)),
        ("or to somebody else", store, 50, mark, &early, bounds(51, 90_000), unknown, skips(1_050, 61_050, second)),
        ("trimmed beyond us", store, 50, mark, &lives, bounds(52, 90_000), unknown, skips(1_051, 61_051, first)),
        ("with a life", store, 50, mark, &both, bounds(90, 90_000), unknown, skips(1_089, 61_089, second)),
        ("of which we know", store, 250, late, &both[..1], bounds(1, 90), unknown, declare(250)),
        ("written without a bus since", store, 55, mark, &lives, bounds(1, 60), unknown, declare(55)),
        ("its end is lost", store, 50, mark, &lives, bounds(1, 49), unknown, declare(50)),
        ("all of it is lost", store, 50, mark, &[], bounds(1, 0), unknown, declare(50)),
        ("another chat", store, 50, mark, &lives, bounds(1, 60), other, declare(50)),
        ("the same, published again", store, 50, mark, &both, bounds(1, 90), higher, anew(80, 80, None)),
        ("a hole", store, 50, mark, &lives, bounds(1, 60), Found::Nothing, declare(50)),
        ("its lives are lost", store, 50, mark, &[], bounds(1, 60), ours, declare(50)),
        ("others have said so", store, 50, mark, &both, bounds(1, 49), unknown, anew(49, 49, None)),
        ("they had said so", store, 50, mark, &both, bounds(1, 95), other, anew(80, 80, None)),
        ("twice", store, 50, mark, &all, bounds(1, 295), other, anew(80, 80, None)),
        ("and it was trimmed", store, 50, mark, &all, bounds(150, 90_000), unknown, skips(1_149, 61_149, Some(THIRD))),
        ("and it has begun", store, 50, mark, &both, bounds(1, 95), ours, goes_on(0, 50, None)),
        ("but not far enough", store, 130, Some(at(FIRST, 130, 50)), &both, bounds(1, 95), unknown, declare(130)),
    ] {
        assert_eq!(new(keeping, last, mark).judge(&meta(lives), bounds, found, Trust::Sure), expected, "{name}");
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
fn a_log_that_may_have_lost_its_end_begins_a_life_above_all_that_it_had() {
    let (lives, both) = ([life(FIRST, 0)], [life(FIRST, 0), life(SECOND, 80)]);
    let mark = Some(at(FIRST, 50, 50));
    let (ours, other) = (found(50), found(9));
    let (memory, store) = (Keeping::Memory, Keeping::Store);
    for (name, keeping, last, mark, lives, bounds, found, base) in [
        ("whoever stands at its end", store, 50, mark, &lives[..], bounds(1, 50), ours, 50),
        ("or was away", store, 50, mark, &lives, bounds(1, 60), ours, 60),
        ("also where its place is trimmed", store, 50, mark, &lives, bounds(55, 60), Found::Unknown, 60),
        ("in a life that is over", store, 50, mark, &both, bounds(1, 90), ours, 190),
        ("or knows nothing", memory, 0, None, &lives, bounds(1, 60), Found::Unknown, 60),
        ("or has an empty store", store, 0, None, &lives, bounds(1, 60), Found::Unknown, 60),
        ("above the best life", memory, 0, None, &both, bounds(1, 90), Found::Unknown, 190),
        ("of an empty log", memory, 0, None, &both, bounds(1, 0), Found::Unknown, 101),
        ("who has something else", store, 50, mark, &both, bounds(1, 95), other, 195),
        ("who was alone before", store, 30, None, &both, bounds(1, 95), Found::Unknown, 195),
        ("who knows of more", store, 250, Some(at(FIRST, 250, 9)), &both, bounds(1, 95), other, 250),
    ] {
        let verdict = new(keeping, last, mark).judge(&meta(lives), bounds, found, Trust::Doubtful);
        assert_eq!(verdict, Verdict::Declare { base: Position(base) }, "{name}");
    }
}

#[test]
fn what_was_read_in_part_is_read_again() {
    let (lives, mark) = ([life(FIRST, 0)], Some(at(FIRST, 50, 50)));
    for (read_upto, after) in [(0, 0), (20, 0), (49, 0), (50, 50), (55, 55)] {
        let mut sequence = new(Keeping::Store, 50, mark);
        let judge = |sequence: &Sequence| {
            let found = found(sequence.mark().map_or(0, |mark| mark.offset));
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
fn records_in_their_places() {
    let mut sequence = new(Keeping::Store, 0, None);
    sequence.follow(route(sequence.judge(&meta(&[life(FIRST, 0)]), bounds(1, 0), Found::Unknown, Trust::Sure)));
    for (name, offset, message, expected) in [
        ("the first tells the life", 1, message(FIRST, 1, "one"), "lost 0 in 1, 1 one"),
        ("the next", 2, message(FIRST, 2, "two"), "2 two"),
        ("given twice by the broker", 2, message(FIRST, 2, "two"), "-"),
        ("a mark has a position", 3, message(FIRST, 3, ""), "nothing"),
        ("so has what is not understood", 4, None, "-"),
        ("published twice", 5, message(FIRST, 2, "two"), "twice 2"),
        ("said twice", 6, message(FIRST, 4, "one"), "again 1 one"),
        ("said twice and published twice", 7, message(FIRST, 4, "one"), "twice 1"),
        ("what is needed is not passed over", 8, message(FIRST, 5, "eight"), "8 eight"),
        ("nor this", 9, message(FIRST, 50, "nine"), "9 nine"),
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
fn what_is_left_out_is_noticed() {
    let (lives, mark) = ([life(FIRST, 0)], Some(at(FIRST, 50, 50)));
    for (name, is_dense, mark, log, read, next, has_hole) in [
        ("nothing", true, None, bounds(1, 9), 5, 6, false),
        ("one", true, None, bounds(1, 9), 5, 7, true),
        ("the first", true, None, bounds(1, 9), 0, 2, true),
        ("of offsets with holes", false, None, bounds(1, 9), 5, 7, false),
        ("in what is known", true, mark, bounds(1, 60), 20, 40, false),
        ("up to where we stand", true, mark, bounds(1, 60), 20, 51, false),
        ("and behind that", true, mark, bounds(1, 60), 20, 52, true),
    ] {
        let mut sequence =
            Sequence::new(Keeping::Store, is_dense, REACH, mark.map_or(Position::START, |mark| mark.position()), mark);
        sequence.follow(route(sequence.judge(&meta(&lives), log, found(50), Trust::Sure)));
        for offset in 1..=read {
            sequence.take(offset, message(FIRST, offset, ""));
        }
        assert_eq!(sequence.has_hole_before(next), has_hole, "{name}");
    }
}

#[test]
fn what_was_deleted_is_told_where_it_was_needed() {
    let (lives, log) = ([life(FIRST, 0)], bounds(1, 90));
    for (name, mark, begins, before, expected) in [
        ("as it is behind us", Some(at(FIRST, 50, 50)), 1, 53, Some("lost 52 in 1, 53 a")),
        ("just behind us", Some(at(FIRST, 50, 50)), 1, 52, Some("lost 51 in 1, 52 a")),
        ("by whoever knows nothing", None, 1, 53, Some("lost 52 in 1, 53 a")),
        ("but not if it may be trimmed", Some(at(FIRST, 50, 50)), 52, 53, None),
        ("nor if all before it may be", Some(at(FIRST, 50, 50)), 53, 53, None),
    ] {
        let mut sequence = new(Keeping::Store, mark.map_or(0, |mark| mark.position().0), mark);
        sequence.follow(route(sequence.judge(&meta(&lives), log, found(50), Trust::Sure)));
        for offset in 1..=50 {
            sequence.take(offset, message(FIRST, offset, ""));
        }
        assert!(sequence.has_hole_before(before), "{name}");
        assert_eq!(sequence.cross(before, bounds(begins, 90)), expected.is_some(), "{name}");
        let Some(expected) = expected else { continue };
        assert!(!sequence.has_hole_before(before), "{name}");
        assert_eq!(told(sequence.take(before, message(FIRST, before, "a"))), expected, "{name}");
        assert_eq!(told(sequence.take(before + 1, message(FIRST, before + 1, "b"))), format!("{} b", before + 1));
    }
}

#[test]
fn a_loss_is_told_also_if_what_follows_cannot_be_read() {
    let (lives, log) = ([life(FIRST, 0)], bounds(1, 90));
    let mut sequence = new(Keeping::Store, 50, Some(at(FIRST, 50, 50)));
    sequence.follow(route(sequence.judge(&meta(&lives), log, found(50), Trust::Sure)));
    for offset in 1..=50 {
        sequence.take(offset, message(FIRST, offset, ""));
    }
    assert!(sequence.cross(53, log));
    // Whoever comes back goes on from the mark, so that must not be behind what is to be told.
    assert_eq!((told(sequence.take(53, None)).as_str(), sequence.mark()), ("-", Some(at(FIRST, 50, 50))));
    assert_eq!(told(sequence.take(54, message(FIRST, 54, "a"))), "lost 53 in 1, 54 a");
}

#[test]
fn what_is_there_again_is_not_told_to_be_lost() {
    let lives = [life(FIRST, 0)];
    let mut sequence = new(Keeping::Store, 50, Some(at(FIRST, 50, 50)));
    // A session that found it trimmed has ended before it told anything, and the broker has come back as it was before.
    for (log, found) in [(bounds(90, 90_000), Found::Unknown), (bounds(1, 60), found(50))] {
        sequence.follow(route(sequence.judge(&meta(&lives), log, found, Trust::Sure)));
    }
    for offset in 1..=50 {
        assert_eq!(sequence.take(offset, message(FIRST, offset, "")), None);
    }
    assert_eq!(told(sequence.take(51, message(FIRST, 51, "a"))), "51 a");
}

#[test]
fn whoever_has_missed_something_is_told_behind_what_it_cannot_judge() {
    let reach = Reach { window: 3, slack: 1, edge: 1, fill: 100 };
    let mark = at(FIRST, 50, 50);
    let mut sequence = Sequence::new(Keeping::Store, true, reach, mark.position(), Some(mark));
    let lives = [life(FIRST, 0), life(SECOND, 55)];
    sequence.follow(route(sequence.judge(&meta(&lives), bounds(61, 90), Found::Unknown, Trust::Sure)));
    for (name, offset, message, expected) in [
        ("its life is not certain", 62, message(FIRST, 62, "a"), "-"),
        ("now it is", 63, message(SECOND, 63, "b"), "-"),
        ("of somebody who lags", 64, message(FIRST, 64, "c"), "-"),
        ("and in what is passed over", 65, message(SECOND, 65, "d"), "-"),
        ("but remembered", 66, message(SECOND, 66, "c"), "lost 165 in 2, again 164 c"),
        ("that is new to all", 67, message(SECOND, 67, "a"), "167 a"),
    ] {
        assert_eq!(told(sequence.take(offset, message)), expected, "{name}");
    }
}

/// All that is told of a log by an instance that reads it from where it stands.
fn read(mut sequence: Sequence, lives: &[Declared], log: &[(u64, Stamp, u64, &str)]) -> Vec<String> {
    let bounds = bounds(log.first().map_or(1, |first| first.0), log.last().map_or(0, |last| last.0));
    let found =
        sequence.mark().map_or(Found::Unknown, |mark| match log.iter().find(|(offset, ..)| *offset == mark.offset) {
            Some((_, stamp, number, _)) => Found::Record(Some((*stamp, id(*number)))),
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
    let all = ["lost 0 in 1, 1 a", "2 b", "twice 1", "again 2 b", "5 c", "twice 2", "again 1 a"];
    assert_eq!(read(new(Keeping::Store, 0, None), &lives, &log), all);
    for start in 1..7 {
        let mark = at(FIRST, start as u64, log[start - 1].2);
        let sequence = new(Keeping::Store, mark.position().0, Some(mark));
        assert_eq!(read(sequence, &lives, &log), all[start..], "from {start}");
    }
}

#[test]
fn whoever_is_cut_off_while_it_learns_what_was_before_begins_again() {
    let (lives, log) = ([life(FIRST, 0)], bounds(1, 5));
    let mark = at(FIRST, 4, 4);
    for cut_after in 0..=4 {
        let mut sequence = new(Keeping::Store, mark.position().0, Some(mark));
        let judge = |sequence: &Sequence| route(sequence.judge(&meta(&lives), log, found(4), Trust::Sure));
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
fn what_is_of_a_life_that_is_not_certain_is_passed_over() {
    let reach = Reach { window: 1, slack: 0, edge: 0, fill: 3 };
    let lives = [life(FIRST, 0), life(SECOND, 55), life(THIRD, 63)];
    for (name, keeping, mark, first) in [
        ("by whoever knows nothing", Keeping::Store, None, 61),
        ("whoever begins in the midst", Keeping::Memory, None, 1),
        ("whoever knows the life before", Keeping::Store, Some(at(FIRST, 50, 50)), 61),
    ] {
        let mut sequence =
            Sequence::new(keeping, true, reach, mark.map_or(Position::START, |mark| mark.position()), mark);
        sequence.follow(route(sequence.judge(&meta(&lives), bounds(first, 64), Found::Unknown, Trust::Sure)));
        for (offset, stamp, expected) in [
            // Behind the first record of the second life, of which its publisher does not know. That may be trimmed.
            (61, FIRST, "-"),
            (62, FIRST, "-"),
            (63, FIRST, "-"),
            (64, SECOND, "lost 163 in 2, 164 a64"),
            (65, FIRST, "165 a65"),
            (66, THIRD, "lost 365 in 3, 366 a66"),
        ] {
            let taken = sequence.take(offset, message(stamp, offset, &format!("a{offset}")));
            assert_eq!(told(taken), expected, "{name}, {offset}");
        }
    }
}

#[test]
fn nothing_more_of_a_life_that_is_over_is_told() {
    let low = Stamp { epoch: Epoch(4), base: Position(38) };
    let log = [(38, FIRST, 99, "x"), (40, FIRST, 98, "y"), (41, FIRST, 1, "early"), (42, low, 2, "a")];
    let ours = new(Keeping::Store, 38, Some(at(FIRST, 38, 38)));
    assert_eq!(read(ours, &[life(FIRST, 0), life(low, 40)], &log), ["lost 79 in 4, 80 a"]);
}

#[test]
fn what_is_at_positions_that_were_passed_is_remembered() {
    // Somebody who knew of less has begun a life below what we know, and another one above that.
    let low = Stamp { epoch: Epoch(4), base: Position(5) };
    let lives = [life(FIRST, 0), life(low, 40), life(THIRD, 43)];
    let log = [
        (39, FIRST, 39, "x"),
        (41, low, 1, "a"),
        (42, low, 2, "b"),
        (43, FIRST, 3, "c"),
        (44, low, 4, "a"),
        (46, low, 5, "a"),
        (47, low, 2, "b"),
        (48, low, 6, "d"),
        (49, THIRD, 7, "a"),
    ];
    let ours = read(new(Keeping::Store, 50, Some(at(FIRST, 50, 50))), &lives, &log);
    // Only whoever says it is told of what others have at positions that we have passed.
    let passed = ["again 46 a", "again 47 b", "again 48 c", "again 46 a"];
    let then = ["lost 50 in 4, again 46 a", "twice 47", "53 d", "lost 348 in 3, 349 a"];
    assert_eq!(ours, [&passed[..], &then].concat());
    let others = read(new(Keeping::Store, 39, Some(at(FIRST, 39, 39))), &lives, &log);
    let before = ["lost 45 in 4, 46 a", "47 b", "48 c", "again 46 a"];
    assert_eq!(others, [&before[..], &["again 46 a"], &then[1..]].concat());
}

#[test]
fn whoever_lags_does_not_bring_back_a_life_that_is_over() {
    let mark = at(SECOND, 50, 50);
    let sequence = new(Keeping::Store, mark.position().0, Some(mark));
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
        (1, FIRST, 1, "a"),
        (6, FIRST, 6, "f"),
        (7, FIRST, 7, "g"),
        (8, FIRST, 80, "early"),
        (9, ten, 90, ""),
        (10, FIRST, 91, "late"),
        (11, ten, 92, "k"),
    ];
    let then = ["20 late", "21 k"];
    let from = |offset: u64, number: u64| {
        let mark = at(FIRST, offset, number);
        read(new(Keeping::Store, mark.position().0, Some(mark)), &lives, &log)
    };
    let with = |first: &[&'static str]| [first, &then].concat();
    assert_eq!(from(10, 10), with(&["lost 18 in 5, nothing"]), "who had all");
    assert_eq!(from(8, 8), with(&["lost 18 in 5, nothing"]), "who had one of those that were lost");
    assert_eq!(from(7, 7), with(&["8 early", "lost 18 in 5, nothing"]), "who had none of them");
    assert_eq!(from(6, 6), with(&["7 g", "8 early", "lost 18 in 5, nothing"]), "who was behind");
    let fresh = read(new(Keeping::Memory, 0, None), &lives, &log);
    assert_eq!(fresh[4..], with(&["lost 18 in 5, nothing"]), "who has just come");
}

#[test]
fn whoever_writes_a_client_or_runs_a_cluster_is_told_of_the_window() {
    let told = "50,000 positions";
    assert_eq!(told.replace([',', ' '], "").trim_end_matches("positions").parse(), Ok(REACH.window));
    for (name, text) in
        [("README", include_str!("../../../../README.md")), ("PROTOCOL", include_str!("../../../../docs/PROTOCOL.md"))]
    {
        assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(told), "{name}");
    }
}
