//! The fuzz target of `fuzz/` over a bounded set of inputs, the same in every run: the seeds of its corpus, and what
//! becomes of them when bytes, words and lines are changed, doubled, dropped and swapped.

#[path = "../fuzz/check.rs"]
#[allow(unreachable_pub, reason = "the fuzz target includes it too")]
mod check;

use std::fs;
use std::path::Path;

use fastrand::Rng;

/// Inputs made of each seed.
const MUTANTS: usize = 8_000;

/// What requests are made of, and what breaks them.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b"\0",
    b"\xff",
    b"GET",
    b"HEAD",
    b"POST",
    b" /",
    b"//",
    b"*",
    b"?",
    b"#",
    b"%00",
    b"%2e%2e/",
    b"http://h",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Host: h\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, upgrade\r\n",
    b"Range: bytes=0-,-0,99999999999999999999-\r\n",
    b"If-Range: W/\"v1\"\r\n",
    b"If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    b"Accept-Encoding: gzip;q=1.000\r\n",
    b"If-None-Match: \"\r\n",
    b"Expect: x\r\n",
    b" folded\r\n",
];

#[test]
fn heads_that_nobody_thought_of() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/heads");
    let mut seeds: Vec<_> = fs::read_dir(corpus).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    for (number, seed) in seeds.iter().enumerate() {
        let seed = fs::read(seed).expect("a seed");
        check::heads(&seed);
        let mut random = Rng::with_seed(number as u64);
        for _ in 0..MUTANTS {
            check::heads(&mutant(&seed, &mut random));
        }
    }
}

fn mutant(seed: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        let until = random.usize(at..=bytes.len().min(at + 20));
        match random.u8(..6) {
            0 => drop(bytes.splice(at..at, random.choice(WORDS).unwrap().iter().copied())),
            1 => drop(bytes.splice(at..until, random.choice(WORDS).unwrap().iter().copied())),
            2 => drop(bytes.drain(at..until)),
            3 => {
                let copy = bytes[at..until].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            4 => bytes.truncate(at),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
    }
    bytes
}
