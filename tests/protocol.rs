//! `docs/PROTOCOL.md` and the server say the same: its examples are played, and what it lists is compared with the source.

mod common;
#[path = "protocol/programs.rs"]
mod programs;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write;

use chat_app::close::CloseReason;
use rustix::process::Signal;
use serde_json::Value;
use tungstenite::{Bytes, Message};

use common::{DEADLINE, Server, WsClient};

const DOCUMENT: &str = include_str!("../docs/PROTOCOL.md");
const V1: &str = concat!(include_str!("../src/chat/v1.rs"), include_str!("../src/chat/v1/request.rs"));

/// What is in the place of something that an example leaves out.
const LEFT_OUT: &str = "…";

// --- The examples ---

/// A fenced block of the document.
struct Example {
    line: usize,
    options: Vec<&'static str>,
    steps: Vec<Step>,
}

/// A line of an example, or several that belong together.
struct Step {
    line: usize,
    client: &'static str,
    text: String,
    kind: StepKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepKind {
    Sends,
    Hears,
    Remark,
}

/// A fenced block as it stands.
struct Block {
    line: usize,
    options: &'static str,
    /// Those that are not empty, with their numbers.
    lines: Vec<(&'static str, usize)>,
}

/// The fenced blocks of a language.
fn example_blocks(language: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = DOCUMENT.lines().zip(1..);
    while let Some((text, line)) = lines.next() {
        let Some(options) = text.strip_prefix("```").and_then(|text| text.strip_prefix(language)) else { continue };
        let block = lines.by_ref().take_while(|(text, _)| *text != "```");
        blocks.push(Block { line, options, lines: block.filter(|(text, _)| !text.is_empty()).collect() });
    }
    blocks
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for Block { line, options, lines } in example_blocks("chat") {
        let mut steps: Vec<Step> = Vec::new();
        for (text, line) in lines {
            let (client, rest) = match text.split_once(' ') {
                Some((client, rest)) if rest.starts_with(['→', '←']) => (client, rest),
                _ => ("", text),
            };
            let (kind, text) = match (rest.strip_prefix("→ "), rest.strip_prefix("← "), rest.strip_prefix("-- ")) {
                (Some(text), _, _) => (StepKind::Sends, text),
                (_, Some(text), _) => (StepKind::Hears, text),
                (_, _, Some(text)) => (StepKind::Remark, text),
                (None, None, None) => {
                    let step = steps.last_mut().unwrap_or_else(|| panic!("line {line} begins nothing: {rest}"));
                    write!(step.text, " {}", rest.trim()).expect("a string takes all");
                    continue;
                }
            };
            steps.push(Step { line, client, text: text.to_owned(), kind });
        }
        examples.push(Example { line, options: options.split_whitespace().collect(), steps });
    }
    examples
}

/// A client of an example, and what it was told.
struct Client {
    socket: WsClient,
    /// What comes in its order.
    told: VecDeque<Told>,
    /// What may come in other portions: presence and typing.
    fleeting: Vec<Value>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Json(Value),
    Text(String),
    Binary(Bytes),
    Closed(u16),
}

impl Client {
    /// Reads one message.
    fn read(&mut self) {
        let is_json = self.socket.response().headers().contains_key("sec-websocket-protocol");
        let message = self.socket.poll(DEADLINE).unwrap_or_else(|error| panic!("the connection ended: {error}"));
        let told = match message {
            Some(Message::Text(text)) if is_json => {
                let json: Value = serde_json::from_str(&text).expect("JSON");
                if is_fleeting(&json) {
                    return self.fleeting.push(json);
                }
                Told::Json(json)
            }
            Some(Message::Text(text)) => Told::Text(text.to_string()),
            Some(Message::Binary(bytes)) => Told::Binary(bytes),
            Some(Message::Close(frame)) => Told::Closed(frame.map_or(1005, |frame| frame.code.into())),
            Some(_) => return,
            None => panic!("nothing came within {DEADLINE:?}; {:?} {:?}", self.told, self.fleeting),
        };
        self.told.push_back(told);
    }

    fn next(&mut self) -> Told {
        loop {
            match self.told.pop_front() {
                Some(told) => return told,
                None => self.read(),
            }
        }
    }

