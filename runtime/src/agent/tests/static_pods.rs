//! Pods from the node's folder.

use super::*;

const MIRROR: &str = "/api/v1/namespaces/default/pods/web-n";

fn write(root: &TempDir, file: &str, greeting: &str) {
    write_with(root, file, greeting, &json!({}));
}

fn write_with(root: &TempDir, file: &str, greeting: &str, lifecycle: &Value) {
    let folder = root.path().join("manifests");
    std::fs::create_dir_all(&folder).unwrap();
    let container = json!({ "name": "c", "image": "localhost/hello", "imagePullPolicy": "IfNotPresent", "lifecycle": lifecycle,
        "env": [{ "name": "GREETING", "value": greeting }] });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [container] } });
    std::fs::write(folder.join(file), pod.to_string()).unwrap();
}

impl TestNode {
    /// Waits until a container with this greeting was started, and returns its pod's uid.
    async fn greeted(&self, greeting: &str) -> String {
        let wanted = ("GREETING".to_owned(), greeting.to_owned());
        let looking = async {
            loop {
                let started = self.engine.started.lock().unwrap().clone();
                if let Some(spec) = started.iter().find(|spec| spec.env.contains(&wanted)) {
                    return spec.id.pod_uid.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap()
    }
}

fn shows(mirror: &Value, uid: &str) -> bool {
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] == uid && condition(mirror, "Ready")
}

#[tokio::test]
async fn a_file_runs_without_the_api_which_shows_it_once_it_is_there() {
    let (api, root) = (FakeApi::new(), Arc::new(tempfile::tempdir().unwrap()));
    write(&root, "web.json", "one");
    api.set_down(true);
    let node = TestNode::on(api, root);
    let uid = node.greeted("one").await;
    node.api.set_down(false);
    let mirror = node.api.wait(MIRROR, |mirror| shows(mirror, &uid)).await;
    assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["name"], "n");

    node.api.remove(MIRROR);
    let again = |again: &Value| shows(again, &uid) && again["metadata"]["uid"] != mirror["metadata"]["uid"];
    let mut again = node.api.wait(MIRROR, again).await;
    let uid_before = again["metadata"]["uid"].clone();
    again["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    node.api.put(MIRROR, again);
    let anew = |anew: &Value| shows(anew, &uid) && anew["metadata"]["uid"] != uid_before;
    node.api.wait(MIRROR, anew).await;
    assert_eq!(node.engine.started.lock().unwrap().len(), 1, "the pod itself runs on");

    write(&node.root, "web.json", "another");
    let other = node.greeted("another").await;
    assert_ne!(other, uid);
    node.api.wait(MIRROR, |mirror| shows(mirror, &other)).await;
    std::fs::remove_file(node.root.path().join("manifests/web.json")).unwrap();
    node.api.wait(MIRROR, Value::is_null).await;
    node.stop().await;
}

#[tokio::test]
async fn a_mirror_whose_file_went_while_nobody_looked_goes_too() {
    let root = Arc::new(tempfile::tempdir().unwrap());
    write(&root, "web.json", "one");
    let node = TestNode::on(FakeApi::new(), root);
    let uid = node.greeted("one").await;
    node.api.wait(MIRROR, |mirror| shows(mirror, &uid)).await;
    let (api, root) = node.stop().await;
    std::fs::remove_dir_all(root.path().join("manifests")).unwrap();
    let node = TestNode::on(api, root);
    node.api.wait(MIRROR, Value::is_null).await;
    node.stop().await;
}

#[tokio::test]
async fn a_file_that_comes_back_begins_when_nothing_is_left_of_the_pod_before() {
    let root = Arc::new(tempfile::tempdir().unwrap());
    let hook = json!({ "preStop": { "exec": { "command": ["wait"] } } });
    write_with(&root, "web.json", "one", &hook);
    let node = TestNode::on(FakeApi::new(), root);
    let uid = node.greeted("one").await;
    node.api.wait(MIRROR, |mirror| shows(mirror, &uid)).await;
    let first = node.api.get(MIRROR).unwrap();
    std::fs::remove_file(node.root.path().join("manifests/web.json")).unwrap();
    node.engine.waits.notified().await;
    write_with(&node.root, "web.json", "one", &hook);
    node.engine.gate.add_permits(1);
    let again = |mirror: &Value| shows(mirror, &uid) && mirror["metadata"]["uid"] != first["metadata"]["uid"];
    node.api.wait(MIRROR, again).await;
    node.catches_up().await;
    let started = node.engine.started.lock().unwrap().clone();
    let of_it: Vec<_> = started.iter().filter(|spec| spec.id.pod_uid == uid).collect();
    assert_eq!(of_it.len(), 2);
    assert!(of_it[1].log_path.exists());
    node.engine.gate.add_permits(1);
    node.stop().await;
}
