//! Fits endpoints into slices with as few writes as may be: an endpoint stays in the slice it is in.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::endpoints::Group;
use crate::selector::Labels;

pub const MAX_ENDPOINTS_PER_SLICE: usize = 100;

/// What has to be written. Created slices have no metadata yet.
#[derive(Default)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// A slice in the making: an existing one with what it should hold, or a new one.
struct Draft {
    slice: EndpointSlice,
    endpoints: Vec<Endpoint>,
    is_new: bool,
    is_changed: bool,
}

impl Draft {
    fn room(&self) -> usize {
        MAX_ENDPOINTS_PER_SLICE.saturating_sub(self.endpoints.len())
    }

    fn finish(self) -> EndpointSlice {
        EndpointSlice { endpoints: Some(self.endpoints), ..self.slice }
    }
}

pub fn fit(groups: Vec<Group>, existing: Vec<&Arc<EndpointSlice>>, labels: &Labels) -> Changes {
    let mut changes = Changes::default();
    let mut unused: Vec<&Arc<EndpointSlice>> = Vec::new();
    let (mut drafts, mut rest): (Vec<Draft>, Vec<&Arc<EndpointSlice>>) = (Vec::new(), existing);
    // A Service without endpoints keeps one empty slice, which says just that.
    let groups = if groups.is_empty() { vec![Group { ports: Vec::new(), endpoints: Vec::new() }] } else { groups };
    for group in groups {
        let (mine, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|slice| same_ports(slice, &group));
        rest = others;
        let (kept, emptied) = fill(group, mine, labels);
        drafts.extend(kept);
        unused.extend(emptied);
    }
    unused.extend(rest);
    for mut draft in drafts {
        if draft.is_new
            && let Some(reused) = unused.pop()
        {
            // One write instead of two.
            let metadata = reused.metadata.clone();
            draft.slice = EndpointSlice { metadata, address_type: reused.address_type.clone(), ..draft.slice };
            changes.update.push(draft.finish());
        } else if draft.is_new {
            changes.create.push(draft.finish());
        } else if draft.is_changed {
            changes.update.push(draft.finish());
        }
    }
    changes.delete.extend(unused.into_iter().cloned());
    changes
}

fn same_ports(slice: &EndpointSlice, group: &Group) -> bool {
    slice.ports.as_deref().unwrap_or_default() == group.ports
}

/// One group's endpoints in its slices; also gives back the slices that are no longer needed.
fn fill<'a>(
    group: Group,
    mine: Vec<&'a Arc<EndpointSlice>>,
    labels: &Labels,
) -> (Vec<Draft>, Vec<&'a Arc<EndpointSlice>>) {
    let is_placeholder = group.endpoints.is_empty();
    let mut homeless = group.endpoints;
    let mut drafts = Vec::new();
    for slice in &mine {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let endpoints: Vec<Endpoint> = old.iter().filter_map(|old| take(&mut homeless, old)).collect();
        let is_changed = endpoints != old || slice.metadata.labels.as_ref() != Some(labels);
        drafts.push(Draft { slice: (***slice).clone(), endpoints, is_new: false, is_changed });
    }
    // Into slices that are written anyway first; what is left fills new ones, and what fills none goes into the fullest that
    // holds it.
    for draft in drafts.iter_mut().filter(|draft| draft.is_changed) {
        let count = draft.room().min(homeless.len());
        draft.endpoints.extend(homeless.drain(..count));
    }
    let (whole, rest) = (homeless.len() / MAX_ENDPOINTS_PER_SLICE, homeless.len() % MAX_ENDPOINTS_PER_SLICE);
    let fullest = drafts.iter_mut().filter(|draft| draft.room() >= rest).min_by_key(|draft| draft.room());
    if let Some(fullest) = fullest.filter(|_| rest > 0) {
        fullest.endpoints.extend(homeless.drain(whole * MAX_ENDPOINTS_PER_SLICE..));
        fullest.is_changed = true;
    }
    let mut homeless = homeless.into_iter().peekable();
    while homeless.peek().is_some() {
        let endpoints = homeless.by_ref().take(MAX_ENDPOINTS_PER_SLICE).collect();
        let slice = EndpointSlice { ports: Some(group.ports.clone()), ..EndpointSlice::default() };
        drafts.push(Draft { slice, endpoints, is_new: true, is_changed: true });
    }
    if is_placeholder && drafts.is_empty() {
        let slice = EndpointSlice { ports: Some(Vec::new()), ..EndpointSlice::default() };
        drafts.push(Draft { slice, endpoints: Vec::new(), is_new: true, is_changed: true });
    }
    let mut unused = Vec::new();
    let mut kept = Vec::new();
    for (index, draft) in drafts.into_iter().enumerate() {
        let is_empty = draft.endpoints.is_empty();
        if is_empty && !(is_placeholder && kept.is_empty()) {
            unused.extend(mine.get(index));
        } else {
            kept.push(draft);
        }
    }
    (kept, unused)
}

