//! Content-addressed files: image layers and compiled components, found by the SHA-256 of what they contain.
//!
//! ```text
//!   blobs/sha256/<hex>    written under another name, checked, renamed; never changed afterwards, so it may be mapped
//!   refs/<hex of name>    what a name, such as an image's, stands for; replaced atomically
//!   unfinished/           what is being written; also files without a name, which no directory shows
//! ```
//!
//! Several processes may use one folder. All calls block. The folder and everything in it belong to the node's user alone:
//! who can write here decides what code runs.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

const COPY_BUFFER_BYTES: usize = 128 * 1024;

/// The SHA-256 of a blob, written `sha256:<64 hexadecimal digits>` (OCI image specification, descriptor digests).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Takes the digest of content that comes piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a digest of a kind that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest of the form sha256:<64 lower-case hexadecimal digits>")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let parse = || {
            let hex = text.strip_prefix("sha256:")?.as_bytes();
            let digit = |byte: &u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            let mut digest = [0; 32];
            if hex.len() != 2 * digest.len() {
                return None;
            }
            for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
                *byte = digit(&pair[0])? << 4 | digit(&pair[1])?;
            }
            Some(Self(digest))
        };
        parse().ok_or_else(|| InvalidDigest(text.to_owned()))
    }
}

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The content is not what it was said to be. Nothing was stored.
    #[error("the content has digest {found}, not {expected}")]
    Mismatch { expected: Digest, found: Digest },
    /// The disk failed, or is full.
    #[error("cannot store the blob")]
    Io(#[from] io::Error),
}

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct BlobStore {
    blobs: PathBuf,
    refs: PathBuf,
    unfinished: PathBuf,
}

impl BlobStore {
    /// Opens the store in `folder`, and makes it if it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let store = Self {
            blobs: folder.join("blobs").join("sha256"),
            refs: folder.join("refs"),
            unfinished: folder.join("unfinished"),
        };
        for folder in [&store.blobs, &store.refs, &store.unfinished] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        store.remove_unfinished()?;
        Ok(store)
    }

    /// Where the blobs lie, for who measures the disk.
    pub fn folder(&self) -> &Path {
        &self.blobs
    }

    /// Begins a blob whose content comes piece by piece.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        let file = self.unfinished()?;
        Ok(BlobWriter { store: self.clone(), file, hasher: Hasher::default() })
    }

    /// A file for what is not known to become a blob. It has no name: it is gone with whoever holds it, however that ends.
    pub fn nameless(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.unfinished)
    }

    /// Stores all that `content` yields. With `expected` given, only if that is its digest. Errors: [`PutError`].
    pub fn put(&self, mut content: impl Read, expected: Option<&Digest>) -> Result<Digest, PutError> {
        let mut writer = self.writer()?;
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return writer.finish(expected),
                Ok(read) => writer.write_all(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where the blob lies, if it is here. The file never changes; it is there until the blob is removed.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.blobs.join(digest.hex());
        path.exists().then_some(path)
    }

    /// The blob's content; `None` when it is not here.
    pub fn get(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        found(fs::read(self.blobs.join(digest.hex()))).map(|content| content.map(Bytes::from))
    }

    /// The blob's content, to be read piece by piece; `None` when it is not here.
    pub fn file(&self, digest: &Digest) -> io::Result<Option<File>> {
        found(File::open(self.blobs.join(digest.hex())))
    }

    /// Whether the blob is here. It counts as put now, for [`remove_unreferenced`](Self::remove_unreferenced).
    pub fn renew(&self, digest: &Digest) -> io::Result<bool> {
        match found(File::options().write(true).open(self.blobs.join(digest.hex())))? {
            Some(blob) => blob.set_modified(SystemTime::now()).map(|()| true),
            None => Ok(false),
        }
    }

    /// Every blob, in the order of digests.
    pub fn list(&self) -> io::Result<Vec<Digest>> {
        let names = fs::read_dir(&self.blobs)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        let mut digests: Vec<Digest> = names.iter().filter_map(|name| blob_digest(name.to_str()?)).collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// Lets `name` stand for a blob, in place of what it stood for. Errors: `NotFound` when the blob is not here.
    pub fn set_ref(&self, name: &str, digest: &Digest) -> io::Result<()> {
        if self.path(digest).is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no blob {digest}")));
        }
        let mut file = self.unfinished()?;
        write!(file, "{digest}\n{name}")?;
        file.as_file().sync_all()?;
        file.persist(self.ref_path(name))?;
        sync_folder(&self.refs)
    }

    /// What `name` stands for.
    pub fn get_ref(&self, name: &str) -> io::Result<Option<Digest>> {
        match found(fs::read_to_string(self.ref_path(name)))? {
            Some(content) => Ok(Some(parse_ref(&content)?.1)),
            None => Ok(None),
        }
    }

    /// Forgets a name; returns whether it was known.
    pub fn remove_ref(&self, name: &str) -> io::Result<bool> {
        let removed = found(fs::remove_file(self.ref_path(name)))?.is_some();
        sync_folder(&self.refs)?;
        Ok(removed)
    }

    /// Every name with what it stands for, in the order of names.
    pub fn refs(&self) -> io::Result<Vec<(String, Digest)>> {
        let mut refs = Vec::new();
        for entry in fs::read_dir(&self.refs)? {
            // One that was removed meanwhile is none.
            if let Some(content) = found(fs::read_to_string(entry?.path()))? {
                refs.push(parse_ref(&content)?);
            }
        }
        refs.sort_unstable();
        Ok(refs)
    }

    /// Removes blobs that no name stands for and that nobody has put for at least `unused_for`: what was just put may be
    /// about to get its name. Returns what was removed.
    pub fn remove_unreferenced(&self, unused_for: Duration) -> io::Result<Vec<Digest>> {
        let kept: HashSet<Digest> = self.refs()?.into_iter().map(|(_, digest)| digest).collect();
        let mut removed = Vec::new();
        remove_old(&self.blobs, unused_for, |name| match blob_digest(name) {
            Some(digest) if !kept.contains(&digest) => {
                removed.push(digest);
                true
            }
            _ => false,
        })?;
        Ok(removed)
    }

    /// A file in the making. It is locked for as long as there is somebody who makes it.
    fn unfinished(&self) -> io::Result<NamedTempFile> {
        loop {
            let file = NamedTempFile::new_in(&self.unfinished)?;
            file.as_file().lock()?;
            // Before it was locked it may have been taken for one that nobody makes.
            if file.path().exists() {
                return Ok(file);
            }
        }
    }

    /// Removes what processes have left that died. What cannot be looked at, such as another user's, stays.
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.unfinished)? {
            let entry = entry?;
            // Nobody waits for a pipe.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let path = entry.path();
            if File::options().write(true).open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    // Names may be longer than file names, and contain what those may not.
    fn ref_path(&self, name: &str) -> PathBuf {
        self.refs.join(Digest::of(name.as_bytes()).hex())
    }
}

