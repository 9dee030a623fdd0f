//! What a member of chat.v1 asks, and what it is answered.

use std::time::{Duration, Instant};

use super::asks::OutboxFull;
use super::ephemeral::framed;
use super::{
    Author, Bucket, Command, Content, Draft, Hub, Intake, MemberId, RoomName, Session, Speaker, Stage, Start,
    Timestamp, Trouble, shared,
};
use crate::chat::entry::{Entry, Nonce, Position, SearchError};
use crate::chat::name::{self, NameError};
use crate::chat::report::Named;
use crate::chat::v1::{self, BadFrame, Code, Limits, Person, Reply, Request, Said, Server, Subject};

/// Reads of one member that may be under way, or wait for that.
const READS_AT_ONCE: u32 = 4;

/// Why a request is not carried out.
struct Refusal {
    code: Code,
    message: String,
    retry: Option<Duration>,
}

impl Refusal {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), retry: None }
    }

    fn again_in(self, retry: Duration) -> Self {
        Refusal { retry: Some(retry), ..self }
    }
}

/// When and whether something is said.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The loop's clock.
    pub now: Instant,
    /// The time of day.
    pub at: Timestamp,
    /// Whether what is said can be taken.
    pub intake: Intake,
}

impl Hub {
    /// Takes a text frame of a member of chat.v1. What comes from a connection whose place was taken, and that does not know
    /// it yet, means nothing any more.
    pub fn request<S: Stage>(
        &mut self,
        id: MemberId,
        frame: &[u8],
        moment: Moment,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) {
        if self.member(id).is_none() {
            return;
        }
        let request = match v1::parse(frame) {
            Ok(request) => request,
            Err(BadFrame { code, message }) => {
                return Self::refuse(id, Subject::default(), &Refusal::new(code, message), stage);
            }
        };
        if let Err(refusal) = self.carry_out(id, &request, moment, stage, commands) {
            Self::refuse(id, request.subject(), &refusal, stage);
        }
    }

    /// Tells a member of chat.v1 that it speaks in text alone.
    pub fn refuse_binary<S: Stage>(&self, id: MemberId, stage: &mut S) {
        if self.member(id).is_none() {
            return;
        }
        let refusal = Refusal::new(Code::BadFrame, "chat.v1 speaks in text frames");
        Self::refuse(id, Subject::default(), &refusal, stage);
    }

