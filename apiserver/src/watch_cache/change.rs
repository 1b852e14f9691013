//! One change of one object, as watchers see it.

use super::record::{PARTIAL_TYPE_BYTES, Record, VERSION_BYTES};
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

/// A change on its way to watchers. Its encodings are made once, shared by all of them, and gone when the last has sent it.
#[derive(Debug)]
pub struct Notice {
    pub change: Arc<Change>,
    frames: Frames,
    protobuf_frames: Frames,
}

/// The event of each type, as it is sent.
type Frames = [OnceLock<Bytes>; 3];

impl Notice {
    pub fn new(change: Arc<Change>) -> Arc<Self> {
        Arc::new(Notice { change, frames: Default::default(), protobuf_frames: Default::default() })
    }

    /// The event as it stands in a watch stream of whole objects.
    pub fn frame(&self, event: EventType, format: Format, def: &KindDef) -> Bytes {
        let frames = match format {
            Format::Protobuf => &self.protobuf_frames,
            Format::Json | Format::Yaml => &self.frames,
        };
        let made =
            || self.change.object(event).map(|record| frame_object(event, format, record, def)).unwrap_or_default();
        frames[event as usize].get_or_init(made).clone()
    }
}

/// A whole object in an event of a watch stream.
pub fn frame_object(event: EventType, format: Format, record: &Record, def: &KindDef) -> Bytes {
    match format {
        Format::Protobuf => {
            let body = protobuf::envelope(&def.api_version(), &def.kind, record.protobuf(def));
            frame(event.name(), format, &body)
        }
        Format::Json | Format::Yaml => {
            line(event.name(), record.stored().len() + VERSION_BYTES, |out| record.write(out))
        }
    }
}

/// Nothing but an object's metadata in an event of a watch stream of JSON.
pub fn frame_metadata(event: EventType, record: &Record, meta_version: &str) -> Bytes {
    let bytes = record.stored().len() + PARTIAL_TYPE_BYTES + VERSION_BYTES;
    line(event.name(), bytes, |out| record.write_metadata_only(out, meta_version))
}

/// An event of a watch stream. `object` is in the stream's format; YAML is never streamed.
pub fn frame(name: &str, format: Format, object: &[u8]) -> Bytes {
    match format {
        Format::Protobuf => protobuf::watch_frame(name, object).into(),
        Format::Json | Format::Yaml => line(name, object.len(), |out| out.extend_from_slice(object)),
    }
}

/// One line of a watch stream of JSON, for an object of about `bytes`.
fn line(name: &str, bytes: usize, object: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    const AROUND_BYTES: usize = 24;
    let mut line = Vec::with_capacity(bytes + name.len() + AROUND_BYTES);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    object(&mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}
