//! What every driver promises, played against each of them.

use std::time::Duration;

use bytes::Bytes;

use super::driver::{Bounds, Driver, Ears, Session, Tail};
use super::local::LocalBus;

/// The longest that anything may take on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Runs something on a runtime like that of the journal's thread.
pub(super) fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, what).await.expect("in time") })
}

fn bytes(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// So many records of a tail, with their offsets.
async fn read(tail: &mut impl Tail, count: usize) -> Vec<(u64, Bytes)> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(tail.next().await.unwrap().into_iter().map(|record| (record.offset, record.bytes)));
    }
    assert_eq!(records.len(), count, "nothing more than what was published");
    records
}

/// The script. `driver` reaches a broker, or a part of one, that nobody has used.
pub(super) async fn keeps_its_promises<D: Driver>(driver: &D) {
    let one = driver.connect().await.unwrap();
    let other = driver.connect().await.unwrap();

    // Nothing was ever there.
    assert_eq!(one.bounds().await.unwrap(), Bounds { first: 1, last: 0 });
    assert_eq!(one.get(1).await.unwrap(), None);
    assert_eq!(one.meta().await.unwrap(), bytes(&[]));

    // The meta log has one order for everybody, and any bytes.
    for (session, record) in [(&one, "first"), (&other, "\0\u{ff}\r\n"), (&one, "third")] {
        session.append_meta(Bytes::from_static(record.as_bytes())).await.unwrap();
    }
    assert_eq!(one.meta().await.unwrap(), bytes(&["first", "\0\u{ff}\r\n", "third"]));
    assert_eq!(other.meta().await.unwrap(), one.meta().await.unwrap());
    assert_eq!(one.bounds().await.unwrap().last, 0, "it is apart from the log");

    // A tail that waits is given what comes; batches are in order, whoever publishes them; any bytes come through.
    let mut waiting = other.tail(0).await.unwrap();
    one.publish(&bytes(&["a", "", "\0\r\n"])).await.unwrap();
    let mut records = read(&mut waiting, 3).await;
    other.publish(&bytes(&["d"])).await.unwrap();
    one.publish(&[Bytes::from(vec![0xff; 300_000])]).await.unwrap();
    records.extend(read(&mut waiting, 2).await);
    let contents: Vec<_> = records.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(contents, [1, 0, 3, 1, 300_000]);
    assert!(records[0].0 >= 1 && records.is_sorted_by(|one, next| one.0 < next.0), "offsets increase");
    if driver.is_dense() {
        assert_eq!(records.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
    one.publish(&[]).await.unwrap();

    // Bounds, single records, and tails from anywhere agree.
    let bounds = Bounds { first: 1, last: records[4].0 };
    assert_eq!(one.bounds().await.unwrap(), bounds, "nothing was trimmed");
    for place in 0..5 {
        let (offset, content) = &records[place];
        assert_eq!(one.get(*offset).await.unwrap().as_ref(), Some(content));
        if place < 4 {
            let mut tail = one.tail(*offset).await.unwrap();
            assert_eq!(read(&mut tail, 4 - place).await, records[place + 1..]);
        }
    }
    assert_eq!(one.get(bounds.last + 1).await.unwrap(), None);
    let mut present = one.tail(bounds.last).await.unwrap();
    other.publish(&bytes(&["f"])).await.unwrap();
    assert_eq!(read(&mut present, 1).await[0].1, "f");

    // A large batch stays in order. Publishing and following go on at the same time.
    let many: Vec<Bytes> = (0..3_000).map(|number| Bytes::from(format!("{number}"))).collect();
    let (published, followed) = tokio::join!(one.publish(&many), read_until(&mut present, 3_000));
    published.unwrap();
    assert_eq!(followed, many);

    // Whispers reach whoever listens, and leave nothing behind.
    let last = one.bounds().await.unwrap().last;
    let (mut near, mut far) = (one.listen().await.unwrap(), other.listen().await.unwrap());
    one.whisper(Bytes::from_static(b"psst\0\xff")).await.unwrap();
    assert_eq!(far.next().await.unwrap(), &b"psst\0\xff"[..]);
    other.whisper(Bytes::from_static(b"yes?")).await.unwrap();
    // Our own may come as well.
    while near.next().await.unwrap() != "yes?" {}
    assert_eq!(one.bounds().await.unwrap().last, last);

    // What a session leaves, the next one finds.
    drop((one, other, waiting, present, near, far));
    let next = driver.connect().await.unwrap();
    assert_eq!(next.bounds().await.unwrap().last, last);
    assert_eq!(next.meta().await.unwrap().len(), 3);
}

async fn read_until(tail: &mut impl Tail, count: usize) -> Vec<Bytes> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = tail.next().await.unwrap();
        assert!(batch.len() <= 1_000, "batches have a bound");
        records.extend(batch.into_iter().map(|record| record.bytes));
    }
    records
}

#[test]
fn a_local_bus_keeps_its_promises() {
    run(keeps_its_promises(&LocalBus::new()));
}
