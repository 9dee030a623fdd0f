/**
 * What the page knows: who we are, the rooms, what was said in them, who is there, and how the connection is doing.
 *
 * Changes come in through the methods and go out as events; the store has never seen a socket or an element.
 *
 * Events, with the room as `detail` where it is about one: `status`, `journal`, `me`, `current`, `rooms` (the list and
 * its counts), `log`, `people`, `typing`; and `heard` with `{room, item}` for what somebody else has said just now.
 */

import { decoded } from "./content.js";
import { Room } from "./room.js";

/** Rooms remembered after they were left. */
const MAX_FORMER = 10;
/** Items kept of a conversation of which somebody reads what was said before. */
const MAX_UNREAD_ITEMS = 40_000;
/** What was read is stored no more often than this. */
const READ_STORE_MS = 250;

export class Store extends EventTarget {
  status = { phase: "connecting", retryAt: null, restarting: false };
  /**
   * Whether what is said gets through: `waiting` if the server cannot store it, `apart` if it cannot reach the bus.
   *
   * @type {"ok" | "waiting" | "apart"}
   */
  journal = "ok";
  /** @type {{id: string | null, name: string}} */
  me = { id: null, name: "" };
  /** Those of the server's `welcome`; until then what it has by default. */
  limits = { message_bytes: 65_536, text_bytes: 16_384, name_bytes: 64, room_bytes: 64, rooms: 50, page_entries: 100 };
  /** @type {Map<string, Room>} those we are in, or want to be */
  rooms = new Map();
  /** @type {string[]} names of those we were in */
  former = [];
  /** @type {Room} */
  current;
  /** Whether the reader sees what is said in the current room as it is said. */
  attending = false;
  #settings;
  /** All that we have been since the page was loaded: a server that forgets gives a new id. */
  #mine = new Set();
  #readTimer = 0;

  /**
   * @param {import("./settings.js").Settings} settings
   * @param {string} room the one that is looked at first
   */
  constructor(settings, room) {
    super();
    this.#settings = settings;
    this.me.name = settings.get("name", "");
    this.#readRooms();
    this.current = this.enter(room);
    settings.addEventListener("rooms", () => this.#readRooms());
    settings.addEventListener("read", () => this.#readElsewhere());
  }

  // Ourselves and the connection

  setStatus(status) {
    this.status = status;
    if (status.phase !== "connected") {
      for (const room of this.rooms.values()) {
        room.state = room.state === "refused" ? "refused" : "apart";
        room.typing = [];
      }
      this.#tell("typing", this.current);
    }
    this.#tell("status");
  }

  setJournal(journal, bus) {
    this.journal = journal === "waiting" && bus === "down" ? "apart" : journal;
    this.#tell("journal");
  }

  /** @param {{id: string, name: string}} me */
  setMe(me) {
    this.me = me;
    this.#mine.add(me.id);
    this.#settings.set("name", me.name);
    this.#tell("me");
    this.#tell("people", this.current);
  }

  /** Whether that is us, or was since the page was loaded. @param {string | null} id */
  isMe(id) {
    return this.#mine.has(id);
  }

  // Rooms

  /** @returns {Room} the room, which is now in the list */
  enter(name) {
    const known = this.rooms.get(name);
    if (known) {
      return known;
    }
    const room = new Room(name);
    this.rooms.set(name, room);
    this.former = this.former.filter((other) => other !== name);
    this.#storeRooms();
    return room;
  }

  /** Makes a room the one that is looked at. */
  setCurrent(room) {
    this.setAttending(false);
    this.current = room;
    room.past = null;
    this.#tell("current", room);
  }

  forget(room) {
    this.rooms.delete(room.name);
    const left = room.state === "refused" ? [] : [room.name];
    this.former = [...left, ...this.former.filter((name) => name !== room.name)].slice(0, MAX_FORMER);
    this.#storeRooms();
  }

  refuse(room, reason) {
    room.state = "refused";
    room.refusal = reason;
    this.#storeRooms();
    this.#tell("log", room);
  }

  #readRooms() {
    const stored = this.#settings.get("rooms", {});
    const names = (list) => (Array.isArray(list) ? list.filter((name) => typeof name === "string") : []);
    const [open, former] = [names(stored.open), names(stored.former)];
    for (const name of open.filter((name) => !this.rooms.has(name))) {
      this.rooms.set(name, new Room(name));
    }
    for (const name of [...this.rooms.keys()].filter((name) => !open.includes(name) && name !== this.current?.name)) {
      this.rooms.delete(name);
    }
    this.former = former.filter((name) => !this.rooms.has(name));
    this.#tell("rooms");
  }

  #storeRooms() {
    const open = [...this.rooms.values()].filter(({ state }) => state !== "refused").map(({ name }) => name);
    this.#settings.set("rooms", { open, former: this.former });
    this.#tell("rooms");
  }

