/** The message box: it grows, sends, recalls, completes names, keeps drafts, and says early when a text is too long. */

import { byId } from "./dom.js";
import { strings } from "./strings.js";

/** Bytes that are left when the box begins to say so. */
const WARN_BYTES = 500;
/** Names told in the hint. */
const MAX_CANDIDATES = 5;
const DRAFTS_KEY = "chat.drafts";

const bytes = (text) => new TextEncoder().encode(text).length;

export class Composer {
  #store;
  #actions;
  #box = byId("inputBox");
  #hint = byId("hint");
  /** What is written in each room, and not sent. @type {Record<string, string>} */
  #drafts = {};
  /** The room that the box belongs to now. */
  #room = "";
  /** What was said last in each room. @type {Map<string, string>} */
  #last = new Map();
  /** The names that were offered last, in words. */
  #offered = "";
  /** Names that Tab goes through, while it does. @type {{at: number, names: string[], index: number} | null} */
  #completion = null;

  /**
   * @param {import("./store.js").Store} store
   * @param {{say: (text: string) => void, typing: () => void, command: (line: string) => string | null,
   *   turnPage: (direction: 1 | -1) => void}} actions `command` gives back what is wrong with it, or `null`
   */
  constructor(store, actions) {
    this.#store = store;
    this.#actions = actions;
    try {
      this.#drafts = JSON.parse(sessionStorage.getItem(DRAFTS_KEY)) ?? {};
    } catch {
      // There are none.
    }
    // A phone ends pages out of sight without a word.
    for (const type of ["pagehide", "visibilitychange"]) {
      addEventListener(type, () => this.#keepDrafts());
    }
    store.addEventListener("current", () => this.#changeRoom());
    store.addEventListener("people", () => {
      // Whatever else is said below the box stays there.
      if (this.#completion === null && this.#hint.textContent === this.#offered) {
        this.#offer();
      }
    });
    byId("msgForm").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#box.addEventListener("keydown", (event) => this.#pressed(event));
    this.#box.addEventListener("input", () => this.#edited());
    // Whoever starts to type means the message box, wherever the focus has gone.
    document.addEventListener("keydown", (event) => {
      const shortcut = event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented;
      const free = document.activeElement === document.body || document.activeElement.closest("#messages");
      if (free && !shortcut && event.key.length === 1 && event.key !== " " && event.key !== "?") {
        this.#box.focus();
      }
    });
  }

  focus() {
    this.#box.focus();
  }

  /** Puts a text into the box, before what is there. */
  give(text) {
    this.#set([text, this.#box.value].filter((part) => part !== "").join("\n"));
    this.#box.focus();
  }

  /** Says something about what was written. */
  tell(words) {
    this.#say(words);
  }

  #changeRoom() {
    this.#drafts[this.#room] = this.#box.value;
    this.#room = this.#store.current.name;
    this.#say("");
    this.#set(this.#drafts[this.#room] ?? "");
    this.#box.placeholder = strings.writeTo(this.#room);
    this.#box.focus();
  }

  #keepDrafts() {
    this.#drafts[this.#room] = this.#box.value;
    this.#drafts = Object.fromEntries(Object.entries(this.#drafts).filter(([, text]) => text !== ""));
    try {
      sessionStorage.setItem(DRAFTS_KEY, JSON.stringify(this.#drafts));
    } catch {
      // Nothing is kept here.
    }
  }

  #set(text) {
    this.#box.value = text;
    this.#completion = null;
    this.#fit();
    this.#checkLength();
  }

  #pressed(event) {
    // While an input method composes a character, the keys belong to it (229 is how Safari says so).
    if (event.isComposing || event.keyCode === 229 || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const done = {
      Enter: () => !event.shiftKey && this.#submit(),
      ArrowUp: () => this.#recall(),
      Tab: () => !event.shiftKey && this.#complete(),
      PageUp: () => this.#actions.turnPage(-1),
      PageDown: () => this.#actions.turnPage(1),
    }[event.key]?.();
    if (done !== undefined && done !== false) {
      event.preventDefault();
    }
  }

  #submit() {
    const text = this.#box.value;
    this.#box.focus();
    if (text.trim() === "") {
      return true;
    }
    if (/^\/(?!\/)/.test(text) && !text.includes("\n")) {
      const wrong = this.#actions.command(text.trim());
      if (wrong !== null) {
        this.#say(wrong, true);
        return true;
      }
      // A command may have changed the room, and with it what is in the box.
      if (this.#box.value === text) {
        this.#set("");
      }
      this.#drafts[this.#room] = this.#box.value;
      for (const room of Object.keys(this.#drafts)) {
        this.#drafts[room] = this.#drafts[room] === text ? "" : this.#drafts[room];
      }
      return true;
    }
    if (this.#checkLength() < 0) {
      return true;
    }
    const said = text.startsWith("//") ? text.slice(1) : text;
    this.#last.set(this.#room, text);
    this.#set("");
    this.#say("");
    this.#actions.say(said);
    return true;
  }

  #recall() {
    const last = this.#last.get(this.#room);
    if (this.#box.value !== "" || last === undefined) {
      return false;
    }
    this.#set(last);
    return true;
  }

