//! Imports go down only, and the core is pure: read from the sources, since no compiler checks it within one crate.
//!
//! [`USES`] is the picture in `src/lib.rs` as a table. A module without a line there is a violation as well, so that
//! whoever adds one decides where it belongs. What only tests use does not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, iter};

/// What each module may use of this crate, besides [`LEAVES`].
const USES: &[(&str, &[&str])] = &[
    ("main", &["reactor", "config", "logging"]),
    ("reactor", &["net", "journal", "site", "http", "ws", "chat", "metrics", "config", "logging"]),
    ("net", &["http", "ws"]),
    ("journal", &["chat::entry"]),
    ("site", &["http"]),
    ("http", &[]),
    ("ws", &[]),
    ("chat", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("logging", &[]),
    ("limits", &[]),
    ("close", &[]),
    ("histogram", &[]),
];

/// What everybody may use.
const LEAVES: &[&str] = &["limits", "close", "histogram"];

/// Machines: bytes and `now` in, bytes and events out.
const CORE: &[&str] = &["http", "ws", "chat"];

/// What would be I/O, a clock or a log line of the core's own.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net",
    "mio",
    "rustix",
    "socket2",
    "signal_hook",
    "signal_hook_mio",
    "tracing",
    "tracing_subscriber",
];

/// The parts of `std::net` that are values.
const ADDRESSES: &[&str] = &["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

/// Asking for the time, by the ends of paths and by methods.
const CLOCKS: &[[&str; 2]] = &[["Instant", "now"], ["SystemTime", "now"], [".", "elapsed"]];

type Modules = Vec<String>;

#[test]
fn imports_go_down_only_and_the_core_is_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<_> = sources(&root)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            (module_of(path.strip_prefix(&root).expect("below src")), text)
        })
        .collect();
    assert!(files.len() > USES.len() / 2, "the sources were found");
    let violations = violations(&files);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// `net/outbox.rs` is `net::outbox`, `net/mod.rs` and `net.rs` are `net`.
fn module_of(path: &Path) -> Modules {
    let mut modules: Modules = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    modules.pop_if(|last| last == "mod");
    modules
}

fn violations(files: &[(Modules, String)]) -> Vec<String> {
    let (mut read, mut only_tests) = (Vec::new(), Vec::new());
    for (module, text) in files {
        let (tokens, test_modules) = without_tests(&tokens(text));
        only_tests.extend(test_modules.into_iter().map(|name| [module.clone(), vec![name]].concat()));
        read.push((module, tokens));
    }
    read.retain(|(module, _)| !only_tests.iter().any(|test| module.starts_with(test)) && **module != ["lib"]);
    let mut violations = BTreeSet::new();
    for (module, tokens) in read {
        let Some((name, allowed)) = USES.iter().find(|(name, _)| *name == module[0]) else {
            violations.insert(format!("{} has no line in USES", module[0]));
            continue;
        };
        for path in paths(&tokens) {
            let path = absolute(&path, module);
            let used = path.join("::");
            let is_below = |used: &str, outer: &str| used == outer || used.starts_with(&format!("{outer}::"));
            if let Some(inner) = used.strip_prefix("crate::").or(used.strip_prefix("chat_app::")) {
                if !allowed.iter().chain(LEAVES).chain([name]).any(|outer| is_below(inner, outer)) {
                    violations.insert(format!("{} must not use {inner}", module.join("::")));
                }
            } else if CORE.contains(name)
                && (IMPURE.iter().any(|outer| is_below(&used, outer))
                    && !ADDRESSES.iter().any(|value| is_below(&used, value))
                    || CLOCKS.iter().any(|clock| path.ends_with(&clock.map(String::from))))
            {
                violations.insert(format!("{} is of the core and must not use {used}", module.join("::")));
            }
        }
    }
    violations.into_iter().collect()
}

/// Words, `::`, and single characters; without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let after = &rest[word..];
        let hashes = after.len() - after.trim_start_matches('#').len();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if matches!(&rest[..word], "r" | "br" | "cr") && after[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = word + hashes + 1;
            begin + rest[begin..].find(&end).expect("the end of a raw string") + end.len()
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            // A lifetime has no second quote behind its first character; `'\''` and `'a'` have.
            if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') { quoted(rest) } else { 1 }
        } else if word > 0 {
            tokens.push(rest[..word].to_owned());
            word
        } else {
            let token = if rest.starts_with("::") { "::" } else { &rest[..first.len_utf8()] };
            if !first.is_whitespace() {
                tokens.push(token.to_owned());
            }
            token.len()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of a string or character with its quotes.
fn quoted(text: &str) -> usize {
    let (quote, mut escaped) = (text.as_bytes()[0], false);
    let inner = text.bytes().skip(1).position(|byte| {
        let ends = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    inner.expect("the closing quote") + 2
}

/// The length of a comment that may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            rest => at += usize::from(!rest.is_empty()),
        }
        if depth == 0 || at == text.len() {
            return at;
        }
    }
}

