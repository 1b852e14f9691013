//! Looks at all that a tree holds.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::{S_IFDIR, S_IFMT};
use nix::sys::stat::{FileStat, fstatat};

use super::{Descent, is_any_of};

/// Most entries that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes in names of directories that were found and not yet gone into.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// How often it begins again because a directory was moved.
const MAX_TRIES: usize = 4;
/// What `st_blocks` counts in, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Something in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// How far below the top it is.
    pub depth: usize,
    pub is_dir: bool,
    /// Device and inode: the same for all names of a file.
    pub id: (u64, u64),
    /// How many names it has, here or elsewhere.
    pub links: u64,
    /// What it takes on the disk: a hole takes nothing.
    pub disk_bytes: u64,
}

impl Found {
    #[allow(clippy::unnecessary_cast, reason = "the types are not the same on every machine")]
    fn new(depth: usize, found: &FileStat) -> Found {
        Found {
            depth,
            is_dir: found.st_mode & S_IFMT == S_IFDIR,
            id: (found.st_dev as u64, found.st_ino as u64),
            links: found.st_nlink as u64,
            disk_bytes: u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES),
        }
    }
}

/// Tells `see` of a directory and of every name beneath. Links are not followed; what vanishes meanwhile is not there. Whatever
/// else cannot be looked at ends it, so that nothing is left out. Blocks.
///
/// # Errors
/// The file system's; [`io::ErrorKind::FileTooLarge`] when there is more than a million entries, and `ESTALE` when directories
/// are moved all the time.
pub fn walk<T: Default>(dir: &Path, see: impl Fn(&mut T, Found)) -> io::Result<T> {
    for _ in 1..MAX_TRIES {
        match walk_once(dir, &see) {
            Err(error) if is_any_of(&error, &[Errno::ESTALE]) => {}
            done => return done,
        }
    }
    walk_once(dir, &see)
}

/// Whether an error of [`walk`] says nothing about the tree: it is not there, or the node is out of files or memory.
pub fn says_nothing(error: &io::Error) -> bool {
    is_any_of(error, &[Errno::ENOENT, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM])
}

fn walk_once<T: Default>(dir: &Path, see: impl Fn(&mut T, Found)) -> io::Result<T> {
    let mut seen = T::default();
    let mut at = Descent::new(AT_FDCWD, dir, false)?;
    see(&mut seen, Found::new(0, &at.current.found));
    let (mut entries, mut waiting_bytes) = (0, 0);
    // Directories by their names, and the depth of the one that they are in.
    let mut waiting = Vec::new();
    loop {
        while let Some(name) = at.next() {
            let name = name?;
            entries += 1;
            if entries > MAX_ENTRIES || waiting_bytes > MAX_WAITING_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let found = match fstatat(at.dir(), name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                found => Found::new(at.depth() + 1, &found?),
            };
            if found.is_dir {
                waiting_bytes += name.len();
                waiting.push((at.depth(), name));
            }
            see(&mut seen, found);
        }
        loop {
            let Some((depth, name)) = waiting.pop() else { return Ok(seen) };
            waiting_bytes -= name.len();
            while at.depth() > depth {
                at.up()?;
            }
            if at.down(&name)? {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{make_deep, on_a_small_stack, open_beneath, root};
    use super::*;

    #[derive(Default)]
    struct Seen {
        directories: usize,
        files: usize,
        deepest: usize,
        most_open: usize,
    }

    fn count(seen: &mut Seen, found: Found) {
        *(if found.is_dir { &mut seen.directories } else { &mut seen.files }) += 1;
        seen.deepest = seen.deepest.max(found.depth);
    }

    #[test]
    fn depth_takes_no_stack_and_hides_nothing() {
        on_a_small_stack(|| {
            let root = root();
            let top = root.path().join("top");
            make_deep(&top, 20_000);
            fs::create_dir_all(top.join("d/d/beside/it")).unwrap();
            let seen: Seen = walk(&top, count).unwrap();
            super::super::remove(&top).unwrap();
            assert_eq!((seen.directories, seen.files, seen.deepest), (20_003, 20_000, 20_000));
        });
    }

    #[test]
    fn wide_directories_take_no_open_files() {
        let root = root();
        let top = root.path().join("top");
        for number in 0..5_000 {
            fs::create_dir_all(top.join(format!("{number}/in"))).unwrap();
        }
        let seen: Seen = walk(&top, |seen: &mut Seen, found| {
            count(seen, found);
            if seen.directories.is_multiple_of(1_000) {
                seen.most_open = seen.most_open.max(open_beneath(&top));
            }
        })
        .unwrap();
        assert_eq!((seen.directories, seen.deepest), (10_001, 2));
        assert!((1..10).contains(&seen.most_open), "{}", seen.most_open);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let root = root();
        let missing = walk(&root.path().join("none"), |(): &mut (), _| {}).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
