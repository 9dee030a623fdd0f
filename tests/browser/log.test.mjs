// The log: it moves along with who reads at its end, leaves alone who has scrolled up, and does not grow for ever.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch, say, sendRaw, until, visit } from "./harness.mjs";
import { Server } from "./server.mjs";

let browser;
let server;
let page;

before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  const { complaints } = page;
  await page.context().close();
  assert.deepEqual(complaints, []);
});

const numbered = (from, to) => Array.from({ length: to - from }, (_, n) => `message ${from + n}`);

/** Opens a room and fills it with `count` messages. */
async function fill(room, count) {
  page = await visit(browser, `${server.url}/?room=${room}`, { reducedMotion: "reduce" });
  await sendRaw(page, numbered(0, count), room);
  await newest(`message ${count - 1}`);
}

async function newest(text) {
  const last = page.locator("#messages .msgRow:last-child .msgCtn");
  await until(`the newest is ${text}`, async () => ((await last.count()) ? last.textContent() : ""), (is) => is === text);
}

/** How far the log is from its end, in px. */
const distance = () =>
  page.locator("#messages").evaluate((log) => Math.round(log.scrollHeight - log.scrollTop - log.clientHeight));

/** Where the bubble with this text stands in the window, in px. */
const place = (text) => page.getByText(text, { exact: true }).evaluate((bubble) => bubble.getBoundingClientRect().top);

/** Scrolls as a reader does, and waits until the page has noticed. */
async function scrollTo(top) {
  await page.locator("#messages").evaluate(
    (log, to) =>
      new Promise((resolve) => {
        log.addEventListener("scroll", () => requestAnimationFrame(resolve), { once: true });
        log.scrollTop = to;
      }),
    top,
  );
}

test("a reader at the end stays there", async () => {
  await fill("following", 60);
  assert.equal(await distance(), 0);
  await sendRaw(page, numbered(60, 90), "following");
  await newest("message 89");
  assert.equal(await distance(), 0);
  assert.equal(await page.locator("#newButton").isVisible(), false);

  await page.setViewportSize({ width: 500, height: 320 });
  await until("the end is in sight in a small window", distance, (px) => px === 0);
  await page.locator("#inputBox").fill("one\ntwo\nthree\nfour");
  await until("the end is in sight above a grown box", distance, (px) => px === 0);
});

test("a reader who scrolled up is not pulled down", async () => {
  await fill("scrolled-up", 60);
  await scrollTo(300);
  const before = await place("message 12");
  await sendRaw(page, ["news"], "scrolled-up");
  await until("the news are announced", () => page.locator("#newButton").textContent(), (is) => is === "1 new message ↓");
  await sendRaw(page, ["more", "and more"], "scrolled-up");
  await until("and counted", () => page.locator("#newButton").textContent(), (is) => is === "3 new messages ↓");
  assert.equal(await place("message 12"), before, "what is read stays where it is");

  await page.locator("#newButton").click();
  assert.equal(await distance(), 0);
  assert.equal(await page.locator("#newButton").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "inputBox");
});

test("scrolling back down takes up following again", async () => {
  await fill("back-down", 60);
  await scrollTo(0);
  await sendRaw(page, ["news"], "back-down");
  await page.locator("#newButton").waitFor();
  await scrollTo(1_000_000);
  assert.equal(await page.locator("#newButton").isVisible(), false);
  await sendRaw(page, ["latest"], "back-down");
  await newest("latest");
  assert.equal(await distance(), 0);
});

test("who says something sees it", async () => {
  await fill("say-and-see", 60);
  await scrollTo(0);
  await say(page, "mine");
  await newest("mine");
  await until("the log is at its end", distance, (px) => px === 0);
});

test("the log is trimmed at its old end", async () => {
  await fill("trimmed", 400);
  for (let from = 400; from < 1_400; from += 200) {
    await sendRaw(page, numbered(from, from + 200), "trimmed");
  }
  await newest("message 1399");
  const count = await page.locator("#messages .msgRow").count();
  assert.ok(count >= 900 && count <= 1_000, `${count} messages are kept`);
  assert.equal(await page.locator("#messages .msgRow:first-child .msgCtn").textContent(), `message ${1_400 - count}`);
  assert.equal(await distance(), 0);

  await scrollTo(20_000);
  const before = await place("message 1100");
  await sendRaw(page, numbered(1_400, 1_550), "trimmed");
  await newest("message 1549");
  assert.ok((await page.locator("#messages .msgRow").count()) <= 1_000);
  assert.ok(Math.abs((await place("message 1100")) - before) <= 1, "trimming does not move what is read");
});
