//! `POST` on a collection.

use super::object::{Expected, answer_written, match_url};
use super::options::WriteOptions;
use crate::ApiServer;
use crate::call::Call;
use crate::object_store;
use crate::resources::Resource;
use crate::routes::Answer;
use k8w_kinds::object;

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let options = WriteOptions::parse(&call, "CreateOptions")?;
    let mut warnings = Vec::new();
    let mut object = Expected::of(resource).read(&mut call, options.validation, &mut warnings).await?;
    match_url(&mut object, resource, &call)?;
    // Admission wants to know the name that the object will have.
    call.info.name = object::text(&object, &["metadata", "name"]).to_string();
    let mut write = options.write(server, resource, &call);
    write.warnings = warnings;
    let written = object_store::create(&mut write, object, false).await?;
    let warnings = write.warnings;
    answer_written(&call, resource, written, &warnings)
}
