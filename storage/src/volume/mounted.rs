//! What is mounted beneath a directory, and its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// One line of what is mounted.
struct Mount {
    path: PathBuf,
    /// Whether a process serves it.
    is_fuse: bool,
}

/// Whether something is mounted at `dir`.
///
/// # Errors
/// When the mounts cannot be listed.
pub fn is_at(dir: &Path) -> io::Result<bool> {
    Ok(match place(dir)? {
        Some(dir) => mounts()?.iter().any(|mount| mount.path == dir),
        None => false,
    })
}

/// Ends all that are mounted beneath a directory, or at it, without waiting for any server; what was in memory is gone.
///
/// # Errors
/// When the mounts cannot be listed or one of them cannot be ended.
pub fn remove_beneath(dir: &Path) -> io::Result<()> {
    let Some(dir) = place(dir)? else { return Ok(()) };
    let mut mounted: Vec<Mount> = mounts()?.into_iter().filter(|mount| mount.path.starts_with(&dir)).collect();
    mounted.sort_by(|one, other| other.path.cmp(&one.path));
    mounted.iter().try_for_each(end)
}

/// Ends one mount, now for whoever comes, later for those that have files of it open. Who waits for a process that serves
/// it waits no longer; that process still does what it was told before.
fn end(Mount { path, is_fuse }: &Mount) -> io::Result<()> {
    let forced = is_fuse.then_some(MntFlags::MNT_DETACH | MntFlags::MNT_FORCE);
    for flags in forced.into_iter().chain([MntFlags::MNT_DETACH]) {
        match umount2(path, flags) {
            Err(Errno::EPERM) => {}
            ended => return Ok(ended?),
        }
    }
    // A user without privilege had it mounted by this helper, which alone can end it.
    let mut helper = Command::new("fusermount3");
    let status = helper.args(["-u", "-z", "-q", "--"]).arg(path).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// Where a directory is without links, if its parent is there. Of itself nothing is asked: what is mounted there may not
/// answer.
fn place(dir: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match parent.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found?.join(name))),
    }
}

fn mounts() -> io::Result<Vec<Mount>> {
    let lines = fs::read_to_string("/proc/self/mounts")?;
    let mounts = lines.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = PathBuf::from(unescaped(words.next()?));
        Some(Mount { path, is_fuse: words.next()?.starts_with("fuse") })
    });
    Ok(mounts.collect())
}

/// White space and backslashes stand as `\\ooo` there (fstab(5)).
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}
