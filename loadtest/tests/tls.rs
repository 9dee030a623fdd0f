//! `wss://`: the yardstick behind a stand-in that speaks TLS for it.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use common::{Yardstick, report};

/// A certificate for `localhost`, which its owner has signed itself, and the key to it. The files go with it.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = |end: &str| folder.join(format!("{name}-{}.{end}.pem", std::process::id()));
        let identity = Identity { certificate: file("certificate"), key: file("key") };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args([
            "-days",
            "2",
            "-subj",
            &format!("/CN=loadtest {name}"),
            "-addext",
            "subjectAltName=DNS:localhost",
        ]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&identity.key).arg("-out").arg(&identity.certificate);
        assert!(openssl.output().expect("openssl, of the Debian package of that name, is installed").status.success());
        identity
    }

    fn config(&self) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_file(&self.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        [&self.certificate, &self.key].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}

/// Who speaks TLS for the server at `inner`, and writes to its clients in pieces of `piece` bytes; gives the port, and
/// collects which names clients have asked for.
fn terminator(config: Arc<ServerConfig>, inner: u16, piece: usize) -> (u16, Arc<Mutex<Vec<Option<String>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&names);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (outer, config, names) = (stream.unwrap(), Arc::clone(&config), Arc::clone(&names));
            thread::spawn(move || {
                let inner = TcpStream::connect(("127.0.0.1", inner)).unwrap();
                relay(&outer, &inner, config, piece, &names);
            });
        }
    });
    (port, told)
}

/// Who answers whatever is said as HTTP does to what it does not understand; gives the port.
fn plain() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

/// One thread for each direction: neither waits with the connection in its hands.
fn relay(
    outer: &TcpStream,
    inner: &TcpStream,
    config: Arc<ServerConfig>,
    piece: usize,
    names: &Mutex<Vec<Option<String>>>,
) {
    outer.set_nodelay(true).unwrap();
    inner.set_nodelay(true).unwrap();
    let connection = Mutex::new(ServerConnection::new(config).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = (&*inner).read(&mut bytes) {
                let mut connection = connection.lock().unwrap();
                connection.writer().write_all(&bytes[..count]).unwrap();
                send(&mut connection, outer, piece);
            }
            let mut connection = connection.lock().unwrap();
            connection.send_close_notify();
            send(&mut connection, outer, piece);
            let _ = outer.shutdown(Shutdown::Write);
        });
        let mut bytes = [0; 4096];
        let mut is_known = false;
        while let Ok(count @ 1..) = (&*outer).read(&mut bytes) {
            let mut records = &bytes[..count];
            let mut connection = connection.lock().unwrap();
            while !records.is_empty() {
                connection.read_tls(&mut records).unwrap();
                if connection.process_new_packets().is_err() {
                    // A client that does not believe us says why.
                    let _ = inner.shutdown(Shutdown::Both);
                    return;
                }
                let mut plain = Vec::new();
                let _ = connection.reader().read_to_end(&mut plain);
                let _ = (&*inner).write_all(&plain);
            }
            send(&mut connection, outer, piece);
            if !connection.is_handshaking() && !std::mem::replace(&mut is_known, true) {
                names.lock().unwrap().push(connection.server_name().map(str::to_owned));
            }
        }
        let _ = inner.shutdown(Shutdown::Both);
    });
}

fn send(connection: &mut ServerConnection, mut outer: &TcpStream, piece: usize) {
    let mut records = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut records).unwrap();
    }
    // Who has left meanwhile is no matter.
    let _ = records.chunks(piece).try_for_each(|piece| outer.write_all(piece));
}

#[test]
fn everything_is_delivered_through_tls() {
    let (yardstick, identity) = (Yardstick::start(), Identity::new("delivered"));
    let ca = format!("--ca={}", identity.certificate.display());
    let pid = format!("--pid={}", yardstick.pid());
    let plain = format!("--url=ws://127.0.0.1:{}/?room=both", yardstick.port);
    let table: &[(&str, usize, &[&str], u64)] = &[
        ("whole", usize::MAX, &["fanout", "--clients=20", "--senders=5", "--rate=100", "--seconds=0.5"], 50),
        ("pieces", 7, &["fanout", "--clients=5", "--rate=50", "--seconds=0.2"], 10),
        ("large", usize::MAX, &["fanout", "--clients=5", "--rate=50", "--seconds=0.2", "--size=100000"], 10),
        ("processes", usize::MAX, &["fanout", "--clients=9", "--rate=50", "--seconds=0.2", "--processes=3"], 10),
        ("both", usize::MAX, &["cluster", "--clients=6", "--dialect=raw", "--rate=50", "--seconds=0.2", &plain], 10),
    ];
    for (name, piece, arguments, sent) in table {
        let (port, names) = terminator(identity.config(), yardstick.port, *piece);
        let url = format!("--url=wss://localhost:{port}/?room={name}");
        let (code, text, json) = report(&[*arguments, &[&url[..], &ca, &pid]].concat(), &format!("tls-{port}"));
        assert_eq!(code, Some(0), "{name}: {text}");
        let (messages, clients) = (&json["messages"], json["setup"]["clients"].as_u64().unwrap());
        assert_eq!(messages["sent"].as_u64(), Some(*sent), "{name}: {text}");
        assert_eq!(messages["delivered"].as_u64(), Some(sent * clients), "{name}: {text}");
        assert_eq!(json["setup"]["certificates"], "file", "{name}: {text}");
        assert!(!text.contains("INSECURE"), "{name}: {text}");
        let names = names.lock().unwrap();
        let behind_tls = if *name == "both" { clients / 2 } else { clients };
        assert_eq!(names.len() as u64, behind_tls, "{name}: {names:?}");
        assert!(names.iter().all(|name| name.as_deref() == Some("localhost")), "{name}: {names:?}");
    }
}

