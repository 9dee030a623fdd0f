// The connection: it says how it is, comes back by itself, and loses and doubles nothing.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bubbles, hears, inPhase, launch, post, rename, say, setVisible, until, visit, wire } from "./harness.mjs";
import { Server, dataFolder } from "./server.mjs";

let browser;
let server;
let folder;
const contexts = [];

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
  server?.thaw();
  await server?.kill();
  await folder?.remove();
  server = undefined;
  folder = undefined;
});

/** Starts a server that keeps what it is told. */
async function serve(...args) {
  folder = await dataFolder();
  server = await Server.start({ data: folder.path, args });
}

async function enter({ path = "/", ...options } = {}) {
  const page = await visit(browser, server.url + path, options);
  contexts.push(page.context());
  return page;
}

/** A page whose connection can be cut. */
async function enterOnWire(path = "/") {
  const context = await browser.newContext({ locale: "en-GB" });
  contexts.push(context);
  const page = await context.newPage();
  const line = await wire(page);
  await page.goto(server.url + path);
  await inPhase(page, "connected");
  return { page, line };
}

const fates = (page) => page.locator(".fate:not([hidden])").allTextContents();
const banner = (page) => page.locator("#bannerText");

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

test("a message is shown as sending, then as sent", async () => {
  await serve();
  const page = await enter();
  server.freeze();
  await say(page, "on its way");
  await hears(page, "on its way");
  assert.deepEqual(await fates(page), ["Sending…"]);
  server.thaw();
  await until("it is sent", () => fates(page), (are) => are.length === 0);
  await hears(page, "on its way");
});

test("written while offline, it waits and goes out once, in order, after the server was killed", async () => {
  await serve();
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await say(ann, "before");
  await hears(bob, "before");
  await server.kill();
  await inPhase(ann, "offline");
  for (const text of ["one", "two", "three"]) {
    await say(ann, text);
  }
  await hears(ann, "before", "one", "two", "three");
  assert.deepEqual(await fates(ann), Array(3).fill("Waits for the connection"));
  server = await server.again();
  await hears(bob, "before", "one", "two", "three");
  await hears(ann, "before", "one", "two", "three");
  await until("all are sent", () => fates(ann), (are) => are.length === 0);
  const fresh = await enter();
  await hears(fresh, "before", "one", "two", "three");
});

test("written while offline, it outlives a reload", async () => {
  await serve();
  const { page, line } = await enterOnWire();
  const bob = await enter();
  await say(page, "before");
  await hears(bob, "before");
  await line.cut();
  await inPhase(page, "offline");
  await say(page, "one");
  await say(page, "two");
  await page.locator("#inputBox").fill("half a thou");
  await page.reload();
  await hears(page, "one", "two");
  assert.equal(await page.locator("#inputBox").inputValue(), "half a thou", "so does what is being written");
  await say(page, "three");
  line.mend();
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await hears(bob, "before", "one", "two", "three");
  await hears(page, "before", "one", "two", "three");
  await until("they are all hers", () => page.locator(".msgRow.own").count(), (count) => count === 4);
});

test("what a tab that is gone has left is said by the next one", async () => {
  await serve();
  const { page, line } = await enterOnWire();
  const bob = await enter();
  await line.cut();
  await inPhase(page, "offline");
  await say(page, "left behind");
  await page.close();
  const other = await contexts[0].newPage();
  await other.goto(server.url);
  await hears(bob, "left behind");
  await hears(other, "left behind");
});

test("several tabs are one person, and share one outbox without doubling it", async () => {
  await serve();
  const { page: one, line } = await enterOnWire();
  await rename(one, "Ann");
  const two = await contexts[0].newPage();
  await two.goto(server.url);
  await inPhase(two, "connected");
  const bob = await enter();
  await line.cut();
  await inPhase(one, "offline");
  await say(one, "from the first");
  // A third tab looks for what was left behind, and finds that the first is still there.
  const three = await contexts[0].newPage();
  await three.goto(server.url);
  await inPhase(three, "connected");
  await say(two, "from the second");
  await hears(bob, "from the second");
  line.mend();
  await one.evaluate(() => window.dispatchEvent(new Event("online")));
  for (const page of [bob, one, two, three]) {
    await hears(page, "from the second", "from the first");
  }
  assert.deepEqual(await bob.locator(".author").allTextContents(), ["Ann", "Ann"]);
  await until("two people are here", () => bob.locator("#peopleCount").textContent(), (count) => count === "2");
});

