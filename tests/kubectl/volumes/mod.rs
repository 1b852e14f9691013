//! Volumes: those that lie on the node, those that claims bring, those that show what the API has, and how containers see them.

mod claims;
mod host_paths;
mod hostile;
mod images;
mod memory;
mod refresh;
mod sub_paths;
mod tokens;

use k8w_testkit::{Kubectl, eventually};
use serde_json::{Value, json};

use crate::Sandbox;

/// Waits until an event of a pod says something.
fn event(kubectl: &Kubectl, pod: &str, text: &str) {
    eventually(&format!("an event of {pod} says {text:?}"), || {
        let events = kubectl.ok(&["events", "--for", &format!("pod/{pod}")]);
        if events.contains(text) { Ok(()) } else { Err(events) }
    });
}

/// Waits until `kubectl exec` of `cat` answers this.
fn shows(t: &Sandbox, pod: &str, path: &str, text: &str) {
    eventually(&format!("{path} of {pod} shows {text:?}"), || {
        let outcome = t.kubectl.run(&["exec", pod, "--", "cat", path]);
        if outcome.success && outcome.stdout == text { Ok(()) } else { Err(outcome.stdout + &outcome.stderr) }
    });
}

/// A volume that an administrator has made, and a claim that it is for; both in a class of their own.
fn claimed(t: &Sandbox, name: &str, source: &Value, access: &str) -> String {
    let class = format!("{}-manual", t.namespace);
    let volume = format!("{}-{name}", t.namespace);
    let mut spec = json!({"storageClassName": class, "capacity": {"storage": "1Mi"}, "accessModes": [access],
        "persistentVolumeReclaimPolicy": "Retain"});
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec});
    t.kubectl.apply(&object.to_string());
    claim(t, name, &volume, access);
    volume
}

fn claim(t: &Sandbox, name: &str, volume: &str, access: &str) {
    let spec = json!({"storageClassName": format!("{}-manual", t.namespace), "volumeName": volume,
        "accessModes": [access], "resources": {"requests": {"storage": "1Mi"}}});
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    t.kubectl.apply(&object.to_string());
}

fn on_node(name: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [name]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
}

/// A pod with a claim at `/data`.
fn uses(t: &Sandbox, pod: &str, claim: &str, read_only: bool) {
    let volume = format!("{{name: data, persistentVolumeClaim: {{claimName: {claim}, readOnly: {read_only}}}}}");
    let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{volume}]");
    t.hello_pod(pod, &spec, "volumeMounts: [{name: data, mountPath: /data}]");
}

fn is_ready(t: &Sandbox, pod: &str) {
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
}
