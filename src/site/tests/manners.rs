//! What an operator can choose: fallbacks, listings and fields.

use http::{HeaderMap, HeaderValue};

use super::*;

fn folder(manner: Manner) -> (tempfile::TempDir, Served) {
    let dir = furnished();
    let root = dir.path().join("root");
    write(root.join("about.html"), "about");
    write(root.join("docs.html"), "docs page");
    write(root.join("v1.2.html"), "version");
    write(root.join("assets/main.3f2a9b7c.js"), "hashed");
    let served = Served::start_with(Root::Folder(root), manner, &Limits::default());
    (dir, served)
}

fn status(response: &str) -> u16 {
    response[9..12].parse().unwrap()
}

#[test]
fn pages_without_their_extension() {
    let (_dir, mut served) = folder(Manner::default());
    for (target, expected, content) in [
        ("/about", 200, "about"),
        ("/about?x", 200, "about"),
        ("/about.html", 200, "about"),
        ("/v1.2", 200, "version"),
        ("/index", 200, "home"),
        // A page goes before a folder, and a folder's own address before a page.
        ("/docs", 200, "docs page"),
        ("/docs/", 200, "docs"),
        ("/docs/index", 200, "docs"),
        ("/about/", 404, ""),
        ("/About", 404, ""),
        ("/about.html.html", 404, ""),
        ("/style", 404, ""),
    ] {
        let response = served.get(&format!("GET {target}"));
        assert_eq!(status(&response), expected, "{target}: {response}");
        assert!(expected != 200 || response.ends_with(&format!("\r\n\r\n{content}")), "{target}: {response}");
        assert!(expected != 200 || field(&response, "Content-Type") == Some("text/html; charset=utf-8"), "{target}");
    }
    let mut embedded = Served::start(Root::Embedded, &Limits::default());
    assert_eq!(field(&embedded.get("GET /index"), "Content-Type"), Some("text/html; charset=utf-8"));
}

#[test]
fn a_page_for_what_is_missing() {
    let (dir, mut served) = folder(Manner::default());
    let plain = served.get("GET /missing");
    assert_eq!(field(&plain, "Content-Type"), Some("text/plain; charset=utf-8"));
    write(dir.path().join("root/404.html"), "nothing here");
    served.now += Duration::from_secs(1);
    for target in ["/missing", "/missing/", "/missing.png", "/docs/missing", "/bare/"] {
        let response = served.get(&format!("GET {target}\r\nIf-None-Match: *\r\nRange: bytes=0-1\r\n"));
        assert_eq!(status(&response), 404, "{target}");
        assert!(response.ends_with("\r\n\r\nnothing here"), "{response}");
        assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"));
        // It is not the state of what is asked for.
        assert_eq!((field(&response, "ETag"), field(&response, "Last-Modified")), (None, None));
    }
    // Nobody reads a page there.
    for target in ["/favicon.ico", "/robots.txt", "/.env"] {
        assert!(!served.get(&format!("GET {target}")).contains("nothing here"), "{target}");
    }
    assert_eq!(status(&served.get("GET /404.html")), 200);
    assert_eq!(status(&served.get("GET /404")), 200);
}

#[test]
fn one_page_for_all_addresses() {
    let (dir, mut served) = folder(Manner { spa: true, ..Manner::default() });
    write(dir.path().join("root/404.html"), "nothing here");
    for (target, expected, content) in [
        ("/room/garden", 200, "home"),
        ("/room/garden/", 200, "home"),
        ("/room/garden?x.y", 200, "home"),
        ("/v2.0/about", 200, "home"),
        ("/about", 200, "about"),
        ("/missing.js", 404, "nothing here"),
        ("/assets/missing.css", 404, "nothing here"),
        ("/v2.0", 404, "nothing here"),
        ("/.env", 404, ""),
    ] {
        let response = served.get(&format!("GET {target}"));
        assert_eq!(status(&response), expected, "{target}: {response}");
        assert!(content.is_empty() || response.ends_with(&format!("\r\n\r\n{content}")), "{target}: {response}");
    }
    // It is the page with all its rights, and addresses fill no memory.
    let etag = field(&served.get("GET /"), "ETag").unwrap().to_owned();
    assert_eq!(status(&served.get(&format!("GET /x/y\r\nIf-None-Match: {etag}\r\n"))), 304);
    let before = served.site.cached_bytes();
    for number in 0..50 {
        assert_eq!(status(&served.get(&format!("GET /room/{number}"))), 200);
    }
    assert_eq!(served.site.cached_bytes(), before);
    let mut embedded =
        Served::start_with(Root::Embedded, Manner { spa: true, ..Manner::default() }, &Limits::default());
    assert_eq!((status(&embedded.get("GET /x/y")), status(&embedded.get("GET /x.js"))), (200, 404));
}

