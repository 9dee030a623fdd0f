/** The real server as a child process, for the browser tests, the screenshots and the Autobahn|Testsuite. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The folder of the whole project. */
export const PROJECT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Ports for servers that may be started again: below those that the system gives to connections that go out (ip(7)), so
 * that no browser has taken the port meanwhile, and above the last that browsers refuse (10080).
 */
const FIRST_PORT = 10_100;
const PORTS = 20_000;
/** So many of them may be in use by others before we give up. */
const PORTS_TRIED = 20;

/** How long the server may take to say where it listens, in ms. */
const START_TIMEOUT_MS = 30_000;

/** The binary to test: `CHAT_APP`, else the release build, else the debug build. */
export function binary() {
  const candidates = [process.env.CHAT_APP, `${PROJECT}target/release/chat-app`, `${PROJECT}target/debug/chat-app`];
  const found = candidates.find((path) => path && existsSync(path));
  if (!found) {
    throw new Error("There is no server to test: run `cargo build --release`, or set CHAT_APP to a binary.");
  }
  return found;
}

export class Server {
  #child;
  #exited;
  /** How it was started, for a restart. */
  #options;

  constructor(child, exited, url, diagnostics, options) {
    this.#child = child;
    this.#exited = exited;
    this.#options = options;
    /** Where it listens, as it said itself. */
    this.url = url;
    this.port = Number(new URL(url).port);
    /** What it wrote to standard error, so far. */
    this.diagnostics = diagnostics;
  }

  /**
   * Starts the server and waits until it listens.
   *
   * @param {object} [options]
   * @param {number} [options.port] a free one without it
   * @param {string | null} [options.data] the folder in which it keeps messages; without one it keeps them in memory
   * @param {string[]} [options.args] further options of the server
   */
  static async start({ port, ...options } = {}) {
    for (let tried = 1; port === undefined; tried++) {
      try {
        return await Server.#startOn(FIRST_PORT + Math.floor(Math.random() * PORTS), options);
      } catch (error) {
        if (tried === PORTS_TRIED || !error.message.includes("the port is in use")) {
          throw error;
        }
      }
    }
    return Server.#startOn(port, options);
  }

  static async #startOn(port, { data = null, args = [] }) {
    const keeping = data === null ? ["--memory"] : ["--data", data];
    const child = spawn(binary(), ["--port", String(port), ...keeping, ...args], {
      cwd: PROJECT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const exited = new Promise((resolve) => child.once("exit", resolve));
    const diagnostics = [];
    child.stderr.setEncoding("utf8").on("data", (text) => diagnostics.push(text));

    const url = await new Promise((resolve, reject) => {
      const failed = (why) => reject(new Error(`the server ${why}\n${diagnostics.join("")}`));
      const timer = setTimeout(() => {
        child.kill("SIGKILL");
        failed(`did not say where it listens within ${START_TIMEOUT_MS} ms`);
      }, START_TIMEOUT_MS);
      const settle = (outcome) => (value) => {
        clearTimeout(timer);
        outcome(value);
      };
      child.once("error", settle((error) => failed(`could not be started: ${error.message}`)));
      child.once("exit", settle((code) => failed(`ended with ${code} before it listened`)));
      createInterface({ input: child.stdout }).once("line", settle((line) => {
        const match = /^listening on (http:\/\/\S+)$/.exec(line);
        if (match) {
          resolve(match[1]);
        } else {
          child.kill("SIGKILL");
          failed(`began with ${JSON.stringify(line)} instead of saying where it listens`);
        }
      }));
    });
    return new Server(child, exited, url, diagnostics, { data, args });
  }

  /** Ends it without any farewell. */
  async kill() {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Stops it in the middle of whatever it does: connections stay, nothing is read any more. */
  freeze() {
    this.#child.kill("SIGSTOP");
  }

  /** Ends it as an operator does. */
  async stop() {
    this.thaw();
    this.#child.kill("SIGTERM");
    await this.#exited;
  }

  /** Lets it go on after `freeze`. */
  thaw() {
    this.#child.kill("SIGCONT");
  }

  /** Starts it again on the port it had, with what it has kept, once it has ended. */
  async again() {
    await this.#exited;
    return Server.start({ ...this.#options, port: this.port });
  }

  /** Kills it and starts it again. */
  async restart() {
    await this.kill();
    return this.again();
  }
}

/** A folder for one test's messages, and the way to get rid of it. */
export async function dataFolder() {
  const path = await mkdtemp(`${tmpdir()}/chat-app-browser-`);
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
