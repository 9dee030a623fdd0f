/**
 * The WebSocket, kept alive: it connects, connects again when it is lost, and knows nothing of what is said.
 *
 * Between two attempts it waits a random time below a bound that doubles (exponential back-off with full jitter), so
 * that the clients of a server that restarts do not all return in the same moment. It waits no longer when the network
 * comes back or somebody looks at the page.
 *
 * Events: `status` with a `Status` (see store.js); `message` with a string or an `ArrayBuffer`; `lost` with the close
 * code, when a connection that was open has ended. Each value is the event's `detail`.
 */

/** The bound on the first wait; it doubles with every failure. */
const BACKOFF_BASE_MS = 1_000;
/** The bound on every wait. */
const BACKOFF_MAX_MS = 30_000;
/** An attempt that has not succeeded by then has failed; a browser alone would wait for minutes. */
const CONNECT_TIMEOUT_MS = 10_000;
/** A connection that lived this long was a good one, and the next wait is a first one again. */
const STABLE_AFTER_MS = 5_000;
/**
 * The server answers everything that is sent (with the message itself). Silence for this long after sending means that
 * the other side is gone, though the operating system may not find out for many minutes.
 */
const SILENCE_MAX_MS = 20_000;
/** RFC 6455, section 7.4.1: closed without a close frame. */
const CLOSED_ABNORMALLY = 1006;

/**
 * The chat behind a page: the same host, path and query, by `ws:` or `wss:` as the page came by `http:` or `https:`.
 *
 * @param {string} page
 * @returns {string}
 */
export function chatUrl(page) {
  const url = new URL(page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
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
  /** @type {WebSocket | null} the one whose events count; `null` while waiting */
  #socket = null;
  #failures = 0;
  #connectTimer = 0;
  #retryTimer = 0;
  #silenceTimer = 0;
  #stableTimer = 0;

  /** @param {string} url */
  constructor(url) {
    super();
    this.#url = url;
  }

  /** Connects, and from now on stays connected as far as that is possible. */
  start() {
    window.addEventListener("online", () => this.retryNow());
    window.addEventListener("focus", () => this.retryNow());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") {
        this.retryNow();
      }
    });
    this.#tell("status", { phase: "connecting", retryAt: null });
    this.#connect();
  }

  /**
   * @param {string} text
   * @returns {boolean} whether it is on its way; if not, nothing has happened
   */
  send(text) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return false;
    }
    this.#socket.send(text);
    if (this.#silenceTimer === 0) {
      this.#silenceTimer = setTimeout(() => this.#lose(CLOSED_ABNORMALLY), SILENCE_MAX_MS);
    }
    return true;
  }

  /** Ends the wait for the next attempt, if there is one. */
  retryNow() {
    if (this.#socket === null && this.#retryTimer !== 0) {
      this.#tell("status", { phase: "offline", retryAt: null });
      this.#connect();
    }
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#connectTimer = setTimeout(() => this.#lose(CLOSED_ABNORMALLY), CONNECT_TIMEOUT_MS);
    socket.addEventListener("open", () => {
      if (socket === this.#socket) {
        this.#opened();
      }
    });
    socket.addEventListener("message", ({ data }) => {
      if (socket === this.#socket) {
        clearTimeout(this.#silenceTimer);
        this.#silenceTimer = 0;
        this.#tell("message", data);
      }
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket === this.#socket) {
        this.#lose(code);
      }
    });
  }

  #opened() {
    clearTimeout(this.#connectTimer);
    this.#stableTimer = setTimeout(() => {
      this.#failures = 0;
    }, STABLE_AFTER_MS);
    this.#tell("status", { phase: "connected", retryAt: null });
  }

  /** Lets go of the socket, whatever state it is in, and plans the next attempt. */
  #lose(code) {
    const socket = this.#socket;
    this.#socket = null;
    for (const timer of [this.#connectTimer, this.#silenceTimer, this.#stableTimer]) {
      clearTimeout(timer);
    }
    this.#silenceTimer = 0;
    socket?.close();

    this.#failures += 1;
    const wait = backoff(this.#failures, Math.random());
    this.#retryTimer = setTimeout(() => this.retryNow(), wait);
    this.#tell("status", { phase: "offline", retryAt: Date.now() + wait });
    this.#tell("lost", code);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
