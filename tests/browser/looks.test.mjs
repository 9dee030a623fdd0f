// How the page looks and works for everybody: themes, phones, keyboards, screen readers, a strict policy.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";
import { hears, inPhase, launch, say, sendRaw, visit } from "./harness.mjs";
import { PROJECT, Server } from "./server.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true };

let browser;
let server;
const pages = [];

before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  await Promise.all(pages.splice(0).map((page) => page.context().close()));
});

async function enter(room, options) {
  const page = await visit(browser, `${server.url}/?room=${room}`, options);
  pages.push(page);
  return page;
}

/** What axe has against the page, a line each. */
async function violations(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => axe.run(document));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

const style = (page, selector, property) =>
  page.locator(selector).first().evaluate((node, name) => getComputedStyle(node)[name], property);

test("everything comes from the server itself, under a policy that forbids all else", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  pages.push(page);
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(server.url);
  await inPhase(page, "connected");
  assert.deepEqual(asked.filter((url) => !url.startsWith(`${server.url}/`)), []);

  const refused = await page.evaluate(async () => {
    const directives = [];
    document.addEventListener("securitypolicyviolation", (event) => directives.push(event.effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "window.inlineScriptRan = true";
    const style = document.createElement("style");
    const image = document.createElement("img");
    const failed = new Promise((resolve) => image.addEventListener("error", resolve));
    image.src = "http://127.0.0.2:9/elsewhere.png";
    document.body.append(script, style, image);
    style.textContent = "body { color: red }";
    await failed;
    return { directives: directives.sort(), ran: window.inlineScriptRan ?? false };
  });
  assert.equal(refused.ran, false);
  for (const directive of ["img-src", "script-src-elem", "style-src-elem"]) {
    assert.ok(refused.directives.includes(directive), `${directive} is among ${refused.directives}`);
  }
});

test("no markup is ever made from strings, nothing stands inline", async () => {
  const folder = `${PROJECT}public/`;
  const files = await readdir(folder);
  assert.ok(files.includes("app.js"));
  for (const file of files) {
    const text = await readFile(folder + file, "utf8");
    const forbidden = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|eval\(|\sstyle=|\son[a-z]+=|https?:\/\/(?!www\.w3\.org)/;
    assert.doesNotMatch(text, forbidden, file);
    assert.doesNotMatch(text, /<script(?![^>]*\ssrc=)|<style/, file);
  }
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing wrong: ${colorScheme}`, async () => {
    const room = `axe-${colorScheme}`;
    const page = await enter(room, { colorScheme, reducedMotion: "reduce" });
    assert.deepEqual(await violations(page), [], "with an empty log");
    await say(page, "hello");
    await sendRaw(page, ["somebody else", [255, 254]], room);
    await hears(page, "hello", "somebody else", "[2 bytes]");
    assert.deepEqual(await violations(page), [], "with messages");
  });
}

test("axe finds nothing wrong: offline", async () => {
  const other = await Server.start();
  for (const colorScheme of ["light", "dark"]) {
    const page = await visit(browser, other.url, { colorScheme, reducedMotion: "reduce", phase: null });
    pages.push(page);
  }
  await other.kill();
  for (const page of pages) {
    await inPhase(page, "offline");
    await say(page, "held back");
    await page.locator("#banner").waitFor();
    assert.deepEqual(await violations(page), []);
  }
});

test("light and dark follow the system; bubbles are blueviolet in both", async () => {
  const [light, dark] = await Promise.all(["light", "dark"].map((colorScheme) => enter("themes", { colorScheme })));
  await say(light, "hello");
  await hears(dark, "hello");
  assert.notEqual(await style(light, "body", "backgroundColor"), await style(dark, "body", "backgroundColor"));
  for (const page of [light, dark]) {
    assert.equal(await style(page, ".msgCtn", "backgroundColor"), "rgb(138, 43, 226)");
  }
});

test("nothing moves for who wants no motion", async () => {
  const page = await enter("still", { reducedMotion: "reduce" });
  await say(page, "hello");
  await hears(page, "hello");
  assert.equal(await style(page, ".msgRow", "animationName"), "none");
});

test("a phone shows all of it, and long words break", async () => {
  const page = await enter("phone", PHONE);
  await say(page, `${"x".repeat(500)} ${"wide ".repeat(60)}`);
  await say(page, "https://example.org/" + "path/".repeat(60));
  await page.locator(".msgCtn").nth(1).waitFor();
  const size = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    high: document.documentElement.scrollHeight,
    logOverflow: document.getElementById("messages").scrollWidth - document.getElementById("messages").clientWidth,
  }));
  assert.deepEqual(size, { wide: 360, high: 640, logOverflow: 0 });
  for (const selector of ["#inputBox", "#msgForm button", "#status"]) {
    const box = await page.locator(selector).boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 360 && box.y + box.height <= 640, `${selector} is in sight`);
  }
  assert.ok((await page.locator("#msgForm button").boundingBox()).height >= 44, "fingers hit the button");
});

test("at 200 % zoom, and above an open keyboard, the composer is in sight", async () => {
  for (const viewport of [{ width: 640, height: 360 }, { width: 360, height: 260 }]) {
    const page = await enter("zoomed", { viewport });
    const box = await page.locator("#msgForm").boundingBox();
    assert.ok(box.y + box.height <= viewport.height, "the composer is in sight");
    assert.ok((await page.locator("#messages").boundingBox()).height > 60, "and so is the conversation");
  }
});

test("a long room name does not push the status away", async () => {
  const page = await enter("name".repeat(15), PHONE);
  const box = await page.locator("#status").boundingBox();
  assert.ok(box.x + box.width <= 360);
});

test("the keyboard reaches everything", async () => {
  const page = await enter("keyboard");
  const visited = [];
  for (let step = 0; step < 3; step += 1) {
    visited.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
    await page.keyboard.press("Tab");
  }
  assert.deepEqual(visited.slice(0, 2), ["inputBox", "Send"]);
  await page.locator("#inputBox").focus();
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "messages");
  assert.notEqual(await style(page, "#messages", "outlineStyle"), "none", "the focus is visible");
});

test("the log speaks politely to screen readers", async () => {
  const page = await enter("screen-reader");
  const log = page.getByRole("log", { name: "Messages" });
  assert.equal(await log.getAttribute("aria-live"), "polite");
  assert.equal(await log.getAttribute("id"), "messages");
  await page.getByRole("textbox", { name: "Your message" }).fill("hello");
  await page.getByRole("button", { name: "Send" }).click();
  await log.getByText("hello").waitFor();
});
