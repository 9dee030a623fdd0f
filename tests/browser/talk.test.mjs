// People talk: what one page says, the others show, and show as text.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bubbles, hears, launch, say, sendRaw, until, visit } from "./harness.mjs";
import { Server } from "./server.mjs";

let browser;
let server;
let pages = [];

before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page in a room of its own test. */
async function enter(path, options) {
  const page = await visit(browser, server.url + path, options);
  pages.push(page);
  return page;
}

afterEach(async () => {
  const complaints = pages.flatMap((page) => page.complaints);
  await Promise.all(pages.map((page) => page.context().close()));
  pages = [];
  assert.deepEqual(complaints, [], "no page has anything to complain about");
});

test("the page opens ready to type", async () => {
  const page = await enter("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "inputBox");
  assert.equal(await page.title(), "#lobby · chat-app");
  assert.equal(await page.locator("#status").textContent(), "Connected");
  assert.ok(await page.locator("#empty").isVisible(), "an empty room says that it is empty");
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await hears(page, "hello");
  assert.equal(await page.locator("#inputBox").inputValue(), "");
  assert.equal(await page.locator("#empty").isVisible(), false);
});

test("two pages chat both ways", async () => {
  const ann = await enter("/?room=both-ways");
  const bob = await enter("/?room=both-ways");
  await say(ann, "hello Bob");
  await hears(bob, "hello Bob");
  await bob.locator("#inputBox").fill("hello Ann");
  await bob.locator("#msgForm button").click();
  await hears(ann, "hello Bob", "hello Ann");
  await hears(bob, "hello Bob", "hello Ann");
  assert.equal(await bob.evaluate(() => document.activeElement.id), "inputBox", "the focus is back in the box");
  for (const [page, own] of [[ann, "hello Bob"], [bob, "hello Ann"]]) {
    assert.deepEqual(await page.locator(".msgRow.own .msgCtn").allTextContents(), [own]);
  }
});

test("a burst arrives whole and in order", async () => {
  const ann = await enter("/?room=burst");
  const bob = await enter("/?room=burst");
  const texts = Array.from({ length: 300 }, (_, n) => `message ${n}`);
  await sendRaw(ann, texts, "burst");
  await hears(ann, ...texts);
  await hears(bob, ...texts);
});

test("hostile text runs nothing and shows as text", async () => {
  const texts = [
    `<img src=x onerror="alert('img')">`,
    `<script>alert("script")</script>`,
    `<svg onload=alert(1)><a href="javascript:alert(2)">x</a>`,
    `</template></div><iframe srcdoc="<script>alert(3)</script>">`,
    `&lt;b&gt; &amp; "quotes" {{7*7}} \${alert(4)}`,
    "\u202egnp.exe \u2066isolated\u2069 e\u0301\u0301\u0301 \ud83d\udc69\u200d\ud83d\ude80",
  ];
  const ann = await enter("/?room=hostile");
  const bob = await enter("/?room=hostile");
  for (const text of texts) {
    await say(ann, text);
  }
  await hears(bob, ...texts);
  await hears(ann, ...texts);
  const foreign = "#messages :not(.msgRow, .msgCtn, time)";
  assert.equal(await bob.locator(foreign).count(), 0, "no element came out of a message");
  assert.equal(await bob.locator("#messages .msgCtn *").count(), 0);
});

test("a hostile room name runs nothing and shows as text", async () => {
  const name = `<img src=x onerror=alert(1)>`;
  const page = await enter(`/?room=${encodeURIComponent(name)}`);
  assert.equal(await page.locator("#room").textContent(), name);
  assert.equal(await page.locator("h1 img").count(), 0);
  await say(page, "in here");
  await hears(page, "in here");
});

test("rooms are apart", async () => {
  const rust = await enter("/?room=rust");
  const cooking = await enter("/?room=cooking");
  assert.equal(await rust.locator("h1").innerText(), "#rust");
  await say(rust, "borrow");
  await say(cooking, "boil");
  await hears(rust, "borrow");
  await hears(cooking, "boil");
});

test("the page names the room that the server puts it in", async () => {
  for (const [query, name] of [["?room=", "lobby"], ["?room=&room=second", "second"], ["?room=K%C3%BCche+2", "Küche 2"]]) {
    const page = await enter(`/${query}`);
    assert.equal(await page.locator("#room").textContent(), name);
    await sendRaw(page, [query], name);
    await hears(page, query);
  }
});

test("binary messages that are text are shown, others described", async () => {
  const page = await enter("/?room=binary");
  const utf8 = [...new TextEncoder().encode("grüße 👋\nzweite Zeile")];
  await sendRaw(page, [utf8, [0xff, 0xfe, 0xfd], [0x00, 0x01], [0xc3], "plain"], "binary");
  await hears(page, "grüße 👋\nzweite Zeile", "[3 bytes]", "[2 bytes]", "[1 byte]", "plain");
});

test("Shift+Enter breaks the line, blank text is not sent", async () => {
  const page = await enter("/?room=lines");
  const box = page.locator("#inputBox");
  const oneLine = (await box.boundingBox()).height;
  await box.pressSequentially("one");
  await box.press("Shift+Enter");
  await box.pressSequentially("two");
  await box.press("Shift+Enter");
  await box.pressSequentially("  three");
  assert.ok((await box.boundingBox()).height > oneLine, "the box grows");
  await box.press("Enter");
  await hears(page, "one\ntwo\n  three");
  assert.equal((await box.boundingBox()).height, oneLine, "the box is small again");
  await say(page, "   ");
  await say(page, "end");
  await hears(page, "one\ntwo\n  three", "end");
});

test("Enter that ends a composition does not send", async () => {
  const page = await enter("/?room=composition");
  await page.locator("#inputBox").fill("にほん");
  await page.evaluate(() => {
    const enter = { key: "Enter", bubbles: true, cancelable: true, isComposing: true };
    document.getElementById("inputBox").dispatchEvent(new KeyboardEvent("keydown", enter));
  });
  assert.equal(await page.locator("#inputBox").inputValue(), "にほん");
  await page.locator("#inputBox").press("Enter");
  await hears(page, "にほん");
});

test("typing anywhere goes to the box", async () => {
  const page = await enter("/?room=anywhere");
  await page.locator("#messages").click();
  assert.notEqual(await page.evaluate(() => document.activeElement.id), "inputBox");
  await page.keyboard.type("hey");
  assert.equal(await page.locator("#inputBox").inputValue(), "hey");
});

test("a message that is too long is given back, not lost", async () => {
  const page = await enter("/?room=too-long");
  const text = "long ".repeat(20_000);
  await say(page, text);
  await until("the text is back", () => page.locator("#inputBox").inputValue(), (value) => value === text);
  assert.match(await page.locator("#hint").textContent(), /too long/);
  await until("it is connected again", () => page.locator("#status").textContent(), (words) => words === "Connected");
  assert.deepEqual(await bubbles(page), []);
  await say(page, "short");
  await hears(page, "short");
});
