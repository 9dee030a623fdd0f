//! Files that are too large to be kept, and are read as they are sent.

use super::*;

#[test]
fn large_files_are_open_once_and_only_so_many() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cached_file_bytes: 10, max_open_files: Some(2), ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    for name in ["a", "b", "c"] {
        write(dir.path().join(name), format!("{name} is large enough"));
    }
    let status = |answer: &Answer| match answer {
        Answer::Streamed(..) => 200,
        Answer::Response(response) => response.status.as_u16(),
        other => panic!("{other:?}"),
    };
    let mut open = Vec::new();
    for (target, expected, files) in
        [("/a", 200, 1), ("/a", 200, 1), ("/b", 200, 2), ("/c", 503, 2), ("/a", 200, 2), ("/b", 200, 2)]
    {
        let answer = served.ask(&request(&format!("GET {target}")));
        assert_eq!((status(&answer), served.site.open_files()), (expected, files), "{target}");
        open.push(answer);
    }
    open.retain(|answer| matches!(answer, Answer::Streamed(_, stream) if stream.remaining_bytes() > 0));
    let Some(Answer::Streamed(_, stream)) = open.pop() else { panic!("the last was for b") };
    drop(open);
    assert_eq!(served.site.open_files(), 1);
    let answer = served.ask(&request("GET /c"));
    assert_eq!((status(&answer), served.site.open_files()), (200, 2));
    let piece = served.site.read_on(0, stream, usize::MAX);
    let Answer::Piece { bytes, rest: None } = piece.unwrap_or_else(|| served.wait().1) else { panic!("one piece") };
    assert_eq!(bytes, "b is large enough");
    // What replaces it is another file.
    write(dir.path().join("c.new"), "C is even larger");
    std::fs::rename(dir.path().join("c.new"), dir.path().join("c")).unwrap();
    served.now += Duration::from_secs(2);
    assert_eq!(served.download("/c", || {}).as_deref(), Some(&b"C is even larger"[..]));
}

#[test]
fn large_files_come_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cached_file_bytes: 1000, file_piece_bytes: 300, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    for length in [1001, 1199, 1200, 1201, 5000] {
        let content: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
        write(dir.path().join("large"), &content);
        assert_eq!(served.download("/large", || {}), Some(content), "{length}");
    }
    assert_eq!(served.site.cached_bytes(), 0);
    let head = served.get("HEAD /large");
    assert_eq!(field(&head, "Content-Length"), Some("5000"));
    assert!(served.get("GET /large\r\nIf-None-Match: *\r\n").starts_with("HTTP/1.1 304 "));
    write(dir.path().join("small"), [7; 1000]);
    assert!(served.get("GET /small").ends_with(&"\u{7}".repeat(1000)));
}

#[test]
fn a_large_file_that_is_truncated_is_lost_and_one_that_grows_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let limits = Limits { cached_file_bytes: 1000, file_piece_bytes: 300, ..Limits::default() };
    let mut served = Served::start(Root::Folder(dir.path().to_owned()), &limits);
    for (name, length_later, expected) in
        [("grown", 9000, Some(3000)), ("as it was", 3000, Some(3000)), ("cut", 2999, None), ("emptied", 0, None)]
    {
        write(&path, vec![b'x'; 3000]);
        let mut pieces = 0;
        let content = served.download("/large", || {
            pieces += 1;
            if pieces == 2 {
                fs::File::options().write(true).open(&path).unwrap().set_len(length_later).unwrap();
            }
        });
        assert_eq!(content.map(|content| content.len()), expected, "{name}");
    }
    // One that is deleted is sent to its end.
    write(&path, vec![b'x'; 3000]);
    let content = served.download("/large", || {
        let _ = fs::remove_file(&path);
    });
    assert_eq!(content.map(|content| content.len()), Some(3000));
}
