/**
 * A stretch of a room's conversation without unknown holes, in the order in which it happened.
 *
 * An item is something that was said, a gap that the server announced, or a note of who came and went. Its place is its
 * era (one for each epoch of the server's journal that this page has seen: positions of two epochs cannot be compared),
 * the position, and a rank among what stands at one position: gaps and notes stand behind the message before them.
 *
 * @typedef {object} Item
 * @property {"said" | "gap" | "notice"} kind
 * @property {string} key the same for as long as it is the same thing, also while it is not yet said
 * @property {number} era
 * @property {number} position
 * @property {number} rank
 */

/** Items kept of a conversation of which nobody reads the beginning. The server has the older ones. */
const MAX_ITEMS = 4_000;
/** How many go at once. */
const TRIM_ITEMS = 500;

/** @returns {number} below 0 if `one` comes first */
export function compare(one, other) {
  return one.era - other.era || one.position - other.position || one.rank - other.rank;
}

export class Timeline {
  /** @type {Item[]} */
  items = [];
  /** Whether the server may have something from before the first item. */
  older = false;

  get last() {
    return this.items.at(-1);
  }

  /** @param {(item: Item) => boolean} wanted */
  first(wanted) {
    return this.items.find(wanted);
  }

  /** Where an item is, or would be. @param {Item} item */
  indexOf(item) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.items[middle], item) < 0) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  /** @param {Item} item */
  has(item) {
    const found = this.items[this.indexOf(item)];
    return found !== undefined && compare(found, item) === 0;
  }

  /**
   * Puts items in their places; what is known already stays as it is.
   *
   * @param {Item[]} items in order
   * @returns {Item[]} those that were not known
   */
  merge(items) {
    const fresh = items.filter((item) => !this.has(item));
    const isNewer = fresh.length > 0 && (this.items.length === 0 || compare(this.last, fresh[0]) < 0);
    this.items = isNewer ? [...this.items, ...fresh] : [...this.items, ...fresh].sort(compare);
    return fresh;
  }

  /** Whether all from an item up to the end is loaded. @param {Item} item */
  reachesBackTo(item) {
    const stretch = this.items.slice(this.items.findLastIndex(({ kind }) => kind === "gap") + 1);
    const first = stretch.find(({ kind }) => kind === "said");
    return first === undefined ? stretch.length === this.items.length : compare(first, item) <= 0;
  }

  /** Adds one item that is newer than all others; the common case, and the quick one. */
  push(item) {
    if (this.items.length > 0 && compare(this.last, item) >= 0) {
      return this.merge([item]).length > 0;
    }
    this.items.push(item);
    return true;
  }

  /** Adds a gap or a note behind everything. */
  append(item) {
    const last = this.last ?? { era: item.era, position: 0, rank: 0 };
    this.items.push({ ...item, era: last.era, position: last.position, rank: last.rank + 1 });
  }

  /** @param {Item} item */
  remove(item) {
    this.items = this.items.filter((one) => one !== item);
  }

  /** Lets go of the beginning if there is too much. */
  trim(max = MAX_ITEMS) {
    if (this.items.length > max + TRIM_ITEMS) {
      this.items = this.items.slice(-max);
      this.older = true;
    }
  }
}
