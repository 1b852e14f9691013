//! A container's environment and argv, as the kubelet makes them.
//!
//! Later sources win: service variables, then `envFrom` in order, then `env` in order, in which `$(NAME)` refers to
//! anything before it (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>).

mod expand;
pub mod files;
mod services;

use std::collections::HashMap;

use k8s_openapi::api::core::v1 as core;

use super::downward;
use super::refs::{self, Found, Missing, Reference};
use crate::image::config::Config;
use files::Files;

pub use expand::{MAX_BYTES, TooLong, expand, expand_all};
pub use services::service_variables;

/// Why a container has no environment: `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Downward(#[from] downward::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("environment: {0}")]
    TooLong(#[from] TooLong),
}

/// The ConfigMaps and Secrets that a container's environment needs.
pub fn references(container: &core::Container, namespace: &str) -> Vec<Reference> {
    let mut wanted = Vec::new();
    for source in container.env_from.iter().flatten() {
        wanted.extend(source.config_map_ref.as_ref().map(|from| Reference::config_map(namespace, &from.name)));
        wanted.extend(source.secret_ref.as_ref().map(|from| Reference::secret(namespace, &from.name)));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        wanted.extend(from.config_map_key_ref.as_ref().map(|from| Reference::config_map(namespace, &from.name)));
        wanted.extend(from.secret_key_ref.as_ref().map(|from| Reference::secret(namespace, &from.name)));
    }
    wanted
}

/// The environment, every name once, in the order in which names were first given.
///
/// # Errors
/// When something that is not optional is missing, or it is too long.
pub fn environment(
    container: &core::Container,
    facts: &downward::Facts<'_>,
    services: Vec<(String, String)>,
    found: &Found,
    files: &Files,
) -> Result<Vec<(String, String)>, Error> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut result = Environment::default();
    for source in container.env_from.iter().flatten() {
        let (reference, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(from), _) => (Reference::config_map(namespace, &from.name), from.optional),
            (None, Some(from)) => (Reference::secret(namespace, &from.name), from.optional),
            (None, None) => continue,
        };
        let Some(contents) = refs::contents(found, &reference, optional.unwrap_or(false))? else { continue };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in contents.variables() {
            result.set(format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
            result.check()?;
        }
    }
    let services: HashMap<String, String> = services.into_iter().collect();
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                let look_up = |name: &str| result.get(name).or_else(|| services.get(name).map(String::as_str));
                Some(expand(text, look_up)?)
            }
            Some(from) => value_from(from, container, facts, namespace, found, files)?,
        };
        if let Some(value) = value {
            result.set(variable.name.clone(), value);
            result.check()?;
        }
    }
    let mut services: Vec<_> = services.into_iter().filter(|(name, _)| result.get(name).is_none()).collect();
    services.sort();
    let mut variables = result.variables;
    variables.extend(services);
    Ok(variables)
}

/// `command` and `args` with `$(NAME)` expanded, in place of what the image says: a command of all of it, arguments of its
/// `Cmd`. Where neither names a program, as with a wasm artifact, it is called by the container's name.
///
/// # Errors
/// [`TooLong`], of `command` or `args`.
pub fn argv(
    container: &core::Container,
    environment: &[(String, String)],
    image: &Config,
) -> Result<Vec<String>, TooLong> {
    let look_up = |name: &str| environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let command = expand_all(container.command.iter().flatten(), look_up)?;
    let mut args = expand_all(container.args.iter().flatten(), look_up)?;
    if !command.is_empty() {
        return Ok([command, args].concat());
    }
    let mut argv: Vec<String> = image.entrypoint.iter().filter(|word| !word.is_empty()).cloned().collect();
    if argv.is_empty() && (image.cmd.is_empty() || !args.is_empty()) {
        argv.push(image.program().unwrap_or(&container.name).to_owned());
    }
    if args.is_empty() {
        args.clone_from(&image.cmd);
    }
    argv.extend(args);
    Ok(argv)
}

/// What the process sees: the container's own variables, in place of those of its image, in place of what the node says.
pub fn of_process(
    node: impl IntoIterator<Item = (String, String)>,
    image: &Config,
    container: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut result = Environment::default();
    let image = image.env().map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in node.into_iter().chain(image).chain(container) {
        result.set(name, value);
    }
    result.variables
}

