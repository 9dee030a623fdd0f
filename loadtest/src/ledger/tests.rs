//! The ledger, told what clients hear.

use super::*;

/// Three clients, of which the first and the last talk.
fn ledger(closed_loop: Option<Until>) -> Ledger {
    let mut ledger = Ledger::new(1, 64, 3, vec![Some(0), Some(2)], closed_loop);
    (0..3).for_each(|client| ledger.join(client, Role::Prompt));
    ledger.measure(1_000_000..2_000_000);
    ledger
}

/// What the generator does with a frame; what it has before its payload is no matter here.
fn hear(ledger: &mut Ledger, client: usize, payload: &[u8], now: u64) {
    if ledger.hear_again(client, payload, now) == 0 {
        ledger.hear(client, payload, Some(payload), 0, now);
    }
}

fn proceeding(ledger: &mut Ledger) -> Vec<usize> {
    let mut senders = Vec::new();
    ledger.take_may_proceed(&mut senders);
    senders
}

#[test]
fn every_fault_is_counted() {
    let mut ledger = ledger(None);
    let first = ledger.send(0, 1_000_000).to_vec();
    let second = ledger.send(0, 1_500_000).to_vec();
    let never_sent = Stamps::new(1, 64).encode(Stamp { sender: 1, number: 0, scheduled: 1 }).to_vec();
    hear(&mut ledger, 0, &first, 1_100_000);
    hear(&mut ledger, 0, &second, 1_600_000);
    hear(&mut ledger, 1, &second, 1_600_000);
    hear(&mut ledger, 1, &first, 1_700_000);
    hear(&mut ledger, 1, &first, 1_700_000);
    hear(&mut ledger, 2, &second, 1_800_000);
    hear(&mut ledger, 2, &never_sent, 1_800_000);
    hear(&mut ledger, 2, b"hello", 1_800_000);
    assert!(!ledger.is_settled());
    let (counts, (to_each, to_last)) = (ledger.close(), ledger.take_times());
    let expected = Counts {
        sent: 2,
        expected: 6,
        delivered: 5,
        lost: 1,
        duplicated: 1,
        disordered: 1,
        corrupt: 1,
        foreign: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    let (to_each, to_last) = (to_each.histogram(), to_last.histogram());
    assert_eq!((to_each.len(), to_last.len()), (5, 1), "a message that was lost has no last member");
    assert!(to_last.equivalent(to_last.max(), 300_000));
}

#[test]
fn only_what_is_due_in_the_interval_is_measured() {
    let mut ledger = ledger(None);
    for scheduled in [999_999, 1_000_000, 1_999_999, 2_000_000] {
        let payload = ledger.send(1, scheduled).to_vec();
        (0..3).for_each(|client| hear(&mut ledger, client, &payload, scheduled + 5_000));
    }
    assert!(ledger.is_settled());
    let (counts, (to_each, to_last)) = (ledger.close(), ledger.take_times());
    assert_eq!((counts.delivered, counts.lost), (12, 0));
    let (to_each, to_last) = (to_each.histogram(), to_last.histogram());
    assert_eq!((to_each.len(), to_last.len()), (6, 2));
}

#[test]
fn closed_loops_proceed() {
    type Row<'a> = (&'a str, Option<Until>, [&'a [usize]; 3]);
    let table: [Row<'_>; 3] = [
        ("on schedule", None, [&[], &[], &[]]),
        ("until the last has it", Some(Until::Last), [&[], &[], &[1]]),
        ("until the echo", Some(Until::Echo), [&[], &[1], &[]]),
    ];
    for (name, closed_loop, expected) in table {
        let mut ledger = ledger(closed_loop);
        let payload = ledger.send(1, 0).to_vec();
        for (client, expected) in [1, 2, 0].into_iter().zip(expected) {
            hear(&mut ledger, client, &payload, 1);
            assert_eq!(proceeding(&mut ledger), expected, "{name}, heard by {client}");
        }
    }
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut ledger = ledger(Some(Until::Last));
    let payload = ledger.send(0, 0).to_vec();
    hear(&mut ledger, 0, &payload, 1);
    hear(&mut ledger, 1, &payload, 1);
    ledger.leave(2);
    ledger.leave(2);
    assert_eq!(proceeding(&mut ledger), [0]);
    assert_eq!((ledger.client_of(0), ledger.client_of(1)), (Some(0), None));
    let payload = ledger.send(0, 0).to_vec();
    hear(&mut ledger, 0, &payload, 1);
    hear(&mut ledger, 1, &payload, 1);
    let counts = ledger.close();
    assert_eq!((counts.expected, counts.delivered, counts.lost), (5, 4, 1));
}

#[test]
fn positions_are_kept_to() {
    let mut ledger = ledger(None);
    let payloads: Vec<Vec<u8>> = (0..3).map(|_| ledger.send(0, 1_000_000).to_vec()).collect();
    let other = ledger.send(1, 1_000_000).to_vec();
    let mut hear = |client, payload: &Vec<u8>, position| ledger.hear(client, payload, None, position, 1_100_000);
    (0..3).for_each(|number| hear(0, &payloads[number], 10 + number as u64));
    hear(0, &other, 5);
    hear(1, &payloads[0], 10);
    hear(1, &other, 11);
    assert_eq!((ledger.position(0), ledger.position(1), ledger.position(2)), (12, 11, 0));
    ledger.is_level(2, 12);
    assert_eq!(ledger.position(2), 12);
    let counts = ledger.close();
    assert_eq!((counts.delivered, counts.disordered, counts.disagreed), (6, 1, 1));
}

#[test]
fn roles() {
    let mut ledger = ledger(None);
    ledger.change_role(1, Role::Patient);
    ledger.leave(2);
    ledger.join(2, Role::Visitor);
    let payloads: Vec<Vec<u8>> = (0..4).map(|_| ledger.send(0, 1_000_000).to_vec()).collect();
    for payload in &payloads {
        hear(&mut ledger, 0, payload, 1_100_000);
    }
    assert!(ledger.is_settled() && !ledger.is_complete(), "only who is prompt is waited for");
    for number in [1, 3] {
        hear(&mut ledger, 2, &payloads[number], 1_100_000);
    }
    for payload in &payloads {
        hear(&mut ledger, 1, payload, 1_100_000);
    }
    assert!(ledger.is_complete());
    let (counts, (to_each, to_last)) = (ledger.close(), ledger.take_times());
    assert_eq!((counts.expected, counts.delivered, counts.lost), (11, 10, 1), "a visitor has jumped over one");
    assert_eq!((to_each.histogram().len(), to_last.histogram().len()), (4, 4));
}

#[test]
fn refusals_are_not_waited_for() {
    let mut ledger = ledger(Some(Until::Last));
    let payloads: Vec<Vec<u8>> = (0..2).map(|_| ledger.send(1, 1_000_000).to_vec()).collect();
    ledger.refuse(&payloads[0][..24]);
    (0..3).for_each(|client| hear(&mut ledger, client, &payloads[1], 1_100_000));
    assert!(ledger.is_complete());
    assert_eq!(proceeding(&mut ledger), [1, 1]);
    let counts = ledger.close();
    assert_eq!((counts.sent, counts.refused, counts.delivered, counts.lost), (2, 1, 3, 0));
}

#[test]
fn senders_elsewhere() {
    let mut elsewhere = Ledger::new(1, 64, 1, vec![Some(0)], None);
    let payloads: Vec<Vec<u8>> = (0..3).map(|_| elsewhere.send(0, 1_000_000).to_vec()).collect();
    let mut ledger = Ledger::new(1, 64, 2, vec![None], None);
    ledger.share();
    (0..2).for_each(|client| ledger.join(client, Role::Prompt));
    ledger.measure(0..2_000_000);
    for client in [0, 1] {
        hear(&mut ledger, client, &payloads[0], 1_500_000);
    }
    hear(&mut ledger, 0, &payloads[1], 1_500_000);
    ledger.expect_from_elsewhere(0, 3);
    assert!(!ledger.is_settled());
    assert_eq!(ledger.take_completions(), [Completion { sender: 0, number: 0, latency: 500_000 }]);
    let counts = ledger.close();
    assert_eq!((counts.sent, counts.expected, counts.delivered, counts.lost), (0, 6, 3, 3));
}

#[test]
fn who_comes_back_begins_with_the_present() {
    let mut ledger = ledger(None);
    ledger.leave(1);
    let missed = ledger.send(0, 1).to_vec();
    [0, 2].iter().for_each(|&client| hear(&mut ledger, client, &missed, 2));
    ledger.join(1, Role::Prompt);
    let payload = ledger.send(0, 1).to_vec();
    (0..3).for_each(|client| hear(&mut ledger, client, &payload, 2));
    let counts = ledger.close();
    assert_eq!((counts.expected, counts.delivered, counts.lost), (5, 5, 0));
}
