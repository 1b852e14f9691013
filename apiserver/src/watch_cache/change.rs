//! One change of one object, as watchers see it.

use super::record::Record;
use bytes::Bytes;
use k8w_kinds::KindDef;
use k8w_kinds::schema::{Format, protobuf};
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
    frames: Frames,
    protobuf_frames: OnceLock<Box<Frames>>,
}

/// The event of each type, as it is sent.
type Frames = [OnceLock<Bytes>; 3];

impl Change {
    pub fn new(revision: Revision, previous: Option<Arc<Record>>, current: Option<Arc<Record>>) -> Self {
        let (gone, protobuf_frames) = (OnceLock::new(), OnceLock::new());
        Change { revision, previous, current, gone, frames: Default::default(), protobuf_frames }
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

    /// The event as it stands in a watch stream of whole objects.
    pub fn frame(&self, event: EventType, format: Format, def: &KindDef) -> Bytes {
        let frames = match format {
            Format::Protobuf => self.protobuf_frames.get_or_init(Box::default),
            Format::Json | Format::Yaml => &self.frames,
        };
        let made = || self.object(event).map(|record| frame_object(event, format, record, def)).unwrap_or_default();
        frames[event as usize].get_or_init(made).clone()
    }

    /// About how much memory the change keeps alive on its own.
    pub fn size_bytes(&self) -> usize {
        self.current.as_ref().or(self.previous.as_ref()).map_or(0, |record| record.json().len())
    }
}

/// A whole object in an event of a watch stream.
pub fn frame_object(event: EventType, format: Format, record: &Record, def: &KindDef) -> Bytes {
    match format {
        Format::Protobuf => {
            let body = protobuf::envelope(&def.api_version(), &def.kind, record.protobuf(def));
            frame(event.name(), format, &body)
        }
        Format::Json | Format::Yaml => frame(event.name(), format, record.json()),
    }
}

/// An event of a watch stream. `object` is in the stream's format; YAML is never streamed.
pub fn frame(name: &str, format: Format, object: &[u8]) -> Bytes {
    if format == Format::Protobuf {
        return protobuf::watch_frame(name, object).into();
    }
    let mut line = Vec::with_capacity(object.len() + name.len() + 24);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
