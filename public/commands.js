/** What can be done by writing it: `/name Ann` and the like. */

import { strings } from "./strings.js";

/**
 * @param {{rename: (name: string) => void, join: (room: string) => string | null, leave: () => void,
 *   search: (query: string) => void, help: () => void}} actions
 * @returns {(line: string) => string | null} carries a line out; gives back what is wrong with it, or `null`
 */
export function commands(actions) {
  const table = {
    name: (rest) => (rest === "" ? strings.nameMissing : (actions.rename(rest), null)),
    join: (rest) => (rest === "" ? strings.roomMissing : actions.join(rest.replace(/^#/, ""))),
    leave: () => (actions.leave(), null),
    search: (rest) => (actions.search(rest), null),
    help: () => (actions.help(), null),
  };
  return (line) => {
    const [, word, rest] = /^\/(\S*)\s*(.*)$/su.exec(line);
    const command = Object.hasOwn(table, word.toLowerCase()) ? table[word.toLowerCase()] : null;
    return command ? command(rest.trim()) : strings.unknownCommand(`/${word.slice(0, 40)}`);
  };
}
