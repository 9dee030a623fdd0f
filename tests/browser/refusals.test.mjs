// What the server does not want, or not now: names, rooms and questions end in no state that lasts for ever.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bubbles, fates, hears, inPhase, post, say, sent, until } from "./harness.mjs";
import { at, calledNow, enter, enterBetween, hint, serve } from "./stage.mjs";

test("a room that is left and entered again at once is entered", async () => {
  await serve();
  const page = await enter();
  await post(at.server, "garden", "Bot", "in the garden");
  at.server.freeze();
  for (const line of ["/join garden", "/leave", "/join garden"]) {
    await say(page, line);
  }
  at.server.thaw();
  await hears(page, "in the garden");
  await say(page, "me too");
  await say(page, "/leave");
  await say(page, "/join garden");
  await hears(page, "in the garden", "me too");
  await sent(page, "me too");
});

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

test("the last name that was asked for is taken, whatever is answered about those before", async () => {
  await serve();
  const { page, said, held, tell } = await enterBetween();
  held.add("rename");
  await say(page, "/name One");
  await say(page, "/name Two");
  await until("both are asked for", async () => said.filter(({ type }) => type === "rename").length, (count) => count === 2);
  held.clear();
  tell({ type: "renamed", you: { id: "00000000000000aa", name: "One" } });
  tell({ type: "error", request: "rename", code: "too_fast", message: "", retry_ms: 1 });
  await calledNow(page, "Two");
});

test("a name asked for behind the hello of a connection is taken", async () => {
  await serve();
  const { page, said, held, release, close } = await enterBetween();
  const count = (wanted) => said.filter(({ type }) => type === wanted).length;
  held.add("hello").add("rename");
  await close(1013);
  await until("it says hello again", async () => count("hello"), (hellos) => hellos === 2);
  await say(page, "/name Ann");
  await until("it asks for the name", async () => count("rename"), (renames) => renames === 1);
  release();
  await inPhase(page, "connected");
  await calledNow(page, "Ann");
  assert.equal(await hint(page), "You are now called Ann.");
});

test("a name that was refused is not claimed later", async () => {
  await serve();
  const { page, said, close } = await enterBetween();
  await say(page, "/name system");
  await until("it is refused", () => hint(page), (words) => words === "Nobody can be called so: this name is reserved.");
  await close(1013);
  await until("it is back", async () => said.filter(({ type }) => type === "hello").length, (count) => count === 2);
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
    await sent(page, `hello ${room}`);
  }
  await post(at.server, "a", "Bot", "while you were elsewhere");
  await page.locator("#roomList a").first().click();
  await hears(page, "while you were elsewhere");
  await say(page, "I am back");
  await sent(page, "I am back");
});

test("what is written in a room that cannot be is not sent, and does not bring the room back", async () => {
  await serve();
  const { page, held, release } = await enterBetween({ path: `/?room=${"x".repeat(100)}` });
  await until("the reason is told", () => page.locator("#emptyText").textContent(), (words) => /at most 64 bytes/.test(words));
  await say(page, "anybody?");
  await until("it is refused", () => fates(page), ([fate]) => /^Not sent: a name has at most 64 bytes in UTF-8\./.test(fate ?? ""));
  held.add("join");
  await page.locator(".fate button").first().click();
  await until("it is tried again", () => fates(page), ([fate]) => fate === "Sending…");
  release();
  await until("and refused", () => fates(page), ([fate]) => /^Not sent/.test(fate ?? ""));
  await say(page, "/leave");
  await say(page, "here, then");
  await sent(page, "here, then");
  await hears(page, "here, then");
  const listed = () => until("the rooms are listed", () => page.locator("#roomList bdi").allTextContents(), (rooms) => rooms.length > 0);
  await until("the room is left", listed, (rooms) => rooms.join() === "lobby");
  await page.reload();
  await hears(page, "here, then");
  assert.deepEqual(await listed(), ["lobby"]);
});

test("a room is left when what was asked about it is answered, and the next question is asked", async () => {
  await serve("--page", "20");
  for (let n = 0; n < 60; n += 1) {
    await post(at.server, "garden", "Bot", `flower ${n}`);
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
  await sent(page, "back in the lobby");
  const left = () => said.filter(({ type }) => type === "leave").length;
  assert.equal(left(), 0);
  release();
  await until("the room is left", async () => left(), (count) => count === 1);
  await say(page, "/search lobby");
  await until("the search is answered", () => page.locator("#searchHint").textContent(), (words) => words === "1 result");
});
