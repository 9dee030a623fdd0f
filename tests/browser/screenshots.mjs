// Takes the pictures of README from a real conversation: `npm run screenshots`, written to docs/.
//
// They look best with the Debian packages fonts-inter and fonts-noto-color-emoji installed.

import { mkdir } from "node:fs/promises";
import { hears, launch, say, visit } from "./harness.mjs";
import { PROJECT, Server } from "./server.mjs";

const CONVERSATION = [
  ["ann", "Good morning! Is the stream at ten or at eleven?"],
  ["ben", "Ten. I have just put the slides up 🎉"],
  ["ann", "Perfect, thanks."],
  ["cleo", "Will there be a recording? Half of my class is on a train right now."],
  ["ben", "There will. The link comes into this room as soon as it is up, and you can ask everything here while it runs."],
  ["cleo", "<b>Great</b>, I’ll tell them 👋"],
  ["ann", "See you there\nand don’t forget the coffee ☕️"],
];

const PICTURES = [
  { name: "screenshot", viewport: { width: 1000, height: 640 }, colorScheme: "light" },
  { name: "screenshot-dark", viewport: { width: 1000, height: 640 }, colorScheme: "dark" },
  { name: "screenshot-phone", viewport: { width: 390, height: 760 }, colorScheme: "light", isMobile: true, hasTouch: true },
];

await mkdir(`${PROJECT}docs`, { recursive: true });
const [browser, server] = await Promise.all([launch(), Server.start()]);
try {
  for (const { name, ...options } of PICTURES) {
    const url = `${server.url}/?room=${name === "screenshot-phone" ? "class" : "lobby"}`;
    const [ann, ben, cleo] = await Promise.all([
      visit(browser, url, { deviceScaleFactor: 2, reducedMotion: "reduce", ...options }),
      visit(browser, url),
      visit(browser, url),
    ]);
    const people = { ann, ben, cleo };
    const said = [];
    for (const [who, text] of CONVERSATION) {
      await say(people[who], text);
      said.push(text);
      await hears(ann, ...said);
    }
    await ann.screenshot({ path: `${PROJECT}docs/${name}.png` });
    await Promise.all([ann, ben, cleo].map((page) => page.context().close()));
  }
} finally {
  await browser.close();
  await server.stop();
}
