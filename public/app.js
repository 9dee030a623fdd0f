/** Puts the page together: the connection feeds the store, the view shows it, what the reader does goes back. */

import { Connection, chatUrl } from "./connection.js";
import { Store } from "./store.js";
import { View } from "./view.js";

/** The room when the page's address names none, by the server's rule: the first `room` that is not empty counts. */
const DEFAULT_ROOM = "lobby";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Control characters that no text has: whatever holds one is data that happens to be valid UTF-8. */
const NOT_TEXT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/**
 * @param {string | ArrayBuffer} data
 * @returns {{text: string, bytes: boolean}}
 */
function content(data) {
  if (typeof data === "string") {
    return { text: data, bytes: false };
  }
  try {
    const text = utf8.decode(data);
    if (text !== "" && !NOT_TEXT.test(text)) {
      return { text, bytes: false };
    }
  } catch {
    // It is not UTF-8, and the reader is told how much of it there is.
  }
  return { text: `[${data.byteLength} ${data.byteLength === 1 ? "byte" : "bytes"}]`, bytes: true };
}

const room = new URLSearchParams(location.search).getAll("room").find((name) => name !== "") ?? DEFAULT_ROOM;
const store = new Store(room);
const connection = new Connection(chatUrl(location.href));

new View(store, {
  say(text) {
    // A WebSocket replaces lone surrogates; what comes back is compared with what is remembered here.
    const sent = text.toWellFormed?.() ?? text;
    const underWay = connection.send(sent);
    if (underWay) {
      store.sent(sent);
    }
    return underWay;
  },
  retry: () => connection.retryNow(),
});

connection.addEventListener("status", ({ detail }) => store.setStatus(detail, new Date()));
connection.addEventListener("message", ({ detail }) => store.hear(content(detail), new Date()));
connection.addEventListener("lost", ({ detail }) => store.cutOff(detail));
connection.start();
