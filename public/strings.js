/** Every word of the page, in English and German; `strings` are those of the browser's language. */

const plural = (count, one, many) => (count === 1 ? one : many);

export const en = {
  connecting: "Connecting…",
  connected: "Connected",
  offline: "Offline",
  replaced: "Elsewhere",
  noConnection: "You are offline. What you write waits and goes out by itself.",
  reconnecting: (seconds) => `No connection. Trying again in ${seconds} s.`,
  reconnectingNow: "No connection. Trying again…",
  restarting: (seconds) => `The server is restarting. Back in ${seconds} s.`,
  restartingNow: "The server is restarting. Trying again…",
  elsewhere: "This chat goes on in another window.",
  journalWaiting: "The server cannot store messages right now. What you write waits and goes out by itself.",
  busDown: "The servers cannot reach each other right now. What you write waits and goes out by itself.",
  serverBehind: "This server has yet to catch up with the others, and the room waits for it. What you write waits and goes out by itself.",
  retryNow: "Now",
  continueHere: "Continue here",

  rooms: "Rooms",
  formerRooms: "Rooms you were in",
  joinRoom: "Join or create a room",
  join: "Join",
  leave: (room) => `Leave ${room}`,
  showRooms: "Rooms and you",
  hide: "Close",
  unread: (count) => `${count} unread`,
  roomTooLong: "That name is too long for a room.",
  cannotEnter: (reason) => `This room cannot be opened: ${reason}.`,
  toLobby: "Go to the lobby",

  people: "People",
  peopleHere: (count) => plural(count, "1 person here", `${count} people here`),
  you: "you",
  unnamed: (count) => plural(count, "and 1 without a name", `and ${count} without names`),
  somebody: "Somebody",
  typing: (names) => (names.length === 1 ? `${names[0]} is writing…` : `${list(names, "and")} are writing…`),
  came: (names) => `${list(names, "and")} came`,
  went: (names) => `${list(names, "and")} left`,
  others: (count) => plural(count, "1 other", `${count} others`),

  messages: "Messages",
  yourMessage: "Your message",
  writeTo: (room) => `Message #${room}`,
  send: "Send",
  tip: "Enter sends, Shift+Enter breaks the line",
  as: "as",
  changeName: (name) => `You are ${name}. Change your name`,
  emptyRoom: "Nothing has been said yet.",
  emptyHint: "Whoever opens this address is in the room.",
  today: "Today",
  yesterday: "Yesterday",
  isNew: "New",
  newMessages: (count) => plural(count, "1 new message ↓", `${count} new messages ↓`),
  toPresent: "To the present ↓",
  gapMissed: "More was said here than could be sent.",
  gapLost: "Messages are missing here. The server does not have them any more.",
  gapAnew: "The server began anew here.",
  showMissing: "Show it",
  bytes: (count) => plural(count, "[1 byte]", `[${count} bytes]`),
  sending: "Sending…",
  waits: "Waits for the connection",
  notSent: (reason) => (reason ? `Not sent: ${reason}.` : "Not sent."),
  retry: "Retry",
  edit: "Edit",
  left: (count) => plural(count, "1 character left", `${count} characters left`),
  tooLong: (count) => plural(count, "1 character too long", `${count} characters too long`),
  completes: (names) => `Tab ↹ ${names.map((name) => `@${name}`).join(" · ")}`,
  heard: (name, text) => `${name}: ${text}`,
  heardMany: (count) => `${count} new messages`,
  mentionTitle: (name, room) => `${name} mentioned you in #${room}`,
  messageTitle: (name, room) => `${name} in #${room}`,

  search: "Search",
  searchIn: (room) => `Search in #${room}`,
  searching: "Searching…",
  searchHint: "Words, “phrases in quotes” and from:name",
  found: (count, more) => (more ? `The newest ${count} results` : plural(count, "1 result", `${count} results`)),
  foundNothing: "Nothing was found.",
  searchOlder: "Older results",
  searchFailed: (reason) => `The search did not work: ${reason}.`,
  searchOffline: "There is no connection.",

  settings: "Settings",
  yourName: "Your name",
  nameHint: "Others see it. Names need not be unique.",
  save: "Save",
  nameRefused: (reason) => `Nobody can be called so: ${reason}.`,
  nowCalled: (name) => `You are now called ${name}.`,
  theme: "Theme",
  themeSystem: "As the system",
  themeLight: "Light",
  themeDark: "Dark",
  notifications: "Desktop notifications",
  notificationsHint: "While this page is not in sight",
  notificationsDenied: "The browser does not allow it. Its settings for this page can.",
  sound: "Sound",

  help: "Help",
  keys: [
    ["Enter", "Send"],
    ["Shift + Enter", "Break the line"],
    ["↑", "Your last message again, in an empty box"],
    ["Tab", "Complete a name after @"],
    ["Alt + ↑ / ↓", "Previous or next room"],
    ["Page ↑ / ↓", "Read on, from the message box"],
    ["Esc", "Close a panel; else back to the present and the message box"],
    ["Ctrl + K", "Search"],
    ["?", "This help, when you are not writing"],
  ],
  commands: [
    ["/name Ann", "Change your name"],
    ["/join rust", "Join or create a room"],
    ["/leave", "Leave this room"],
    ["/search words", "Search in this room"],
    ["/help", "This help"],
    ["//text", "Say something that begins with a slash"],
  ],
  markup: [
    ["*emphasis*", "emphasis"],
    ["`code`", "code; three of them around lines of code"],
    ["> text", "A quote"],
    ["@name", "Mention somebody"],
  ],
  keysTitle: "Keys",
  commandsTitle: "Commands",
  markupTitle: "Writing",
  unknownCommand: (command) => `There is no command ${command}. /help shows them; // says a slash.`,
  nameMissing: "Write the name behind it: /name Ann",
  roomMissing: "Write the room behind it: /join rust",

  /** By their code, where the words of the server are not those of the page's language. */
  refusals: {},

  qualities: ["Quiet", "Brisk", "Sunny", "Gentle", "Bold", "Merry", "Clever", "Calm", "Kind", "Lucky", "Nimble", "Witty",
    "Bright", "Cosy", "Fond", "Jolly", "Keen", "Mellow", "Proud", "Swift"],
  animals: ["Otter", "Heron", "Badger", "Fox", "Wren", "Hare", "Lynx", "Robin", "Seal", "Finch", "Panda", "Koala", "Owl",
    "Beaver", "Dolphin", "Falcon", "Hedgehog", "Ibis", "Marten", "Puffin"],
};

