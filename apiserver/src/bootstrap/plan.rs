//! What to write so that an object is there as it should be. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::roles::AUTOUPDATE;
use crate::authz::rbac::index::rules_of;
use crate::authz::rbac::rule::{Rule, uncovered};

/// How far an object that exists already is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Made when it is missing; after that it is the user's.
    Present,
    /// A role: permissions that were taken away come back, those that were added stay, unless the user has switched that
    /// off with the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`.
    Rules,
    /// A binding: likewise with its subjects.
    Subjects,
    /// Every field that we set is as we set it.
    Fields,
}

/// A write.
#[derive(Debug, PartialEq)]
pub enum Write {
    Create(Value),
    Replace(Value),
}

/// The write that brings `live` to `desired`, or `None` when nothing needs to change.
pub fn plan(desired: &Value, live: Option<Value>, keep: Keep) -> Option<Write> {
    let Some(mut live) = live else { return Some(Write::Create(desired.clone())) };
    let before = live.clone();
    match keep {
        Keep::Present => {}
        Keep::Rules | Keep::Subjects if live["metadata"]["annotations"][AUTOUPDATE] == "false" => {}
        // The rules of a sum are those of its parts, which the controllers add up.
        Keep::Rules if desired.get("aggregationRule").is_some() => {
            live["aggregationRule"] = desired["aggregationRule"].clone();
            merge(&mut live["metadata"], &desired["metadata"]);
        }
        Keep::Rules => {
            let mut rules = rules_of(&live);
            rules.extend(uncovered(&rules, &Vec::<Rule>::deserialize(&desired["rules"]).unwrap_or_default()));
            if rules != rules_of(&live) {
                live["rules"] = serde_json::to_value(rules).unwrap_or_default();
            }
            merge(&mut live["metadata"], &desired["metadata"]);
        }
        Keep::Subjects => {
            let subjects = live["subjects"].as_array().cloned().unwrap_or_default();
            let missing =
                desired["subjects"].as_array().into_iter().flatten().filter(|wanted| !subjects.contains(wanted));
            let all: Vec<Value> = subjects.iter().chain(missing).cloned().collect();
            if all.len() > subjects.len() {
                live["subjects"] = all.into();
            }
            merge(&mut live["metadata"], &desired["metadata"]);
        }
        Keep::Fields => merge(&mut live, desired),
    }
    (live != before).then_some(Write::Replace(live))
}

/// Sets every field of `desired` in `live`; other fields stay. Lists of the same length are merged item by item, so that
/// defaults within them stay too.
fn merge(live: &mut Value, desired: &Value) {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            for (name, value) in desired {
                merge(live.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(desired)) if live.len() == desired.len() => {
            live.iter_mut().zip(desired).for_each(|(live, desired)| merge(live, desired));
        }
        (live, desired) if live != desired => *live = desired.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bootstrap::roles;

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        for role in roles::cluster_roles() {
            assert_eq!(plan(&role, Some(role.clone()), Keep::Rules), None);
        }
        for binding in roles::cluster_role_bindings() {
            assert_eq!(plan(&binding, Some(binding.clone()), Keep::Subjects), None);
        }
    }

    #[test]
    fn what_is_missing_is_made() {
        let object = json!({"metadata": {"name": "a"}});
        assert_eq!(plan(&object, None, Keep::Present), Some(Write::Create(object.clone())));
        assert_eq!(plan(&object, Some(json!({"metadata": {"name": "a"}, "spec": 1})), Keep::Present), None);
    }

    #[test]
    fn lost_permissions_come_back_and_added_ones_stay() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let desired = json!({"metadata": {"name": "a"}, "rules": [rule("get"), rule("list")]});
        let live = json!({"metadata": {"name": "a", "uid": "1"}, "rules": [rule("get"), rule("delete")]});
        let Some(Write::Replace(new)) = plan(&desired, Some(live.clone()), Keep::Rules) else { panic!("no write") };
        assert_eq!(new["rules"], json!([rule("get"), rule("delete"), rule("list")]));
        assert_eq!(new["metadata"]["uid"], "1");
        let mut own = live;
        own["metadata"]["annotations"] = json!({AUTOUPDATE: "false"});
        assert_eq!(plan(&desired, Some(own), Keep::Rules), None);
    }

    #[test]
    fn the_rules_of_an_aggregated_role_are_left_alone() {
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        let desired = json!({"metadata": {"name": "a"}, "aggregationRule": rule, "rules": [{"verbs": ["get"]}]});
        let live = json!({"metadata": {"name": "a"}, "aggregationRule": rule, "rules": []});
        assert_eq!(plan(&desired, Some(live.clone()), Keep::Rules), None);
        let mut changed = live.clone();
        changed["aggregationRule"] = json!({"clusterRoleSelectors": []});
        assert_eq!(plan(&desired, Some(changed), Keep::Rules), Some(Write::Replace(live)));
    }

    #[test]
    fn lost_subjects_come_back_and_added_ones_stay() {
        let user = |name: &str| json!({"kind": "User", "name": name});
        let desired = json!({"metadata": {"name": "a"}, "subjects": [user("a")]});
        let live = json!({"metadata": {"name": "a"}, "subjects": [user("b")]});
        let Some(Write::Replace(new)) = plan(&desired, Some(live), Keep::Subjects) else { panic!("no write") };
        assert_eq!(new["subjects"], json!([user("b"), user("a")]));
    }

    #[test]
    fn our_fields_are_set_and_others_stay() {
        let desired = json!({"spec": {"ports": [{"port": 443, "targetPort": 2}]}});
        let live = json!({"spec": {"ports": [{"port": 443, "targetPort": 1, "protocol": "TCP"}], "type": "ClusterIP"}});
        let Some(Write::Replace(new)) = plan(&desired, Some(live), Keep::Fields) else { panic!("no write") };
        assert_eq!(
            new,
            json!({"spec": {"ports": [{"port": 443, "targetPort": 2, "protocol": "TCP"}], "type": "ClusterIP"}})
        );
    }

    #[test]
    fn no_role_is_listed_twice() {
        let roles = roles::cluster_roles();
        let names: std::collections::BTreeSet<&str> =
            roles.iter().filter_map(|role| role["metadata"]["name"].as_str()).collect();
        assert_eq!(names.len(), roles.len());
    }

    #[test]
    fn aggregated_roles_hold_what_their_parts_hold() {
        let roles = roles::cluster_roles();
        let rules = |name: &str| {
            let role = roles.iter().find(|role| role["metadata"]["name"] == name).unwrap();
            rules_of(role)
        };
        assert_eq!(uncovered(&rules("admin"), &rules("edit")), []);
        assert_eq!(uncovered(&rules("edit"), &rules("view")), []);
        assert_ne!(uncovered(&rules("view"), &rules("edit")), []);
        assert_eq!(uncovered(&rules("cluster-admin"), &rules("admin")), []);
    }
}
