//! What a server's answers say (RFC 1813), read from bytes that nobody vouches for.
//!
//! Each function reads what follows a status of success. Everything in an answer has a bound, and what Linux would not
//! take for a name is no name.

use bytes::Bytes;

use super::xdr::{Malformed, Reader};

/// Most bytes that one call reads or writes, whatever a server offers.
pub const MAX_TRANSFER_BYTES: u32 = 1 << 20;
/// Longest handle (NFS3_FHSIZE).
const MAX_HANDLE_BYTES: usize = 64;
/// Longest name and target of a link that are taken from a server: what Linux has room for.
const MAX_NAME_BYTES: usize = 255;
const MAX_TARGET_BYTES: usize = 4096;
/// Most entries of one answer of READDIRPLUS: far beyond what fits in it.
const MAX_ENTRIES: usize = 16_384;
/// Least size of an answer of READDIRPLUS that a server is asked for.
const MIN_DIRECTORY_BYTES: u32 = 4096;

/// A server's name of a file or directory.
pub type Handle = Bytes;

/// Changes whenever a server may have forgotten what it did not put on disk yet.
pub type Verifier = [u8; 8];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Block,
    Character,
    Link,
    Socket,
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    pub seconds: u32,
    pub nanoseconds: u32,
}

/// `fattr3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub kind: Kind,
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub size: u64,
    pub used: u64,
    pub device: (u32, u32),
    pub file_id: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

/// Whether written bytes must be on the server's disk when it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stable {
    No,
    Yes,
}

pub struct Written {
    pub bytes: usize,
    pub stable: Stable,
    pub verifier: Verifier,
}

pub struct Entry {
    pub name: Bytes,
    pub cookie: u64,
    pub file_id: u64,
    pub attributes: Option<Attributes>,
    pub handle: Option<Handle>,
}

pub struct Listing {
    pub verifier: Verifier,
    pub entries: Vec<Entry>,
    pub is_last: bool,
}

/// `FSSTAT3resok`.
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub available_bytes: u64,
    pub total_files: u64,
    pub free_files: u64,
    pub available_files: u64,
}

/// What of `FSINFO3resok` counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub read_bytes: u32,
    pub write_bytes: u32,
    pub directory_bytes: u32,
}

/// What a new entry is, as far as the server says so.
pub type Made = (Option<Handle>, Option<Attributes>);

/// GETATTR, and `fattr3` wherever it stands.
pub fn attributes(reader: &mut Reader) -> Result<Attributes, Malformed> {
    let kind = match reader.u32()? {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Block,
        4 => Kind::Character,
        5 => Kind::Link,
        6 => Kind::Socket,
        7 => Kind::Pipe,
        _ => return Err(Malformed),
    };
    let (mode, links, user, group) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let (size, used, device) = (reader.u64()?, reader.u64()?, (reader.u32()?, reader.u32()?));
    let (_file_system, file_id) = (reader.u64()?, reader.u64()?);
    let (accessed, modified, changed) = (time(reader)?, time(reader)?, time(reader)?);
    Ok(Attributes { kind, mode, links, user, group, size, used, device, file_id, accessed, modified, changed })
}

/// LOOKUP.
pub fn lookup(answer: &mut Reader) -> Result<(Handle, Option<Attributes>), Malformed> {
    Ok((handle(answer)?, answer.option(attributes)?))
}

/// ACCESS: the rights that there are.
pub fn access(answer: &mut Reader) -> Result<u32, Malformed> {
    answer.option(attributes)?;
    answer.u32()
}

/// READLINK.
pub fn link(answer: &mut Reader) -> Result<Bytes, Malformed> {
    answer.option(attributes)?;
    answer.opaque(MAX_TARGET_BYTES)
}

/// READ of at most `count` bytes: what was read, and whether the file ends there.
pub fn read(answer: &mut Reader, count: u32) -> Result<(Bytes, bool), Malformed> {
    answer.option(attributes)?;
    let (_count, is_end) = (answer.u32()?, answer.bool()?);
    Ok((answer.opaque(count as usize)?, is_end))
}

