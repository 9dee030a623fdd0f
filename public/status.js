/** How the connection is doing: a word in the bar, and a calm banner when there is something to know or to do. */

import { byId } from "./dom.js";
import { strings } from "./strings.js";

/** A loss that is over sooner than this shows in the bar only. */
const BANNER_AFTER_MS = 1_000;
const TICK_MS = 250;

export class StatusBar {
  #store;
  #offlineSince = 0;
  #timer = 0;

  /**
   * @param {import("./store.js").Store} store
   * @param {() => void} retry
   */
  constructor(store, retry) {
    this.#store = store;
    store.addEventListener("status", () => this.#draw());
    for (const type of ["journal", "rooms", "current"]) {
      store.addEventListener(type, () => this.#drawBanner());
    }
    for (const type of ["online", "offline"]) {
      window.addEventListener(type, () => this.#drawBanner());
    }
    byId("retryButton").addEventListener("click", () => {
      retry();
      byId("inputBox").focus();
    });
    this.#draw();
  }

  #draw() {
    const { phase } = this.#store.status;
    const status = byId("status");
    status.dataset.phase = phase;
    if (status.textContent !== strings[phase]) {
      status.textContent = strings[phase];
    }
    if (phase === "offline") {
      this.#offlineSince ||= Date.now();
    } else {
      this.#offlineSince = 0;
    }
    this.#drawBanner();
  }

  #drawBanner() {
    clearTimeout(this.#timer);
    const { words, action } = this.#message();
    const isBrief = this.#offlineSince !== 0 && Date.now() - this.#offlineSince < BANNER_AFTER_MS;
    byId("banner").hidden = words === null || isBrief;
    byId("retryButton").hidden = action === null;
    if (words !== null) {
      byId("bannerText").textContent = words;
    }
    if (action !== null) {
      byId("retryButton").textContent = action;
    }
    if (this.#offlineSince !== 0) {
      this.#timer = setTimeout(() => this.#drawBanner(), TICK_MS);
    }
  }

  /** What there is to say, and what can be done about it. */
  #message() {
    const { status, journal, current } = this.#store;
    if (status.phase === "replaced") {
      return { words: strings.elsewhere, action: strings.continueHere };
    }
    if (this.#offlineSince !== 0) {
      if (!navigator.onLine) {
        return { words: strings.noConnection, action: strings.retryNow };
      }
      const { retryAt, restarting } = status;
      const seconds = retryAt === null ? 0 : Math.ceil((retryAt - Date.now()) / 1_000);
      const [later, now] = restarting
        ? [strings.restarting, strings.restartingNow] : [strings.reconnecting, strings.reconnectingNow];
      return { words: seconds > 0 ? later(seconds) : now, action: strings.retryNow };
    }
    const troubles = { waiting: strings.journalWaiting, apart: strings.busDown };
    const trouble = current.state === "joining" && current.behind ? strings.serverBehind : troubles[journal];
    return { words: (status.phase === "connected" && trouble) || null, action: null };
  }
}
