/** The list of rooms with what is unread in each, those we were in, and the way into others. */

import { byId, make } from "./dom.js";
import { strings } from "./strings.js";

/** A larger number tells nobody more. */
const MAX_COUNT = 99;
export const DEFAULT_ROOM = "lobby";

/** @param {number} count */
export const countWords = (count) => (count > MAX_COUNT ? `${MAX_COUNT}+` : String(count));

/** The address of a room's page. @param {string} name */
export function address(name) {
  const url = new URL(location.pathname, location.href);
  if (name !== DEFAULT_ROOM) {
    url.searchParams.set("room", name);
  }
  return url.pathname + url.search;
}

/** The room that an address names, by the server's rule: the first `room` that is not empty counts. */
export function roomOf(search) {
  return (new URLSearchParams(search).getAll("room").find((name) => name !== "") ?? DEFAULT_ROOM).normalize("NFC");
}

export class RoomList {
  #store;
  #actions;
  #frame = 0;

  /**
   * @param {import("./store.js").Store} store
   * @param {{open: (room: string) => string | null, leave: (room: string) => void}} actions `open` gives back what is
   *   wrong with the name, or `null`
   */
  constructor(store, actions) {
    this.#store = store;
    this.#actions = actions;
    for (const type of ["rooms", "current"]) {
      store.addEventListener(type, () => {
        this.#frame ||= requestAnimationFrame(() => this.#draw());
      });
    }
    byId("joinBox").placeholder = strings.joinRoom;
    byId("joinForm").addEventListener("submit", (event) => {
      event.preventDefault();
      const box = byId("joinBox");
      const name = box.value.trim().replace(/^#/, "");
      const wrong = name === "" ? "" : actions.open(name);
      byId("joinHint").textContent = wrong ?? "";
      if (wrong === null) {
        box.value = "";
      }
    });
    byId("joinBox").addEventListener("input", () => {
      byId("joinHint").textContent = "";
    });
  }

  #draw() {
    this.#frame = 0;
    const { rooms, former, current } = this.#store;
    const names = [...rooms.values()].sort(byName).map(({ name }) => name);
    this.#place(byId("roomList"), names);
    for (const row of byId("roomList").children) {
      this.#update(row, rooms.get(row.dataset.room), current, rooms.size > 1);
    }
    byId("former").hidden = former.length === 0;
    this.#place(byId("formerList"), former);
    const elsewhere = [...rooms.values()].filter((room) => room !== current).reduce((sum, { unread }) => sum + unread, 0);
    byId("roomsBadge").hidden = elsewhere === 0;
    byId("roomsBadge").textContent = countWords(elsewhere);
  }

  /** Makes the rows of a list those of `names`. Rows that stay are not touched: somebody may just be pressing one. */
  #place(list, names) {
    const known = new Map([...list.children].map((row) => [row.dataset.room, row]));
    const gone = [...known.values()].filter((row) => !names.includes(row.dataset.room));
    const hadFocus = gone.some((row) => row.contains(document.activeElement));
    gone.forEach((row) => row.remove());
    let place = list.firstElementChild;
    for (const name of names) {
      const row = known.get(name) ?? make("li", {}, this.#link(name));
      row.dataset.room = name;
      if (row === place) {
        place = place.nextElementSibling;
      } else {
        list.insertBefore(row, place);
      }
    }
    if (hadFocus) {
      byId("roomList").querySelector("[aria-current]")?.focus();
    }
  }

  #update(row, room, current, canLeave) {
    const link = row.firstElementChild;
    link.ariaCurrent = room === current ? "page" : null;
    let badge = link.querySelector(".badge");
    if (room.unread === 0) {
      badge?.remove();
    } else {
      badge ??= link.appendChild(make("span"));
      badge.className = room.mentioned ? "badge mention" : "badge";
      badge.title = strings.unread(room.unread);
      badge.textContent = countWords(room.unread);
    }
    const leave = row.querySelector(".leave");
    if (!canLeave) {
      leave?.remove();
    } else if (!leave) {
      row.append(make("button", { type: "button", className: "plain leave", "aria-label": strings.leave(room.name),
        title: strings.leave(room.name), onclick: () => this.#actions.leave(room.name) }, make("span", { "aria-hidden": "true" }, "×")));
    }
  }

  #link(name) {
    const link = make("a", { href: address(name) }, make("span", { className: "sign", "aria-hidden": "true" }, "#"), make("bdi", {}, name));
    link.addEventListener("click", (event) => {
      // With a modifier it opens in another tab, as links do.
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
        event.preventDefault();
        this.#actions.open(name);
      }
    });
    return link;
  }
}

/** The lobby first, then by name. */
export function byName(one, other) {
  return (other.name === DEFAULT_ROOM) - (one.name === DEFAULT_ROOM) || one.name.localeCompare(other.name);
}
