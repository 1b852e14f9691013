//! One layer of an image as it was sent, and what it unpacks to.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, Write as _};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use k8w_storage::blob::{Digest, Hasher};
use k8w_storage::metered::{MAX_NAME_BYTES, Meter, Metered};
use oci_client::manifest::OciDescriptor;

/// Names a file that is no archive.
const TITLE: &str = "org.opencontainers.image.title";
/// What all layers of an image may unpack to, in bytes: a few kilobytes can unpack to terabytes.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;
/// Entries of all layers together.
pub const MAX_ENTRIES: usize = 200_000;

/// A layer, which waits on the disk: all of an image's may be larger than what memory there is.
#[derive(Debug)]
pub struct Layer {
    /// Which one of its image's it is, for errors.
    pub which: String,
    pub descriptor: OciDescriptor,
    /// As it was sent.
    pub content: File,
    /// The digest of what it unpacks to, where the image's config says that.
    pub diff_id: Option<String>,
}

/// What is left for the layers of one image, each of which takes from it what is read of it.
pub fn meter(max_bytes: u64) -> Meter {
    Meter::new(max_bytes, format!("with it the image unpacks to more than {}", size(max_bytes)))
}

/// Which one of an image's layers it is, for errors.
pub fn which(descriptors: &[OciDescriptor], number: usize) -> String {
    let digest = descriptors.get(number).map_or("", |descriptor| &descriptor.digest);
    format!("layer {} of {} ({digest})", number + 1, descriptors.len())
}

impl Layer {
    /// The only layer of an image, with what it holds.
    ///
    /// # Errors
    /// When there is no place for that.
    pub fn only(media_type: &str, content: &[u8]) -> io::Result<Layer> {
        let mut file = tempfile::tempfile()?;
        file.write_all(content)?;
        let (media_type, digest) = (media_type.to_owned(), Digest::of(content).to_string());
        let descriptor = OciDescriptor { media_type, digest, ..OciDescriptor::default() };
        let which = which(std::slice::from_ref(&descriptor), 0);
        Ok(Layer { which, descriptor, content: file, diff_id: None })
    }

    /// A tar archive; any other layer is one file.
    pub fn is_archive(&self) -> bool {
        self.descriptor.media_type.contains(".tar")
    }

    /// How much was sent.
    ///
    /// # Errors
    /// The file system's.
    pub fn sent_bytes(&self) -> io::Result<u64> {
        Ok(self.content.metadata()?.len())
    }

    /// What was sent, from its begin. One at a time reads it.
    ///
    /// # Errors
    /// The file system's.
    pub fn sent(&self) -> io::Result<&File> {
        (&self.content).rewind()?;
        Ok(&self.content)
    }

    /// Shows what it unpacks to, as far as the meter allows, and holds all of that to the image's config.
    ///
    /// # Errors
    /// When it is compressed in a way that is not supported, is broken, unpacks to more than the meter allows or to something
    /// else than the config says, or whoever is shown it has an error. The error says which layer it is.
    pub fn see<T>(&self, meter: &Meter, see: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> io::Result<T> {
        self.blamed(self.open(meter).and_then(|mut content| {
            let Some(expected) = &self.diff_id else { return see(&mut content) };
            let mut content = Hashed { content, hasher: Hasher::default() };
            let seen = see(&mut content)?;
            io::copy(&mut content, &mut io::sink())?;
            match content.hasher.digest().to_string() {
                found if found == *expected => Ok(seen),
                found => Err(refused(format!("it unpacks to {found}, and the image's config says {expected}"))),
            }
        }))
    }

    /// Shows the begin of what it unpacks to, as [`see`](Self::see) does; the rest is left unread.
    ///
    /// # Errors
    /// As there.
    pub fn glance<T>(&self, meter: &Meter, see: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> io::Result<T> {
        self.blamed(self.open(meter).and_then(|mut content| see(&mut content)))
    }

    fn open<'l>(&'l self, meter: &'l Meter) -> io::Result<Metered<'l, Box<dyn Read + 'l>>> {
        if self.descriptor.media_type.ends_with("zstd") {
            return Err(refused("it is compressed with zstd, which is not supported"));
        }
        let mut content = BufReader::new(self.sent()?);
        let is_compressed = self.is_archive() && content.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        Ok(meter.read(if is_compressed { Box::new(MultiGzDecoder::new(content)) } else { Box::new(content) }))
    }

    fn blamed<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| io::Error::new(error.kind(), format!("its {}: {error}", self.which)))
    }

    /// What one that is no archive is called: as it says, or by its digest.
    pub fn file_name(&self) -> PathBuf {
        let title = self.descriptor.annotations.as_ref().and_then(|annotations| annotations.get(TITLE));
        let digest = || self.descriptor.digest.split_once(':').map_or("layer", |(_, hex)| hex).into();
        title.and_then(|title| beneath(Path::new(title))).unwrap_or_else(digest)
    }
}

