//! Single files that are laid over those of a volume, as container runtimes mount one over another.
//!
//! A preopen is a directory, and a guest looks for a path in the innermost one alone: a file cannot be put among those of a
//! volume. So what a path leads to is compared with the files that others are laid over (placeholders), by device and inode,
//! and where it is one of them the other is meant. Open handles keep both what they were when the container started, whatever
//! becomes of their names, and an inode that is kept is nobody else's. Who changes names meanwhile gets to see the placeholder
//! at most, which is a file of its volume.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, Metadata, MetadataExt as _};
use nix::errno::Errno;
use wasmtime_wasi::filesystem::{self as wasi, Descriptor};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::by_name::{self, Request, Times};

/// One file, and the one that it is laid over.
#[derive(Debug)]
pub struct Overlay {
    placeholder: (u64, u64),
    /// Whose number would be given to another file otherwise.
    _placeholder: File,
    file: File,
    read_only: bool,
}

impl Overlay {
    /// Of handles that open nothing ([`by_name::find`]).
    ///
    /// # Errors
    /// When the placeholder does not say which file it is.
    pub fn new(placeholder: File, file: File, read_only: bool) -> io::Result<Overlay> {
        let identity = identity(&Metadata::from_file(&placeholder)?);
        Ok(Overlay { placeholder: identity, _placeholder: placeholder, file, read_only })
    }

    /// Opens it anew.
    ///
    /// # Errors
    /// As opening a file; EPERM for writing where that is not allowed, and for a device or a socket.
    pub fn open(&self, request: Request) -> io::Result<File> {
        if request.directory {
            return Err(Errno::ENOTDIR.into());
        }
        self.check_writes(request.writes())?;
        // What a handle leads to never becomes anything else.
        by_name::check(self.metadata()?.is_file())?;
        let mut options = OpenOptions::new();
        options.read(request.reads()).write(request.writes()).truncate(request.truncate);
        options.open(by_name::link_to(&self.file))
    }

    /// # Errors
    /// As setting times; EPERM where that is not allowed.
    pub fn set_times(&self, times: Times) -> io::Result<()> {
        self.check_writes(true)?;
        by_name::set_times(&self.file, times)
    }

    /// # Errors
    /// As reading a file's metadata.
    pub fn metadata(&self) -> io::Result<Metadata> {
        Metadata::from_file(&self.file)
    }

    /// A guest's handle to a file of it.
    pub fn descriptor(&self, file: File, mode: OpenMode) -> Descriptor {
        let perms = if self.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        Descriptor::File(wasi::File::new(file, perms, mode, false))
    }

    /// A guest's handle that can do nothing but tell of it.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn told_of(&self) -> io::Result<Descriptor> {
        Ok(self.descriptor(self.file.try_clone()?, OpenMode::empty()))
    }

    fn check_writes(&self, writes: bool) -> io::Result<()> {
        if writes && self.read_only { Err(Errno::EPERM.into()) } else { Ok(()) }
    }
}

/// All that is laid over files of one container's volumes; mostly nothing.
#[derive(Clone, Debug, Default)]
pub struct Overlays(Option<Arc<[Overlay]>>);

impl Overlays {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many files are open for them: each, and what it is laid over.
    pub fn open_files(&self) -> usize {
        self.0.as_ref().map_or(0, |overlays| 2 * overlays.len())
    }

    /// What is laid over the file at a path beneath `dir`. What cannot be found has nothing over it: whoever uses the path
    /// meets the same error.
    pub fn at(&self, dir: &Dir, path: &Path, follow: bool) -> Option<&Overlay> {
        if self.is_empty() {
            return None;
        }
        let found = if follow { dir.metadata(path) } else { dir.symlink_metadata(path) };
        self.over(&found.ok()?)
    }

    /// What is laid over a file.
    pub fn over(&self, found: &Metadata) -> Option<&Overlay> {
        let found = identity(found);
        // As with mounts, what was laid last is on top.
        self.0.as_ref()?.iter().rfind(|overlay| overlay.placeholder == found)
    }
}

impl FromIterator<Overlay> for Overlays {
    fn from_iter<T: IntoIterator<Item = Overlay>>(overlays: T) -> Overlays {
        let overlays: Arc<[Overlay]> = overlays.into_iter().collect();
        Overlays(Some(overlays).filter(|overlays| !overlays.is_empty()))
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
