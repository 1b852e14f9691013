//! `PATCH`: JSON patch, merge patch, strategic merge patch, and server-side apply.

use super::object::{Expected, answer_written, match_url};
use super::options::{FieldValidation, WriteOptions};
use crate::ApiServer;
use crate::apply;
use crate::call::Call;
use crate::codec;
use crate::object_store::{self, Change, Patched, Rules};
use crate::patch::{APPLY, MEDIA_TYPES, Patch};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::header;
use serde_json::Value;
use std::sync::Mutex;

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let media_type = codec::media_type(call.header(header::CONTENT_TYPE)).to_string();
    let options = WriteOptions::of_patch(&call, media_type == APPLY)?;
    let body = call.read_body().await?;
    let rules = Rules::of(&call.info.subresource);
    if media_type == APPLY {
        return serve_apply(server, resource, call, options, &body, rules).await;
    }
    let strategic = media_type == "application/strategic-merge-patch+json";
    let patch = match Patch::read(&media_type, &body)? {
        Some(patch) if !(strategic && resource.is_custom()) => patch,
        _ => {
            let strategic = |media_type: &&str| media_type.starts_with("application/strategic");
            let accepted = MEDIA_TYPES.into_iter().filter(|accepted| !(resource.is_custom() && strategic(accepted)));
            return Err(Status::unsupported_media_type(&accepted.collect::<Vec<_>>()));
        }
    };
    let issues = Mutex::new(Vec::new());
    let change = |old: &Value| {
        let (mut object, found) = patched(resource, &patch, old, options.validation)?;
        match_url(&mut object, resource, &call)?;
        *issues.lock().unwrap_or_else(|error| error.into_inner()) = found;
        Ok(Patched { object, tracked: false, once: patch.resource_version().is_some() })
    };
    let mut write = options.write(server, resource, &call);
    let written = object_store::update(&mut write, Change::Patch(&change), rules).await?;
    let mut warnings = write.warnings;
    warnings.extend(issues.into_inner().unwrap_or_else(|error| error.into_inner()));
    answer_written(&call, resource, written, &warnings)
}

/// The patched object, and what to warn of.
fn patched(
    resource: &Resource,
    patch: &Patch,
    old: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let result = patch.patched(resource.schema(), old)?;
    for field in ["apiVersion", "kind"] {
        if result.value.get(field) != old.get(field) {
            return Err(Status::bad_request(format!("a patch cannot change the {field} of an object")));
        }
    }
    match validation {
        FieldValidation::Strict if !result.issues.is_empty() => {
            Err(patch.strict_error(resource.schema(), old, &result.issues))
        }
        FieldValidation::Ignore => Ok((result.value, Vec::new())),
        FieldValidation::Warn | FieldValidation::Strict => Ok((result.value, result.issues)),
    }
}

async fn serve_apply(
    server: &ApiServer,
    resource: &Resource,
    call: Call,
    options: WriteOptions,
    body: &[u8],
    rules: Rules,
) -> Answer {
    let mut warnings = Vec::new();
    let expected = Expected::of(resource);
    let mut config = expected.configuration(body, options.validation, &mut warnings)?;
    match_url(&mut config, resource, &call)?;
    let mut write = options.write(server, resource, &call);
    write.warnings = warnings;
    let may_create = || server.authorize(&call.user, "create", &call.info);
    let written = apply::apply(&mut write, config, call.query.flag("force"), rules, may_create).await?;
    let warnings = write.warnings;
    answer_written(&call, resource, written, &warnings)
}
