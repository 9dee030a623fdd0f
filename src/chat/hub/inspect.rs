//! What the simulation looks at to see that nothing is forgotten.

use super::Hub;
use super::asks::Asks;

impl Hub {
    /// What has been asked of the store and has not come.
    pub(crate) fn pending_reads(&self) -> usize {
        self.reads.len()
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
            ("reads of some kind", self.reads().iter().map(|it| it.under_way).sum()),
            ("members that wait for one", self.reads().iter().map(|it| it.waiting).sum()),
            ("places of reads", self.arrivals.places() + self.recalls.places()),
            ("who has asked for one", self.asks.iter().map(Asks::askers).sum()),
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
