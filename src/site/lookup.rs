//! Opening a file so that it lies below the root, whatever symbolic links say.

use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat, openat2};
use rustix::io::{Errno, Result};

/// Reading only; never waiting for the other end of a FIFO, and never becoming somebody's terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A rename somewhere can make the kernel unsure whether a path with `..` in a link stays below; then one tries again.
const MAX_TRIES: usize = 16;

/// How a path is kept below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    /// The kernel sees to it (`openat2`, Linux 5.6). Links are followed as long as they are relative and stay below.
    Kernel,
    /// Segment by segment, and no link is followed: for older kernels, and sandboxes that do not know the call.
    NoLinks,
}

impl Resolution {
    /// What works here.
    pub(super) fn probe(root: &OwnedFd) -> Resolution {
        match open_below(root, b"", Resolution::Kernel) {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Resolution::NoLinks,
            _ => Resolution::Kernel,
        }
    }
}

/// Opens the root. It is opened anew for each lookup, so that a folder that is replaced as a whole is noticed.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd> {
    open(root, FOLDER, Mode::empty())
}

/// Opens what lies at this path below the root, file or folder or anything else. The empty path is the root.
pub(super) fn open_below(root: &OwnedFd, path: &[u8], resolution: Resolution) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    match resolution {
        Resolution::Kernel => {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            let open = || openat2(root, path, READ, Mode::empty(), beneath);
            (1..MAX_TRIES).map(|_| open()).find(|opened| !matches!(opened, Err(Errno::AGAIN))).unwrap_or_else(open)
        }
        Resolution::NoLinks => open_without_links(root, path),
    }
}

fn open_without_links(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let mut folder: Option<OwnedFd> = None;
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment == b".." {
            return Err(Errno::XDEV);
        }
        let at = folder.as_ref().unwrap_or(root).as_fd();
        let flags = if segments.peek().is_some() { FOLDER } else { READ };
        let opened = openat(at, segment, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if segments.peek().is_none() {
            return Ok(opened);
        }
        folder = Some(opened);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_resolutions_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(root.join("file"), "inside").unwrap();
        fs::write(root.join("sub/file"), "inside").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("sub/../../secret", root.join("around")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("sub/file", root.join("in")).unwrap();
        symlink("../file", root.join("sub/back")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();

        let root = open_root(&root).unwrap();
        let read = |path: &str, resolution| {
            let mut text = String::new();
            let opened = open_below(&root, path.as_bytes(), resolution)?;
            fs::File::from(opened).read_to_string(&mut text).expect("a file");
            Ok::<_, Errno>(text)
        };
        for (path, with_links, without) in [
            ("file", true, true),
            ("sub/file", true, true),
            ("in", true, false),
            ("sub/back", true, false),
            ("out", false, false),
            ("absolute", false, false),
            ("up/secret", false, false),
            ("around", false, false),
            ("loop", false, false),
            ("magic/etc/passwd", false, false),
            ("../secret", false, false),
            ("sub/../../secret", false, false),
            ("nothing", false, false),
            ("file/x", false, false),
        ] {
            for (resolution, is_found) in [(Resolution::Kernel, with_links), (Resolution::NoLinks, without)] {
                if resolution == Resolution::Kernel && Resolution::probe(&root) != Resolution::Kernel {
                    continue;
                }
                let found = read(path, resolution);
                assert_eq!(found.is_ok(), is_found, "{path} {resolution:?}: {found:?}");
                assert_ne!(found.as_deref(), Ok("secret"), "{path} {resolution:?}");
            }
        }
    }
}
