//! Where images lie on the node: a name stands for a component in the blob store.
//!
//! A pulled image has a second name, [`MANIFEST`] and its own, that stands for its manifest, by whose digest the image
//! is known to the world. An image that was loaded by hand has no manifest and is known by its component. That of a
//! container image also has a name [`CONFIG`], which keeps what the manifest calls its config.
//!
//! One that was pulled with a pod's credentials has a name [`READERS`], too.
//!
//! An image that was pulled whole, for a volume, has a name [`VOLUME`] for its manifest, and one [`LAYER`] for each layer.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerImage;
use k8w_storage::blob::{BlobStore, Digest, PutError};
use oci_client::Reference;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::Value;

use super::artifact::{self, Content};
use super::config::Config;
use super::layer::{self, Layer};
use super::readers::Readers;
use super::registry::Pulled;
use super::{Error, Image};
use crate::engine::Artifact;

/// Prefix of the names that stand for manifests; no image's name begins like it.
const MANIFEST: &str = "manifest of ";
/// Prefix of the names that stand for the configs of container images.
const CONFIG: &str = "config of ";
/// Prefix of the names that stand for lists of who may use an image without asking its registry.
const READERS: &str = "readers of ";
/// Prefix of the names that stand for manifests of images whose layers are here.
const VOLUME: &str = "volume of ";
/// Prefix of the names that stand for such layers.
const LAYER: &str = "layer ";

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
    #[error("\"{0}\" names content by its digest: an image that is loaded needs a tag, such as localhost/hello:latest")]
    ByDigest(String),
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
        if reference.digest().is_some() {
            return Err(LoadError::ByDigest(name.to_owned()));
        }
        let name = reference.whole();
        let unreadable = |source| LoadError::Read { path: file.to_owned(), source };
        if !is_wasm(File::open(file).map_err(unreadable)?).map_err(unreadable)? {
            return Err(LoadError::NotWasm { path: file.to_owned() });
        }
        let content = File::open(file).map_err(unreadable)?;
        let digest = self.blobs.put(content, None).map_err(|error| LoadError::Store(io_error(error)))?;
        remove_beside(&self.blobs, &name).map_err(LoadError::Store)?;
        self.blobs.set_ref(&name, &digest).map_err(LoadError::Store)?;
        Ok(digest)
    }
}

/// The image, if it is here.
pub(super) fn find(blobs: &BlobStore, reference: &Reference) -> Result<Option<Image>, Error> {
    let name = reference.whole();
    let Some(digest) = blobs.get_ref(&name)? else { return Ok(None) };
    let Some(path) = blobs.path(&digest) else { return Ok(None) };
    let Some(manifest) = blobs.get_ref(&manifest_name(&name))? else {
        return Ok(Some(image(reference, digest, path, &digest.to_string(), Config::default())));
    };
    // One that was pulled without its config, or has lost it, is not here as it should be.
    let Some(config) = config(blobs, &manifest)? else { return Ok(None) };
    Ok(Some(image(reference, digest, path, &manifest.to_string(), config)))
}

/// Whether an image that is here is its component and nothing else: a wasm artifact, or one that was loaded by hand. Of a
/// container image the component is one file of many.
pub(super) fn is_component(blobs: &BlobStore, reference: &Reference) -> io::Result<bool> {
    let Some(manifest) = blobs.get_ref(&manifest_name(&reference.whole()))? else { return Ok(true) };
    let Some(manifest) = blobs.get(&manifest)? else { return Ok(false) };
    Ok(serde_json::from_slice(&manifest)
        .is_ok_and(|manifest| matches!(artifact::content(&manifest), Ok(Content::Layer(_)))))
}

/// What the image of a manifest says of its process, if that is here.
fn config(blobs: &BlobStore, manifest: &Digest) -> io::Result<Option<Config>> {
    let manifest = blobs.get(manifest)?.and_then(|bytes| serde_json::from_slice::<OciImageManifest>(&bytes).ok());
    let Some(manifest) = manifest.filter(|manifest| matches!(artifact::content(manifest), Ok(Content::Entrypoint)))
    else {
        return Ok(Some(Config::default()));
    };
    let Ok(digest) = manifest.config.digest.parse() else { return Ok(None) };
    let Some(bytes) = blobs.get(&digest)? else { return Ok(None) };
    let configuration: Value = serde_json::from_slice(&bytes)?;
    Ok(Some(Config::of(&configuration)?))
}

