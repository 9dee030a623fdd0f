// The log: it moves along with who reads at its end, leaves alone who has scrolled up, and holds any amount of history.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bubbles, hears, launch, post, rename, say, sendRaw, setVisible, until, visit, watch } from "./harness.mjs";
import { Server, dataFolder } from "./server.mjs";

/** Processor time of the main thread for ten frames: what is drawn 20 times a second does not feel frozen. */
const TEN_FRAMES_MS = 500;

let browser;
let server;
let folder;
let page;

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

/** The text of the first bubble in sight. */
const firstInSight = () =>
  page.locator("#messages").evaluate((log) => {
    const { top } = log.getBoundingClientRect();
    return [...log.querySelectorAll(".msgCtn")].find((bubble) => bubble.getBoundingClientRect().top >= top).textContent;
  });

const button = () => page.locator("#newButton");

/** Scrolls as a reader does, and waits until the page has noticed. */
async function scrollTo(top) {
  await page.locator("#messages").evaluate(
    (log, to) =>
      new Promise((resolve) => {
        log.addEventListener("scroll", () => requestAnimationFrame(() => requestAnimationFrame(resolve)), { once: true });
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
  assert.equal(await button().isVisible(), false);

  await page.setViewportSize({ width: 500, height: 320 });
  await until("the end is in sight in a small window", distance, (px) => px === 0);
  await page.locator("#inputBox").fill("one\ntwo\nthree\nfour");
  await until("the end is in sight above a grown box", distance, (px) => px === 0);
});

test("a reader who scrolled up is not pulled down", async () => {
  await fill("scrolled-up", 60);
  await scrollTo(300);
  const text = await firstInSight();
  const before = await place(text);
  await sendRaw(page, ["news"], "scrolled-up");
  await until("the news are announced", () => button().textContent(), (is) => is === "1 new message ↓");
  await sendRaw(page, ["more", "and more"], "scrolled-up");
  await until("and counted", () => button().textContent(), (is) => is === "3 new messages ↓");
  assert.equal(await place(text), before, "what is read stays where it is");
  assert.equal(await page.title(), "(3) #scrolled-up · chat-app");

  await button().click();
  await until("it is at the end", distance, (px) => px === 0);
  assert.equal(await button().isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "inputBox");
  assert.equal(await page.locator(".newRow:not([hidden])").count(), 1, "a line marks what is new");
});

test("scrolling back down takes up following again", async () => {
  await fill("back-down", 60);
  await scrollTo(0);
  await sendRaw(page, ["news"], "back-down");
  await button().waitFor();
  await scrollTo(1_000_000);
  await until("the button is gone", () => button().isVisible(), (is) => !is);
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

test("older pages load without a jump, back to the beginning", async () => {
  page = await visit(browser, `${server.url}/?room=elsewhere`, { reducedMotion: "reduce" });
  await sendRaw(page, numbered(0, 320), "history");
  await page.goto(`${server.url}/?room=history`);
  await newest("message 319");
  const seen = new Set();
  for (let step = 0; step < 200 && !seen.has("message 0"); step += 1) {
    const first = await firstInSight();
    const before = await place(first);
    await scrollTo((await page.locator("#messages").evaluate((log) => log.scrollTop)) - 400);
    const moved = (await place(first)) - before;
    assert.ok(moved <= 401, `it moved by ${moved} px`);
    await until("there is more above, or it is the beginning", async () =>
      page.locator("#messages").evaluate((log) => log.scrollTop > 0 || log.querySelector(".msgCtn").textContent === "message 0"), Boolean);
    for (const text of await bubbles(page)) {
      seen.add(text);
    }
  }
  assert.equal(seen.size, 320);
  const order = (await bubbles(page)).map((text) => Number(text.split(" ")[1]));
  assert.deepEqual(order, order.map((_, n) => n));
});

test("a room with 10,000 messages: few of them are elements, and all can be reached", async () => {
  page = await visit(browser, `${server.url}/?room=large`, { reducedMotion: "reduce" });
  for (let from = 0; from < 10_000; from += 1_000) {
    await sendRaw(page, numbered(from, from + 1_000), "large");
  }
  await newest("message 9999");
  const rows = () => page.locator("#messages > *").count();
  assert.ok((await rows()) <= 300, `${await rows()} rows`);
  assert.equal(await distance(), 0);
  // A reader who scrolls up fast, a screen or so for each frame.
  const spent = await watch(page);
  const times = [];
  for (let round = 0; round < 20; round += 1) {
    await page.evaluate(async () => {
      const log = document.getElementById("messages");
      for (let frame = 0; frame < 10; frame += 1) {
        log.scrollTop -= 500;
        await new Promise(requestAnimationFrame);
      }
    });
    times.push(Math.round(await spent()));
  }
  assert.ok(Math.max(...times) < TEN_FRAMES_MS, `no ten frames take long: ${times} ms`);
  assert.ok((await rows()) <= 301, `${await rows()} rows`);
  const order = (await bubbles(page)).map((text) => Number(text.split(" ")[1]));
  assert.deepEqual(order, order.map((_, n) => order[0] + n));
  assert.ok(order[0] < 9_500, `it is far back: ${order[0]}`);
  // And down again, a page at a time.
  await until("it is at the end again", () => page.locator("#messages").evaluate(async (log) => {
    log.scrollTop += 4_000;
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    return log.querySelector(".msgRow:last-child .msgCtn")?.textContent;
  }), (text) => text === "message 9999");
});

test("200 messages a second do not freeze the tab", async () => {
  page = await visit(browser, `${server.url}/?room=busy`);
  const sender = await visit(browser, `${server.url}/?room=calm`);
  await page.evaluate(() => {
    window.drawn = 0;
    const frame = () => {
      window.drawn += 1;
      requestAnimationFrame(frame);
    };
    frame();
  });
  const spent = await watch(page);
  const sent = await sender.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    let count = 0;
    socket.onopen = () => {
      const began = performance.now();
      const timer = setInterval(() => {
        // So many as are due: timers come late.
        for (const due = (performance.now() - began) / 5; count < due && count < 600; count += 1) {
          socket.send(`message ${count}`);
        }
        if (count === 600) {
          clearInterval(timer);
          resolve(count);
        }
      }, 10);
    };
  }), `${server.url.replace("http", "ws")}/?room=busy`);
  assert.equal(sent, 600);
  await newest("message 599");
  const [ms, drawn] = [await spent(), await page.evaluate(() => window.drawn)];
  await sender.context().close();
  assert.ok((10 * ms) / drawn < TEN_FRAMES_MS, `${ms} ms for ${drawn} frames`);
  await page.locator("#inputBox").pressSequentially("still quick");
  assert.equal(await page.locator("#inputBox").inputValue(), "still quick");
});

test("messages are grouped by author and day, with exact times on hover", async () => {
  page = await visit(browser, `${server.url}/?room=grouped`);
  for (const [name, text] of [["Ann", "one"], ["Ann", "two"], ["Bob", "three"], ["Ann", "four"]]) {
    await post(server, "grouped", name, text);
  }
  await hears(page, "one", "two", "three", "four");
  assert.deepEqual(await page.locator(".msgRow").evaluateAll((rows) => rows.map((row) => row.classList.contains("follows"))),
    [false, true, false, false]);
  assert.deepEqual(await page.locator(".dayRow:not([hidden])").allTextContents(), ["Today"]);
  await page.locator(".clock").first().hover();
  const title = await page.locator(".clock").first().getAttribute("title");
  assert.match(title, new RegExp(`${new Date().getFullYear()}.*\\d:\\d\\d:\\d\\d`));
  const colours = await page.locator(".msgRow").evaluateAll((rows) => rows.map((row) => row.style.getPropertyValue("--hue")));
  assert.equal(colours[0], colours[3], "a person keeps their colour");
  assert.notEqual(colours[0], colours[2], "and another has another");
  assert.deepEqual(await page.locator("#messages .avatar").first().textContent(), "A");
});

test("a message of another day stands under its day", async () => {
  page = await visit(browser, `${server.url}/?room=days`, { isAwaited: false });
  await page.clock.install({ time: Date.now() + 26 * 3_600_000 });
  await page.reload();
  await post(server, "days", "Ann", "said today");
  await hears(page, "said today");
  assert.notDeepEqual(await page.locator(".dayRow:not([hidden])").allTextContents(), ["Today"]);
});

test("what is new since the reader was away stands under a line, also after a reload", async () => {
  page = await visit(browser, `${server.url}/?room=away`);
  await post(server, "away", "Ann", "seen");
  await hears(page, "seen");
  await setVisible(page, false);
  await post(server, "away", "Ann", "unseen");
  await post(server, "away", "Ann", "unseen too");
  const underLine = () => page.locator(".msgRow:has(.newRow:not([hidden])) .msgCtn").allTextContents();
  await until("it is counted", () => page.title(), (title) => title === "(2) #away · chat-app");
  await setVisible(page, true);
  await until("it is read", () => page.title(), (title) => title === "#away · chat-app");
  assert.deepEqual(await underLine(), ["unseen"]);
  await say(page, "I am back");
  await until("the line has gone", underLine, (are) => are.length === 0);

  const { url } = server;
  await until("what was read is stored", () => page.evaluate(() => localStorage.getItem("chat.read")), (read) => /away/.test(read));
  await page.goto("about:blank");
  await post(server, "away", "Ann", "while the page was closed");
  await page.goto(`${url}/?room=away`);
  await until("the line is there", underLine, (are) => are[0] === "while the page was closed");
});

test("links, code, emphasis, quotes, mentions and large emoji are made of nodes", async () => {
  page = await visit(browser, `${server.url}/?room=markup`);
  await rename(page, "Ann");
  const table = [
    // text, selector within the bubble, texts of what it finds
    ["see https://example.org/a_(b)?c=d, or http://x.example.", "a", ["https://example.org/a_(b)?c=d", "http://x.example"]],
    ["(https://example.org/)", "a", ["https://example.org/"]],
    ["write to mailto:ann@example.org!", "a", ["mailto:ann@example.org"]],
    ["javascript:alert(1) data:text/html,x ftp://x.example vbscript:x JaVaScRiPt://x.example/%0aalert(1)", "a", []],
    ["xhttps://example.org and https:// and https://[", "a", []],
    ["use `a *b* c` here", "code", ["a *b* c"]],
    ["use `a *b* c` here", "em", []],
    ["```js\nlet a = '*b*';\n```\nafter", "pre code", ["let a = '*b*';"]],
    ["it is *very* good, 2*3*4, * no *", "em", ["very"]],
    ["**strong** and *weak*", "strong", ["strong"]],
    ["> quoted *a*\n> more\nnot", "blockquote", ["quoted a\nmore"]],
    ["hey @Ann, @Annabel and mail@Ann", ".mention.self", ["@Ann"]],
    ["a > b", "blockquote", []],
  ];
  for (const [text, selector, expected] of table) {
    await post(server, "markup", "Bob", text);
    const bubble = page.locator("#messages .msgRow:last-child .msgCtn");
    await until(`${text} is there`, () => page.locator("#messages .msgCtn").count(), (count) => count === table.findIndex((row) => row[0] === text && row[1] === selector) + 1);
    assert.deepEqual(await bubble.locator(selector).allTextContents(), expected, `${selector} in ${text}`);
  }
  for (const link of await page.locator("#messages a").all()) {
    assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
    assert.equal(await link.getAttribute("target"), "_blank");
    assert.match(await link.evaluate(({ protocol }) => protocol), /^(https?|mailto):$/);
  }
  for (const [text, isLarge] of [["🎉", true], ["👩‍👩‍👧 🇩🇪", true], ["🎉!", false], ["🎉".repeat(7), false], ["1", false]]) {
    await post(server, "markup", "Bob", text);
    await until(`${text} is there`, () => page.locator("#messages .msgRow:last-child .msgCtn").textContent(), (is) => is === text);
    assert.equal(await page.locator("#messages .msgRow:last-child .msgCtn.emoji").count(), isLarge ? 1 : 0, text);
  }
});
