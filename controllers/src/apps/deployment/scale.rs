//! How many replicas each ReplicaSet of a Deployment should have next: arithmetic only.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::bounds::Bounds;
use super::revisions::{DESIRED_REPLICAS, MAX_REPLICAS};
use crate::pods::annotation;

/// A set's new size.
pub struct Resize {
    pub set: Arc<ReplicaSet>,
    pub replicas: i32,
}

pub fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Available replicas, of those that are still wanted: right after a scale-down the status counts more.
fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0).min(spec_replicas(set))
}

fn total<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> i32 {
    sets.into_iter().map(|set| spec_replicas(set)).sum()
}

/// How many replicas the new set may have while the old ones still have theirs.
pub fn new_set_size(bounds: &Bounds, old: &[Arc<ReplicaSet>], current: i32) -> i32 {
    let room = bounds.max_total() - total(old) - current;
    if room <= 0 { current } else { current + room.min(bounds.replicas - current) }
}

/// The next size of the new set, if it should change.
pub fn grow_new(bounds: &Bounds, new: &Arc<ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Option<Resize> {
    let current = spec_replicas(new);
    let replicas = if current > bounds.replicas { bounds.replicas } else { new_set_size(bounds, old, current) };
    (replicas != current).then(|| Resize { set: new.clone(), replicas })
}

/// The next sizes of the old sets (oldest first): first without their unavailable replicas, which cost nothing to lose,
/// then as far down as the available ones allow.
pub fn shrink_old(bounds: &Bounds, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Vec<Resize> {
    let all = total(old.iter().chain(new));
    let new_unavailable = new.map_or(0, |new| spec_replicas(new) - available(new));
    let mut removable = all - bounds.min_available() - new_unavailable;
    if total(old) == 0 || removable <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<i32> = old.iter().map(|set| spec_replicas(set)).collect();
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = (*size - available(set)).clamp(0, removable.max(0));
        *size -= unhealthy;
        removable -= unhealthy;
    }
    let available_now: i32 = old.iter().chain(new).map(|set| available(set)).sum();
    let mut surplus = (available_now - bounds.min_available()).clamp(0, removable);
    for size in &mut sizes {
        let step = surplus.min(*size);
        *size -= step;
        surplus -= step;
    }
    let changed = old.iter().zip(sizes).filter(|(set, size)| spec_replicas(set) != *size);
    changed.map(|(set, replicas)| Resize { set: set.clone(), replicas }).collect()
}

/// Whether the Deployment was resized since its sets were.
pub fn is_scaling(bounds: &Bounds, sets: &[&Arc<ReplicaSet>]) -> bool {
    let mut active = sets.iter().filter(|set| spec_replicas(set) > 0);
    active.any(|set| number(set, DESIRED_REPLICAS).is_some_and(|desired| desired != bounds.replicas))
}

fn number(set: &ReplicaSet, name: &str) -> Option<i32> {
    annotation(&set.metadata, name)?.parse().ok()
}

/// New sizes after the Deployment was resized. In the middle of a rolling update every set gets its share of the change,
/// so that a bad template does not get all the new replicas ("proportional scaling").
pub fn rescale(
    bounds: &Bounds,
    is_rolling: bool,
    deployed: i32,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
) -> Vec<Resize> {
    let active: Vec<&Arc<ReplicaSet>> = old.iter().chain(new).filter(|set| spec_replicas(set) > 0).collect();
    let only = match active[..] {
        [] => new.or(old.last()),
        [only] => Some(only),
        _ => None,
    };
    if let Some(set) = only {
        return vec![Resize { set: set.clone(), replicas: bounds.replicas }];
    }
    if let Some(new) = new.filter(|new| is_saturated(bounds, new)) {
        let leftovers = active.into_iter().filter(|set| set.metadata.uid != new.metadata.uid);
        return leftovers.map(|set| Resize { set: set.clone(), replicas: 0 }).collect();
    }
    if is_rolling { proportional(bounds, deployed, active) } else { Vec::new() }
}

fn is_saturated(bounds: &Bounds, new: &ReplicaSet) -> bool {
    spec_replicas(new) == bounds.replicas
        && number(new, DESIRED_REPLICAS) == Some(bounds.replicas)
        && available(new) == bounds.replicas
}

fn proportional(bounds: &Bounds, deployed: i32, mut active: Vec<&Arc<ReplicaSet>>) -> Vec<Resize> {
    let allowed = if bounds.replicas > 0 { bounds.max_total() } else { 0 };
    let to_add = allowed - total(active.iter().copied());
    // Largest first; of equals the newest first when growing, the oldest first when shrinking.
    active.sort_by(|a, b| {
        let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let by_age = created(a).cmp(&created(b));
        spec_replicas(b).cmp(&spec_replicas(a)).then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = share(set, bounds, deployed);
        let left = to_add - added;
        let step = if to_add > 0 { share.clamp(0, left) } else { share.clamp(left.min(0), 0) };
        added += step;
        sizes.push(spec_replicas(set) + step);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    active.into_iter().zip(sizes).map(|(set, replicas)| Resize { set: set.clone(), replicas }).collect()
}

/// By how much a set should change to keep its share of the Deployment.
fn share(set: &ReplicaSet, bounds: &Bounds, deployed: i32) -> i32 {
    let size = spec_replicas(set);
    if bounds.replicas == 0 {
        return -size;
    }
    let before = number(set, MAX_REPLICAS).filter(|max| *max > 0).unwrap_or(deployed);
    if before <= 0 {
        return 0;
    }
    let grown = f64::from(size) * f64::from(bounds.max_total()) / f64::from(before);
    grown.round() as i32 - size
}
