//! Applies manifests by server-side apply, each object after the ones before it.

use anyhow::{Context, Result, anyhow};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};

use super::folder::Manifest;

/// Owner of the applied fields in `metadata.managedFields`.
const FIELD_MANAGER: &str = "k8w-up";

/// An object as the API server answered it, with where it lives.
pub struct Applied {
    pub object: DynamicObject,
    pub resource: ApiResource,
}

impl Applied {
    /// `deployment default/hello`
    pub fn describe(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        match self.object.namespace() {
            Some(namespace) => format!("{kind} {namespace}/{}", self.object.name_any()),
            None => format!("{kind} {}", self.object.name_any()),
        }
    }

    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        match self.object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }
}

/// Applies every manifest, in order.
///
/// # Errors
/// The first refusal, with the file it is about.
pub async fn all(client: &Client, manifests: &[Manifest]) -> Result<Vec<Applied>> {
    let mut applied = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        applied.push(one(client, manifest).await.with_context(|| format!("{} was refused", manifest.origin))?);
    }
    Ok(applied)
}

async fn one(client: &Client, manifest: &Manifest) -> Result<Applied> {
    let object = &manifest.object;
    let types = object.types.as_ref().context("apiVersion and kind are missing")?;
    let gvk = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = pinned_kind(client, &gvk)
        .await
        .map_err(|error| sentence(error).context(format!("no kind {} in {}", gvk.kind, gvk.api_version())))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| "default".into());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let stored = match &object.metadata.name {
        Some(name) => {
            let mut params = PatchParams::apply(FIELD_MANAGER).force();
            params.field_validation = Some(ValidationDirective::Strict);
            api.patch(name, &params, &Patch::Apply(object)).await
        }
        None => api.create(&PostParams::default(), object).await,
    };
    Ok(Applied { object: stored.map_err(sentence)?, resource })
}

/// The API server's own sentence, without the client's wrapping.
fn sentence(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => other.into(),
    }
}
