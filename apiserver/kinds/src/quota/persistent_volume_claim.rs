//! PersistentVolumeClaims: their number and the storage they ask for, in all and by storage class.

use jiff::Timestamp;
use serde_json::Value;

use super::{Amounts, Evaluator, Scope};
use crate::core::pod::resources::parse;
use crate::object::{get, text};
use crate::quantity::Quantity;

const COUNTS: [&str; 2] = ["count/persistentvolumeclaims", "persistentvolumeclaims"];
const STORAGE: &str = "requests.storage";
/// What follows a storage class's name in the names of its own amounts.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// How a claim's class was named before there was a field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub struct PersistentVolumeClaims;

impl Evaluator for PersistentVolumeClaims {
    /// A claim may grow, and its status says by how much.
    fn handles(&self, _create: bool, subresource: &str) -> bool {
        matches!(subresource, "" | "status")
    }

    fn tracks(&self, name: &str) -> bool {
        let of_class = name.split_once(OF_CLASS).map(|(_, rest)| rest);
        COUNTS.contains(&name) || name == STORAGE || of_class.is_some_and(|rest| rest == COUNTS[1] || rest == STORAGE)
    }

    fn in_scope(&self, scope: &Scope, claim: &Value) -> bool {
        if scope.name != "VolumeAttributesClass" {
            return false;
        }
        let paths: [&[&str]; 3] = [
            &["spec", "volumeAttributesClassName"],
            &["status", "currentVolumeAttributesClassName"],
            &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
        ];
        let classes: Vec<&str> = paths.iter().map(|path| text(claim, path)).filter(|class| !class.is_empty()).collect();
        if classes.is_empty() { scope.selects("") } else { classes.iter().any(|class| scope.selects(class)) }
    }

    fn usage(&self, claim: &Value, _: Timestamp) -> Amounts {
        let one = Quantity::from_int(1);
        let mut usage: Amounts = COUNTS.iter().map(|name| ((*name).to_owned(), one)).collect();
        let class = match text(claim, &["metadata", "annotations", CLASS_ANNOTATION]) {
            "" => text(claim, &["spec", "storageClassName"]),
            class => class,
        };
        let of_class = |name: &str| format!("{class}{OF_CLASS}{name}");
        if !class.is_empty() {
            usage.insert(of_class(COUNTS[1]), one);
        }
        let amount = |path: &[&str]| get(claim, path).and_then(parse);
        let asked = amount(&["spec", "resources", "requests", "storage"]);
        if let Some(storage) = asked.max(amount(&["status", "allocatedResources", "storage"])) {
            usage.insert(STORAGE.to_owned(), storage);
            if !class.is_empty() {
                usage.insert(of_class(STORAGE), storage);
            }
        }
        usage
    }
}
