// Others and attention: who is here, who is writing, rooms with what is unread, mentions, notifications, search.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bubbles, hears, launch, post, rename, say, sent, setVisible, until, visit } from "./harness.mjs";
import { Server, dataFolder } from "./server.mjs";

let browser;
let server;
let folder;
let pages = [];

before(async () => {
  folder = await dataFolder();
  [browser, server] = await Promise.all([launch(), Server.start({ data: folder.path })]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await folder?.remove();
});

afterEach(async () => {
  const complaints = pages.flatMap((page) => page.complaints ?? []);
  await Promise.all(pages.map((page) => page.context().close()));
  pages = [];
  assert.deepEqual(complaints, [], "no page has anything to complain about");
});

async function enter(room, name, options) {
  const page = await visit(browser, `${server.url}/?room=${room}`, options);
  pages.push(page);
  if (name) {
    await rename(page, name);
  }
  return page;
}

/** Waits until `list` gives exactly these. */
const becomes = (what, list, expected) =>
  until(what, list, (are) => JSON.stringify(are) === JSON.stringify(expected));

/** Scrolls down until the last text is there, and gives back all that was, in the order in which it came. */
async function seenDownTo(page, last) {
  const seen = new Set();
  await until(`${last} is there`, async () => {
    for (const text of await bubbles(page)) {
      seen.add(text);
    }
    await page.locator("#messages").evaluate((node) => (node.scrollTop += 400));
    return seen.has(last);
  }, Boolean);
  return [...seen];
}

test("who is here is counted and named, oneself first and marked", async () => {
  const ann = await enter("here", "Ann");
  const bob = await enter("here", "Bob");
  await until("two are here", () => ann.locator("#peopleCount").textContent(), (count) => count === "2");
  await ann.locator("#peopleButton").click();
  const people = () => ann.locator("#peopleList li").evaluateAll((rows) =>
    rows.map((row) => `${row.querySelector("bdi").textContent}${row.querySelector(".you")?.textContent ?? ""}`));
  await becomes("both are named", people, ["Ann(you)", "Bob"]);
  await rename(bob, "Robert");
  await becomes("the new name is there", people, ["Ann(you)", "Robert"]);
  assert.equal(await ann.locator("#peopleTitle").textContent(), "2 people here");
  const raw = bob.evaluate(() => new Promise((resolve) => {
    window.raw = new WebSocket(`ws://${location.host}/?room=here`);
    window.raw.onopen = resolve;
  }));
  await raw;
  await until("somebody without a name", () => ann.locator("#unnamed").textContent(), (words) => words === "and 1 without a name");
});

test("joins and leaves are summed up in one discreet line", async () => {
  const ann = await enter("comings", "Ann");
  await say(ann, "hello");
  await sent(ann, "hello");
  const notices = async () => (await ann.locator(".noticeRow").allTextContents()).map((words) => words.replace(/[\u2068\u2069]/g, ""));
  const bob = await enter("comings");
  const name = await bob.locator("#nameButton").textContent();
  await becomes("Bob's coming is told", notices, [`${name} came`]);
  await bob.context().close();
  pages = pages.filter((page) => page !== bob);
  await becomes("who came and went is not mentioned", notices, []);
});

test("who is writing is told, and that it has ended", async () => {
  const ann = await enter("writing", "Ann");
  const bob = await enter("writing", "Bob");
  const typing = async () => (await bob.locator("#typing").textContent()).replace(/[\u2068\u2069]/g, "");
  await ann.locator("#inputBox").pressSequentially("hm");
  await until("Ann is writing", typing, (words) => words === "Ann is writing…");
  assert.equal((await ann.locator("#typing").textContent()).trim(), "", "nobody is told of themselves");
  await ann.locator("#inputBox").press("Enter");
  await until("Ann has written", typing, (words) => words === "");
});

test("whoever writes for long is not forgotten meanwhile", async () => {
  const ann = await enter("long", "Ann");
  const bob = await enter("long", null, { isAwaited: false });
  await bob.clock.install();
  await bob.reload();
  await until("two are here", () => bob.locator("#peopleCount").textContent(), (count) => count === "2");
  const typing = async () => (await bob.locator("#typing").textContent()).replace(/[\u2068\u2069]/g, "");
  await ann.locator("#inputBox").pressSequentially("well");
  await until("Ann is writing", typing, (words) => words === "Ann is writing…");
  await bob.clock.fastForward(20_000);
  assert.equal(await typing(), "Ann is writing…", "the server says when it ends");
});

test("a room is opened by a press, and keeps the focus, however much is said in it meanwhile", async () => {
  const page = await enter("pressed");
  await say(page, "/join calm");
  const link = page.locator("#roomList a", { hasText: "pressed" });
  const unread = (count) => until(`${count} are unread`, () => link.locator(".badge").allTextContents(), ([words]) => words === String(count));
  const leave = page.getByRole("button", { name: "Leave pressed" });
  await leave.focus();
  await post(server, "pressed", "Bot", "one");
  await unread(1);
  assert.ok(await leave.evaluate((button) => button === document.activeElement));
  await link.locator(".badge").hover();
  await page.mouse.down();
  await post(server, "pressed", "Bot", "two");
  await unread(2);
  await page.mouse.up();
  await hears(page, "one", "two");

  await page.getByRole("button", { name: "Leave calm" }).focus();
  await page.keyboard.press("Enter");
  await until("it is left", () => page.locator("#roomList li").count(), (count) => count === 1);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "#pressed");
});