test("what was said meanwhile is there when it is back, nothing missing or doubled", async () => {
  await serve();
  const { page, line } = await enterOnWire();
  const expected = [];
  for (let round = 0; round < 3; round += 1) {
    for (let n = 0; n < 40; n += 1) {
      expected.push(`round ${round}, ${n}`);
      await post(server, "lobby", "Bot", expected.at(-1));
    }
    await hears(page, ...expected);
    await line.cut();
    await inPhase(page, "offline");
    for (let n = 0; n < 40; n += 1) {
      expected.push(`away ${round}, ${n}`);
      await post(server, "lobby", "Bot", expected.at(-1));
    }
    line.mend();
    await page.evaluate(() => window.dispatchEvent(new Event("online")));
    await until("all is there", async () => (await bubbles(page)).slice(-120), (are) =>
      JSON.stringify(are) === JSON.stringify(expected.slice(-120)));
    expected.splice(0, Math.max(0, expected.length - 80));
    await page.reload();
    await until("the page of the past is there", async () => (await bubbles(page)).length, (count) => count >= 80);
    expected.splice(0, expected.length, ...(await bubbles(page)));
  }
});

test("a confirmation that was lost does not double the message", async () => {
  await serve();
  const page = await enter();
  const bob = await enter();
  server.freeze();
  await say(page, "once");
  await page.evaluate(() => window.dispatchEvent(new Event("offline")));
  server.thaw();
  await server.restart().then((again) => (server = again));
  await hears(bob, "once");
  await hears(page, "once");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
});

test("a gap that the server announces is shown where it is, and filled on request", async () => {
  await serve("--backfill", "3", "--page", "10");
  const { page, line } = await enterOnWire();
  await post(server, "lobby", "Bot", "before");
  await hears(page, "before");
  await line.cut();
  await inPhase(page, "offline");
  const missed = Array.from({ length: 25 }, (_, n) => `missed ${n}`);
  for (const text of missed) {
    await post(server, "lobby", "Bot", text);
  }
  line.mend();
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await hears(page, "before", ...missed.slice(-10));
  const kinds = () => page.locator("#messages > *").evaluateAll((rows) => rows.slice(0, 3).map((row) => row.className.split(" ")[0]));
  assert.deepEqual(await kinds(), ["msgRow", "gapRow", "msgRow"]);
  assert.match(await page.locator(".gapRow").textContent(), /^More was said here/);
  await page.locator(".gapRow button").click();
  await hears(page, "before", ...missed.slice(-20));
  await page.locator(".gapRow button").click();
  await hears(page, "before", ...missed);
  assert.equal(await page.locator(".gapRow").count(), 0);
});

test("a server that has forgotten everything is told apart, and people talk on", async () => {
  server = await Server.start();
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await say(ann, "before");
  await hears(bob, "before");
  await server.kill();
  await inPhase(ann, "offline");
  await say(ann, "meanwhile");
  server = await server.again();
  await Promise.all([inPhase(ann, "connected"), inPhase(bob, "connected")]);
  await say(bob, "after");
  for (const page of [ann, bob]) {
    await until("both are there", () => bubbles(page), (are) => are.length === 3 && are[0] === "before");
    assert.match(await page.locator(".gapRow").textContent(), /began anew/);
  }
  assert.deepEqual(await ann.locator(".msgRow.own .msgCtn").allTextContents(), ["before", "meanwhile"]);
});

