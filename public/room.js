/** What the page knows of one room. The store changes it. */

import { Timeline } from "./timeline.js";

/** One room, as far as this page knows it. */
export class Room {
  /** @type {"apart" | "joining" | "joined" | "refused"} */
  state = "apart";
  /** Whether it is entered as soon as the server has heard what we have. */
  behind = false;
  /** Why it cannot be entered, in the server's words. */
  refusal = "";
  /** @type {string | null} */
  epoch = null;
  era = 0;
  /** Everything up to here has been heard. */
  position = 0;
  live = new Timeline();
  /** A stretch of the past that is looked at, apart from the present. @type {Timeline | null} */
  past = null;
  /** @type {Map<string, string>} names by id */
  people = new Map();
  count = 0;
  /** @type {{id: string, name: string}[]} */
  typing = [];
  /** What others have said up to here was seen. */
  read = 0;
  unread = 0;
  mentioned = false;
  /** Behind this place a line marks what is new; `null` for no line. @type {{era: number, position: number} | null} */
  line = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** The stretch that is shown. */
  get shown() {
    return this.past ?? this.live;
  }
}
