//! Trees of any depth and width, removed and looked at without recursion and with few open files: a guest may make a directory
//! within a directory a hundred thousand times, where no path of 4,096 bytes leads.

mod remove;
mod walk;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cap_std::fs::{Dir, ReadDir};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat};

pub use remove::{remove, remove_at};
pub use walk::{Found, says_nothing, walk};

/// How many directories above the current one stay open, with a few descriptors each. Higher up `..` leads back.
const MAX_OPEN: usize = 16;

/// An open directory, and what was not yet read of it.
struct Opened {
    dir: Dir,
    entries: ReadDir,
    found: FileStat,
    /// What it is called in the one above; `None` when it was opened as the parent of another.
    name: Option<OsString>,
}

impl Opened {
    /// Opens a directory, never through a link.
    fn at(dir: BorrowedFd<'_>, path: &Path, unlock: bool) -> io::Result<Opened> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(dir, path, flags, Mode::empty());
        let opened: OwnedFd = match open() {
            Err(Errno::EACCES) if unlock => {
                fchmodat(dir, path, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)?;
                open()?
            }
            opened => opened?,
        };
        let found = fstat(&opened)?;
        if unlock && !Mode::from_bits_truncate(found.st_mode).contains(Mode::S_IRWXU) {
            fchmod(&opened, Mode::S_IRWXU)?;
        }
        let dir = Dir::from_std_file(File::from(opened));
        Ok(Opened { entries: dir.entries()?, dir, found, name: None })
    }

    fn id(&self) -> Id {
        (self.found.st_dev, self.found.st_ino)
    }
}

/// What a directory is known by when it is met again: device and inode.
type Id = (libc::dev_t, libc::ino_t);

/// A way down a tree and up again, of which the deepest part is open.
struct Descent {
    current: Opened,
    /// The nearest of those above.
    above: VecDeque<Opened>,
    /// All of those above, from the top.
    ids: Vec<Id>,
    /// Whether directories are made accessible to their owner.
    unlock: bool,
}

impl Descent {
    fn new(dir: BorrowedFd<'_>, path: &Path, unlock: bool) -> io::Result<Descent> {
        let current = Opened::at(dir, path, unlock)?;
        Ok(Descent { current, above: VecDeque::new(), ids: Vec::new(), unlock })
    }

    /// The current directory.
    fn dir(&self) -> BorrowedFd<'_> {
        self.current.dir.as_fd()
    }

    /// How far below the top that is.
    fn depth(&self) -> usize {
        self.ids.len()
    }

    /// The next name in the current directory.
    fn next(&mut self) -> Option<io::Result<OsString>> {
        Some(self.current.entries.next()?.map(|entry| entry.file_name()))
    }

    /// Goes into a directory in the current one; false when it is gone, or none (any more).
    fn down(&mut self, name: &OsStr) -> io::Result<bool> {
        let below = match Opened::at(self.dir(), Path::new(name), self.unlock) {
            Err(error) if is_any_of(&error, &[Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP]) => return Ok(false),
            below => Opened { name: Some(name.to_owned()), ..below? },
        };
        let left = std::mem::replace(&mut self.current, below);
        self.ids.push(left.id());
        self.above.push_back(left);
        if self.above.len() > MAX_OPEN {
            self.above.pop_front();
        }
        Ok(true)
    }

    /// Goes back up; where it was, if it went down there by name. A directory that was closed meanwhile is read anew from its
    /// beginning.
    ///
    /// # Errors
    /// `ESTALE` when what is above is not what was: somebody moved a directory.
    fn up(&mut self) -> io::Result<Option<OsString>> {
        let above = match self.above.pop_back() {
            Some(above) => above,
            None => Opened::at(self.dir(), Path::new(".."), self.unlock)?,
        };
        if self.ids.pop() != Some(above.id()) {
            return Err(Errno::ESTALE.into());
        }
        Ok(std::mem::replace(&mut self.current, above).name)
    }
}

fn is_any_of(error: &io::Error, known: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| known.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::AT_FDCWD;
    use nix::sys::stat::mkdirat;

    use super::*;

    /// A directory for many others: in memory where that is possible, as disks take milliseconds for each.
    pub fn root() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// What a guest can do: directories within each other, each made and opened in the one above, with a file in every one.
    pub fn make_deep(top: &Path, levels: usize) {
        std::fs::create_dir(top).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut dir = openat(AT_FDCWD, top, flags, Mode::empty()).unwrap();
        for _ in 0..levels {
            openat(&dir, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).unwrap();
            mkdirat(&dir, "d", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, "d", flags, Mode::empty()).unwrap();
        }
    }

    /// Runs it with a quarter of the stack that the node's threads have.
    pub fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
    }

    /// How many files of a tree are open in this process.
    pub fn open_beneath(top: &Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|file| file.starts_with(top))).count()
    }

    #[test]
    fn few_directories_are_open_however_deep_it_is() {
        let root = root();
        let top = root.path().join("top");
        make_deep(&top, 200);
        let mut at = Descent::new(AT_FDCWD, &top, false).unwrap();
        for _ in 0..200 {
            assert!(at.down(OsStr::new("d")).unwrap());
        }
        assert!(!at.down(OsStr::new("d")).unwrap());
        let open = open_beneath(&top);
        assert!((MAX_OPEN + 1..=4 * (MAX_OPEN + 1)).contains(&open), "{open}");
        let names: Vec<_> = (0..200).map(|_| at.up().unwrap()).collect();
        assert_eq!((at.depth(), names.iter().flatten().count()), (0, MAX_OPEN + 1));
    }

    #[test]
    fn the_way_back_leads_nowhere_else() {
        let root = root();
        let top = root.path().join("top");
        make_deep(&top, 2 * MAX_OPEN);
        let mut at = Descent::new(AT_FDCWD, &top, false).unwrap();
        while at.down(OsStr::new("d")).unwrap() {}
        std::fs::rename(top.join("d/d/d"), root.path().join("elsewhere")).unwrap();
        let stale = (0..2 * MAX_OPEN).find_map(|_| at.up().err()).unwrap();
        assert!(is_any_of(&stale, &[Errno::ESTALE]), "{stale}");
        assert_eq!(at.depth(), 2);
    }
}
