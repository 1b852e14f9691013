//! Kubeconfig files: written for this cluster alone, or merged into the user's own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Name of the cluster, the user and the context.
pub const NAME: &str = "k8w";

/// `~/.kube/config`, whatever `$KUBECONFIG` says: that may be k8w's own file.
pub fn user_file() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set, so there is no ~/.kube/config to merge into")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

/// Replaces or adds the cluster, user and context `k8w` in `existing` and makes the context current. Everything else
/// stays as it is.
fn merged(mut existing: Value, ours: &Value) -> Result<Value> {
    let Some(config) = existing.as_object_mut() else { bail!("it is not a kubeconfig (a mapping was expected)") };
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        config.entry(key).or_insert_with(|| json!(value));
    }
    for section in ["clusters", "users", "contexts"] {
        let list = config.entry(section).or_insert_with(|| json!([]));
        if list.is_null() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else { bail!("{section} is not a list") };
        list.retain(|item| item["name"] != NAME);
        list.extend(ours[section].as_array().into_iter().flatten().cloned());
    }
    config.insert("current-context".into(), json!(NAME));
    Ok(existing)
}

/// Merges the kubeconfig `ours` (YAML) into the file at `path`, which need not exist.
pub fn merge_into(path: &Path, ours: &str) -> Result<()> {
    let ours: Value = serde_saphyr::from_str(ours)?;
    let existing = match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => json!({}),
        Ok(text) => serde_saphyr::from_str(&text).with_context(|| format!("{} is not valid YAML", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let merged = merged(existing, &ours).with_context(|| format!("cannot merge into {}", path.display()))?;
    write(path, &serde_saphyr::to_string(&merged)?)
}

/// Writes a kubeconfig that only its owner can read, atomically.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let write = || -> Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write the kubeconfig {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "
apiVersion: v1
kind: Config
current-context: k8w
clusters: [{name: k8w, cluster: {server: 'https://127.0.0.1:6443'}}]
users: [{name: k8w, user: {}}]
contexts: [{name: k8w, context: {cluster: k8w, user: k8w}}]
";

    #[test]
    fn merging_keeps_what_others_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters:\n- name: work\n  cluster: {server: 'https://w'}\n\
             - name: k8w\n  cluster: {server: 'https://old'}\ncontexts: null\npreferences: {}\n",
        )
        .unwrap();
        merge_into(&path, OURS).unwrap();
        let result: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(result["clusters"][0]["name"], "work");
        assert_eq!(result["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(result["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(result["current-context"], "k8w");
        assert_eq!(result["preferences"], json!({}));
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "- a list\n").unwrap();
        assert!(merge_into(&path, OURS).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "- a list\n");
    }
}
