//! <https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement>: what of a pod can be changed, and what
//! the server works out of its spec.

use crate::api::{Api, pod};
use serde_json::json;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Conformance: "Pods, update"; "Pods, ActiveDeadlineSeconds".
#[tokio::test]
async fn labels_images_and_a_sooner_deadline_can_be_changed() {
    let api = Api::new().await;
    let mut object = pod("p");
    object["spec"]["activeDeadlineSeconds"] = 30.into();
    let made = api.post(PODS, &object).await.ok();
    let path = format!("{PODS}/p");
    let mut next = made.clone();
    next["metadata"]["labels"] = json!({"time": "later"});
    next["spec"]["activeDeadlineSeconds"] = 5.into();
    let updated = api.put(&path, &next).await.ok();
    assert_eq!(
        (&updated["metadata"]["labels"]["time"], &updated["spec"]["activeDeadlineSeconds"]),
        (&json!("later"), &json!(5))
    );
    let (code, _, message) = api.patch("merge", &path, &json!({"spec": {"activeDeadlineSeconds": 60}})).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("must be less than or equal to previous value"), "{message}");
    let (code, _, message) = api.patch("merge", &path, &json!({"spec": {"restartPolicy": "Never"}})).await.error();
    assert_eq!(code, 422);
    assert!(message.contains("pod updates may not change fields other than"), "{message}");
}

/// Conformance: "Pods, QOS".
#[tokio::test]
async fn the_class_of_service_follows_from_requests_and_limits() {
    let api = Api::new().await;
    let amounts = json!({"cpu": "100m", "memory": "100Mi"});
    for (name, resources, class) in [
        ("a", json!({"requests": amounts, "limits": amounts}), "Guaranteed"),
        ("b", json!({"requests": amounts}), "Burstable"),
        ("c", json!({}), "BestEffort"),
    ] {
        let mut object = pod(name);
        object["spec"]["containers"][0]["resources"] = resources;
        assert_eq!(api.post(PODS, &object).await.ok()["status"]["qosClass"], class);
    }
}

/// Conformance: "Sysctls, reject invalid sysctls".
#[tokio::test]
async fn names_that_no_sysctl_has_are_refused() {
    let api = Api::new().await;
    let mut object = pod("p");
    let named = |name: &str| json!({"name": name, "value": "bar"});
    object["spec"]["securityContext"] =
        json!({"sysctls": [named("foo-"), named("kernel.shmmax"), named("safe-and-unsafe"), named("bar..")]});
    let (code, _, message) = api.post(PODS, &object).await.error();
    assert_eq!(code, 422);
    for index in [0, 3] {
        assert!(message.contains(&format!("spec.securityContext.sysctls[{index}].name: Invalid value")), "{message}");
    }
    for index in [1, 2] {
        assert!(!message.contains(&format!("sysctls[{index}]")), "{message}");
    }
}