test("rooms have unread counts, are joined by name, and left", async () => {
  const page = await enter("first");
  const rooms = () => page.locator("#roomList li a").evaluateAll((links) =>
    links.map((link) => [...link.children].slice(1).map((part) => part.textContent).join(" ")));
  await page.locator("#joinBox").fill("second");
  await page.locator("#joinBox").press("Enter");
  await becomes("both are listed", rooms, ["first", "second"]);
  assert.equal(await page.locator("#roomList [aria-current] bdi").textContent(), "second");
  await until("it is there", () => page.locator("#empty").isVisible(), Boolean);
  await post(server, "first", "Bot", "news");
  await post(server, "first", "Bot", "more news");
  await becomes("the first has two", rooms, ["first 2", "second"]);
  assert.equal(await page.title(), "(2) #second · chat-app");
  assert.match(await page.locator("#icon").getAttribute("href"), /^data:image\/svg\+xml,.*%3E2%3C/);
  // A reload forgets nothing.
  await page.reload();
  await becomes("the first still has two", rooms, ["first 2", "second"]);
  await page.locator("#roomList a").first().click();
  await hears(page, "news", "more news");
  await becomes("nothing is unread", rooms, ["first", "second"]);
  assert.equal(await page.title(), "#first · chat-app");
  assert.equal(await page.locator("#icon").getAttribute("href"), "favicon.svg");
  await page.goBack();
  await until("back is the room before", () => page.locator("#room").textContent(), (room) => room === "second");
  await page.locator("#roomList li").last().hover();
  await page.locator("#roomList li").last().getByRole("button", { name: "Leave second" }).click();
  await becomes("one is left", rooms, ["first"]);
  assert.equal(await page.locator("#formerList bdi").textContent(), "second");
  await page.locator("#formerList a").click();
  await becomes("it is there again", rooms, ["first", "second"]);
  await page.locator("#joinBox").fill("x".repeat(65));
  await page.locator("#joinBox").press("Enter");
  assert.match(await page.locator("#joinHint").textContent(), /too long/);
});

