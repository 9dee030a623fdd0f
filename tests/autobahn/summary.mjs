/** Verdicts of the Autobahn|Testsuite: read from a report, kept in summary.json, compared for the worse. */

import { readFileSync, writeFileSync } from "node:fs";

/** From best to worst. A case that only informs (how the server frames what it sends, say) is as good as one that passes. */
const RANKS = [["OK", "INFORMATIONAL"], ["NON-STRICT"], ["UNIMPLEMENTED"], ["UNCLEAN", "WRONG CODE"], ["FAILED BY CLIENT"], ["FAILED"]];

/** @typedef {Record<string, {behavior: string, behaviorClose: string}>} Verdicts by case, as `6.4.1` */

const rank = (verdict) => {
  const found = RANKS.findIndex((names) => names.includes(verdict));
  return found === -1 ? RANKS.length : found;
};

const byCase = ([a], [b]) => a.localeCompare(b, "en", { numeric: true });

/** @returns {Verdicts} of the one agent in a report's `index.json` */
export function readReport(path) {
  const [verdicts] = Object.values(JSON.parse(readFileSync(path, "utf8")));
  const pick = ([name, { behavior, behaviorClose }]) => [name, { behavior, behaviorClose }];
  return Object.fromEntries(Object.entries(verdicts).map(pick).sort(byCase));
}

/** @returns {Verdicts} */
export function readSummary(path) {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** Writes a line for each case, so that a difference is a line as well. */
export function writeSummary(path, verdicts) {
  const lines = Object.entries(verdicts).map(([name, verdict]) => `  ${JSON.stringify(name)}: ${JSON.stringify(verdict)}`);
  writeFileSync(path, `{\n${lines.join(",\n")}\n}\n`);
}

/** Cases that did not pass, whatever the summary says: their behavior is neither right nor merely late. */
export function failures(verdicts) {
  return Object.keys(verdicts).filter((name) => rank(verdicts[name].behavior) > rank("NON-STRICT"));
}

/**
 * What has changed, a line each. A case that was not run has changed for the worse.
 *
 * @param {Verdicts} expected
 * @param {Verdicts} actual
 */
export function compare(expected, actual) {
  const worse = [];
  const better = [];
  for (const [name, before] of Object.entries(expected)) {
    const now = actual[name] ?? { behavior: "NOT RUN", behaviorClose: "NOT RUN" };
    for (const aspect of ["behavior", "behaviorClose"]) {
      const change = `${name} ${aspect}: ${before[aspect]} → ${now[aspect]}`;
      if (rank(now[aspect]) > rank(before[aspect])) {
        worse.push(change);
      } else if (rank(now[aspect]) < rank(before[aspect])) {
        better.push(change);
      }
    }
  }
  const fresh = Object.keys(actual).filter((name) => !(name in expected));
  better.push(...fresh.map((name) => `${name} is new: ${actual[name].behavior}, ${actual[name].behaviorClose}`));
  return { worse, better };
}

/** @returns {string} as `290 OK, 3 INFORMATIONAL` */
export function counts(verdicts) {
  const tally = new Map();
  for (const { behavior } of Object.values(verdicts)) {
    tally.set(behavior, (tally.get(behavior) ?? 0) + 1);
  }
  return [...tally].sort(([a], [b]) => rank(a) - rank(b)).map(([name, count]) => `${count} ${name}`).join(", ");
}
