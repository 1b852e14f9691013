//! Records events without ever making a controller wait.
//!
//! Notes go through a bounded channel to one task, which folds repetitions as client-go's recorder does: an event that is
//! said again counts up, many that differ in their message alone become one, and a chatty source is cut off.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use serde_json::json;
use tokio::sync::mpsc;

use crate::execute::{Answer, Api, Record};
use crate::plan::{self, Note, NoteType, PatchKind, Regarding, Step, Target};
use crate::resource::{EVENTS, Key};
use crate::time::{self, stamp};

/// Notes that wait to be written; more are dropped.
const MAX_WAITING_NOTES: usize = 1024;
/// Messages of one kind on one object within `SIMILAR_WINDOW` before they are combined.
const MAX_SIMILAR: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events of one component on one object: a burst, then one each `REFILL`.
const BURST_EVENTS: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// What is remembered of past events; forgetting costs a count.
const MAX_REMEMBERED: usize = 4096;
const COMBINED: &str = "(combined from similar events): ";

/// Where controllers leave their notes.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
}

impl Recorder {
    /// The recorder, and the task that writes what it takes in.
    pub fn new(api: Arc<dyn Api>, identity: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (notes, inbox) = mpsc::channel(MAX_WAITING_NOTES);
        (Self { notes }, write_all(inbox, api, identity.to_owned()))
    }
}

impl Record for Recorder {
    fn record(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            tracing::debug!("an event was dropped: too many are waiting");
        }
    }
}

async fn write_all(mut inbox: mpsc::Receiver<Note>, api: Arc<dyn Api>, identity: String) {
    let mut correlator = Correlator::default();
    while let Some(note) = inbox.recv().await {
        let now = Timestamp::now();
        let Some(correlated) = correlator.correlate(note, now) else { continue };
        if let Some(name) = &correlated.name {
            let answer = api.perform(&repeat(&correlated, name, now)).await;
            if matches!(answer, Ok(Answer::Object(_))) {
                continue;
            }
        }
        // Also when the counted event has expired meanwhile.
        let name = format!("{}.{:x}", correlated.note.regarding.name, now.as_nanosecond());
        let event = event(&correlated, &name, &identity, now);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        match api.perform(&plan::create(&EVENTS, &namespace, &event)).await {
            Ok(_) => correlator.named(&correlated, name),
            Err(error) => tracing::debug!(%error, reason = correlated.note.reason, "event not recorded"),
        }
    }
}

fn event(correlated: &Correlated, name: &str, identity: &str, now: Timestamp) -> Event {
    let Note { component, regarding, note_type, reason, action, message } = &correlated.note;
    let mut event = Event {
        action: (!action.is_empty()).then(|| (*action).into()),
        count: Some(correlated.count),
        first_timestamp: Some(stamp(now)),
        last_timestamp: Some(stamp(now)),
        involved_object: ObjectReference {
            api_version: Some(regarding.api_version.clone()),
            kind: Some(regarding.kind.clone()),
            name: Some(regarding.name.clone()),
            namespace: (!regarding.namespace.is_empty()).then(|| regarding.namespace.clone()),
            resource_version: Some(regarding.resource_version.clone()).filter(|v| !v.is_empty()),
            uid: Some(regarding.uid.clone()),
            field_path: None,
        },
        message: Some(message.clone()),
        reason: Some((*reason).into()),
        reporting_component: Some((*component).into()),
        reporting_instance: Some(identity.into()),
        source: Some(EventSource { component: Some((*component).into()), host: None }),
        type_: Some(type_name(*note_type).into()),
        ..Event::default()
    };
    event.metadata.name = Some(name.into());
    event.metadata.namespace = Some(namespace(regarding).into());
    event
}