    /// Waits for something fleeting that fits.
    fn next_fleeting(&mut self, example: &Value, known: &mut Known) {
        let mut seen = 0;
        loop {
            for place in seen..self.fleeting.len() {
                let mut tried = known.clone();
                if tried.fits(example, &self.fleeting[place], "").is_ok() {
                    *known = tried;
                    self.fleeting.remove(place);
                    return;
                }
            }
            seen = self.fleeting.len();
            self.read();
        }
    }
}

fn is_fleeting(json: &Value) -> bool {
    json["type"] == "presence" || json["type"] == "typing"
}

/// What stands in the server's world for the ids, tokens, sessions and epochs of the document.
#[derive(Default, Clone)]
struct Known(HashMap<String, String>);

impl Known {
    /// Whether a value is what the example shows, and what not if it is not.
    fn fits(&mut self, example: &Value, found: &Value, path: &str) -> Result<(), String> {
        let differs = || format!("{path}: {example} in the document, {found} from the server");
        let field = path.rsplit('.').next().unwrap_or_default();
        match (example, found) {
            (Value::String(text), _) if text == LEFT_OUT => Ok(()),
            (Value::String(text), Value::String(real))
                if matches!(field, "id" | "token" | "session" | "epoch" | "left[]") =>
            {
                let known = self.0.entry(text.clone()).or_insert_with(|| real.clone());
                if known == real && text.len() == real.len() { Ok(()) } else { Err(differs()) }
            }
            (Value::String(_), Value::String(_)) if field == "version" => Ok(()),
            (Value::Number(_), Value::Number(real)) if matches!(field, "at" | "retry_ms" | "reconnect_ms") => {
                let least = if field == "at" { 1_700_000_000_000 } else { 1 };
                if real.as_u64().is_some_and(|real| real >= least) { Ok(()) } else { Err(differs()) }
            }
            (Value::Array(items), Value::Array(real)) if example_may_be_a_part(path) => {
                let is_there =
                    |item: &Value| real.iter().any(|real| self.clone().fits(item, real, &format!("{path}[]")).is_ok());
                if items.iter().all(is_there) { Ok(()) } else { Err(differs()) }
            }
            (Value::Array(items), Value::Array(real)) if items.len() == real.len() => {
                items.iter().zip(real).try_for_each(|(item, real)| self.fits(item, real, &format!("{path}[]")))
            }
            (Value::Object(fields), Value::Object(real)) => {
                for (name, value) in fields.iter().filter(|(name, _)| *name != LEFT_OUT) {
                    let real = real.get(name).ok_or_else(|| format!("{path}.{name} is missing in {found}"))?;
                    self.fits(value, real, &format!("{path}.{name}"))?;
                }
                let unknown = real.keys().find(|name| !fields.contains_key(*name));
                let is_whole =
                    !fields.contains_key(LEFT_OUT) && fields.get("type").is_none_or(|kind| kind != "presence");
                match unknown.filter(|_| is_whole) {
                    Some(name) => Err(format!("{path}.{name} is not in the document: {found}")),
                    None => Ok(()),
                }
            }
            (example, found) if example == found => Ok(()),
            _ => Err(differs()),
        }
    }

