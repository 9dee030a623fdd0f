/** Binary messages, which come from members of the raw dialect: texts if they can be. */

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Control characters that no text has: whatever holds one is data that happens to be valid UTF-8. */
const NOT_TEXT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** What a binary message says: its text if it is one, else how many bytes it has. */
export function decoded(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  try {
    const text = utf8.decode(bytes);
    if (text !== "" && !NOT_TEXT.test(text)) {
      return { text, bytes: null };
    }
  } catch {
    // It is not UTF-8, and the reader is told how much of it there is.
  }
  return { text: null, bytes: bytes.length };
}
