/**
 * What people write, as nodes: links, `code`, code blocks, *emphasis*, **strong**, > quotes and @mentions.
 *
 * Everything is built from text nodes and a few elements made here; nothing is ever parsed as HTML. Each pattern is
 * tried at one place and runs over the text once, so that no message can make the page think for long.
 */

import { make } from "./dom.js";

const FENCE = /^```[^\n`]*\n([\s\S]*?)(?:\n```[ \t]*(?:\n|$)|$)/;
const CODE = /`([^`\n]{1,4000})`/y;
const STRONG = /\*\*(?![\s*])([^*\n]{0,999}[^\s*])\*\*(?![\p{L}\p{N}*])/uy;
const EMPHASIS = /\*(?![\s*])([^*\n]{0,999}[^\s*])\*(?![\p{L}\p{N}*])/uy;
const LINK = /(?:https?:\/\/|mailto:)[^\s<>"`\u0000-\u001f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/iy;
const SCHEMES = ["http:", "https:", "mailto:"];
/** Where something may begin that is more than text. */
const START = /[`*@]|https?:\/\/|mailto:/gi;
const WORD = /[\p{L}\p{N}_]/u;
/** Letters and most signs, in the Latin blocks: with one of them a text is not all emoji, which is quickly seen. */
const LATIN = /[!-")$-)+-/:-\u00a8\u00aa-\u00ad\u00af-\u02ff]/;
/** @type {RegExp | undefined} */
let emojiOnly;
/** So many emoji are shown large; more are a picture of their own. */
const MAX_LARGE = 6;

/**
 * @typedef {(text: string, at: number) => {length: number, self: boolean} | null} Mention finds a name behind the `@`
 *   at `at`
 */

/** Whether a text is nothing but a few emoji. @param {string} text */
export function isEmojiOnly(text) {
  if (text.length > 200 || text.trim() === "" || LATIN.test(text)) {
    return false;
  }
  // This pattern is a long list, which a browser takes its time to read: only when it is needed.
  emojiOnly ??= /^(?:\p{RGI_Emoji}|\s){1,24}$/v;
  return emojiOnly.test(text) &&
    [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text.replace(/\s/g, ""))].length <= MAX_LARGE;
}

/**
 * @param {string} text
 * @param {Mention} mention
 * @returns {DocumentFragment}
 */
export function render(text, mention = () => null) {
  const fragment = document.createDocumentFragment();
  let rest = text;
  while (rest !== "") {
    const fence = rest.startsWith("```") && FENCE.exec(rest);
    if (fence && fence[1].trim() !== "") {
      fragment.append(make("pre", { tabIndex: 0 }, make("code", { dir: "ltr" }, fence[1])));
      rest = rest.slice(fence[0].length);
    } else if (isQuote(rest)) {
      rest = quote(fragment, rest, mention);
    } else {
      rest = lines(fragment, rest, mention);
    }
  }
  return fragment;
}

const isQuote = (text) => text.startsWith("> ");

/** Takes the quoted lines from the beginning. @returns {string} what is left */
function quote(fragment, text, mention) {
  const quoted = [];
  let rest = text;
  while (isQuote(rest)) {
    const end = lineEnd(rest);
    quoted.push(rest.slice(2, end).replace(/\n$/, ""));
    rest = rest.slice(end);
  }
  const block = make("blockquote");
  inline(block, quoted.join("\n"), mention);
  fragment.append(block);
  return rest;
}

/** Takes lines from the beginning, up to the next block. @returns {string} what is left */
function lines(fragment, text, mention) {
  let end = lineEnd(text);
  while (end < text.length && !text.startsWith("> ", end) && !text.startsWith("```", end)) {
    end += lineEnd(text.slice(end));
  }
  const isLast = end === text.length;
  // The line break before a block is the block's own beginning.
  inline(fragment, isLast ? text : text.slice(0, end).replace(/\n$/, ""), mention);
  return text.slice(end);
}

/** Where the first line ends, its line break included. */
function lineEnd(text) {
  const end = text.indexOf("\n");
  return end < 0 ? text.length : end + 1;
}

function inline(parent, text, mention) {
  let plain = 0;
  START.lastIndex = 0;
  for (let start = START.exec(text); start !== null; start = START.exec(text)) {
    const at = start.index;
    const made = special(text, at, mention);
    if (made) {
      parent.append(text.slice(plain, at), made.node);
      plain = at + made.length;
      START.lastIndex = plain;
    } else {
      START.lastIndex = at + 1;
    }
    // `special` renders what stands within emphasis by this very function, which moves the shared pattern.
  }
  parent.append(text.slice(plain));
}

/** What begins at `at`, if it is more than text. */
function special(text, at, mention) {
  const position = START.lastIndex;
  const made = at > 0 && WORD.test(text[at - 1]) && text[at] !== "`" ? null : begin(text, at, mention);
  START.lastIndex = position;
  return made;
}

function begin(text, at, mention) {
  if (text[at] === "`") {
    const code = match(CODE, text, at);
    return code && { node: make("code", { dir: "ltr" }, code[1]), length: code[0].length };
  }
  if (text[at] === "*") {
    const [pattern, tag] = text[at + 1] === "*" ? [STRONG, "strong"] : [EMPHASIS, "em"];
    const found = match(pattern, text, at);
    if (!found) {
      return null;
    }
    const node = make(tag);
    inline(node, found[1], mention);
    return { node, length: found[0].length };
  }
  if (text[at] === "@") {
    const found = mention(text, at);
    return found && {
      node: make("span", { className: found.self ? "mention self" : "mention" }, text.slice(at, at + found.length)),
      length: found.length,
    };
  }
  const found = match(LINK, text, at);
  return found && link(found[0]);
}

function match(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** A link, without the punctuation that belongs to the sentence around it. */
function link(found) {
  let address = found.replace(/[.,;:!?'*_~…]{1,20}$/u, "");
  for (const [open, close] of ["()", "[]", "{}"]) {
    if (address.endsWith(close) && !address.includes(open)) {
      address = address.slice(0, -1).replace(/[.,;:!?]$/, "");
    }
  }
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (!SCHEMES.includes(url.protocol) || (url.protocol !== "mailto:" && url.hostname === "")) {
    return null;
  }
  const node = make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer", title: url.href }, address);
  return { node, length: address.length };
}