    /// What a client sends, with the server's ids and the like.
    fn translated(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (ours, theirs)| text.replace(ours.as_str(), theirs))
    }
}

/// Whoever else came or went at the same time is told in the same update.
fn example_may_be_a_part(path: &str) -> bool {
    matches!(path, ".joined" | ".left" | ".renamed")
}

fn play(example: &Example) {
    let folder = tempfile::tempdir().expect("a folder");
    let options: Vec<&str> = example
        .options
        .iter()
        .map(|option| if *option == "DIR" { folder.path().to_str().expect("UTF-8") } else { option })
        .collect();
    let server = Server::start_with(&options, |command| {
        if options.contains(&"--data") {
            command.env_remove("CHAT_MEMORY");
        }
    });
    let mut known = Known::default();
    let mut clients: HashMap<&str, Client> = HashMap::new();
    let connect = |path: &str, fields: &[(&str, &str)]| Client {
        socket: WsClient::connect(server.address(), path, fields),
        told: VecDeque::new(),
        fleeting: Vec::new(),
    };
    for Step { line, client: name, text, kind } in &example.steps {
        let words: Vec<&str> = text.split(' ').collect();
        if *kind == StepKind::Remark {
            match words[..] {
                ["the", "server", "is", "told", "to", "stop"] => server.signal(Signal::TERM),
                [name, "is", "cut", "off"] => drop(clients.remove(name).expect("a client")),
                [name, "connects"] => assert!(!clients.contains_key(name), "line {line}: {name} is connected"),
                [name, "connects", "raw", "to", path] => drop(clients.insert(name, connect(path, &[]))),
                _ => panic!("line {line}: {text}"),
            }
            continue;
        }
        let client = clients.entry(name).or_insert_with(|| connect("/", &[("Sec-WebSocket-Protocol", "chat.v1")]));
        match (kind, &words[..]) {
            (StepKind::Sends, ["text", ..]) => client.socket.send_text(&text["text ".len()..]),
            (StepKind::Sends, ["binary", bytes @ ..]) => client.socket.send(Message::Binary(from_hex(bytes))),
            (StepKind::Sends, _) => client.socket.send_text(&known.translated(text)),
            (_, ["text", ..]) => assert_eq!(client.next(), Told::Text(text["text ".len()..].to_owned()), "line {line}"),
            (_, ["binary", bytes @ ..]) => assert_eq!(client.next(), Told::Binary(from_hex(bytes)), "line {line}"),
            (_, ["close", code]) => {
                assert_eq!(client.next(), Told::Closed(code.parse().expect("a code")), "line {line}");
            }
            _ => {
                let example: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("line {line}: {error}"));
                if is_fleeting(&example) {
                    client.next_fleeting(&example, &mut known);
                    continue;
                }
                let Told::Json(found) = client.next() else { panic!("line {line}: a client of chat.v1 is told JSON") };
                known.fits(&example, &found, "").unwrap_or_else(|differs| panic!("line {line}: {differs}"));
            }
        }
    }
    for (name, mut client) in clients {
        // What the server has said comes before the answer to a close frame.
        client.socket.send_raw(common::frame(0x88, &1000_u16.to_be_bytes()));
        let mut unread: Vec<String> = client.told.iter().map(|told| format!("{told:?}")).collect();
        while let Ok(Some(message)) = client.socket.poll(DEADLINE) {
            match message {
                Message::Text(text) if serde_json::from_str(&text).is_ok_and(|json| is_fleeting(&json)) => {}
                Message::Text(_) | Message::Binary(_) => unread.push(message.to_string()),
                _ => {}
            }
        }
        assert!(unread.is_empty(), "{name} is told more: {unread:?}");
    }
}

fn from_hex(bytes: &[&str]) -> Bytes {
    bytes.iter().map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")).collect()
}

#[test]
fn the_examples_are_what_happens() {
    let examples = examples();
    assert!(examples.len() > 7, "the examples are found: {}", examples.len());
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let players: Vec<_> = examples.iter().map(|example| (example.line, scope.spawn(|| play(example)))).collect();
        failed.extend(players.into_iter().filter_map(|(line, player)| player.join().err().map(|_| line)));
    });
    assert!(failed.is_empty(), "the examples that begin at these lines of docs/PROTOCOL.md: {failed:?}");
}

// --- What is listed ---

/// The part of the document below a heading, down to the next one of its level or above.
fn section(heading: &str) -> &'static str {
    let marks = heading.split(' ').next().expect("a heading begins with its level");
    let begin =
        DOCUMENT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}")) + heading.len() + 2;
    let ends = (1..=marks.len()).filter_map(|level| DOCUMENT[begin..].find(&format!("\n{} ", "#".repeat(level))));
    &DOCUMENT[begin..ends.min().map_or(DOCUMENT.len(), |end| begin + end)]
}

/// The first cells of all rows of tables that name something in `code`, with the rest of the row.
fn rows(text: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix('|')?.split(" | ").map(str::trim);
        let name = cells.next()?.strip_prefix('`')?;
        Some((name, cells.collect()))
    };
    text.lines().filter_map(row).collect()
}

