//! The directory that holds everything a k8w process keeps: one process at a time, in a format with a version.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// What this version writes. A data directory with a larger number was written by a newer k8w.
const FORMAT: u32 = 1;

/// How long a lock is waited for: a process that was just killed holds it until the kernel has taken it apart.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A data directory held by this process. Dropping it lets go of it.
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// The directory that was chosen, or else `~/.local/share/k8w`, following the XDG base directory specification.
    ///
    /// # Errors
    /// When the environment does not say where that is.
    pub fn path_of(chosen: Option<&Path>) -> Result<PathBuf> {
        if let Some(path) = chosen {
            return Ok(std::path::absolute(path)?);
        }
        if let Some(data_home) = std::env::var_os("XDG_DATA_HOME").filter(|home| !home.is_empty()) {
            return Ok(PathBuf::from(data_home).join("k8w"));
        }
        let home = std::env::var_os("HOME").context("HOME is not set; say where to keep data with --data-dir")?;
        Ok(PathBuf::from(home).join(".local/share/k8w"))
    }

    /// Opens or makes the directory and takes its lock.
    ///
    /// # Errors
    /// When it cannot be read or written, belongs to a running process, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let lock = lock(path)?;
        check_format(path)?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Takes the lock file, which names its holder.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = path.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
    let mut open = open.with_context(|| format!("cannot use the data directory {}", path.display()))?;
    let mut holder = String::new();
    open.read_to_string(&mut holder).with_context(|| format!("cannot read {}", file.display()))?;
    let since = Instant::now();
    let locked = loop {
        match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
            Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) if since.elapsed() < LOCK_PATIENCE => open = unlocked,
            outcome => break outcome,
        }
        std::thread::sleep(LOCK_RETRY);
    };
    match locked {
        Ok(mut lock) => {
            lock.set_len(0)?;
            std::io::Seek::rewind(&mut *lock)?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let holder = holder.trim();
            bail!(
                "the data directory {} is in use by another k8w (process {holder}); \
                 stop that one or choose another directory with --data-dir",
                path.display()
            )
        }
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", file.display())),
    }
}

fn check_format(path: &Path) -> Result<()> {
    let file = path.join("format");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let found = text.trim();
            let number: u32 = found.parse().with_context(|| {
                format!(
                    "{} says {found:?}, which is no format number; is this a data directory of k8w?",
                    file.display()
                )
            })?;
            if number > FORMAT {
                bail!(
                    "the data directory {} has format {number}, but this k8w reads up to {FORMAT}; use a newer k8w",
                    path.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::write(&file, format!("{FORMAT}\n")).with_context(|| format!("cannot write {}", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        match DataDir::open(path) {
            Ok(_) => panic!("opened {}", path.display()),
            Err(error) => crate::one_sentence(&error),
        }
    }

    #[test]
    fn a_second_process_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDir::open(dir.path()).unwrap();
        assert!(refusal(dir.path()).contains(&format!("in use by another k8w (process {})", std::process::id())));
    }

    #[test]
    fn the_lock_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("format"), "99\n").unwrap();
        assert!(refusal(dir.path()).contains("has format 99, but this k8w reads up to 1; use a newer k8w"));
    }
}
