//! The members of a tar archive, with a bound for what a reader of such archives takes into memory: the header of a member, and
//! the records before it, which say themselves how long they are.

use std::io::{self, Read};

use tar::{Archive, Entry};

use super::{Meter, Metered};

/// What an archive may hold before a member: its header, and records for long names and the like.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// The longest name of a member that is worth a look, which is as long as paths may be.
pub const MAX_NAME_BYTES: usize = 4096;

/// Why not all members of an archive were shown.
#[derive(Debug)]
pub enum Failure<E> {
    /// The archive is broken, or one of its records is longer than is allowed.
    Broken { error: io::Error, has_ended: bool },
    /// Whoever was shown a member wants no more.
    Seen(E),
}

impl From<Failure<io::Error>> for io::Error {
    fn from(failure: Failure<io::Error>) -> io::Error {
        match failure {
            Failure::Broken { error, .. } | Failure::Seen(error) => error,
        }
    }
}

/// Shows the members of an archive in their order.
///
/// # Errors
/// [`Failure`]
pub fn members<R: Read, E>(
    archive: R,
    mut see: impl FnMut(Entry<'_, Metered<'_, R>>) -> Result<(), E>,
) -> Result<(), Failure<E>> {
    let meter = Meter::new(MAX_HEADER_BYTES, "a record is longer than 1 MiB");
    let broken = |error| Failure::Broken { error, has_ended: meter.has_ended() };
    let mut archive = Archive::new(meter.read(archive));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let header = entry.header();
        // A sparse file is not as long in the archive as it is.
        let is_sparse = header.entry_type().is_gnu_sparse();
        let held_bytes = if is_sparse { header.entry_size().map_err(broken)? } else { entry.size() };
        meter.allow(held_bytes.saturating_add(MAX_HEADER_BYTES));
        see(entry).map_err(Failure::Seen)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// An archive of these members: each its type, name and length.
    fn archive(members: &[(EntryType, &str, u64)]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (kind, name, length) in members {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(*length);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, io::repeat(b'x').take(*length)).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn names(archive: &[u8]) -> Result<Vec<usize>, Failure<io::Error>> {
        let mut names = Vec::new();
        members(archive, |entry| {
            names.push(entry.path_bytes().len());
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn files_may_be_long_and_records_may_not() {
        let large = (EntryType::Regular, "large", 3 << 20);
        let long = |length| (EntryType::GNULongName, "record", length);
        assert_eq!(names(&archive(&[large, long(5_000), large, large])).unwrap(), [5, 5_000, 5]);
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let Err(Failure::Broken { error, has_ended: false }) =
                names(&archive(&[large, (kind, "r", 2 << 20), large]))
            else {
                panic!("{kind:?}")
            };
            assert_eq!(error.to_string(), "a record is longer than 1 MiB");
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_is_told_from_one_that_is_none() {
        let mut cut = archive(&[(EntryType::Regular, "file", 600)]);
        cut.truncate(700);
        assert!(matches!(names(&cut), Err(Failure::Broken { has_ended: true, .. })));
        assert!(matches!(names(&[b'x'; 2_048]), Err(Failure::Broken { has_ended: false, .. })));
    }

    #[test]
    fn whoever_has_seen_enough_ends_it() {
        let archive = archive(&[(EntryType::Regular, "a", 1), (EntryType::Regular, "b", 1)]);
        let mut seen = 0;
        let ended = members(&archive[..], |_| {
            seen += 1;
            Err("enough")
        });
        assert!(matches!(ended, Err(Failure::Seen("enough"))) && seen == 1);
    }
}
