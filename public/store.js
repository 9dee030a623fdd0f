/**
 * What the page knows: the room, how the connection is doing, what was heard, and what was sent and not heard yet.
 *
 * Changes come in through the methods and go out as events; the store has never seen a socket or an element.
 *
 * Events, each with its value as `detail`: `status`; `heard` with the message; `missed` with `{from, to}` when there was
 * a time in which nothing could be heard; `confirmed` when nothing sent is outstanding any more; `returned` with
 * `{texts, code}` when texts were cut off on their way.
 */

/** Messages kept, here and in the log. Older ones go. */
export const MAX_MESSAGES = 1_000;

/**
 * @typedef {object} Message
 * @property {string} text what to show
 * @property {boolean} bytes whether `text` only describes a message that is not text
 * @property {boolean} own whether it is, as far as can be known, one that this page has sent
 * @property {Date} at when it was heard here; the raw dialect carries no time of its own
 */

/**
 * @typedef {object} Status
 * @property {"connecting" | "connected" | "offline"} phase
 * @property {number | null} retryAt when the next attempt begins, in ms as of `Date.now()`; `null` if none is planned
 */

export class Store extends EventTarget {
  /** @type {Status} */
  status = { phase: "connecting", retryAt: null };
  /** @type {Message[]} */
  messages = [];
  /**
   * Texts sent that have not come back. The server sends everybody everything, its sender included and in order, so
   * coming back is the receipt, and only the oldest of these can come next.
   *
   * @type {string[]}
   */
  #unconfirmed = [];
  /** @type {Date | null} since when nothing has been heard for want of a connection that was there before */
  #deafSince = null;

  /** @param {string} room */
  constructor(room) {
    super();
    this.room = room;
  }

  /** How many of our texts are on their way. */
  get unconfirmed() {
    return this.#unconfirmed.length;
  }

  /**
   * @param {Status} status
   * @param {Date} at
   */
  setStatus(status, at) {
    const was = this.status.phase;
    this.status = status;
    this.#tell("status");
    if (was === "connected" && status.phase !== "connected") {
      this.#deafSince = at;
    } else if (status.phase === "connected" && this.#deafSince !== null) {
      this.#tell("missed", { from: this.#deafSince, to: at });
      this.#deafSince = null;
    }
  }

  /** @param {string} text handed to the connection just now */
  sent(text) {
    this.#unconfirmed.push(text);
  }

  /**
   * @param {{text: string, bytes: boolean}} content
   * @param {Date} at
   */
  hear({ text, bytes }, at) {
    const own = !bytes && this.#unconfirmed.length > 0 && this.#unconfirmed[0] === text;
    if (own) {
      this.#unconfirmed.shift();
    }
    const message = { text, bytes, own, at };
    this.messages.push(message);
    if (this.messages.length > MAX_MESSAGES) {
      this.messages.shift();
    }
    this.#tell("heard", message);
    if (own && this.#unconfirmed.length === 0) {
      this.#tell("confirmed");
    }
  }

  /**
   * The connection is gone, and with it every receipt that was still to come.
   *
   * @param {number} code the close code
   */
  cutOff(code) {
    const texts = this.#unconfirmed;
    this.#unconfirmed = [];
    if (texts.length > 0) {
      this.#tell("returned", { texts, code });
    }
  }

  /**
   * @param {string} type
   * @param {unknown} [detail]
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
