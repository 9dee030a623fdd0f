//! A hub with members of chat.v1, a journal that is a list, and a store that answers when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// Outboxes of messages: JSON objects for chat.v1, strings for the raw dialect.
#[derive(Default)]
pub(super) struct Messages {
    heard: BTreeMap<MemberId, Vec<Value>>,
    waiting: BTreeMap<MemberId, usize>,
    /// Bytes above which an outbox takes no batch.
    pub(super) room: usize,
    /// Bytes of a page, if all outboxes are rather full.
    pub(super) page: Option<usize>,
    /// The largest that any outbox ever was.
    pub(super) fullest: usize,
}

impl Messages {
    /// Whether a member has heard anything since it was asked last.
    pub(super) fn has_heard(&self, member: MemberId) -> bool {
        self.heard.contains_key(&member)
    }

    fn push(&mut self, member: MemberId, bytes: &Bytes) -> usize {
        let waiting = self.waiting.entry(member).or_default();
        *waiting += bytes.len();
        self.fullest = self.fullest.max(*waiting);
        let heard = self.heard.entry(member).or_default();
        let before = heard.len();
        for message in std::str::from_utf8(bytes).unwrap().split_terminator('\n') {
            heard.push(serde_json::from_str(message).unwrap_or_else(|_| message.into()));
        }
        // How many entries these were.
        let entries = heard[before..].iter().map(|message| match message["type"].as_str() {
            Some("joined" | "history") => message["entries"].as_array().unwrap().len(),
            Some("said") | None => 1,
            Some(_) => 0,
        });
        entries.sum()
    }
}

impl Stage for Messages {
    fn offer(&mut self, member: MemberId, batch: &Bytes, entries: usize) -> bool {
        if self.waiting.get(&member).is_some_and(|waiting| *waiting > self.room) {
            return false;
        }
        assert_eq!(self.push(member, batch), entries);
        true
    }

    fn page_bytes(&self) -> usize {
        self.page.unwrap_or(usize::MAX)
    }

    fn send(&mut self, member: MemberId, answer: Bytes) {
        self.push(member, &answer);
    }

    fn frame(message: Message<'_>, out: &mut Vec<u8>) {
        let (Message::Text(bytes) | Message::Binary(bytes)) = message;
        out.extend_from_slice(bytes);
        out.push(b'\n');
    }
}

/// Everything around a hub.
pub(super) struct Talk {
    pub(super) hub: Hub,
    pub(super) stage: Messages,
    pub(super) now: Instant,
    pub(super) intake: Intake,
    /// Every entry there ever was.
    pub(super) said: Vec<Entry>,
    /// The store has forgotten everything up to here.
    pub(super) floor: Position,
    /// What has been asked of the store and not been answered.
    pub(super) reads: VecDeque<Wanted>,
    /// What the hub wanted otherwise.
    pub(super) told: Vec<Command>,
    drafts: Vec<Draft>,
    commands: Vec<Command>,
}

/// What a member of some slot is called by the hub.
pub(super) fn tenant(slot: u32, serial: u32) -> MemberId {
    MemberId { slot, serial }
}

impl Talk {
    /// With `--memory`.
    pub(super) fn in_memory(limits: &Limits) -> Self {
        Talk::new(limits, false, Vec::new())
    }

    /// With a store in which this was said already.
    pub(super) fn stored(limits: &Limits, said: Vec<Entry>) -> Self {
        Talk::new(limits, true, said)
    }

