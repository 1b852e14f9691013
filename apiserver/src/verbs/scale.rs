//! The `scale` subresource: a kind's number of replicas as an `autoscaling/v1` Scale.

use super::get;
use super::object::{Expected, answer_accepted, match_url, warn};
use super::options::WriteOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::codec::{self, Accept, Offer};
use crate::object_store::{self, Change, Patched, Rules};
use crate::patch::{MEDIA_TYPES, Patch};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::{StatusCode, header};
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::kind::ScalePaths;
use k8w_kinds::schema::Schema;
use k8w_kinds::{autoscaling, object};
use serde_json::{Value, json};

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let paths = resource.subresource("scale").and_then(|subresource| subresource.scale.as_ref());
    let paths = paths.ok_or_else(Status::no_such_resource)?;
    let schema = autoscaling::scale::kind().schema();
    if call.info.verb == "get" {
        let object = get::read(server, resource, &call).await?.value();
        if resource.is_custom() && object::get(&object, &dotted(&paths.spec_replicas).collect::<Vec<_>>()).is_none() {
            let why = format!("the spec replicas field \".{}\" does not exist", paths.spec_replicas);
            return Err(Status::internal(why));
        }
        return answer(&call, &scale_of(&object, paths), &[]);
    }
    let options = WriteOptions::parse(&call, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let wanted = if call.info.verb == "update" {
        let expected = Expected { group: "autoscaling", version: "v1", kind: "Scale", schema };
        let mut scale = expected.read(&mut call, options.validation, &mut warnings).await?;
        match_url(&mut scale, resource, &call)?;
        Wanted::Scale(scale)
    } else {
        let media_type = codec::media_type(call.header(header::CONTENT_TYPE)).to_string();
        let body = call.read_body().await?;
        match Patch::read(&media_type, &body)? {
            Some(patch) => Wanted::Patch(patch),
            None => return Err(Status::unsupported_media_type(&MEDIA_TYPES)),
        }
    };
    let change = |old: &Value| rescale(&wanted, old, paths, schema);
    let mut write = options.write(server, resource, &call);
    write.warnings = warnings;
    let written = object_store::update(&mut write, Change::Patch(&change), Rules::Update).await?;
    let object: Value = serde_json::from_slice(&written.json).map_err(Status::internal)?;
    let warnings = write.warnings;
    answer(&call, &scale_of(&object, paths), &warnings)
}

fn answer(call: &Call, scale: &Value, warnings: &[String]) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), Offer::BuiltIn)?;
    let kind = autoscaling::scale::kind();
    let mut response = answer_accepted(call, kind, accept, StatusCode::OK, scale.to_string().into())?;
    warn(&mut response, warnings);
    Ok(response)
}

enum Wanted {
    Scale(Value),
    Patch(Patch),
}

/// The object with another number of replicas.
fn rescale(wanted: &Wanted, old: &Value, paths: &ScalePaths, schema: &Schema) -> Result<Patched, Status> {
    let current = scale_of(old, paths);
    let (scale, once) = match wanted {
        Wanted::Scale(scale) => {
            let version = object::text(scale, &["metadata", "resourceVersion"]);
            (scale.clone(), !version.is_empty())
        }
        Wanted::Patch(patch) => {
            let patched = patch.apply(schema, &current)?;
            let checked = schema.check(patched).map_err(|error| Status::bad_request(error.to_string()))?;
            (checked.value, patch.resource_version().is_some())
        }
    };
    let replicas = object::int(&scale, &["spec", "replicas"]);
    if replicas < 0 {
        let path = FieldPath::new("spec");
        let error = FieldError::invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
        let name = object::text(old, &["metadata", "name"]);
        return Err(Status::invalid("autoscaling", "Scale", name, &[error]));
    }
    let mut object = old.clone();
    let names: Vec<&str> = dotted(&paths.spec_replicas).collect();
    if let Some((last, parents)) = names.split_last()
        && let Some(parent) = object::ensure(&mut object, parents)
    {
        parent.insert((*last).to_owned(), replicas.into());
    }
    let metadata = |field| object::get(&scale, &["metadata", field]).filter(|_| once).cloned();
    for field in ["resourceVersion", "uid"] {
        if let Some(value) = metadata(field) {
            object["metadata"][field] = value;
        }
    }
    Ok(Patched { object, tracked: false, once })
}

/// What the object says about its scale.
fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let at = |path: &str| dotted(path).try_fold(object, |value, name| value.get(name)).filter(|value| !value.is_null());
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::get(object, &["metadata", field]) {
            metadata[field] = value.clone();
        }
    }
    let replicas = |path: &str| at(path).cloned().unwrap_or_else(|| 0.into());
    let mut status = json!({"replicas": replicas(&paths.status_replicas)});
    if let Some(selector) = at(&paths.selector).and_then(|selector| selector_text(selector, paths.selector_is_map)) {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": replicas(&paths.spec_replicas)}, "status": status,
    })
}

fn dotted(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('.').split('.')
}

/// A selector as `labelSelector` parameters write it.
fn selector_text(selector: &Value, is_map: bool) -> Option<String> {
    if let Some(text) = selector.as_str() {
        return Some(text.to_string());
    }
    let labels = if is_map { selector.as_object() } else { object::map(selector, &["matchLabels"]) };
    let equal =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let mut terms: Vec<String> = equal.collect();
    for expression in object::list(selector, &["matchExpressions"]) {
        let key = object::text(expression, &["key"]);
        let values: Vec<&str> = object::list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        terms.push(match object::text(expression, &["operator"]) {
            "Exists" => key.to_string(),
            "DoesNotExist" => format!("!{key}"),
            operator => format!("{key} {} ({})", operator.to_lowercase(), values.join(",")),
        });
    }
    Some(terms.join(","))
}