/// Takes the digest of what is read.
struct Hashed<R> {
    content: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
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

/// How much a bound allows, as the documentation has it.
pub fn size(bytes: u64) -> String {
    match bytes.max(1).trailing_zeros() {
        30.. => format!("{} GiB", bytes >> 30),
        20.. => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

pub fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

pub fn too_many_entries() -> io::Error {
    refused(format!("with it the image has more than {MAX_ENTRIES} files, directories and links"))
}

pub fn too_long_a_name(length: usize) -> io::Error {
    refused(format!("a name or a link in it has {length} bytes, and {MAX_NAME_BYTES} is the most"))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::image::unpack::tests::{TAR, layer};

    const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn layers_are_what_the_config_says() {
        let content = b"whatever is in it";
        let (id, packed) = (Digest::of(content).to_string(), gzip(content));
        let of_packed = Digest::of(&packed).to_string();
        for (media_type, sent, diff_id, expected) in [
            (TAR_GZIP, &packed[..], &id, Ok(())),
            (TAR, content, &id, Ok(())),
            // What is no archive is taken as it is.
            ("application/gzip", &packed, &of_packed, Ok(())),
            (TAR, content, &of_packed, Err(&id)),
            ("application/gzip", &packed, &id, Err(&of_packed)),
        ] {
            let layer = Layer { diff_id: Some(diff_id.clone()), ..layer(media_type, None, sent) };
            let expected = expected.map_err(|found| {
                let why = format!("it unpacks to {found}, and the image's config says {diff_id}");
                format!("its layer 2 of 3: {why}")
            });
            // However much of it anybody looks at.
            for length in [0, 1, content.len()] {
                let seen =
                    layer.see(&meter(1 << 20), |content| content.take(length as u64).read_to_end(&mut Vec::new()));
                assert_eq!(seen.map(drop).map_err(|error| error.to_string()), expected, "{media_type} {length}");
            }
        }
    }

    #[test]
    fn a_small_layer_cannot_unpack_to_a_large_one() {
        let zeros = vec![0; 1 << 20];
        let packed = Layer { diff_id: Some(Digest::of(&zeros).to_string()), ..layer(TAR_GZIP, None, &gzip(&zeros)) };
        assert!(packed.sent_bytes().unwrap() < 10_000);
        let meter = meter(2 << 20);
        let see = || packed.see(&meter, |_| Ok(())).map_err(|error| error.to_string());
        assert_eq!((see(), see()), (Ok(()), Ok(())));
        let told = "its layer 2 of 3: with it the image unpacks to more than 2 MiB";
        assert_eq!(see(), Err(told.to_owned()));
    }

    #[test]
    fn bounds_are_shown_as_the_documentation_has_them() {
        assert_eq!([0, 5, 1 << 20, 3 << 20, 1 << 30].map(size), ["0 bytes", "5 bytes", "1 MiB", "3 MiB", "1 GiB"]);
        assert_eq!(size((1 << 30) + 1), "1073741825 bytes");
    }
}
