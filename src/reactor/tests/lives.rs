//! What was asked in one life of the journal, and is answered in another.

use super::*;
use crate::journal::SyncMode;
use crate::reactor::talk::Outboxes;

/// A server with a store.
fn stored(path: &Path) -> Stand {
    let limits = Limits::default();
    let (wake, _) = channel();
    let journal = Journal::sqlite(path, SyncMode::Normal, &limits, move || _ = wake.send(())).unwrap();
    Stand::with(Root::Embedded, journal, limits)
}

/// Turns until a client has received enough.
fn until(stand: &mut Stand, peer: &Peer, enough: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut received = String::new();
    while !enough(&received) {
        assert!(Instant::now() < deadline, "{received}");
        std::thread::park_timeout(Duration::from_millis(1));
        stand.turn();
        received += &stand.received(peer);
    }
    received
}

#[test]
fn a_page_is_told_in_the_life_in_which_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut stand = stored(&path);
    let poster = stand.connect(WIDE);
    let post =
        "POST /rooms/r/messages HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    stand.send(&poster, post);
    until(&mut stand, &poster, |received| received.starts_with("HTTP/1.1 201 "));
    drop(stand);

    // Now it is not in memory any more.
    let mut stand = stored(&path);
    let (former, position) = (stand.reactor.hub.epoch(), stand.reactor.hub.position());
    let asker = stand.connect(WIDE);
    stand.turn();
    stand.send(&asker, get("/rooms/r/messages"));
    stand.reactor.read(stand.now);
    assert_eq!(stand.reactor.desk.reads_under_way(), 1);
    let Reactor { connections, metrics, hub, .. } = &mut stand.reactor;
    hub.lost(Epoch(former.0 ^ 1), position, &mut Outboxes { connections, metrics, now: stand.now });
    let told = until(&mut stand, &asker, |received| received.contains("\"entries\":["));
    assert!(told.contains("\"text\":\"hello\"") && told.contains(&format!("\"epoch\":\"{former}\"")), "{told}");
}
