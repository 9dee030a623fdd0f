/** The search: results with what stands around them, and the way to each in its place. */

import { byId, make } from "./dom.js";
import { clock, dayWords, showTime } from "./row.js";
import { strings } from "./strings.js";

/** How much of a text is shown before the first match, and in all. */
const BEFORE_CHARS = 40;
const SHOWN_CHARS = 220;

export class Search {
  #store;
  #history;
  #show;
  /** The search whose answer is waited for; a former one is of no interest. */
  #serial = 0;
  #query = "";
  /** @type {number | undefined} */
  #oldest;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./history.js").History} history
   * @param {(position: number) => void} show
   */
  constructor(store, history, show) {
    this.#store = store;
    this.#history = history;
    this.#show = show;
    byId("searchForm").addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(byId("searchBox").value);
    });
    byId("searchOlder").addEventListener("click", () => this.#run(this.#oldest));
    store.addEventListener("current", () => this.#reset());
  }

  /** Looks for something in the current room. */
  search(query) {
    byId("searchBox").value = query;
    this.#query = query.trim();
    this.#serial += 1;
    byId("searchResults").replaceChildren();
    byId("searchOlder").hidden = true;
    if (this.#query === "") {
      byId("searchHint").textContent = strings.searchHint;
      return undefined;
    }
    return this.#run();
  }

  #reset() {
    const words = strings.searchIn(this.#store.current.name);
    byId("searchBox").placeholder = words;
    byId("searchBox").setAttribute("aria-label", words);
    this.search("");
  }

  async #run(before) {
    this.#serial += 1;
    const serial = this.#serial;
    byId("searchHint").textContent = strings.searching;
    let answer;
    try {
      answer = await this.#history.search(this.#store.current, this.#query, before);
    } catch ({ code, message }) {
      if (serial === this.#serial) {
        byId("searchHint").textContent = code === "offline" ? strings.searchOffline : strings.searchFailed(message);
      }
      return;
    }
    if (serial !== this.#serial) {
      return;
    }
    const { items, more } = answer;
    this.#oldest = items[0]?.position;
    // The newest first: what is looked for is rarely long ago.
    byId("searchResults").append(...items.reverse().map((item) => this.#row(item)));
    byId("searchOlder").hidden = !more;
    const count = byId("searchResults").childElementCount;
    byId("searchHint").textContent = count === 0 ? strings.foundNothing : strings.found(count, more);
  }

  #row(item) {
    const time = make("time");
    showTime(time, item.at, `${dayWords(item.at)}, ${clock(item.at)}`);
    const head = make("span", { className: "resultHead" }, make("bdi", {}, item.name ?? strings.somebody), time);
    const button = make("button", { type: "button", className: "plain", onclick: () => this.#show(item.position) }, head,
      excerpt(item.text ?? "", item.matches ?? []));
    return make("li", {}, button);
  }
}

/** A text around its first match, all matches marked. */
function excerpt(text, matches) {
  const first = matches[0]?.[0] ?? 0;
  const start = first > BEFORE_CHARS ? first - BEFORE_CHARS : 0;
  const end = Math.min(text.length, start + SHOWN_CHARS);
  const line = make("span", { className: "excerpt", dir: "auto" }, start > 0 ? "…" : "");
  let at = start;
  for (const [from, to] of matches) {
    if (from >= at && to <= end) {
      line.append(text.slice(at, from), make("mark", {}, text.slice(from, to)));
      at = to;
    }
  }
  line.append(text.slice(at, end), end < text.length ? "…" : "");
  return line;
}
