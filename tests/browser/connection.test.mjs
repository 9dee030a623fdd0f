// The connection: it says how it is, and comes back by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrives, fates, hears, inPhase, post, rename, say, sent, setVisible, until } from "./harness.mjs";
import { Server } from "./server.mjs";
import { at, banner, enter, enterBetween, serve } from "./stage.mjs";

test("the chat is where the page is, by ws or wss as the page came", async () => {
  await serve();
  const page = await enter();
  const urls = await page.evaluate(async () => {
    const { chatUrl } = await import("/connection.js");
    return ["http://a.example:8080/", "https://a.example/chat/?room=x%20y#end", "http://[::1]:1/index.html?room="].map(chatUrl);
  });
  assert.deepEqual(urls, ["ws://a.example:8080/", "wss://a.example/chat/", "ws://[::1]:1/index.html"]);
});

test("the wait doubles up to a bound and is spread over all of its length", async () => {
  await serve();
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

test("a server that has gone silent is left", async () => {
  await serve();
  const page = await enter({ isAwaited: false });
  await page.clock.install();
  await page.reload();
  await arrives(page);
  at.server.freeze();
  await say(page, "anybody?");
  await page.clock.fastForward(21_000);
  await inPhase(page, "offline");
  await hears(page, "anybody?");
});

test("it waits longer each time, says so, and wakes when asked", async () => {
  await serve();
  for (const wake of ["button", "online", "focus"]) {
    const page = await enter({ isAwaited: false });
    await page.clock.install();
    await page.addInitScript(() => {
      Math.random = () => 0.99;
    });
    await page.reload();
    await arrives(page);
    await page.clock.pauseAt(Date.now() + 60_000);
    await at.server.kill();
    // The clock stands still. Each step skips one wait; the attempt after it fails at once.
    for (const seconds of [1, 2, 4, 8, 16]) {
      await until(`the wait is ${seconds} s`, () => banner(page).textContent(), (words) => words.includes(`in ${seconds} s`));
      await page.clock.fastForward(seconds * 1_000);
    }
    await until("the wait is at its bound", () => banner(page).textContent(), (words) => words.includes("in 30 s"));
    assert.ok(await banner(page).isVisible());

    at.server = await at.server.again();
    if (wake === "button") {
      await page.locator("#retryButton").click();
    } else {
      await page.evaluate((type) => window.dispatchEvent(new Event(type)), wake);
    }
    await inPhase(page, "connected");
    assert.equal(await banner(page).isVisible(), false);
  }
});

test("a server that restarts says when to come back", async () => {
  await serve();
  const page = await enter({ isAwaited: false });
  await page.clock.install();
  await page.reload();
  await arrives(page);
  await page.clock.pauseAt(Date.now() + 60_000);
  await at.server.stop();
  await inPhase(page, "offline");
  await page.clock.fastForward(1_000);
  await until("it says so", () => banner(page).textContent(), (words) => /^The server is restarting/.test(words));
  at.server = await at.server.again();
  await page.clock.resume();
  await inPhase(page, "connected");
});

test("a server that cannot store says so calmly, and what it refuses waits", async () => {
  await serve();
  const { page, said, tell } = await enterBetween();
  tell({ type: "status", journal: "waiting" });
  await until("it is told", () => banner(page).isVisible(), Boolean);
  assert.match(await banner(page).textContent(), /cannot store messages right now/);
  await say(page, "patience");
  await until("it is said", async () => said.filter(({ type }) => type === "say").length, (count) => count === 1);
  tell({ type: "status", journal: "ok" });
  await until("all is well", () => banner(page).isVisible(), (is) => !is);
});

test("servers that cannot reach each other say so calmly, in English and in German", async () => {
  await serve();
  for (const [locale, down, full] of [["en-GB", /cannot reach each other right now/, /cannot store messages right now/],
    ["de-DE", /erreichen einander gerade nicht/, /kann gerade nichts speichern/]]) {
    const { page, tell } = await enterBetween({ locale });
    const told = (what, frame, words) => {
      tell({ type: "status", ...frame });
      return until(what, async () => ((await banner(page).isVisible()) ? banner(page).textContent() : ""), (are) => words.test(are));
    };
    await told("that they cannot reach each other", { journal: "waiting", bus: "down" }, down);
    await told("that it cannot store", { journal: "waiting" }, full);
    await told("that they cannot reach each other again", { journal: "waiting", bus: "down" }, down);
    await told("that all is well", { journal: "ok" }, /^$/);
  }
});

test("a room that waits for a server that is behind says so until it is entered, in English and in German", async () => {
  await serve();
  const waiting = [];
  for (const [locale, behind] of [["en-GB", /has yet to catch up with the others/], ["de-DE", /muss die anderen erst noch einholen/]]) {
    const { page, said, held, release, tell, close } = await enterBetween({ locale });
    const shown = async () => ((await banner(page).isVisible()) ? banner(page).textContent() : "");
    const joins = () => said.filter(({ type }) => type === "join").length;
    held.add("join");
    close(1001);
    await until("it comes back", joins, (count) => count === 2);
    assert.equal(await shown(), "", "most often that is soon over");
    tell({ type: "behind", room: "lobby", position: 0 });
    await until("it is told", shown, (words) => behind.test(words));
    waiting.push(`patience, ${locale}`);
    await say(page, waiting.at(-1));
    tell({ type: "behind", room: "another", position: 0 });
    await page.evaluate(() => history.pushState(null, "", "?room=garden") ?? dispatchEvent(new PopStateEvent("popstate")));
    await until("that is another room", shown, (words) => words === "");
    await page.goBack();
    await until("it still waits", shown, (words) => behind.test(words));
    release();
    await until("it is there", shown, (words) => words === "");
    await hears(page, ...waiting);
    await until("what was written is said", () => fates(page), (are) => are.length === 0);
  }
});

test("what the page does not know does not disturb it", async () => {
  await serve();
  const { page, tell, routes } = await enterBetween();
  tell({ type: "firework", room: "lobby" });
  tell({ type: "said", room: "no such room", position: 9, from: { id: null, name: null }, text: "elsewhere", at: 1 });
  tell({ type: "presence", room: "no such room", count: 3 });
  routes.at(-1).send("this is not JSON");
  await say(page, "still here");
  await hears(page, "still here");
  await sent(page, "still here");
});

test("a page whose place was taken stays away until it is asked to come back", async () => {
  await serve();
  const { page, close, routes } = await enterBetween();
  await close(4000);
  await inPhase(page, "replaced");
  assert.match(await banner(page).textContent(), /another window/);
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await page.getByRole("button", { name: "Continue here" }).click();
  await inPhase(page, "connected");
  assert.equal(routes.length, 2, "it came back once");
});

// A page with a clock of its own, on a connection that says nothing any more.
async function enterAndFreeze() {
  await serve();
  const page = await enter({ isAwaited: false });
  await page.clock.install();
  await page.reload();
  await arrives(page);
  at.server.freeze();
  return page;
}

test("a connection that may have died in its sleep is tried before it is trusted", async () => {
  const page = await enterAndFreeze();
  await page.clock.fastForward(30_000);
  await inPhase(page, "connected");
  await page.evaluate(() => window.dispatchEvent(new Event("focus")));
  await page.clock.fastForward(5_000);
  await inPhase(page, "offline");
});

test("a connection that has died is noticed by a page that just stands there", async () => {
  const page = await enterAndFreeze();
  for (let seconds = 0; seconds < 90; seconds += 10) {
    await page.clock.fastForward(10_000);
  }
  await inPhase(page, "offline");
});

test("tabs of one person stay one person when the server has forgotten them", async () => {
  at.server = await Server.start();
  const one = await enter();
  await rename(one, "Ann");
  const two = await one.context().newPage();
  await two.goto(at.server.url);
  await inPhase(two, "connected");
  await at.server.kill();
  await Promise.all([inPhase(one, "offline"), inPhase(two, "offline")]);
  at.server = await at.server.again();
  // Both are given a token, and the one that stored its own first follows the other: until then they may be two.
  const spoken = [];
  await until("what one says is the other's own", async () => {
    spoken.push(`from one, ${spoken.length}`);
    await say(one, spoken.at(-1));
    await hears(two, ...spoken);
    return two.locator(".msgRow.own").filter({ hasText: spoken.at(-1) }).count();
  }, (count) => count === 1);
  await until("they are one", async () => [await one.locator("#peopleCount").textContent(), await two.locator("#peopleCount").textContent()],
    ([here, there]) => here === "1" && there === "1");
});

test("a server that began anew is heard by whoever looks elsewhere, too", async () => {
  at.server = await Server.start();
  const page = await enter({ permissions: ["notifications"], isAwaited: false });
  await page.addInitScript(() => {
    window.notified = [];
    window.Notification = class {
      static permission = "granted";
      constructor(title, { body }) {
        window.notified.push(body);
      }
    };
    localStorage.setItem("chat.notify", "true");
  });
  await page.reload();
  await arrives(page);
  await setVisible(page, false);
  const notified = () => page.evaluate(() => window.notified);
  for (const text of ["one", "two", "three"]) {
    await post(at.server, "lobby", "Bot", text);
    await until(`${text} is told`, notified, (are) => are.at(-1) === text);
  }
  await at.server.kill();
  await inPhase(page, "offline");
  at.server = await at.server.again();
  await until("it is back", () => page.locator(".gapRow").allTextContents(), ([words]) => /began anew/.test(words ?? ""));
  await post(at.server, "lobby", "Bot", "anew");
  await until("it is told", notified, (are) => are.at(-1) === "anew");
});
