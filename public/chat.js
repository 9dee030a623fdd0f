/**
 * The conversation with the server, in chat.v1 (docs/PROTOCOL.md): one connection for all rooms.
 *
 * It enters the rooms of the store whenever there is a connection, from where each was left; says what the outbox holds,
 * one text of a room after the other so that they keep their order; and asks for what was said before.
 */

import { Connection } from "./connection.js";
import { History } from "./history.js";
import { friendlyName, refusal } from "./strings.js";

/** A client tells at most this often that somebody is writing. */
const TYPING_EVERY_MS = 3_000;
/** How soon a text is said again that was refused for now without a time to wait. */
const RETRY_MS = 1_000;
/** How long a connection that may be dead has to show that it is not. */
const PROBE_MS = 5_000;
/** RFC 6455, section 7.4.1: what was sent is longer than the server takes. */
const TOO_BIG = 1009;
/** Refusals that pass by themselves. */
const PASSING = ["too_fast", "busy", "unavailable"];

export class Chat {
  #store;
  #outbox;
  #settings;
  #connection;
  /** Our token and session as of the last welcome. */
  #token = null;
  #session = null;
  /** The nonce that is under way in each room. @type {Map<string, string>} */
  #underWay = new Map();
  /** @type {Map<string, number>} timers of rooms whose texts have to wait */
  #pauses = new Map();
  /** Rooms that the server has us in, or will have. @type {Set<string>} */
  #seats = new Set();
  #typedAt = 0;
  /** Whether our name was refused, so that the server has to find one. */
  #nameless = false;
  /** The name that the server was asked for, and has not answered about. @type {string | null} */
  #wish = null;

  /**
   * @param {string} url
   * @param {import("./store.js").Store} store
   * @param {import("./outbox.js").Outbox} outbox
   * @param {import("./settings.js").Settings} settings
   */
  constructor(url, store, outbox, settings) {
    this.#store = store;
    this.#outbox = outbox;
    this.#settings = settings;
    this.#connection = new Connection(url, () => this.#hello());
    /** What was said before. */
    this.history = new History(store, (frame) => this.#connection.send(frame));
    this.#connection.addEventListener("status", ({ detail }) => store.setStatus(detail));
    this.#connection.addEventListener("frame", ({ detail }) => this.#receive(detail));
    this.#connection.addEventListener("lost", ({ detail }) => this.#lost(detail));
    this.#connection.addEventListener("wake", () => this.#connection.send({ type: "history", room: "", limit: 1 }, PROBE_MS));
    // Two tabs that were both somebody new: the one that stored its token first follows the other.
    settings.addEventListener("token", () => {
      if (this.#token !== null && settings.get("token", "") !== this.#token) {
        this.#session = null;
        this.#connection.renew();
      }
    });
    for (const type of ["rooms", "current"]) {
      store.addEventListener(type, () => this.#sync());
    }
    outbox.addEventListener("change", () => this.#speakEverywhere());
  }

  start() {
    this.#connection.start();
  }

  retry() {
    this.#connection.retryNow();
  }

  /** Notes down what is to be said; it is said as soon as it can be. */
  say(room, text) {
    room.line = null;
    room.past = null;
    // A WebSocket replaces lone surrogates.
    this.#outbox.add(room.name, text.toWellFormed?.() ?? text);
  }

  typing(room) {
    if (room.state === "joined" && Date.now() - this.#typedAt > TYPING_EVERY_MS) {
      this.#typedAt = Date.now();
      this.#connection.send({ type: "typing", room: room.name }, Infinity);
    }
  }

  /** Asks for another name, in normal form C; without a connection it is taken at once, and goes with the next hello. */
  rename(name) {
    // Also behind a hello: its welcome brings the former name.
    if (this.#connection.send({ type: "rename", name })) {
      this.#wish = name;
    } else {
      this.#wish = null;
      this.#store.setMe({ ...this.#store.me, name });
    }
  }

  /** Leaves a room, once what was written in it is said. */
  leave(room) {
    this.#store.forget(room);
  }

  // The connection

  #hello() {
    const name = this.#nameless ? undefined : this.#settings.get("name", "") || friendlyName();
    return { type: "hello", name, token: this.#settings.get("token", "") || undefined, session: this.#session ?? undefined };
  }

  #receive(frame) {
    const room = this.#store.rooms.get(frame.room);
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "joined":
        return room && this.#joined(room, frame);
      case "said":
        this.#confirm(frame);
        return room && this.#store.said(room, frame);
      case "behind":
        return room && this.#store.setBehind(room, true);
      case "presence":
        return room && this.#store.presence(room, frame);
      case "typing":
        return room && this.#store.setTyping(room, frame.names);
      case "gap":
        return room && this.#store.gap(room, frame);
      case "history":
      case "found":
        this.history.answered(frame);
        return this.#sync();
      case "renamed":
        if (frame.you.name === this.#wish) {
          this.#wish = null;
        }
        return this.#store.setMe(frame.you);
      case "status":
        return this.#store.setJournal(frame.journal, frame.bus);
      case "error":
        return this.#refused(frame, room);
      default:
        return undefined;
    }
  }

  #welcome({ you, token, session, limits }) {
    this.#token = token;
    this.#session = session;
    this.#nameless = false;
    if (this.#settings.get("token", "") !== token) {
      this.#settings.set("token", token);
    }
    this.#store.limits = { ...this.#store.limits, ...limits };
    this.#store.setJournal("ok");
    this.#store.setMe(you);
    this.#sync();
    this.#outbox.adopt();
  }

