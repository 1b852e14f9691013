//! What can be done with stored objects: a file per verb, the same for every kind.

mod binding;
mod continuation;
mod create;
mod delete;
mod deletecollection;
mod eviction;
mod get;
mod list;
mod list_options;
mod object;
mod options;
mod patch;
mod scale;
mod update;
mod watch;

pub use binding::serve_bindings;
pub use list::filter;
pub use object::Expected;
pub use options::FieldValidation;

use crate::ApiServer;
use crate::call::Call;
use crate::codec::Accept;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::header;
use k8w_kinds::names::path_segment;
use std::sync::Arc;

/// Answers a request for a resource or for one of the subresources that every kind has in common.
pub async fn serve(server: &ApiServer, resource: &Arc<Resource>, mut call: Call) -> Answer {
    scope(resource, &mut call)?;
    check_verb(resource, &call)?;
    // Before anything is written: whoever cannot read the answer is not to find it done.
    Accept::parse(call.header(header::ACCEPT), resource.offer())?;
    let mut answer = serve_verb(server, resource, call).await?;
    object::warn(&mut answer, resource.deprecation.as_deref());
    Ok(answer)
}

/// Boxed, so that a request takes the room that its verb needs, and not that of the largest.
fn serve_verb<'a>(server: &'a ApiServer, resource: &'a Arc<Resource>, call: Call) -> BoxFuture<'a, Answer> {
    let (subresource, verb) = (call.info.subresource.as_str(), call.info.verb);
    match (subresource, verb) {
        ("", "create") => create::serve(server, resource, call).boxed(),
        ("" | "status" | "approval" | "ephemeralcontainers" | "resize", "get") => {
            get::serve(server, resource, call).boxed()
        }
        ("", "list") => list::serve(server, resource, call).boxed(),
        ("", "watch") => watch::serve(server, resource, call).boxed(),
        ("" | "status" | "approval" | "ephemeralcontainers" | "finalize" | "resize", "update") => {
            update::serve(server, resource, call).boxed()
        }
        ("" | "status" | "approval" | "ephemeralcontainers" | "resize", "patch") => {
            patch::serve(server, resource, call).boxed()
        }
        ("", "delete") => delete::serve(server, resource, call).boxed(),
        ("", "deletecollection") => deletecollection::serve(server, resource, call).boxed(),
        ("scale", "get" | "update" | "patch") => scale::serve(server, resource, call).boxed(),
        ("binding", "create") => binding::serve(server, resource, call).boxed(),
        ("eviction", "create") => eviction::serve(server, resource, call).boxed(),
        _ => future::ready(Err(Status::no_such_resource())).boxed(),
    }
}

/// Namespaced objects live in a namespace, all others do not. A Namespace's own requests name it as their namespace too.
fn scope(resource: &Resource, call: &mut Call) -> Result<(), Status> {
    let info = &mut call.info;
    let name = if info.names_object() { info.name.as_str() } else { "" };
    for (what, name) in [("Name", name), ("Namespace", &info.namespace)] {
        let wrong = path_segment(name);
        if !wrong.is_empty() {
            return Err(Status::bad_request(format!("{what} parameter invalid: {name:?}: {}", wrong.join(";"))));
        }
    }
    if !resource.namespaced {
        if info.is_in_namespace {
            return Err(Status::no_such_resource());
        }
        info.namespace.clear();
        return Ok(());
    }
    match info.verb {
        _ if info.is_in_namespace => Ok(()),
        // Over all namespaces there are collections alone, to be read.
        _ if info.names_object() => Err(Status::no_such_resource()),
        "list" | "watch" => Ok(()),
        _ if resource.is_custom() => Err(Status::no_such_resource()),
        _ => Err(Status::no_such_method()),
    }
}

fn check_verb(resource: &Resource, call: &Call) -> Result<(), Status> {
    let info = &call.info;
    let verbs = match info.subresource.as_str() {
        "" => resource.verbs,
        subresource => resource.subresource(subresource).ok_or_else(Status::no_such_resource)?.verbs,
    };
    // What is done to an object needs its name; what makes one takes it from the body.
    let is_in_place = match (info.subresource.as_str(), info.verb) {
        ("", "update" | "patch") => info.names_object(),
        ("", "create") => !info.names_object(),
        _ => true,
    };
    match verbs.contains(&info.verb) {
        true if is_in_place => Ok(()),
        _ if !resource.is_custom() => Err(Status::no_such_method()),
        true if !info.names_object() => Err(Status::bad_request("name must be provided")),
        _ => Err(Status::method_not_allowed(&info.group, &info.resource, info.verb)),
    }
}
