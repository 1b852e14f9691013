//! A user that is spelled out in headers, a part in each.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::identity::UserInfo;
use crate::query;

/// The names of the headers, in lower case.
pub(super) struct UserHeaders {
    pub user: &'static str,
    pub uid: &'static str,
    pub group: &'static str,
    /// What the keys of extra values follow.
    pub extra: &'static str,
}

impl UserHeaders {
    /// The user that the headers name, with nothing in it when there are none.
    ///
    /// Header names are case-insensitive, so keys of extra values are in lower case; they may be percent-encoded.
    pub fn read(&self, headers: &HeaderMap) -> UserInfo {
        let texts = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let first = |name: &str| texts(name).into_iter().next().unwrap_or_default();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix(self.extra).filter(|key| !key.is_empty()) {
                extra.entry(query::decode(key, false).into_owned()).or_default().extend(texts(name.as_str()));
            }
        }
        UserInfo { name: first(self.user), uid: first(self.uid), groups: texts(self.group), extra }
    }
}
