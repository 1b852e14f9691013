//! `DELETE` of one object.

use super::object::answer;
use super::options::{WriteOptions, dry_run, invalid};
use crate::ApiServer;
use crate::call::Call;
use crate::codec;
use crate::object_store::{self, DeleteOptions, Propagation};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::{StatusCode, header};
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::object;
use k8w_kinds::schema::Schema;
use serde_json::{Value, json};

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let mut options = WriteOptions::parse(&call, "DeleteOptions")?;
    let (delete, dry) = read_options(&mut call).await?;
    options.dry_run |= dry;
    let mut write = options.write(server, resource, &call);
    let deleted = object_store::delete(&mut write, &delete).await?;
    if !deleted.gone || resource.answers_deleted {
        return answer(&call, resource, StatusCode::OK, deleted.json);
    }
    let mut details = json!({"name": call.info.name, "kind": resource.plural, "uid": deleted.uid});
    if !resource.group.is_empty() {
        details["group"] = resource.group.to_string().into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    codec::answer_status(&call, resource.offer(), StatusCode::OK, &status)
}

/// The published name of DeleteOptions.
const OPTIONS_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// DeleteOptions come in the body or, without one, in the query. Also says whether the body asks for a dry run.
pub async fn read_options(call: &mut Call) -> Result<(DeleteOptions, bool), Status> {
    let format = codec::body_format(call.header(header::CONTENT_TYPE))?;
    let body = call.read_body().await?;
    if body.is_empty() || &*body == b"null" {
        return Ok((from_query(call)?, false));
    }
    let schema = Schema::builtin(OPTIONS_TYPE).ok_or_else(|| Status::internal(OPTIONS_TYPE))?;
    let decoded = schema.decode(&body, format);
    let options = decoded.map_err(|why| Status::bad_request(format!("cannot read the DeleteOptions: {why}")))?.value;
    delete_options(&options)
}

/// A DeleteOptions object. Also says whether it asks for a dry run.
pub fn delete_options(options: &Value) -> Result<(DeleteOptions, bool), Status> {
    let dry = object::list(options, &["dryRun"]).iter().filter_map(Value::as_str);
    let dry = dry_run(dry, "DeleteOptions")?;
    let text = |path: &[&str]| object::get(options, path).and_then(Value::as_str).map(str::to_string);
    let orphan = object::get(options, &["orphanDependents"]).and_then(Value::as_bool);
    let delete = DeleteOptions {
        grace_period_seconds: object::get(options, &["gracePeriodSeconds"]).and_then(Value::as_i64),
        propagation: propagation(text(&["propagationPolicy"]).as_deref(), orphan)?,
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
    };
    Ok((delete, dry))
}

fn from_query(call: &Call) -> Result<DeleteOptions, Status> {
    let grace = call.query.integer("gracePeriodSeconds")?;
    let orphan = call.query.get("orphanDependents").map(|_| call.query.flag("orphanDependents"));
    let propagation = propagation(call.query.non_empty("propagationPolicy"), orphan)?;
    Ok(DeleteOptions { grace_period_seconds: grace, propagation, ..DeleteOptions::default() })
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    let mut errors = Vec::new();
    let path = FieldPath::new("propagationPolicy");
    if let (Some(policy), Some(_)) = (policy, orphan) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&path, policy, why));
    }
    let propagation = match (policy, orphan) {
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (None, None) => None,
        (Some(other), _) => {
            errors.push(FieldError::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
            None
        }
    };
    if errors.is_empty() { Ok(propagation) } else { Err(invalid("DeleteOptions", &errors)) }
}
