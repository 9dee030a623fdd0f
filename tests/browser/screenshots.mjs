// Takes the pictures of README from a real conversation: `npm run screenshots`, written to docs/.
//
// They look best with the Debian packages fonts-inter and fonts-noto-color-emoji installed.

import { mkdir } from "node:fs/promises";
import { launch, rename, say, until, visit } from "./harness.mjs";
import { PROJECT, Server, dataFolder } from "./server.mjs";

const EARLIER = [
  ["Cleo", "The encoder runs. The trick was the second sound card 🎛️"],
];

const CONVERSATION = [
  ["Ann", "Good morning! Is the stream at ten or at eleven?"],
  ["Ben", "Ten. The slides are up: https://slides.example.org/intro 🎉"],
  ["Ben", "If your viewer stutters, this helps:\n```sh\nffplay -fflags nobuffer -framedrop \\\n  rtmp://stream.example.org/live\n```"],
  ["Cleo", "> Is the stream at ten or at eleven?\nAnd will there be a recording? Half of my class is on a train right now."],
  ["Ben", "There will. @Ann, could you put the link into `#rust` as soon as it is up?"],
  ["Ann", "Will do. See you there, and don’t forget the coffee ☕️"],
  ["Cleo", "👋"],
];

const ROOMS = [["design", 3], ["random", 0], ["rust", 12]];

const PICTURES = [
  { name: "screenshot", viewport: { width: 1280, height: 940 }, colorScheme: "light", people: true },
  { name: "screenshot-dark", viewport: { width: 1280, height: 940 }, colorScheme: "dark", people: true },
  { name: "screenshot-phone", viewport: { width: 390, height: 780 }, colorScheme: "light", isMobile: true, hasTouch: true },
];

const DAY_MS = 24 * 3_600_000;

/** Moves what was said earlier by some days, as far as this page can tell. */
async function setDay(page, days) {
  await page.addInitScript((shift) => {
    const receive = JSON.parse;
    JSON.parse = (text, ...rest) => {
      const value = receive(text, ...rest);
      for (const entry of value?.entries ?? []) {
        entry.at += entry.text?.includes("encoder") ? shift : 0;
      }
      return value;
    };
  }, days * DAY_MS);
}

/** Comes in as somebody whose colour is unlike those of the others, as chance would have it among more people. */
async function enter(browser, server, name, hues, options) {
  for (;;) {
    const page = await visit(browser, `${server.url}/?room=class`, options);
    const hue = Number(await page.locator("#selfButton").evaluate((button) => button.style.getPropertyValue("--hue")));
    if (hues.every((other) => Math.abs(((hue - other + 540) % 360) - 180) > 55)) {
      hues.push(hue);
      await rename(page, name);
      return page;
    }
    await page.context().close();
  }
}

async function picture(browser, server, { name, people, ...options }) {
  const hues = [];
  const pages = { Ann: await enter(browser, server, "Ann", hues, { deviceScaleFactor: 2, reducedMotion: "reduce", ...options }) };
  const ann = pages.Ann;
  await setDay(ann, -1);
  for (const who of ["Ben", "Cleo", "Dan"]) {
    pages[who] = await enter(browser, server, who, hues);
  }
  await until("those who were not taken are gone", () => ann.locator("#peopleCount").textContent(), (count) => count === "4");
  const said = async (count) => {
    for (const page of Object.values(pages)) {
      await until("all is said", () => page.locator("#messages .msgCtn").count(), (shown) => shown === count);
    }
  };
  let count = 0;
  for (const [who, text] of EARLIER) {
    await say(pages[who], text);
    await said((count += 1));
  }
  for (const [room] of ROOMS) {
    await say(ann, `/join ${room}`);
    await until(`Ann is in ${room}`, () => ann.locator("#empty").isVisible(), Boolean);
  }
  await ann.locator("#roomsPanel a", { hasText: "class" }).evaluate((link) => link.click());
  await ann.reload();
  await said(count);
  for (const [who, text] of CONVERSATION) {
    await say(pages[who], text);
    await said((count += 1));
  }
  for (const [room, unread] of ROOMS) {
    await say(pages.Dan, `/join ${room}`);
    for (let n = 0; n < unread; n += 1) {
      await say(pages.Dan, `news ${n}`);
    }
    await until(`${room} is unread`, async () => (await ann.locator("#roomList li", { hasText: room }).locator(".badge").textContent({ timeout: 1_000 }).catch(() => "0")),
      (badge) => badge === String(unread));
  }
  if (people) {
    await ann.locator("#peopleButton").click();
  }
  await ann.locator("#inputBox").focus();
  await until("who has gone elsewhere is not here", () => ann.locator("#peopleCount").textContent(), (is) => is === "4");
  await pages.Cleo.locator("#inputBox").pressSequentially("One more thing");
  await until("Cleo is writing", () => ann.locator("#typing").innerText(), (words) => /Cleo/.test(words));
  await ann.screenshot({ path: `${PROJECT}docs/${name}.png` });
  await Promise.all(Object.values(pages).map((page) => page.context().close()));
}

await mkdir(`${PROJECT}docs`, { recursive: true });
const browser = await launch();
try {
  for (const options of PICTURES) {
    const folder = await dataFolder();
    const server = await Server.start({ data: folder.path });
    await picture(browser, server, options);
    await server.stop();
    await folder.remove();
  }
} finally {
  await browser.close();
}
