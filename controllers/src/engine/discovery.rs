//! Finds out which resources the API serves, and keeps a metadata informer on each that has no typed store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::informer::Informer;
use super::tasks::{TaskKind, Tasks};
use crate::resource::{self, Resource};
use crate::world::{Change, WATCHED};

/// Discovery is repeated when a custom resource definition changes, and at this pace for what announces itself in no
/// other way.
const REDISCOVER: Duration = Duration::from_secs(60);
/// Until the API server answers for the first time.
const FIRST_TRY: Duration = Duration::from_millis(200);

pub struct Discovery {
    pub client: kube::Client,
    pub changes: mpsc::Sender<Change>,
    /// Rung when the set of resources may have changed.
    pub bell: Arc<Notify>,
}

/// What discovery found.
#[derive(Clone, Default, PartialEq)]
struct Found {
    resources: Vec<Resource>,
    scalable: BTreeSet<Resource>,
}

impl Discovery {
    pub async fn run(self) {
        let mut informers: BTreeMap<Resource, AbortOnDrop> = BTreeMap::new();
        let mut known = Found::default();
        loop {
            match self.resources().await {
                Ok(found) if found != known => {
                    informers.retain(|resource, _| found.resources.contains(resource));
                    for resource in found.resources.iter().filter(|r| needs_metadata_informer(r)) {
                        informers.entry(resource.clone()).or_insert_with(|| self.start(resource));
                    }
                    known = found.clone();
                    let Found { resources, scalable } = found;
                    if self.changes.send(Change::Discovered { resources, scalable }).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "discovery failed, will be repeated"),
            }
            let pause = if known.resources.is_empty() { FIRST_TRY } else { REDISCOVER };
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn start(&self, resource: &Resource) -> AbortOnDrop {
        let informer = Informer {
            client: self.client.clone(),
            resource: Arc::new(resource.clone()),
            bare: true,
            part: None,
            changes: self.changes.clone(),
        };
        AbortOnDrop(tokio::spawn(informer.run()).abort_handle())
    }

    /// Every resource, in its group's preferred version, that can be listed, watched and deleted.
    async fn resources(&self) -> kube::Result<Found> {
        let mut found = Found::default();
        collect(&mut found, "", "v1", self.client.list_core_api_resources("v1").await?);
        for group in self.client.list_api_groups().await?.groups {
            let Some(version) = group.preferred_version.or_else(|| group.versions.first().cloned()) else { continue };
            match self.client.list_api_group_resources(&version.group_version).await {
                Ok(list) => collect(&mut found, &group.name, &version.version, list),
                // An aggregated API that is down must not hide the others.
                Err(error) => tracing::warn!(group = group.name, %error, "the group's resources can't be listed"),
            }
        }
        found.resources.sort();
        Ok(found)
    }
}

fn collect(
    found: &mut Found,
    group: &str,
    version: &str,
    list: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList,
) {
    let scales = list.resources.iter().filter_map(|item| item.name.strip_suffix("/scale").map(str::to_owned));
    let scales: BTreeSet<String> = scales.collect();
    for item in list.resources {
        let usable = ["list", "watch", "delete"].iter().all(|verb| item.verbs.iter().any(|v| v == verb));
        if usable && !item.name.contains('/') {
            let is_scalable = scales.contains(&item.name);
            let resource = Resource {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                plural: item.name.into(),
                kind: item.kind.into(),
                namespaced: item.namespaced,
            };
            if is_scalable {
                found.scalable.insert(resource.clone());
            }
            found.resources.push(resource);
        }
    }
}

/// Events own nothing and are owned by nothing, and there are many of them.
fn needs_metadata_informer(resource: &Resource) -> bool {
    let typed = WATCHED.iter().any(|(watched, parts)| parts.is_empty() && watched.same_objects(resource));
    !typed && resource.plural != resource::EVENTS.plural
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts discovery among the other tasks.
pub fn spawn(tasks: &mut Tasks, discovery: Discovery) {
    tasks.spawn(TaskKind::Discovery, discovery.run());
}
