/** Settings and help, and the panels beside the conversation. */

import { byId, make } from "./dom.js";
import { strings } from "./strings.js";

/** Opens the settings with the name selected, ready to be changed. */
export class SettingsDialog {
  #dialog = byId("settingsDialog");

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./settings.js").Settings} settings
   * @param {{rename: (name: string) => void, ring: () => void}} actions
   */
  constructor(store, settings, actions) {
    const name = byId("nameBox");
    byId("settingsForm").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#hint(strings.nameHint);
      if (name.value.trim() === store.me.name) {
        this.#dialog.close();
      } else if (name.value.trim() !== "") {
        actions.rename(name.value.trim());
      }
    });
    store.addEventListener("me", () => {
      if (this.#dialog.open && name.value.trim().normalize("NFC") === store.me.name) {
        this.#dialog.close();
      }
    });
    store.addEventListener("refused", ({ detail }) => this.#hint(strings.nameRefused(detail), true));
    byId("settingsClose").addEventListener("click", () => this.#dialog.close());
    this.open = () => {
      name.value = store.me.name;
      this.#hint(strings.nameHint);
      byId("themeBox").value = settings.get("theme", "system");
      byId("notifyBox").checked = settings.get("notify", false) && window.Notification?.permission === "granted";
      byId("soundBox").checked = settings.get("sound", false);
      byId("notifyHint").textContent = strings.notificationsHint;
      this.#dialog.showModal();
      name.select();
    };
    byId("themeBox").addEventListener("change", ({ target }) => {
      settings.set("theme", target.value);
      applyTheme(settings);
    });
    settings.addEventListener("theme", () => applyTheme(settings));
    byId("notifyBox").addEventListener("change", ({ target }) => askToNotify(target, settings));
    byId("soundBox").addEventListener("change", ({ target }) => {
      settings.set("sound", target.checked);
      if (target.checked) {
        actions.ring();
      }
    });
    applyTheme(settings);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(settings));
  }

  #hint(words, isUrgent = false) {
    byId("nameHint").textContent = words;
    byId("nameHint").classList.toggle("urgent", isUrgent);
  }
}

/** Shows the chosen theme, and has the browser's own frame follow. */
function applyTheme(settings) {
  document.documentElement.dataset.theme = settings.get("theme", "system");
  const surface = getComputedStyle(document.querySelector("header")).backgroundColor;
  document.querySelector("meta[name=theme-color]").content = surface;
}

async function askToNotify(box, settings) {
  const permission = box.checked && "Notification" in window ? await Notification.requestPermission() : "denied";
  const isRefused = box.checked && permission !== "granted";
  box.checked &&= !isRefused;
  byId("notifyHint").textContent = isRefused ? strings.notificationsDenied : strings.notificationsHint;
  settings.set("notify", box.checked);
}

/** Fills the help, and opens it. */
export function showHelp() {
  const dialog = byId("helpDialog");
  const body = byId("helpBody");
  if (body.childElementCount === 0) {
    const table = (title, rows) => [make("h3", {}, title), make("dl", {},
      ...rows.flatMap(([key, words]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, words)]))];
    body.append(...table(strings.keysTitle, strings.keys), ...table(strings.commandsTitle, strings.commands),
      ...table(strings.markupTitle, strings.markup));
    byId("helpClose").addEventListener("click", () => dialog.close());
  }
  dialog.showModal();
}

/** Panels beside the conversation: one at a time is open on the right, and all give way on a small window. */
export class Panels {
  #pairs = [["peoplePanel", "peopleButton"], ["searchPanel", "searchButton"]];

  constructor() {
    for (const [panel, button] of this.#pairs) {
      byId(button).addEventListener("click", () => this.toggle(panel, byId(panel).hidden));
      byId(panel).querySelector(".close").addEventListener("click", () => this.toggle(panel, false));
    }
    byId("roomsButton").addEventListener("click", () => this.toggleRooms(true));
    byId("roomsClose").addEventListener("click", () => this.toggleRooms(false));
    document.querySelector("main").addEventListener("pointerdown", ({ target }) => {
      if (!target.closest("#roomsButton")) {
        this.toggleRooms(false, false);
      }
    });
  }

  /** Opens or closes one on the right. */
  toggle(wanted, isOpen) {
    for (const [panel, button] of this.#pairs) {
      const open = panel === wanted && isOpen;
      const had = byId(panel).contains(document.activeElement);
      byId(panel).hidden = !open;
      byId(button).setAttribute("aria-expanded", String(open));
      if (!open && had) {
        byId(button).focus();
      }
    }
    if (isOpen) {
      (byId(wanted).querySelector("input") ?? byId(wanted).querySelector(".close")).focus();
    }
  }

  /** Opens or closes the rooms where they are not always there. */
  toggleRooms(isOpen, moveFocus = true) {
    const wasOpen = document.body.classList.contains("roomsOpen");
    document.body.classList.toggle("roomsOpen", isOpen);
    byId("roomsButton").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      byId("roomsClose").focus();
    } else if (wasOpen && moveFocus) {
      byId("roomsButton").focus();
    }
  }

  /** Closes what is open. @returns {boolean} whether there was something */
  close() {
    if (document.body.classList.contains("roomsOpen")) {
      this.toggleRooms(false);
      return true;
    }
    const open = this.#pairs.find(([panel]) => !byId(panel).hidden);
    if (open) {
      this.toggle(open[0], false);
    }
    return open !== undefined;
  }
}
