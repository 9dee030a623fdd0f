/**
 * The log: a window on the conversation that moves with the reader.
 *
 * However long a room has been talking, only the rows around what is looked at are elements. Whoever reads at the end
 * stays there; whoever has scrolled up is left alone, whatever comes in below or is loaded above. Everything that has
 * changed is brought onto the page once per frame.
 */

import { byId } from "./dom.js";
import { makeRow, updateRow } from "./row.js";
import { strings } from "./strings.js";

/** This near the end of the log still counts as reading at its end. */
const END_TOLERANCE_PX = 40;
/** Rows at the end that are kept while the log moves along. */
const END_ROWS = 150;
/** Rows that are elements at most. */
const MAX_ROWS = 300;
/** Rows that are added when the reader comes near an end of the window. */
const STEP_ROWS = 60;
/** How near that is, in heights of the log. */
const NEAR = 1.5;
/** A hidden page draws no frames; it catches up this often instead. */
const HIDDEN_FRAME_MS = 250;
const HOUR_MS = 3_600_000;

export class Log {
  #store;
  #history;
  #outbox;
  #actions;
  #log = byId("messages");
  #newButton = byId("newButton");
  /** Rows by the key of their item. @type {Map<string, {row: HTMLElement, item: object, seen: string}>} */
  #rows = new Map();
  /** What is shown, and from which item to which. */
  #timeline = null;
  #top = null;
  #bottom = null;
  /** Whether the window reaches to the end of what is loaded: what comes in joins it as long as there is room. */
  #isOpen = true;
  /** Whether the reader is at the end of the log, and the log moves along. */
  #following = true;
  #frameRequested = false;
  /** A key to be brought into sight once it has a row. @type {string | null} */
  #wanted = null;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./history.js").History} history
   * @param {import("./outbox.js").Outbox} outbox
   * @param {(nonce: string) => void} edit gives a text that was not sent back to the box
   */
  constructor(store, history, outbox, edit) {
    this.#store = store;
    this.#history = history;
    this.#outbox = outbox;
    this.#actions = {
      fill: (gap) => history.fill(store.current, gap),
      retry: (nonce) => outbox.retry(nonce),
      edit,
    };
    store.addEventListener("current", () => this.#reset());
    store.addEventListener("log", ({ detail }) => detail === store.current && this.#soon());
    for (const type of ["rooms", "me", "status"]) {
      store.addEventListener(type, () => this.#soon());
    }
    this.#log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#attend() : this.#draw()));
    // The composer grew, a banner came, the keyboard of a phone opened: the end of the log stays in sight.
    new ResizeObserver(() => {
      if (this.#following) {
        this.#toEnd();
      }
    }).observe(this.#log);
    this.#newButton.addEventListener("click", () => {
      this.toPresent();
      byId("inputBox").focus();
    });
    // Midnight passes while the page is open, and what was today is yesterday.
    setInterval(() => {
      this.#rows.forEach((known) => (known.seen = ""));
      this.#soon();
    }, HOUR_MS);
  }

  /** Shows the newest there is, and moves along. */
  toPresent() {
    this.#store.current.past = null;
    this.#follow();
    this.#soon();
  }

  /** Turns a page. @param {1 | -1} direction */
  turnPage(direction) {
    this.#log.scrollBy({ top: direction * this.#log.clientHeight * 0.85 });
  }

  /** Shows a message where it stands in the conversation. */
  async show(position) {
    const item = await this.#history.visit(this.#store.current, position);
    if (item) {
      this.#following = false;
      const items = this.#store.current.shown.items;
      const index = items.indexOf(item);
      this.#timeline = this.#store.current.shown;
      this.#wanted = item.key;
      this.#show(items, Math.max(0, index - STEP_ROWS), Math.min(items.length - 1, index + STEP_ROWS));
    }
  }

  /** Draws with the next frame. */
  #soon() {
    if (!this.#frameRequested) {
      this.#frameRequested = true;
      const frame = () => {
        this.#frameRequested = false;
        this.#draw();
      };
      if (document.hidden) {
        setTimeout(frame, HIDDEN_FRAME_MS);
      } else {
        requestAnimationFrame(frame);
      }
    }
  }

