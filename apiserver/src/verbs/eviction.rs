//! Evicting a pod: `POST` of an Eviction to `pods/{name}/eviction` deletes it if its disruption budget allows that.

use super::delete::delete_options;
use super::object::{Expected, answer_success};
use super::options::WriteOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::codec::{Accept, Offer};
use crate::effects::budget_of;
use crate::object_store::{self, Beside, DeleteOptions};
use crate::plugins::Operation;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use http::header;
use k8w_kinds::object;
use k8w_kinds::policy::eviction;
use k8w_kinds::schema::Schema;

pub async fn serve(server: &ApiServer, pods: &Resource, mut call: Call) -> Answer {
    // Before anything is written: whoever cannot read the answer is not to find it done.
    Accept::parse(call.header(header::ACCEPT), Offer::Fixed)?;
    let mut options = WriteOptions::parse(&call, "CreateOptions")?;
    let schema = Schema::builtin("io.k8s.api.policy.v1.Eviction").ok_or_else(Status::no_such_resource)?;
    let expected = Expected { group: "policy", version: "v1", kind: "Eviction", schema: &schema };
    let mut warnings = Vec::new();
    let mut body = expected.read(&mut call, options.validation, &mut warnings).await?;
    if object::text(&body, &["metadata", "name"]) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let (delete, dry_run) = match object::get(&body, &["deleteOptions"]) {
        Some(given) => delete_options(given)?,
        None => (DeleteOptions::default(), false),
    };
    options.dry_run |= dry_run;
    let mut write = options.write(server, pods, &call);
    write.warnings = warnings;
    write.admit(Operation::Create, &mut body, None).await?;
    write.admit_validating(Operation::Create, &mut body, None).await?;
    let now = write.now;
    let beside = Beside { amend: &|pod| budget_of(server, pod, now), mark: &|pod| eviction::mark(pod, now) };
    object_store::delete_with(&mut write, &delete, &beside).await?;
    let warnings = write.warnings;
    answer_success(&call, &warnings)
}