    fn new(limits: &Limits, keeps_history: bool, said: Vec<Entry>) -> Self {
        let position = said.last().map_or(Position::START, |entry| entry.position);
        let journaled = Journaled { epoch: Epoch(0xe), position, keeps_history };
        Talk {
            hub: Hub::new(limits, journaled, Identities::new([1; 32], [2; 32])),
            stage: Messages { room: limits.outbox_high_water_bytes, ..Messages::default() },
            now: Instant::now(),
            intake: Intake::Open,
            said,
            floor: Position::START,
            reads: VecDeque::new(),
            told: Vec::new(),
            drafts: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Somebody comes and says hello; what is answered.
    pub(super) fn hello(&mut self, slot: u32, name: &str) -> Value {
        self.hub.enter(member(slot), Dialect::V1);
        self.ask(slot, json!({"type": "hello", "name": name}));
        self.next(slot)
    }

    /// A member of chat.v1 asks something.
    #[expect(clippy::needless_pass_by_value, reason = "requests are made where they are asked")]
    pub(super) fn ask(&mut self, slot: u32, request: Value) {
        self.ask_as(member(slot), &request);
    }

    pub(super) fn ask_as(&mut self, id: MemberId, request: &Value) {
        let moment = Moment { now: self.now, at: Timestamp(5), intake: self.intake };
        let frame = request.to_string();
        self.hub.request(id, frame.as_bytes(), moment, &mut self.stage, &mut self.commands);
        self.obey();
    }

    pub(super) fn join(&mut self, slot: u32, room: &str) -> Value {
        self.drain(member(slot));
        self.ask(slot, json!({"type": "join", "room": room}));
        self.turn();
        self.next(slot)
    }

    /// Joins, and takes all that comes of it.
    pub(super) fn join_and_settle(&mut self, slot: u32, room: &str) {
        self.ask(slot, json!({"type": "join", "room": room}));
        self.settle();
        self.heard(slot);
    }

    pub(super) fn say(&mut self, slot: u32, room: &str, text: &str, nonce: &str) {
        self.ask(slot, json!({"type": "say", "room": room, "text": text, "nonce": nonce}));
    }

    /// A member of the raw dialect says something.
    pub(super) fn shout(&mut self, slot: u32, message: Message<'_>) {
        self.drafts.extend(self.hub.draft(member(slot), message, Timestamp(5)));
    }

    fn obey(&mut self) {
        for command in self.commands.drain(..) {
            match command {
                Command::Append(draft) => self.drafts.push(draft),
                Command::Read(wanted) => self.reads.push_back(wanted),
                told => self.told.push(told),
            }
        }
        self.hub.wind(self.now);
    }

    /// The journal takes what waits.
    pub(super) fn order(&mut self) {
        for draft in std::mem::take(&mut self.drafts) {
            let is_it = |entry: &&Entry| {
                draft.nonce.is_some()
                    && entry.nonce == draft.nonce
                    && entry.author.as_ref().map(|it| it.id) == draft.author.as_ref().map(|it| it.id)
            };
            match self.said.iter().find(is_it) {
                Some(original) => {
                    let original = Entry { origin: draft.origin, ..original.clone() };
                    self.hub.repeated(&original, &mut self.stage);
                }
                None => {
                    let last = self.said.last().map_or(Position::START, |entry| entry.position);
                    let entry = draft.at(last.next());
                    self.said.push(entry.clone());
                    self.hub.committed(entry);
                }
            }
        }
    }

    /// The journal refuses what waits.
    pub(super) fn refuse(&mut self) {
        for draft in std::mem::take(&mut self.drafts) {
            self.hub.refused(&draft, &mut self.stage, &mut self.commands);
        }
        self.obey();
    }

    /// The end of a turn.
    pub(super) fn commit(&mut self) {
        self.hub.tick(&mut self.stage, self.now);
        self.hub.commit(&mut self.stage, &mut self.commands);
        self.obey();
    }

    /// A turn without answers of the store.
    pub(super) fn turn(&mut self) {
        self.order();
        self.commit();
    }

    /// The store's answer to the read that was asked for first.
    pub(super) fn read(&mut self) -> Pages {
        let wanted = self.reads.pop_front().expect("something is to be read");
        self.answer(&wanted)
    }

    /// What the store answers.
    pub(super) fn answer(&self, wanted: &Wanted) -> Pages {
        let kept = self.said.iter().filter(|entry| entry.room == wanted.room && entry.position > self.floor);
        let text = |entry: &Entry| String::from_utf8_lossy(entry.content.bytes()).into_owned();
        let mut part: Vec<Entry> = match &wanted.range {
            Range::After { after, upto } => {
                kept.filter(|it| it.position > *after && it.position <= *upto).cloned().collect()
            }
            Range::Before(before) => kept.filter(|it| it.position < *before).cloned().collect(),
            Range::Matching { before, query } => {
                kept.filter(|it| it.position < *before && text(it).contains(query.as_str())).cloned().collect()
            }
        };
        let in_range = part.len().min(wanted.count.max(wanted.limit)) as u64;
        let more = part.len() > wanted.limit;
        match &wanted.range {
            Range::After { .. } => part.truncate(wanted.limit),
            Range::Before(_) | Range::Matching { .. } => drop(part.drain(..part.len().saturating_sub(wanted.limit))),
        }
        let matches = match &wanted.range {
            Range::Matching { .. } => part.iter().map(|_| vec![(0, 1)]).collect(),
            Range::After { .. } | Range::Before(_) => Vec::new(),
        };
        Pages { ticket: wanted.ticket, entries: Ok(part), matches, more, in_range, floor: self.floor }
    }

    /// Brings a page to the hub, as the beginning of a turn.
    pub(super) fn bring(&mut self, pages: Pages) {
        self.hub.page(pages, &mut self.stage, &mut self.commands);
        self.obey();
    }

    /// Turns until nothing is left to be done or read, and every outbox is empty.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            while !self.reads.is_empty() {
                let pages = self.read();
                self.bring(pages);
            }
            self.turn();
            let waiting: Vec<MemberId> = self.stage.waiting.keys().copied().collect();
            waiting.into_iter().for_each(|id| self.drain(id));
            if self.reads.is_empty() && !self.hub.has_carried_over() && self.hub.catching_up() == 0 {
                return;
            }
        }
        panic!("members never get level: {} are catching up", self.hub.catching_up());
    }

    /// Time passes, with a turn for every tick that is due in it.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.turn();
        while let Some(tick) = self.hub.next_tick().filter(|tick| *tick <= until) {
            self.now = self.now.max(tick);
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    /// Time passes until then.
    pub(super) fn pass_to(&mut self, until: Instant) {
        self.pass(until.saturating_duration_since(self.now));
    }

    /// Another instance tells something.
    pub(super) fn hear_report(&mut self, report: &[u8]) {
        self.hub.hear_report(report, &mut self.stage, self.now);
    }

    /// A member's outbox empties.
    pub(super) fn drain(&mut self, id: MemberId) {
        self.stage.waiting.remove(&id);
        self.hub.drained(id);
    }

    /// A member goes.
    pub(super) fn exit(&mut self, id: MemberId) {
        self.hub.exit(id, self.now);
    }

    /// What a member has heard since it was asked last.
    pub(super) fn heard(&mut self, slot: u32) -> Vec<Value> {
        self.heard_by(member(slot))
    }

    pub(super) fn heard_by(&mut self, id: MemberId) -> Vec<Value> {
        self.stage.heard.remove(&id).unwrap_or_default()
    }

    /// The only thing that a member has heard since it was asked last.
    pub(super) fn next(&mut self, slot: u32) -> Value {
        let mut heard = self.heard(slot);
        assert_eq!(heard.len(), 1, "{heard:#?}");
        heard.remove(0)
    }

    /// The error that a request is answered with.
    pub(super) fn error(&mut self, slot: u32, request: Value) -> Value {
        self.ask(slot, request);
        let error = self.next(slot);
        assert_eq!(error["type"], "error", "{error}");
        error
    }

    /// Nothing may be left of anybody.
    pub(super) fn assert_empty(&mut self) {
        while !self.reads.is_empty() {
            let pages = self.read();
            self.bring(pages);
        }
        self.pass(Duration::from_secs(10));
        let hub = &self.hub;
        assert!(hub.is_empty() && hub.members.is_empty());
        assert_eq!((hub.rooms(), hub.catching_up()), (0, 0));
        assert!(hub.people.is_empty(), "{:?}", hub.people);
        assert!(hub.reads.is_empty(), "{:?}", hub.reads);
        assert!(hub.restless.is_empty() && hub.next_tick.is_none());
        assert!(hub.hungry.is_empty() && hub.talked.is_empty());
        for (_, room) in &hub.rooms {
            assert_eq!(room.members, 0);
            assert_eq!(room.presence.count(), 0);
            assert!(room.live.iter().all(Vec::is_empty) && room.news.is_empty());
            assert!(!room.tail.is_empty(), "an empty room is kept for its tail alone");
        }
    }
}

/// Entries of a room as a store has them from former times: author, nonce and text follow from the position.
pub(super) fn former(room: &str, positions: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    let entry = |position: u64| Entry {
        position: Position(position),
        room: name(room),
        origin: None,
        author: Some(Author { id: PersonId(7), name: "Old".into() }),
        nonce: Some(crate::chat::entry::Nonce(format!("old {position}").into())),
        at: Timestamp(position),
        content: Content::Text(format!("text {position}").into()),
    };
    positions.into_iter().map(entry).collect()
}

/// The positions of some entries or `said` events.
pub(super) fn positions<'a>(entries: impl IntoIterator<Item = &'a Value>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry["position"].as_u64().unwrap_or_else(|| panic!("{entry}"))).collect()
}
