//! The examples of HTTP in the document: requests, responses, and streams of events.

use std::collections::HashMap;

use serde_json::Value;

use super::common::{Raw, Response, Server};
use super::{Block, Known, StepKind, example_blocks};

/// Lines of one client in one direction.
struct Group {
    line: usize,
    client: &'static str,
    kind: StepKind,
    lines: Vec<&'static str>,
}

struct Example {
    line: usize,
    options: Vec<&'static str>,
    groups: Vec<Group>,
}

fn examples() -> Vec<Example> {
    let example = |Block { line, options, lines }: Block| {
        let mut groups: Vec<Group> = Vec::new();
        for (text, line) in lines {
            let (client, rest) = match text.split_once(' ') {
                Some((client, rest)) if rest.starts_with(['→', '←']) => (client, rest),
                _ => ("", text),
            };
            let (kind, text) = match (rest.strip_prefix('→'), rest.strip_prefix('←'), rest.strip_prefix("-- ")) {
                (Some(text), _, _) => (StepKind::Sends, text),
                (_, Some(text), _) => (StepKind::Hears, text),
                (_, _, Some(text)) => (StepKind::Remark, text),
                (None, None, None) => panic!("line {line}: {text}"),
            };
            let text = text.strip_prefix(' ').unwrap_or(text);
            match groups.last_mut() {
                Some(group) if group.client == client && group.kind == kind => group.lines.push(text),
                _ => groups.push(Group { line, client, kind, lines: vec![text] }),
            }
        }
        Example { line, options: options.split_whitespace().collect(), groups }
    };
    example_blocks("http").into_iter().map(example).collect()
}

/// A request as it goes over the wire.
fn request(lines: &[&str], address: impl std::fmt::Display) -> String {
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let fields: String = lines[1..end].iter().map(|field| format!("{field}\r\n")).collect();
    let body = lines[(end + 1).min(lines.len())..].join("\n");
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{} HTTP/1.1\r\nHost: {address}\r\n{fields}{length}\r\n{body}", lines[0])
}

/// Compares a response with the lines of the document, but for what follows the head of a stream.
fn compare(lines: &[&str], response: &Response, known: &mut Known) -> Result<(), String> {
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    if lines[0] != response.status.to_string() {
        return Err(format!("{} in the document, {} from the server: {}", lines[0], response.status, response.text()));
    }
    for field in &lines[1..end] {
        let (name, value) = field.split_once(": ").expect("a field");
        if response.field(name) != Some(value) {
            return Err(format!("{field} in the document, {:?} from the server", response.field(name)));
        }
    }
    let body = lines[(end + 1).min(lines.len())..].join(" ");
    if body.starts_with('{') {
        let example = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        known.fits(&example, &serde_json::from_slice(&response.body).expect("JSON"), "")
    } else if body.is_empty() || response.text().trim_end().split_once("\n\n").is_some_and(|(_, told)| told == body) {
        Ok(())
    } else {
        Err(format!("{body} in the document, {} from the server", response.text()))
    }
}

/// Compares a line of an event with that of the document.
fn compare_event_line(example: &str, found: &str, known: &mut Known) -> Result<(), String> {
    let differs = || format!("{example} in the document, {found} from the server");
    match (example.split_once(": "), found.split_once(": ")) {
        (Some(("id", example)), Some(("id", found))) => {
            let (epoch, position) = example.split_once('-').expect("an id");
            let (real_epoch, real_position) = found.split_once('-').ok_or_else(differs)?;
            known.fits(&Value::from(epoch), &Value::from(real_epoch), ".epoch")?;
            if position == real_position { Ok(()) } else { Err(differs()) }
        }
        (Some(("data", example)), Some(("data", found))) => {
            let json = |text: &str| serde_json::from_str(text).map_err(|error| format!("{text}: {error}"));
            known.fits(&json(example)?, &json(found)?, "")
        }
        _ if example == found => Ok(()),
        _ => Err(differs()),
    }
}

fn play(example: &Example) {
    let server = Server::start(&example.options);
    let mut known = Known::default();
    let mut clients: HashMap<&str, Raw> = HashMap::new();
    for Group { line, client, kind, lines } in &example.groups {
        if *kind == StepKind::Remark {
            let cut = lines[0].strip_suffix(" is cut off").expect("somebody is cut off");
            drop(clients.remove(cut).expect("a client"));
            continue;
        }
        let raw = clients.entry(client).or_insert_with(|| Raw::connect(server.address()));
        if *kind == StepKind::Sends {
            raw.send(known.translated(&request(lines, server.address())));
            continue;
        }
        let mut events = &lines[..];
        if lines[0].starts_with(|first: char| first.is_ascii_digit()) {
            let head = raw.response_head();
            let is_stream = head.field("Content-Type") == Some("text/event-stream");
            let end = if is_stream { lines.iter().position(|line| line.is_empty()) } else { None };
            let response = if is_stream { head } else { raw.content_of(head) };
            let end = end.unwrap_or(lines.len());
            compare(&lines[..end], &response, &mut known).unwrap_or_else(|differs| panic!("line {line}: {differs}"));
            events = &lines[(end + 1).min(lines.len())..];
        }
        // Each event begins with its id.
        for event in events.chunk_by(|_, next| !next.starts_with("id: ")) {
            let block = raw.block();
            let found: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!(found.len(), event.len(), "line {line}: {found:?}");
            for (example, found) in event.iter().zip(found) {
                let compared = compare_event_line(example, found, &mut known);
                compared.unwrap_or_else(|differs| panic!("line {line}: {differs}"));
            }
        }
    }
}

#[test]
fn the_examples_of_http_are_what_happens() {
    let examples = examples();
    assert!(examples.len() > 4, "the examples are found: {}", examples.len());
    let failed: Vec<usize> = std::thread::scope(|scope| {
        let players: Vec<_> = examples.iter().map(|example| (example.line, scope.spawn(|| play(example)))).collect();
        players.into_iter().filter_map(|(line, player)| player.join().err().map(|_| line)).collect()
    });
    assert!(failed.is_empty(), "the examples that begin at these lines of docs/PROTOCOL.md: {failed:?}");
}
