//! What the status of a definition says: which of its names are its own, whether it is served, and how its deletion goes.
//!
//! The rules are those of the naming, establishing and approval controllers of `k8s.io/apiextensions-apiserver`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ca_bundle;
use crate::object::{self, get, list, text};
use crate::registry;

/// The annotation without which nobody adds kinds to Kubernetes' own groups.
pub const APPROVED_ANNOTATION: &str = "api-approved.kubernetes.io";
const APPROVAL_POLICY: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// A condition to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    pub kind: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    pub message: std::borrow::Cow<'a, str>,
}

const fn fixed(
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: &'static str,
) -> Condition<'static> {
    Condition { kind, status, reason, message: std::borrow::Cow::Borrowed(message) }
}

pub const DELETION_PENDING: Condition<'static> = fixed(
    "Terminating",
    "True",
    "InstanceDeletionPending",
    "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
);
pub const DELETION_IN_PROGRESS: Condition<'static> =
    fixed("Terminating", "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
pub const DELETION_COMPLETED: Condition<'static> =
    fixed("Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
pub const NEVER_ESTABLISHED: Condition<'static> =
    fixed("Terminating", "False", "NeverEstablished", "resource was never established");

const NO_CONFLICTS: Condition<'static> = fixed("NamesAccepted", "True", "NoConflicts", "no conflicts found");
const NOT_ACCEPTED: Condition<'static> = fixed("Established", "False", "NotAccepted", "not all names are accepted");
const INVALID_CA_BUNDLE: Condition<'static> =
    fixed("Established", "False", "InvalidCABundle", "The conversion webhook CABundle is invalid");
const ESTABLISHED: Condition<'static> =
    fixed("Established", "True", "InitialNamesAccepted", "the initial names have been accepted");

/// Whether the condition of this type is true.
pub fn is_true(definition: &Value, kind: &str) -> bool {
    list(definition, &["status", "conditions"])
        .iter()
        .any(|condition| text(condition, &["type"]) == kind && text(condition, &["status"]) == "True")
}

/// Whether the definition's kinds are served.
pub fn is_established(definition: &Value) -> bool {
    is_true(definition, "Established")
}

/// Whether its objects are being deleted, and no more may be made.
pub fn is_terminating(definition: &Value) -> bool {
    get(definition, &["metadata", "deletionTimestamp"]).is_some() || is_true(definition, "Terminating")
}

/// Sets a condition; the time of its last transition changes with its status.
pub fn set_condition(definition: &mut Value, condition: &Condition<'_>, now: Timestamp) {
    let Some(status) = object::ensure(definition, &["status"]) else { return };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Value::Array(conditions) = conditions else { return };
    let known = conditions.iter_mut().find(|known| text(known, &["type"]) == condition.kind);
    let since = match &known {
        Some(known) if text(known, &["status"]) == condition.status => get(known, &["lastTransitionTime"]).cloned(),
        _ => None,
    };
    let since = since.unwrap_or_else(|| format!("{:.0}", whole_seconds(now)).into());
    let fresh = json!({"type": condition.kind, "status": condition.status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": since});
    match known {
        Some(known) => {
            let observed = get(known, &["observedGeneration"]).cloned();
            *known = fresh;
            if let Some(observed) = observed {
                known["observedGeneration"] = observed;
            }
        }
        None => conditions.push(fresh),
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The definition with the status it should have, if it has another. `all` are the definitions there are, itself
/// included.
pub fn reconcile<'v>(definition: &Value, all: impl Iterator<Item = &'v Value>, now: Timestamp) -> Option<Value> {
    let mut new = definition.clone();
    let names = Names::of_group(text(definition, &["spec", "group"]), all);
    let condition = names.accept(&mut new);
    set_condition(&mut new, &condition, now);
    if !is_established(definition) {
        let established = match condition.status {
            "True" if ca_bundle::is_invalid(definition) => INVALID_CA_BUNDLE,
            "True" => ESTABLISHED,
            _ => NOT_ACCEPTED,
        };
        set_condition(&mut new, &established, now);
    }
    if let Some(approval) = approval_condition(definition) {
        set_condition(&mut new, &approval, now);
    }
    (new != *definition).then_some(new)
}

/// The names of a group that are in use.
#[derive(Default)]
struct Names {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Names {
    fn of_group<'v>(group: &str, definitions: impl Iterator<Item = &'v Value>) -> Names {
        let mut names = Names::default();
        for kind in registry::all().iter().filter(|kind| kind.group == group) {
            names.resources.extend([&kind.plural, &kind.singular].map(|name| name.to_string()));
            names.resources.extend(kind.short_names.iter().map(|name| name.to_string()));
            names.kinds.extend([&kind.kind, &kind.list_kind].map(|name| name.to_string()));
        }
        for definition in definitions.filter(|definition| text(definition, &["spec", "group"]) == group) {
            let Some(accepted) = get(definition, &["status", "acceptedNames"]) else { continue };
            names.resources.extend(["plural", "singular"].map(|name| text(accepted, &[name]).to_owned()));
            names.resources.extend(short_names(accepted).map(str::to_owned));
            names.kinds.extend(["kind", "listKind"].map(|name| text(accepted, &[name]).to_owned()));
        }
        names
    }

    /// Accepts what names of the definition are free, and says whether all are.
    fn accept(&self, definition: &mut Value) -> Condition<'static> {
        let requested = get(definition, &["spec", "names"]).cloned().unwrap_or_default();
        let accepted = get(definition, &["status", "acceptedNames"]).cloned().unwrap_or_default();
        let mut new = accepted.as_object().cloned().unwrap_or_default();
        let mut conflict = None;
        let single = [
            ("plural", &self.resources, "PluralConflict"),
            ("singular", &self.resources, "SingularConflict"),
            ("kind", &self.kinds, "KindConflict"),
            ("listKind", &self.kinds, "ListKindConflict"),
        ];
        for (field, used, reason) in single {
            let name = text(&requested, &[field]);
            if name == text(&accepted, &[field]) || !used.contains(name) {
                put(&mut new, field, name.into(), !name.is_empty());
            } else {
                conflict = Some((reason, in_use(name)));
            }
            if field == "singular" {
                let own: Vec<&str> = short_names(&accepted).collect();
                let taken = short_names(&requested).filter(|n| !own.contains(n) && self.resources.contains(*n));
                let taken: Vec<String> = taken.map(in_use).collect();
                match taken.as_slice() {
                    [] => put_list(&mut new, &requested, "shortNames"),
                    [one] => conflict = Some(("ShortNamesConflict", one.clone())),
                    many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
                }
            }
        }
        put_list(&mut new, &requested, "categories");
        if let Some(status) = object::ensure(definition, &["status"]) {
            status.insert("acceptedNames".to_owned(), new.into());
        }
        match conflict {
            None => NO_CONFLICTS,
            Some((reason, message)) => {
                Condition { kind: "NamesAccepted", status: "False", reason, message: message.into() }
            }
        }
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn short_names(names: &Value) -> impl Iterator<Item = &str> {
    list(names, &["shortNames"]).iter().filter_map(Value::as_str)
}

fn put(names: &mut Map<String, Value>, field: &str, value: Value, is_set: bool) {
    if is_set {
        names.insert(field.to_owned(), value);
    } else {
        names.remove(field);
    }
}

fn put_list(names: &mut Map<String, Value>, requested: &Value, field: &str) {
    let wanted = list(requested, &[field]);
    put(names, field, wanted.to_vec().into(), !wanted.is_empty());
}

/// What an annotation says about the approval of kinds in Kubernetes' own groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    Invalid(String),
    Approved(String),
    Bypassed(String),
    Missing(String),
}

impl Approval {
    /// `None` for the groups of everybody else.
    pub fn of(definition: &Value) -> Option<Approval> {
        let group = text(definition, &["spec", "group"]);
        let below = |domain: &str| group == domain || group.strip_suffix(domain).is_some_and(|g| g.ends_with('.'));
        if !below("k8s.io") && !below("kubernetes.io") {
            return None;
        }
        let annotation = text(definition, &["metadata", "annotations", APPROVED_ANNOTATION]);
        let must = format!("protected groups must have approval annotation {APPROVED_ANNOTATION:?}");
        let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
            let host = rest.split('/').next().unwrap_or_default();
            !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric()) && !host.is_empty()
        });
        Some(if annotation.is_empty() {
            Approval::Missing(format!("{must}, {APPROVAL_POLICY}"))
        } else if annotation.starts_with("unapproved") {
            Approval::Bypassed(format!("not approved: {annotation:?}"))
        } else if is_url {
            Approval::Approved(format!("approved in {annotation}"))
        } else {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            Approval::Invalid(format!("{must} {either}, {APPROVAL_POLICY}"))
        })
    }
}

fn approval_condition(definition: &Value) -> Option<Condition<'static>> {
    let (status, reason, message) = match Approval::of(definition)? {
        Approval::Invalid(message) => ("False", "InvalidAnnotation", message),
        Approval::Missing(message) => ("False", "MissingAnnotation", message),
        Approval::Approved(message) => ("True", "ApprovedAnnotation", message),
        Approval::Bypassed(message) => ("False", "UnapprovedAnnotation", message),
    };
    Some(Condition { kind: "KubernetesAPIApprovalPolicyConformant", status, reason, message: message.into() })
}
