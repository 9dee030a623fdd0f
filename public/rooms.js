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
    const focused = document.activeElement?.closest("#roomsPanel li")?.dataset.room;
    const rows = [...rooms.values()].sort(byName).map((room) => this.#row(room, room === current, rooms.size > 1));
    byId("roomList").replaceChildren(...rows);
    byId("former").hidden = former.length === 0;
    byId("formerList").replaceChildren(...former.map((name) => make("li", {}, this.#link(name))));
    if (focused !== undefined) {
      rows.find(({ dataset }) => dataset.room === focused)?.querySelector("a").focus();
    }
    const elsewhere = [...rooms.values()].filter((room) => room !== current).reduce((sum, { unread }) => sum + unread, 0);
    byId("roomsBadge").hidden = elsewhere === 0;
    byId("roomsBadge").textContent = countWords(elsewhere);
  }

  #row(room, isCurrent, canLeave) {
    const link = this.#link(room.name);
    const row = make("li", {}, link);
    row.dataset.room = room.name;
    if (isCurrent) {
      link.setAttribute("aria-current", "page");
    }
    if (room.unread > 0) {
      link.append(make("span", { className: room.mentioned ? "badge mention" : "badge", title: strings.unread(room.unread) },
        countWords(room.unread)));
    }
    if (canLeave) {
      row.append(make("button", { type: "button", className: "plain leave", "aria-label": strings.leave(room.name),
        title: strings.leave(room.name), onclick: () => this.#actions.leave(room.name) }, make("span", { "aria-hidden": "true" }, "×")));
    }
    return row;
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
