//! `meta.k8s.io/v1` ListOptions: what the query of a list, a watch or a deletion of a collection says beside selectors.
//!
//! The rules are those of `k8s.io/apimachinery` `pkg/apis/meta/internalversion/validation`.

use super::options::invalid;
use crate::query::Query;
use crate::status::Status;
use k8w_kinds::field::{FieldError, FieldPath};

const OPTIONS: &str = "ListOptions";
const EXACT: &str = "Exact";
const NOT_OLDER_THAN: &str = "NotOlderThan";

/// Decoded and checked options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListOptions<'q> {
    /// How many objects at most; 0 for all.
    pub limit: usize,
    /// How long a watch lasts; `None` when the client leaves that to us.
    pub timeout_seconds: Option<i64>,
    /// The resource version asked for.
    pub version: Option<&'q str>,
    /// Whether it must be exactly that one.
    pub exact: bool,
    /// Where an earlier list was cut off.
    pub continuation: Option<&'q str>,
    /// Whether a watch begins with the objects there are.
    pub send_initial_events: bool,
    /// Whether a watch is told how far it has got.
    pub bookmarks: bool,
}

impl<'q> ListOptions<'q> {
    /// # Errors
    /// 400 for what cannot be decoded, 422 for what does not go together.
    pub fn parse(query: &'q Query, watch: bool) -> Result<Self, Status> {
        let timeout_seconds = query.integer("timeoutSeconds")?;
        // Less than one object is no limit.
        let limit = query.integer("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0);
        let version = query.non_empty("resourceVersion");
        let version_match = query.non_empty("resourceVersionMatch");
        let continuation = query.non_empty("continue");
        let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let errors = if watch {
            watch_errors(version_match, continuation, initial)
        } else {
            list_errors(version, version_match, continuation, initial)
        };
        if !errors.is_empty() {
            return Err(invalid(OPTIONS, &errors));
        }
        Ok(ListOptions {
            limit,
            timeout_seconds,
            version,
            exact: version_match == Some(EXACT),
            continuation,
            send_initial_events: initial.unwrap_or(matches!(version, None | Some("0"))),
            bookmarks: query.flag("allowWatchBookmarks"),
        })
    }
}

fn list_errors(
    version: Option<&str>,
    version_match: Option<&str>,
    continuation: Option<&str>,
    initial: Option<bool>,
) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if let Some(version_match) = version_match {
        if version.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if continuation.is_some() {
            errors.push(with_continue());
        }
        if !matches!(version_match, EXACT | NOT_OLDER_THAN) {
            errors.push(FieldError::not_supported(&path, version_match, &[EXACT, NOT_OLDER_THAN, ""]));
        }
        if version_match == EXACT && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if initial.is_some() {
        let path = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(version_match: Option<&str>, continuation: Option<&str>, initial: Option<bool>) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if initial.is_some() && version_match != Some(NOT_OLDER_THAN) {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, why));
    }
    if let Some(version_match) = version_match {
        if initial.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if version_match != NOT_OLDER_THAN {
            errors.push(FieldError::not_supported(&path, version_match, &[NOT_OLDER_THAN]));
        }
        if continuation.is_some() {
            errors.push(with_continue());
        }
    }
    errors
}

fn with_continue() -> FieldError {
    let path = FieldPath::new("resourceVersionMatch");
    FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, watch: bool) -> Result<(), (u16, String)> {
        let parsed = ListOptions::parse(&Query::parse(query), watch).map(drop);
        parsed.map_err(|status| (status.code, status.message))
    }

    #[test]
    fn a_watch_without_a_version_begins_with_what_there_is() {
        let initial = |query: &str| ListOptions::parse(&Query::parse(query), true).unwrap().send_initial_events;
        assert!(initial("") && initial("resourceVersion=0") && !initial("resourceVersion=1"));
        let streaming = "resourceVersionMatch=NotOlderThan&sendInitialEvents";
        assert!(initial(streaming) && initial(&format!("{streaming}=true&resourceVersion=1")));
        assert!(!initial(&format!("{streaming}=false")));
    }

    #[test]
    fn limits_below_one_are_none() {
        let query = Query::parse("limit=-1");
        assert_eq!(ListOptions::parse(&query, false).unwrap().limit, 0);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        const PATH: &str = "resourceVersionMatch";
        let cases = [
            (
                false,
                "resourceVersionMatch=Exact",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                false,
                "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
                "resourceVersionMatch is forbidden when continue is provided",
            ),
            (
                false,
                "resourceVersionMatch=Exact&resourceVersion=0",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (true, "sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
            (
                true,
                "resourceVersionMatch=NotOlderThan",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
        ];
        for (watch, query, why) in cases {
            let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {PATH}: Forbidden: {why}");
            assert_eq!(check(query, watch), Err((422, message)), "{query}");
        }
        let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is \
            forbidden for list";
        assert_eq!(check("sendInitialEvents=", false), Err((422, message.into())));
        let message = "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents \
            requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": \
            supported values: \"NotOlderThan\"]";
        assert_eq!(check("sendInitialEvents=1&resourceVersionMatch=Exact", true), Err((422, message.into())));
    }
}
