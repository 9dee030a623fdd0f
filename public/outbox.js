/**
 * What this tab's person has written and the server has not confirmed, in the order in which it was written.
 *
 * It is stored as it changes, each tab under a key of its own, so that it outlives a reload, a crash and a closed tab: a
 * tab that finds the outbox of one that is gone takes it over. Should two ever send the same text, they do so by the
 * same nonce, and the server keeps it once.
 *
 * Event: `change`.
 */

const KEY = "outbox.";
/** Where a tab leaves its id for the page that is loaded next in it. */
const TAB_KEY = "chat.tab";
/** How long the other tabs have to say that they are there. */
const ROLL_CALL_MS = 400;

/**
 * @typedef {object} Draft
 * @property {string} room
 * @property {string} text
 * @property {string} nonce
 * @property {number} at when it was written, in ms
 * @property {"waiting" | "failed"} state
 * @property {string} [reason] why it failed, in words for people
 */

/** Random digits; `crypto.randomUUID` is there on secure origins only, and a chat in a local network is none. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The tab's id: that of the page before in this tab if it left one, and never that of a tab that is still there. */
function takeTabId() {
  let id = null;
  try {
    id = sessionStorage.getItem(TAB_KEY);
    sessionStorage.removeItem(TAB_KEY);
    window.addEventListener("pagehide", () => sessionStorage.setItem(TAB_KEY, tab));
  } catch {
    // Without storage there is nothing to come back to.
  }
  const tab = id ?? randomId();
  return tab;
}

export class Outbox extends EventTarget {
  /** @type {Draft[]} */
  drafts = [];
  #settings;
  #tab = takeTabId();
  #channel = "BroadcastChannel" in window ? new BroadcastChannel("chat.tabs") : null;
  /** @type {Set<string>} who has answered the roll call */
  #present = new Set();

  /** @param {import("./settings.js").Settings} settings */
  constructor(settings) {
    super();
    this.#settings = settings;
    this.drafts = this.#stored(this.#tab);
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.ask) {
        this.#channel.postMessage({ here: this.#tab });
      } else {
        this.#present.add(data.here);
      }
    });
  }

  /** What waits to be said in a room, or failed to be. */
  of(room) {
    return this.drafts.filter((draft) => draft.room === room);
  }

  /** The next to be said in a room. */
  next(room) {
    return this.drafts.find((draft) => draft.room === room && draft.state === "waiting");
  }

  /** Writes something down. */
  add(room, text) {
    this.drafts.push({ room, text, nonce: randomId(), at: Date.now(), state: "waiting" });
    this.#changed();
  }

  /** It was said, or is given up. @returns {Draft | undefined} */
  remove(nonce) {
    const index = this.drafts.findIndex((draft) => draft.nonce === nonce);
    if (index < 0) {
      return undefined;
    }
    const [draft] = this.drafts.splice(index, 1);
    this.#changed();
    return draft;
  }

  /** It will not be said as it is. */
  fail(nonce, reason) {
    this.#set(nonce, "failed", reason);
  }

  /** It is to be tried again, behind what was written since. */
  retry(nonce) {
    const draft = this.remove(nonce);
    if (draft) {
      this.drafts.push(draft);
      this.#set(nonce, "waiting");
    }
  }

  /** Takes over what tabs that are gone have left. */
  async adopt() {
    const orphans = () => this.#settings.keys(KEY).map((key) => key.slice(KEY.length)).filter((tab) => tab !== this.#tab);
    if (orphans().length === 0) {
      return;
    }
    this.#present.clear();
    this.#channel?.postMessage({ ask: true });
    await new Promise((resolve) => setTimeout(resolve, ROLL_CALL_MS));
    for (const tab of orphans().filter((tab) => !this.#present.has(tab))) {
      const known = new Set(this.drafts.map(({ nonce }) => nonce));
      const found = this.#stored(tab).filter(({ nonce }) => !known.has(nonce));
      this.drafts = [...this.drafts, ...found].sort((one, other) => one.at - other.at);
      this.#changed();
      this.#settings.set(KEY + tab, null);
    }
  }

  #set(nonce, state, reason) {
    const draft = this.drafts.find((one) => one.nonce === nonce);
    if (draft) {
      draft.state = state;
      draft.reason = reason;
      this.#changed();
    }
  }

  #stored(tab) {
    const isText = (value) => typeof value === "string" && value !== "";
    return this.#settings.get(KEY + tab, []).filter((draft) => [draft?.room, draft?.text, draft?.nonce].every(isText));
  }

  #changed() {
    this.#settings.set(KEY + this.#tab, this.drafts.length > 0 ? this.drafts : null);
    this.dispatchEvent(new CustomEvent("change"));
  }
}
