//! The log's files: frames of entries, each written whole or, where a crash cut it, recognised and dropped.
//!
//! ```text
//!   frame  length u32 | crc32 u32 | payload      the checksum covers file number, position and payload
//!   payload   entry, entry, …                    zeros behind the last frame: space laid out ahead
//! ```
//!
//! All integers are little-endian. Space is laid out ahead because overwriting blocks that exist spares the file system a
//! commit of its own in every `fdatasync`, about a third of its time on ext4. The checksum is bound to the frame's place, so
//! that neither a value that looks like a frame nor a leftover of an earlier write can pass for one.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};

use super::super::Revision;
use super::super::mvcc::{Record, Version};

/// Space laid out ahead at a time.
const AHEAD_BYTES: u64 = 256 * 1024;
/// A frame is closed once its payload reaches this size.
const FRAME_BYTES: usize = 1024 * 1024;
/// No frame is larger: a frame is closed before the transaction that follows, and no transaction has this size.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;
const FRAME_HEADER_BYTES: usize = 8;

/// One thing that the log knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Change(Record),
    /// History below this revision is gone.
    Compacted(Revision),
    /// The last entry of a snapshot, with the number of changes in it.
    End(u64),
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where the last whole frame ends.
    pub end: u64,
    /// Whether something stands behind it that is not a frame.
    pub torn: bool,
}

const DELETE: u8 = 0;
const PUT: u8 = 1;
const COMPACTED: u8 = 2;
const END: u8 = 3;

fn encode(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::Change(record) => encode_change(record, out),
        Entry::Compacted(revision) => {
            out.put_u8(COMPACTED);
            out.put_u64_le(*revision);
        }
        Entry::End(changes) => {
            out.put_u8(END);
            out.put_u64_le(*changes);
        }
    }
}

fn encode_change(Record { key, version }: &Record, out: &mut Vec<u8>) {
    out.put_u8(if version.value.is_some() { PUT } else { DELETE });
    out.put_u64_le(version.mod_revision);
    out.put_u32_le(version.position);
    out.put_u64_le(version.create_revision);
    out.put_u64_le(version.expires_at_ms.unwrap_or(0));
    out.put_u32_le(key.len() as u32);
    out.put_slice(key);
    if let Some(value) = &version.value {
        out.put_u32_le(value.len() as u32);
        out.put_slice(value);
    }
}

fn decode(from: &mut &[u8]) -> Result<Entry, bytes::TryGetError> {
    let op = from.try_get_u8()?;
    let number = from.try_get_u64_le()?;
    match op {
        COMPACTED => return Ok(Entry::Compacted(number)),
        END => return Ok(Entry::End(number)),
        _ => {}
    }
    let position = from.try_get_u32_le()?;
    let create_revision = from.try_get_u64_le()?;
    let expires_at_ms = Some(from.try_get_u64_le()?).filter(|at| *at != 0);
    let key = decode_bytes(from)?;
    let value = if op == PUT { Some(decode_bytes(from)?) } else { None };
    let version = Version { mod_revision: number, position, create_revision, value, expires_at_ms };
    Ok(Entry::Change(Record { key, version }))
}

fn decode_bytes(from: &mut &[u8]) -> Result<Bytes, bytes::TryGetError> {
    let length = from.try_get_u32_le()? as usize;
    if length > from.len() {
        return Err(bytes::TryGetError { requested: length, available: from.len() });
    }
    let bytes = Bytes::copy_from_slice(&from[..length]);
    from.advance(length);
    Ok(bytes)
}