    fn refuse<S: Stage>(id: MemberId, about: Subject<'_>, refusal: &Refusal, stage: &mut S) {
        let Refusal { code, ref message, retry } = *refusal;
        // Rounded up: who comes back after this time is not too early.
        let retry_ms = retry.map(|retry| u64::try_from(retry.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
        stage.send(id, framed::<S>(&Reply::Error { code, message, about, retry_ms }));
    }

    fn carry_out<S: Stage>(
        &mut self,
        id: MemberId,
        request: &Request,
        moment: Moment,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Result<(), Refusal> {
        if let Request::Hello { name, token, session } = request {
            return self.hello(id, name.as_deref(), token.as_deref(), session.as_deref(), moment, stage, commands);
        }
        let (ask, say) = (self.bounds.ask, self.bounds.say);
        let Some(speaker) = self.speaker_mut(id) else {
            return Err(Refusal::new(Code::BadOrder, "say hello first"));
        };
        match request {
            Request::Say { .. } => speaker.says.take(say, moment.now).map_err(too_fast)?,
            _ => speaker.asks.take(ask, moment.now).map_err(too_fast)?,
        }
        match request {
            Request::Hello { .. } => unreachable!("answered above"),
            Request::Join { room, after, epoch } => self.join(id, room, *after, epoch.as_deref()),
            Request::Leave { room } => {
                let key = self.joined_room(id, room)?;
                let name = self.rooms[key].name.clone();
                self.stand_up(id, key, moment.now);
                stage.send(id, framed::<S>(&Reply::Left { room: name.as_str() }));
                Ok(())
            }
            Request::Say { room, text, nonce } => self.say(id, room, text, nonce, moment, commands),
            Request::Typing { room } => {
                let key = self.joined_room(id, room)?;
                if let Some(author) = self.author(id) {
                    self.writes(key, &author, moment.now);
                }
                Ok(())
            }
            Request::Rename { name } => self.rename(id, name, stage),
            Request::History { room, before, limit } => {
                let key = self.joined_room(id, room)?;
                self.may_read(id)?;
                let (before, limit) = self.window(*before, *limit);
                self.history(id, key, before, limit, stage, commands).map_err(|OutboxFull| outbox_full())
            }
            Request::Search { room, query, before, limit } => {
                let key = self.joined_room(id, room)?;
                if !query.chars().any(char::is_alphanumeric) {
                    return Err(bad_search(SearchError::NoWords));
                }
                if !self.journaled.keeps_history {
                    let message = "this server keeps no history that could be searched";
                    return Err(Refusal::new(Code::Unavailable, message));
                }
                self.may_read(id)?;
                let (before, limit) = self.window(*before, *limit);
                self.search(id, key, query.clone(), before, limit, commands);
                Ok(())
            }
        }
    }

    fn window(&self, before: Option<u64>, limit: Option<usize>) -> (Position, usize) {
        let most = self.bounds.page_entries;
        let present = self.journaled.position.next();
        // Not what is stored already and not yet told to anybody.
        (before.map_or(present, v1::position).min(present), limit.unwrap_or(most).clamp(1, most))
    }

    fn may_read(&mut self, id: MemberId) -> Result<(), Refusal> {
        match self.speaker_mut(id) {
            Some(speaker) if speaker.reads < READS_AT_ONCE => Ok(()),
            _ => Err(Refusal::new(Code::Busy, "wait for what you have asked for")),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a request and its circumstances")]
    fn hello<S: Stage>(
        &mut self,
        id: MemberId,
        name: Option<&str>,
        token: Option<&str>,
        session: Option<&str>,
        moment: Moment,
        stage: &mut S,
        commands: &mut Vec<Command>,
    ) -> Result<(), Refusal> {
        let Some(member) = self.member(id) else { return Ok(()) };
        if member.speaker.is_some() {
            return Err(Refusal::new(Code::BadOrder, "you have said hello already"));
        }
        let max_name = self.bounds.max_person_name_bytes;
        let name = name.map(|name| name::person_name(name, max_name)).transpose().map_err(|err| bad_name(&err))?;
        // A token that is not ours, or of a key that is lost, makes somebody new.
        let known = token.and_then(|token| self.identities.recognise(token));
        let person = known.unwrap_or_else(|| self.identities.new_person());
        // A person is called the same in all their tabs, here and at other instances, by the name that was given last.
        let named = match (name, self.naming(person)) {
            (None, Some(known)) => known,
            (name, _) => {
                let name = name.unwrap_or_else(|| shared(&format!("guest-{:04x}", person.0 & 0xffff)));
                self.named_anew(Author { id: person, name })
            }
        };
        self.call_anew(&named, stage);
        let Named { author, version: name_version } = named;
        let ghost = known.and(session).and_then(|session| self.connection_of(&author, session));
        let session = match ghost.and_then(|ghost| self.speaker_mut(ghost)) {
            Some(speaker) => speaker.session.clone(),
            None => self.identities.new_session(),
        };
        if let Some(ghost) = ghost {
            commands.push(Command::TakenOver(ghost));
            self.exit(ghost, moment.now);
        }
        self.people.entry(person).or_default().push(id);
        let token = self.identities.token(person);
        let welcome = Reply::Welcome {
            you: Person::known(&author),
            token: &token,
            session: &session.0,
            limits: self.limits(),
            server: Server::THIS,
        };
        stage.send(id, framed::<S>(&welcome));
        if self.trouble.is_some() {
            stage.send(id, framed::<S>(&self.status()));
        }
        let (says, asks) = (Bucket::full(moment.now), Bucket::full(moment.now));
        if let Some(member) = self.member_mut(id) {
            member.speaker = Some(Box::new(Speaker { author, name_version, session, says, asks, reads: 0 }));
        }
        Ok(())
    }

    /// The connection of a person that has this session's secret.
    fn connection_of(&self, author: &Author, session: &str) -> Option<MemberId> {
        let is_it = |id: &&MemberId| {
            let speaker = self.member(**id).and_then(|member| member.speaker.as_ref());
            speaker.is_some_and(|speaker| speaker.session == Session(session.to_owned()))
        };
        self.people.get(&author.id)?.iter().find(is_it).copied()
    }

    fn limits(&self) -> Limits {
        let bounds = &self.bounds;
        Limits {
            message_bytes: bounds.max_message_bytes,
            text_bytes: bounds.max_text_bytes,
            name_bytes: bounds.max_person_name_bytes,
            room_bytes: bounds.max_room_name_bytes,
            nonce_bytes: bounds.max_nonce_bytes,
            rooms: bounds.max_rooms_per_member,
            page_entries: bounds.page_entries,
            backfill_entries: bounds.backfill_entries,
            say_per_second: bounds.say.per_second,
            say_burst: bounds.say.burst,
        }
    }

    fn join(&mut self, id: MemberId, room: &str, after: Option<u64>, epoch: Option<&str>) -> Result<(), Refusal> {
        let name = RoomName::new(room, self.bounds.max_room_name_bytes)
            .map_err(|err| Refusal::new(Code::BadRoom, format!("room: {err}")))?;
        let Some(member) = self.member(id) else { return Ok(()) };
        if let Some(key) = self.by_name.get(&name)
            && member.seats.iter().any(|seat| seat.room == *key)
        {
            return Err(Refusal::new(Code::AlreadyJoined, "you are in this room"));
        }
        let most = self.bounds.max_rooms_per_member;
        if member.seats.len() >= most {
            let message = format!("you are in {most} rooms, which is as many as can be");
            return Err(Refusal::new(Code::TooManyRooms, message));
        }
        let start = match after {
            None => Start::Newest,
            Some(after) => self.start_after(epoch.and_then(v1::epoch), v1::position(after)),
        };
        self.sit(id, name, start);
        Ok(())
    }

    fn say(
        &mut self,
        id: MemberId,
        room: &str,
        text: &str,
        nonce: &str,
        moment: Moment,
        commands: &mut Vec<Command>,
    ) -> Result<(), Refusal> {
        if nonce.is_empty() || nonce.len() > self.bounds.max_nonce_bytes {
            let message = format!("a nonce has 1 to {} bytes", self.bounds.max_nonce_bytes);
            return Err(Refusal::new(Code::BadNonce, message));
        }
        let key = self.joined_room(id, room)?;
        if text.trim().is_empty() {
            return Err(Refusal::new(Code::BadText, "the text is empty".to_owned()));
        }
        if text.len() > self.bounds.max_text_bytes {
            let message = format!("a text has at most {} bytes in UTF-8", self.bounds.max_text_bytes);
            return Err(Refusal::new(Code::BadText, message));
        }
        if moment.intake == Intake::Full {
            let message = "the server has too much to do, try again".to_owned();
            return Err(Refusal::new(Code::Busy, message).again_in(Duration::from_secs(1)));
        }
        let Some(author) = self.author(id) else { return Ok(()) };
        self.wrote(key, author.id);
        if let Some(member) = self.member_mut(id) {
            member.in_flight += 1;
        }
        commands.push(Command::Append(Draft {
            room: self.rooms[key].name.clone(),
            origin: Some(id),
            author: Some(author),
            nonce: Some(Nonce(nonce.into())),
            at: moment.at,
            content: Content::Text(text.to_owned().into()),
        }));
        Ok(())
    }

    fn rename<S: Stage>(&mut self, id: MemberId, name: &str, stage: &mut S) -> Result<(), Refusal> {
        let name = name::person_name(name, self.bounds.max_person_name_bytes).map_err(|err| bad_name(&err))?;
        let Some(mut author) = self.author(id) else { return Ok(()) };
        author.name = name;
        self.call(&self.named_anew(author), stage);
        Ok(())
    }

    /// Calls a person so, wherever they are.
    pub(super) fn call<S: Stage>(&mut self, named: &Named, stage: &mut S) {
        let author = &named.author;
        for connection in self.people.get(&author.id).cloned().unwrap_or_default() {
            let Some(speaker) = self.speaker_mut(connection) else { continue };
            speaker.author = author.clone();
            speaker.name_version = named.version;
            stage.send(connection, framed::<S>(&Reply::Renamed { you: Person::known(author) }));
            let rooms: Vec<usize> =
                self.member(connection).map_or_else(Vec::new, |it| it.seats.iter().map(|seat| seat.room).collect());
            for key in rooms {
                self.renamed(key, author);
            }
        }
    }

    pub(super) fn author(&self, id: MemberId) -> Option<Author> {
        Some(self.member(id)?.speaker.as_ref()?.author.clone())
    }

    /// The key of a room in which the member is.
    fn joined_room(&self, id: MemberId, room: &str) -> Result<usize, Refusal> {
        let name = RoomName::new(room, self.bounds.max_room_name_bytes)
            .map_err(|err| Refusal::new(Code::BadRoom, format!("room: {err}")))?;
        let key = self.by_name.get(&name).copied();
        let seats = self.member(id).map(|member| &member.seats);
        key.filter(|key| seats.is_some_and(|seats| seats.iter().any(|seat| seat.room == *key)))
            .ok_or_else(|| Refusal::new(Code::NotJoined, "join this room first"))
    }

    /// A member has said again what is known: it alone is given the original.
    pub fn repeated<S: Stage>(&mut self, original: &Entry, stage: &mut S) {
        self.landed(original.origin);
        let Some(id) = original.origin else { return };
        if self.member(id).is_some_and(|member| member.speaker.is_some()) {
            stage.send(id, framed::<S>(&Said::again(original)));
        }
    }

    /// Whether what is said gets through has changed: everybody is told, and whoever comes as long as it does not.
    pub fn journal_status<S: Stage>(&mut self, trouble: Option<Trouble>, stage: &mut S) {
        if self.trouble != trouble {
            self.trouble = trouble;
            let status = self.status();
            self.announce(stage, |_| status.clone());
        }
    }

    fn status(&self) -> Reply<'static> {
        match self.trouble {
            None => Reply::Status { journal: "ok", bus: None },
            Some(Trouble::Store) => Reply::Status { journal: "waiting", bus: None },
            Some(Trouble::Bus) => Reply::Status { journal: "waiting", bus: Some("down") },
        }
    }

    /// The journal has not taken what a member said.
    pub fn refused<S: Stage>(&mut self, draft: &Draft, stage: &mut S, commands: &mut Vec<Command>) {
        self.landed(draft.origin);
        let Some(id) = draft.origin else { return };
        match self.member(id).map(|member| member.speaker.is_some()) {
            Some(true) => {
                let message = "what is said cannot be stored now, try again later";
                let nonce = draft.nonce.as_ref().map(|nonce| &*nonce.0);
                let about = Subject { request: Some("say"), room: Some(draft.room.as_str()), nonce };
                let refusal = Refusal::new(Code::Unavailable, message).again_in(Duration::from_secs(2));
                Self::refuse(id, about, &refusal, stage);
            }
            Some(false) => commands.push(Command::Unheard(id)),
            None => {}
        }
    }

    /// What a member asked for by `request` cannot be read.
    pub(super) fn refuse_read<S: Stage>(
        id: MemberId,
        request: &'static str,
        room: &RoomName,
        error: SearchError,
        stage: &mut S,
    ) {
        let about = Subject { request: Some(request), room: Some(room.as_str()), nonce: None };
        Self::refuse(id, about, &bad_search(error), stage);
    }

    /// What a member asked for by `request` has been read, and it has not taken what it was sent before.
    pub(super) fn refuse_answer<S: Stage>(id: MemberId, request: &'static str, room: &RoomName, stage: &mut S) {
        let about = Subject { request: Some(request), room: Some(room.as_str()), nonce: None };
        Self::refuse(id, about, &outbox_full(), stage);
    }
}

/// A member that has not taken what it was sent is not answered more.
fn outbox_full() -> Refusal {
    Refusal::new(Code::Busy, "take what you have been sent, then ask again").again_in(Duration::from_secs(1))
}

fn too_fast(wait: Duration) -> Refusal {
    Refusal::new(Code::TooFast, "too much in too little time").again_in(wait)
}

fn bad_search(error: SearchError) -> Refusal {
    match error {
        SearchError::Unavailable => {
            Refusal::new(Code::Unavailable, "the history cannot be read now").again_in(Duration::from_secs(2))
        }
        SearchError::NoWords | SearchError::TooManyWords { .. } => Refusal::new(Code::BadQuery, error.to_string()),
    }
}

fn bad_name(err: &NameError) -> Refusal {
    Refusal::new(Code::BadName, format!("name: {err}"))
}
