//! What objects use of ResourceQuotas: pure, for admission, which charges a write, and for the controller, which counts
//! anew.
//!
//! A resource is measured by its [`Evaluator`]. To add one: a file, a `mod` line, a row in [`evaluator`]; every other
//! resource is counted by its objects. The rules are those of `k8s.io/apiserver/pkg/quota/v1` and
//! `pkg/quota/v1/evaluator/core` in Kubernetes.

mod count;
mod persistent_volume_claim;
mod pod;
mod scope;
mod service;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use crate::core::pod::totals::Amounts;
use crate::core::pod::totals::{add, of_list};
use crate::object::text;
use crate::quantity::Quantity;
pub use scope::Scope;

/// How objects of one resource use quotas.
pub trait Evaluator: Send + Sync {
    /// Whether a write may change what is used; `subresource` is empty for the object itself.
    fn handles(&self, create: bool, subresource: &str) -> bool {
        create && subresource.is_empty()
    }

    /// Whether the quota's resource `name` counts objects of this resource.
    fn tracks(&self, name: &str) -> bool;

    /// Whether an object falls under a scope.
    fn in_scope(&self, _scope: &Scope, _object: &Value) -> bool {
        false
    }

    /// What is wrong with an object under a quota that limits `required`.
    fn constraints(&self, _required: &[&str], _object: &Value) -> Result<(), String> {
        Ok(())
    }

    /// What one object uses at `now`.
    fn usage(&self, object: &Value, now: Timestamp) -> Amounts;
}

/// How objects of a resource use quotas.
pub fn evaluator(group: &str, plural: &str) -> Box<dyn Evaluator> {
    match (group, plural) {
        ("", "pods") => Box::new(pod::Pods),
        ("", "services") => Box::new(service::Services),
        ("", "persistentvolumeclaims") => Box::new(persistent_volume_claim::PersistentVolumeClaims),
        _ => Box::new(count::Count::of(group, plural)),
    }
}

/// A write that may use a quota.
pub struct Charge<'a> {
    pub new: &'a Value,
    /// The object as stored; `None` for a create.
    pub old: Option<&'a Value>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
}

/// What the quota's `status.used` becomes when the write happens; `None` when the write does not concern it.
///
/// # Errors
/// Why the quota does not allow the write, as `pods "x" is forbidden: …` goes on.
pub fn charge(quota: &Value, evaluator: &dyn Evaluator, charge: &Charge<'_>) -> Result<Option<Amounts>, String> {
    if !evaluator.handles(charge.old.is_none(), charge.subresource) {
        return Ok(None);
    }
    let name = text(quota, &["metadata", "name"]);
    let (hard, mut used) = (of_list(quota, &["status", "hard"]), of_list(quota, &["status", "used"]));
    let tracked: Vec<&str> = hard.keys().map(String::as_str).filter(|resource| evaluator.tracks(resource)).collect();
    if tracked.is_empty() || !matches(quota, evaluator, charge.new) {
        return Ok(None);
    }
    evaluator.constraints(&tracked, charge.new).map_err(|why| format!("failed quota: {name}: {why}"))?;
    if tracked.iter().any(|resource| !used.contains_key(*resource)) {
        return Err(format!("status unknown for quota: {name}, resources: {}", tracked.join(",")));
    }
    let mut delta = evaluator.usage(charge.new, charge.now);
    let negative: Vec<&str> =
        delta.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| &**name).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    if let Some(old) = charge.old.filter(|old| matches(quota, evaluator, old)) {
        for (resource, before) in evaluator.usage(old, charge.now) {
            if let Some(amount) = delta.get_mut(&resource) {
                *amount = (*amount - before).max(Quantity::ZERO);
            }
        }
    }
    delta.retain(|resource, amount| !amount.is_zero() && hard.contains_key(resource));
    if delta.is_empty() {
        return Ok(None);
    }
    let before = used.clone();
    add(&mut used, &delta);
    let exceeded: Vec<&String> = delta.keys().filter(|resource| used[*resource] > hard[*resource]).collect();
    // What a status says has happened already.
    if !exceeded.is_empty() && charge.subresource != "status" {
        let shown = |amounts: &Amounts| {
            let parts = exceeded.iter().map(|resource| {
                let amount = amounts.get(*resource).copied().unwrap_or(Quantity::ZERO);
                format!("{resource}={amount}")
            });
            parts.collect::<Vec<_>>().join(",")
        };
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            shown(&delta),
            shown(&before),
            shown(&hard)
        ));
    }
    Ok(Some(used))
}

/// Whether an object falls under all scopes of the quota.
fn matches(quota: &Value, evaluator: &dyn Evaluator, object: &Value) -> bool {
    scope::of(quota).iter().all(|scope| evaluator.in_scope(scope, object))
}

/// What of `spec.hard` is used by the namespace's objects of one resource; sums of several resources make up
/// `status.used`. `None` when the quota does not limit that resource, so that its objects need not be read.
pub fn used<'v>(
    quota: &Value,
    evaluator: &dyn Evaluator,
    objects: impl IntoIterator<Item = &'v Value>,
    now: Timestamp,
) -> Option<Amounts> {
    let hard = of_list(quota, &["spec", "hard"]);
    let tracked = |resource: &String| hard.contains_key(resource) && evaluator.tracks(resource);
    let mut total: Amounts =
        hard.keys().filter(|name| tracked(name)).map(|name| (name.clone(), Quantity::ZERO)).collect();
    if total.is_empty() {
        return None;
    }
    for object in objects.into_iter().filter(|object| matches(quota, evaluator, object)) {
        let mut usage = evaluator.usage(object, now);
        usage.retain(|resource, _| tracked(resource));
        add(&mut total, &usage);
    }
    Some(total)
}

/// Amounts as a resource list.
pub fn to_list(amounts: &Amounts) -> Map<String, Value> {
    amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect()
}

/// `count/deployments.apps`, `count/pods`.
fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

#[cfg(test)]
mod tests;
