//! Fuzz targets: what must hold of every input that a client, a guest or an image can send.
//!
//! A target is a plain function that panics when its property is broken, so that libFuzzer (`fuzz_targets/`) and an
//! ordinary test (`tests/corpus.rs`) can both call it. To add one: a file, a row in [`all`], a binary in `fuzz_targets/`,
//! and a few small inputs in `corpus/`. `docs/fuzzing.md` says what each asserts.

pub mod addresses;
pub mod apply;
pub mod codec_json;
pub mod codec_protobuf;
pub mod codec_yaml;
#[cfg(feature = "node")]
pub mod datagrams;
pub mod dns;
#[cfg(feature = "node")]
pub mod filesystem;
pub mod http;
#[cfg(feature = "node")]
pub mod image_layer;
#[cfg(feature = "node")]
pub mod image_manifest;
mod input;
mod keeps;
#[cfg(feature = "node")]
pub mod keyvalue;
#[cfg(feature = "node")]
pub mod lines;
mod models;
#[cfg(feature = "node")]
pub mod module;
pub mod names;
mod network;
pub mod patch_json;
pub mod patch_merge;
pub mod patch_strategic;
#[cfg(feature = "node")]
mod pods;
pub mod response;
pub mod selectors;
#[cfg(feature = "node")]
pub mod sockets;
pub mod spdy;
pub mod websocket;

/// What must hold of inputs of one kind.
#[derive(Clone, Copy)]
pub struct Target {
    /// Of its module, its binary and its corpus.
    pub name: &'static str,
    /// # Panics
    /// When the input breaks the property.
    pub check: fn(&[u8]),
}

/// THE table of targets.
pub fn all() -> &'static [Target] {
    &[
        Target { name: "addresses", check: addresses::check },
        Target { name: "apply", check: apply::check },
        Target { name: "codec_json", check: codec_json::check },
        Target { name: "codec_protobuf", check: codec_protobuf::check },
        Target { name: "codec_yaml", check: codec_yaml::check },
        #[cfg(feature = "node")]
        Target { name: "datagrams", check: datagrams::check },
        Target { name: "dns", check: dns::check },
        #[cfg(feature = "node")]
        Target { name: "filesystem", check: filesystem::check },
        Target { name: "http", check: http::check },
        #[cfg(feature = "node")]
        Target { name: "image_layer", check: image_layer::check },
        #[cfg(feature = "node")]
        Target { name: "image_manifest", check: image_manifest::check },
        #[cfg(feature = "node")]
        Target { name: "keyvalue", check: keyvalue::check },
        #[cfg(feature = "node")]
        Target { name: "lines", check: lines::check },
        #[cfg(feature = "node")]
        Target { name: "module", check: module::check },
        Target { name: "names", check: names::check },
        Target { name: "patch_json", check: patch_json::check },
        Target { name: "patch_merge", check: patch_merge::check },
        Target { name: "patch_strategic", check: patch_strategic::check },
        Target { name: "response", check: response::check },
        Target { name: "selectors", check: selectors::check },
        #[cfg(feature = "node")]
        Target { name: "sockets", check: sockets::check },
        Target { name: "spdy", check: spdy::check },
        Target { name: "websocket", check: websocket::check },
    ]
}