test("a refusal for now waits and is said by itself, in order", async () => {
  await serve("--say-rate", "5", "--say-burst", "2");
  const [ann, bob] = await Promise.all([enter(), enter()]);
  const texts = Array.from({ length: 8 }, (_, n) => `quick ${n}`);
  for (const text of texts) {
    await say(ann, text);
  }
  await hears(bob, ...texts);
  await hears(ann, ...texts);
  await until("all are sent", () => fates(ann), (are) => are.length === 0);
});

test("what the server refuses for good can be tried again, or edited", async () => {
  await serve();
  const page = await enter();
  const bob = await enter();
  // The box would not have let it pass: so it is put into the outbox as a former version of the page might have.
  await page.evaluate(() => {
    const draft = { room: "lobby", text: "x".repeat(20_000), nonce: "n-1", at: Date.now(), state: "waiting" };
    localStorage.setItem("chat.outbox.gone", JSON.stringify([draft]));
  });
  await page.reload();
  await until("it has failed", () => fates(page), ([fate]) => /^Not sent: .*RetryEdit$/.test(fate ?? ""));
  await say(page, "the next is not held up");
  await hears(bob, "the next is not held up");
  await page.locator(".fate button").first().click();
  await until("it has failed again", () => fates(page), ([fate]) => /^Not sent: /.test(fate ?? ""));
  await page.locator(".fate button").last().click();
  assert.equal((await page.locator("#inputBox").inputValue()).length, 20_000);
  await hears(page, "the next is not held up");
});

test("a server that has gone silent is left", async () => {
  await serve();
  const page = await enter({ phase: null });
  await page.clock.install();
  await page.reload();
  await inPhase(page, "connected");
  server.freeze();
  await say(page, "anybody?");
  await page.clock.fastForward(21_000);
  await inPhase(page, "offline");
  await hears(page, "anybody?");
});

test("it waits longer each time, says so, and wakes when asked", async () => {
  await serve();
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
    // The clock stands still. Each step skips one wait; the attempt after it fails at once.
    for (const seconds of [1, 2, 4, 8, 16]) {
      await until(`the wait is ${seconds} s`, () => banner(page).textContent(), (words) => words.includes(`in ${seconds} s`));
      await page.clock.fastForward(seconds * 1_000);
    }
    await until("the wait is at its bound", () => banner(page).textContent(), (words) => words.includes("in 30 s"));
    assert.ok(await banner(page).isVisible());

    server = await server.again();
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
  const page = await enter({ phase: null });
  await page.clock.install();
  await page.reload();
  await inPhase(page, "connected");
  await page.clock.pauseAt(Date.now() + 60_000);
  await server.stop();
  await inPhase(page, "offline");
  await page.clock.fastForward(1_000);
  await until("it says so", () => banner(page).textContent(), (words) => /^The server is restarting/.test(words));
  server = await server.again();
  await page.clock.resume();
  await inPhase(page, "connected");
});

/** A page to which a test can say what the server might; what the page said is in `said`. */
async function enterBetween(options) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  contexts.push(context);
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
  await page.goto(server.url);
  await inPhase(page, "connected");
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