fn repeat(correlated: &Correlated, name: &str, now: Timestamp) -> Step {
    let key = Key::new(namespace(&correlated.note.regarding), name);
    Step::Patch {
        target: Target { resource: EVENTS.clone(), key, uid: None, resource_version: None },
        subresource: "",
        kind: PatchKind::Merge,
        patch: json!({
            "count": correlated.count,
            "lastTimestamp": plan::to_value(&stamp(now)),
            "message": correlated.note.message,
        }),
        then: None,
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(regarding: &Regarding) -> &str {
    if regarding.namespace.is_empty() { "default" } else { &regarding.namespace }
}

fn type_name(note_type: NoteType) -> &'static str {
    match note_type {
        NoteType::Normal => "Normal",
        NoteType::Warning => "Warning",
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    component: &'static str,
    uid: String,
    name: String,
    note_type: NoteType,
    reason: &'static str,
}

#[derive(Default)]
struct Similar {
    messages: Vec<String>,
    last: Option<Timestamp>,
}

struct Remembered {
    name: Option<String>,
    count: i32,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// A note with how often it has been said, and the event's name that says so already.
#[derive(Clone)]
struct Correlated {
    note: Note,
    count: i32,
    name: Option<String>,
    kind: Kind,
    message_key: String,
}

/// Decides for each note whether it is new, a repetition, or too much.
#[derive(Default)]
struct Correlator {
    similar: HashMap<Kind, Similar>,
    events: HashMap<(Kind, String), Remembered>,
    buckets: HashMap<(&'static str, String), Bucket>,
}

impl Correlator {
    fn correlate(&mut self, mut note: Note, now: Timestamp) -> Option<Correlated> {
        self.forget();
        let regarding = &note.regarding;
        let kind = Kind {
            component: note.component,
            uid: regarding.uid.clone(),
            name: regarding.name.clone(),
            note_type: note.note_type,
            reason: note.reason,
        };
        let similar = self.similar.entry(kind.clone()).or_default();
        if similar.last.is_none_or(|last| time::after(last, SIMILAR_WINDOW) < now) {
            similar.messages.clear();
        }
        similar.last = Some(now);
        if !similar.messages.contains(&note.message) && similar.messages.len() < MAX_SIMILAR {
            similar.messages.push(note.message.clone());
        }
        let message_key = if similar.messages.contains(&note.message) {
            note.message.clone()
        } else {
            note.message.insert_str(0, COMBINED);
            COMBINED.to_owned()
        };
        if !self.pays(note.component, &note.regarding.uid, now) {
            return None;
        }
        let slot = (kind.clone(), message_key.clone());
        let remembered = self.events.entry(slot).or_insert(Remembered { name: None, count: 0 });
        remembered.count += 1;
        Some(Correlated { note, count: remembered.count, name: remembered.name.clone(), kind, message_key })
    }

    /// The event was created under this name.
    fn named(&mut self, correlated: &Correlated, name: String) {
        if let Some(remembered) = self.events.get_mut(&(correlated.kind.clone(), correlated.message_key.clone())) {
            remembered.name = Some(name);
        }
    }

    fn pays(&mut self, component: &'static str, uid: &str, now: Timestamp) -> bool {
        let bucket =
            self.buckets.entry((component, uid.to_owned())).or_insert(Bucket { tokens: BURST_EVENTS, at: now });
        let earned = time::until(now, bucket.at).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + earned).min(BURST_EVENTS);
        bucket.at = now;
        let pays = bucket.tokens >= 1.0;
        if pays {
            bucket.tokens -= 1.0;
        }
        pays
    }

    fn forget(&mut self) {
        if self.events.len() >= MAX_REMEMBERED {
            self.events.clear();
        }
        if self.similar.len() >= MAX_REMEMBERED {
            self.similar.clear();
        }
        if self.buckets.len() >= MAX_REMEMBERED {
            self.buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note {
            component: "test",
            regarding: Regarding {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: "ns".into(),
                name: "p".into(),
                uid: "u".into(),
                resource_version: "1".into(),
            },
            note_type: NoteType::Normal,
            reason: "Tested",
            action: "",
            message: message.into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_event_counts_up_under_its_name() {
        let mut correlator = Correlator::default();
        let first = correlator.correlate(note("a"), at(0)).unwrap();
        assert_eq!((first.count, &first.name), (1, &None));
        correlator.named(&first, "p.1".into());
        let second = correlator.correlate(note("a"), at(1)).unwrap();
        assert_eq!((second.count, second.name.as_deref()), (2, Some("p.1")));
    }

    #[test]
    fn many_similar_events_become_one() {
        let mut correlator = Correlator::default();
        for i in 0..MAX_SIMILAR {
            let event = correlator.correlate(note(&format!("m{i}")), at(0)).unwrap();
            assert_eq!((event.count, event.note.message), (1, format!("m{i}")));
        }
        for count in 1..=3 {
            let event = correlator.correlate(note(&format!("more {count}")), at(1)).unwrap();
            assert_eq!((event.count, event.note.message), (count, format!("{COMBINED}more {count}")));
        }
        assert_eq!(correlator.correlate(note("fresh"), at(3600)).unwrap().note.message, "fresh");
    }

    #[test]
    fn a_chatty_source_is_cut_off_and_earns_its_way_back() {
        let mut correlator = Correlator::default();
        let heard = (0..100).filter(|_| correlator.correlate(note("a"), at(0)).is_some()).count();
        assert_eq!(heard, 25);
        assert!(correlator.correlate(note("a"), at(299)).is_none());
        assert!(correlator.correlate(note("a"), at(601)).is_some());
    }
}