/// Takes the wanted endpoint of the same pod at the same address, as it should be now.
fn take(homeless: &mut Vec<Endpoint>, old: &Endpoint) -> Option<Endpoint> {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|r| r.uid.clone());
    let at = homeless.iter().position(|e| e.addresses == old.addresses && uid(e) == uid(old))?;
    Some(homeless.remove(at))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::api::discovery::v1::EndpointPort;
    use proptest::prelude::*;

    use super::*;

    fn endpoint(id: u16) -> Endpoint {
        Endpoint {
            addresses: vec![format!("10.0.{}.{}", id / 256, id % 256)],
            target_ref: Some(ObjectReference { uid: Some(id.to_string()), ..Default::default() }),
            ..Default::default()
        }
    }

    fn group(ids: impl IntoIterator<Item = u16>) -> Vec<Group> {
        let endpoints: Vec<_> = ids.into_iter().map(endpoint).collect();
        let ports = vec![EndpointPort { port: Some(80), ..Default::default() }];
        if endpoints.is_empty() { vec![] } else { vec![Group { ports, endpoints }] }
    }

    /// Applies the changes as the API would.
    fn applied(existing: &[Arc<EndpointSlice>], changes: Changes, next_name: &mut u32) -> Vec<Arc<EndpointSlice>> {
        let mut slices: Vec<_> = existing.to_vec();
        slices.retain(|s| !changes.delete.iter().any(|d| d.metadata.name == s.metadata.name));
        for mut slice in changes.update {
            slice.metadata.labels = Some(Labels::new());
            slices.retain(|s| s.metadata.name != slice.metadata.name);
            slices.push(Arc::new(slice));
        }
        for mut slice in changes.create {
            *next_name += 1;
            slice.metadata.name = Some(next_name.to_string());
            slice.metadata.labels = Some(Labels::new());
            slices.push(Arc::new(slice));
        }
        slices
    }

    /// Slices that are made, changed and deleted where these have such numbers of endpoints and so many more are wanted.
    fn writes(existing: &[u16], more: u16) -> [usize; 3] {
        let mut next = 0;
        let slices: Vec<Arc<EndpointSlice>> = existing
            .iter()
            .enumerate()
            .map(|(name, count)| {
                let ids = next..next + count;
                next += count;
                let Group { ports, endpoints } = group(ids).remove(0);
                let mut slice = EndpointSlice { ports: Some(ports), endpoints: Some(endpoints), ..Default::default() };
                slice.metadata.name = Some(name.to_string());
                slice.metadata.labels = Some(Labels::new());
                Arc::new(slice)
            })
            .collect();
        let Changes { create, update, delete } = fit(group(0..next + more), slices.iter().collect(), &Labels::new());
        let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
        assert!(create.iter().chain(&update).all(|slice| count(slice) <= MAX_ENDPOINTS_PER_SLICE));
        [create.len(), update.len(), delete.len()]
    }

    #[test]
    fn as_few_slices_as_may_be_are_written() {
        assert_eq!(writes(&[], 250), [3, 0, 0]);
        assert_eq!(writes(&[62, 63], 125), [1, 1, 0], "a whole one, and the rest into one that is there");
        assert_eq!(writes(&[62, 63], 30), [0, 1, 0]);
        assert_eq!(writes(&[75, 75], 100), [1, 0, 0], "rather one new than two changed");
        assert_eq!(writes(&[90, 95], 8), [0, 1, 0]);
        assert_eq!(writes(&[90, 95], 12), [1, 0, 0]);
        assert_eq!(writes(&[100, 100], 0), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn slices_hold_exactly_the_endpoints_and_then_rest(
            rounds in prop::collection::vec(prop::collection::btree_set(0u16..400, 0..300), 1..6)
        ) {
            let mut slices = Vec::new();
            let mut names = 0;
            for ids in rounds {
                let changes = fit(group(ids.iter().copied()), slices.iter().collect(), &Labels::new());
                slices = applied(&slices, changes, &mut names);
                let mut held: Vec<_> = slices.iter().flat_map(|s| s.endpoints.clone().unwrap_or_default()).collect();
                let mut wanted: Vec<_> = ids.iter().copied().map(endpoint).collect();
                let by_address = |e: &Endpoint| e.addresses.clone();
                held.sort_by_key(by_address);
                wanted.sort_by_key(by_address);
                prop_assert_eq!(held, wanted);
                prop_assert!(slices.iter().all(|s| s.endpoints.as_ref().map_or(0, Vec::len) <= MAX_ENDPOINTS_PER_SLICE));
                prop_assert!(!slices.is_empty());
                let again = fit(group(ids), slices.iter().collect(), &Labels::new());
                prop_assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0));
            }
        }
    }
}
