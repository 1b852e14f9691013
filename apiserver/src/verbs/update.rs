//! `PUT` of an object, of a part of it that is a subresource, or of a Namespace's finalizers.

use super::object::{Expected, answer_written, match_url};
use super::options::WriteOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::object_store::{self, Change, Patched, Rules};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use k8w_kinds::object;
use serde_json::Value;

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let options = WriteOptions::parse(&call, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let mut object = Expected::of(resource).read(&mut call, options.validation, &mut warnings).await?;
    match_url(&mut object, resource, &call)?;
    let mut write = options.write(server, resource, &call);
    write.warnings = warnings;
    let written = match call.info.subresource.as_str() {
        "finalize" => {
            let finalize = |old: &Value| Ok(finalized(old, &object));
            object_store::update(&mut write, Change::Patch(&finalize), Rules::Subresource).await
        }
        "" if resource.strategy.allow_create_on_update() => create_or_update(&mut write, object, &call).await,
        subresource => object_store::update(&mut write, Change::Replace(object), Rules::of(subresource)).await,
    }?;
    let warnings = write.warnings;
    answer_written(&call, resource, written, &warnings)
}

/// Some kinds are created by a `PUT` to where they are not, by those who may create them.
async fn create_or_update(
    write: &mut object_store::Write<'_>,
    object: Value,
    call: &Call,
) -> Result<object_store::Written, Status> {
    write.server.cache.catch_up().await?;
    let insists = !object::text(&object, &["metadata", "resourceVersion"]).is_empty();
    if insists || write.resource.objects.get(write.namespace, write.name).is_some() {
        return object_store::update(write, Change::Replace(object), Rules::Update).await;
    }
    write.server.authorize(&call.user, "create", &call.info)?;
    object_store::create(write, object, false).await
}

/// Finalizing a Namespace changes nothing but the finalizers in its spec.
fn finalized(old: &Value, request: &Value) -> Patched {
    let mut object = old.clone();
    let finalizers = object::get(request, &["spec", "finalizers"]).cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let version = object::text(request, &["metadata", "resourceVersion"]);
    let once = !version.is_empty();
    if once {
        object["metadata"]["resourceVersion"] = version.into();
    }
    object["spec"]["finalizers"] = finalizers;
    Patched { object, tracked: false, once }
}
