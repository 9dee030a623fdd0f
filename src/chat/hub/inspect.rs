//! What the simulation looks at to see that nothing is forgotten.

use super::feed::Whom;
use super::{Hub, MemberId};

impl Hub {
    /// What has been asked of the store and has not come.
    pub(crate) fn pending_reads(&self) -> usize {
        self.reads.len()
    }

    /// Those of them that somebody waits for who is still there.
    pub(crate) fn awaited_reads(&self) -> usize {
        let is_there = |id: &MemberId| self.member(*id).is_some();
        let is_awaited = |whom: &Whom| match whom {
            Whom::Member(id, _) => is_there(id),
            Whom::Joining(opening) => opening.waiting().any(|id| is_there(&id)),
            Whom::Behind(recall) => recall.waiting().any(|id| is_there(&id)),
        };
        self.reads.iter().filter(|(_, pending)| is_awaited(&pending.whom)).count()
    }

    /// What is read, or was and is not told, for those who are behind and for those who join.
    pub(crate) fn shared_reads(&self) -> (usize, usize) {
        (self.recalls.len(), self.arrivals.len())
    }

    /// What should not be there when all have left; nothing, if all is well.
    pub(crate) fn leftovers(&self) -> String {
        let lists = [
            ("members", self.present),
            ("places for members", self.members.len()),
            ("people", self.people.len()),
            ("rooms with members", self.rooms()),
            ("seats that are catching up", self.catching_up),
            ("hungry members", self.hungry.len()),
            ("pending reads", self.reads.len()),
            ("recalls", self.recalls.len()),
            ("reads for joins", self.arrivals.len()),
            ("joins that wait for one", self.arrivals.queued()),
            ("members that wait for a recall", self.recall_queue.len()),
            ("joins and requests that wait for other instances", self.ahead.len()),
            ("requests that have waited for them", self.ahead.settled()),
            ("bytes of what was recalled", self.recalled.bytes()),
            ("rooms with news", self.talked.len()),
            ("restless rooms", self.restless.len()),
            ("ticks", usize::from(self.next_tick.is_some())),
            ("rooms without a name", self.rooms.len() - self.by_name.len()),
        ];
        let left = lists.into_iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}
