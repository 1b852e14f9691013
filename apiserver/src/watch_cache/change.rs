//! One change of one object, as watchers see it.

use super::record::{Record, VERSION_BYTES};
use bytes::Bytes;
use k8w_storage::datastore::Revision;
use std::sync::{Arc, OnceLock};

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }

    /// What a watcher that sees only matching objects is told; `None` when it is none of its business.
    pub fn of(matched: bool, matches: bool) -> Option<EventType> {
        match (matched, matches) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Change {
    pub revision: Revision,
    pub previous: Option<Arc<Record>>,
    /// `None` when the object was removed.
    pub current: Option<Arc<Record>>,
    /// The last state, at the revision of the change: what DELETED events show.
    gone: OnceLock<Arc<Record>>,
}

impl Change {
    pub fn new(revision: Revision, previous: Option<Arc<Record>>, current: Option<Arc<Record>>) -> Self {
        Change { revision, previous, current, gone: OnceLock::new() }
    }

    /// The object that an event of this type shows.
    pub fn object(&self, event: EventType) -> Option<&Arc<Record>> {
        match event {
            EventType::Added | EventType::Modified => self.current.as_ref(),
            EventType::Deleted => {
                let previous = self.previous.as_ref()?;
                Some(self.gone.get_or_init(|| Arc::new(previous.at_revision(self.revision))))
            }
        }
    }

    /// About how much memory the change keeps alive on its own.
    pub fn size_bytes(&self) -> usize {
        self.current.as_ref().or(self.previous.as_ref()).map_or(0, |record| record.stored().len())
    }
}

/// A change on its way to watchers. Its encodings are made once and shared, and go when the last of them has them.
#[derive(Debug)]
pub struct Notice {
    pub change: Arc<Change>,
    frames: [OnceLock<Bytes>; 3],
}

impl Notice {
    pub fn new(change: Arc<Change>) -> Arc<Self> {
        Arc::new(Notice { change, frames: Default::default() })
    }

    /// The event as one line of a JSON watch stream.
    pub fn frame(&self, event: EventType) -> Bytes {
        let encode = || self.change.object(event).map(|record| frame(event, record)).unwrap_or_default();
        self.frames[event as usize].get_or_init(encode).clone()
    }
}

/// One line of a JSON watch stream.
pub fn frame(event: EventType, record: &Record) -> Bytes {
    line(event.name(), record.stored().len() + VERSION_BYTES, |out| record.write(out))
}

/// One line of a JSON watch stream that shows nothing but metadata.
pub fn metadata_frame(event: EventType, record: &Record) -> Bytes {
    line(event.name(), 0, |out| record.write_metadata_only(out))
}

/// One line of a JSON watch stream, for what is no stored object: tables, BOOKMARK and ERROR.
pub fn frame_named(name: &str, object: &[u8]) -> Bytes {
    line(name, object.len(), |out| out.extend_from_slice(object))
}

fn line(name: &str, object_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    const AROUND_BYTES: usize = 24;
    let mut line = Vec::with_capacity(object_bytes + name.len() + AROUND_BYTES);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    write(&mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}
