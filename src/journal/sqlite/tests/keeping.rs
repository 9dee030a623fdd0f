//! What is removed, and how large the files become.

use std::time::SystemTime;

use super::*;
use crate::chat::entry::Timestamp;

#[test]
fn the_oldest_entries_go_by_number_and_every_room_has_its_own_floor() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("old", "1"), said("both", (1, "Ann"), "n", "2"), raw("quiet", "3")]);
    desk.store((4..2_000).map(|n| raw("busy", &format!("number{n} ."))));
    desk.store([raw("both", "2000")]);
    assert_eq!(positions_found(&desk.find("old", "1 ", u64::MAX, 1)), [1]);
    drop(desk);
    let mut desk = Desk::sqlite(&path, &Limits { keep_entries: Some(100), ..Limits::default() });
    wait_until("the oldest are gone", || desk.count("entries") == 100);
    let floor = |desk: &mut Desk, room| desk.all(room).floor.0;
    let floors = ["old", "both", "quiet", "busy", "never"].map(|room| floor(&mut desk, room));
    assert_eq!(floors, [1, 2, 3, 1_900, 1_900]);
    assert_eq!(positions(&desk.all("both").entries.unwrap()), [2_000]);
    assert_eq!(desk.all("busy").entries.unwrap().len(), 99);
    assert_eq!(positions_found(&desk.find("busy", "number1800 ", u64::MAX, 10)), [0_u64; 0]);
    assert_eq!(positions_found(&desk.find("busy", "number1950 ", u64::MAX, 10)), [1_950]);
    assert_eq!(positions_found(&desk.find("old", "1 ", u64::MAX, 1)), [0_u64; 0]);

    // Positions go on, even when all that was there is gone, and whose nonce was forgotten may say it again.
    desk.store((0..100).map(|_| raw("busy", "x")));
    wait_until("the next are gone", || desk.count("entries") == 100);
    desk.say([said("both", (1, "Ann"), "n", "2 again")]);
    assert_eq!(brief(&desk.event()), ("entry", 2_101, "2 again".to_owned()));
    wait_until("the floor has moved", || floor(&mut desk, "never") == 2_001);
}

#[test]
fn the_oldest_entries_go_by_age() {
    let (_folder, path) = folder();
    let limits = Limits { keep_age: Some(Duration::from_secs(3_600)), ..Limits::default() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = |age: i64| Timestamp((now.as_millis() as u64).saturating_add_signed(-age * 1_000));
    let mut desk = Desk::sqlite(&path, &limits);
    let ages = [7_200, 4_000, -1_000_000, 4_000, 3_000, 3_700, 100, 0];
    desk.store(ages.map(|age| Draft { at: at(age), ..raw("lobby", "x") }));
    wait_until("the old are gone", || desk.count("entries") == 2);
    assert_eq!((positions(&desk.all("lobby").entries.unwrap()), desk.all("lobby").floor), (vec![7, 8], Position(6)));
    drop(desk);
    let (_folder, path) = folder();
    let mut desk = Desk::sqlite(&path, &limits);
    desk.store([Draft { at: at(4_000), ..raw("lobby", "x") }]);
    wait_until("the only one is gone", || desk.count("entries") == 0);
    drop(desk);
    let mut desk = Desk::sqlite(&path, &limits);
    assert_eq!(desk.store([Draft { at: at(0), ..raw("lobby", "x") }])[0].position, Position(2));
}

#[test]
fn the_file_stays_within_its_size() {
    let (_folder, path) = folder();
    // The least that the option takes is larger than a test wants to write.
    let bytes: u64 = 2 << 20;
    let mut desk = Desk::sqlite(&path, &Limits { keep_bytes: Some(bytes), ..Limits::default() });
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..40 {
        let mut text = || (0..30).map(|_| format!("word{} ", random.u16(..2_000))).collect::<String>();
        desk.store((0..250).map(|_| raw("lobby", &text())).collect::<Vec<_>>());
    }
    assert_eq!(desk.journal.poll_event(), None);
    let used = || ((desk.pragma("page_count") - desk.pragma("freelist_count")) * desk.pragma("page_size")) as u64;
    wait_until("it is small enough", || used() <= bytes);
    assert!(used() > bytes / 2, "no more is removed than must be: {}", used());
    assert!(path.metadata().unwrap().len() < 4 * bytes, "pages are used again: {}", path.metadata().unwrap().len());
}

#[test]
fn the_log_is_bounded_and_space_is_given_back() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    let large = "x".repeat(60_000);
    for _ in 0..30 {
        desk.store((0..50).map(|_| raw("lobby", &large)));
        // What is in a transaction when the log is full still goes into it.
        let log = path.with_extension("db-wal").metadata().unwrap().len();
        assert!(log < 40 << 20, "{log} bytes");
    }
    drop(desk);
    let full = path.metadata().unwrap().len();
    assert!(full > 90_000_000, "{full} bytes");
    let desk = Desk::sqlite(&path, &Limits { keep_entries: Some(10), ..Limits::default() });
    wait_until("the rest is gone", || desk.count("entries") == 10);
    wait_until("most of the space is given back", || desk.pragma("page_count") * 4_096 < full as i64 / 2);
    drop(desk);
    assert!(path.metadata().unwrap().len() < full / 2);
}

#[test]
fn rooms_of_long_ago_are_forgotten() {
    let (_folder, path) = folder();
    let mut desk = open(&path);
    desk.store([raw("old", "x"), raw("lately", "x"), raw("alive", "x")]);
    // As it is when a lot was said and trimmed.
    desk.with(|connection| {
        let sql = "DELETE FROM entries WHERE position < 3; UPDATE entries SET position = 3000000;
                   UPDATE rooms SET floor = 1 WHERE name = 'old'; UPDATE rooms SET floor = 2500000 WHERE name != 'old';
                   INSERT OR REPLACE INTO meta (key, value) VALUES ('floor', 2999999), ('indexed', 3000000)";
        connection.execute_batch(sql).unwrap();
    });
    drop(desk);
    let mut desk = Desk::sqlite(&path, &Limits { keep_entries: Some(10), ..Limits::default() });
    wait_until("it is forgotten", || desk.count("rooms") == 2);
    let floors = ["old", "lately", "alive"].map(|room| desk.all(room).floor.0);
    assert_eq!(floors, [2_999_999, 2_500_000, 2_500_000]);
    desk.store([raw("old", "again")]);
    assert_eq!(positions(&desk.all("old").entries.unwrap()), [3_000_001]);
}
