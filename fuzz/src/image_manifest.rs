//! Manifests and configurations of images: what is chosen of them is in them, and meant for WebAssembly.

use k8w_runtime::image::artifact::{Content, choose, content, entrypoint};
use serde_json::Value;

/// An input is a manifest and a configuration, a line each; the manifest may be an index.
pub fn check(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (manifest, config) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let Ok(plain) = serde_json::from_slice::<Value>(manifest) else { return };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Ok(entries) = serde_json::from_value::<Vec<_>>(plain["manifests"].clone())
        && let Some(digest) = choose(&entries)
    {
        let all = plain["manifests"].as_array().expect("it was read as one");
        let meant = |entry: &Value| {
            let platform = &entry["platform"];
            text(&platform["architecture"]).starts_with("wasm") || platform.is_null() && all.len() == 1
        };
        assert!(all.iter().any(|entry| entry["digest"] == digest.as_str() && meant(entry)), "{digest}");
    }
    let Ok(manifest) = serde_json::from_slice(manifest) else { return };
    match content(&manifest) {
        Ok(Content::Layer(layer)) => {
            assert_eq!(plain["layers"].as_array().map(Vec::len), Some(1));
            assert_eq!(text(&plain["layers"][0]["digest"]), layer.digest);
            assert!(layer.media_type.contains("wasm"));
        }
        Ok(Content::Entrypoint) => assert_ne!(plain["config"]["mediaType"], "application/vnd.wasm.config.v0+json"),
        Err(why) => assert!(!why.is_empty()),
    }
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    if let Ok(entrypoint) = entrypoint(&manifest, &config) {
        assert!(entrypoint.program().is_some());
        let annotated = text(&plain["annotations"]["module.wasm.image/variant"]).starts_with("compat");
        assert!(annotated || text(&config["architecture"]).starts_with("wasm"));
    }
}
