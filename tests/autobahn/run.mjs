// Runs the Autobahn|Testsuite's fuzzing client against the raw dialect: with one client, a broadcast server echoes.
//
//   node tests/autobahn/run.mjs            fails if a case does worse than in summary.json
//   node tests/autobahn/run.mjs --update   writes summary.json anew
//
// The whole report is left in target/autobahn-report/index.html.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { PROJECT, Server } from "../browser/server.mjs";
import { installSuite } from "./python.mjs";
import { compare, counts, failures, readReport, readSummary, writeSummary } from "./summary.mjs";

const SUMMARY = `${PROJECT}tests/autobahn/summary.json`;
const REPORT = `${PROJECT}target/autobahn-report`;
/** All but 12 and 13, which are about compression, and 8, which is empty. */
const CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/** Room for the messages of 16 MiB in group 9, which are far beyond the defaults. */
const LIMITS = [
  ["--max-message", "64MiB"],
  ["--outbox-high-water", "64MiB"],
  ["--draft-bytes-in-flight", "64MiB"],
  ["--tail-bytes", "64MiB"],
  ["--tails-total", "128MiB"],
].flat();
const TIMEOUT_MS = 240_000;

async function fuzz(wstest, url, cases, outdir) {
  mkdirSync(outdir, { recursive: true });
  const spec = { outdir, servers: [{ agent: "chat-app", url }], cases, "exclude-cases": [], "exclude-agent-cases": {} };
  writeFileSync(`${outdir}/spec.json`, JSON.stringify(spec));
  const log = openSync(`${outdir}/wstest.log`, "w");
  const client = spawn(wstest, ["-m", "fuzzingclient", "-s", `${outdir}/spec.json`], { stdio: ["ignore", log, log] });
  const timer = setTimeout(() => client.kill("SIGKILL"), TIMEOUT_MS);
  const [code, signal] = await once(client, "exit");
  clearTimeout(timer);
  if (code !== 0 || !existsSync(`${outdir}/index.json`)) {
    const tail = readFileSync(`${outdir}/wstest.log`, "utf8").split("\n").slice(-10).join("\n");
    throw new Error(`the fuzzing client ended with ${signal ?? code} and no report:\n${tail}`);
  }
  return readReport(`${outdir}/index.json`);
}

/** Cases that failed, or did worse than they are known to. */
function suspects(verdicts) {
  const { worse } = compare(readSummary(SUMMARY), verdicts);
  return [...new Set([...failures(verdicts), ...worse.map((line) => line.split(" ")[0])])];
}

const wstest = installSuite();
if (wstest === null) {
  console.log("skipped: the Autobahn|Testsuite needs Python 2.7, and there is neither a python2.7 nor a pyenv 2.7 here");
  process.exit(0);
}

const server = await Server.start({ args: LIMITS });
const url = server.url.replace("http:", "ws:");
rmSync(REPORT, { recursive: true, force: true });
let verdicts;
try {
  verdicts = await fuzz(wstest, url, CASES, REPORT);
  // The suite gives most cases a second, and calls what a busy machine has not done by then a failure.
  const again = suspects(verdicts);
  if (again.length > 0) {
    console.log(`once more: ${again.join(" ")}`);
    verdicts = { ...verdicts, ...(await fuzz(wstest, url, again, `${REPORT}/again`)) };
  }
} finally {
  await server.kill();
}

console.log(counts(verdicts));
if (process.argv.includes("--update")) {
  writeSummary(SUMMARY, verdicts);
  console.log(`written: ${SUMMARY}`);
} else {
  const { worse, better } = compare(readSummary(SUMMARY), verdicts);
  better.forEach((line) => console.log(`better: ${line}`));
  worse.forEach((line) => console.log(`worse: ${line}`));
  if (better.length > 0) {
    console.log("Keep what is better: node tests/autobahn/run.mjs --update");
  }
  const failed = suspects(verdicts);
  failed.forEach((name) => console.log(`failed: ${name} ${JSON.stringify(verdicts[name] ?? "was not run")}`));
  console.log(`${Object.keys(verdicts).length - failed.length} passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}
