//! kubectl's own configuration: credentials by a plugin, users that stand for others, preferences, plugins, versions.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8w_testkit::Outcome;
use serde_json::{Value, json};

use crate::{Sandbox, sandbox};

/// A kubeconfig of the test's own: the cluster's server, and one user.
fn kubeconfig(t: &Sandbox, folder: &Path, user: Value) -> PathBuf {
    let mut config: Value = t.kubectl.json(&["config", "view", "--raw", "-o", "json"]);
    let cluster = config["clusters"][0]["name"].clone();
    config["users"] = json!([{"name": "mine", "user": user}]);
    config["contexts"] = json!([{"name": "mine", "context": {"cluster": cluster, "user": "mine"}}]);
    config["current-context"] = json!("mine");
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

fn with_config(t: &Sandbox, config: &Path, arguments: &[&str]) -> Outcome {
    let config = format!("--kubeconfig={}", config.display());
    t.kubectl.run(&[&[config.as_str()][..], arguments].concat())
}

const WHO: [&str; 4] = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];

#[test]
fn a_plugin_brings_credentials_unless_others_are_given() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let token = t.kubectl.ok(&["create", "token", "default"]);
    let robot = format!("system:serviceaccount:{}:default", t.namespace);
    for version in ["client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1"] {
        let exec = |command: &str, args: Value| {
            let exec =
                json!({"apiVersion": version, "command": command, "args": args, "interactiveMode": "IfAvailable"});
            kubeconfig(&t, folder.path(), json!({"exec": exec}))
        };
        let invalid = exec("ls", json!([]));
        let refused = with_config(&t, &invalid, &WHO);
        assert!(!refused.success && refused.stderr.contains("getting credentials"), "{refused:?}");
        let token_flag = format!("--token={}", token.trim());
        let given = with_config(&t, &invalid, &[&[token_flag.as_str()][..], &WHO].concat());
        assert_eq!(given.stdout, robot, "{}", given.stderr);

        let credential = json!({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token.trim()}});
        let valid = exec("echo", json!([credential.to_string()]));
        let brought = with_config(&t, &valid, &WHO);
        assert_eq!(brought.stdout, robot, "{}", brought.stderr);
        let password = ["--username=bad", "--password=wrong", "get", "namespace", "kube-system"];
        let refused = with_config(&t, &valid, &password);
        assert!(!refused.success && refused.stderr.contains("system:anonymous"), "{refused:?}");
    }
}

#[test]
fn a_user_of_the_configuration_stands_for_another() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let own: Value = t.kubectl.json(&["config", "view", "--raw", "-o", "json"]);
    let mut user = own["users"][0]["user"].clone();
    user["as-uid"] = json!("abc123");
    let config = kubeconfig(&t, folder.path(), user.clone());
    let refused = with_config(&t, &config, &["get", "pods"]);
    assert!(refused.stderr.contains("without impersonating a user"), "{refused:?}");
    user["as"] = json!("userb");
    user["as-groups"] = json!(["group2", "group1"]);
    user["as-user-extra"] = json!({"foo": ["bar", "baz"]});
    let config = kubeconfig(&t, folder.path(), user);
    let who = with_config(&t, &config, &["auth", "whoami", "-o", "json"]);
    let who: Value = serde_json::from_str(&who.stdout).unwrap_or_else(|_| panic!("{who:?}"));
    let expected = json!({"username": "userb", "uid": "abc123", "groups": ["group2", "group1", "system:authenticated"],
        "extra": {"foo": ["bar", "baz"]}});
    assert_eq!(who["status"]["userInfo"], expected);
}

