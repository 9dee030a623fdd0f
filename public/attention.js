/**
 * Tells somebody who does something else that there is news: in the title, in the icon, by a notification and a sound if
 * they want; and reads to whoever cannot see, not more than they can listen to.
 */

import { byId } from "./dom.js";
import { countWords } from "./rooms.js";
import { strings } from "./strings.js";

/** Before a hidden tab makes itself heard, one that is in sight has this long to have it read. */
const ALERT_AFTER_MS = 400;
/** What is read aloud is at least so far apart; what comes in between is summed up. */
const ANNOUNCE_EVERY_MS = 3_000;
const ANNOUNCED_CHARS = 300;
const NOTICE_CHARS = 160;
const PLAIN_ICON = "favicon.svg";

export class Attention {
  #store;
  #settings;
  #announced = 0;
  #announceTimer = 0;
  /** @type {{name: string, text: string}[]} */
  #unannounced = [];
  #drawn = "";
  #sound = null;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./settings.js").Settings} settings
   * @param {(room: string) => void} open
   */
  constructor(store, settings, open) {
    this.#store = store;
    this.#settings = settings;
    for (const type of ["rooms", "current"]) {
      store.addEventListener(type, () => this.#draw());
    }
    store.addEventListener("heard", ({ detail: { room, item } }) => {
      if (room === store.current) {
        this.#announce(item.name ?? strings.somebody, item.text ?? strings.bytes(item.bytes));
      }
      if (document.visibilityState === "hidden") {
        setTimeout(() => this.#alert(room, item, open), ALERT_AFTER_MS);
      }
    });
  }

  /** Has something read aloud, between what is said. */
  announce(words) {
    byId("announcer").textContent = words;
  }

  // Title and icon

  #draw() {
    const { rooms, current } = this.#store;
    const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
    const count = unread > 0 ? `(${countWords(unread)}) ` : "";
    const title = `${count}#${current.name} · chat-app`;
    if (this.#drawn !== title) {
      this.#drawn = title;
      document.title = title;
      byId("icon").href = unread > 0 ? icon(countWords(unread)) : PLAIN_ICON;
    }
  }

  // Aloud

  #announce(name, text) {
    this.#unannounced.push({ name, text });
    const wait = Math.max(0, this.#announced + ANNOUNCE_EVERY_MS - Date.now());
    this.#announceTimer ||= setTimeout(() => this.#announceNow(), wait);
  }

  #announceNow() {
    this.#announceTimer = 0;
    this.#announced = Date.now();
    const news = this.#unannounced.splice(0);
    this.announce(news.length === 1
      ? strings.heard(news[0].name, news[0].text.slice(0, ANNOUNCED_CHARS)) : strings.heardMany(news.length));
  }

  // Notification and sound

  #alert(room, item, open) {
    if (document.visibilityState === "visible" || item.position <= room.read || this.#isTold(room, item)) {
      return;
    }
    const name = item.name ?? strings.somebody;
    if (this.#settings.get("notify", false) && window.Notification?.permission === "granted") {
      const title = this.#store.mentions(item.text ?? "") ? strings.mentionTitle : strings.messageTitle;
      try {
        const notification = new Notification(title(name, room.name), {
          body: (item.text ?? strings.bytes(item.bytes)).slice(0, NOTICE_CHARS), tag: `chat:${room.name}`, icon: PLAIN_ICON,
        });
        notification.onclick = () => {
          window.focus();
          open(room.name);
          notification.close();
        };
      } catch {
        // Phones allow notifications to service workers only.
      }
    }
    if (this.#settings.get("sound", false)) {
      this.ring();
    }
  }

  /** Whether another tab has told of this; if not, this one does. */
  #isTold({ epoch }, { position }) {
    const told = this.#settings.get("alerted", {});
    if (told.epoch === epoch && position <= told.position) {
      return true;
    }
    this.#settings.set("alerted", { epoch, position });
    return false;
  }

  /** Two short soft tones. */
  ring() {
    this.#sound ??= new AudioContext();
    const { currentTime, destination } = this.#sound;
    for (const [delay, pitch] of [[0, 660], [0.12, 880]]) {
      const tone = this.#sound.createOscillator();
      const volume = this.#sound.createGain();
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0.0001, currentTime + delay);
      volume.gain.exponentialRampToValueAtTime(0.12, currentTime + delay + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.0001, currentTime + delay + 0.25);
      tone.connect(volume).connect(destination);
      tone.start(currentTime + delay);
      tone.stop(currentTime + delay + 0.3);
    }
  }
}

/** The icon with a number on it. @param {string} count digits, and perhaps a plus */
function icon(count) {
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="blueviolet" d="M9 3h14a7 7 0 0 1 7 7v8a7 7 0 0 1-7 7h-8.5l-6.6 4.6A1.2 1.2 0 0 1 6 28.6V24.3A7 7 0 0 1 2 18v-8a7 7 0 0 1 7-7z"/><text x="16" y="20.5" fill="#fff" font-family="sans-serif" font-weight="700" font-size="${count.length > 2 ? 12 : 17}" text-anchor="middle">${count}</text></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(picture)}`;
}
