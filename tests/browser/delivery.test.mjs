// What is written: it waits, goes out once and in order, and nothing is lost or doubled, whatever happens meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrives, bubbles, fates, hears, inPhase, post, rename, say, sent, until } from "./harness.mjs";
import { Server } from "./server.mjs";
import { at, enter, enterBetween, enterOnWire, serve } from "./stage.mjs";

test("a message is shown as sending, then as sent", async () => {
  await serve();
  const page = await enter();
  at.server.freeze();
  await say(page, "on its way");
  await hears(page, "on its way");
  assert.deepEqual(await fates(page), ["Sending…"]);
  at.server.thaw();
  await sent(page, "on its way");
  await hears(page, "on its way");
});

test("written while offline, it waits and goes out once, in order, after the server was killed", async () => {
  await serve();
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await say(ann, "before");
  await hears(bob, "before");
  await sent(ann, "before");
  await at.server.kill();
  await inPhase(ann, "offline");
  for (const text of ["one", "two", "three"]) {
    await say(ann, text);
  }
  await hears(ann, "before", "one", "two", "three");
  assert.deepEqual(await fates(ann), Array(3).fill("Waits for the connection"));
  at.server = await at.server.again();
  await hears(bob, "before", "one", "two", "three");
  await hears(ann, "before", "one", "two", "three");
  await sent(ann, "three");
  const fresh = await enter();
  await hears(fresh, "before", "one", "two", "three");
});

test("written while offline, it outlives a reload", async () => {
  await serve();
  const { page, line } = await enterOnWire();
  const bob = await enter();
  await say(page, "before");
  await hears(bob, "before");
  await sent(page, "before");
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
  const other = await at.contexts[0].newPage();
  await other.goto(at.server.url);
  await hears(bob, "left behind");
  await hears(other, "left behind");
});

test("several tabs are one person, and share one outbox without doubling it", async () => {
  await serve();
  const { page: one, line } = await enterOnWire();
  await rename(one, "Ann");
  const two = await at.contexts[0].newPage();
  await two.goto(at.server.url);
  await inPhase(two, "connected");
  const bob = await enter();
  await line.cut();
  await inPhase(one, "offline");
  await say(one, "from the first");
  // A third tab looks for what was left behind, and finds that the first is still there. Its clock stands still until
  // the first has answered, however long that takes.
  const three = await at.contexts[0].newPage();
  await three.addInitScript(() => {
    window.present = 0;
    new BroadcastChannel("chat.tabs").addEventListener("message", ({ data }) => (window.present += data.here ? 1 : 0));
  });
  await three.clock.install();
  await three.clock.pauseAt(Date.now() + 60_000);
  await three.goto(at.server.url);
  await inPhase(three, "connected");
  await until("the others have answered", () => three.evaluate(() => window.present), (count) => count === 2);
  await three.clock.resume();
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
      await post(at.server, "lobby", "Bot", expected.at(-1));
    }
    await hears(page, ...expected);
    await line.cut();
    await inPhase(page, "offline");
    for (let n = 0; n < 40; n += 1) {
      expected.push(`away ${round}, ${n}`);
      await post(at.server, "lobby", "Bot", expected.at(-1));
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
  at.server.freeze();
  await say(page, "once");
  await page.evaluate(() => window.dispatchEvent(new Event("offline")));
  at.server.thaw();
  await at.server.restart().then((again) => (at.server = again));
  await hears(bob, "once");
  await hears(page, "once");
  await sent(page, "once");
});

test("a gap that the server announces is shown where it is, and filled on request", async () => {
  await serve("--backfill", "3", "--page", "10");
  const { page, line } = await enterOnWire();
  await post(at.server, "lobby", "Bot", "before");
  await hears(page, "before");
  await line.cut();
  await inPhase(page, "offline");
  const missed = Array.from({ length: 25 }, (_, n) => `missed ${n}`);
  for (const text of missed) {
    await post(at.server, "lobby", "Bot", text);
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
  at.server = await Server.start();
  const [ann, bob] = await Promise.all([enter(), enter()]);
  await say(ann, "before");
  await hears(bob, "before");
  await sent(ann, "before");
  await at.server.kill();
  await inPhase(ann, "offline");
  await say(ann, "meanwhile");
  at.server = await at.server.again();
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
  await sent(ann, texts.at(-1));
});

test("what the server refuses for good can be tried again, or edited", async () => {
  await serve();
  const { page, held, release } = await enterBetween();
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
  await until("it is sent", () => fates(page), ([fate, ...others]) => /^Not sent: /.test(fate ?? "") && others.length === 0);
  held.add("say");
  await page.locator(".fate button").first().click();
  await until("it is tried again", () => fates(page), ([fate]) => fate === "Sending…");
  release();
  await until("it has failed again", () => fates(page), ([fate]) => /^Not sent: /.test(fate ?? ""));
  await page.locator(".fate button").last().click();
  assert.equal((await page.locator("#inputBox").inputValue()).length, 20_000);
  await hears(page, "the next is not held up");
});

test("a gap while connected is shown where it is", async () => {
  await serve();
  const { page, tell } = await enterBetween();
  await say(page, "before");
  await sent(page, "before");
  tell({ type: "gap", room: "lobby", position: 40 });
  tell({ type: "said", room: "lobby", position: 41, nonce: "n", from: { id: "00000000000000aa", name: "Bob" }, text: "after", at: Date.now() });
  await hears(page, "before", "after");
  assert.match(await page.locator(".gapRow").textContent(), /^Messages are missing here/);
  assert.equal(await page.locator(".gapRow button").count(), 0);
});

test("a gap that begins another epoch parts the former positions from the new ones, by which the page then joins", async () => {
  await serve();
  const { page, said, tell, close } = await enterBetween();
  for (const text of ["one", "two", "three"]) {
    await say(page, text);
  }
  await sent(page, "three");
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

test("an old message that is confirmed late stands where it was said, with all that came between", async () => {
  await serve();
  const { page, said } = await enterBetween();
  await say(page, "the old one");
  await sent(page, "the old one");
  const { nonce } = said.find(({ type }) => type === "say");
  const later = Array.from({ length: 150 }, (_, n) => `later ${n}`);
  for (const text of later) {
    await post(at.server, "lobby", "Bot", text);
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
    await arrives(page);
    await say(page, `still here after ${value}`);
    await sent(page, `still here after ${value}`);
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
  await arrives(page);
  await post(at.server, "lobby", "Bot", "news");
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
    await post(at.server, "lobby", "Bot", text);
    await until("it is heard", () => bubbles(page), (are) => are.includes(text));
  }
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Edit", "the focus is where it was");
});
