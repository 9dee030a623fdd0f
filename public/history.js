/**
 * What was said before: pages of it, stretches around a message, what is missing at a gap, and the search.
 *
 * Answers do not name their questions, so one is asked after the other.
 */

import { Timeline } from "./timeline.js";

/** What a question is refused with that could not be asked, or whose answer did not come. */
const OFFLINE = { code: "offline", message: "" };

/** How soon a refused page is asked for again that came without a time to wait. */
const PATIENCE_MS = 1_000;

/**
 * @typedef {{items: import("./timeline.js").Item[], more: boolean}} Page `more`: there is something older
 */

export class History {
  #store;
  #send;
  /** The first is being answered. @type {{frame: object, room: object, resolve: Function, reject: Function}[]} */
  #questions = [];
  /** What is being loaded: for each timeline or gap, in which direction. @type {WeakMap<object, Set<string>>} */
  #busy = new WeakMap();

  /**
   * @param {import("./store.js").Store} store
   * @param {(frame: object) => boolean} send tells whether it is on its way
   */
  constructor(store, send) {
    this.#store = store;
    this.#send = send;
  }

  /** Loads the page before what is shown of a room. */
  older(room) {
    const timeline = room.shown;
    return this.#load(room, timeline, "older", async () => {
      const first = timeline.first(({ kind, era }) => kind === "said" && era === room.era);
      const { items, more } = await this.#page(room, first?.position);
      timeline.merge(items);
      timeline.older = more && items.length > 0;
    });
  }

  /** Loads what follows a stretch of the past, until it meets the present. */
  newer(room) {
    const timeline = room.past;
    return this.#load(room, timeline, "newer", async () => {
      const start = room.live.first(({ kind, era }) => kind === "said" && era === room.era)?.position ?? Infinity;
      const items = await this.#after(room, timeline.last.position, start);
      timeline.merge(items);
      if (timeline === room.past && (items.length === 0 || timeline.last.position >= start)) {
        room.live.merge(timeline.items);
        room.live.older = timeline.older;
        room.past = null;
      }
    });
  }

  /** Loads the page that is missing at a gap, from its newer end. */
  fill(room, gap) {
    const timeline = room.live;
    return this.#load(room, gap, "fill", async () => {
      const behind = timeline.items.slice(timeline.indexOf(gap)).find(({ kind }) => kind === "said");
      const { items, more } = await this.#page(room, behind?.position);
      timeline.merge(items.filter(({ position }) => position > gap.from));
      if (gap.cause === "missed" && items.some(({ position }) => position <= gap.from)) {
        timeline.remove(gap);
      } else if (!more || items.length === 0) {
        gap.fillable = false;
        gap.cause = gap.cause === "missed" ? "lost" : gap.cause;
      }
    });
  }

  /**
   * Shows the stretch of a room around a position.
   *
   * @returns {Promise<import("./timeline.js").Item | undefined>} what stands there
   */
  async visit(room, position) {
    const find = (timeline) =>
      timeline?.first((item) => item.kind === "said" && item.era === room.era && item.position === position);
    const known = find(room.live);
    if (known) {
      room.past = null;
    } else if (!find(room.past)) {
      await this.#load(room, room, "visit", async () => {
        const { items, more } = await this.#page(room, position + 1 + Math.floor(this.#store.limits.page_entries / 2));
        room.past = new Timeline();
        room.past.merge(items);
        room.past.older = more;
      });
    }
    this.#store.changed(room);
    return known ?? find(room.past);
  }

  /**
   * Looks for something; rejects with the server's `code` and `message`.
   *
   * @returns {Promise<Page>}
   */
  search(room, query, before) {
    return this.#ask(room, { type: "search", room: room.name, query, before });
  }

  /** Whether the server owes an answer about a room. @param {string} name */
  isAsking(name) {
    return this.#questions[0]?.room.name === name;
  }

  // Answers

  /** @param {{entries: object[], more: boolean}} frame a `history` or `found` */
  answered({ entries, more }) {
    this.#settle(({ resolve, room }) => resolve({ items: entries.map((entry) => this.#store.item(room, entry)), more }));
  }

  /** @param {{code: string, message: string}} error the refusal of a question */
  refused(error) {
    this.#settle(({ reject }) => reject(error));
  }

  /** The connection is gone, and with it every answer. */
  lost() {
    for (const { reject } of this.#questions.splice(0)) {
      reject(OFFLINE);
    }
  }

  /** @returns {Promise<Page>} the newest before a position */
  #page(room, before) {
    return this.#ask(room, { type: "history", room: room.name, before, limit: this.#store.limits.page_entries });
  }

  /**
   * What follows a position, up to a page of it. The protocol pages backwards only, so this asks for what lies before a
   * guess, which is raised or halved until the answer has something new and begins no later than where we are.
   */
  async #after(room, position, limit) {
    let [low, high, step] = [0, Infinity, Math.max(1, this.#store.limits.page_entries - 1)];
    while (step > low && position + low + 1 < limit) {
      const { items, more } = await this.#page(room, Math.min(position + 1 + step, limit));
      const fresh = items.filter((item) => item.position > position);
      if (fresh.length === 0) {
        low = step;
      } else if (fresh.length < items.length || !more) {
        return fresh;
      } else {
        high = step;
      }
      step = high === Infinity ? step * 4 : Math.floor((low + high) / 2);
    }
    return [];
  }

  #ask(room, frame) {
    return new Promise((resolve, reject) => {
      this.#questions.push({ frame, room, resolve, reject });
      if (this.#questions.length === 1) {
        this.#askNext();
      }
    });
  }

  #askNext() {
    const [question] = this.#questions;
    if (question && (question.room.state !== "joined" || !this.#send(question.frame))) {
      this.#settle(({ reject }) => reject(OFFLINE));
    }
  }

  #settle(how) {
    const question = this.#questions.shift();
    if (question) {
      how(question);
    }
    this.#askNext();
  }

  /** Runs `work` unless it is under way. What cannot be loaded now is asked for again by who scrolls on. */
  async #load(room, subject, what, work) {
    const busy = this.#busy.get(subject) ?? new Set();
    this.#busy.set(subject, busy);
    if (busy.has(what)) {
      return;
    }
    busy.add(what);
    try {
      await work();
    } catch (error) {
      if (error instanceof Error) {
        throw error;
      }
      if (error !== OFFLINE) {
        await new Promise((resolve) => setTimeout(resolve, error.retry_ms ?? PATIENCE_MS));
      }
    } finally {
      busy.delete(what);
    }
    this.#store.changed(room);
  }
}