  /** Whether a room that we are about to enter waits for what the server has not heard yet. */
  setBehind(room, behind) {
    if (room.behind !== behind) {
      room.behind = behind;
      this.#tell("rooms");
    }
  }

  // What is said

  /** What `joined` says. */
  joined(room, frame) {
    const first = room.epoch === null;
    const anew = !first && room.epoch !== frame.epoch;
    // A page that reaches back to what was heard leaves nothing out.
    const missed = frame.gap && !frame.entries.some(({ position }) => position <= room.position);
    const isApart = !first && (anew || missed) && room.live.items.length > 0;
    if (isApart) {
      const cause = anew ? "anew" : frame.older ? "missed" : "lost";
      room.live.append({ kind: "gap", key: `gap:${room.era}:${room.position}:${frame.position}`, era: room.era,
        from: anew ? 0 : room.position, cause, fillable: frame.older });
    }
    if (anew) {
      this.#beginAnew(room);
    }
    if (!isApart && (first || anew || missed)) {
      room.live.older = frame.older;
    }
    room.epoch = frame.epoch;
    room.state = "joined";
    const read = this.#settings.get("read", {})[room.name];
    if (first) {
      // Who was never here has nothing to catch up on.
      room.read = !read ? frame.position : read.epoch === frame.epoch ? read.position : 0;
    }
    const items = frame.entries.map((entry) => this.item(room, entry));
    const fresh = room.live.merge(items);
    room.position = frame.position;
    // Also whoever was here all the time has not seen what comes now: the line marks it.
    this.attending = false;
    for (const item of fresh) {
      this.#count(room, item);
    }
    room.people = new Map(frame.members.names.map(({ id, name }) => [id, name]));
    room.count = frame.members.count;
    this.#tell("rooms");
    this.#tell("log", room);
    this.#tell("people", room);
  }

  /** What `said` says. */
  said(room, frame) {
    const item = this.item(room, frame);
    if (!frame.repeat) {
      room.position = Math.max(room.position, frame.position);
    } else if (!room.live.reachesBackTo(item)) {
      // It was said before what is loaded, and comes with the page it stands on.
      return;
    }
    if (!room.live.push(item)) {
      return;
    }
    if (room !== this.current || this.attending) {
      room.live.trim();
    } else {
      room.live.trim(MAX_UNREAD_ITEMS);
    }
    room.typing = room.typing.filter(({ id }) => id !== item.id);
    this.#tell("typing", room);
    this.#count(room, item);
    if (!item.own) {
      this.#tell("heard", { room, item });
    }
    this.#tell("log", room);
  }

  /** What `gap` says: what was lost before we could take it. Positions may belong to another epoch from now on. */
  gap(room, { position, epoch = room.epoch }) {
    const anew = epoch !== room.epoch;
    room.live.append({ kind: "gap", key: `gap:${room.era}:${room.position}:${position}`, era: room.era,
      from: anew ? 0 : room.position, cause: anew ? "anew" : "lost", fillable: anew });
    if (anew) {
      this.#beginAnew(room);
    }
    room.epoch = epoch;
    room.position = position;
    this.#tell("log", room);
    this.#tell("rooms");
  }

