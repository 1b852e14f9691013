//! How inputs name types and hold several documents.
//!
//! An input is text where it can be, so that corpora can be read: a letter for the type, then documents a line each.

use k8w_kinds::schema::{Format, Schema};
use serde_json::Value;

/// Types with every form that fields have: maps, lists with and without keys, unions, quantities, times, bytes, raw JSON.
/// The first is `A` in inputs. New ones go to the end: corpora name them by their place.
const TYPES: [&str; 16] = [
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.ConfigMap",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.Node",
    "io.k8s.api.core.v1.Event",
    "io.k8s.api.core.v1.ResourceQuota",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.apps.v1.StatefulSet",
    "io.k8s.api.apps.v1.ControllerRevision",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.resource.v1.ResourceClaim",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
];

/// The type that an input's first letter stands for, and the rest of the input.
pub fn typed(input: &[u8]) -> Option<(Schema, &[u8])> {
    let (letter, rest) = input.split_first()?;
    let place = usize::from(letter.wrapping_sub(b'A')) % TYPES.len();
    Some((Schema::builtin(TYPES[place])?, rest))
}

/// The type that an input names, the object of it in the first line, and the rest.
pub fn object_and_rest(input: &[u8]) -> Option<(Schema, Value, &[u8])> {
    let (schema, rest) = typed(input)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let object = object(&schema, &rest[..end])?;
    Some((schema, object, &rest[end + 1..]))
}

/// An object of the type, as the server would have it.
pub fn object(schema: &Schema, json: &[u8]) -> Option<Value> {
    schema.decode(json, Format::Json).ok().map(|decoded| decoded.value).filter(Value::is_object)
}
