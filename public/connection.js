/**
 * The WebSocket, kept alive: it connects, says hello, connects again when it is lost, and knows nothing of rooms.
 *
 * Between two attempts it waits a random time below a bound that doubles (exponential back-off with full jitter), so
 * that the clients of a server that restarts do not all return in the same moment; a server that says goodbye names
 * the time itself. It waits no longer when the network comes back or somebody looks at the page.
 *
 * Events: `status` with a `Status`; `frame` with each message of the server, parsed; `lost` with the close code when a
 * connection has ended; `wake` when a page that is looked at has heard nothing for a while. Each value is the
 * event's `detail`.
 *
 * @typedef {object} Status
 * @property {"connecting" | "connected" | "offline" | "replaced"} phase `replaced`: the server has given our place to
 *   another connection of ours, and we stay away
 * @property {number | null} retryAt when the next attempt begins, in ms as of `Date.now()`; `null` if none is planned
 * @property {boolean} restarting whether the server had said that it goes, and has not been back
 */

/** The bound on the first wait; it doubles with every failure. */
const BACKOFF_BASE_MS = 1_000;
/** The bound on every wait. */
const BACKOFF_MAX_MS = 30_000;
/** An attempt that has not led to a welcome by then has failed; a browser alone would wait for minutes. */
const CONNECT_TIMEOUT_MS = 10_000;
/**
 * The server answers what is sent. Silence for this long after it means that the other side is gone, though the
 * operating system may not find out for many minutes.
 */
const SILENCE_MAX_MS = 20_000;
/** After a silence of this length, a connection is tried before somebody who comes back trusts it. */
const QUIET_MS = 20_000;
/** After this one it is tried in any case, as long as somebody may be looking. */
const IDLE_MS = 60_000;
/** RFC 6455, section 7.4.1: closed without a close frame. */
const CLOSED_ABNORMALLY = 1006;
/** chat.v1: another connection of ours has taken this one's place. */
const REPLACED = 4000;

/**
 * The chat behind a page: the same host and path, by `ws:` or `wss:` as the page came by `http:` or `https:`.
 *
 * @param {string} page
 * @returns {string}
 */
export function chatUrl(page) {
  const url = new URL(page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  url.search = "";
  return url.href;
}

/**
 * How long to wait before the next attempt.
 *
 * @param {number} failures failures in a row, at least 1
 * @param {number} random from 0 up to, but not including, 1
 * @returns {number} in ms
 */
export function backoff(failures, random) {
  return random * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** (failures - 1));
}

export class Connection extends EventTarget {
  #url;
  #greeting;
  /** @type {WebSocket | null} the one whose events count; `null` while waiting */
  #socket = null;
  #welcomed = false;
  #failures = 0;
  #heardAt = 0;
  /** How long the server wants us to stay away. @type {number | null} */
  #awayMs = null;
  /** Whether it has said goodbye, and not been back since. */
  #restarting = false;
  #connectTimer = 0;
  #retryTimer = 0;
  #silenceTimer = 0;

  /**
   * @param {string} url
   * @param {() => object} greeting makes the `hello` of each connection
   */
  constructor(url, greeting) {
    super();
    this.#url = url;
    this.#greeting = greeting;
  }

  /** Connects, and from now on stays connected as far as that is possible. */
  start() {
    window.addEventListener("online", () => this.#wake());
    window.addEventListener("focus", () => this.#wake());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") {
        this.#wake();
      }
    });
    setInterval(() => document.visibilityState === "visible" && this.#probe(IDLE_MS), QUIET_MS);
    this.#report("connecting");
    this.#connect();
  }

  /** Whether the server has welcomed us and not gone since. */
  get isOpen() {
    return this.#welcomed && this.#socket?.readyState === WebSocket.OPEN;
  }

  /**
   * @param {object} frame
   * @param {number} [patienceMs] how long the answer may take; `Infinity` for what is not answered
   * @returns {boolean} whether it is on its way; if not, nothing has happened
   */
  send(frame, patienceMs = SILENCE_MAX_MS) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return false;
    }
    this.#socket.send(JSON.stringify(frame));
    if (patienceMs < SILENCE_MAX_MS) {
      this.#calm();
    }
    if (this.#silenceTimer === 0 && patienceMs !== Infinity) {
      this.#silenceTimer = setTimeout(() => this.#lose(CLOSED_ABNORMALLY), patienceMs);
    }
    return true;
  }

  /** Ends the wait for the next attempt, if there is one. */
  retryNow() {
    if (this.#socket === null) {
      this.#report("offline");
      this.#connect();
    }
  }

  /** Gives the connection up for a new one, at once. */
  renew() {
    if (this.#socket !== null) {
      this.#awayMs = 0;
      this.#lose(CLOSED_ABNORMALLY);
    }
  }

  /** Says hello once more on this connection, since the name was refused. */
  greetAgain() {
    this.send(this.#greeting());
  }

  #wake() {
    if (this.#retryTimer !== 0) {
      this.retryNow();
    } else {
      this.#probe(QUIET_MS);
    }
  }

  #probe(quietMs) {
    if (this.isOpen && Date.now() - this.#heardAt > quietMs) {
      this.#tell("wake");
    }
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#awayMs = null;
    const socket = new WebSocket(this.#url, "chat.v1");
    this.#socket = socket;
    this.#connectTimer = setTimeout(() => this.#lose(CLOSED_ABNORMALLY), CONNECT_TIMEOUT_MS);
    const listen = (type, heard) =>
      socket.addEventListener(type, (event) => {
        if (socket === this.#socket) {
          heard(event);
        }
      });
    listen("open", () => this.send(this.#greeting()));
    listen("message", ({ data }) => this.#receive(data));
    listen("close", ({ code }) => this.#lose(code));
  }

  #receive(data) {
    this.#calm();
    this.#heardAt = Date.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.type === "welcome") {
      clearTimeout(this.#connectTimer);
      this.#failures = 0;
      this.#welcomed = true;
      this.#restarting = false;
      this.#tell("frame", frame);
      this.#report("connected");
      return;
    }
    if (frame.type === "draining") {
      this.#awayMs = frame.reconnect_ms;
      this.#restarting = true;
    }
    this.#tell("frame", frame);
  }

  #calm() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = 0;
  }

  /** Lets go of the socket, whatever state it is in, and plans the next attempt. */
  #lose(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#welcomed = false;
    clearTimeout(this.#connectTimer);
    this.#calm();
    socket?.close();

    if (code === REPLACED) {
      this.#report("replaced");
    } else {
      this.#failures += 1;
      const wait = this.#awayMs ?? backoff(this.#failures, Math.random());
      this.#retryTimer = setTimeout(() => this.retryNow(), wait);
      this.#report("offline", Date.now() + wait);
    }
    this.#tell("lost", code);
  }

  #report(phase, retryAt = null) {
    this.#tell("status", { phase, retryAt, restarting: phase === "offline" && this.#restarting });
  }

  /**
   * @param {string} type
   * @param {unknown} [detail]
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
