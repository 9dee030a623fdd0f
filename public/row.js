/** Rows of the log: what was said, what is missing, who came and went. */

import { hue, initial, make, stamp } from "./dom.js";
import { isEmojiOnly, render } from "./markup.js";
import { locale, strings } from "./strings.js";

/** Messages of one person stand under one name as long as no longer pause lies between them. */
const GROUP_MS = 5 * 60_000;
/** Names told in one note; more are counted. */
const MAX_NAMES = 4;

/** A format that is made when it is first needed: each takes a browser some milliseconds. */
function format(options) {
  let made;
  return (ms) => (made ??= new Intl.DateTimeFormat(locale, options)).format(ms);
}

export const clock = format({ hour: "2-digit", minute: "2-digit" });
const exact = format({ dateStyle: "full", timeStyle: "medium" });
const weekday = format({ weekday: "long", day: "numeric", month: "long" });
const longDay = format({ dateStyle: "long" });
const HALF_YEAR_MS = 180 * 24 * 3_600_000;

const dayOf = (ms) => new Date(ms).toDateString();

/** @param {number} ms @returns {string} the day in words, near ones by their relation to now */
export function dayWords(ms, now = Date.now()) {
  const yesterday = new Date(now);
  yesterday.setDate(yesterday.getDate() - 1);
  if (dayOf(ms) === dayOf(now)) {
    return strings.today;
  }
  if (dayOf(ms) === yesterday.toDateString()) {
    return strings.yesterday;
  }
  return (now - ms < HALF_YEAR_MS ? weekday : longDay)(ms);
}

/** Puts a moment into a `<time>`, exactly for whoever points at it. */
export function showTime(element, ms, words = clock(ms)) {
  element.textContent = words;
  element.dateTime = new Date(ms).toISOString();
  element.onpointerenter = () => {
    element.title = exact(ms);
  };
}

/** Gives an element the colour of a person. */
export function colour(element, id) {
  element.classList.add("person");
  element.style.setProperty("--hue", String(hue(id)));
}

/**
 * @typedef {object} Context what a row depends on besides its own item
 * @property {import("./timeline.js").Item | undefined} previous the item above it
 * @property {boolean} isNew whether the line stands above it that marks what is new
 * @property {import("./markup.js").Mention} mention
 * @property {(text: string) => boolean} mentionsMe
 * @property {{fill: (gap: object) => void, retry: (nonce: string) => void, edit: (nonce: string) => void}} actions
 */

/** A new element for an item. @param {import("./timeline.js").Item} item @param {Context} context */
export function makeRow(item, context) {
  if (item.kind === "gap") {
    return stamp("gapRow");
  }
  if (item.kind === "notice") {
    return make("p", { className: "noticeRow", dir: "auto" });
  }
  const row = stamp("messageRow");
  const bubble = row.querySelector(".msgCtn");
  if (item.text === null) {
    bubble.textContent = strings.bytes(item.bytes);
    bubble.classList.add("bytes");
  } else {
    bubble.append(render(item.text, context.mention));
    bubble.classList.toggle("emoji", isEmojiOnly(item.text));
  }
  row.classList.toggle("own", item.own);
  row.classList.toggle("mentioned", !item.own && item.text !== null && context.mentionsMe(item.text));
  const name = item.name ?? strings.somebody;
  row.querySelector(".author").textContent = name;
  row.querySelector(".avatar").textContent = initial(name);
  colour(row, item.id);
  return row;
}

/** Brings a row up to date with its item and what is around it. */
export function updateRow(row, item, context) {
  if (item.kind === "gap") {
    updateGap(row, item, context);
  } else if (item.kind === "notice") {
    row.textContent = noticeWords(item);
  } else {
    updateMessage(row, item, context);
  }
}

function updateMessage(row, item, { previous, isNew, actions }) {
  const isFirstOfDay = previous === undefined || dayOf(previous.at ?? item.at) !== dayOf(item.at);
  const follows = previous?.kind === "said" && !isFirstOfDay && !isNew && previous.id === item.id &&
    previous.name === item.name && item.at - previous.at < GROUP_MS;
  const day = row.querySelector(".dayRow");
  day.hidden = !isFirstOfDay;
  if (isFirstOfDay) {
    showTime(day.firstElementChild, item.at, dayWords(item.at));
  }
  const line = row.querySelector(".newRow");
  line.hidden = !isNew;
  line.textContent = isNew ? strings.isNew : "";
  row.classList.toggle("follows", follows);
  showTime(row.querySelector(".clock"), item.at);
  row.dataset.state = item.state ?? "sent";
  row.dataset.position = item.position;
  showFate(row.querySelector(".fate"), item, actions);
}

/** What has become of a message of ours. */
function showFate(fate, { state, nonce, reason, isOffline }, actions) {
  // Its buttons stay the same ones while somebody presses them.
  const shown = `${state} ${isOffline} ${reason}`;
  if (fate.dataset.shown === shown) {
    return;
  }
  fate.dataset.shown = shown;
  fate.hidden = state === undefined;
  if (state === undefined) {
    fate.replaceChildren();
  } else if (state === "failed") {
    const button = (words, act) =>
      make("button", { type: "button", className: "plain", textContent: words, onclick: () => act(nonce) });
    fate.replaceChildren(`${strings.notSent(reason)} `, button(strings.retry, actions.retry),
      button(strings.edit, actions.edit));
  } else {
    fate.textContent = isOffline ? strings.waits : strings.sending;
  }
}

function updateGap(row, item, { actions }) {
  const words = { missed: strings.gapMissed, lost: strings.gapLost, anew: strings.gapAnew }[item.cause];
  row.firstElementChild.textContent = words;
  row.querySelector("button")?.remove();
  if (item.fillable) {
    row.firstElementChild.after(make("button", { type: "button", className: "plain", textContent: strings.showMissing,
      onclick: () => actions.fill(item) }));
  }
}

function noticeWords({ came, went }) {
  const told = (people, words) => {
    // Names may run the other way: each stays by itself.
    const names = [...people.values()].map((name) => `\u2068${name}\u2069`);
    const some = names.length > MAX_NAMES
      ? [...names.slice(0, MAX_NAMES - 1), strings.others(names.length - MAX_NAMES + 1)] : names;
    return some.length > 0 ? [words(some)] : [];
  };
  return [...told(came, strings.came), ...told(went, strings.went)].join(" · ");
}