/// A blob in the making. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    file: NamedTempFile,
    hasher: Hasher,
}

impl BlobWriter {
    /// Stores what was written. With `expected` given, only if that is its digest. Errors: [`PutError`].
    pub fn finish(self, expected: Option<&Digest>) -> Result<Digest, PutError> {
        let found = self.hasher.digest();
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(PutError::Mismatch { expected: *expected, found });
        }
        if self.store.renew(&found)? {
            return Ok(found);
        }
        self.file.as_file().sync_all()?;
        self.file.persist(self.store.blobs.join(found.hex())).map_err(io::Error::from)?;
        sync_folder(&self.store.blobs)?;
        Ok(found)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.file.write(content)?;
        self.hasher.update(&content[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn blob_digest(file_name: &str) -> Option<Digest> {
    format!("sha256:{file_name}").parse().ok()
}

fn parse_ref(content: &str) -> io::Result<(String, Digest)> {
    let parse = || {
        let (digest, name) = content.split_once('\n')?;
        Some((name.to_owned(), digest.parse().ok()?))
    };
    parse().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a named reference is damaged"))
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the chosen files among those that have not been touched for some time.
fn remove_old(folder: &Path, untouched_for: Duration, mut choose: impl FnMut(&str) -> bool) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(metadata) = found(entry.metadata())? else { continue };
        let untouched = now.duration_since(metadata.modified()?).unwrap_or_default();
        if untouched >= untouched_for && entry.file_name().to_str().is_some_and(&mut choose) {
            found(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (BlobStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (BlobStore::open(folder.path()).unwrap(), folder)
    }

    fn unfinished(store: &BlobStore) -> usize {
        fs::read_dir(&store.unfinished).unwrap().count()
    }

    #[test]
    fn digests_are_written_as_the_oci_specification_writes_them() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for wrong in [
            "",
            "sha256:",
            &text[7..],
            &text[..70],
            &text.to_uppercase(),
            &text.replace("sha256", "md5"),
            &format!("{text}0"),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_put_is_there_once() {
        let (store, folder) = store();
        let digest = store.put(&b"content"[..], None).unwrap();
        assert_eq!(digest, Digest::of(b"content"));
        let path = store.path(&digest).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        assert_eq!(store.put(&b"content"[..], Some(&digest)).unwrap(), digest);
        assert_eq!(inode(&path), before, "a blob is never replaced");
        assert_eq!(store.get(&digest).unwrap().unwrap(), "content");
        assert_eq!(io::read_to_string(store.file(&digest).unwrap().unwrap()).unwrap(), "content");
        assert!(store.renew(&digest).unwrap() && !store.renew(&Digest::of(b"other")).unwrap());
        assert_eq!(BlobStore::open(folder.path()).unwrap().list().unwrap(), [digest]);
        assert_eq!((store.path(&Digest::of(b"other")), store.get(&Digest::of(b"other")).unwrap()), (None, None));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(unfinished(&store), 0);
    }

    #[test]
    fn content_that_is_not_what_it_should_be_is_not_stored() {
        let (store, _folder) = store();
        let expected = Digest::of(b"right");
        let found = Digest::of(b"wrong");
        let Err(PutError::Mismatch { expected: e, found: f }) = store.put(&b"wrong"[..], Some(&expected)) else {
            panic!("stored");
        };
        assert_eq!((e, f), (expected, found));
        let mut dropped = store.writer().unwrap();
        dropped.write_all(b"half of it").unwrap();
        drop(dropped);
        assert_eq!((store.list().unwrap(), unfinished(&store)), (vec![], 0));
    }

    #[test]
    fn what_a_process_left_that_died_goes_when_the_next_one_begins() {
        let (store, folder) = store();
        let mut under_way = store.writer().unwrap();
        under_way.write_all(b"content").unwrap();
        fs::write(store.unfinished.join(".tmpleft"), b"half of it").unwrap();
        BlobStore::open(folder.path()).unwrap();
        assert_eq!(unfinished(&store), 1, "what another makes is let be");
        assert_eq!(under_way.finish(None).unwrap(), Digest::of(b"content"));
        assert_eq!((unfinished(&store), store.list().unwrap().len()), (0, 1));
    }

    /// So that nothing is left of it even by a process that is killed.
    #[test]
    fn a_nameless_file_is_seen_by_its_holder_alone() {
        let (store, _folder) = store();
        let mut file = store.nameless().unwrap();
        file.write_all(b"content").unwrap();
        assert_eq!((file.metadata().unwrap().len(), unfinished(&store)), (7, 0));
    }

    #[test]
    fn names_stand_for_one_blob_at_a_time() {
        let (store, _folder) = store();
        let (a, b) = (store.put(&b"a"[..], None).unwrap(), store.put(&b"b"[..], None).unwrap());
        let long = format!("registry.example/{}:latest", "x".repeat(400));
        store.set_ref("localhost/hello:latest", &a).unwrap();
        store.set_ref(&long, &a).unwrap();
        store.set_ref("localhost/hello:latest", &b).unwrap();
        assert_eq!(store.get_ref("localhost/hello:latest").unwrap(), Some(b));
        assert_eq!(store.refs().unwrap(), [("localhost/hello:latest".to_owned(), b), (long.clone(), a)]);
        assert!(store.remove_ref(&long).unwrap());
        assert!(!store.remove_ref(&long).unwrap());
        assert_eq!(store.get_ref(&long).unwrap(), None);
        assert_eq!(store.set_ref("dangling", &Digest::of(b"c")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_old_blobs_without_a_name_are_removed() {
        let (store, _folder) = store();
        let named = store.put(&b"named"[..], None).unwrap();
        let unnamed = store.put(&b"unnamed"[..], None).unwrap();
        store.set_ref("name", &named).unwrap();
        assert_eq!(store.remove_unreferenced(Duration::from_secs(3600)).unwrap(), []);
        assert_eq!(store.remove_unreferenced(Duration::ZERO).unwrap(), [unnamed]);
        assert_eq!(store.list().unwrap(), [named]);
        // One that was old and has been put again is new.
        let again = store.put(&b"unnamed"[..], None).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        File::options().write(true).open(store.path(&again).unwrap()).unwrap().set_modified(long_ago).unwrap();
        store.put(&b"unnamed"[..], None).unwrap();
        assert_eq!(store.remove_unreferenced(Duration::from_secs(3600)).unwrap(), []);
    }
}
