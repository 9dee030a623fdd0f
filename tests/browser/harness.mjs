/** What every browser test needs: one Chromium, pages that note what goes wrong in them, and waiting for conditions. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** How long a condition may take to come true, in ms. */
const PATIENCE_MS = 30_000;

/** Starts Chromium with a profile of its own that goes when it closes. */
export async function launch() {
  assert.ok(existsSync(CHROMIUM), `There is no Chromium at ${CHROMIUM}: install it, or set CHROMIUM.`);
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
}

/**
 * Opens the chat as somebody new: a context of its own, the page loaded, and by default in its room.
 *
 * `page.complaints` collects what the page itself got wrong: exceptions, violations of the content security policy,
 * errors on the console.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {import("playwright-core").BrowserContextOptions & {isAwaited?: boolean}} [options]
 */
export async function visit(browser, url, { isAwaited = true, ...options } = {}) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") {
      page.complaints.push(`console: ${message.text()}`);
    }
  });
  page.on("dialog", async (dialog) => {
    page.complaints.push(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  await page.goto(url);
  if (isAwaited) {
    await arrives(page);
  }
  return page;
}

/**
 * Waits until `probe` gives what `wanted` accepts, and gives it back.
 *
 * @template T
 * @param {string} what for the message when it never does
 * @param {() => Promise<T>} probe
 * @param {(value: T) => boolean} wanted
 */
export async function until(what, probe, wanted) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await probe();
    if (wanted(value)) {
      return value;
    }
    if (Date.now() > deadline) {
      assert.fail(`${what}: still ${JSON.stringify(value)} after ${PATIENCE_MS} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until the page says that it is `connecting`, `connected` or `offline`. */
export async function inPhase(page, phase) {
  return until(`the page is ${phase}`, () => page.locator("#status").getAttribute("data-phase"), (is) => is === phase);
}

/**
 * Waits until a page that was just loaded is in the room that it shows, or has been told why it cannot be. It is connected
 * a little earlier; what is said in between would be history to it, and a server that stops then owes it an answer.
 */
export async function arrives(page) {
  await inPhase(page, "connected");
  const here = page.locator("#peopleCount:not(:empty), #emptyLink:not([hidden])");
  await until("the page is in its room", () => here.count(), (count) => count > 0);
}

/** The texts of all bubbles. */
export async function bubbles(page) {
  return page.locator("#messages .msgCtn").allTextContents();
}

/** Waits until the bubbles are exactly these. */
export async function hears(page, ...texts) {
  const expected = JSON.stringify(texts);
  await until(`the bubbles are ${expected}`, () => bubbles(page), (are) => JSON.stringify(are) === expected);
}

/** What is said under messages that are on their way, or were not sent. */
export const fates = (page) => page.locator(".fate:not([hidden])").allTextContents();

/** Waits until a text that was written is shown, and shown as sent like all the others. */
export async function sent(page, text) {
  await until(`${text} is shown`, () => bubbles(page), (are) => are.includes(text));
  await until("all is sent", () => fates(page), (are) => are.length === 0);
}

/** Has a program say something over HTTP, under a name; gives back its position. */
export async function post(server, room, name, text) {
  const response = await fetch(`${server.url}/rooms/${encodeURIComponent(room)}/messages`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name, text }),
  });
  assert.ok(response.ok, `${response.status} ${await response.clone().text()}`);
  return (await response.json()).position;
}

/** Gives the page another name, as a person does. */
export async function rename(page, name) {
  await say(page, `/name ${name}`);
  await until(`the page is called ${name}`, () => page.locator("#nameButton").textContent(), (is) => is === name);
}

/** Has the page believe that it is in sight, or not. */
export async function setVisible(page, isVisible) {
  await page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
    Object.defineProperty(document, "hidden", { configurable: true, get: () => state === "hidden" });
    document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  }, isVisible ? "visible" : "hidden");
}

/** Cuts the page's WebSockets whenever `cut` is called, and refuses them until `mend` is. Call it before the page loads. */
export async function wire(page) {
  let isCut = false;
  const routes = new Set();
  await page.routeWebSocket(/./, (route) => {
    if (isCut) {
      route.close({ code: 1013 });
      return;
    }
    routes.add(route);
    route.connectToServer();
  });
  return {
    async cut() {
      isCut = true;
      await Promise.all([...routes].map((route) => route.close({ code: 1013 })));
      routes.clear();
    },
    mend() {
      isCut = false;
    },
  };
}

/**
 * A watch on what the page's main thread does, in ms of processor time: unlike the time on the wall it is the same on a
 * machine that has other things to do as well.
 *
 * @returns {Promise<() => Promise<number>>} tells how much it was since it was asked last
 */
export async function watch(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  let before = 0;
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    const now = metrics.find(({ name }) => name === "TaskDuration").value * 1_000;
    const since = now - before;
    before = now;
    return since;
  };
  await spent();
  return spent;
}

/** Types into the message box and presses Enter. */
export async function say(page, text) {
  await page.locator("#inputBox").fill(text);
  await page.locator("#inputBox").press("Enter");
}

/**
 * A client of a few lines beside the page: what any program would send.
 *
 * @param {import("playwright-core").Page} page lends its browser
 * @param {(string | number[])[]} messages a number array goes as a binary message
 */
export async function sendRaw(page, messages, room = "lobby") {
  await page.evaluate(
    ([list, name]) =>
      new Promise((resolve, reject) => {
        const url = new URL(`/?room=${encodeURIComponent(name)}`, location.href);
        url.protocol = "ws:";
        const socket = new WebSocket(url);
        let echoes = 0;
        socket.onerror = () => reject(new Error("the raw client failed"));
        socket.onopen = () => list.forEach((item) => socket.send(typeof item === "string" ? item : new Uint8Array(item)));
        socket.onmessage = () => {
          echoes += 1;
          if (echoes === list.length) {
            socket.close();
            resolve();
          }
        };
      }),
    [messages, room],
  );
}
