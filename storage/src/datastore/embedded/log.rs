//! The log's files: frames of entries, each written whole or, where a crash cut it, recognised and dropped.
//!
//! ```text
//!   frame  length u32 | crc32 u32 | payload      the checksum covers file number, position and payload
//!   payload   entry, entry, …                    zeros behind the last frame: space laid out ahead
//! ```
//!
//! A frame is written when everything before it is on disk. So only the last one can be unfinished, and one that cannot be
//! read with another behind it is damage.
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
/// A frame is full once it reaches this size.
const FRAME_BYTES: usize = 1024 * 1024;
/// No payload is larger: a full frame is written before the transaction that follows, and no transaction has this size.
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
    /// Where the last readable frame ends.
    pub end: u64,
    pub behind: Behind,
}

/// What stands behind the last readable frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing but space laid out ahead.
    Nothing,
    /// What one write that a crash cut short may have left.
    Unfinished,
    /// More than that: writes that were on disk once.
    Damage,
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
    /// The frame being filled, or nothing; kept for its capacity.
    buffer: Vec<u8>,
}

impl LogFile {
    /// A new file. Errors: `AlreadyExists`.
    pub fn create(path: &Path, number: u64) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        Ok(Self::at(file, number, 0))
    }

    /// Goes on behind the last readable frame; what a crash left behind it is cut off.
    pub fn resume(path: &Path, number: u64, tail: Tail) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        file.set_len(tail.end)?;
        file.sync_all()?;
        Ok(Self::at(file, number, tail.end))
    }

    fn at(file: File, number: u64, end: u64) -> Self {
        Self { file, number, end, laid_out: end, buffer: Vec::new() }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in frames.
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    /// Adds an entry to the frame being filled, which is applied whole or not at all.
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
        if self.buffer.is_empty() {
            self.buffer.put_bytes(0, FRAME_HEADER_BYTES);
        }
    }

    /// Whether the frame should be written before more is added that need not share its fate.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= FRAME_BYTES
    }

    /// Writes what was pushed as one frame.
    pub fn write(&mut self) -> io::Result<()> {
        let Some((header, payload)) = self.buffer.split_at_mut_checked(FRAME_HEADER_BYTES) else { return Ok(()) };
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..].copy_from_slice(&checksum(self.number, self.end, payload).to_le_bytes());
        let end = self.end + self.buffer.len() as u64;
        if end > self.laid_out {
            self.laid_out = end.next_multiple_of(AHEAD_BYTES);
            self.buffer.resize((self.laid_out - self.end) as usize, 0);
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end = end;
        self.buffer.clear();
        self.buffer.shrink_to(FRAME_BYTES);
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

/// Reads a file from its beginning to its last readable frame. Errors: the file system's, `InvalidData` when a frame that
/// is whole cannot be understood.
pub(super) fn read(path: &Path, number: u64, mut entry: impl FnMut(Entry)) -> io::Result<Tail> {
    let mut file = BufReader::with_capacity(FRAME_BYTES, File::open(path)?);
    let mut end = 0;
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    loop {
        frame.resize(FRAME_HEADER_BYTES, 0);
        let mut got = fill(&mut file, &mut frame)?;
        if let Some(payload_bytes) = payload_bytes(&frame) {
            frame.resize(FRAME_HEADER_BYTES + payload_bytes, 0);
            got += fill(&mut file, &mut frame[FRAME_HEADER_BYTES..])?;
        }
        let Some(payload) = payload(number, end, &frame[..got]) else {
            frame.truncate(got);
            file.read_to_end(&mut frame)?;
            return Ok(Tail { end, behind: behind(number, end, &frame) });
        };
        let mut rest = payload;
        while !rest.is_empty() {
            entry(decode(&mut rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?);
        }
        end += got as u64;
    }
}

/// The length that a frame's header gives, if a frame can have it.
fn payload_bytes(header: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*header.first_chunk()?) as usize;
    (1..=MAX_FRAME_BYTES).contains(&length).then_some(length)
}

/// The payload of the frame at this place, if `bytes` begin with it.
fn payload(number: u64, position: u64, bytes: &[u8]) -> Option<&[u8]> {
    let length = payload_bytes(bytes)?;
    let (header, rest) = bytes.split_at_checked(FRAME_HEADER_BYTES)?;
    let payload = rest.get(..length)?;
    // An entry begins with what it is: looked at first, because it spares most places that hold no frame the checksum.
    let is_frame = payload[0] <= END && header[4..] == checksum(number, position, payload).to_le_bytes();
    is_frame.then_some(payload)
}

/// Judges the rest of a file, which begins with no readable frame.
fn behind(number: u64, position: u64, rest: &[u8]) -> Behind {
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Behind::Nothing };
    let too_long = last >= FRAME_HEADER_BYTES + MAX_FRAME_BYTES;
    if too_long || (1..=last).any(|at| payload(number, position + at as u64, &rest[at..]).is_some()) {
        return Behind::Damage;
    }
    Behind::Unfinished
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
            let tail = Tail { end: log.len_bytes(), behind: Behind::Nothing };
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
        assert_eq!((entries.len(), tail), (1, Tail { end: frame.len() as u64, behind: Behind::Unfinished }));
        // The same bytes in a file of another number.
        assert_eq!(read(&path, 8, |_| {}).unwrap(), Tail { end: 0, behind: Behind::Unfinished });
    }

    #[test]
    fn more_than_one_write_can_leave_is_damage() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = |length: usize| [vec![0; length - 1], vec![1]].concat();
        std::fs::write(file.path(), bytes(FRAME_HEADER_BYTES + MAX_FRAME_BYTES)).unwrap();
        assert_eq!(read(file.path(), 7, |_| {}).unwrap(), Tail { end: 0, behind: Behind::Unfinished });
        std::fs::write(file.path(), bytes(FRAME_HEADER_BYTES + MAX_FRAME_BYTES + 1)).unwrap();
        assert_eq!(read(file.path(), 7, |_| {}).unwrap(), Tail { end: 0, behind: Behind::Damage });
    }
}
