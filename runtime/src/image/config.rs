//! What a container image says of the process that it is for (`config` in
//! <https://github.com/opencontainers/image-spec/blob/main/config.md>). A wasm artifact says nothing.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::files::Search;

/// Where programs are looked for that are called by their names alone, if the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container's own fields override.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    #[serde(deserialize_with = "or_nothing")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub cmd: Vec<String>,
    /// `NAME=value`
    #[serde(deserialize_with = "or_nothing")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub working_dir: String,
}

/// Many tools write `null` for what is empty.
fn or_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Config {
    /// That of an image's whole configuration.
    ///
    /// # Errors
    /// When it is not as it should be.
    pub fn of(configuration: &Value) -> serde_json::Result<Config> {
        Option::<Config>::deserialize(&configuration["config"]).map(Option::unwrap_or_default)
    }

    /// The file that the image starts.
    pub fn program(&self) -> Option<&str> {
        self.entrypoint.first().filter(|program| !program.is_empty()).or(self.cmd.first()).map(String::as_str)
    }

    /// Where that is looked for.
    pub fn search(&self) -> Search<'_> {
        let path = self.env().filter(|(name, _)| *name == "PATH").last().map(|(_, path)| path);
        Search { working_dir: &self.working_dir, path: path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH) }
    }

    /// The variables. One without a value is empty.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")))
    }
}

/// Digests of what an image's layers unpack to, the lowest first. Nothing where a tool has left them out: what the layers are as
/// they are sent, the manifest says in any case.
///
/// # Errors
/// When they are not as they should be.
pub fn diff_ids(configuration: &Value) -> serde_json::Result<Option<Vec<String>>> {
    Option::deserialize(&configuration["rootfs"]["diff_ids"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_is_empty() {
        for nothing in [json!({}), json!({ "config": null }), json!({ "config": { "Env": null, "User": "1" } })] {
            assert_eq!(Config::of(&nothing).unwrap(), Config::default());
        }
        assert!(Config::of(&json!({ "config": { "Cmd": "a.wasm" } })).is_err());
        let config = Config::of(&json!({ "config": { "Env": ["A=b=c", "B"], "Cmd": ["a.wasm"] } })).unwrap();
        assert_eq!(config.env().collect::<Vec<_>>(), [("A", "b=c"), ("B", "")]);
        assert_eq!(config.program(), Some("a.wasm"));
        assert_eq!(config.search().path, DEFAULT_PATH);
        assert_eq!(diff_ids(&json!({})).unwrap(), None);
        assert!(diff_ids(&json!({ "rootfs": { "diff_ids": "sha256:0" } })).is_err());
    }

    #[test]
    fn the_last_path_counts() {
        let config = json!({ "config": { "Env": ["PATH=/a", "XPATH=/b", "PATH=/c:/d"], "WorkingDir": "/work" } });
        let config = Config::of(&config).unwrap();
        assert_eq!((config.search().path, config.search().working_dir), ("/c:/d", "/work"));
        let config = Config::of(&json!({ "config": { "Env": ["PATH="] } })).unwrap();
        assert_eq!(config.search().path, DEFAULT_PATH);
    }
}