/// Messages by their type, each with its fields; those that may be absent with a question mark.
fn documented(heading: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = section(heading);
    let messages = text.split("\n### ").skip(1);
    let fields = |text: &'static str| rows(text).into_iter().map(|(name, _)| name.replacen('`', "", 1)).collect();
    messages.map(|text| (text.lines().next().expect("a heading").to_owned(), fields(text))).collect()
}

/// The lines of an enum or struct of `src/chat/v1.rs` and what lies below it, as rustfmt puts them.
fn source(head: &str) -> impl Iterator<Item = &'static str> {
    let begin = V1.find(head).unwrap_or_else(|| panic!("there is no {head}"));
    V1[begin..].lines().skip(1).take_while(|line| *line != "}").filter(|line| !line.trim_start().starts_with("///"))
}

/// The fields of a struct or of a variant, as they are on the wire.
fn fields(lines: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut attribute = "";
    for line in lines {
        let line = line.trim().trim_start_matches("pub ");
        if line.starts_with("#[") {
            attribute = line;
            continue;
        }
        let Some((name, kind)) = line.split_once(": ") else { continue };
        let name =
            attribute.split_once("rename = \"").map_or(name, |(_, rest)| rest.split('"').next().expect("a name"));
        if attribute.contains("flatten") {
            let kind = kind.trim_end_matches(',').split('<').next().expect("a type");
            fields.extend(self::fields(source(&format!("pub struct {kind}"))));
        } else if attribute.contains("default") || attribute.contains("skip_serializing_if") {
            fields.insert(format!("{name}?"));
        } else {
            fields.insert(name.to_owned());
        }
        attribute = "";
    }
    fields
}

/// The variants of an enum with their fields.
fn variants(head: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut variants: Vec<(String, Vec<&str>)> = Vec::new();
    for line in source(head) {
        match line.strip_prefix("    ") {
            Some(name) if name.starts_with(char::is_uppercase) => {
                let name = name.trim_end_matches([' ', '{', ',', '}']);
                let snake: String = name.chars().enumerate().fold(String::new(), |mut snake, (place, c)| {
                    if c.is_uppercase() && place > 0 {
                        snake.push('_');
                    }
                    snake.push(c.to_ascii_lowercase());
                    snake
                });
                variants.push((snake, Vec::new()));
            }
            _ => variants.last_mut().into_iter().for_each(|(_, fields)| fields.push(line)),
        }
    }
    variants.into_iter().map(|(name, lines)| (name, fields(lines))).collect()
}

#[test]
fn every_request_is_documented_and_there() {
    let known = variants("pub enum Request {");
    assert_eq!(known.len(), 8, "the source is understood");
    assert_eq!(documented("## What a client sends"), known);
}

#[test]
fn every_message_is_documented_and_there() {
    let mut known = variants("pub enum Reply<'a> {");
    assert!(known.len() > 10 && known["error"].contains("nonce?"), "the source is understood: {known:?}");
    let mut said = fields(source("pub struct Said<'a> {"));
    assert!(said.remove("type?") && said.remove("room?") && said.insert("room".to_owned()), "as an event it has both");
    known.insert("said".to_owned(), said);
    known.insert("person".to_owned(), fields(source("pub struct Person<'a> {")));
    assert_eq!(documented("## What the server sends"), known);
}

#[test]
fn every_error_is_documented_and_there() {
    let known: BTreeSet<String> = variants("pub enum Code {").into_keys().collect();
    let documented: BTreeSet<String> =
        rows(section("## Errors")).iter().map(|(name, _)| name.replace('`', "")).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_limit_is_documented_and_there() {
    let help = String::from_utf8(common::run(&["--help"], &[]).stdout).expect("UTF-8");
    let text = section("## Limits");
    let words: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for option in text.split('`').filter(|word| word.starts_with("--")) {
        assert!(words.contains(&format!(" {option} ")), "there is no option {option}");
    }
    let server = Server::start(&[]);
    let (_, welcome) = common::ChatClient::hello(server.address(), "Ann");
    let known: BTreeMap<String, u64> = welcome["limits"]
        .as_object()
        .expect("limits")
        .iter()
        .map(|(name, it)| (name.clone(), it.as_u64().expect("a number")))
        .collect();
    let documented =
        rows(text).into_iter().filter_map(|(name, cells)| Some((name.replace('`', ""), cells.get(2)?.parse().ok()?)));
    assert_eq!(documented.collect::<BTreeMap<_, _>>(), known, "limits and their defaults");
    for line in text.lines().filter(|line| line.contains("| `--")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let [.., option, default] = cells[..] else { panic!("{line}") };
        let option = option.trim_matches('`');
        let told = &words[words.find(&format!(" {option} ")).expect("an option")..];
        let told = told.split_once("(default: ").and_then(|(_, rest)| rest.split(')').next()).expect("a default");
        let plain =
            told.strip_suffix("KiB").and_then(|kib| kib.parse::<u64>().ok()).map(|kib| (kib * 1024).to_string());
        assert!(
            default == told || plain.as_deref() == Some(default),
            "{option}: {default} in the document, {told} in the help"
        );
    }
}

#[test]
fn every_close_code_is_documented_and_there() {
    let row = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse::<u16>().ok();
    let documented: BTreeSet<u16> = section("## Closing").lines().filter_map(row).collect();
    let mut known: BTreeSet<u16> =
        CloseReason::ALL.into_iter().filter_map(|reason| reason.close_code().map(|(code, _)| code)).collect();
    known.insert(1000);
    assert_eq!(documented, known);
}
