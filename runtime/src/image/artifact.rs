//! Which of a manifest's layers is the component, by the formats that k8w reads.
//!
//! * the CNCF wasm OCI artifact: config `application/vnd.wasm.config.v0+json` and exactly one `application/wasm` layer
//!   (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>);
//! * the older `application/vnd.wasm.content.layer.v1+wasm` layer;
//! * a container image for `wasi/wasm`, `wasip1` or `wasip2`, or annotated `module.wasm.image/variant: compat`, whose
//!   entrypoint is a component.

use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, WASM_LAYER_MEDIA_TYPE};
use serde_json::Value;

use super::config::Config;

/// Config media types of the CNCF artifact; `v1` is what oci-client itself once wrote.
const WASM_CONFIG: [&str; 2] = ["application/vnd.wasm.config.v0+json", "application/vnd.wasm.config.v1+json"];
const WASM_LAYER: &str = "application/wasm";
const VARIANT: &str = "module.wasm.image/variant";

/// Where the component is.
#[derive(Clone, Debug)]
pub enum Content {
    /// This layer is the component.
    Layer(OciDescriptor),
    /// The entrypoint in the layers of a container image, if its config allows it: see [`entrypoint`].
    Entrypoint,
}

/// Looks at a manifest.
///
/// # Errors
/// With the reason when it cannot hold a component.
pub fn content(manifest: &OciImageManifest) -> Result<Content, String> {
    let wasm = |layer: &&OciDescriptor| [WASM_LAYER, WASM_LAYER_MEDIA_TYPE].contains(&layer.media_type.as_str());
    let is_artifact = WASM_CONFIG.contains(&manifest.config.media_type.as_str());
    match (manifest.layers.as_slice(), manifest.layers.iter().filter(wasm).count()) {
        ([layer], 1) => Ok(Content::Layer(layer.clone())),
        (layers, 1..) => {
            Err(format!("a wasm artifact has exactly one {WASM_LAYER} layer, and this one has {} layers", layers.len()))
        }
        (layers, 0) if is_artifact => {
            Err(format!("it is a wasm artifact without a {WASM_LAYER} layer ({} layers)", layers.len()))
        }
        _ => Ok(Content::Entrypoint),
    }
}

/// What a container image's config says of its process.
///
/// # Errors
/// With the reason when the image is not meant for wasm, or starts nothing.
pub fn entrypoint(manifest: &OciImageManifest, config: &Value) -> Result<Config, String> {
    let annotated = manifest.annotations.as_ref().and_then(|annotations| annotations.get(VARIANT));
    let compat = annotated.is_some_and(|variant| variant.starts_with("compat"));
    let (os, architecture) = (text(&config["os"]), text(&config["architecture"]));
    if !compat && !is_wasm_platform(os, architecture) {
        return Err(format!("its platform is {os}/{architecture}"));
    }
    let config = Config::of(config).map_err(|error| format!("its config is broken: {error}"))?;
    if config.program().is_none() {
        return Err("it has no entrypoint".to_owned());
    }
    Ok(config)
}

/// Chooses the wasm image of a multi-platform index.
pub fn choose(entries: &[ImageIndexEntry]) -> Option<String> {
    let wasm = entries.iter().find(|entry| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| is_wasm_platform(&platform.os.to_string(), &platform.architecture.to_string()))
    });
    match (wasm, entries) {
        (Some(entry), _) => Some(entry.digest.clone()),
        // An index around a single artifact names no platform.
        (None, [only]) if only.platform.is_none() => Some(only.digest.clone()),
        _ => None,
    }
}

fn is_wasm_platform(os: &str, architecture: &str) -> bool {
    ["wasi", "wasip1", "wasip2"].contains(&os) && ["wasm", "wasm32"].contains(&architecture)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn manifest(config: &str, layers: &[&str]) -> OciImageManifest {
        let descriptor = |media_type: &str| json!({ "mediaType": media_type, "digest": "sha256:00", "size": 1 });
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(layer)).collect();
        serde_json::from_value(json!({ "schemaVersion": 2, "config": descriptor(config), "layers": layers })).unwrap()
    }

    #[test]
    fn artifacts_have_exactly_one_wasm_layer() {
        let config = "application/vnd.wasm.config.v0+json";
        assert!(matches!(content(&manifest(config, &[WASM_LAYER])), Ok(Content::Layer(_))));
        assert!(matches!(content(&manifest("x", &[WASM_LAYER_MEDIA_TYPE])), Ok(Content::Layer(_))));
        expect!["a wasm artifact has exactly one application/wasm layer, and this one has 2 layers"]
            .assert_eq(&content(&manifest(config, &[WASM_LAYER, WASM_LAYER])).unwrap_err());
        expect!["it is a wasm artifact without a application/wasm layer (1 layers)"]
            .assert_eq(&content(&manifest(config, &["text/plain"])).unwrap_err());
    }

    #[test]
    fn container_images_must_be_meant_for_wasm() {
        let mut image =
            manifest("application/vnd.oci.image.config.v1+json", &["application/vnd.oci.image.layer.v1.tar"]);
        assert!(matches!(content(&image), Ok(Content::Entrypoint)));
        let config =
            |os: &str, word: &str| json!({ "os": os, "architecture": "wasm", "config": { "Entrypoint": [word] } });
        let entrypoint = |image: &OciImageManifest, config: &Value| {
            entrypoint(image, config).map(|config| config.program().map(str::to_owned))
        };
        assert_eq!(entrypoint(&image, &config("wasip2", "/app.wasm")), Ok(Some("/app.wasm".to_owned())));
        assert_eq!(entrypoint(&image, &config("linux", "/app.wasm")), Err("its platform is linux/wasm".to_owned()));
        assert_eq!(
            entrypoint(&image, &json!({ "os": "wasi", "architecture": "wasm" })),
            Err("it has no entrypoint".to_owned())
        );
        image.annotations = Some([(VARIANT.to_owned(), "compat-smart".to_owned())].into());
        assert_eq!(entrypoint(&image, &config("linux", "app")), Ok(Some("app".to_owned())));
    }
}
