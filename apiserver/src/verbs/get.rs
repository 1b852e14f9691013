//! `GET` of one object.

use super::object::answer_record;
use crate::ApiServer;
use crate::call::Call;
use crate::component_statuses;
use crate::query::not_a_number;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use crate::watch_cache::Record;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_storage::datastore::Revision;
use std::sync::Arc;

pub async fn serve(server: &ApiServer, resource: &Resource, call: Call) -> Answer {
    let record = read(server, resource, &call).await?;
    answer_record(&call, resource, &record)
}

/// The object that the request names, at least as new as it asks for.
pub async fn read(server: &ApiServer, resource: &Resource, call: &Call) -> Result<Arc<Record>, Status> {
    let reached = reach(server, call.query.non_empty("resourceVersion")).await?;
    let record = if component_statuses::is(resource) {
        let components = component_statuses::look(server, reached).await?;
        components.into_iter().find(|component| component.name() == call.info.name)
    } else {
        resource.objects.get(&call.info.namespace, &call.info.name)
    };
    record.ok_or_else(|| Status::not_found(&resource.group, &resource.plural, &call.info.name))
}

/// Waits until reads are as new as `version` demands: the newest without one, anything for 0. Returns the revision
/// that was reached.
pub async fn reach(server: &ApiServer, version: Option<&str>) -> Result<Revision, Status> {
    match version {
        None => server.cache.catch_up().await,
        Some("0") => Ok(server.cache.revision()),
        Some(version) => server.cache.wait_for(parse_version(version)?).await,
    }
}

/// A resource version as clients write it: digits, and nothing before them.
///
/// # Errors
/// 400 for anything else.
pub fn parse_version(version: &str) -> Result<Revision, Status> {
    let digits = if version.starts_with('+') { "" } else { version };
    digits.parse().map_err(|error| {
        let error = not_a_number("ParseUint", version, &error);
        let error = FieldError::invalid(&FieldPath::new("resourceVersion"), version, error);
        Status::bad_request(format!("invalid resource version: {error}"))
    })
}