export const de = {
  connecting: "Verbinde…",
  connected: "Verbunden",
  offline: "Offline",
  replaced: "Anderswo",
  noConnection: "Du bist offline. Was du schreibst, wartet und geht von selbst hinaus.",
  reconnecting: (seconds) => `Keine Verbindung. Neuer Versuch in ${seconds} s.`,
  reconnectingNow: "Keine Verbindung. Neuer Versuch…",
  restarting: (seconds) => `Der Server startet neu. Zurück in ${seconds} s.`,
  restartingNow: "Der Server startet neu. Neuer Versuch…",
  elsewhere: "Dieser Chat geht in einem anderen Fenster weiter.",
  journalWaiting: "Der Server kann gerade nichts speichern. Was du schreibst, wartet und geht von selbst hinaus.",
  busDown: "Die Server erreichen einander gerade nicht. Was du schreibst, wartet und geht von selbst hinaus.",
  serverBehind: "Dieser Server muss die anderen erst noch einholen, und der Raum wartet darauf. Was du schreibst, wartet und geht von selbst hinaus.",
  retryNow: "Jetzt",
  continueHere: "Hier weiter",

  rooms: "Räume",
  formerRooms: "Räume, in denen du warst",
  joinRoom: "Raum betreten oder eröffnen",
  join: "Betreten",
  leave: (room) => `${room} verlassen`,
  showRooms: "Räume und du",
  hide: "Schließen",
  unread: (count) => `${count} ungelesen`,
  roomTooLong: "Dieser Name ist zu lang für einen Raum.",
  cannotEnter: (reason) => `Dieser Raum lässt sich nicht öffnen: ${reason}.`,
  toLobby: "Zur Lobby",

  people: "Leute",
  peopleHere: (count) => plural(count, "1 Person hier", `${count} Leute hier`),
  you: "du",
  unnamed: (count) => plural(count, "und 1 ohne Namen", `und ${count} ohne Namen`),
  somebody: "Jemand",
  typing: (names) => (names.length === 1 ? `${names[0]} schreibt…` : `${list(names, "und")} schreiben…`),
  came: (names) => `${list(names, "und")} ${plural(names.length, "kam", "kamen")}`,
  went: (names) => `${list(names, "und")} ${plural(names.length, "ging", "gingen")}`,
  others: (count) => plural(count, "1 weitere Person", `${count} weitere`),

  messages: "Nachrichten",
  yourMessage: "Deine Nachricht",
  writeTo: (room) => `Nachricht an #${room}`,
  send: "Senden",
  tip: "Enter sendet, Umschalt+Enter beginnt eine neue Zeile",
  as: "als",
  changeName: (name) => `Du heißt ${name}. Namen ändern`,
  emptyRoom: "Hier wurde noch nichts gesagt.",
  emptyHint: "Wer diese Adresse öffnet, ist im Raum.",
  today: "Heute",
  yesterday: "Gestern",
  isNew: "Neu",
  newMessages: (count) => plural(count, "1 neue Nachricht ↓", `${count} neue Nachrichten ↓`),
  toPresent: "Zur Gegenwart ↓",
  gapMissed: "Hier wurde mehr gesagt, als gesendet werden konnte.",
  gapLost: "Hier fehlen Nachrichten. Der Server hat sie nicht mehr.",
  gapAnew: "Hier hat der Server neu begonnen.",
  showMissing: "Anzeigen",
  bytes: (count) => plural(count, "[1 Byte]", `[${count} Bytes]`),
  sending: "Wird gesendet…",
  waits: "Wartet auf die Verbindung",
  notSent: (reason) => (reason ? `Nicht gesendet: ${reason}.` : "Nicht gesendet."),
  retry: "Noch einmal",
  edit: "Bearbeiten",
  left: (count) => `Noch ${count} Zeichen`,
  tooLong: (count) => `${count} Zeichen zu lang`,
  completes: (names) => `Tab ↹ ${names.map((name) => `@${name}`).join(" · ")}`,
  heard: (name, text) => `${name}: ${text}`,
  heardMany: (count) => `${count} neue Nachrichten`,
  mentionTitle: (name, room) => `${name} hat dich in #${room} erwähnt`,
  messageTitle: (name, room) => `${name} in #${room}`,

  search: "Suche",
  searchIn: (room) => `In #${room} suchen`,
  searching: "Suche läuft…",
  searchHint: "Wörter, „Wendungen in Anführungszeichen“ und from:Name",
  found: (count, more) => (more ? `Die neuesten ${count} Treffer` : `${count} Treffer`),
  foundNothing: "Nichts gefunden.",
  searchOlder: "Ältere Treffer",
  searchFailed: (reason) => `Die Suche ging nicht: ${reason}.`,
  searchOffline: "Es gibt keine Verbindung.",

  settings: "Einstellungen",
  yourName: "Dein Name",
  nameHint: "Andere sehen ihn. Namen müssen nicht einmalig sein.",
  save: "Speichern",
  nameRefused: (reason) => `So kann niemand heißen: ${reason}.`,
  nowCalled: (name) => `Du heißt jetzt ${name}.`,
  theme: "Farben",
  themeSystem: "Wie das System",
  themeLight: "Hell",
  themeDark: "Dunkel",
  notifications: "Benachrichtigungen",
  notificationsHint: "Solange diese Seite nicht zu sehen ist",
  notificationsDenied: "Der Browser erlaubt es nicht. In seinen Einstellungen für diese Seite geht es.",
  sound: "Ton",

  help: "Hilfe",
  keys: [
    ["Enter", "Senden"],
    ["Umschalt + Enter", "Neue Zeile"],
    ["↑", "Deine letzte Nachricht noch einmal, im leeren Feld"],
    ["Tab", "Einen Namen nach @ ergänzen"],
    ["Alt + ↑ / ↓", "Voriger oder nächster Raum"],
    ["Bild ↑ / ↓", "Weiterlesen, aus dem Nachrichtenfeld"],
    ["Esc", "Schließen; sonst zurück zur Gegenwart und zum Nachrichtenfeld"],
    ["Strg + K", "Suche"],
    ["?", "Diese Hilfe, wenn du gerade nicht schreibst"],
  ],
  commands: [
    ["/name Anna", "Den eigenen Namen ändern"],
    ["/join rust", "Einen Raum betreten oder eröffnen"],
    ["/leave", "Diesen Raum verlassen"],
    ["/search Wörter", "In diesem Raum suchen"],
    ["/help", "Diese Hilfe"],
    ["//Text", "Etwas sagen, das mit einem Schrägstrich beginnt"],
  ],
  markup: [
    ["*betont*", "betont"],
    ["`Code`", "Code; drei davon um mehrere Zeilen"],
    ["> Text", "Ein Zitat"],
    ["@Name", "Jemanden erwähnen"],
  ],
  keysTitle: "Tasten",
  commandsTitle: "Befehle",
  markupTitle: "Schreiben",
  unknownCommand: (command) => `Den Befehl ${command} gibt es nicht. /help zeigt alle; // sagt einen Schrägstrich.`,
  nameMissing: "Schreib den Namen dahinter: /name Anna",
  roomMissing: "Schreib den Raum dahinter: /join rust",
  /** The server explains itself in English; what people meet is said here by its code. */
  refusals: {
    bad_name: "der Name ist leer, zu lang oder vergeben, oder er hat unsichtbare Zeichen oder außen Leerzeichen",
    bad_room: "der Name ist leer oder zu lang, oder er hat unsichtbare Zeichen oder außen Leerzeichen",
    bad_text: "der Text ist leer oder zu lang",
    bad_query: "gesucht wird nach 1 bis 32 Wörtern",
    busy: "gerade ist zu viel los",
    too_fast: "das ging zu schnell",
    unavailable: "der Server bewahrt nichts auf, oder er kann es gerade nicht",
  },

  qualities: ["Leiser", "Flinker", "Sonniger", "Sanfter", "Kühner", "Froher", "Kluger", "Ruhiger", "Netter", "Wacher",
    "Heller", "Bunter", "Stolzer", "Munterer", "Schlauer", "Lieber", "Feiner", "Treuer", "Reger", "Milder"],
  animals: ["Otter", "Reiher", "Dachs", "Fuchs", "Hase", "Luchs", "Igel", "Biber", "Falke", "Marder", "Panda", "Koala",
    "Uhu", "Delfin", "Specht", "Storch", "Spatz", "Rabe", "Wal", "Bär"],
};

/** @param {string[]} names @param {string} and */
function list(names, and) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${and} ${names.at(-1)}`;
}

/** The first of the browser's languages that the page speaks. */
export const language =
  navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag === "de" || tag === "en") ?? "en";

/** As `language`, with the country that the browser names: it knows how people there write times and days. */
export const locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;

export const strings = language === "de" ? de : en;

const any = (list) => list[Math.floor(Math.random() * list.length)];

/** What somebody is called who has not chosen a name, such as "Quiet Otter". */
export const friendlyName = () => `${any(strings.qualities)} ${any(strings.animals)}`;

/** Why the server has refused something, in words for people. @param {string} code @param {string} message its own */
export const refusal = (code, message) => strings.refusals[code] ?? message.replace(/^[a-z]+: /, "");

/** Puts the words into the page: `data-text` names what an element says, `data-label` what it is called. */
export function translate(root) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = strings[element.dataset.text];
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", strings[element.dataset.label]);
    element.title = strings[element.dataset.label];
  }
}