/// Keeps what was pulled. Blocks.
pub(super) fn keep(
    blobs: &BlobStore,
    reference: &Reference,
    pulled: &Pulled,
    pulled_by: Option<Readers>,
) -> Result<Image, Error> {
    let put = |content: &[u8]| blobs.put(content, None).map_err(io_error);
    let digest = put(&pulled.component)?;
    let manifest = put(&pulled.manifest)?;
    let name = reference.whole();
    // First: nobody finds an image before it is known who may.
    let is_same = blobs.get_ref(&manifest_name(&name))? == Some(manifest);
    keep_readers(blobs, reference, pulled_by, is_same)?;
    // Last, when all that belongs to it is here: until then the name stands for nothing.
    if !is_same {
        blobs.remove_ref(&name)?;
    }
    match &pulled.configuration {
        Some(configuration) => blobs.set_ref(&config_name(&name), &put(configuration)?)?,
        None => blobs.remove_ref(&config_name(&name)).map(drop)?,
    }
    blobs.set_ref(&manifest_name(&name), &manifest)?;
    blobs.set_ref(&name, &digest)?;
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let (path, config) = (blobs.path(&digest).ok_or_else(missing)?, config(blobs, &manifest)?.ok_or_else(missing)?);
    Ok(image(reference, digest, path, &pulled.manifest_digest, config))
}

/// Who may use an image that is here without asking its registry; `None`: everybody. Blocks.
pub(super) fn readers(blobs: &BlobStore, reference: &Reference) -> io::Result<Option<Readers>> {
    let Some(digest) = blobs.get_ref(&readers_name(&reference.whole()))? else { return Ok(None) };
    // A list that is lost names nobody.
    Ok(Some(Readers::parse(&blobs.get(&digest)?.unwrap_or_default())))
}

/// Takes down who has just been given an image by its registry. Of one that is the same as before, those who may use it
/// still may.
fn keep_readers(blobs: &BlobStore, reference: &Reference, pulled_by: Option<Readers>, is_same: bool) -> io::Result<()> {
    let before = if is_same { Some(readers(blobs, reference)?) } else { None };
    let name = readers_name(&reference.whole());
    match (before, pulled_by) {
        // Everybody may, or has just been seen to.
        (Some(None), _) | (_, None) => blobs.remove_ref(&name).map(drop),
        (before, Some(mut now)) => {
            if let Some(before) = before.flatten() {
                now.join(before);
            }
            blobs.set_ref(&name, &blobs.put(now.text().as_bytes(), None).map_err(io_error)?)
        }
    }
}

/// The layers of an image that was pulled whole, the lowest first, if it was. Blocks.
pub(super) fn find_layers(blobs: &BlobStore, reference: &Reference) -> Result<Option<(Digest, Vec<Layer>)>, Error> {
    let Some(digest) = blobs.get_ref(&volume_name(&reference.whole()))? else { return Ok(None) };
    let Some(manifest) = blobs.get(&digest)? else { return Ok(None) };
    let mut layers = Vec::new();
    let descriptors = descriptors(&manifest)?;
    for (number, descriptor) in descriptors.iter().enumerate() {
        let Some(content) = layer_digest(descriptor).map(|digest| blobs.file(&digest)).transpose()?.flatten() else {
            return Ok(None);
        };
        let (which, descriptor) = (layer::which(&descriptors, number), descriptor.clone());
        // It was held to its config before it was kept.
        layers.push(Layer { which, descriptor, content, diff_id: None });
    }
    Ok(Some((digest, layers)))
}

/// Keeps an image that was pulled whole, in place of what had its name. Blocks.
pub(super) fn keep_layers(
    blobs: &BlobStore,
    reference: &Reference,
    manifest: &[u8],
    layers: &[Layer],
    pulled_by: Option<Readers>,
) -> Result<Digest, Error> {
    let name = reference.whole();
    let digest = blobs.put(manifest, None).map_err(io_error)?;
    let before = blobs.get_ref(&volume_name(&name))?;
    keep_readers(blobs, reference, pulled_by, before == Some(digest))?;
    if before.is_some_and(|before| before != digest) {
        remove_volume(blobs, &name)?;
    }
    for layer in layers {
        let digest: Digest = layer.descriptor.digest.parse().map_err(io::Error::other)?;
        if !blobs.renew(&digest)? {
            blobs.put(layer.sent()?, Some(&digest)).map_err(io_error)?;
        }
        blobs.set_ref(&layer_name(&digest, &name), &digest)?;
    }
    // Last: an image with this name has all of its layers.
    blobs.set_ref(&volume_name(&name), &digest)?;
    Ok(digest)
}

fn remove_volume(blobs: &BlobStore, name: &str) -> io::Result<()> {
    let Some(digest) = blobs.get_ref(&volume_name(name))? else { return Ok(()) };
    blobs.remove_ref(&volume_name(name))?;
    let manifest = blobs.get(&digest)?.unwrap_or_default();
    for digest in descriptors(&manifest).unwrap_or_default().iter().filter_map(layer_digest) {
        blobs.remove_ref(&layer_name(&digest, name))?;
    }
    Ok(())
}