/// What is compiled without tests, and the names of modules in files of their own that are compiled with tests only.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut test_modules) = (Vec::new(), Vec::new());
    let mut rest = tokens;
    while let Some(token) = rest.first() {
        if !starts_with(rest, "# [ cfg ( test ) ]") && !starts_with(rest, "# [ cfg ( all ( test ,") {
            kept.push(token.clone());
            rest = &rest[1..];
            continue;
        }
        let attribute = rest.iter().position(|token| token == "]").expect("the end of the attribute") + 1;
        let item = &rest[attribute..];
        let end = end_of_item(item);
        if let [.., word, name, semicolon] = &item[..end]
            && word == "mod"
            && semicolon == ";"
        {
            test_modules.push(name.clone());
        }
        rest = &item[end..];
    }
    (kept, test_modules)
}

/// How many tokens an item, a variant or an arm of a match has.
fn end_of_item(tokens: &[String]) -> usize {
    let is_attribute = |at: usize| starts_with(&tokens[at..], "# [");
    let mut start = 0;
    while is_attribute(start) {
        start += tokens[start..].iter().position(|token| token == "]").expect("the end of the attribute") + 1;
    }
    // A comma ends a variant or an arm; in an item it stands between parameters.
    let is_item =
        ["fn", "impl", "mod", "pub", "use", "struct", "enum", "const", "static", "type", "trait", "let", "if"]
            .contains(&tokens[start].as_str());
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            // What is around it ends here.
            "}" | "]" | ")" if depth == 0 => return at,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        let ends = match token.as_str() {
            ";" | "}" => true,
            "," => !is_item,
            _ => false,
        };
        if ends && depth == 0 {
            return at + 1;
        }
    }
    panic!("the end of the item: {tokens:?}")
}

fn starts_with(tokens: &[String], beginning: &str) -> bool {
    beginning.split(' ').zip(tokens.iter().map(String::as_str).chain(iter::repeat(""))).all(|(a, b)| a == b)
}

/// Every path with at least two parts, trees of `use` taken apart, and method calls as paths that begin with a dot.
fn paths(tokens: &[String]) -> Vec<Modules> {
    let mut paths = Vec::new();
    for at in 0..tokens.len() {
        let back = |steps| at.checked_sub(steps).map_or("", |at| tokens[at].as_str());
        // A path may begin with `::`, which then follows neither a word nor `>`.
        let goes_on = back(1) == "::" && (is_word(back(2)) && back(2) != "use" || back(2) == ">");
        if back(1) == "." && is_word(&tokens[at]) {
            paths.push(vec![".".to_owned(), tokens[at].clone()]);
        } else if is_word(&tokens[at]) && !goes_on && starts_with(&tokens[at + 1..], "::") || back(1) == "use" {
            tree(&tokens[at..], &[], &mut paths);
        }
    }
    paths
}

