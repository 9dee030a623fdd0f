/**
 * What the browser keeps for this person: name, token, rooms, what has been read, how the page looks.
 *
 * All tabs share it. A change made by another tab comes as an event of the key's name. Where the browser keeps nothing
 * (storage switched off or full), the page works on and forgets when it is closed.
 */

const PREFIX = "chat.";

export class Settings extends EventTarget {
  /** What could not be stored, or has been since. */
  #values = new Map();

  constructor() {
    super();
    window.addEventListener("storage", ({ key }) => {
      if (key?.startsWith(PREFIX)) {
        this.#values.delete(key);
        this.dispatchEvent(new CustomEvent(key.slice(PREFIX.length)));
      }
    });
  }

  /**
   * @param {string} key
   * @param {any} fallback what it is as long as nothing of its kind was stored; whatever else may have written there
   */
  get(key, fallback) {
    const name = PREFIX + key;
    if (this.#values.has(name)) {
      return this.#values.get(name) ?? fallback;
    }
    try {
      const value = JSON.parse(localStorage.getItem(name));
      return kind(value) === kind(fallback) ? value : fallback;
    } catch {
      return fallback;
    }
  }

  /**
   * @param {string} key
   * @param {any} value `null` to forget it
   */
  set(key, value) {
    const name = PREFIX + key;
    this.#values.delete(name);
    try {
      if (value === null) {
        localStorage.removeItem(name);
      } else {
        localStorage.setItem(name, JSON.stringify(value));
      }
    } catch {
      this.#values.set(name, value);
    }
  }

  /** The keys that begin with `start`, as they are stored now by all tabs. */
  keys(start) {
    try {
      return Object.keys(localStorage)
        .filter((name) => name.startsWith(PREFIX + start))
        .map((name) => name.slice(PREFIX.length));
    } catch {
      return [];
    }
  }
}

const kind = (value) => (value === null ? "nothing" : Array.isArray(value) ? "list" : typeof value);