fn checksum(file: u64, position: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// A file that frames are appended to.
pub(super) struct LogFile {
    file: File,
    number: u64,
    /// Where the next frame goes.
    end: u64,
    /// Up to here the file has blocks.
    laid_out: u64,
    /// Frames on their way to the file; kept for its capacity.
    buffer: Vec<u8>,
    /// Where the frame begins that is being filled.
    frame: usize,
}

impl LogFile {
    /// A new file. Errors: `AlreadyExists`.
    pub fn create(path: &Path, number: u64) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        Ok(Self::at(file, number, 0))
    }

    /// Goes on behind the last whole frame; what a crash left behind it is cut off.
    pub fn resume(path: &Path, number: u64, tail: Tail) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        file.set_len(tail.end)?;
        file.sync_all()?;
        Ok(Self::at(file, number, tail.end))
    }

    fn at(file: File, number: u64, end: u64) -> Self {
        Self { file, number, end, laid_out: end, buffer: Vec::new(), frame: 0 }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in frames.
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    /// Adds an entry to the frame being filled. A frame is applied whole or not at all, so what must stay together goes
    /// between two calls of [`Self::may_split`].
    pub fn push(&mut self, entry: &Entry) {
        self.open_frame();
        encode(entry, &mut self.buffer);
    }

    /// As [`Self::push`] for a change, which spares the caller a copy.
    pub fn push_change(&mut self, record: &Record) {
        self.open_frame();
        encode_change(record, &mut self.buffer);
    }

    fn open_frame(&mut self) {
        if self.frame == self.buffer.len() {
            self.buffer.put_bytes(0, FRAME_HEADER_BYTES);
        }
    }

    /// What comes next need not share the fate of what came before.
    pub fn may_split(&mut self) {
        if self.buffer.len() - self.frame >= FRAME_BYTES {
            self.close_frame();
        }
    }

    fn close_frame(&mut self) {
        let Some(frame) = self.buffer.get_mut(self.frame..).filter(|frame| !frame.is_empty()) else { return };
        let (header, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let checksum = checksum(self.number, self.end + self.frame as u64, payload);
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..].copy_from_slice(&checksum.to_le_bytes());
        self.frame = self.buffer.len();
    }

    /// Writes what was pushed, in one write.
    pub fn write(&mut self) -> io::Result<()> {
        self.close_frame();
        let end = self.end + self.buffer.len() as u64;
        if end > self.laid_out {
            self.laid_out = end.next_multiple_of(AHEAD_BYTES);
            self.buffer.resize((self.laid_out - self.end) as usize, 0);
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end = end;
        self.buffer.clear();
        self.buffer.shrink_to(FRAME_BYTES);
        self.frame = 0;
        Ok(())
    }

    /// Returns when everything written is on disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts off the space laid out ahead: nothing more will be written.
    pub fn finish(self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()
    }
}

/// Reads a file from its beginning to its last whole frame. Errors: the file system's, `InvalidData` when a frame that is
/// whole cannot be understood.
pub(super) fn read(path: &Path, number: u64, mut entry: impl FnMut(Entry)) -> io::Result<Tail> {
    let mut file = BufReader::with_capacity(FRAME_BYTES, File::open(path)?);
    let mut end = 0;
    let mut payload = Vec::new();
    loop {
        let mut header = [0; FRAME_HEADER_BYTES];
        let got = fill(&mut file, &mut header)?;
        let mut fields = &header[..];
        let (length, expected) = (fields.get_u32_le() as usize, fields.get_u32_le());
        if got == 0 || (length == 0 && expected == 0 && got == header.len()) {
            return Ok(Tail { end, torn: false });
        }
        payload.resize(length.min(MAX_FRAME_BYTES), 0);
        let whole = got == header.len() && length <= MAX_FRAME_BYTES && fill(&mut file, &mut payload)? == length;
        if !whole || checksum(number, end, &payload) != expected {
            return Ok(Tail { end, torn: true });
        }
        let mut rest = &payload[..];
        while !rest.is_empty() {
            entry(decode(&mut rest).map_err(io::Error::other)?);
        }
        end += (FRAME_HEADER_BYTES + length) as u64;
    }
}

/// As many bytes as there are.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(revision: u64, key: Vec<u8>, value: Option<Vec<u8>>) -> Entry {
        let version = Version {
            mod_revision: revision,
            position: 3,
            create_revision: revision / 2,
            value: value.map(Bytes::from),
            expires_at_ms: (revision % 2 == 1).then_some(revision * 1000),
        };
        Entry::Change(Record { key: key.into(), version })
    }

    fn read_all(path: &Path) -> (Vec<Entry>, Tail) {
        let mut entries = Vec::new();
        let tail = read(path, 7, |entry| entries.push(entry)).unwrap();
        (entries, tail)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any bytes instead of a file: frames, or an end.
        #[test]
        fn reading_nonsense_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let (entries, tail) = read_all(file.path());
            prop_assert!(entries.is_empty());
            prop_assert_eq!(tail.end, 0);
        }

        #[test]
        fn what_was_written_is_read(
            changes in prop::collection::vec((1u64..1000, any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let mut log = LogFile::create(&path, 7).unwrap();
            let mut written: Vec<Entry> = changes.into_iter().map(|(r, k, v)| change(r, k, v)).collect();
            written.extend([Entry::Compacted(5), Entry::End(20)]);
            for entry in &written {
                log.push(entry);
                log.write().unwrap();
            }
            let tail = Tail { end: log.len_bytes(), torn: false };
            prop_assert_eq!(read_all(&path), (written.clone(), tail));
            log.finish().unwrap();
            prop_assert_eq!(read_all(&path), (written, tail));
        }
    }

    #[test]
    fn a_frame_in_the_wrong_place_is_not_a_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::create(&path, 7).unwrap();
        log.push(&Entry::Compacted(1));
        log.write().unwrap();
        log.finish().unwrap();
        let frame = std::fs::read(&path).unwrap();
        std::fs::write(&path, [frame.clone(), frame.clone()].concat()).unwrap();
        let (entries, tail) = read_all(&path);
        assert_eq!((entries.len(), tail), (1, Tail { end: frame.len() as u64, torn: true }));
        // The same bytes in a file of another number.
        assert_eq!(read(&path, 8, |_| {}).unwrap(), Tail { end: 0, torn: true });
    }
}
