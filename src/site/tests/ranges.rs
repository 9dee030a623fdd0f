//! Ranges of files in memory and of files that are streamed: both have to answer alike.

use super::*;

/// Content in which every place looks different.
const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A site whose only file is kept in memory, and one that streams it in pieces of a few bytes.
fn both() -> (tempfile::TempDir, [Served; 2]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("a.bin"), CONTENT);
    let served = [usize::MAX, 10].map(|cached_file_bytes| {
        let limits = Limits { cached_file_bytes, file_piece_bytes: 7, ..Limits::default() };
        Served::start(Root::Folder(dir.path().to_owned()), &limits)
    });
    (dir, served)
}

#[test]
fn parts_of_a_file() {
    let (_dir, served) = both();
    for mut served in served {
        for (range, status, content_range, body) in [
            ("bytes=0-4", 206, Some("bytes 0-4/62"), &b"01234"[..]),
            ("bytes=58-", 206, Some("bytes 58-61/62"), b"WXYZ"),
            ("bytes=-2", 206, Some("bytes 60-61/62"), b"YZ"),
            ("bytes=0-99", 206, Some("bytes 0-61/62"), CONTENT),
            ("bytes=62-", 416, Some("bytes */62"), b""),
            ("bytes=-0", 416, Some("bytes */62"), b""),
            ("bytes=4-0", 200, None, CONTENT),
            ("lines=0-4", 200, None, CONTENT),
        ] {
            let response = served.get(&format!("GET /a.bin\r\nRange: {range}\r\n"));
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{range}: {response}");
            assert_eq!(field(&response, "Content-Range"), content_range, "{range}");
            assert_eq!(field(&response, "Accept-Ranges"), Some("bytes"), "{range}");
            if status != 416 {
                assert!(response.ends_with(&format!("\r\n\r\n{}", std::str::from_utf8(body).unwrap())), "{response}");
                assert_eq!(field(&response, "Content-Length"), Some(body.len().to_string().as_str()), "{range}");
                assert!(field(&response, "ETag").is_some() && field(&response, "Last-Modified").is_some());
            }
        }
    }
}

#[test]
fn several_parts_of_a_file() {
    let (_dir, served) = both();
    for mut served in served {
        let response = served.get("GET /a.bin\r\nRange: bytes=0-1,-3, 10-12\r\n");
        assert!(response.starts_with("HTTP/1.1 206 "), "{response}");
        assert_eq!(field(&response, "Content-Range"), None);
        let boundary =
            field(&response, "Content-Type").and_then(|it| it.strip_prefix("multipart/byteranges; boundary="));
        let boundary = boundary.unwrap_or_else(|| panic!("{response}"));
        assert_eq!(response.matches("Content-Type: multipart").count(), 1);
        let expected = [("0-1", "01"), ("59-61", "XYZ"), ("10-12", "abc")].map(|(range, content)| {
            let head = "Content-Type: application/octet-stream\r\nContent-Range: bytes";
            format!("\r\n--{boundary}\r\n{head} {range}/62\r\n\r\n{content}")
        });
        let body = response.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, format!("{}\r\n--{boundary}--\r\n", expected.concat()));
        assert_eq!(field(&response, "Content-Length"), Some(body.len().to_string().as_str()));

        let again = served.get("GET /a.bin\r\nRange: bytes=0-1,-3\r\n");
        assert!(!again.contains(boundary), "nobody can guess it");
    }
}

#[test]
fn conditions_come_before_ranges() {
    let (_dir, served) = both();
    for mut served in served {
        let whole = served.get("GET /a.bin");
        let etag = field(&whole, "ETag").unwrap();
        for (name, fields, status) in [
            ("not modified", format!("If-None-Match: {etag}\r\n"), 304),
            ("failed", "If-Match: \"x\"\r\n".to_owned(), 412),
            ("same state", format!("If-Range: {etag}\r\n"), 206),
            ("other state", "If-Range: \"x\"\r\n".to_owned(), 200),
            ("weak", format!("If-Range: W/{etag}\r\n"), 200),
            ("changed a moment ago", format!("If-Range: {}\r\n", field(&whole, "Last-Modified").unwrap()), 200),
            ("match and same state", format!("If-Match: {etag}\r\nIf-Range: {etag}\r\n"), 206),
        ] {
            let response = served.get(&format!("GET /a.bin\r\nRange: bytes=0-4\r\n{fields}"));
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {response}");
        }
        let unsatisfiable = served.get("GET /a.bin\r\nRange: bytes=99-\r\nIf-Range: \"x\"\r\n");
        assert!(unsatisfiable.starts_with("HTTP/1.1 200 "), "{unsatisfiable}");
    }
}

#[test]
fn head_answers_as_get_without_the_content_and_knows_no_ranges() {
    let (_dir, served) = both();
    for mut served in served {
        let get = served.get("GET /a.bin");
        let head = served.get("HEAD /a.bin\r\nRange: bytes=0-4\r\n");
        assert_eq!(head.strip_suffix("\r\n\r\n"), get.split("\r\n\r\n").next());
    }
}
