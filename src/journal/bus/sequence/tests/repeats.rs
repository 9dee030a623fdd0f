//! What the window takes for a repeat, and how much it holds.

use super::super::window::ORIGINAL_BYTES;
use super::*;

/// What a record is: `5 text`, `again 3 text`, `twice 3`.
fn judged(window: &mut Window, position: u64, number: u64, body: Body) -> String {
    let what = window.judge(Position(position), id(number), body);
    told(Some(Taken { id: id(number), lost: None, what }))
}

#[test]
fn the_window_is_counted_in_positions() {
    let mut window = Window::new(100);
    let ann = |text: &str| Body::Said(said("room", (1, "Ann"), text, text));
    let raw = || Body::Said(raw("room", "raw"));
    for (name, position, number, body, expected) in [
        ("something", 1, 1, ann("a"), "1 a"),
        ("something raw", 2, 2, raw(), "2 raw"),
        ("said again in time", 101, 3, ann("a"), "again 1 a"),
        ("published again in time", 102, 2, raw(), "twice 2"),
        ("too late after the first time, and in time after the last", 201, 4, ann("a"), "again 1 a"),
        ("so is this", 202, 2, raw(), "twice 2"),
        ("and what was a repeat", 203, 4, ann("a"), "twice 1"),
        ("too late", 303, 2, raw(), "303 raw"),
        ("published again is said again", 303, 5, ann("a"), "again 1 a"),
        ("too late", 404, 6, ann("a"), "404 a"),
    ] {
        assert_eq!(judged(&mut window, position, number, body), expected, "{name}");
    }
    judged(&mut window, 900, 7, Body::Mark);
    assert_eq!(window.size(), (1, 0, 1, 0));
}

#[test]
fn wherever_somebody_begins_to_read_it_decides_alike() {
    // Everything is said again and again, in and out of time.
    let mut rng = fastrand::Rng::with_seed(5);
    let record = |number: u64| {
        let draft = number.saturating_sub(rng.u64(..150));
        let text = format!("n{}", draft / 5);
        (draft, Body::Said(said("room", (1, "Ann"), &text, &text)))
    };
    let records: Vec<(u64, Body)> = (0..3_000).map(record).collect();
    let is_new = |begin: usize| -> Vec<bool> {
        let mut window = Window::new(50);
        let judge = |(place, (number, body)): (usize, &(u64, Body))| {
            matches!(window.judge(Position(place as u64), id(*number), body.clone()), What::Entry(_))
        };
        records.iter().enumerate().skip(begin).map(judge).collect()
    };
    let all = is_new(0);
    assert!(all.iter().filter(|is_new| **is_new).count() > 300 && all.iter().filter(|is_new| !**is_new).count() > 300);
    for begin in (0..2_900).step_by(7) {
        assert!(is_new(begin)[50..] == all[begin + 50..], "from {begin}");
    }
}

#[test]
fn originals_have_a_bound() {
    let mut window = Window::new(REACH.window);
    let long = "x".repeat(ORIGINAL_BYTES / 4);
    let say = |window: &mut Window, position: u64, nonce: &str, text: &str| {
        let what = window.judge(Position(position), id(position), Body::Said(said("r", (1, "A"), nonce, text)));
        match what {
            What::Entry(entry) | What::Repeat(entry) => (entry.position.0, entry.content.bytes().len()),
            What::Twice(_) | What::Nothing => panic!("it has a text"),
        }
    };
    for position in 1..=9 {
        assert_eq!(say(&mut window, position, &position.to_string(), &long), (position, long.len()));
    }
    assert!(window.size().3 <= ORIGINAL_BYTES);
    assert_eq!(say(&mut window, 10, "1", "short"), (1, 5), "it is known to be a repeat, not how it read");
    assert_eq!(say(&mut window, 11, "9", "short"), (9, long.len()));
    // What is said all the time holds nothing up.
    let mut window = Window::new(10);
    for position in 1..10_000 {
        let nonce = if position % 2 == 0 { "always".to_owned() } else { position.to_string() };
        say(&mut window, position, &nonce, "text");
        let (drafts, said, places, bytes) = window.size();
        assert!(drafts <= 11 && said <= 7 && places <= 11 && bytes <= 28, "{:?}", window.size());
    }
}
