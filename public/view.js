/**
 * The page as elements: shows what the store knows and passes on what the reader does.
 *
 * Text becomes part of the page through `textContent` alone. The log is only ever appended to and trimmed, once per
 * frame however much was heard; whoever reads at its end stays there, whoever has scrolled up is left alone.
 */

import { MAX_MESSAGES } from "./store.js";

/** This near the end of the log still counts as reading at its end. */
const END_TOLERANCE_PX = 40;
/** Rows taken away at a time: each time costs a layout, and up to half a pixel of where the reader is. */
const TRIM_ROWS = 100;
/** A loss that is over sooner than this shows in the status only, not as a banner. */
const BANNER_AFTER_MS = 1_000;
/** A text that is not confirmed by then is said to be on its way. */
const SENDING_AFTER_MS = 1_000;
/** A hidden page draws no frames; it catches up this often instead. */
const HIDDEN_FRAME_MS = 250;
/** RFC 6455, section 7.4.1: a message was too big for the server. */
const TOO_BIG = 1009;

const STATUS_WORDS = { connecting: "Connecting…", connected: "Connected", offline: "Offline" };

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exactClock = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const element = (id) => document.getElementById(id);

export class View {
  #store;
  #actions;
  #messages = element("messages");
  #messageTemplate = element("messageRow");
  #gapTemplate = element("gapRow");
  #newButton = element("newButton");
  #inputBox = element("inputBox");
  #hint = element("hint");

  /** Makers of the rows for what came since the last frame. @type {(() => Element)[]} */
  #waiting = [];
  #frameRequested = false;
  /** Whether the reader is at the end of the log, and the log moves along. */
  #following = true;
  /** Messages below that a reader who scrolled up has not been shown. */
  #unseen = 0;
  /** The minute of the newest row, in words. */
  #lastMinute = "";
  #offlineSince = 0;
  #bannerTimer = 0;
  #sendingTimer = 0;
  /**
   * What the hint under the box speaks of: nothing; a text on its way; one that was `held` back for want of a
   * connection; one that was `returned` because it may not have arrived.
   *
   * @type {"none" | "sending" | "held" | "returned"}
   */
  #topic = "none";