  /** Begins anew, for another room. */
  #reset() {
    this.#rows.clear();
    this.#log.replaceChildren();
    this.#follow();
    this.#soon();
  }

  #follow() {
    this.#following = true;
    this.#top = null;
    this.#bottom = null;
  }

  // Drawing

  #draw() {
    const room = this.#store.current;
    const timeline = room.shown;
    if (timeline !== this.#timeline) {
      const merged = this.#bottom !== null && timeline.has(this.#bottom);
      this.#timeline = timeline;
      if (!merged) {
        this.#follow();
      }
    }
    const { items } = timeline;
    const [start, end] = this.#window(items);
    const shown = items.slice(start, end);
    if (this.#isOpen && timeline === room.live) {
      shown.push(...this.#pending(room, timeline.last));
    }

    const anchor = this.#following ? null : this.#anchor();
    this.#place(shown, items[start - 1], room);
    if (this.#wanted !== null) {
      this.#bringWanted();
    } else if (anchor) {
      const moved = anchor.row.getBoundingClientRect().top - anchor.top;
      if (moved !== 0) {
        this.#log.scrollTop += moved;
      }
    } else {
      this.#toEnd();
    }
    this.#showEmpty(room);
    this.#attend();
    this.#extend();
  }

  /** From which to which item the window reaches now. */
  #window(items) {
    let start = Math.max(0, items.length - END_ROWS);
    let end = items.length;
    if (!this.#following && this.#bottom !== null) {
      start = this.#timeline.indexOf(this.#top);
      const last = this.#timeline.indexOf(this.#bottom);
      end = this.#isOpen ? Math.min(items.length, Math.max(last + 1, start + MAX_ROWS)) : last + 1;
    }
    this.#top = items[start] ?? null;
    this.#bottom = items[end - 1] ?? null;
    this.#isOpen = end === items.length;
    return [start, end];
  }

  /** What waits in the outbox, as items that come after everything. */
  #pending(room, last) {
    const { me, status } = this.#store;
    const isOffline = status.phase !== "connected";
    return this.#outbox.of(room.name)
      .map(({ text, nonce, at, state, reason }) => ({
        kind: "said", key: `${me.id}:${nonce}`, era: room.era, position: last?.position ?? 0, rank: Infinity,
        id: me.id, name: me.name, own: true, text, at, nonce, reason, isOffline, state: state === "failed" ? state : "sending",
      }));
  }

  /** Makes the rows those of `items`, touching only what differs. */
  #place(items, before, room) {
    const context = { mention: this.#mention(room), mentionsMe: (text) => this.#store.mentions(text), actions: this.#actions };
    const wanted = new Set(items.map(({ key }) => key));
    for (const [key, { row }] of this.#rows) {
      if (!wanted.has(key)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    const firstNew = this.#firstNew(room);
    let previous = before;
    let place = this.#log.firstElementChild;
    for (const item of items) {
      let known = this.#rows.get(item.key);
      const isNew = item === firstNew;
      if (!known) {
        known = { row: makeRow(item, context), item: null, seen: "" };
        this.#rows.set(item.key, known);
      }
      const seen = `${previous?.key}|${isNew}|${item.state}|${item.isOffline}|${item.fillable}|${item.cause}`;
      if (known.item !== item && !sameFate(known.item, item) || known.seen !== seen) {
        updateRow(known.row, item, { ...context, previous, isNew });
        known.item = item;
        known.seen = seen;
      }
      if (known.row === place) {
        place = place.nextElementSibling;
      } else {
        this.#log.insertBefore(known.row, place);
      }
      previous = item;
    }
  }

  /** The first that others have said behind the line. */
  #firstNew({ line }) {
    if (line === null) {
      return undefined;
    }
    const { items, older } = this.#timeline;
    const start = this.#timeline.indexOf({ ...line, rank: Infinity });
    // Where all of a room is new, a line says nothing.
    return start === 0 && !older ? undefined : items.slice(start).find(({ kind, own }) => kind === "said" && !own);
  }

  /** Finds mentions of those who are or were here. @returns {import("./markup.js").Mention} */
  #mention(room) {
    const { me } = this.#store;
    const self = me.name.toLowerCase();
    let names = null;
    return (text, at) => {
      // By their first character: a text of nothing but @ is not to be compared with everybody at each of them.
      names ??= Map.groupBy([...new Set([self, ...[...room.people.values()].map((name) => name.toLowerCase())])]
        .sort((one, other) => other.length - one.length), (name) => name[0]);
      const rest = text.slice(at + 1, at + 200).toLowerCase();
      const found = names.get(rest[0])?.find((name) => rest.startsWith(name) && !/^[\p{L}\p{N}_]/u.test(rest.slice(name.length)));
      return found ? { length: found.length + 1, self: found === self } : null;
    };
  }

  /** The first row in sight, and where it stands. */
  #anchor() {
    const top = this.#log.getBoundingClientRect().top;
    for (const row of this.#log.children) {
      const box = row.getBoundingClientRect();
      if (box.bottom > top) {
        return { row, top: box.top };
      }
    }
    return null;
  }

  #bringWanted() {
    const row = this.#rows.get(this.#wanted)?.row;
    this.#wanted = null;
    if (row) {
      row.scrollIntoView({ block: "center" });
      this.#log.querySelector(".found")?.classList.remove("found");
      row.classList.add("found");
      row.tabIndex = -1;
      row.focus({ preventScroll: true });
    }
  }

  #showEmpty(room) {
    const isEmpty = this.#rows.size === 0;
    const isRefused = room.state === "refused";
    byId("empty").hidden = !(isEmpty && (room.epoch !== null || isRefused));
    byId("emptyText").textContent = isRefused ? strings.cannotEnter(room.refusal) : strings.emptyRoom;
    byId("emptyHint").textContent = isRefused ? "" : strings.emptyHint;
    byId("emptyLink").hidden = !isRefused;
  }

  // Scrolling

  #scrolled() {
    const room = this.#store.current;
    const isAtEnd = this.#isAtEnd() && this.#isOpen && this.#timeline === room.live;
    if (isAtEnd && !this.#following) {
      this.#follow();
      this.#soon();
    } else if (!isAtEnd) {
      this.#following = false;
    }
    this.#attend();
    this.#extend();
  }

  /** Adds rows where the reader comes near an end of the window, from what is loaded, else from the server. */
  #extend() {
    const room = this.#store.current;
    if (room.shown !== this.#timeline || this.#top === null || this.#frameRequested) {
      return;
    }
    const { items, older } = this.#timeline;
    const { scrollTop, clientHeight, scrollHeight } = this.#log;
    const start = this.#timeline.indexOf(this.#top);
    const last = this.#timeline.indexOf(this.#bottom);
    const isNearTop = this.#following ? scrollHeight < 2 * clientHeight : scrollTop < NEAR * clientHeight;
    const isNearEnd = !this.#following && scrollHeight - scrollTop - clientHeight < NEAR * clientHeight;
    if (isNearTop && start === 0) {
      if (older && room.state === "joined") {
        this.#history.older(room);
      }
    } else if (isNearTop && !this.#following) {
      const first = Math.max(0, start - STEP_ROWS);
      this.#show(items, first, Math.min(last, first + MAX_ROWS - 1));
    } else if (isNearEnd && last < items.length - 1) {
      const end = Math.min(items.length - 1, last + STEP_ROWS);
      this.#show(items, Math.max(start, end - MAX_ROWS + 1), end);
    } else if (isNearEnd && room.past !== null && room.state === "joined") {
      this.#history.newer(room);
    }
  }

  /** Moves the window. */
  #show(items, first, last) {
    this.#top = items[first];
    this.#bottom = items[last];
    this.#isOpen = last === items.length - 1;
    this.#soon();
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < END_TOLERANCE_PX;
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** Tells the store whether the reader sees what comes, and the reader what they do not see. */
  #attend() {
    const { current: room } = this.#store;
    this.#store.setAttending(this.#following && room.past === null && document.visibilityState === "visible");
    const isBack = room.past !== null;
    this.#newButton.hidden = this.#following || !(room.unread > 0 || isBack);
    this.#newButton.textContent = room.unread > 0 ? strings.newMessages(room.unread) : strings.toPresent;
  }
}

/** Whether a message of ours that is still under way is drawn as it is already. */
function sameFate(one, other) {
  return one !== null && one.key === other.key && one.state !== undefined && one.state === other.state &&
    one.reason === other.reason;
}