/// WRITE of `count` bytes, of which some must have been written.
pub fn written(answer: &mut Reader, count: usize) -> Result<Written, Malformed> {
    change(answer)?;
    let (bytes, how, verifier) = (answer.u32()? as usize, answer.u32()?, answer.array()?);
    if bytes == 0 || bytes > count {
        return Err(Malformed);
    }
    // DATA_SYNC is as good as FILE_SYNC here: what is lost then are times.
    Ok(Written { bytes, stable: if how == 0 { Stable::No } else { Stable::Yes }, verifier })
}

/// CREATE, MKDIR and SYMLINK.
pub fn made(answer: &mut Reader) -> Result<Made, Malformed> {
    Ok((answer.option(handle)?, answer.option(attributes)?))
}

/// READDIRPLUS.
pub fn listing(answer: &mut Reader) -> Result<Listing, Malformed> {
    answer.option(attributes)?;
    let verifier = answer.array()?;
    let mut entries = Vec::new();
    while let Some(entry) = answer.option(entry)? {
        entries.push(entry);
        if entries.len() > MAX_ENTRIES {
            return Err(Malformed);
        }
    }
    let is_last = answer.bool()?;
    // One that says nothing would be asked for ever.
    if entries.is_empty() && !is_last {
        return Err(Malformed);
    }
    Ok(Listing { verifier, entries, is_last })
}

/// FSSTAT.
pub fn space(answer: &mut Reader) -> Result<Space, Malformed> {
    answer.option(attributes)?;
    Ok(Space {
        total_bytes: answer.u64()?,
        free_bytes: answer.u64()?,
        available_bytes: answer.u64()?,
        total_files: answer.u64()?,
        free_files: answer.u64()?,
        available_files: answer.u64()?,
    })
}

/// FSINFO.
pub fn limits(answer: &mut Reader) -> Result<Limits, Malformed> {
    answer.option(attributes)?;
    let (read_bytes, _preferred, _multiple) = (answer.u32()?, answer.u32()?, answer.u32()?);
    let (write_bytes, _preferred, _multiple) = (answer.u32()?, answer.u32()?, answer.u32()?);
    let within = |bytes: u32, least: u32| bytes.clamp(least, MAX_TRANSFER_BYTES);
    Ok(Limits {
        read_bytes: within(read_bytes, 1),
        write_bytes: within(write_bytes, 1),
        directory_bytes: within(answer.u32()?, MIN_DIRECTORY_BYTES),
    })
}

/// COMMIT.
pub fn committed(answer: &mut Reader) -> Result<Verifier, Malformed> {
    change(answer)?;
    answer.array()
}

/// The handle that MOUNT and others answer with.
pub fn handle(reader: &mut Reader) -> Result<Handle, Malformed> {
    reader.opaque(MAX_HANDLE_BYTES)
}

/// `wcc_data`: what a change found and left. Who else writes is seen by how old attributes may get.
pub fn change(reader: &mut Reader) -> Result<Option<Attributes>, Malformed> {
    reader.option(|reader| reader.array::<24>())?;
    reader.option(attributes)
}

fn entry(reader: &mut Reader) -> Result<Entry, Malformed> {
    let file_id = reader.u64()?;
    let name = reader.opaque(MAX_NAME_BYTES)?;
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Malformed);
    }
    let cookie = reader.u64()?;
    Ok(Entry { name, cookie, file_id, attributes: reader.option(attributes)?, handle: reader.option(handle)? })
}

