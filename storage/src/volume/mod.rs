//! Directories for pods, from inputs that were already resolved.
//!
//! | source | file |
//! |---|---|
//! | `configMap` | [`config_map`] |
//! | `downwardAPI` | [`downward_api`] |
//! | `emptyDir` | [`empty_dir`]; with `medium: Memory` [`memory`] |
//! | `ephemeral` | [`ephemeral`], then as a claim's |
//! | `hostPath` | [`host_path`] |
//! | `image` | [`image`] |
//! | `nfs` | [`nfs`] |
//! | `persistentVolumeClaim` | [`persistent`], for volumes of kind `hostPath` and `local`; [`nfs`] |
//! | `projected` | [`projected`] |
//! | `secret` | [`secret`] |
//!
//! Those that project data turn it into [`Files`], which [`atomic::write`] puts into the volume's directory in one
//! step; the others make or check a directory. Nothing here knows the API: who calls has looked everything up.
//!
//! To add a source: a file, a `mod` line, and its row in the runtime's table of volumes.

pub mod atomic;
pub mod config_map;
pub mod downward_api;
pub mod empty_dir;
pub mod ephemeral;
pub mod host_path;
pub mod image;
mod keyed;
pub mod memory;
pub mod mounted;
pub mod nfs;
pub mod persistent;
pub mod projected;
pub mod secret;
pub mod sub_path;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

pub use keyed::Item;

/// Most bytes that one volume of projected files may hold. A ConfigMap or Secret is at most 1 MiB.
pub const MAX_PROJECTED_BYTES: usize = 16 << 20;

/// Files of a projected volume by their path relative to its root.
pub type Files = BTreeMap<String, File>;

/// One projected file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Bytes,
    /// Permission bits, `0o777` at most.
    pub mode: u32,
}

/// Why a volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("references non-existent {object} key: {key}")]
    MissingKey { object: &'static str, key: String },
    #[error("invalid path \"{0}\": must be relative and must not contain '..'")]
    InvalidPath(String),
    #[error("conflicting duplicate path \"{0}\"")]
    DuplicatePath(String),
    #[error("projected files exceed {MAX_PROJECTED_BYTES} bytes")]
    TooLarge,
    #[error("hostPath type check failed: {} {problem}", path.display())]
    HostPath { path: PathBuf, problem: &'static str },
    #[error("{0} is an invalid volume type")]
    HostPathType(String),
    #[error("mounting a file system in memory at {}, which takes CAP_SYS_ADMIN: {source}", path.display())]
    Mount { path: PathBuf, source: std::io::Error },
    #[error("mounting {device}: {source}")]
    Nfs { device: String, source: Box<nfs::Error> },
    #[error("subPath \"{0}\" leads outside its volume")]
    Escapes(String),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}

/// Accepts what names something beneath a directory: relative, no `..`, not empty, and no name that [`atomic`] keeps
/// for itself.
fn check_relative(path: &str) -> Result<(), Error> {
    let invalid = || Error::InvalidPath(path.to_owned());
    let mut parts = Path::new(path).components().peekable();
    if parts.peek().is_none() || path.starts_with("..") {
        return Err(invalid());
    }
    if parts.all(|part| matches!(part, Component::Normal(_))) { Ok(()) } else { Err(invalid()) }
}