#[test]
fn preferences_give_aliases_and_defaults() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kuberc");
    let preferences = format!(
        "
apiVersion: kubectl.config.k8s.io/v1beta1
kind: Preference
aliases:
- {{name: getn, command: get, prependArgs: [namespace], options: [{{name: output, default: name}}]}}
- name: runx
  command: run
  options: [{{name: image, default: nginx}}, {{name: labels, default: 'app=test,env=test'}}, {{name: namespace, default: {}}}]
  appendArgs: [test-pod-2, --, custom-arg1, custom-arg2]
- {{name: setx, command: set image, appendArgs: [pod/test-pod-2, test-pod-2=busybox]}}
defaults:
- command: apply
  options: [{{name: server-side, default: 'true'}}, {{name: dry-run, default: server}}, {{name: validate, default: strict}}]
- command: delete
  options: [{{name: interactive, default: 'true'}}]
",
        t.namespace
    );
    std::fs::write(&file, preferences).unwrap();
    let kuberc = format!("--kuberc={}", file.display());
    // An alias is the first word.
    let kubectl = |arguments: &[&str]| {
        let mut command = t.kubectl.bare();
        command.env("KUBECONFIG", t.cluster.kubeconfig()).args(arguments).arg(&kuberc);
        Outcome::of(&mut command, b"").ok(&format!("{command:?}"))
    };
    assert_eq!(kubectl(&["getn", &t.namespace]), format!("namespace/{}\n", t.namespace));
    kubectl(&["runx"]);
    let pod = || -> Value { t.kubectl.json(&["get", "pod", "test-pod-2", "-o", "json"]) };
    assert_eq!(pod()["metadata"]["labels"], json!({"app": "test", "env": "test"}));
    assert_eq!(pod()["spec"]["containers"][0]["args"], json!(["custom-arg1", "custom-arg2"]));
    kubectl(&["setx", "--namespace", &t.namespace]);
    assert_eq!(pod()["spec"]["containers"][0]["image"], "busybox");
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: only-tried}}";
    let applied = t.kubectl.ok_with_input(&["apply", "-f", "-", &kuberc], map);
    assert_eq!(applied, "configmap/only-tried serverside-applied (server dry run)\n");
    let asked = t.kubectl.run_with_input(&["delete", "pod/test-pod-2", &kuberc], "n\n");
    assert!(asked.stdout.contains("pod/test-pod-2"), "{asked:?}");
    assert_eq!(pod()["metadata"]["name"], "test-pod-2");
    let deleted =
        t.kubectl.ok(&["delete", "pod/test-pod-2", "--interactive=false", "--grace-period=0", "--force", &kuberc]);
    assert!(deleted.contains("pod \"test-pod-2\" force deleted"), "{deleted}");
}

#[test]
fn plugins_are_commands() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-greet");
    std::fs::write(&plugin, "#!/bin/sh\necho \"greetings to $1\"\n").unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let kubectl = |arguments: &[&str]| Outcome::of(t.kubectl.bare().args(arguments).env("PATH", &path), b"").stdout;
    assert_eq!(kubectl(&["greet", "all"]), "greetings to all\n");
    let listed = kubectl(&["plugin", "list"]);
    assert!(listed.contains(&plugin.display().to_string()), "{listed}");
}

#[test]
fn the_servers_version_is_the_same_in_every_form() {
    let t = sandbox();
    let raw: Value = t.kubectl.json(&["get", "--raw", "/version"]);
    let json: Value = t.kubectl.json(&["version", "-o", "json"]);
    let server = &json["serverVersion"];
    for (name, value) in server.as_object().unwrap() {
        assert_eq!(&raw[name], value, "{name}");
    }
    assert_eq!((&server["major"], &server["minor"]), (&json!("1"), &json!("36")));
    let text = t.kubectl.ok(&["version"]);
    let version = server["gitVersion"].as_str().unwrap();
    assert!(text.contains(&format!("Server Version: {version}\n")), "{text}");
    let client: Value = t.kubectl.json(&["version", "--client", "-o", "json"]);
    assert_eq!((&client["clientVersion"], &client["serverVersion"]), (&json["clientVersion"], &Value::Null));
}