test("what one tab has read is read in the others", async () => {
  const one = await enter("shared");
  const two = await one.context().newPage();
  await two.goto(`${server.url}/?room=other`);
  await until("both rooms are listed", () => one.locator("#roomList li").count(), (count) => count === 2);
  // From here on it is known up to where the room was read, whenever the second page has joined it.
  await post(server, "shared", "Bot", "for a start");
  const noted = () => JSON.parse(localStorage.getItem("chat.read") ?? "{}").shared?.position > 0;
  await until("it is noted as read", () => one.evaluate(noted), (isNoted) => isNoted);
  await setVisible(one, false);
  await post(server, "shared", "Bot", "for both");
  await until("the first has it unread", () => one.title(), (title) => title.startsWith("(1)"));
  await until("the second has it unread", () => two.title(), (title) => title.startsWith("(1)"));
  await setVisible(one, true);
  await until("the second has it read", () => two.title(), (title) => title === "#other · chat-app");
});

test("a mention is highlighted, completed by Tab, and notifies once, while the page is not in sight", async () => {
  const context = await browser.newContext({ locale: "en-GB", permissions: ["notifications"] });
  const ann = await context.newPage();
  pages.push(ann);
  await ann.addInitScript(() => {
    window.notified = [];
    window.rung = 0;
    window.Notification = class {
      static permission = "default";
      static async requestPermission() {
        return (window.Notification.permission = "granted");
      }
      constructor(title, { body }) {
        window.notified.push(`${title}: ${body}`);
      }
    };
    const { start } = OscillatorNode.prototype;
    OscillatorNode.prototype.start = function (...args) {
      window.rung += 1;
      return start.apply(this, args);
    };
  });
  await ann.goto(`${server.url}/?room=mentions`);
  await rename(ann, "Ann Lee");
  const bob = await enter("mentions", "Bob");
  await until("Ann is known", () => bob.locator("#peopleList bdi").allTextContents(), (names) => names.includes("Ann Lee"));

  await ann.locator("#nameButton").click();
  await ann.getByLabel("Desktop notifications").check();
  await ann.getByLabel("Sound").check();
  const rung = await ann.evaluate(() => window.rung);
  assert.ok(rung > 0, "the sound is played when it is asked for");
  await ann.keyboard.press("Escape");

  await bob.locator("#inputBox").pressSequentially("hello @an");
  assert.equal(await bob.locator("#hint").textContent(), "Tab ↹ @Ann Lee");
  await bob.keyboard.press("Tab");
  assert.equal(await bob.locator("#inputBox").inputValue(), "hello @Ann Lee ");
  await bob.keyboard.press("Enter");
  await hears(ann, "hello @Ann Lee ");
  assert.equal(await ann.locator(".msgRow.mentioned .mention.self").textContent(), "@Ann Lee");
  assert.equal(await bob.locator(".mention").textContent(), "@Ann Lee");
  assert.deepEqual(await ann.evaluate(() => window.notified), [], "quiet while it is in sight");

  await setVisible(ann, false);
  await say(bob, "are you there, @ann lee?");
  await until("it is notified", () => ann.evaluate(() => window.notified), ([words]) =>
    words === "Bob mentioned you in #mentions: are you there, @ann lee?");
  assert.ok((await ann.evaluate(() => window.rung)) > rung, "and rings");
  await until("the list says so too", () => ann.locator("#roomList .badge.mention").count(), (count) => count === 1);
});

test("who comes or is renamed while being mentioned is offered, where nothing else is told", async () => {
  const bob = await enter("offered", "Bob");
  const hint = () => bob.locator("#hint").textContent();
  await bob.locator("#inputBox").pressSequentially("hello @an");
  assert.equal(await hint(), "");
  const ann = await enter("offered", "Ann");
  await until("Ann is offered", hint, (words) => words === "Tab ↹ @Ann");
  await rename(ann, "Anna Lee");
  await until("her new name is", hint, (words) => words === "Tab ↹ @Anna Lee");
  await rename(ann, "Lee");
  await until("nobody is", hint, (words) => words === "");
  await say(bob, "/dance @an");
  await rename(ann, "Ann");
  await until("she is Ann again", () => bob.locator("#peopleList bdi").allTextContents(), (names) => names.includes("Ann"));
  assert.match(await hint(), /no command \/dance/);
});