  /** Enters the rooms of the list, the one that is looked at first, and leaves those that are not in it any more. */
  #sync() {
    if (!this.#connection.isOpen) {
      return;
    }
    const { current, rooms, limits } = this.#store;
    for (const name of this.#seats) {
      if ((rooms.get(name)?.state ?? "apart") === "apart") {
        this.#leaveWhenSaid(name);
      }
    }
    const seated = [...rooms.values()].filter(({ state }) => state === "joined" || state === "joining");
    const wanting = [...rooms.values()].filter(({ state }) => state === "apart");
    wanting.sort((one, other) => (other === current) - (one === current));
    for (const room of wanting) {
      if (seated.length >= limits.rooms) {
        if (room !== current) {
          break;
        }
        const other = seated.shift();
        other.state = "apart";
        this.#leaveWhenSaid(other.name);
      }
      const since = room.epoch === null ? {} : { after: room.position, epoch: room.epoch };
      room.state = "joining";
      this.#store.setBehind(room, false);
      seated.push(room);
      this.#seats.add(room.name);
      this.#connection.send({ type: "join", room: room.name, ...since });
    }
  }

  #joined(room, frame) {
    for (const { nonce, from } of frame.entries) {
      this.#confirm({ nonce, from });
    }
    this.#store.joined(room, frame);
    this.#speak(room.name);
  }

  /**
   * Leaves a room as soon as what was written in it has been said, and what was asked has been answered: who has left
   * does not hear it any more.
   */
  #leaveWhenSaid(name) {
    if (!this.#outbox.next(name) && !this.#underWay.has(name) && !this.history.isAsking(name)) {
      this.#seats.delete(name);
      this.#connection.send({ type: "leave", room: name });
    }
  }

  // Saying

  #speakEverywhere() {
    for (const name of new Set(this.#outbox.drafts.filter(({ state }) => state === "waiting").map(({ room }) => room))) {
      const room = this.#store.rooms.get(name);
      if (room?.state === "joined" || (!room && this.#seats.has(name))) {
        this.#speak(name);
      } else if (!room) {
        // What was written in a room that was left since still wants to be said there.
        this.#store.enter(name);
      } else if (room.state === "refused") {
        // Whoever tries again has a reason to.
        room.state = "apart";
      }
    }
    this.#sync();
    this.#store.changed(this.#store.current);
  }

  #speak(name) {
    const draft = this.#outbox.next(name);
    if (draft && !this.#underWay.has(name) && !this.#pauses.has(name)) {
      const { room, text, nonce } = draft;
      if (this.#connection.isOpen && this.#connection.send({ type: "say", room, text, nonce })) {
        this.#underWay.set(name, nonce);
      }
    }
  }

  #confirm({ nonce, from }) {
    if (nonce && this.#store.isMe(from.id)) {
      for (const [name, underWay] of this.#underWay) {
        if (underWay === nonce) {
          this.#underWay.delete(name);
        }
      }
      this.#outbox.remove(nonce);
    }
  }

  #refused(frame, room) {
    const { request, code, message, nonce, retry_ms: retryMs } = frame;
    if (request === "say" && nonce) {
      this.#unsaid(frame);
    } else if (request === "history" || request === "search") {
      // That of a probe, which names no room, has done its work by coming.
      if (frame.room !== "") {
        this.history.refused({ ...frame, message: refusal(code, message) });
        this.#sync();
      }
    } else if (request === "hello" && code === "bad_name") {
      // A name of former days that is not allowed any more.
      this.#nameless = true;
      this.#connection.greetAgain();
    } else if (request === "join" && room) {
      this.#seats.delete(room.name);
      if (retryMs !== undefined || code === "busy" || code === "too_many_rooms") {
        room.state = "apart";
        setTimeout(() => this.#sync(), retryMs ?? RETRY_MS);
      } else if (code === "already_joined") {
        // It was left, and entered again before what was written in it had been said.
        room.state = "apart";
        this.#connection.send({ type: "leave", room: room.name });
        this.#sync();
      } else {
        const reason = refusal(code, message);
        this.#store.refuse(room, reason);
        this.#outbox.of(room.name).forEach(({ nonce }) => this.#outbox.fail(nonce, reason));
      }
    } else if (request === "rename" && PASSING.includes(code)) {
      setTimeout(() => this.#wish !== null && this.rename(this.#wish), retryMs ?? RETRY_MS);
    } else if (request === "rename") {
      this.#wish = null;
      this.#store.dispatchEvent(new CustomEvent("refused", { detail: refusal(code, message) }));
    } else if (request === "leave" && PASSING.includes(code)) {
      this.#seats.add(frame.room);
      setTimeout(() => this.#sync(), retryMs ?? RETRY_MS);
    }
  }

  #unsaid({ room: name, code, message, nonce, retry_ms: retryMs }) {
    this.#underWay.delete(name);
    if (PASSING.includes(code) && (retryMs !== undefined || code !== "unavailable")) {
      const timer = setTimeout(() => {
        this.#pauses.delete(name);
        this.#speak(name);
      }, retryMs ?? RETRY_MS);
      this.#pauses.set(name, timer);
    } else if (code === "not_joined") {
      // The server has us elsewhere than we thought: what was to be said is said once we are in.
      this.#seats.delete(name);
      const room = this.#store.rooms.get(name);
      if (room?.state === "joined") {
        room.state = "apart";
      }
      this.#sync();
    } else {
      this.#outbox.fail(nonce, refusal(code, message));
    }
  }

  #lost(code) {
    const underWay = [...this.#underWay.values()];
    this.#underWay.clear();
    this.#seats.clear();
    for (const timer of this.#pauses.values()) {
      clearTimeout(timer);
    }
    this.#pauses.clear();
    this.history.lost();
    if (this.#wish !== null) {
      this.rename(this.#wish);
    }
    if (code === TOO_BIG) {
      underWay.forEach((nonce) => this.#outbox.fail(nonce, ""));
    }
    this.#store.changed(this.#store.current);
  }
}
