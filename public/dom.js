/** Short ways to find and make elements. Text goes in as text nodes, and no other way. */

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

/**
 * @param {string} tag
 * @param {Record<string, any>} [properties] of the element; those with a hyphen, and `role`, are set as attributes
 * @param {...(Node | string)} children
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children);
  return element;
}

/** A copy of what a `<template>` holds. */
export function stamp(id) {
  return byId(id).content.cloneNode(true).firstElementChild;
}

/** @param {string} id of a person, or `null` for somebody unknown @returns {number} a hue that is theirs, in degrees */
export function hue(id) {
  let hash = 0;
  for (const character of id ?? "") {
    hash = (Math.imul(hash, 31) + character.codePointAt(0)) >>> 0;
  }
  // Neighbouring hashes are set apart by the golden angle.
  return Math.round((hash * 137.508) % 360);
}

/** @param {string} name @returns {string} what stands in the circle beside it */
export function initial(name) {
  const segments = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(name.trim());
  const [first] = segments;
  // A letter under a tower of accents would not fit: what counts is the letter.
  return first ? [...first.segment.normalize("NFC")].slice(0, /\p{Emoji_Presentation}/u.test(first.segment) ? 8 : 1).join("").toLocaleUpperCase() : "?";
}
