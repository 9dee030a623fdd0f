//! What real servers are put through, besides the contract: crashes, standstills, and several who publish at once.

#![allow(clippy::print_stdout, reason = "what is printed here belongs to the output of a test")]

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::brokers::{NatsServer, RabbitServer};
use super::driver::{Driver, Ears, Failure, Record, Session, Tail};

/// The longest that anything may take. RabbitMQ needs some seconds to start.
const DEADLINE: Duration = Duration::from_secs(120);
/// The journal gives up a server after so long in any case, so a driver need not be faster.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server that can fail.
pub(super) trait Server {
    fn kill(&mut self);
    fn start_again(&mut self);
    fn pause(&self);
    fn resume(&self);
}

macro_rules! server {
    ($server:ty) => {
        impl Server for $server {
            fn kill(&mut self) {
                <$server>::kill(self);
            }
            fn start_again(&mut self) {
                <$server>::start_again(self);
            }
            fn pause(&self) {
                <$server>::pause(self);
            }
            fn resume(&self) {
                <$server>::resume(self);
            }
        }
    };
}

server!(NatsServer);
server!(RabbitServer);

/// Runs something on a runtime like that of the journal's thread.
pub(super) fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async { timeout(DEADLINE, what).await.expect("in time") });
    // A client that lets go of its connection may wait for it on another thread.
    runtime.shutdown_background();
    result
}

/// Runs a test of a module in a process of its own. It counts threads, and not every runner keeps those of others apart.
pub(super) fn alone(module: &str, name: &str, test: impl FnOnce()) {
    const ALONE: &str = "CHAT_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return test();
    }
    let (_, module) = module.split_once("::").expect("a module of this crate");
    let mut program = Command::new(env::current_exe().unwrap());
    let output =
        program.args([&format!("{module}::{name}"), "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(" 1 passed"),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) fn numbered(name: &str, count: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(format!("{name} {number}"))).collect()
}

/// Reads until so many records are there.
pub(super) async fn read(tail: &mut impl Tail, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(tail.next().await.unwrap());
    }
    records
}

/// The first failure of a tail.
async fn end_of(tail: &mut impl Tail) -> Failure {
    loop {
        if let Err(failure) = tail.next().await {
            return failure;
        }
    }
}

/// Several sessions publish at the same time: the records of each are all there, in its order, and everybody reads the
/// same.
pub(super) async fn many_publish<D: Driver>(driver: &D) {
    const EACH: usize = 1_500;
    let (one, other, third) = tokio::join!(driver.connect(), driver.connect(), driver.connect());
    let (one, other, third) = (one.unwrap(), other.unwrap(), third.unwrap());
    let after = one.bounds().await.unwrap().last;
    let (mut tail, mut same) = (one.tail(after).await.unwrap(), other.tail(after).await.unwrap());
    let publish = async |session: &D::Session, name: &str| {
        for batch in numbered(name, EACH).chunks(400) {
            session.publish(batch).await.unwrap();
        }
    };
    let (records, again, ..) = tokio::join!(
        read(&mut tail, 3 * EACH),
        read(&mut same, 3 * EACH),
        publish(&one, "one"),
        publish(&other, "other"),
        publish(&third, "third"),
    );
    assert_eq!(records, again);
    assert!(records.is_sorted_by(|one, next| one.offset < next.offset));
    for name in ["one", "other", "third"] {
        let own = records.iter().filter(|record| record.bytes.starts_with(name.as_bytes()));
        assert!(own.map(|record| &record.bytes).eq(&numbered(name, EACH)), "{name}");
    }
}

/// The server crashes while it is used: whoever waits is told, and all that was confirmed is there when it is back.
pub(super) async fn it_crashes<D: Driver>(driver: &D, server: &mut impl Server) {
    let session = driver.connect().await.unwrap();
    let after = session.bounds().await.unwrap().last;
    let known = session.meta().await.unwrap().len();
    session.append_meta(Bytes::from_static(b"meta")).await.unwrap();
    let (mut tail, mut ears) = (session.tail(after).await.unwrap(), session.listen().await.unwrap());
    session.publish(&numbered("before", 100)).await.unwrap();
    let before = read(&mut tail, 100).await;

    server.kill();
    let lost = numbered("lost", 10);
    let (tail_ended, ears_ended, published) = tokio::join!(
        timeout(PATIENCE, end_of(&mut tail)),
        timeout(PATIENCE, ears.next()),
        timeout(PATIENCE, session.publish(&lost)),
    );
    println!("{} | {} | {}", tail_ended.unwrap(), ears_ended.unwrap().unwrap_err(), published.unwrap().unwrap_err());
    println!("{}", timeout(PATIENCE, session.bounds()).await.unwrap().unwrap_err());
    println!("{}", timeout(PATIENCE, driver.connect()).await.unwrap().err().expect("nobody is there"));

    server.start_again();
    let session = until_connected(driver).await;
    assert_eq!(session.meta().await.unwrap().len(), known + 1);
    assert_eq!(session.bounds().await.unwrap().last, before[99].offset);
    let mut tail = session.tail(after).await.unwrap();
    assert_eq!(read(&mut tail, 100).await, before);
    session.publish(&numbered("after", 100)).await.unwrap();
    let contents = read(&mut tail, 100).await.into_iter().map(|record| record.bytes);
    assert!(contents.eq(numbered("after", 100)));
}

