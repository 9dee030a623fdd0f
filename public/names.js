/** Friendly names for people who have not chosen one. */

import { strings } from "./strings.js";

const any = (list) => list[Math.floor(Math.random() * list.length)];

/** @returns {string} such as "Quiet Otter" */
export function friendlyName() {
  return `${any(strings.qualities)} ${any(strings.animals)}`;
}
