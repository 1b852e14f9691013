//! `DELETE` of a collection: every object that the selectors select, one after the other.

use super::delete::read_options;
use super::options::WriteOptions;
use super::{get, list};
use crate::ApiServer;
use crate::call::Call;
use crate::codec::{self, Accept};
use crate::object_store;
use crate::resources::Resource;
use crate::routes::Answer;
use http::{StatusCode, header};

pub async fn serve(server: &ApiServer, resource: &Resource, mut call: Call) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), resource.offer())?;
    let mut options = WriteOptions::parse(&call, "DeleteOptions")?;
    let (delete, dry) = read_options(&mut call).await?;
    options.dry_run |= dry;
    let page = list::read(server, resource, &call).await?;
    let mut deleted = Vec::with_capacity(page.records.len());
    for record in page.records {
        let mut write = options.write(server, resource, &call);
        write.namespace = record.namespace();
        write.name = record.name();
        match object_store::delete(&mut write, &delete).await {
            Ok(done) => deleted.push(done.json),
            // Somebody else deleted it.
            Err(status) if status.reason == "NotFound" => {}
            Err(status) => return Err(status),
        }
    }
    let revision = get::reach(server, Some("0")).await?;
    let bytes = list::encode_written(resource, accept.format, revision, &deleted);
    Ok(codec::respond(&call, accept, StatusCode::OK, bytes))
}
