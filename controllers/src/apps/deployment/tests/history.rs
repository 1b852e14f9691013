//! Which set is the current template's, and which old ones go.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::super::revisions::{same_template, split, surplus};

#[test]
fn templates_are_compared_without_the_hash_that_is_added_to_them() {
    let template = |labels: &str, more: &str| -> PodTemplateSpec {
        serde_saphyr::from_str(&format!("metadata: {{labels: {{{labels}}}}}\nspec: {{containers: [], {more}}}"))
            .unwrap()
    };
    let cases = [
        ("pod-template-hash: a, b: c", "pod-template-hash: a, b: c", true),
        ("pod-template-hash: a, b: c", "pod-template-hash: z, b: c", true),
        ("b: c", "pod-template-hash: a, b: c", true),
        ("b: c", "pod-template-hash: a", false),
        ("pod-template-hash: a", "pod-template-hash: a, b: c", false),
        ("", "pod-template-hash: a", true),
    ];
    for (one, other, expected) in cases {
        let (a, b) = (template(one, ""), template(other, ""));
        assert_eq!((same_template(&a, &b), same_template(&b, &a)), (expected, expected), "{one} and {other}");
        assert!(!same_template(&a, &template(other, "nodeName: 'n'")), "the rest counts in any case");
    }
    let mut annotated = template("b: c", "");
    annotated.metadata.as_mut().unwrap().annotations = Some([("a".to_owned(), "b".to_owned())].into());
    assert!(!same_template(&annotated, &template("b: c", "")));
}

/// A set of this image's template, from this second.
fn set(name: &str, image: &str, second: u32) -> Arc<ReplicaSet> {
    let yaml = format!(
        "
metadata: {{name: {name}, creationTimestamp: 2024-01-01T00:00:{second:02}Z}}
spec: {{selector: {{}}, template: {{metadata: {{labels: {{app: web, pod-template-hash: {name}}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}}}
"
    );
    Arc::new(serde_saphyr::from_str(&yaml).unwrap())
}

#[test]
fn the_oldest_set_of_the_template_is_the_current_one() {
    let deployment: Deployment = serde_saphyr::from_str(
        "spec: {selector: {}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: two}]}}}",
    )
    .unwrap();
    let check = |sets: &[(&str, &str, u32)]| {
        let sets = sets.iter().map(|(name, image, second)| set(name, image, *second)).collect();
        let (new, old) = split(&deployment, sets);
        let name = |set: &Arc<ReplicaSet>| set.metadata.name.clone().unwrap();
        (new.as_ref().map(name), old.iter().map(name).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(check(&[("a", "two", 2), ("b", "one", 1)]), (Some("a".into()), "b".into()));
    assert_eq!(check(&[("a", "two", 3), ("b", "one", 1), ("c", "two", 2)]), (Some("c".into()), "b a".into()));
    assert_eq!(check(&[("b", "one", 1)]), (None, "b".into()));
    assert_eq!(check(&[("a", "two", 1)]), (Some("a".into()), String::new()));
}

#[test]
fn only_old_sets_that_nothing_is_asked_of_and_nothing_runs_on_go() {
    // Each set as replicas asked for and replicas that run.
    let check = |sets: &[(i32, i32)], limit: Option<i32>, meta: &str| {
        let of = |(at, (asked, run)): (usize, &(i32, i32))| -> Arc<ReplicaSet> {
            let yaml = format!(
                "
metadata: {{name: v{at}, annotations: {{deployment.kubernetes.io/revision: '{at}'}}, {meta}}}
spec: {{selector: {{}}, replicas: {asked}}}
status: {{replicas: {run}, observedGeneration: 1}}
"
            );
            Arc::new(serde_saphyr::from_str(&yaml).unwrap())
        };
        let old: Vec<_> = sets.iter().enumerate().map(of).collect();
        let gone = surplus(limit, &old).into_iter().map(|set| set.metadata.name.clone().unwrap());
        gone.collect::<Vec<_>>().join(" ")
    };
    const IDLE: (i32, i32) = (0, 0);
    assert_eq!(check(&[IDLE, IDLE, IDLE], Some(1), ""), "v0 v1");
    assert_eq!(check(&[IDLE, (0, 1), (1, 0), (1, 1)], Some(0), ""), "v0");
    assert_eq!(check(&[IDLE, IDLE], Some(0), ""), "v0 v1");
    assert_eq!(check(&[(1, 1), (1, 1)], Some(0), ""), "");
    assert_eq!(check(&[IDLE], Some(0), "deletionTimestamp: 2024-01-01T00:00:00Z"), "", "it goes already");
    assert_eq!(check(&[IDLE, IDLE, IDLE], Some(i32::MAX), ""), "");
    assert_eq!(check(&[IDLE, IDLE, IDLE], None, ""), "");
    assert_eq!(check(&[IDLE], Some(0), "generation: 2"), "", "its status is of an earlier spec");
}