fn descriptors(manifest: &[u8]) -> io::Result<Vec<OciDescriptor>> {
    let manifest: OciImageManifest = serde_json::from_slice(manifest).map_err(io::Error::other)?;
    Ok(manifest.layers)
}

fn layer_digest(descriptor: &OciDescriptor) -> Option<Digest> {
    descriptor.digest.parse().ok()
}

/// A component, or an image that was pulled whole, with all the names that stand for it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub names: Vec<String>,
    pub size_bytes: u64,
    /// One of the names was loaded by hand: nobody could bring it back.
    pub loaded: bool,
}

/// Everything that is an image.
pub(super) fn all(blobs: &BlobStore) -> io::Result<BTreeMap<Digest, Stored>> {
    let refs = blobs.refs()?;
    let pulled: HashSet<&str> = refs.iter().filter_map(|(name, _)| name.strip_prefix(MANIFEST)).collect();
    let mut images: BTreeMap<Digest, Stored> = BTreeMap::new();
    for (name, digest) in &refs {
        if [MANIFEST, CONFIG, READERS, LAYER].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let Some(path) = blobs.path(digest) else { continue };
        let image = images.entry(*digest).or_default();
        match name.strip_prefix(VOLUME) {
            Some(volume) => {
                // One that is damaged hides no other, and can be removed like any.
                let manifest = std::fs::read(path).unwrap_or_default();
                let layers = descriptors(&manifest).unwrap_or_default();
                image.size_bytes = layers.iter().filter_map(|layer| u64::try_from(layer.size).ok()).sum();
                image.names.push(volume.to_owned());
            }
            None => {
                image.size_bytes = path.metadata()?.len();
                image.names.push(name.clone());
                image.loaded |= !pulled.contains(name.as_str());
            }
        }
    }
    Ok(images)
}

/// All images as a node shows them, the largest first.
pub(super) fn list(blobs: &BlobStore) -> Vec<ContainerImage> {
    let images = all(blobs).unwrap_or_else(|error| {
        tracing::warn!(%error, "the images on this node could not be listed");
        BTreeMap::new()
    });
    let mut images: Vec<ContainerImage> = images
        .into_values()
        .map(|image| ContainerImage { size_bytes: i64::try_from(image.size_bytes).ok(), names: Some(image.names) })
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images
}

/// Forgets an image's name; its content goes when it has no other.
pub(super) fn remove(blobs: &BlobStore, name: &str) -> io::Result<()> {
    remove_volume(blobs, name)?;
    blobs.remove_ref(name)?;
    remove_beside(blobs, name)
}

/// Removes what is known of an image beside its component.
fn remove_beside(blobs: &BlobStore, name: &str) -> io::Result<()> {
    [config_name(name), readers_name(name), manifest_name(name)]
        .iter()
        .try_for_each(|name| blobs.remove_ref(name).map(drop))
}

fn image(reference: &Reference, digest: Digest, path: PathBuf, known_by: &str, config: Config) -> Image {
    let id = format!("{}/{}@{known_by}", reference.registry(), reference.repository());
    Image { artifact: Artifact { digest: digest.to_string(), path }, id, config }
}

fn manifest_name(name: &str) -> String {
    format!("{MANIFEST}{name}")
}

fn readers_name(name: &str) -> String {
    format!("{READERS}{name}")
}

fn config_name(name: &str) -> String {
    format!("{CONFIG}{name}")
}

fn volume_name(name: &str) -> String {
    format!("{VOLUME}{name}")
}

