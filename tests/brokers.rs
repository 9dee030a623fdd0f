//! Several instances on one RabbitMQ, or on one NATS server, are one chat, through a crash of it and behind TLS.
//! What a bus is in all its parts is tried with Redis (`cluster.rs`), and each client of a broker beside its code.

mod common;

use std::process::Command;

use tempfile::TempDir;

use common::{NatsServer, Port, RabbitServer, Server, WsClient, get, wait_until};

/// A broker that is gone or silent is noticed soon.
const IMPATIENT: [&str; 4] = ["--bus-canary", "500ms", "--say-rate", "0"];

/// Starts an instance that trusts a certificate, if there is one.
fn start(url: &str, certificate: Option<&str>) -> Server {
    Server::start_with(&[&["--bus", url], &IMPATIENT[..]].concat(), |command| {
        command.envs(certificate.map(|certificate| ("SSL_CERT_FILE", certificate)));
    })
}

fn is_ready(server: &Server) -> bool {
    get(server.address(), "/readyz").status == 200
}

/// What is said on one instance is heard on all, after everything that was said before.
fn they_talk(servers: &[Server]) {
    for server in servers {
        wait_until("it is ready", || is_ready(server));
    }
    let mut talkers: Vec<_> =
        servers.iter().map(|server| WsClient::connect(server.address(), "/?room=lobby", &[])).collect();
    for round in 0..3 {
        for talker in 0..talkers.len() {
            let text = format!("{round} from {talker}");
            talkers[talker].send_text(&text);
            for listener in &mut talkers {
                assert_eq!(listener.next_text(), text);
            }
        }
    }
}

/// A broker that crashes is noticed, and what is said meanwhile is heard when it is back.
fn it_crashes<B>(servers: &[Server], broker: &mut B, kill: fn(&mut B), start_again: fn(&mut B)) {
    let mut talker = WsClient::connect(servers[0].address(), "/?room=lobby", &[]);
    let mut listener = WsClient::connect(servers[1].address(), "/?room=lobby", &[]);
    talker.send_text("before");
    assert_eq!(listener.next_text(), "before");
    kill(broker);
    talker.send_text("meanwhile");
    for server in servers {
        wait_until("it is noticed", || !is_ready(server));
    }
    start_again(broker);
    assert_eq!(listener.next_text(), "meanwhile");
    for own in ["before", "meanwhile"] {
        assert_eq!(talker.next_text(), own);
    }
    they_talk(servers);
}

/// A certificate for this machine, and its key.
struct Identity {
    _folder: TempDir,
    certificate: String,
    key: String,
}

impl Identity {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let (certificate, key) = (file("certificate.pem"), file("key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate]);
        assert!(openssl.output().expect("openssl, of the Debian package of that name, is installed").status.success());
        Identity { _folder: folder, certificate, key }
    }
}

/// Whoever does not know the certificate does not talk.
fn strangers_are_told(url: &str) {
    let stranger = start(url, None);
    wait_until("it is told", || stranger.log().contains("certificate"));
    assert!(!is_ready(&stranger));
}

#[test]
fn on_rabbitmq() {
    let identity = Identity::new();
    let port = Port::take().expect("a free port");
    let tls = format!(
        "listeners.ssl.local = 127.0.0.1:{port}\nssl_options.certfile = {}\nssl_options.keyfile = {}",
        identity.certificate, identity.key
    );
    let mut rabbit = RabbitServer::start_with(&tls, &[]);
    let url = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");
    let servers = [start(&rabbit.url(), None), start(&url, Some(&identity.certificate))];
    they_talk(&servers);
    strangers_are_told(&url);
    it_crashes(&servers, &mut rabbit, RabbitServer::kill, RabbitServer::start_again);
}

#[test]
fn on_nats() {
    let mut nats = NatsServer::start();
    let servers = [start(&nats.url(), None), start(&nats.url(), None)];
    they_talk(&servers);
    it_crashes(&servers, &mut nats, NatsServer::kill, NatsServer::start_again);
}

#[test]
fn on_nats_behind_tls() {
    let identity = Identity::new();
    let nats = NatsServer::start_with(&["-js", "--tls", "--tlscert", &identity.certificate, "--tlskey", &identity.key]);
    let url = format!("tls://{}", nats.address());
    they_talk(&[start(&url, Some(&identity.certificate)), start(&url, Some(&identity.certificate))]);
    strangers_are_told(&url);
}