test("a gap while connected is shown where it is", async () => {
  await serve();
  const { page, tell } = await enterBetween();
  await say(page, "before");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
  tell({ type: "gap", room: "lobby", position: 40 });
  tell({ type: "said", room: "lobby", position: 41, nonce: "n", from: { id: "00000000000000aa", name: "Bob" }, text: "after", at: Date.now() });
  await hears(page, "before", "after");
  assert.match(await page.locator(".gapRow").textContent(), /^Messages are missing here/);
  assert.equal(await page.locator(".gapRow button").count(), 0);
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

test("a gap that begins another epoch parts the former positions from the new ones, by which the page then joins", async () => {
  await serve();
  const { page, said, tell, close } = await enterBetween();
  for (const text of ["one", "two", "three"]) {
    await say(page, text);
  }
  await until("they are sent", () => fates(page), (are) => are.length === 0);
  const bob = { id: "00000000000000aa", name: "Bob" };
  const epoch = "00000000000000ff";
  tell({ type: "gap", room: "lobby", position: 1, epoch });
  tell({ type: "said", room: "lobby", position: 2, nonce: "n", from: bob, text: "after", at: Date.now() });
  await hears(page, "one", "two", "three", "after");
  const kinds = await page.locator("#messages > *").evaluateAll((rows) => rows.map((row) => row.className.split(" ")[0]));
  assert.deepEqual(kinds.slice(-2), ["gapRow", "msgRow"], "the gap stands before what came after it");
  assert.match(await page.locator(".gapRow").textContent(), /began anew/);
  await close(1013);
  await until("it joins again", async () => said.filter(({ type }) => type === "join").length, (count) => count === 2);
  const { after, epoch: joined } = said.findLast(({ type }) => type === "join");
  assert.deepEqual({ after, joined }, { after: 2, joined: epoch });
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
  await until("it is sent", () => fates(page), (are) => are.length === 0);
});

test("a page whose place was taken stays away until it is asked to come back", async () => {
  await serve();
  const { page, close, routes } = await enterBetween();
  await close(4000);
  await inPhase(page, "replaced");
  assert.match(await banner(page).textContent(), /another window/);
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  assert.equal(routes.length, 1);
  await page.getByRole("button", { name: "Continue here" }).click();
  await inPhase(page, "connected");
});

test("a connection that may have died in its sleep is tried before it is trusted", async () => {
  await serve();
  const page = await enter({ phase: null });
  await page.clock.install();
  await page.reload();
  await inPhase(page, "connected");
  server.freeze();
  await page.clock.fastForward(30_000);
  await inPhase(page, "connected");
  await page.evaluate(() => window.dispatchEvent(new Event("focus")));
  await page.clock.fastForward(5_000);
  await inPhase(page, "offline");
});

test("a connection that has died is noticed by a page that just stands there", async () => {
  await serve();
  const page = await enter({ phase: null });
  await page.clock.install();
  await page.reload();
  await inPhase(page, "connected");
  server.freeze();
  for (let seconds = 0; seconds < 90; seconds += 10) {
    await page.clock.fastForward(10_000);
  }
  await inPhase(page, "offline");
});

test("tabs of one person stay one person when the server has forgotten them", async () => {
  server = await Server.start();
  const one = await enter();
  await rename(one, "Ann");
  const two = await one.context().newPage();
  await two.goto(server.url);
  await inPhase(two, "connected");
  await server.kill();
  await Promise.all([inPhase(one, "offline"), inPhase(two, "offline")]);
  server = await server.again();
  await until("they are one", async () => [await one.locator("#peopleCount").textContent(), await two.locator("#peopleCount").textContent()],
    ([here, there]) => here === "1" && there === "1");
  await say(one, "from one");
  await hears(two, "from one");
  assert.equal(await two.locator(".msgRow.own").count(), 1);
});

test("a room that is left and entered again at once is entered", async () => {
  await serve();
  const page = await enter();
  await post(server, "garden", "Bot", "in the garden");
  server.freeze();
  for (const line of ["/join garden", "/leave", "/join garden"]) {
    await say(page, line);
  }
  server.thaw();
  await hears(page, "in the garden");
  await say(page, "me too");
  await say(page, "/leave");
  await say(page, "/join garden");
  await hears(page, "in the garden", "me too");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
});

const hint = (page) => page.locator("#hint").textContent();
const calledNow = (page, name) => until(`the page is called ${name}`, () => page.locator("#nameButton").textContent(), (is) => is === name);

test("names that are changed faster than the server allows are changed a little later, without a refusal", async () => {
  await serve("--ask-rate", "2", "--ask-burst", "2");
  const page = await enter();
  await page.evaluate(() => {
    window.hints = [];
    const hint = document.getElementById("hint");
    new MutationObserver(() => window.hints.push(hint.textContent)).observe(hint, { childList: true });
  });
  for (const name of ["One", "Two", "Three", "Four", "Five"]) {
    await say(page, `/name ${name}`);
  }
  await calledNow(page, "Five");
  assert.deepEqual((await page.evaluate(() => window.hints)).filter((words) => /Nobody/.test(words)), []);
});

test("a name asked for while the connection dies is taken with the next one", async () => {
  await serve();
  const { page, held, close } = await enterBetween();
  const bob = await enter();
  held.add("rename");
  await say(page, "/name Ann");
  await close(1013);
  await calledNow(page, "Ann");
  await inPhase(page, "connected");
  await say(page, "it is me");
  await hears(bob, "it is me");
  assert.equal(await bob.locator(".author").textContent(), "Ann");
});

test("a name that was refused is not claimed later", async () => {
  await serve();
  const { page, close } = await enterBetween();
  await say(page, "/name system");
  await until("it is refused", () => hint(page), (words) => words === "Nobody can be called so: this name is reserved.");
  await close(1013);
  await inPhase(page, "offline");
  await inPhase(page, "connected");
  assert.doesNotMatch(await hint(page), /now called/);
});

test("refusals are told in German where the page speaks it", async () => {
  await serve();
  const page = await enter({ locale: "de-DE" });
  await say(page, "/name system");
  await until("it is refused", () => hint(page), (words) => /^So kann niemand heißen: der Name ist leer, zu lang oder vergeben/.test(words));
  await say(page, `/join ${"x".repeat(60)}\u200b`);
  await until("so is the room", () => page.locator("#emptyText").textContent(), (words) => /^Dieser Raum lässt sich nicht öffnen: der Name/.test(words));
});

test("more rooms than the server allows are entered as they are looked at", async () => {
  await serve("--max-rooms", "2");
  const page = await enter({ path: "/?room=a" });
  for (const room of ["b", "c", "d"]) {
    await say(page, `/join ${room}`);
    await say(page, `hello ${room}`);
    await until("it is sent", () => fates(page), (are) => are.length === 0);
  }
  await post(server, "a", "Bot", "while you were elsewhere");
  await page.locator("#roomList a").first().click();
  await hears(page, "while you were elsewhere");
  await say(page, "I am back");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
});

test("what is written in a room that cannot be is not sent, and does not bring the room back", async () => {
  await serve();
  const page = await enter({ path: `/?room=${"x".repeat(100)}` });
  await until("the reason is told", () => page.locator("#emptyText").textContent(), (words) => /at most 64 bytes/.test(words));
  await say(page, "anybody?");
  await until("it is refused", () => fates(page), ([fate]) => /^Not sent: a name has at most 64 bytes in UTF-8\./.test(fate ?? ""));
  await page.locator(".fate button").first().click();
  await until("and again", () => fates(page), ([fate]) => /^Not sent/.test(fate ?? ""));
  await say(page, "/leave");
  await say(page, "here, then");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
  await hears(page, "here, then");
  const rooms = () => page.locator("#roomList bdi").allTextContents();
  assert.deepEqual(await rooms(), ["lobby"]);
  await page.reload();
  await hears(page, "here, then");
  assert.deepEqual(await rooms(), ["lobby"]);
});

test("an old message that is confirmed late stands where it was said, with all that came between", async () => {
  await serve();
  const { page, said } = await enterBetween();
  await say(page, "the old one");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
  const { nonce } = said.find(({ type }) => type === "say");
  const later = Array.from({ length: 150 }, (_, n) => `later ${n}`);
  for (const text of later) {
    await post(server, "lobby", "Bot", text);
  }
  // As if the page had been gone before the answer came.
  await page.evaluate((draft) => localStorage.setItem("chat.outbox.gone", JSON.stringify([draft])),
    { room: "lobby", text: "the old one", nonce, at: Date.now(), state: "waiting" });
  await page.reload();
  await until("it is said again", async () => said.filter((frame) => frame.nonce === nonce).length, (count) => count === 2);
  await until("and confirmed", () => page.evaluate(() => Object.keys(localStorage).filter((key) => /outbox/.test(key)).length), (count) => count === 0);
  await hears(page, ...later.slice(-100));
  await page.locator("#messages").evaluate((log) => (log.scrollTop = 0));
  await hears(page, "the old one", ...later);
});

test("a room is left when what was asked about it is answered, and the next question is asked", async () => {
  await serve("--page", "20");
  for (let n = 0; n < 60; n += 1) {
    await post(server, "garden", "Bot", `flower ${n}`);
  }
  const { page, said, held, release } = await enterBetween();
  held.add("history");
  await say(page, "/join garden");
  await until("the newest are there", async () => (await bubbles(page)).length, (count) => count === 20);
  await page.locator("#messages").evaluate((log) => (log.scrollTop = 0));
  const asked = () => said.filter(({ type }) => type === "history").length;
  await until("the page asks for what is older", async () => asked(), (count) => count > 0);
  await say(page, "/leave");
  await say(page, "back in the lobby");
  await until("it is sent", () => fates(page), (are) => are.length === 0);
  const left = () => said.filter(({ type }) => type === "leave").length;
  assert.equal(left(), 0);
  release();
  await until("the room is left", async () => left(), (count) => count === 1);
  await say(page, "/search lobby");
  await until("the search is answered", () => page.locator("#searchHint").textContent(), (words) => words === "1 result");
});

test("what else may stand in the browser's storage stops nothing", async () => {
  await serve();
  const page = await enter();
  for (const value of ["null", "7", "[]", "{}", '"x"', "[null, 7]", "{\"open\": 7, \"former\": [null, 3]}", "not JSON"]) {
    await page.evaluate((garbage) => {
      for (const key of ["name", "token", "rooms", "read", "alerted", "theme", "notify", "sound", "outbox.gone"]) {
        localStorage.setItem(`chat.${key}`, garbage);
      }
      sessionStorage.setItem("chat.drafts", garbage);
    }, value);
    await page.reload();
    await inPhase(page, "connected");
    await say(page, "still here");
    await until("it is sent", async () => [(await bubbles(page)).at(-1), ...(await fates(page))], (are) => are.join() === "still here");
    assert.deepEqual(page.complaints, [], value);
  }
});

test("what was read in rooms that are forgotten does not fill the storage", async () => {
  await serve();
  const page = await enter();
  await page.evaluate(() => {
    const read = Array.from({ length: 1_000 }, (_, n) => [`room ${n}`, { epoch: "00000000000000ff", position: n }]);
    localStorage.setItem("chat.read", JSON.stringify(Object.fromEntries(read)));
    localStorage.setItem("chat.rooms", JSON.stringify({ open: ["lobby"], former: ["room 7"] }));
  });
  await page.reload();
  await inPhase(page, "connected");
  await post(server, "lobby", "Bot", "news");
  await until("it is forgotten", () => page.evaluate(() => Object.keys(JSON.parse(localStorage.getItem("chat.read")))),
    (names) => names.sort().join() === "lobby,room 7");
});

test("the buttons of a message that was not sent stay in their places while others talk", async () => {
  await serve();
  const page = await enter();
  await page.evaluate(() => {
    const draft = { room: "lobby", text: "x".repeat(20_000), nonce: "n-1", at: Date.now(), state: "waiting" };
    localStorage.setItem("chat.outbox.gone", JSON.stringify([draft]));
  });
  await page.reload();
  const edit = page.locator(".fate button").last();
  await edit.waitFor();
  await edit.focus();
  for (const text of ["one", "two"]) {
    await post(server, "lobby", "Bot", text);
    await until("it is heard", () => bubbles(page), (are) => are.includes(text));
  }
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Edit", "the focus is where it was");
});

test("a server that began anew is heard by whoever looks elsewhere, too", async () => {
  server = await Server.start();
  const page = await enter({ permissions: ["notifications"], phase: null });
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
  await inPhase(page, "connected");
  await setVisible(page, false);
  const notified = () => page.evaluate(() => window.notified);
  for (const text of ["one", "two", "three"]) {
    await post(server, "lobby", "Bot", text);
    await until(`${text} is told`, notified, (are) => are.at(-1) === text);
  }
  server = await server.restart();
  await inPhase(page, "offline");
  await inPhase(page, "connected");
  await post(server, "lobby", "Bot", "anew");
  await until("it is told", notified, (are) => are.at(-1) === "anew");
});