/// A server that was just started may still be busy with its streams, one after the other, and refuse what is asked about
/// them: the journal would begin another session.
async fn until_connected<D: Driver>(driver: &D) -> D::Session {
    let begin = async || {
        let session = driver.connect().await?;
        session.meta().await?;
        session.bounds().await?;
        Ok::<_, Failure>(session)
    };
    loop {
        match begin().await {
            Ok(session) => return session,
            Err(failure) => println!("not yet: {failure}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The server stands still: nothing blocks the thread meanwhile, whoever waits is told after some time, and an answer
/// that was not waited for leaves nothing behind.
pub(super) async fn it_stands_still<D: Driver>(driver: &D, server: &mut impl Server) {
    let session = driver.connect().await.unwrap();
    let after = session.bounds().await.unwrap().last;
    let mut tail = session.tail(after).await.unwrap();
    session.publish(&numbered("before", 10)).await.unwrap();
    read(&mut tail, 10).await;

    server.pause();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let ticks = async {
        loop {
            let began = Instant::now();
            sleep(Duration::from_millis(10)).await;
            assert!(began.elapsed() < Duration::from_secs(5), "the thread stood still for {:?}", began.elapsed());
        }
    };
    let lost = numbered("lost", 10);
    let stand = async {
        for _ in 0..5 {
            assert!(timeout(Duration::from_millis(200), driver.connect()).await.is_err(), "nobody answers");
        }
        let (published, ended) =
            tokio::join!(timeout(PATIENCE, session.publish(&lost)), timeout(PATIENCE, end_of(&mut tail)));
        println!("{} | {}", published.unwrap().unwrap_err(), ended.unwrap());
    };
    tokio::select! {
        () = ticks => {}
        () = stand => {}
    }
    drop((session, tail));
    let gone = async {
        while threads() > before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the threads of connections that were given up end");

    server.resume();
    let session = until_connected(driver).await;
    let mut tail = session.tail(after).await.unwrap();
    // What was sent while it stood still may have arrived: then all of it, or its beginning.
    session.publish(&numbered("after", 10)).await.unwrap();
    let last = session.bounds().await.unwrap().last;
    let mut contents = Vec::new();
    loop {
        let records = tail.next().await.unwrap();
        contents.extend(records.iter().map(|record| record.bytes.clone()));
        if records.last().is_some_and(|record| record.offset == last) {
            break;
        }
    }
    let [before, after] = ["before", "after"].map(|name| numbered(name, 10));
    assert!(contents.starts_with(&before) && contents.ends_with(&after), "{contents:?}");
    assert!(lost.starts_with(&contents[10..contents.len() - 10]), "{contents:?}");
}

/// How long 20,000 small records take to be published, and to be followed: printed, and in a time that no driver needs
/// unless it waits for each of them.
pub(super) async fn it_is_fast<D: Driver>(driver: &D) {
    const RECORDS: usize = 20_000;
    let (session, other) = (driver.connect().await.unwrap(), driver.connect().await.unwrap());
    let after = session.bounds().await.unwrap().last;
    let batch: Vec<Bytes> = (0..250).map(|_| Bytes::from(vec![b'x'; 200])).collect();
    let publish = async || {
        let began = Instant::now();
        for _ in 0..RECORDS / batch.len() {
            session.publish(&batch).await.unwrap();
        }
        began.elapsed()
    };
    let follow = async |tail: &mut <D::Session as Session>::Tail| {
        let began = Instant::now();
        read(tail, RECORDS).await;
        began.elapsed()
    };
    let alone = publish().await;
    let mut tail = other.tail(after).await.unwrap();
    let caught_up = follow(&mut tail).await;
    let (together, followed) = tokio::join!(publish(), follow(&mut tail));
    let began = Instant::now();
    session.publish(&batch[..1]).await.unwrap();
    let published = began.elapsed();
    read(&mut tail, 1).await;
    println!(
        "{RECORDS} records: published in {alone:?}, read in {caught_up:?}, at once in {together:?} and {followed:?}; \
         one record: confirmed after {published:?}, there after {:?}",
        began.elapsed(),
    );
    assert!(alone.max(caught_up).max(followed) < Duration::from_secs(20), "it waits for single records");
}