fn layer_name(digest: &Digest, name: &str) -> String {
    format!("{LAYER}{digest} of {name}")
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
    use oci_client::secrets::RegistryAuth;

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
    fn a_component_is_one_image_whatever_its_names() {
        let root = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(root.path()).unwrap();
        let (manifest_digest, component) = (String::new(), b"\0asm".to_vec());
        let pulled = Pulled { manifest: "{}".into(), manifest_digest, configuration: None, component };
        for name in ["registry.test/a:1", "registry.test/a:2"] {
            keep(&blobs, &name.parse().unwrap(), &pulled, None).unwrap();
        }
        let digest = Digest::of(b"\0asm");
        let names = vec!["registry.test/a:1".to_owned(), "registry.test/a:2".to_owned()];
        let expected = |names, loaded| BTreeMap::from([(digest, Stored { names, size_bytes: 4, loaded })]);
        assert_eq!(all(&blobs).unwrap(), expected(names, false));
        remove(&blobs, "registry.test/a:1").unwrap();
        blobs.set_ref("localhost/b:latest", &digest).unwrap();
        let names = vec!["localhost/b:latest".to_owned(), "registry.test/a:2".to_owned()];
        assert_eq!(all(&blobs).unwrap(), expected(names, true));
    }

    #[test]
    fn an_image_is_for_those_who_have_pulled_it() {
        let root = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(root.path()).unwrap();
        let reference: Reference = "registry.test/private:1".parse().unwrap();
        let key = |user: &str| RegistryAuth::Basic(user.to_owned(), "p".to_owned());
        let pulled = |version: &'static str, by: RegistryAuth| {
            let (manifest_digest, component) = (String::new(), b"\0asm".to_vec());
            let pulled = Pulled { manifest: version.into(), manifest_digest, configuration: None, component };
            keep(&blobs, &reference, &pulled, Readers::with(&by)).unwrap();
            let readers = readers(&blobs, &reference).unwrap();
            ["a", "b"].map(|user| readers.as_ref().is_none_or(|readers| readers.include(&[key(user)])))
        };
        assert_eq!(pulled("1", key("a")), [true, false]);
        assert_eq!(pulled("1", key("b")), [true, true]);
        assert_eq!(pulled("2", key("b")), [false, true], "another image");
        assert_eq!(pulled("2", RegistryAuth::Anonymous), [true, true]);
        assert_eq!(pulled("2", key("b")), [true, true], "it is public");
        assert_eq!(pulled("3", key("b")), [false, true]);
        remove(&blobs, &reference.whole()).unwrap();
        assert_eq!(blobs.refs().unwrap(), []);
    }

    #[test]
    fn an_image_that_was_pulled_whole_is_one_image_until_it_goes_with_its_layers() {
        let root = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(root.path()).unwrap();
        let reference: Reference = "registry.test/files:1".parse().unwrap();
        let whole = |contents: &[&str]| {
            let layer = |content: &&str| {
                let mut layer = Layer::only("", content.as_bytes()).unwrap();
                layer.descriptor.size = content.len() as i64;
                layer
            };
            let layers: Vec<Layer> = contents.iter().map(layer).collect();
            let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
            let manifest = OciImageManifest { layers: descriptors, ..Default::default() };
            keep_layers(&blobs, &reference, &serde_json::to_vec(&manifest).unwrap(), &layers, None).unwrap()
        };
        let found = || {
            let (digest, layers) = find_layers(&blobs, &reference).unwrap()?;
            let contents = layers.iter().map(|layer| io::read_to_string(layer.sent().unwrap()).unwrap());
            Some((digest, contents.collect::<Vec<_>>()))
        };
        assert_eq!(found(), None);
        let first = whole(&["one", "two"]);
        assert_eq!(found(), Some((first, vec!["one".to_owned(), "two".to_owned()])));
        let second = whole(&["two", "three"]);
        assert_eq!(found(), Some((second, vec!["two".to_owned(), "three".to_owned()])));
        let names = vec!["registry.test/files:1".to_owned()];
        assert_eq!(all(&blobs).unwrap(), BTreeMap::from([(second, Stored { names, size_bytes: 8, loaded: false })]));
        remove(&blobs, "registry.test/files:1").unwrap();
        assert_eq!(found(), None);
        assert_eq!(blobs.refs().unwrap(), []);
    }

    #[test]
    fn a_damaged_image_hides_no_other_and_can_be_removed() {
        let root = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(root.path()).unwrap();
        let put = |name: &str, content: &str| {
            let digest = blobs.put(content.as_bytes(), None).unwrap();
            blobs.set_ref(name, &digest).unwrap();
            digest
        };
        let damaged = put(&volume_name("registry.test/files:1"), "{");
        let whole = put("localhost/hello:latest", "\0asm");
        let stored = |name: &str, size_bytes, loaded| Stored { names: vec![name.to_owned()], size_bytes, loaded };
        let whole = (whole, stored("localhost/hello:latest", 4, true));
        let both = BTreeMap::from([(damaged, stored("registry.test/files:1", 0, false)), whole]);
        assert_eq!(all(&blobs).unwrap(), both);
        remove(&blobs, "registry.test/files:1").unwrap();
        assert_eq!(blobs.refs().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_wasm_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let images = LocalImages::open(root.path()).unwrap();
        let file = root.path().join("x");
        std::fs::write(&file, b"#!").unwrap();
        assert!(matches!(images.load(&file, "localhost/x"), Err(LoadError::NotWasm { .. })));
        assert!(matches!(images.load(&file, "NOT A NAME"), Err(LoadError::InvalidName(_))));
        let of_other_content = format!("localhost/x:latest@sha256:{}", "0".repeat(64));
        assert!(matches!(images.load(&file, &of_other_content), Err(LoadError::ByDigest(_))));
    }
}