fn value_from(
    from: &core::EnvVarSource,
    container: &core::Container,
    facts: &downward::Facts<'_>,
    namespace: &str,
    found: &Found,
    files: &Files,
) -> Result<Option<String>, Error> {
    let text = |value: bytes::Bytes| String::from_utf8_lossy(&value).into_owned();
    if let Some(field) = &from.field_ref {
        return Ok(Some(downward::field(facts, &field.field_path)?));
    }
    if let Some(resource) = &from.resource_field_ref {
        return Ok(Some(downward::resource(facts, resource, &container.name)?));
    }
    if let Some(from) = &from.config_map_key_ref {
        let reference = Reference::config_map(namespace, &from.name);
        return Ok(refs::key(found, &reference, &from.key, from.optional.unwrap_or(false))?.map(text));
    }
    if let Some(from) = &from.secret_key_ref {
        let reference = Reference::secret(namespace, &from.name);
        return Ok(refs::key(found, &reference, &from.key, from.optional.unwrap_or(false))?.map(text));
    }
    if let Some(from) = &from.file_key_ref {
        return Ok(files::key(files, from)?);
    }
    Ok(Some(String::new()))
}

/// Variables in order of first appearance.
#[derive(Default)]
struct Environment {
    variables: Vec<(String, String)>,
    index: HashMap<String, usize>,
    /// Of names and values.
    bytes: usize,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|&index| self.variables[index].1.as_str())
    }

    fn check(&self) -> Result<(), TooLong> {
        if self.bytes > MAX_BYTES { Err(TooLong) } else { Ok(()) }
    }

    fn set(&mut self, name: String, value: String) {
        self.bytes += value.len();
        match self.index.get(&name) {
            Some(&index) => self.bytes -= std::mem::replace(&mut self.variables[index].1, value).len(),
            None => {
                self.bytes += name.len();
                self.index.insert(name.clone(), self.variables.len());
                self.variables.push((name, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use bytes::Bytes;
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn resolve(container: Value, found: &Found) -> Result<String, Error> {
        let container: core::Container = serde_json::from_value(container).unwrap();
        let pod: core::Pod = serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "ns" } })).unwrap();
        let facts = downward::Facts {
            pod: &pod,
            host_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
            pod_ip: Ipv4Addr::new(10, 64, 0, 5).into(),
            allocatable: &BTreeMap::new(),
        };
        let services =
            vec![("WEB_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned()), ("A".to_owned(), "svc".to_owned())];
        let environment = environment(&container, &facts, services, found, &Files::new())?;
        let lines: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let argv = argv(&container, &environment, &Config::default())?;
        Ok(format!("{}\nargv: {argv:?}\n", lines.join("\n")))
    }

    fn config(name: &str, data: &[(&str, &str)]) -> (Reference, Option<Contents>) {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
        (Reference::config_map("ns", name), Some(Arc::new(data.collect::<BTreeMap<_, _>>().into())))
    }

    use super::refs::Contents;

    #[test]
    fn sources_override_in_order_and_expand() {
        let found = Found::from([config("cfg", &[("A", "from-config"), ("B", "b")])]);
        let container = json!({
            "name": "c",
            "args": ["--at=$(URL)", "$$(URL)", "$(NONE)"],
            "envFrom": [{ "configMapRef": { "name": "cfg" } }, { "prefix": "P_", "configMapRef": { "name": "cfg" } }],
            "env": [
                { "name": "B", "value": "own" },
                { "name": "URL", "value": "http://$(WEB_SERVICE_HOST)/$(B)" },
                { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "KEY", "valueFrom": { "configMapKeyRef": { "name": "cfg", "key": "A" } } },
                { "name": "GONE", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k", "optional": true } } }
            ]
        });
        expect![[r#"
            A=from-config
            B=own
            P_A=from-config
            P_B=b
            URL=http://10.96.0.7/own
            NAME=p
            KEY=from-config
            WEB_SERVICE_HOST=10.96.0.7
            argv: ["c", "--at=http://10.96.0.7/own", "$(URL)", "$(NONE)"]
        "#]]
        .assert_eq(&resolve(container, &found).unwrap());
    }

    /// What a container runtime makes of both.
    #[test]
    fn a_containers_fields_stand_in_place_of_its_images() {
        let both = json!({ "Entrypoint": ["/a.wasm", "--x"], "Cmd": ["serve", "$(A)"] });
        for (image, container, expected) in [
            (json!({}), json!({}), &["c"][..]),
            (json!({}), json!({ "args": ["$(A)"] }), &["c", "a"]),
            (both.clone(), json!({}), &["/a.wasm", "--x", "serve", "$(A)"]),
            (both.clone(), json!({ "args": ["$(A)"] }), &["/a.wasm", "--x", "a"]),
            (both.clone(), json!({ "command": ["b"] }), &["b"]),
            (both.clone(), json!({ "command": ["b"], "args": ["c"] }), &["b", "c"]),
            (both, json!({ "command": [], "args": [] }), &["/a.wasm", "--x", "serve", "$(A)"]),
            (json!({ "Cmd": ["/a.wasm", "x"] }), json!({}), &["/a.wasm", "x"]),
            (json!({ "Entrypoint": [""], "Cmd": ["/a.wasm", "x"] }), json!({ "args": ["y"] }), &["/a.wasm", "y"]),
        ] {
            let config = Config::of(&json!({ "config": image })).unwrap();
            let mut with_name = container.clone();
            with_name["name"] = json!("c");
            let own: core::Container = serde_json::from_value(with_name).unwrap();
            let argv = argv(&own, &[("A".to_owned(), "a".to_owned())], &config).unwrap();
            assert_eq!(argv, expected, "{container} over {image}");
        }
    }

    #[test]
    fn a_containers_variables_stand_in_place_of_its_images() {
        let image = json!({ "config": { "Env": ["A=image", "B=image", "HOSTNAME=image"] } });
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all = of_process(
            [pair("HOSTNAME", "node"), pair("D", "node")],
            &Config::of(&image).unwrap(),
            vec![pair("C", "own"), pair("B", "own")],
        );
        let lines: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(lines, ["HOSTNAME=image", "D=node", "A=image", "B=own", "C=own"]);
    }

    #[test]
    fn an_environment_has_its_bound_whatever_its_variables_are_made_of() {
        let large = "x".repeat(MAX_BYTES / 2);
        let found = Found::from([config("cfg", &[("A", &large[..])])]);
        let container = |env: Value| json!({ "name": "c", "env": env });
        let key = json!({ "configMapKeyRef": { "name": "cfg", "key": "A" } });
        let doubled: Vec<Value> = (1..64)
            .map(|number| json!({ "name": format!("V{number}"), "value": format!("$(V{0})$(V{0})", number - 1) }))
            .collect();
        let doubled = [&[json!({ "name": "V0", "value": "x" })][..], &doubled].concat();
        let taken: Vec<Value> =
            (0..3).map(|number| json!({ "name": format!("V{number}"), "valueFrom": key })).collect();
        for env in [json!(doubled), json!(taken)] {
            assert_eq!(resolve(container(env), &found), Err(Error::TooLong(TooLong)));
        }
        let again = vec![json!({ "name": "V", "valueFrom": key }); 3];
        resolve(container(json!(again)), &found).unwrap();
        let args = json!({ "name": "c", "args": vec!["$(V)"; 3], "env": again });
        assert_eq!(resolve(args, &found), Err(Error::TooLong(TooLong)));
    }

    #[test]
    fn binary_data_is_no_variable() {
        let (reference, contents) = config("cfg", &[("A", "a"), ("B", "b")]);
        let mut data = Arc::unwrap_or_clone(contents.unwrap());
        data.binary.insert("B".to_owned());
        let found = Found::from([(reference, Some(Arc::new(data)))]);
        let all = json!({ "name": "c", "envFrom": [{ "configMapRef": { "name": "cfg" } }] });
        let lines = resolve(all, &found).unwrap();
        assert!(lines.starts_with("A=a\nWEB_SERVICE_HOST="), "{lines}");
        let one = json!({ "configMapKeyRef": { "name": "cfg", "key": "B" } });
        let refused = resolve(json!({ "name": "c", "env": [{ "name": "V", "valueFrom": one }] }), &found);
        expect!["couldn't find key B in ConfigMap ns/cfg"].assert_eq(&refused.unwrap_err().to_string());
    }

    #[test]
    fn missing_sources_are_worded_as_the_kubelet_words_them() {
        let found = Found::from([config("cfg", &[])]);
        let failure = |variable: Value| {
            resolve(json!({ "name": "c", "env": [{ "name": "V", "valueFrom": variable }] }), &found)
                .unwrap_err()
                .to_string()
        };
        expect![[r#"configmap "x" not found"#]]
            .assert_eq(&failure(json!({ "configMapKeyRef": { "name": "x", "key": "k" } })));
        expect![[r#"secret "x" not found"#]]
            .assert_eq(&failure(json!({ "secretKeyRef": { "name": "x", "key": "k" } })));
        expect!["couldn't find key k in ConfigMap ns/cfg"]
            .assert_eq(&failure(json!({ "configMapKeyRef": { "name": "cfg", "key": "k" } })));
    }
}
