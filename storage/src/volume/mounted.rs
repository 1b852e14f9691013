//! What is mounted beneath a directory, and its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
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
    Ok(read(&fs::read("/proc/self/mounts")?))
}

/// What a table of mounts says (fstab(5)), in which paths are any bytes.
fn read(table: &[u8]) -> Vec<Mount> {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ').skip(1);
        let path = PathBuf::from(OsString::from_vec(unescaped(words.next()?)));
        Some(Mount { path, is_fuse: words.next()?.starts_with(b"fuse") })
    });
    mounts.collect()
}

/// White space, backslashes and number signs stand as `\ooo` there.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(word.len()), word);
    while let [first, after @ ..] = rest {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| u32::from(digit - b'0'));
        let escaped = match rest {
            [b'\\', a, b, c, ..] => octal(a).zip(octal(b)).zip(octal(c)),
            _ => None,
        };
        let code = escaped.and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &rest[4..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_table_of_mounts_is_read_whatever_its_paths_are() {
        let table = b"tmpfs /a\\040b\\011c\\012d tmpfs rw 0 0\n\
                      h:/x /e\\043f\\134040 fuse.nfs rw 0 0\n\
                      disk /latin-\xe9\\ ext4 rw 0 0\n\
                      cut\n\n";
        let read: Vec<_> = read(table).into_iter().map(|mount| (mount.path, mount.is_fuse)).collect();
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        let expected = [(&b"/a b\tc\nd"[..], false), (b"/e#f\\040", true), (b"/latin-\xe9\\", false)];
        assert_eq!(read, expected.map(|(bytes, is_fuse)| (path(bytes), is_fuse)));
    }
}
