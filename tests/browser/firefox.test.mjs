// The same chat in Firefox: the first minute, two people, and a server that goes and comes back.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import puppeteer from "puppeteer-core";
import { post, until } from "./harness.mjs";
import { Server, dataFolder } from "./server.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

let browser;
let server;
let folder;
let contexts = [];

before(async () => {
  browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: FIREFOX,
    headless: true,
    timeout: 120_000,
    extraPrefsFirefox: { "intl.accept_languages": "en-GB" },
  });
});

after(async () => {
  await browser?.close();
});

beforeEach(async () => {
  folder = await dataFolder();
  server = await Server.start({ data: folder.path });
});

afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
  await server.kill();
  await folder.remove();
});

/** Opens the chat as somebody new. */
async function enter() {
  const context = await browser.createBrowserContext();
  contexts.push(context);
  const page = await context.newPage();
  page.complaints = [];
  // That a connection could not be made is told as an error, too, and is what one of the tests is about.
  page.on("pageerror", ({ message }) => /establish a connection/.test(message) || page.complaints.push(message));
  await page.goto(server.url);
  await inPhase(page, "connected");
  return page;
}

const inPhase = (page, phase) =>
  until(`the page is ${phase}`, () => page.$eval("#status", (node) => node.dataset.phase), (is) => is === phase);

const texts = (page, selector) => page.$$eval(selector, (nodes) => nodes.map(({ textContent }) => textContent));

const hears = (page, ...expected) =>
  until(`the bubbles are ${expected}`, () => texts(page, ".msgCtn"), (are) => JSON.stringify(are) === JSON.stringify(expected));

async function sent(page, text) {
  await until(`${text} is shown`, () => texts(page, ".msgCtn"), (are) => are.includes(text));
  await until("all is sent", () => texts(page, ".fate:not([hidden])"), (are) => are.length === 0);
}

async function say(page, text) {
  await page.bringToFront();
  await page.focus("#inputBox");
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}

test("Firefox: the first minute", async () => {
  await post(server, "lobby", "Reporter", "said before you came");
  const page = await enter();
  await hears(page, "said before you came");
  assert.equal(await page.title(), "#lobby · chat-app");
  assert.equal(await page.evaluate(() => document.activeElement.id), "inputBox");
  assert.match((await texts(page, "#nameButton"))[0], /^\S+ \S+$/);
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await hears(page, "said before you came", "hello");
  await say(page, "/name Ann");
  await until("the name is changed", () => texts(page, "#nameButton"), ([name]) => name === "Ann");
  await page.reload();
  await until("and remembered", () => texts(page, "#nameButton"), ([name]) => name === "Ann");
  await until("the message is still her own", () => texts(page, ".own .msgCtn"), ([text]) => text === "hello");
  assert.deepEqual(page.complaints, []);
});

test("Firefox: two people talk both ways", async () => {
  const [ann, bob] = [await enter(), await enter()];
  await say(ann, "hello *Bob*, see https://example.org");
  await hears(bob, "hello Bob, see https://example.org");
  await say(bob, "hello Ann");
  for (const page of [ann, bob]) {
    await hears(page, "hello Bob, see https://example.org", "hello Ann");
    assert.deepEqual(await texts(page, ".msgCtn a"), ["https://example.org"]);
    await until("two are here", () => texts(page, "#peopleCount"), ([count]) => count === "2");
    assert.deepEqual(page.complaints, []);
  }
});

test("Firefox: offline and back, with order kept", async () => {
  const [ann, bob] = [await enter(), await enter()];
  await say(ann, "before");
  await hears(bob, "before");
  await sent(ann, "before");
  await server.kill();
  await inPhase(ann, "offline");
  for (const text of ["one", "two", "three"]) {
    await say(ann, text);
  }
  await hears(ann, "before", "one", "two", "three");
  server = await server.again();
  await hears(bob, "before", "one", "two", "three");
  await hears(ann, "before", "one", "two", "three");
  await sent(ann, "three");
  assert.deepEqual([...ann.complaints, ...bob.complaints], []);
});