fn time(reader: &mut Reader) -> Result<Time, Malformed> {
    Ok(Time { seconds: reader.u32()?, nanoseconds: reader.u32()? })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::xdr::Writer;
    use super::*;

    /// Reads the answers of a procedure.
    type Decoder = (&'static str, fn(&mut Reader) -> Result<(), Malformed>);

    const DECODERS: [Decoder; 13] = [
        ("GETATTR", |answer| attributes(answer).map(drop)),
        ("SETATTR", |answer| change(answer).map(drop)),
        ("LOOKUP", |answer| lookup(answer).map(drop)),
        ("ACCESS", |answer| access(answer).map(drop)),
        ("READLINK", |answer| link(answer).map(drop)),
        ("READ", |answer| read(answer, 8).map(|(data, _)| assert!(data.len() <= 8))),
        ("WRITE", |answer| written(answer, 8).map(|written| assert!((1..=8).contains(&written.bytes)))),
        ("CREATE", |answer| made(answer).map(drop)),
        ("READDIRPLUS", |answer| {
            listing(answer).map(|listing| {
                assert!(listing.is_last || !listing.entries.is_empty());
                for Entry { name, .. } in listing.entries {
                    assert!((1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0));
                }
            })
        }),
        ("FSSTAT", |answer| space(answer).map(drop)),
        ("FSINFO", |answer| {
            let transfers = 1..=MAX_TRANSFER_BYTES;
            limits(answer).map(|limits| {
                let all = [limits.read_bytes, limits.write_bytes, limits.directory_bytes];
                assert!(all.iter().all(|bytes| transfers.contains(bytes)));
            })
        }),
        ("COMMIT", |answer| committed(answer).map(drop)),
        ("handle", |answer| handle(answer).map(|handle| assert!(handle.len() <= MAX_HANDLE_BYTES))),
    ];

    fn file(writer: Writer) -> Writer {
        let writer = [1, 0o644, 1, 0, 0].into_iter().fold(writer, Writer::u32).u64(4).u64(512).u32(0).u32(0);
        let writer = writer.u64(1).u64(7);
        (0..6).fold(writer, Writer::u32)
    }

    /// What an honest server answers to each procedure.
    fn honest(procedure: &str) -> Vec<u8> {
        let some = |writer: Writer| file(writer.u32(1));
        let wcc = |writer: Writer| some(writer.u32(1).fixed(&[0; 24]));
        let empty = Writer::default();
        match procedure {
            "GETATTR" => file(empty),
            "SETATTR" => wcc(empty),
            "LOOKUP" => some(empty.opaque(b"handle")),
            "ACCESS" => some(empty).u32(1),
            "READLINK" => some(empty).opaque(b"target"),
            "READ" => some(empty).u32(4).u32(1).opaque(b"text"),
            "WRITE" => wcc(empty).u32(8).u32(2).fixed(&[1; 8]),
            "CREATE" => some(empty.u32(1).opaque(b"handle")),
            "READDIRPLUS" => {
                let entry = some(some(empty).fixed(&[2; 8]).u32(1).u64(7).opaque(b"name").u64(1));
                entry.u32(1).opaque(b"handle").u32(0).u32(1)
            }
            "FSSTAT" => (0..6).fold(some(empty), Writer::u64),
            "FSINFO" => (0..7).fold(some(empty), Writer::u32),
            "COMMIT" => wcc(empty).fixed(&[1; 8]),
            _ => empty.opaque(b"handle"),
        }
        .finish()
    }

    #[test]
    fn an_honest_server_is_understood() {
        for (procedure, decode) in DECODERS {
            assert_eq!(decode(&mut Reader::new(honest(procedure).into())), Ok(()), "{procedure}");
        }
        let listing = listing(&mut Reader::new(honest("READDIRPLUS").into())).unwrap();
        assert_eq!((&listing.entries[0].name[..], listing.entries[0].cookie, listing.is_last), (&b"name"[..], 1, true));
        let (handle, found) = lookup(&mut Reader::new(honest("LOOKUP").into())).unwrap();
        assert_eq!(
            (&handle[..], found.map(|found| (found.kind, found.mode))),
            (&b"handle"[..], Some((Kind::File, 0o644)))
        );
    }

    proptest! {
        #[test]
        fn answers_of_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (_, decode) in DECODERS {
                let _ = decode(&mut Reader::new(bytes.clone().into()));
            }
        }

        /// Words that lie in an answer that is honest otherwise, or one that ends too early.
        #[test]
        fn lies_are_read_or_refused(at in 0..80_usize, lie in prop_oneof![any::<u32>(), 0..4_u32], length in 0..400_usize) {
            for (procedure, decode) in DECODERS {
                let mut answer = BytesMut::from(&honest(procedure)[..]);
                if let Some(word) = answer.chunks_exact_mut(4).nth(at) {
                    word.copy_from_slice(&lie.to_be_bytes());
                }
                answer.truncate(length);
                let _ = decode(&mut Reader::new(answer.freeze()));
            }
        }
    }
}