  /**
   * @param {import("./store.js").Store} store
   * @param {{say: (text: string) => boolean, retry: () => void}} actions `say` tells whether the text is on its way
   */
  constructor(store, actions) {
    this.#store = store;
    this.#actions = actions;
    element("room").textContent = store.room;
    document.title = `#${store.room} · chat-app`;

    store.addEventListener("status", () => this.#showStatus());
    store.addEventListener("heard", ({ detail }) => this.#append(() => this.#messageRow(detail)));
    store.addEventListener("missed", ({ detail }) => this.#append(() => this.#gapRow(detail)));
    store.addEventListener("confirmed", () => this.#confirmed());
    store.addEventListener("returned", ({ detail }) => this.#returned(detail));

    this.#watchComposer();
    this.#watchLog();
    element("retryButton").addEventListener("click", () => {
      this.#actions.retry();
      this.#inputBox.focus();
    });
    this.#fitBox();
    this.#inputBox.focus();
  }

  // The composer

  #watchComposer() {
    element("msgForm").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#inputBox.addEventListener("keydown", (event) => {
      // While an input method composes a character, Enter belongs to it (229 is how Safari says so).
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key === "Enter" && !event.shiftKey && !composing) {
        event.preventDefault();
        this.#send();
      }
    });
    this.#inputBox.addEventListener("input", () => {
      this.#fitBox();
      const settled = this.#topic === "returned" || this.#topic === "held";
      if (settled && this.#store.status.phase === "connected") {
        this.#say("none");
      }
    });
    // Whoever starts to type means the message box, wherever the focus has gone.
    document.addEventListener("keydown", (event) => {
      const shortcut = event.ctrlKey || event.metaKey || event.altKey;
      const free = document.activeElement === document.body || document.activeElement === this.#messages;
      if (free && !shortcut && event.key.length === 1 && event.key !== " ") {
        this.#inputBox.focus();
      }
    });
  }

  #send() {
    const text = this.#inputBox.value;
    this.#inputBox.focus();
    if (text.trim() === "") {
      return;
    }
    if (!this.#actions.say(text)) {
      this.#say("held", "Not sent: there is no connection. Your text stays here.");
      return;
    }
    this.#inputBox.value = "";
    this.#fitBox();
    this.#say("none");
    this.#follow();
    clearTimeout(this.#sendingTimer);
    this.#sendingTimer = setTimeout(() => {
      if (this.#store.unconfirmed > 0) {
        this.#say("sending", "Sending…");
      }
    }, SENDING_AFTER_MS);
  }

  #confirmed() {
    clearTimeout(this.#sendingTimer);
    if (this.#topic === "sending") {
      this.#say("none");
    }
  }

  /** Puts what was cut off back where it can be sent again, in front of what is being written. */
  #returned({ texts, code }) {
    const draft = this.#inputBox.value;
    this.#inputBox.value = [...texts, draft].filter((text) => text !== "").join("\n");
    this.#fitBox();
    clearTimeout(this.#sendingTimer);
    this.#say(
      "returned",
      code === TOO_BIG
        ? "Not sent: that is too long for this server. Your text is back in the box."
        : "The connection broke before this was confirmed, so it may not have arrived. Send it again?",
    );
  }

  #say(topic, words = "") {
    this.#topic = topic;
    this.#hint.textContent = words;
    this.#hint.classList.toggle("urgent", topic === "held" || topic === "returned");
  }

  /** Lets the box grow with its text where the style sheet cannot (`field-sizing`). */
  #fitBox() {
    if (!CSS.supports("field-sizing", "content")) {
      this.#inputBox.style.height = "auto";
      this.#inputBox.style.height = `${this.#inputBox.scrollHeight + 2}px`;
    }
  }

  // The connection

  #showStatus() {
    const { phase } = this.#store.status;
    const status = element("status");
    if (status.dataset.phase !== phase) {
      status.dataset.phase = phase;
      status.textContent = STATUS_WORDS[phase];
    }
    if (phase === "offline") {
      this.#offlineSince ||= Date.now();
    } else {
      this.#offlineSince = 0;
    }
    if (phase === "connected" && this.#topic === "held") {
      this.#say("none", "Connected again. Press Enter to send your message.");
    }
    this.#showBanner();
  }

  #showBanner() {
    clearTimeout(this.#bannerTimer);
    const banner = element("banner");
    const offlineFor = Date.now() - this.#offlineSince;
    if (this.#offlineSince === 0) {
      banner.hidden = true;
      return;
    }
    banner.hidden = offlineFor < BANNER_AFTER_MS;
    const { retryAt } = this.#store.status;
    const seconds = retryAt === null ? 0 : Math.ceil((retryAt - Date.now()) / 1_000);
    element("retryButton").disabled = retryAt === null;
    element("bannerText").textContent =
      seconds > 0 ? `No connection. Trying again in ${seconds} s.` : "No connection. Trying again…";
    this.#bannerTimer = setTimeout(() => this.#showBanner(), BANNER_AFTER_MS / 4);
  }

  // The log

  #watchLog() {
    this.#messages.addEventListener("scroll", () => {
      this.#following = this.#isAtEnd();
      if (this.#following) {
        this.#unseen = 0;
        this.#showUnseen();
      }
    });
    // The composer grew, the banner came, the keyboard of a phone opened: the end of the log stays in sight.
    new ResizeObserver(() => {
      if (this.#following) {
        this.#toEnd();
      }
    }).observe(this.#messages);
    this.#newButton.addEventListener("click", () => {
      this.#follow();
      this.#inputBox.focus();
    });
  }

  /** @param {() => Element} row */
  #append(row) {
    this.#waiting.push(row);
    if (this.#waiting.length > MAX_MESSAGES) {
      this.#waiting.shift();
    }
    if (!this.#frameRequested) {
      this.#frameRequested = true;
      const frame = () => this.#appendWaiting();
      if (document.hidden) {
        setTimeout(frame, HIDDEN_FRAME_MS);
      } else {
        requestAnimationFrame(frame);
      }
    }
  }

  #appendWaiting() {
    this.#frameRequested = false;
    const rows = this.#waiting.map((row) => row());
    this.#waiting = [];
    this.#messages.append(...rows);
    this.#trim();
    if (this.#following) {
      this.#toEnd();
    } else {
      this.#unseen += rows.filter((row) => row.matches(".msgRow")).length;
      this.#showUnseen();
    }
  }

  /** @param {import("./store.js").Message} message */
  #messageRow({ text, bytes, own, at }) {
    const row = this.#messageTemplate.content.cloneNode(true).firstElementChild;
    const bubble = row.querySelector(".msgCtn");
    const time = row.querySelector("time");
    const minute = clock.format(at);
    bubble.textContent = text;
    bubble.classList.toggle("bytes", bytes);
    row.classList.toggle("own", own);
    row.classList.toggle("sameMinute", minute === this.#lastMinute);
    time.textContent = minute;
    time.dateTime = at.toISOString();
    time.title = exactClock.format(at);
    this.#lastMinute = minute;
    return row;
  }

  /** @param {{from: Date, to: Date}} gap the server keeps nothing for us in the raw dialect, and says so nowhere else */
  #gapRow({ from, to }) {
    const row = this.#gapTemplate.content.cloneNode(true).firstElementChild;
    row.textContent = `No connection ${clock.formatRange(from, to)}. What was said meanwhile is not shown here.`;
    this.#lastMinute = "";
    return row;
  }

  /** Takes the oldest rows away without moving what the reader looks at. */
  #trim() {
    if (this.#messages.childElementCount <= MAX_MESSAGES) {
      return;
    }
    const place = () => this.#messages.lastElementChild.getBoundingClientRect().top;
    const before = place();
    while (this.#messages.childElementCount > MAX_MESSAGES - TRIM_ROWS) {
      this.#messages.firstElementChild.remove();
    }
    if (!this.#following) {
      this.#messages.scrollTop += place() - before;
    }
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#messages;
    return scrollHeight - scrollTop - clientHeight < END_TOLERANCE_PX;
  }

  #follow() {
    this.#following = true;
    this.#unseen = 0;
    this.#showUnseen();
    this.#toEnd();
  }

  #toEnd() {
    this.#messages.scrollTop = this.#messages.scrollHeight;
  }

  #showUnseen() {
    this.#newButton.hidden = this.#unseen === 0;
    this.#newButton.textContent = this.#unseen === 1 ? "1 new message ↓" : `${this.#unseen} new messages ↓`;
  }
}
