// People talk: what one page says, the others show; and the first minute of somebody new.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bubbles, hears, launch, post, rename, say, sendRaw, setVisible, until, visit } from "./harness.mjs";
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

const name = (page) => page.locator("#nameButton").textContent();
const hint = (page) => page.locator("#hint").textContent();

test("the first minute: in the lobby, what was said is there, a name is given, and the box is ready", async () => {
  await post(server, "lobby", "Reporter", "said before you came");
  const page = await enter("/");
  await hears(page, "said before you came");
  assert.equal(await page.title(), "#lobby · chat-app");
  assert.equal(await page.locator("#status").textContent(), "Connected");
  assert.equal(await page.evaluate(() => document.activeElement.id), "inputBox");
  assert.match(await name(page), /^[A-Z][a-z]+ [A-Z][a-z]+$/);
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await hears(page, "said before you came", "hello");
  assert.equal(await page.locator("#inputBox").inputValue(), "");
});

test("a name is changed by one click or a command, seen by others, and remembered", async () => {
  const [ann, bob] = [await enter("/?room=names"), await enter("/?room=names")];
  await ann.locator("#nameButton").click();
  await ann.keyboard.type("Ann");
  await ann.keyboard.press("Enter");
  await until("the dialog is gone", () => ann.locator("#settingsDialog").isVisible(), (is) => !is);
  assert.equal(await name(ann), "Ann");
  await say(ann, "I am Ann");
  await hears(bob, "I am Ann");
  assert.equal(await bob.locator(".msgRow .author").textContent(), "Ann");
  await rename(ann, "Anna Lena");
  assert.equal(await hint(ann), "You are now called Anna Lena.");
  await say(ann, "/name system");
  await until("the refusal is told", () => hint(ann), (words) => /reserved/.test(words));
  await ann.reload();
  await until("the name is still there", () => name(ann), (is) => is === "Anna Lena");
  await until("and the message is still her own", () => ann.locator(".msgRow.own").count(), (count) => count === 1);
});

test("two pages chat both ways", async () => {
  const ann = await enter("/?room=both-ways");
  const bob = await enter("/?room=both-ways");
  await say(ann, "hello Bob");
  await hears(bob, "hello Bob");
  await bob.locator("#inputBox").fill("hello Ann");
  await bob.locator("#msgForm button[type=submit]").click();
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
  const texts = Array.from({ length: 100 }, (_, n) => `message ${n}`);
  await sendRaw(ann, texts, "burst");
  await hears(ann, ...texts);
  await hears(bob, ...texts);
  assert.equal(await bob.locator(".author").first().textContent(), "Somebody");
});

test("rooms are apart, and the address names them", async () => {
  const rust = await enter("/?room=rust");
  const cooking = await enter("/?room=cooking");
  assert.equal(await rust.locator("h1").innerText(), "#rust");
  await say(rust, "borrow");
  await say(cooking, "boil");
  await hears(rust, "borrow");
  await hears(cooking, "boil");
  for (const [query, room] of [["?room=", "lobby"], ["?room=&room=second", "second"], ["?room=K%C3%BCche+2", "Küche 2"],
    ["?room=Ku%CC%88che+2", "Küche 2"]]) {
    const page = await enter(`/${query}`);
    assert.equal(await page.locator("#room").textContent(), room);
    await sendRaw(page, [query], room);
    await until(`it hears what is said in ${room}`, () => bubbles(page), (are) => are.includes(query));
  }
});

test("a room that cannot be is explained, and the lobby is one click away", async () => {
  const page = await enter(`/?room=${"x".repeat(100)}`);
  await until("the reason is told", () => page.locator("#emptyText").textContent(), (words) => /at most 64 bytes/.test(words));
  await page.locator("#emptyLink").click();
  await until("it is in the lobby", () => page.locator("#room").textContent(), (room) => room === "lobby");
  await page.reload();
  await until("the room is forgotten", () => page.locator("#roomList li").count(), (count) => count === 1);
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

test("what is being written outlives a page that is ended while out of sight", async () => {
  const page = await enter("/?room=unfinished");
  await page.locator("#inputBox").fill("half a thou");
  await setVisible(page, false);
  assert.match(await page.evaluate(() => sessionStorage.getItem("chat.drafts")), /half a thou/);
});

test("the up arrow recalls the last text, but not over what is being written", async () => {
  const page = await enter("/?room=recall");
  await say(page, "hello *world*");
  await page.locator("#inputBox").press("ArrowUp");
  assert.equal(await page.locator("#inputBox").inputValue(), "hello *world*");
  await page.locator("#inputBox").fill("new");
  await page.locator("#inputBox").press("ArrowUp");
  assert.equal(await page.locator("#inputBox").inputValue(), "new");
});

test("limits are shown before they bite", async () => {
  const other = await Server.start({ args: ["--max-text", "1000"] });
  try {
    const page = await visit(browser, other.url);
    pages.push(page);
    await page.locator("#inputBox").fill("x".repeat(450));
    assert.equal(await hint(page), "");
    await page.locator("#inputBox").fill("x".repeat(900));
    assert.equal(await hint(page), "100 characters left");
    await page.locator("#inputBox").fill("ü".repeat(501));
    assert.equal(await hint(page), "1 character too long");
    await page.locator("#inputBox").press("Enter");
    assert.equal((await page.locator("#inputBox").inputValue()).length, 501, "it is not sent, and not lost");
    await say(page, "x".repeat(1_000));
    await hears(page, "x".repeat(1_000));
    await page.context().close();
  } finally {
    await other.stop();
  }
});

test("commands do what they say; an unknown one is not lost, and two slashes say one", async () => {
  const page = await enter("/?room=commands");
  await say(page, "/dance wildly");
  assert.match(await hint(page), /no command \/dance/);
  assert.equal(await page.locator("#inputBox").inputValue(), "/dance wildly");
  await say(page, "//etc/hosts");
  await hears(page, "/etc/hosts");
  await say(page, "/join garden");
  assert.equal(await page.locator("#room").textContent(), "garden");
  assert.equal(new URL(page.url()).search, "?room=garden");
  assert.equal(await page.locator("#inputBox").inputValue(), "");
  await say(page, "/leave");
  await until("it is back", () => page.locator("#room").textContent(), (room) => room === "commands");
  assert.equal(await page.locator("#inputBox").inputValue(), "");
  await say(page, "/help");
  assert.ok(await page.locator("#helpDialog").isVisible());
  await page.keyboard.press("Escape");
  await until("the help is gone", () => page.locator("#helpDialog").isVisible(), (is) => !is);
  await say(page, "/search hosts");
  assert.ok(await page.locator("#searchPanel").isVisible());
  await until("it is told that nothing is kept", () => page.locator("#searchHint").textContent(), (words) => /no history/.test(words));
});
