// The connection: it says how it is, comes back by itself, and loses nothing that somebody has written.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { hears, inPhase, launch, say, until, visit } from "./harness.mjs";
import { Server } from "./server.mjs";

let browser;
let server;
const contexts = [];

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

beforeEach(async () => {
  server = await Server.start();
});

afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
  await server.kill();
});

async function enter(options) {
  const page = await visit(browser, server.url, options);
  contexts.push(page.context());
  return page;
}

const hint = (page) => page.locator("#hint").textContent();
const draft = (page) => page.locator("#inputBox").inputValue();

test("the chat is where the page is, by ws or wss as the page came", async () => {
  const page = await enter();
  const urls = await page.evaluate(async () => {
    const { chatUrl } = await import("/connection.js");
    return ["http://a.example:8080/", "https://a.example/chat/?room=x%20y#end", "http://[::1]:1/index.html?room="].map(chatUrl);
  });
  assert.deepEqual(urls, ["ws://a.example:8080/", "wss://a.example/chat/?room=x%20y", "ws://[::1]:1/index.html?room="]);
});

test("the wait doubles up to a bound and is spread over all of its length", async () => {
  const page = await enter();
  const table = [
    // failures, random, wait in ms
    [1, 0, 0],
    [1, 0.5, 500],
    [2, 0.5, 1_000],
    [3, 0.5, 2_000],
    [5, 0.5, 8_000],
    [6, 0.5, 15_000],
    [60, 0.5, 15_000],
    [5_000, 0.25, 7_500],
  ];
  const waits = await page.evaluate(async (rows) => {
    const { backoff } = await import("/connection.js");
    return rows.map(([failures, random]) => backoff(failures, random));
  }, table);
  assert.deepEqual(waits, table.map(([, , wait]) => wait));
});

test("it says connecting, connected and offline", async () => {
  const page = await enter();
  assert.equal(await page.locator("#status").textContent(), "Connected");
  await server.kill();
  await inPhase(page, "offline");
  assert.equal(await page.locator("#status").textContent(), "Offline");

  // Nobody answers here, so this page stays in its first attempt.
  const context = await browser.newContext();
  contexts.push(context);
  server = await Server.start();
  const waiting = await context.newPage();
  await waiting.routeWebSocket(/./, () => new Promise(() => {}));
  await waiting.goto(server.url);
  await waiting.waitForFunction(() => document.title.startsWith("#"));
  assert.equal(await waiting.locator("#status").textContent(), "Connecting…");
});

test("it comes back by itself after kill -9, and people chat on", async () => {
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await say(ann, "before");
  await hears(bob, "before");
  server = await server.restart();
  await Promise.all([inPhase(ann, "connected"), inPhase(bob, "connected")]);
  await say(bob, "after");
  await hears(ann, "before", "after");
  await hears(bob, "before", "after");
});

test("a time without connection is marked in the log", async () => {
  const page = await enter();
  const marks = () => page.locator("#messages .gapRow").allTextContents();
  await say(page, "before");
  await hears(page, "before");
  assert.deepEqual(await marks(), []);
  server = await server.restart();
  await until("there is a mark", marks, ([mark]) => /not shown here/.test(mark));
  await inPhase(page, "connected");
  await say(page, "after");
  await hears(page, "before", "after");
  const order = await page.locator("#messages > *").evaluateAll((rows) => rows.map((row) => row.className.split(" ")[0]));
  assert.deepEqual(order, ["msgRow", "gapRow", "msgRow"]);
});

test("a draft outlives the connection and is sent when it is back", async () => {
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await ann.locator("#inputBox").fill("half a thou");
  await server.kill();
  await inPhase(ann, "offline");
  await ann.locator("#inputBox").press("End");
  await ann.locator("#inputBox").pressSequentially("ght");
  await ann.locator("#inputBox").press("Enter");
  assert.equal(await draft(ann), "half a thought", "Send keeps what it cannot send");
  assert.match(await hint(ann), /stays here/);
  await hears(ann);

  server = await server.restart();
  await Promise.all([inPhase(ann, "connected"), inPhase(bob, "connected")]);
  assert.equal(await draft(ann), "half a thought");
  assert.match(await hint(ann), /Connected again/);
  await ann.locator("#inputBox").press("Enter");
  await hears(bob, "half a thought");
  assert.equal(await draft(ann), "");
  assert.equal(await hint(ann), "");
});

test("what was on its way when the connection broke is given back", async () => {
  const page = await enter();
  server.freeze();
  await say(page, "into the void");
  await say(page, "and this");
  assert.equal(await draft(page), "");
  await until("it says that it is sending", () => hint(page), (words) => words === "Sending…");
  await page.locator("#inputBox").fill("next");
  await server.kill();
  await until("the texts are back", () => draft(page), (text) => text === "into the void\nand this\nnext");
  assert.match(await hint(page), /may not have arrived/);
});

test("a server that has gone silent is left", async () => {
  const page = await enter({ phase: null });
  await page.clock.install();
  await page.reload();
  await inPhase(page, "connected");
  server.freeze();
  await say(page, "anybody?");
  await page.clock.fastForward(21_000);
  await until("the text is back", () => draft(page), (text) => text === "anybody?");
  await inPhase(page, "offline");
});

test("it waits longer each time, says so, and wakes when asked", async () => {
  for (const wake of ["button", "online", "focus"]) {
    const page = await enter({ phase: null });
    await page.clock.install();
    await page.addInitScript(() => {
      Math.random = () => 0.99;
    });
    await page.reload();
    await inPhase(page, "connected");
    await page.clock.pauseAt(Date.now() + 60_000);
    await server.kill();
    const banner = page.locator("#bannerText");
    // The clock stands still. Each step skips one wait; the attempt after it fails at once.
    for (const seconds of [1, 2, 4, 8, 16]) {
      await until(`the wait is ${seconds} s`, () => banner.textContent(), (words) => words.includes(`in ${seconds} s`));
      await page.clock.fastForward(seconds * 1_000);
    }
    await until("the wait is at its bound", () => banner.textContent(), (words) => words.includes("in 30 s"));
    assert.ok(await banner.isVisible());

    server = await Server.start({ port: server.port });
    if (wake === "button") {
      await page.locator("#retryButton").click();
    } else {
      await page.evaluate((type) => window.dispatchEvent(new Event(type)), wake);
    }
    await inPhase(page, "connected");
    assert.equal(await banner.isVisible(), false);
  }
});