#[test]
fn who_reads_slowly_through_tls_gets_everything() {
    let (yardstick, identity) = (Yardstick::start(), Identity::new("slowly"));
    let (port, _) = terminator(identity.config(), yardstick.port, usize::MAX);
    let (url, ca) = (format!("--url=wss://localhost:{port}"), format!("--ca={}", identity.certificate.display()));
    let arguments = [
        "slow",
        &url,
        &ca,
        "--clients=6",
        "--senders=2",
        "--size=2000",
        "--slow=3",
        "--stalled=1",
        "--slow-bytes=50000",
        "--rate=100",
        "--seconds=0.5",
    ];
    let (code, text, json) = report(&arguments, &format!("tls-slow-{port}"));
    assert_eq!((code, &json["slow"]["complete"]), (Some(0), &true.into()), "{text}");
}

#[test]
fn only_who_is_to_be_believed_is_believed() {
    let (yardstick, identity, other) = (Yardstick::start(), Identity::new("believed"), Identity::new("other"));
    let [ca, foreign] = [&identity, &other].map(|identity| format!("--ca={}", identity.certificate.display()));
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, Result<&'a str, &'a str>);
    let table: &[Row<'_>] = &[
        ("its own certificate", "localhost", Some(&ca), Ok("file")),
        ("no certificate is checked", "localhost", Some("--insecure"), Ok("unchecked")),
        ("nor a name", "127.0.0.1", Some("--insecure"), Ok("unchecked")),
        ("this machine does not know it", "localhost", None, Err("UnknownIssuer")),
        ("somebody else's", "localhost", Some(&foreign), Err("UnknownIssuer")),
        ("for another name", "127.0.0.1", Some(&ca), Err("not valid for name")),
    ];
    for (name, host, trust, expected) in table {
        let (port, _) = terminator(identity.config(), yardstick.port, usize::MAX);
        let url = format!("--url=wss://{host}:{port}");
        let mut arguments = vec![&url[..], "--clients=3", "--rate=50", "--seconds=0.1"];
        arguments.extend(trust);
        let (code, text, json) = report(&arguments, &format!("tls-trust-{port}"));
        let refused: String = json["connect"]["refused"].as_object().unwrap().keys().cloned().collect();
        match expected {
            Ok(word) => {
                assert_eq!((code, &json["setup"]["certificates"]), (Some(0), &(*word).into()), "{name}: {text}");
                // At the beginning, and in the summary.
                let warnings = text.matches("INSECURE").count();
                assert_eq!(warnings, if *word == "unchecked" { 2 } else { 0 }, "{name}: {text}");
            }
            Err(why) => {
                assert_eq!((code, &json["connect"]["connected"]), (Some(1), &0.into()), "{name}: {text}");
                assert!(refused.contains(why), "{name}: {refused}");
            }
        }
    }
}

#[test]
fn who_speaks_tls_to_one_who_does_not_is_told_what_is_wrong() {
    let (yardstick, identity) = (Yardstick::start(), Identity::new("misled"));
    let (port, _) = terminator(identity.config(), yardstick.port, usize::MAX);
    for (url, trust, expected) in [
        (
            format!("--url=wss://127.0.0.1:{}", plain()),
            &["--insecure"][..],
            "the server does not speak TLS there; without it the URL begins with ws://",
        ),
        (
            format!("--url=ws://127.0.0.1:{port}"),
            &[],
            "the server speaks TLS there; with it the URL begins with wss://",
        ),
    ] {
        let arguments = [&[&url[..], "--clients=3", "--rate=50", "--seconds=0.1"], trust].concat();
        let (code, text, json) = report(&arguments, &format!("tls-misled-{}", trust.len()));
        let refused: String = json["connect"]["refused"].as_object().unwrap().keys().cloned().collect();
        assert_eq!((code, refused.starts_with(expected)), (Some(1), true), "{url}: {refused}: {text}");
    }
}