#[test]
fn folders_are_listed_if_the_operator_says_so() {
    let (dir, mut served) = folder(Manner { listing: true, ..Manner::default() });
    let root = dir.path().join("root");
    write(root.join("bare/ä & <b>.txt"), "12345");
    write(root.join("bare/.hidden"), "");
    write(root.join("bare/sub/x"), "");
    symlink("../../secret", root.join("bare/out")).unwrap();
    symlink("x.txt", root.join("bare/in")).unwrap();
    let page = served.get("GET /bare/");
    assert_eq!((status(&page), field(&page, "Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(field(&page, "Content-Security-Policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    let links: Vec<&str> = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, ["../", "./sub/", "./in", "./x.txt", "./%C3%A4%20%26%20%3Cb%3E.txt"]);
    assert!(page.contains(">ä &amp; &lt;b&gt;.txt</a><td>5 B<td>") && !page.contains("<b>"), "{page}");
    assert_eq!(field(&served.get("GET /bare"), "Location"), Some("/bare/"));
    assert!(served.get("GET /docs/").ends_with("docs"), "an index goes before a listing");
    assert_eq!(status(&served.get("GET /nowhere/")), 404);
    let head = served.get("HEAD /bare/");
    assert_eq!(head.strip_suffix("\r\n\r\n"), page.split("\r\n\r\n").next());
    let (_dir, mut silent) = folder(Manner::default());
    assert_eq!(status(&silent.get("GET /bare/")), 404);
}

#[test]
fn for_how_long_files_are_fresh() {
    let rule = |pattern: &str, value| (pattern.to_owned(), HeaderValue::from_static(value));
    let cache_control = vec![rule("/docs/*", "max-age=60"), rule("*.css", "no-store")];
    let (_dir, mut served) = folder(Manner { cache_control, ..Manner::default() });
    for (target, expected) in [
        ("/docs/", "max-age=60"),
        ("/style.css", "no-store"),
        ("/", "no-cache"),
        ("/about", "no-cache"),
        ("/assets/main.3f2a9b7c.js", "public, max-age=31536000, immutable"),
    ] {
        assert_eq!(field(&served.get(&format!("GET {target}")), "Cache-Control"), Some(expected), "{target}");
        let same = served.get(&format!("GET {target}\r\nIf-None-Match: *\r\n"));
        assert_eq!(field(&same, "Cache-Control"), Some(expected), "{target}");
    }
}

#[test]
fn fields_of_the_operator_go_with_everything() {
    let mut headers = HeaderMap::new();
    headers.append("x-team", HeaderValue::from_static("garden"));
    headers.append("cache-control", HeaderValue::from_static("private"));
    headers.append("referrer-policy", HeaderValue::from_static("origin"));
    let (_dir, mut served) = folder(Manner { headers, ..Manner::default() });
    for (head, expected) in
        [("GET /", 200), ("GET /missing", 404), ("GET /bare", 301), ("GET /\r\nIf-None-Match: *\r\n", 304)]
    {
        let response = served.get(head);
        assert_eq!((status(&response), field(&response, "x-team")), (expected, Some("garden")), "{head}");
    }
    let page = served.get("GET /").to_lowercase();
    for name in ["cache-control: private\r\n", "referrer-policy: origin\r\n"] {
        let field = name.split(':').next().unwrap();
        assert!(page.contains(name) && page.matches(&format!("\n{field}:")).count() == 1, "{page}");
    }
}

#[test]
fn our_own_page_is_known_wherever_it_is_served_from() {
    let page = include_str!("../../../public/index.html");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("index.html"), page);
    write(dir.path().join("other.html"), "<!doctype html><script>alert(1)</script>");
    for root in [Root::Folder(dir.path().to_owned()), Root::Embedded] {
        let mut served = Served::start(root.clone(), &Limits::default());
        let ours = served.get("GET /");
        let policy = field(&ours, "Content-Security-Policy").unwrap_or_else(|| panic!("{ours}"));
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(field(&ours, "Referrer-Policy"), Some("no-referrer"));
        if root != Root::Embedded {
            let other = served.get("GET /other");
            assert_eq!(field(&other, "Content-Security-Policy"), None);
            assert_eq!(field(&other, "Referrer-Policy"), Some("strict-origin-when-cross-origin"));
        }
    }
}

#[test]
fn what_browsers_and_crawlers_ask_for_by_themselves() {
    let mut embedded = Served::start(Root::Embedded, &Limits::default());
    assert_eq!(field(&embedded.get("GET /favicon.ico"), "Content-Type"), Some("image/svg+xml; charset=utf-8"));
    assert!(embedded.get("GET /robots.txt").contains("Disallow: /rooms/"));
    let (dir, mut served) = folder(Manner { spa: true, ..Manner::default() });
    for target in ["/favicon.ico", "/robots.txt"] {
        assert_eq!(status(&served.get(&format!("GET {target}"))), 404, "{target}");
    }
    write(dir.path().join("root/favicon.svg"), "<svg/>");
    served.now += Duration::from_secs(1);
    assert!(served.get("GET /favicon.ico").ends_with("<svg/>"));
    write(dir.path().join("root/favicon.ico"), "icon");
    assert!(served.get("GET /favicon.ico").ends_with("icon"));
}