  /** Forgets the positions of the room's former epoch: they mean nothing any more. */
  #beginAnew(room) {
    room.era += 1;
    room.read = 0;
    room.past = null;
    // What is older than the first item is of that epoch, too, and not to be had.
    room.live.older = false;
  }

  /** An entry of the server as an item. */
  item(room, { position, nonce, from, text, data, at, matches }) {
    const content = text === undefined ? decoded(data ?? "") : { text, bytes: null };
    return { kind: "said", key: nonce ? `${from.id}:${nonce}` : `${room.era}:${position}`, era: room.era, position,
      rank: 0, id: from.id, name: from.name, own: this.isMe(from.id), at, nonce, matches, ...content };
  }

  /** Tells everybody that the conversation, or what is loaded of it, has changed. */
  changed(room) {
    this.#tell("log", room);
  }

  // What was read

  /** @param {boolean} attending whether the reader now sees the end of the current room */
  setAttending(attending) {
    if (this.attending && !attending && this.current.unread === 0) {
      this.current.line = null;
    }
    this.attending = attending && this.current.epoch !== null;
    if (this.attending) {
      this.#read(this.current);
    }
  }

  #count(room, item) {
    if (item.own) {
      return;
    }
    if (room === this.current && this.attending) {
      room.read = Math.max(room.read, item.position);
      this.#storeReadSoon();
    } else if (item.position > room.read) {
      room.line ??= { era: room.era, position: room.read };
      room.unread += 1;
      room.mentioned ||= this.mentions(item.text ?? "");
      this.#tell("rooms");
    }
  }

  #read(room) {
    if (room.epoch !== null && (room.read < room.position || room.unread > 0)) {
      room.read = room.position;
      room.unread = 0;
      room.mentioned = false;
      this.#storeReadSoon();
      this.#tell("rooms");
    }
  }

  #storeReadSoon() {
    this.#readTimer ||= setTimeout(() => this.storeRead(), READ_STORE_MS);
  }

  /** Stores now what was read. */
  storeRead() {
    clearTimeout(this.#readTimer);
    this.#readTimer = 0;
    const stored = this.#settings.get("read", {});
    // What was read in rooms that are forgotten is forgotten as well.
    const { open = [], former = [] } = this.#settings.get("rooms", {});
    const known = new Set([...open, ...former, ...this.rooms.keys()]);
    const read = Object.fromEntries(Object.entries(stored).filter(([name]) => known.has(name)));
    for (const { name, epoch, read: position } of this.rooms.values()) {
      if (epoch !== null && (read[name]?.epoch !== epoch || read[name].position < position)) {
        read[name] = { epoch, position };
      }
    }
    this.#settings.set("read", read);
  }

  #readElsewhere() {
    const read = this.#settings.get("read", {});
    for (const room of this.rooms.values()) {
      const there = read[room.name];
      if (there?.epoch === room.epoch && there.position > room.read) {
        room.read = there.position;
        const unread = room.live.items.filter(
          (item) => item.kind === "said" && item.era === room.era && !item.own && item.position > room.read);
        room.unread = unread.length;
        room.mentioned = unread.some(({ text }) => this.mentions(text ?? ""));
        this.#tell("rooms");
      }
    }
  }

  /** Whether a text speaks to us. @param {string} text */
  mentions(text) {
    const name = this.me.name.toLowerCase();
    const lower = text.toLowerCase();
    for (let at = lower.indexOf(`@${name}`); name !== "" && at >= 0; at = lower.indexOf(`@${name}`, at + 1)) {
      const around = [lower[at - 1] ?? " ", lower[at + 1 + name.length] ?? " "];
      if (!around.some((character) => /[\p{L}\p{N}_]/u.test(character))) {
        return true;
      }
    }
    return false;
  }

  // Who is there

  presence(room, { joined = [], left = [], renamed = [], count, names }) {
    const came = joined.filter(({ id }) => !room.people.has(id) && id !== this.me.id);
    const went = left.filter((id) => room.people.has(id)).map((id) => ({ id, name: room.people.get(id) }));
    if (names) {
      room.people = new Map(names.map(({ id, name }) => [id, name]));
    }
    for (const { id, name } of [...joined, ...renamed]) {
      room.people.set(id, name);
    }
    for (const id of left) {
      room.people.delete(id);
    }
    room.typing = room.typing.filter(({ id }) => !left.includes(id));
    room.count = count;
    if (came.length + went.length > 0 && room.live.items.length > 0) {
      this.#note(room, came, went);
    }
    this.#tell("people", room);
  }

  /** Tells who came and went since somebody spoke last, all in one place. */
  #note(room, came, went) {
    const last = room.live.last;
    const isNote = last?.kind === "notice";
    const note = isNote ? { came: new Map(last.came), went: new Map(last.went) } : { came: new Map(), went: new Map() };
    for (const { id, name } of came) {
      note.went.delete(id) || note.came.set(id, name);
    }
    for (const { id, name } of went) {
      note.came.delete(id) || note.went.set(id, name);
    }
    if (isNote) {
      room.live.remove(last);
    }
    if (note.came.size + note.went.size > 0) {
      const end = room.live.last;
      room.live.append({ kind: "notice", key: `notice:${end?.key}`, era: room.era, ...note });
    }
    this.#tell("log", room);
  }

  setTyping(room, names) {
    room.typing = names.filter(({ id }) => id !== this.me.id);
    this.#tell("typing", room);
  }

  /**
   * @param {string} type
   * @param {unknown} [detail]
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