/// Adds the paths that begin with `prefix` and go on here; gives the number of tokens they are written with.
fn tree(tokens: &[String], prefix: &[String], paths: &mut Vec<Modules>) -> usize {
    if tokens.first().is_none_or(|first| first != "{") {
        let word = tokens.first().filter(|word| is_word(word) || *word == "*");
        let path: Modules = prefix.iter().chain(word).cloned().collect();
        if word.is_some() && starts_with(&tokens[1..], "::") {
            return 2 + tree(&tokens[2..], &path, paths);
        }
        paths.push(path);
        return 1;
    }
    let mut at = 1;
    while tokens[at] != "}" {
        at += tree(&tokens[at..], prefix, paths);
        while !matches!(tokens[at].as_str(), "," | "}") {
            at += 1;
        }
        at += usize::from(tokens[at] == ",");
    }
    at + 1
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The path from the root of the crate, where it begins at `self` or `super`.
fn absolute(path: &[String], module: &[String]) -> Modules {
    let supers = path.iter().take_while(|part| *part == "super" || *part == "self").count();
    if supers == 0 {
        return path.to_vec();
    }
    let up = path[..supers].iter().filter(|part| *part == "super").count();
    let base = &module[..module.len().saturating_sub(up)];
    iter::once("crate".to_owned()).chain(base.iter().cloned()).chain(path[supers..].iter().cloned()).collect()
}

#[test]
fn the_check_finds_what_it_looks_for() {
    for (file, text, expected) in [
        ("http/mod.rs", "use crate::limits::Limits;", ""),
        ("http/mod.rs", "use http::StatusCode; use std::net::IpAddr; use std::time::Instant;", ""),
        ("http/head.rs", "use super::Response; use crate::http::date; use crate::close::CloseReason;", ""),
        ("http/head.rs", "use crate::net::Outbox;", "http::head must not use net::Outbox"),
        ("http/head.rs", "use super::super::net::Outbox;", "http::head must not use net::Outbox"),
        ("http/mod.rs", "use super::ws;", "http must not use ws"),
        ("ws.rs", "fn f() { crate::chat::go() }", "ws must not use chat::go"),
        ("ws.rs", "use crate::{limits::Limits, chat::{hub as h, }};", "ws must not use chat::hub"),
        ("ws.rs", "use crate::*;", "ws must not use *"),
        ("chat/hub.rs", "use std::{fmt, fs};", "chat::hub is of the core and must not use std::fs"),
        ("chat/hub.rs", "use std::fs::File;", "chat::hub is of the core and must not use std::fs::File"),
        (
            "chat/hub.rs",
            "use std::net::{IpAddr, TcpStream};",
            "chat::hub is of the core and must not use std::net::TcpStream",
        ),
        ("chat/hub.rs", "fn f() { let t = Instant::now(); }", "chat::hub is of the core and must not use Instant::now"),
        ("chat/hub.rs", "fn f() { std::time::SystemTime::now() }", "must not use std::time::SystemTime::now"),
        ("chat/hub.rs", "fn f(t: Instant) { t.elapsed(); }", "must not use .::elapsed"),
        ("chat/hub.rs", "fn f() { tracing::info!(\"x\") }", "must not use tracing::info"),
        ("chat/hub.rs", "use mio::Token;", "must not use mio::Token"),
        ("chat/hub.rs", "use mio;", "must not use mio"),
        ("chat/hub.rs", "use ::mio::Token;", "must not use mio::Token"),
        ("chat/hub.rs", "fn f() { ::mio::go(); <T as X>::std::fs() }", "must not use mio::go"),
        ("chat/hub.rs", "use std::net::*;", "must not use std::net::*"),
        (
            "chat/hub.rs",
            "use std::{io, collections::{HashMap, hash_map::{Entry}}, net::{self, IpAddr}};",
            "must not use std::net::self",
        ),
        ("chat/hub.rs", "fn f<'a>(c: char) { let _ = ('\"', '\\'', 'x'); mio::go() }", "must not use mio::go"),
        (
            "chat/hub.rs",
            "// mio::a\n/* mio::b /* mio::c */ mio::d */ fn f() { \"mio::e \\\" mio::f\"; r#\"mio::g\"# }",
            "",
        ),
        ("chat/hub.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() { { mio::go() } } }", ""),
        ("chat/hub.rs", "#[cfg(test)] #[x] mod tests { } use mio::Token;", "must not use mio::Token"),
        ("chat/hub.rs", "#[cfg(test)] use std::fs; fn f() {}", ""),
        ("net/outbox.rs", "use mio::Token; use crate::{http, ws::Session}; fn f() { Instant::now() }", ""),
        ("net/outbox.rs", "use crate::chat::Hub;", "net::outbox must not use chat::Hub"),
        ("net/outbox.rs", "use crate::reactor::Reactor;", "net::outbox must not use reactor::Reactor"),
        ("journal/memory.rs", "use crate::chat::entry::{Draft, Entry};", ""),
        ("journal/memory.rs", "use crate::chat::hub::Hub;", "journal::memory must not use chat::hub::Hub"),
        ("journal/memory.rs", "use crate::chat::{entry::Entry, Hub};", "journal::memory must not use chat::Hub"),
        ("site/mod.rs", "use crate::http::Response; use std::fs::File;", ""),
        ("site/mod.rs", "use crate::config::Config;", "site must not use config::Config"),
        ("main.rs", "use chat_app::reactor::Reactor;", ""),
        ("main.rs", "use chat_app::net::Outbox;", "main must not use net::Outbox"),
        ("reactor.rs", "use crate::{net, journal, site, http, ws, chat, metrics, config, limits};", ""),
        ("extra.rs", "fn f() {}", "extra has no line in USES"),
    ] {
        let found = violations(&[(module_of(Path::new(file)), text.to_owned())]);
        match expected {
            "" => assert_eq!(found, [""; 0], "{file}: {text}"),
            _ => assert!(found.len() == 1 && found[0].ends_with(expected), "{file}: {text}: {found:?}"),
        }
    }
}

#[test]
fn files_that_are_compiled_with_tests_only_do_not_count() {
    let files = [
        ("chat/mod.rs", "#[cfg(test)]\npub mod simulation;\nmod hub;"),
        ("chat/simulation.rs", "use crate::net::Outbox;"),
        ("chat/simulation/faults.rs", "use std::fs;"),
        ("chat/hub.rs", "use std::fs;"),
    ];
    let files = files.map(|(file, text)| (module_of(Path::new(file)), text.to_owned()));
    assert_eq!(violations(&files), ["chat::hub is of the core and must not use std::fs"]);
}
