/** Who is here, and who is writing. */

import { byId, make, initial } from "./dom.js";
import { colour } from "./row.js";
import { strings } from "./strings.js";

/** The server tells once that somebody writes, and once that they have ended; should that be lost, it ends by itself. */
const TYPING_LASTS_MS = 60_000;
const MAX_TYPING = 3;

export class People {
  #store;
  #frame = 0;
  #typingTimer = 0;

  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.#store = store;
    for (const type of ["people", "current", "me"]) {
      store.addEventListener(type, () => {
        this.#frame ||= requestAnimationFrame(() => this.#draw());
      });
    }
    for (const type of ["typing", "current"]) {
      store.addEventListener(type, ({ detail }) => detail === store.current && this.#drawTyping());
    }
  }

  #draw() {
    this.#frame = 0;
    const { current: room, me } = this.#store;
    const people = [...room.people].sort(([one, oneName], [other, otherName]) =>
      (other === me.id) - (one === me.id) || oneName.localeCompare(otherName));
    byId("peopleCount").textContent = room.epoch === null ? "" : String(room.count);
    byId("peopleButton").setAttribute("aria-label", `${strings.people}: ${strings.peopleHere(room.count)}`);
    byId("peopleButton").title = strings.peopleHere(room.count);
    byId("peopleTitle").textContent = strings.peopleHere(room.count);
    byId("peopleList").replaceChildren(...people.map(([id, name]) => this.#row(id, name, id === me.id)));
    const unnamed = room.count - people.length;
    byId("unnamed").textContent = unnamed > 0 ? strings.unnamed(unnamed) : "";
  }

  #row(id, name, isMe) {
    const avatar = make("span", { className: "avatar", "aria-hidden": "true" }, initial(name));
    const row = make("li", {}, avatar, make("bdi", {}, name));
    colour(row, id);
    if (isMe) {
      row.append(make("span", { className: "you" }, `(${strings.you})`));
    }
    return row;
  }

  #drawTyping() {
    clearTimeout(this.#typingTimer);
    const names = this.#store.current.typing.map(({ name }) => `\u2068${name}\u2069`);
    const some = names.length > MAX_TYPING
      ? [...names.slice(0, MAX_TYPING - 1), strings.others(names.length - MAX_TYPING + 1)] : names;
    byId("typing").firstElementChild.textContent = some.length > 0 ? strings.typing(some) : "";
    if (names.length > 0) {
      const room = this.#store.current;
      this.#typingTimer = setTimeout(() => this.#store.setTyping(room, []), TYPING_LASTS_MS);
    }
  }
}
