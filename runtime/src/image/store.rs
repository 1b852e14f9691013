//! Where images lie on the node: a name stands for a component in the blob store.
//!
//! A pulled image has a second name, [`MANIFEST`] and its own, that stands for its manifest, by whose digest the image
//! is known to the world. An image that was loaded by hand has no manifest and is known by its component.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerImage;
use k8w_storage::blob::{BlobStore, Digest, PutError};
use oci_client::Reference;

use super::registry::Pulled;
use super::{Error, Image};
use crate::engine::Artifact;

/// Prefix of the names that stand for manifests; no image's name begins like it.
const MANIFEST: &str = "manifest of ";

/// The images that lie on this machine, for those who load them by hand. Works while a node runs on the same store.
#[derive(Clone)]
pub struct LocalImages {
    blobs: Arc<BlobStore>,
}

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("\"{0}\" is not an image name, such as localhost/hello:latest")]
    InvalidName(String),
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not WebAssembly: it does not begin with \\0asm", path.display())]
    NotWasm { path: PathBuf },
    #[error("the image store cannot be written")]
    Store(#[source] io::Error),
}

impl LocalImages {
    /// The images in the blob store in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or used.
    pub fn open(folder: &Path) -> Result<LocalImages, LoadError> {
        BlobStore::open(folder).map(|blobs| LocalImages::new(Arc::new(blobs))).map_err(LoadError::Store)
    }

    pub fn new(blobs: Arc<BlobStore>) -> LocalImages {
        LocalImages { blobs }
    }

    /// Makes a component on disk the image `name`, in place of what had that name. Blocks.
    ///
    /// # Errors
    /// When the name is none, or the file is not WebAssembly or cannot be kept.
    pub fn load(&self, file: &Path, name: &str) -> Result<Digest, LoadError> {
        let reference: Reference = name.parse().map_err(|_| LoadError::InvalidName(name.to_owned()))?;
        let unreadable = |source| LoadError::Read { path: file.to_owned(), source };
        if !is_wasm(File::open(file).map_err(unreadable)?).map_err(unreadable)? {
            return Err(LoadError::NotWasm { path: file.to_owned() });
        }
        let content = File::open(file).map_err(unreadable)?;
        let digest = self.blobs.put(content, None).map_err(|error| LoadError::Store(io_error(error)))?;
        self.blobs.remove_ref(&manifest_name(&reference)).map_err(LoadError::Store)?;
        self.blobs.set_ref(&reference.whole(), &digest).map_err(LoadError::Store)?;
        Ok(digest)
    }
}

/// The image, if it is here.
pub(super) fn find(blobs: &BlobStore, reference: &Reference) -> Result<Option<Image>, Error> {
    let Some(digest) = blobs.get_ref(&reference.whole())? else { return Ok(None) };
    let Some(path) = blobs.path(&digest) else { return Ok(None) };
    let known_by = blobs.get_ref(&manifest_name(reference))?.unwrap_or(digest);
    Ok(Some(image(reference, digest, path, &known_by.to_string())))
}

/// Keeps what was pulled. Blocks.
pub(super) fn keep(blobs: &BlobStore, reference: &Reference, pulled: &Pulled) -> Result<Image, Error> {
    let put = |content: &[u8]| blobs.put(content, None).map_err(io_error);
    let digest = put(&pulled.component)?;
    let manifest = put(&pulled.manifest)?;
    blobs.set_ref(&manifest_name(reference), &manifest)?;
    blobs.set_ref(&reference.whole(), &digest)?;
    let path = blobs.path(&digest).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(image(reference, digest, path, &pulled.manifest_digest))
}

/// All images, the largest first.
pub(super) fn list(blobs: &BlobStore) -> Vec<ContainerImage> {
    let names = match blobs.refs() {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(%error, "the images on this node could not be listed");
            return Vec::new();
        }
    };
    let size = |digest: &Digest| {
        let path = blobs.path(digest)?;
        i64::try_from(path.metadata().ok()?.len()).ok()
    };
    let component = |(name, _): &&(String, Digest)| name.parse::<Reference>().is_ok() && !name.starts_with(MANIFEST);
    let mut images: Vec<ContainerImage> = names
        .iter()
        .filter(component)
        .map(|(name, digest)| ContainerImage { names: Some(vec![name.clone()]), size_bytes: size(digest) })
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images
}

fn image(reference: &Reference, digest: Digest, path: PathBuf, known_by: &str) -> Image {
    let id = format!("{}/{}@{known_by}", reference.registry(), reference.repository());
    Image { artifact: Artifact { digest: digest.to_string(), path }, id }
}

fn manifest_name(reference: &Reference) -> String {
    format!("{MANIFEST}{}", reference.whole())
}

fn is_wasm(mut file: File) -> io::Result<bool> {
    let mut magic = [0; 4];
    match io::Read::read_exact(&mut file, &mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| magic == *b"\0asm"),
    }
}

fn io_error(error: PutError) -> io::Error {
    match error {
        PutError::Io(error) => error,
        mismatch => io::Error::other(mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_images_are_found_by_any_spelling_of_their_name() {
        let root = tempfile::tempdir().unwrap();
        let images = LocalImages::open(&root.path().join("images")).unwrap();
        let file = root.path().join("hello.wasm");
        std::fs::write(&file, b"\0asm\x0d\0\x01\0").unwrap();
        let digest = images.load(&file, "localhost/hello").unwrap();
        let found = find(&images.blobs, &"localhost/hello:latest".parse().unwrap()).unwrap().unwrap();
        assert_eq!(found.artifact.digest, digest.to_string());
        assert_eq!(found.id, format!("localhost/hello@{digest}"));
        assert_eq!(list(&images.blobs)[0].names.as_deref(), Some(&["localhost/hello:latest".to_owned()][..]));
        assert_eq!(find(&images.blobs, &"hello".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn what_is_not_wasm_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let images = LocalImages::open(root.path()).unwrap();
        let file = root.path().join("x");
        std::fs::write(&file, b"#!").unwrap();
        assert!(matches!(images.load(&file, "localhost/x"), Err(LoadError::NotWasm { .. })));
        assert!(matches!(images.load(&file, "NOT A NAME"), Err(LoadError::InvalidName(_))));
    }
}
