//! The disruption budget that an evicted pod draws on.

use super::Amendment;
use crate::ApiServer;
use crate::status::{Cause, Status};
use jiff::Timestamp;
use k8w_kinds::object::text;
use k8w_kinds::policy::eviction::{self, Refused};
use serde_json::Value;

const GROUP: &str = "policy";
const PLURAL: &str = "poddisruptionbudgets";
/// When a client should ask again while a budget is being worked out.
const RETRY_SECONDS: u32 = 10;

/// What the budget of `pod` becomes when the pod is evicted; `None` when nothing speaks against it.
///
/// # Errors
/// 429 when the budget does not allow it now, 500 when the pod has several.
pub fn budget_of(server: &ApiServer, pod: &Value, now: Timestamp) -> Result<Option<Amendment>, Status> {
    if eviction::needs_no_budget(pod) {
        return Ok(None);
    }
    let (budgets, _) = server.cache.kind(GROUP, PLURAL).list(Some(text(pod, &["metadata", "namespace"])));
    let mut budgets = budgets.iter().map(|record| (record, record.value())).filter(|(_, b)| eviction::covers(b, pod));
    let Some((record, budget)) = budgets.next() else { return Ok(None) };
    if budgets.next().is_some() {
        return Err(Status::failure(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let charged = eviction::charge(&budget, pod, now).map_err(|why| refused(record.name(), &why))?;
    Ok(charged.map(|budget| Amendment::new(GROUP, PLURAL, record, budget)))
}

fn refused(budget: &str, why: &Refused) -> Status {
    let retry_seconds = match why {
        Refused::Status(why) => return Status::forbidden(GROUP, "poddisruptionbudget", budget, why),
        Refused::Processing(_) => RETRY_SECONDS,
        Refused::Exhausted(_) => 0,
    };
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_seconds);
    let details = status.details.get_or_insert_default();
    details.retry_after_seconds = Some(retry_seconds).filter(|seconds| *seconds > 0);
    details.causes = vec![Cause { reason: "DisruptionBudget", message: why.to_string(), ..Cause::default() }];
    status
}