test("the search finds with context, and a click jumps to the message in its place", async () => {
  const page = await enter("search", null, { reducedMotion: "reduce" });
  for (let n = 0; n < 260; n += 1) {
    await post(server, "search", "Bot", n === 20 ? "The needle lies in the haystack" : `straw ${n}`);
  }
  await until("the newest is there", () => bubbles(page), (are) => are.at(-1) === "straw 259");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("needle");
  await page.keyboard.press("Enter");
  const result = page.locator("#searchResults li button");
  await until("one is found", () => result.count(), (count) => count === 1);
  assert.equal(await page.locator("#searchHint").textContent(), "1 result");
  assert.equal(await result.locator("mark").textContent(), "needle");
  assert.match(await result.textContent(), /^Bot.*The needle lies in the haystack$/);
  await result.click();
  const found = page.locator(".msgRow.found .msgCtn");
  await until("it is shown", () => found.count(), (count) => count === 1);
  assert.equal(await found.textContent(), "The needle lies in the haystack");
  const around = await bubbles(page);
  const at = around.indexOf("The needle lies in the haystack");
  assert.deepEqual([around[at - 1], around[at + 1]], ["straw 19", "straw 21"]);
  const box = await found.boundingBox();
  const log = await page.locator("#messages").boundingBox();
  assert.ok(box.y > log.y && box.y + box.height < log.y + log.height, "it is in sight");
  await until("the way back is offered", () => page.locator("#newButton").textContent(), (words) => words === "To the present ↓");

  // On from there, by scrolling, until the present is met: nothing is missing.
  const seen = await seenDownTo(page, "straw 259");
  assert.deepEqual(seen.slice(seen.indexOf("straw 21")), Array.from({ length: 239 }, (_, n) => `straw ${n + 21}`));
  await page.locator("#searchBox").fill("nothing-like-this");
  await page.locator("#searchBox").press("Enter");
  await until("nothing is found", () => page.locator("#searchHint").textContent(), (words) => words === "Nothing was found.");
  await result.first().waitFor({ state: "detached" });
  await page.locator("#searchBox").fill("straw");
  await page.locator("#searchBox").press("Enter");
  await until("a page is found", () => result.count(), (count) => count === 100);
  await page.locator("#searchOlder").click();
  await until("two pages are found", () => result.count(), (count) => count === 200);
  await result.last().click();
  await until("another is shown", () => found.allTextContents(), ([words]) => words === "straw 60");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await until("Escape leads back to the present", () => bubbles(page), (are) => are.at(-1) === "straw 259");
});

test("a search jump in a quiet room among busy ones finds its way forward", async () => {
  const page = await enter("quiet", null, { reducedMotion: "reduce" });
  await post(server, "quiet", "Bot", "the needle");
  for (let n = 0; n < 150; n += 1) {
    await post(server, "quiet", "Bot", `early ${n}`);
  }
  for (let n = 0; n < 700; n += 1) {
    await post(server, "noise", "Bot", `noise ${n}`);
  }
  for (let n = 0; n < 150; n += 1) {
    await post(server, "quiet", "Bot", `late ${n}`);
  }
  await page.reload();
  await until("the newest is there", () => bubbles(page), (are) => are.at(-1) === "late 149");
  await say(page, "/search needle");
  await page.locator("#searchResults button").click();
  await until("it is shown", () => bubbles(page), (are) => are[0] === "the needle");
  const expected = ["the needle", ...Array.from({ length: 150 }, (_, n) => `early ${n}`), ...Array.from({ length: 150 }, (_, n) => `late ${n}`)];
  assert.deepEqual(await seenDownTo(page, "late 149"), expected);
});
