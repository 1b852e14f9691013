//! What lists, watches and deletions of collections are narrowed by.

use crate::status::Status;
use crate::watch_cache::Record;
use k8w_kinds::kind::KindDef;
use k8w_kinds::selector::{FieldSelector, LabelSelector};

/// Everything that narrows a list or a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None` for all namespaces and for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Filter {
    /// Reads `?labelSelector=` and `?fieldSelector=`.
    pub fn parse(namespace: Option<String>, labels: &str, fields: &str, def: &KindDef) -> Result<Filter, Status> {
        let labels = LabelSelector::parse(labels).map_err(|error| Status::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(fields)
            .and_then(|fields| fields.check(def).map(|()| fields))
            .map_err(|error| Status::bad_request(error.to_string()))?;
        Ok(Filter { namespace, labels, fields })
    }

    /// The same for one name only.
    ///
    /// # Errors
    /// 400 when fields are selected otherwise.
    pub fn named(mut self, name: &str) -> Result<Filter, Status> {
        if self.fields.is_everything() {
            self.fields = FieldSelector::of_value("metadata.name", name);
        } else if self.single_name() != Some(name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        Ok(self)
    }

    pub fn matches(&self, def: &KindDef, record: &Record) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == record.namespace())
            && self.fields.matches_with(|path| record.field(def, path))
            && (self.labels.is_everything()
                || self.labels.matches_with(|key| record.labels().get(key).map(String::as_str)))
    }

    /// Whether anything but the namespace narrows.
    pub fn selects(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_everything()
    }

    /// The one name that can match.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.required_value("metadata.name")
    }

    /// A selectable field (beside the name and the namespace) of which one value is required.
    pub fn single_field(&self, def: &KindDef) -> Option<(String, String)> {
        def.selectable_fields.iter().find_map(|field| {
            self.fields.required_value(&field.path).map(|value| (field.path.to_string(), value.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_checked_against_their_kind() {
        let def = KindDef::builtin("", "v1", "Thing", "things", "");
        let filter = Filter::parse(None, "app=web", "metadata.name=a\\,b", &def).unwrap();
        assert_eq!(filter.single_name(), Some("a,b"));
        assert!(filter.selects());
        assert_eq!(filter.clone().named("a,b"), Ok(filter.clone()));
        assert_eq!(filter.named("c").unwrap_err().code, 400);
        let named = Filter::default().named("c").unwrap();
        assert_eq!(named.single_name(), Some("c"));
        let refused = Filter::parse(None, "", "spec.foo=1", &def).unwrap_err();
        assert_eq!(
            refused.message,
            "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        let refused = Filter::parse(None, "app in web", "", &def).unwrap_err();
        assert_eq!(refused.message, "unable to parse requirement: found 'web', expected: '('");
    }
}
