//! The `scale` subresource: a kind's number of replicas as an `autoscaling/v1` Scale.

use super::object::{Expected, answer_accepted, match_url, warn};
use super::options::WriteOptions;
use super::{get, patch};
use crate::ApiServer;
use crate::apply;
use crate::call::Call;
use crate::codec::{self, Accept, Offer};
use crate::object_store::{self, Change, Patched, Rules};
use crate::patch::{APPLY, Patch};
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::{StatusCode, header};
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::kind::ScalePaths;
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
    let expected = Expected { group: "autoscaling", version: "v1", kind: "Scale", schema };
    let media_type = codec::media_type(call.header(header::CONTENT_TYPE)).to_string();
    let is_apply = call.info.verb == "patch" && media_type == APPLY;
    let options = match call.info.verb {
        "patch" => WriteOptions::of_patch(&call, is_apply)?,
        _ => WriteOptions::parse(&call, "UpdateOptions")?,
    };
    let mut warnings = Vec::new();
    let wanted = if call.info.verb == "update" {
        let mut scale = expected.read(&mut call, options.validation, &mut warnings).await?;
        match_url(&mut scale, resource, &call)?;
        Wanted::Scale(scale)
    } else if is_apply {
        let body = call.read_body().await?;
        let mut scale = expected.configuration(&body, options.validation, &mut warnings)?;
        match_url(&mut scale, resource, &call)?;
        Wanted::Applied(configuration(&scale, resource, paths))
    } else {
        let body = call.read_body().await?;
        Wanted::Patch(patch::read(resource, &media_type, &body)?)
    };
    let mut write = options.write(server, resource, &call);
    write.warnings = warnings;
    let written = match wanted {
        Wanted::Applied(config) => {
            apply::apply(&mut write, config, call.query.flag("force"), Rules::Update, || Ok(())).await
        }
        Wanted::Scale(scale) => {
            let change = |old: &Value| {
                let insists = !object::text(&scale, &["metadata", "resourceVersion"]).is_empty();
                rescale(&scale, old, paths, insists)
            };
            object_store::update(&mut write, Change::Patch(&change), Rules::Update).await
        }
        Wanted::Patch(patch) => {
            let change = |old: &Value| {
                let (scale, issues) = patch::patched(schema, &patch, &scale_of(old, paths), options.validation)?;
                Ok((rescale(&scale, old, paths, patch.resource_version().is_some())?, issues))
            };
            patch::update(&mut write, Rules::Update, change).await
        }
    }?;
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
    /// What of the scaled object an applied Scale is about.
    Applied(Value),
}

/// What an applied Scale says, as a configuration of the scaled object.
fn configuration(scale: &Value, resource: &Resource, paths: &ScalePaths) -> Value {
    let (api_version, kind) = (resource.api_version(), &*resource.kind);
    let mut config = json!({"apiVersion": api_version, "kind": kind, "metadata": scale["metadata"]});
    if let Some(replicas) = object::get(scale, &["spec", "replicas"]) {
        set_replicas(&mut config, replicas.clone(), paths);
    }
    config
}

fn set_replicas(object: &mut Value, replicas: Value, paths: &ScalePaths) {
    let names: Vec<&str> = dotted(&paths.spec_replicas).collect();
    if let Some((last, parents)) = names.split_last()
        && let Some(parent) = object::ensure(object, parents)
    {
        parent.insert((*last).to_owned(), replicas);
    }
}

/// The object with the scale's number of replicas. `once` says that the scale is meant for the revision it names.
fn rescale(scale: &Value, old: &Value, paths: &ScalePaths, once: bool) -> Result<Patched, Status> {
    let replicas = object::int(scale, &["spec", "replicas"]);
    if replicas < 0 {
        let path = FieldPath::new("spec");
        let error = FieldError::invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
        let name = object::text(old, &["metadata", "name"]);
        return Err(Status::invalid("autoscaling", "Scale", name, &[error]));
    }
    let mut object = old.clone();
    set_replicas(&mut object, replicas.into(), paths);
    let metadata = |field| object::get(scale, &["metadata", field]).filter(|_| once).cloned();
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
