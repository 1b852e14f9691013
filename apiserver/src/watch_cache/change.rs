//! One change of one object, as watchers see it.

use super::record::Record;
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

/// A change of one object. Encodings are made once and shared by all watchers.
#[derive(Debug)]
pub struct Change {
    pub revision: Revision,
    pub previous: Option<Arc<Record>>,
    /// `None` when the object was removed.
    pub current: Option<Arc<Record>>,
    /// The last state, at the revision of the change: what DELETED events show.
    gone: OnceLock<Arc<Record>>,
    frames: [OnceLock<Bytes>; 3],
}

impl Change {
    pub fn new(revision: Revision, previous: Option<Arc<Record>>, current: Option<Arc<Record>>) -> Self {
        Change { revision, previous, current, gone: OnceLock::new(), frames: Default::default() }
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

    /// The event as one line of a JSON watch stream.
    pub fn frame(&self, event: EventType) -> Bytes {
        let cached = &self.frames[event as usize];
        cached.get_or_init(|| self.object(event).map(|record| frame(event, record.json())).unwrap_or_default()).clone()
    }

    /// About how much memory the change keeps alive on its own.
    pub fn size_bytes(&self) -> usize {
        self.current.as_ref().or(self.previous.as_ref()).map_or(0, |record| record.json().len())
    }
}

/// One line of a JSON watch stream.
pub fn frame(event: EventType, object: &[u8]) -> Bytes {
    frame_named(event.name(), object)
}

/// One line of a JSON watch stream, for the types that are no change: BOOKMARK and ERROR.
pub fn frame_named(name: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + name.len() + 24);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
