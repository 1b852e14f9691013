//! The sets against plain sets of paths, and what merging and applying keep. `fuzz/src/apply.rs` has a naive model of apply.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map as JsonMap, Value, json};

use super::super::*;

type Paths = BTreeSet<Vec<u8>>;

fn to_set(paths: &Paths) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        let path: Vec<PathElement> = path.iter().map(|name| PathElement::Field(name.to_string().into())).collect();
        set.insert(&path);
    }
    set
}

fn from_set(set: &FieldSet) -> Paths {
    let mut paths = Paths::new();
    set.for_each(&mut |path| {
        let name = |element: &PathElement| match element {
            PathElement::Field(name) => name.parse().unwrap(),
            _ => unreachable!(),
        };
        paths.insert(path.iter().map(name).collect());
    });
    paths
}

fn paths() -> impl Strategy<Value = Paths> {
    prop::collection::btree_set(prop::collection::vec(0..3u8, 1..4), 0..12)
}

proptest! {
    #[test]
    fn sets_are_sets(a in paths(), b in paths()) {
        let (x, y) = (to_set(&a), to_set(&b));
        prop_assert_eq!(from_set(&x), a.clone());
        prop_assert_eq!(from_set(&x.union(&y)), a.union(&b).cloned().collect::<Paths>());
        prop_assert_eq!(from_set(&x.intersection(&y)), a.intersection(&b).cloned().collect::<Paths>());
        prop_assert_eq!(from_set(&x.difference(&y)), a.difference(&b).cloned().collect::<Paths>());
        prop_assert_eq!(FieldSet::from_fields_v1(&x.to_fields_v1()), x);
    }

    #[test]
    fn edits_of_fields_v1_agree_with_sets(a in paths(), b in paths()) {
        let (x, y) = (to_set(&a), to_set(&b));
        let edited = |edit: fn(&mut JsonMap<String, Value>, &FieldSet)| {
            let mut fields = x.to_fields_v1();
            edit(fields.as_object_mut().unwrap(), &y);
            fields
        };
        prop_assert_eq!(edited(fields_v1::add), x.union(&y).to_fields_v1());
        prop_assert_eq!(edited(fields_v1::subtract), x.difference(&y).to_fields_v1());
    }

    #[test]
    fn merged_lists_keep_every_item_and_the_applied_order(
        live in prop::collection::btree_set("[a-g]", 0..6).prop_map(Vec::from_iter).prop_shuffle(),
        config in prop::collection::btree_set("[a-g]", 0..6).prop_map(Vec::from_iter).prop_shuffle(),
    ) {
        let schema = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let pod = |names: &[String]| {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}})
        };
        let merged = merge::merge(Typed::new(&schema.0.node.shape), &pod(&live), &pod(&config)).unwrap();
        let merged: Vec<String> = merged["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| container["name"].as_str().unwrap().to_owned())
            .collect();
        let all: BTreeSet<&String> = live.iter().chain(&config).collect();
        prop_assert_eq!(merged.len(), all.len());
        prop_assert_eq!(merged.iter().collect::<BTreeSet<_>>(), all);
        let applied: Vec<String> = merged.iter().filter(|name| config.contains(name)).cloned().collect();
        prop_assert_eq!(applied, config.clone());
        let only_live = |names: &[String]| names.iter().filter(|n| !config.contains(n)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(only_live(&merged), only_live(&live));
    }

    #[test]
    fn applying_again_changes_nothing(labels in prop::collection::btree_map("[a-d]", "[xy]", 0..4), names in prop::collection::btree_set("[a-d]", 1..4)) {
        let schema = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        let config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels}, "spec": {"containers": containers}});
        let manager = |time: &str| Manager {
            name: "m".into(),
            operation: Operation::Apply,
            api_version: "v1".into(),
            subresource: String::new(),
            time: time.into(),
        };
        let mut first = apply(&schema, None, &config, &manager("2024-01-01T00:00:00Z"), false).unwrap();
        schema.default(&mut first);
        let second = apply(&schema, Some(&first), &config, &manager("2025-01-01T00:00:00Z"), false).unwrap();
        prop_assert_eq!(second, first);
    }
}
