/** A server of its own for each test, and pages whose connection can be cut, read and bent. */

import { after, afterEach, before } from "node:test";
import { arrives, launch, until, visit, wire } from "./harness.mjs";
import { Server, dataFolder } from "./server.mjs";

/** What the test that runs has at hand. A test that ends its server puts the next one here. */
export const at = {
  /** @type {import("playwright-core").Browser} */
  browser: undefined,
  /** @type {Server | undefined} */
  server: undefined,
  /** Closed when the test ends. @type {import("playwright-core").BrowserContext[]} */
  contexts: [],
};
let folder;

before(async () => {
  at.browser = await launch();
});

after(async () => {
  await at.browser?.close();
});

afterEach(async () => {
  await Promise.all(at.contexts.splice(0).map((context) => context.close()));
  at.server?.thaw();
  await at.server?.kill();
  await folder?.remove();
  at.server = undefined;
  folder = undefined;
});

/** Starts a server that keeps what it is told. */
export async function serve(...args) {
  folder = await dataFolder();
  at.server = await Server.start({ data: folder.path, args });
}

/** A page of somebody new. */
export async function enter({ path = "/", ...options } = {}) {
  const page = await visit(at.browser, at.server.url + path, options);
  at.contexts.push(page.context());
  return page;
}

/** A page whose connection can be cut. */
export async function enterOnWire(path = "/") {
  const context = await at.browser.newContext({ locale: "en-GB" });
  at.contexts.push(context);
  const page = await context.newPage();
  const line = await wire(page);
  await page.goto(at.server.url + path);
  await arrives(page);
  return { page, line };
}

/** A page to which a test can say what the server might; what the page said is in `said`. */
export async function enterBetween({ path = "/", ...options } = {}) {
  const context = await at.browser.newContext({ locale: "en-GB", ...options });
  at.contexts.push(context);
  const page = await context.newPage();
  const said = [];
  const routes = [];
  /** Types of frames that do not come through, either way, as long as they are in here; and those that did not. */
  const held = new Set();
  const kept = [];
  await page.routeWebSocket(/./, (route) => {
    routes.push(route);
    const upstream = route.connectToServer();
    const pass = (to, message) => {
      const frame = JSON.parse(message);
      (held.has(frame.type) ? (late) => kept.push(() => to.send(late)) : (now) => to.send(now))(message);
      return frame;
    };
    route.onMessage((message) => said.push(pass(upstream, message)));
    upstream.onMessage((message) => pass(route, message));
  });
  await page.goto(at.server.url + path);
  await arrives(page);
  return {
    page, said, routes, held,
    release() {
      held.clear();
      kept.splice(0).forEach((send) => send());
    },
    tell: (frame) => routes.at(-1).send(JSON.stringify(frame)),
    close: (code) => routes.at(-1).close({ code }),
  };
}

/** The words of the banner. */
export const banner = (page) => page.locator("#bannerText");

/** What the line below the box says. */
export const hint = (page) => page.locator("#hint").textContent();

/** Waits until the page is called so. */
export const calledNow = (page, name) =>
  until(`the page is called ${name}`, () => page.locator("#nameButton").textContent(), (is) => is === name);
