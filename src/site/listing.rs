//! A folder as a page that people can read.

use std::fmt::Write;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};
use rustix::io;

use super::lookup::{self, Resolution};
use super::path::encoded;

/// What a listing may do: show itself.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "body{font:1rem/1.6 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}td,th{padding:.15rem .75rem .15rem 0;text-align:left}\
    td:nth-child(2),th:nth-child(2){text-align:right;white-space:nowrap}td:nth-child(3){white-space:nowrap}\
    :root{color-scheme:light dark}";

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// Folders come first.
    is_file: bool,
    name: Vec<u8>,
    size: u64,
    /// Seconds since 1970.
    modified: u64,
}

/// The page for the folder that is open as `folder`, at `path` below the root, with at most `most` lines.
///
/// What is served is listed: files and folders without a dot in front, and links to such as lie below the root.
pub(super) fn page(
    root: &OwnedFd,
    folder: &OwnedFd,
    path: &[u8],
    resolution: Resolution,
    most: usize,
) -> io::Result<String> {
    let mut lines = Vec::new();
    let mut is_cut = false;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") || name.contains(&b'\\') {
            continue;
        }
        let Ok(mut stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = lookup::open_below(root, &[path, name].concat(), resolution).and_then(fstat);
            let Ok(found) = target else { continue };
            stat = found;
        }
        lines.extend(line(name, &stat));
        if lines.len() > most {
            is_cut = true;
            lines.pop();
            break;
        }
    }
    lines.sort_unstable();
    Ok(rendered(path, &lines, is_cut))
}

fn line(name: &[u8], stat: &Stat) -> Option<Line> {
    let is_file = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => true,
        FileType::Directory => false,
        _ => return None,
    };
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    let (size, modified) = (stat.st_size as u64, u64::try_from(stat.st_mtime as i64).unwrap_or(0));
    Some(Line { is_file, name: name.to_vec(), size, modified })
}

fn rendered(path: &[u8], lines: &[Line], is_cut: bool) -> String {
    let title = format!("/{}", escaped(path));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n<h1>{title}</h1>\n\
         <table>\n<tr><th>Name<th>Size<th>Changed (UTC)\n"
    );
    if !path.is_empty() {
        page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for Line { is_file, name, size, modified } in lines {
        let slash = if *is_file { "" } else { "/" };
        let size = if *is_file { readable(*size) } else { String::new() };
        // `./` keeps a name with a colon from being taken for a scheme.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{}{slash}\">{}{slash}</a><td>{size}<td>{}",
            encoded(name),
            escaped(name),
            day_and_time(*modified)
        );
    }
    page.push_str("</table>\n");
    if is_cut {
        let _ = writeln!(page, "<p>Only {} are shown; there are more.", lines.len());
    }
    page
}

/// Text for a page, out of a name that may be anything.
fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(name).chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            letter if letter.is_control() => text.push('\u{fffd}'),
            letter => text.push(letter),
        }
    }
    text
}

fn readable(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes as u128 * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `1994-11-06 08:49`, by the algorithm of days since the first of March of the year 0.
fn day_and_time(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{date:02} {:02}:{:02}", era * 400 + year + carry, time / 3600, time % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_days() {
        for (bytes, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (4 << 30, "4.0 GiB")]
        {
            assert_eq!(readable(bytes), expected);
        }
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (784_111_777, "1994-11-06 08:49"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(day_and_time(seconds), expected);
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let name = b"<script>alert('1')</script>&\".txt".to_vec();
        let lines = [Line { is_file: true, name, size: 1, modified: 0 }];
        let page = rendered(b"a<b/", &lines, true);
        assert!(!page.contains("<script") && !page.contains("a<b"), "{page}");
        assert!(page.contains("<h1>/a&lt;b/</h1>") && page.contains("Only 1 are shown"), "{page}");
        assert!(page.contains("href=\"./%3Cscript%3Ealert%28%271%27%29%3C/script%3E%26%22.txt\""), "{page}");
    }
}
