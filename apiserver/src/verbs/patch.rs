//! `PATCH`: JSON patch, merge patch, strategic merge patch, and server-side apply.

use super::object::{Expected, answer_written, match_url};
use super::options::{FieldValidation, WriteOptions};
use crate::ApiServer;
use crate::apply;
use crate::call::Call;
use crate::codec;
use crate::object_store::{self, Change, Patched, Rules, Write, Written};
use crate::patch::{APPLY, MEDIA_TYPES, Patch};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::header;
use k8w_kinds::schema::Schema;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let media_type = codec::media_type(call.header(header::CONTENT_TYPE)).to_string();
    let options = WriteOptions::of_patch(&call, media_type == APPLY)?;
    let body = call.read_body().await?;
    let rules = Rules::of(&call.info.subresource);
    if media_type == APPLY {
        return serve_apply(server, resource, call, options, &body, rules).await;
    }
    let patch = read(resource, &media_type, &body)?;
    let mut write = options.write(server, resource, &call);
    let written = update(&mut write, rules, |old| {
        let (mut object, issues) = patched(resource.schema(), &patch, old, options.validation)?;
        match_url(&mut object, resource, &call)?;
        Ok((Patched { object, tracked: false, once: patch.resource_version().is_some() }, issues))
    });
    let written = written.await?;
    answer_written(&call, resource, written, &write.warnings)
}

/// Reads a patch of a type that the kind takes. A custom kind does not say how its lists are merged.
///
/// # Errors
/// 415 for another type, and those of [`Patch::read`].
pub fn read(resource: &Resource, media_type: &str, body: &[u8]) -> Result<Patch, Status> {
    let is_taken = |media_type: &&str| !(resource.is_custom() && media_type.starts_with("application/strategic"));
    let taken: Vec<&str> = MEDIA_TYPES.into_iter().filter(is_taken).collect();
    let patch = if taken.contains(&media_type) { Patch::read(media_type, body)? } else { None };
    patch.ok_or_else(|| Status::unsupported_media_type(&taken))
}

/// Writes what a patch makes of an object, and warns of what `change` says beside it.
///
/// # Errors
/// Those of `change`, and of any update.
pub async fn update(
    write: &mut Write<'_>,
    rules: Rules,
    change: impl Fn(&Value) -> Result<(Patched, Vec<String>), Status> + Sync,
) -> Result<Written, Status> {
    // Somebody else's write in between has it made once more: the last one's count.
    let issues = Mutex::new(Vec::new());
    let change = |old: &Value| {
        let (patched, found) = change(old)?;
        *issues.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(patched)
    };
    let written = object_store::update(write, Change::Patch(&change), rules).await?;
    write.warnings.extend(issues.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(written)
}

/// The patched object, and what to warn of.
///
/// # Errors
/// Those of [`Patch::patched`], and 422 for what strict decoding refuses where the client wants that.
pub fn patched(
    schema: &Schema,
    patch: &Patch,
    old: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let result = patch.patched(schema, old)?;
    for field in ["apiVersion", "kind"] {
        if result.value.get(field) != old.get(field) {
            return Err(Status::bad_request(format!("a patch cannot change the {field} of an object")));
        }
    }
    match validation {
        FieldValidation::Strict if !result.issues.is_empty() => Err(patch.strict_error(schema, old, &result.issues)),
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
