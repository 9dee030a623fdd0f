/** Puts the page together: the conversation with the server feeds the store, the parts show it, what people do goes back. */

import { Attention } from "./attention.js";
import { Chat } from "./chat.js";
import { commands } from "./commands.js";
import { Composer } from "./composer.js";
import { chatUrl } from "./connection.js";
import { Panels, SettingsDialog, showHelp } from "./dialogs.js";
import { byId, initial, make } from "./dom.js";
import { Log } from "./log.js";
import { Outbox } from "./outbox.js";
import { People } from "./people.js";
import { DEFAULT_ROOM, RoomList, address, byName, roomOf } from "./rooms.js";
import { colour } from "./row.js";
import { Search } from "./search.js";
import { Settings } from "./settings.js";
import { StatusBar } from "./status.js";
import { Store } from "./store.js";
import { friendlyName, strings, translate } from "./strings.js";

translate(document);

const settings = new Settings();
settings.set("name", settings.get("name", "") || friendlyName());
const store = new Store(settings, roomOf(location.search));
const outbox = new Outbox(settings);
const chat = new Chat(chatUrl(location.href), store, outbox, settings);
// The way to the server is as long as that of building the page: they go side by side.
chat.start();

const attention = new Attention(store, settings, (room) => open(room));
const panels = new Panels();
new StatusBar(store, () => chat.retry());
new People(store);
new RoomList(store, { open, leave });
const log = new Log(store, chat.history, outbox, (nonce) => composer.give(outbox.remove(nonce)?.text ?? ""));
const search = new Search(store, chat.history, (position) => {
  if (matchMedia("(max-width: 60rem)").matches) {
    panels.toggle("searchPanel", false);
  }
  log.show(position);
});
const dialog = new SettingsDialog(store, settings, { rename, ring: () => attention.ring() });
const composer = new Composer(store, {
  say(text) {
    chat.say(store.current, text);
    log.toPresent();
  },
  typing: () => chat.typing(store.current),
  turnPage: (direction) => log.turnPage(direction),
  command: commands({
    rename,
    join: open,
    leave: () => leave(store.current.name),
    help: showHelp,
    search(query) {
      panels.toggle("searchPanel", true);
      search.search(query);
    },
  }),
});

/** The name that somebody waits to have. @type {string | null} */
let wanted = null;

function rename(name) {
  wanted = name.normalize("NFC");
  chat.rename(wanted);
}

store.addEventListener("refused", ({ detail }) => {
  wanted = null;
  composer.tell(strings.nameRefused(detail));
});
store.addEventListener("me", showMe);

function showMe() {
  const { id, name } = store.me;
  byId("nameButton").replaceChildren(make("bdi", {}, name));
  byId("nameButton").title = strings.changeName(name);
  const avatar = make("span", { className: "avatar", "aria-hidden": "true" }, initial(name));
  byId("selfButton").replaceChildren(avatar, make("bdi", {}, name));
  byId("selfButton").title = strings.changeName(name);
  colour(byId("selfButton"), id);
  if (name === wanted) {
    wanted = null;
    composer.tell(strings.nowCalled(name));
  }
}

/** Goes to a room. @returns {string | null} what is wrong with its name */
function open(name, isNew = true) {
  const room = name.normalize("NFC");
  if (new TextEncoder().encode(room).length > store.limits.room_bytes) {
    return strings.roomTooLong;
  }
  show(room);
  if (isNew && roomOf(location.search) !== room) {
    history.pushState(null, "", address(room));
  }
  panels.toggleRooms(false, false);
  return null;
}

function show(name) {
  store.setCurrent(store.enter(name));
  byId("room").textContent = name;
  byId("room").title = name;
}

function leave(name) {
  const room = store.rooms.get(name);
  if (!room || (store.rooms.size === 1 && name === DEFAULT_ROOM)) {
    return;
  }
  if (room === store.current) {
    const other = [...store.rooms.values()].filter((one) => one !== room).sort(byName)[0]?.name ?? DEFAULT_ROOM;
    open(other);
  }
  chat.leave(room);
}

function switchRoom(step) {
  const rooms = [...store.rooms.values()].sort(byName);
  open(rooms[(rooms.indexOf(store.current) + step + rooms.length) % rooms.length].name);
}

document.addEventListener("keydown", (event) => {
  const isWriting = event.target.closest("input, textarea, select");
  const isModal = document.querySelector("dialog[open]") !== null;
  if (isModal || event.isComposing) {
    return;
  }
  if (event.key === "Escape") {
    if (!panels.close()) {
      log.toPresent();
      composer.focus();
    }
  } else if (event.key === "?" && !isWriting) {
    showHelp();
  } else if (event.altKey && !event.ctrlKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    switchRoom(event.key === "ArrowUp" ? -1 : 1);
  } else if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "k") {
    panels.toggle("searchPanel", true);
  } else {
    return;
  }
  event.preventDefault();
});

byId("nameButton").addEventListener("click", () => dialog.open());
byId("selfButton").addEventListener("click", () => dialog.open());
byId("helpButton").addEventListener("click", showHelp);
byId("emptyLink").addEventListener("click", (event) => {
  event.preventDefault();
  leave(store.current.name);
});
window.addEventListener("popstate", () => show(roomOf(location.search)));
window.addEventListener("pagehide", () => store.storeRead());
// A page that the browser had put to sleep has no connection and an old outbox.
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

// The keyboard of a phone covers the page where the browser does not make it smaller.
const fit = () => {
  const { height, scale } = window.visualViewport;
  if (scale === 1) {
    document.documentElement.style.setProperty("--height", `${height}px`);
  }
};
window.visualViewport?.addEventListener("resize", fit);

show(roomOf(location.search));
showMe();
