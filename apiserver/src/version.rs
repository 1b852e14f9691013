//! `/version`: which Kubernetes this is.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

use crate::ApiServer;
use crate::call::Call;
use crate::respond;
use crate::routes::Answer;

/// The version of Kubernetes whose API this is.
pub const MAJOR: &str = "1";
pub const MINOR: &str = "36";
/// As clients parse it: a semantic version, ours as build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.0+k8w.", env!("CARGO_PKG_VERSION"));

/// `GET /version`: `k8s.io/apimachinery/pkg/version` Info.
pub fn serve(_: Arc<ApiServer>, _: Call) -> BoxFuture<'static, Answer> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let info = json!({
        "major": MAJOR, "minor": MINOR, "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    });
    async move { Ok(respond::json(&info)) }.boxed()
}
