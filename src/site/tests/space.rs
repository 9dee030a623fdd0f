//! What clients who take their answers slowly hold in memory.

use super::*;

const MIB: usize = 1024 * 1024;

/// A site without a cache: 8 MiB may be on their way.
fn held(root: &Path) -> Served {
    let limits = Limits { cache_bytes: 0, cached_file_bytes: MIB, max_open_files: Some(3), ..Limits::default() };
    Served::start_with(Root::Folder(root.to_owned()), Manner { listing: true, ..Manner::default() }, &limits)
}

fn is_from_disk(answer: &Answer) -> bool {
    matches!(answer, Answer::Streamed(_, stream) if !stream.is_copy())
}

#[test]
fn what_finds_no_room_is_streamed_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..14 {
        write(dir.path().join(format!("{n}.bin")), vec![b'a' + n; MIB]);
    }
    let mut served = held(dir.path());
    let mut in_progress = Vec::new();
    for n in 0..14 {
        let answer = served.ask(&request(&format!("GET /{n}.bin")));
        assert!(served.site.content_bytes() <= 8 * MIB);
        match (n, answer) {
            (0..8, answer) => {
                assert!(!is_from_disk(&answer), "{n}");
                in_progress.push(answer);
            }
            (8..11, answer) => {
                assert!(is_from_disk(&answer), "{n}");
                in_progress.push(answer);
            }
            (_, Answer::Response(response)) => assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE, "{n}"),
            (_, answer) => panic!("{n}: {answer:?}"),
        }
    }
    // It is the same as it would have been.
    let Some(Answer::Streamed(_, stream)) = in_progress.pop() else { panic!("streamed") };
    assert_eq!(served.drain(stream), Some(vec![b'a' + 10; MIB]));
    assert_eq!(served.site.content_bytes(), 8 * MIB);
    drop(in_progress);
    assert_eq!(served.site.content_bytes(), 0);
    let answer = served.ask(&request("GET /9.bin"));
    assert!(!is_from_disk(&answer));
    assert_eq!(served.site.content_bytes(), MIB);
}

#[test]
fn without_room_there_are_neither_listings_nor_copies_but_our_page_has_its_fields() {
    let dir = tempfile::tempdir().unwrap();
    let page = format!("<meta name=\"generator\" content=\"chat-app\">{}", "x".repeat(MIB / 2));
    write(dir.path().join("page.html"), page);
    write(dir.path().join("a.txt"), "All work and no play makes Jack a dull boy.\n".repeat(100));
    write(dir.path().join("folder/file"), "x");
    for n in 0..8 {
        write(dir.path().join(format!("{n}.bin")), vec![b'a' + n; MIB]);
    }
    let mut served = held(dir.path());
    let requests = ["GET /a.txt\r\nAccept-Encoding: br, *;q=0\r\n", "GET /folder/", "GET /page.html"];
    let status = |answer: &Answer| match answer {
        Answer::Response(response) | Answer::Streamed(response, _) => response.status.as_u16(),
        other => panic!("{other:?}"),
    };
    let in_progress: Vec<Answer> = (0..8).map(|n| served.ask(&request(&format!("GET /{n}.bin")))).collect();
    for (asked, expected) in requests.into_iter().zip([503, 503, 200]) {
        assert_eq!(status(&served.ask(&request(asked))), expected, "{asked}");
    }
    let response = served.get("GET /page.html");
    assert!(field(&response, "Content-Security-Policy").is_some(), "it is ours, wherever it comes from");
    drop(in_progress);
    for asked in requests {
        assert_eq!(status(&served.ask(&request(asked))), 200, "{asked}");
    }
}

/// With many who take nothing, copies of parts would be more than all outboxes may hold.
#[test]
fn what_is_copied_for_each_client_is_bounded_and_then_it_is_sent_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..MIB).map(|n| b'!' + (n % 89) as u8).collect();
    write(dir.path().join("memory_file.bin"), &content);
    write(dir.path().join("bytes.bin"), &content[..10_000]);
    let limits = Limits { cached_file_bytes: MIB, outboxes_total_bytes: 20_000, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    let without_boundary = |response: String| match response.split_once("boundary=").and_then(|it| it.1.lines().next())
    {
        Some(boundary) => response.replace(boundary, "boundary"),
        None => response,
    };
    for name in ["memory_file", "bytes"] {
        for ranges in ["1-4000", "1-2000,3000-4999"] {
            let asked = format!("GET /{name}.bin\r\nRange: bytes={ranges}\r\n");
            let mut expected = without_boundary(served.get(&asked));
            assert_eq!(served.site.desk.room.taken(), 0);
            let in_progress: Vec<Answer> = (0..8).map(|_| served.ask(&request(&asked))).collect();
            assert!((16_000..=20_000).contains(&served.site.desk.room.taken()), "{name} {ranges}");
            if (name, ranges.contains(',')) == ("bytes", true) {
                // Several parts of what is no file cannot be sent without a copy.
                expected = served.get("GET /bytes.bin");
            }
            assert!(without_boundary(served.get(&asked)) == expected, "{name} {ranges}");
            drop(in_progress);
            assert_eq!(served.site.desk.room.taken(), 0);
        }
    }
}

#[test]
fn a_small_part_does_not_hold_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..MIB).map(|n| (n % 251) as u8).collect();
    write(dir.path().join("memory_file.bin"), &content);
    write(dir.path().join("bytes.bin"), &content[..10_000]);
    let mut served = held(dir.path());
    for (name, length) in [("memory_file", MIB), ("bytes", 10_000)] {
        for (ranges, held) in [
            ("0-0".to_owned(), 0),
            ("7-6000,8000-8001".to_owned(), 0),
            (format!("1-{}", length / 2 - 1), 0),
            (format!("0-{}", length / 2), length),
        ] {
            let answer = served.ask(&request(&format!("GET /{name}.bin\r\nRange: bytes={ranges}\r\n")));
            assert_eq!(served.site.content_bytes(), held, "{name} {ranges}");
            if let (Answer::Response(response), false) = (&answer, ranges.contains(',')) {
                let (first, last) = ranges.split_once('-').unwrap();
                let expected = &content[first.parse::<usize>().unwrap()..=last.parse().unwrap()];
                assert!(matches!(&response.body, Body::Bytes(body) if body == expected), "{name} {ranges}");
            }
        }
    }
}
