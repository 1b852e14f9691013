//! One layer of an image as it was sent, and what it unpacks to.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use k8w_storage::blob::Digest;
use k8w_storage::metered::{Meter, Metered};
use oci_client::manifest::OciDescriptor;
use sha2::{Digest as _, Sha256};

/// Names a file that is no archive.
const TITLE: &str = "org.opencontainers.image.title";
/// What all layers of an image may unpack to, in bytes: a few kilobytes can unpack to terabytes.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub struct Layer {
    pub descriptor: OciDescriptor,
    pub bytes: Bytes,
}

/// What is left for the layers of one image, each of which takes from it what is read of it.
pub fn meter(max_bytes: u64) -> Meter {
    Meter::new(max_bytes, "its layers unpack to more than is allowed")
}

impl Layer {
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Layer {
        let (media_type, bytes) = (media_type.to_owned(), bytes.into());
        let digest = Digest::of(&bytes).to_string();
        Layer { descriptor: OciDescriptor { media_type, digest, ..OciDescriptor::default() }, bytes }
    }

    /// A tar archive; any other layer is one file.
    pub fn is_archive(&self) -> bool {
        self.descriptor.media_type.contains(".tar")
    }

    /// Reads what it unpacks to, as far as the meter allows.
    ///
    /// # Errors
    /// When it is compressed in a way that is not supported.
    pub fn open<'l>(&'l self, meter: &'l Meter) -> io::Result<Metered<'l, Box<dyn Read + 'l>>> {
        let bytes = self.bytes.as_ref();
        if self.descriptor.media_type.ends_with("zstd") {
            return Err(refused("a layer is compressed with zstd, which is not supported"));
        }
        let is_compressed = self.is_archive() && bytes.starts_with(&[0x1f, 0x8b]);
        Ok(meter.read(if is_compressed { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) }))
    }

    /// The digest of what it unpacks to, by which an image's config knows it.
    ///
    /// # Errors
    /// When it is broken, or unpacks to more than the meter allows.
    pub fn diff_id(&self, meter: &Meter) -> io::Result<String> {
        let mut hash = Sha256::new();
        io::copy(&mut self.open(meter)?, &mut hash)?;
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("sha256:{hex}"))
    }

    /// What one that is no archive is called: as it says, or by its digest.
    pub fn file_name(&self) -> PathBuf {
        let title = self.descriptor.annotations.as_ref().and_then(|annotations| annotations.get(TITLE));
        let digest = || self.descriptor.digest.split_once(':').map_or("layer", |(_, hex)| hex).into();
        title.and_then(|title| beneath(Path::new(title))).unwrap_or_else(digest)
    }
}

/// Holds layers, the lowest first, to what the image's config says that they unpack to. Blocks.
///
/// # Errors
/// With the layer that is another, or is broken.
pub fn verify(layers: &[Layer], diff_ids: &[String]) -> Result<(), String> {
    if layers.len() != diff_ids.len() {
        return Err(format!("it has {} layers, and its config names {}", layers.len(), diff_ids.len()));
    }
    let meter = meter(MAX_UNPACKED_BYTES);
    for (layer, expected) in layers.iter().zip(diff_ids) {
        let digest = &layer.descriptor.digest;
        let found = layer.diff_id(&meter).map_err(|error| format!("its layer {digest}: {error}"))?;
        if found != *expected {
            return Err(format!("its layer {digest} unpacks to {found}, and its config says {expected}"));
        }
    }
    Ok(())
}

/// A path of an archive as one beneath its root; `None` for the root itself and for one that leads outside.
pub fn beneath(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!plain.as_os_str().is_empty()).then_some(plain)
}

pub fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn layers_are_what_the_config_says() {
        let content = b"whatever is in it";
        let id = Digest::of(content).to_string();
        let packed = Layer::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip(content));
        let plain = Layer::new("application/vnd.oci.image.layer.v1.tar", &content[..]);
        // What is no archive is taken as it is.
        let file = Layer::new("application/gzip", gzip(content));
        let of_file = file.descriptor.digest.clone();
        let layers = [packed, plain, file];
        assert_eq!(verify(&layers, &[id.clone(), id.clone(), of_file.clone()]), Ok(()));
        let refused = verify(&layers, &[id.clone(), of_file.clone(), of_file.clone()]).unwrap_err();
        assert_eq!(refused, format!("its layer {id} unpacks to {id}, and its config says {of_file}"));
        assert_eq!(verify(&layers, &[id]).unwrap_err(), "it has 3 layers, and its config names 1");
    }

    #[test]
    fn a_small_layer_cannot_unpack_to_a_large_one() {
        let zeros = vec![0; 1 << 20];
        let packed = Layer::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&zeros));
        assert!(packed.bytes.len() < 10_000, "{}", packed.bytes.len());
        let meter = Meter::new(2 << 20, "too much");
        for _ in 0..2 {
            assert_eq!(packed.diff_id(&meter).unwrap(), Digest::of(&zeros).to_string());
        }
        assert_eq!(packed.diff_id(&meter).unwrap_err().to_string(), "too much");
    }
}
