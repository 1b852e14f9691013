//! A folder of components and manifests, read whole before anything is started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use kube::api::DynamicObject;
use serde_json::Value;

/// A manifest larger than this is refused: it could not be stored either.
const MAX_MANIFEST_BYTES: u64 = 3 * 1024 * 1024;

/// What `k8w up DIR` found in DIR.
pub struct Folder {
    path: PathBuf,
    components: Vec<(String, PathBuf)>,
    manifests: Vec<Manifest>,
}

/// One object of a manifest file.
pub struct Manifest {
    pub object: DynamicObject,
    /// File and document, for messages.
    pub origin: String,
}

impl Folder {
    /// Reads the files directly inside `path`, in the order of their names.
    ///
    /// # Errors
    /// When the folder cannot be read, or a manifest is no valid YAML or JSON or holds something that is no object.
    pub fn read(path: &Path) -> Result<Self> {
        let entries = fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        let mut folder = Self { path: path.to_path_buf(), components: Vec::new(), manifests: Vec::new() };
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("wasm") => folder.components.push((image_name(&file)?, file)),
                Some("yaml" | "yml" | "json") => folder.manifests.append(&mut read_manifest(&file)?),
                _ => {}
            }
        }
        if folder.components.is_empty() && folder.manifests.is_empty() {
            bail!("{} holds neither components (.wasm) nor manifests (.yaml, .yml, .json)", path.display());
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Image name and file of each component.
    pub fn components(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.components.iter().map(|(name, file)| (name.as_str(), file.as_path()))
    }

    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }
}

/// `localhost/<file stem>:latest`
fn image_name(file: &Path) -> Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if stem.is_empty() || !stem.chars().all(valid) || !stem.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        bail!(
            "{} cannot become an image: its name may only have lower-case letters, digits, '.', '_' and '-'",
            file.display()
        );
    }
    Ok(format!("localhost/{stem}:latest"))
}

fn read_manifest(file: &Path) -> Result<Vec<Manifest>> {
    let context = || format!("cannot read {}", file.display());
    if fs::metadata(file).with_context(context)?.len() > MAX_MANIFEST_BYTES {
        bail!("{} is larger than {MAX_MANIFEST_BYTES} bytes", file.display());
    }
    let text = fs::read_to_string(file).with_context(context)?;
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let documents: Vec<Value> = if is_json {
        vec![serde_json::from_str(&text).with_context(|| format!("{} is not valid JSON", file.display()))?]
    } else {
        serde_saphyr::from_multiple(&text).map_err(|error| {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            // What this program could do about it is nothing to the user.
            let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
            anyhow!("{} is not valid YAML: {text}", file.display())
        })?
    };
    let mut manifests = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let origin = format!("{} (document {})", file.display(), index + 1);
        flatten(document, &origin, &mut manifests)?;
    }
    Ok(manifests)
}

/// Takes a document apart: a `List` is its items, an empty document is nothing.
fn flatten(document: Value, origin: &str, manifests: &mut Vec<Manifest>) -> Result<()> {
    if document.is_null() {
        return Ok(());
    }
    if document["kind"] == "List" {
        for item in document["items"].as_array().into_iter().flatten() {
            flatten(item.clone(), origin, manifests)?;
        }
        return Ok(());
    }
    for field in ["apiVersion", "kind"] {
        if document[field].as_str().is_none_or(str::is_empty) {
            bail!("{origin} is no Kubernetes object: {field} is missing");
        }
    }
    let object: DynamicObject =
        serde_json::from_value(document).with_context(|| format!("{origin} is no Kubernetes object"))?;
    manifests.push(Manifest { object, origin: origin.to_owned() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Result<Folder> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Folder::read(dir.path())
    }

    fn refusal(files: &[(&str, &str)]) -> String {
        match folder(files) {
            Ok(_) => panic!("was read"),
            Err(error) => crate::one_sentence(&error),
        }
    }

    #[test]
    fn components_become_images_and_documents_objects() {
        let folder = folder(&[
            ("b.wasm", ""),
            ("a.yaml", "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: two}}\n"),
            ("readme.txt", "ignored"),
        ])
        .unwrap();
        assert_eq!(folder.components().map(|(name, _)| name).collect::<Vec<_>>(), ["localhost/b:latest"]);
        let names: Vec<_> = folder.manifests().iter().filter_map(|m| m.object.metadata.name.as_deref()).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert!(refusal(&[("a.yaml", "a: [")]).contains("a.yaml is not valid YAML"));
        assert!(
            refusal(&[("a.yaml", "kind: Pod")]).contains("a.yaml (document 1) is no Kubernetes object: apiVersion")
        );
        assert!(refusal(&[("Bad Name.wasm", "")]).contains("cannot become an image"));
        assert!(refusal(&[("readme.txt", "")]).contains("holds neither components"));
    }
}