  #edited() {
    this.#completion = null;
    this.#fit();
    if (this.#checkLength() >= WARN_BYTES) {
      this.#offer();
    }
    if (this.#box.value.trim() !== "" && !this.#box.value.startsWith("/")) {
      this.#actions.typing();
    }
  }

  // Names

  /** Who may be meant by the word with @ before the caret. */
  #candidates() {
    const before = this.#box.value.slice(0, this.#box.selectionStart);
    const at = before.lastIndexOf("@");
    if (at < 0 || /[\p{L}\p{N}_]$/u.test(before.slice(0, at)) || before.slice(at).includes("\n")) {
      return null;
    }
    const begun = before.slice(at + 1).toLowerCase();
    const { me, current } = this.#store;
    const recent = current.live.items.slice(-100).reverse().filter(({ name }) => name).map(({ name }) => name);
    const names = [...new Set([...recent, ...current.people.values()])]
      .filter((name) => name !== me.name && name.toLowerCase().startsWith(begun));
    return names.length > 0 ? { at, names, index: -1 } : null;
  }

  #offer() {
    const names = this.#candidates()?.names.slice(0, MAX_CANDIDATES) ?? [];
    this.#offered = names.length > 0 ? strings.completes(names) : "";
    if (this.#hint.textContent !== this.#offered) {
      this.#say(this.#offered);
    }
  }

  #complete() {
    this.#completion ??= this.#candidates();
    if (this.#completion === null) {
      return false;
    }
    const { at, names } = this.#completion;
    this.#completion.index = (this.#completion.index + 1) % names.length;
    this.#box.setRangeText(`@${names[this.#completion.index]} `, at, this.#box.selectionStart, "end");
    this.#fit();
    return true;
  }

  // Length

  /** Says how much is left when it is little. @returns {number} bytes left, or at least `WARN_BYTES` */
  #checkLength() {
    const { text_bytes: textBytes, message_bytes: messageBytes } = this.#store.limits;
    const text = this.#box.value;
    // Most texts are far from any limit, whatever they are made of.
    const isShort = text.length * 3 < textBytes - WARN_BYTES && text.length * 6 < messageBytes - WARN_BYTES;
    const left = isShort ? WARN_BYTES
      : Math.min(textBytes - bytes(text), messageBytes - 512 - bytes(JSON.stringify(text)));
    if (left < 0) {
      this.#say(strings.tooLong(charactersOf(text, -left)), true);
    } else if (left < WARN_BYTES) {
      this.#say(strings.left(left));
    }
    byId("msgForm").classList.toggle("tooLong", left < 0);
    return left;
  }

  #say(words, isUrgent = false) {
    this.#hint.textContent = words;
    this.#hint.classList.toggle("urgent", isUrgent);
  }

  /** Lets the box grow with its text where the style sheet cannot (`field-sizing`). */
  #fit() {
    if (!CSS.supports("field-sizing", "content")) {
      this.#box.style.height = "auto";
      this.#box.style.height = `${this.#box.scrollHeight + 2}px`;
    }
  }
}

/** How many characters at the end of a text have so many bytes, in UTF-8. */
function charactersOf(text, count) {
  const characters = [...text.slice(-count)].reverse();
  let rest = count;
  const enough = characters.findIndex((character) => (rest -= bytes(character)) <= 0);
  return enough < 0 ? characters.length : enough + 1;
}
