//! The way to the thread that writes.
//!
//! A channel wakes whoever waits at it while it holds a lock of its own. Where both threads share a core, the one that was
//! woken runs at once, stores what it was given, comes back for more and finds that lock taken: two switches of threads
//! for each batch. So the thread parks itself, and the channel does not know that anybody waits.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, TryRecvError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::writer::Work;

/// Where the thread that writes is given work.
#[derive(Clone)]
pub(super) struct WorkQueue {
    work: Sender<Work>,
    thread: Thread,
}

impl WorkQueue {
    /// The queue of a `thread` that has the other end of the channel.
    pub(super) fn new(work: Sender<Work>, thread: Thread) -> Self {
        WorkQueue { work, thread }
    }

    /// Gives work to the thread, and the work back if the thread has ended.
    pub(super) fn send(&self, work: Work) -> Result<(), SendError<Work>> {
        self.work.send(work)?;
        self.thread.unpark();
        Ok(())
    }

    /// One of which the other end is with whoever asks for it.
    #[cfg(test)]
    pub(super) fn simulated() -> (WorkQueue, Receiver<Work>) {
        let (work, handed) = std::sync::mpsc::channel();
        (WorkQueue::new(work, thread::current()), handed)
    }
}

/// Waits so long for work of the queue whose thread this is. That nobody has the queue any more is noticed only at the
/// end of that time. Who has been woken for nothing looks once more and parks again.
pub(super) fn receive(work: &Receiver<Work>, patience: Duration) -> Result<Work, RecvTimeoutError> {
    let until = Instant::now() + patience;
    loop {
        match work.try_recv() {
            Ok(work) => return Ok(work),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RecvTimeoutError::Timeout);
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_comes_in_order_and_wakes_who_waits() {
        let (work, handed) = channel();
        let (told, heard) = channel();
        let body = move || {
            for _ in 0..1_000 {
                let Ok(Work::KeepKey(key)) = receive(&handed, Duration::from_secs(60)) else { panic!("no work came") };
                told.send(key[0]).unwrap();
            }
            assert!(matches!(receive(&handed, Duration::ZERO), Err(RecvTimeoutError::Timeout)));
        };
        let thread = thread::spawn(body);
        let queue = WorkQueue::new(work, thread.thread().clone());
        for n in 0..500 {
            let (first, second) = (n as u8, n as u8 ^ 1);
            assert!(queue.send(Work::KeepKey([first; 32])).is_ok() && queue.send(Work::KeepKey([second; 32])).is_ok());
            assert_eq!((heard.recv(), heard.recv()), (Ok(first), Ok(second)));
        }
        thread.join().unwrap();
        assert!(queue.send(Work::Close).is_err(), "the thread has ended");
    }
}
