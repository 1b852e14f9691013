//! Rules of the files that projected volumes, and those of ConfigMaps, Secrets and a pod's own fields, are made of.

use std::collections::BTreeSet;

use super::env;
use crate::field::{Field, FieldError};
use crate::{names, rules};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks permissions.
pub fn mode(mode: &Field, errors: &mut Vec<FieldError>) {
    if mode.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        errors.push(mode.invalid(MODE));
    }
}

/// A path below the volume that does not look like the volume's own files.
pub fn file_path(path: &Field, errors: &mut Vec<FieldError>) {
    rules::required(path, errors);
    rules::path_below(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        errors.push(path.invalid("must not start with '..'"));
    }
}

/// Checks the keys of a ConfigMap or a Secret that become files.
pub fn key_items(source: &Field, errors: &mut Vec<FieldError>) {
    for item in source.get("items").items() {
        rules::required(&item.get("key"), errors);
        file_path(&item.get("path"), errors);
        mode(&item.get("mode"), errors);
    }
}

/// Checks the fields of the pod that become files. Kubernetes finds what is wrong with one at the source.
pub fn downward_items(source: &Field, errors: &mut Vec<FieldError>) {
    for item in source.get("items").items() {
        let at_source = |field: &'static str| Field::new(item.get(field).value(), source.path.child(field));
        file_path(&at_source("path"), errors);
        let (field, resource) = (at_source("fieldRef"), at_source("resourceFieldRef"));
        if field.is_set() {
            env::field_reference(&field, env::VOLUME_FIELDS, errors);
            if resource.is_set() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(&source.path, "resource", detail));
            }
        } else if resource.is_set() {
            env::resource_reference(&resource, true, errors);
        } else {
            errors.push(source.required("one of fieldRef and resourceFieldRef is required"));
        }
        mode(&at_source("mode"), errors);
    }
}

/// A rule of one source of a projected volume, which names its files.
type Rule = for<'v> fn(&Field<'v, '_>, &mut Paths<'v, '_>, &mut Vec<FieldError>);

/// What projected volumes are made of.
const SOURCES: [(&str, Rule); 5] = [
    ("secret", keys),
    ("configMap", keys),
    ("downwardAPI", downward),
    ("serviceAccountToken", token),
    ("clusterTrustBundle", trust_bundle),
];

/// The files of a projected volume, each of which has one source.
struct Paths<'v, 'p> {
    volume: &'p Field<'v, 'p>,
    taken: BTreeSet<&'v str>,
}

impl<'v> Paths<'v, '_> {
    fn claim(&mut self, path: &'v str, shown: &str, errors: &mut Vec<FieldError>) {
        if !path.is_empty() && !self.taken.insert(path) {
            errors.push(FieldError::invalid(&self.volume.path, shown, "conflicting duplicate paths"));
        }
    }
}

/// Checks a projected volume.
pub fn validate(volume: &Field, errors: &mut Vec<FieldError>) {
    mode(&volume.get("defaultMode"), errors);
    let mut paths = Paths { volume, taken: BTreeSet::new() };
    for projection in volume.get("sources").items() {
        let mut set = 0;
        for (name, rule) in SOURCES {
            let source = projection.get(name);
            if source.is_set() {
                set += 1;
                rule(&source, &mut paths, errors);
            }
        }
        if set > 1 {
            errors.push(projection.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

fn keys<'v>(source: &Field<'v, '_>, paths: &mut Paths<'v, '_>, errors: &mut Vec<FieldError>) {
    let name = source.get("name");
    rules::required(&name, errors);
    key_items(source, errors);
    for item in source.get("items").items() {
        paths.claim(item.get("path").text(), name.text(), errors);
    }
}

fn downward<'v>(source: &Field<'v, '_>, paths: &mut Paths<'v, '_>, errors: &mut Vec<FieldError>) {
    downward_items(source, errors);
    for item in source.get("items").items() {
        let path = item.get("path").text();
        paths.claim(path, path, errors);
    }
}

/// Kubernetes finds what is wrong with the file of a token at the volume.
fn token<'v>(token: &Field<'v, '_>, paths: &mut Paths<'v, '_>, errors: &mut Vec<FieldError>) {
    const MIN_SECONDS: i64 = 600;
    let (seconds, path) = (token.get("expirationSeconds"), token.get("path"));
    if seconds.int().is_some_and(|s| s < MIN_SECONDS) {
        errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
    }
    if seconds.int().is_some_and(|s| s > 1 << 32) {
        errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    file_path(&Field::new(path.value(), paths.volume.path.child("path")), errors);
}

fn trust_bundle<'v>(source: &Field<'v, '_>, paths: &mut Paths<'v, '_>, errors: &mut Vec<FieldError>) {
    let (name, signer, selector) = (source.get("name"), source.get("signerName"), source.get("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.push(source.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            let wrong = bundle_name(name.text()).into_iter();
            errors.extend(wrong.map(|wrong| name.invalid(format!("not a valid clustertrustbundlename: {wrong}"))));
            if selector.is_set() {
                errors.push(selector.invalid("labelSelector must be unset if name is specified"));
            }
        }
        (false, true) => {
            if signer.is_empty() {
                errors.push(signer.required("must be a valid signer name"));
            }
            rules::signer_name(&signer, errors);
            rules::label_selector(&selector, errors);
        }
        (false, false) => errors.push(source.required("either name or signerName must be specified")),
    }
    let path = source.get("path");
    file_path(&path, errors);
    paths.claim(path.text(), path.text(), errors);
}

/// The name of a ClusterTrustBundle: that of one with a signer starts with the signer's, with colons in it.
fn bundle_name(name: &str) -> Vec<String> {
    let Some((signer, rest)) = name.rsplit_once(':') else { return names::dns_subdomain(name) };
    match signer {
        "" => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()],
        _ => names::dns_subdomain(rest),
    }
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::check_specs;

    #[test]
    fn files_of_projected_volumes() {
        for (sources, expected) in [
            ("{}", ""),
            ("{secret: {name: s, items: [{key: a, path: x}]}}, {configMap: {name: m, items: [{key: a, path: z}]}}", ""),
            (
                "{secret: {name: s, items: [{key: a, path: x}, {key: b, path: x}]}}",
                "spec.volumes[0].projected: Invalid value: \"s\": conflicting duplicate paths",
            ),
            (
                "{secret: {name: s, items: [{key: a, path: x}]}}, {configMap: {name: m, items: [{key: a, path: x}]}}",
                "spec.volumes[0].projected: Invalid value: \"m\": conflicting duplicate paths",
            ),
            (
                "{secret: {name: s, items: [{key: a, path: x}]}}, {downwardAPI: {items: [{path: x, fieldRef: {fieldPath: metadata.name}}]}}",
                "spec.volumes[0].projected: Invalid value: \"x\": conflicting duplicate paths",
            ),
            ("{secret: {name: s, items: [{key: a, path: x}]}}, {serviceAccountToken: {path: x}}", ""),
            (
                "{secret: {name: s}, configMap: {name: m}}",
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ),
            (
                "{serviceAccountToken: {expirationSeconds: 1}}",
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes\nspec.volumes[0].projected.path: Required value",
            ),
            (
                "{downwardAPI: {items: [{path: x}, {path: z, resourceFieldRef: {resource: limits.cpu}}]}}",
                "spec.volumes[0].projected.sources[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required\nspec.volumes[0].projected.sources[0].downwardAPI.resourceFieldRef.containerName: Required value",
            ),
        ] {
            let spec = format!("serviceAccountName: s, volumes: [{{name: v, projected: {{sources: [{sources}]}}}}]");
            check_specs(&[(&spec, expected)]);
        }
        check_specs(&[(
            "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: x}}]}}]",
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        )]);
    }

    #[test]
    fn certificates_by_name_or_by_signer() {
        for (bundle, expected) in [
            ("{name: b, path: x}", ""),
            ("{name: 'example.com:s:b', path: x}", ""),
            ("{signerName: example.com/s, path: x, labelSelector: {matchLabels: {a: b}}}", ""),
            ("{path: x}", ": Required value: either name or signerName must be specified"),
            (
                "{name: b, signerName: example.com/s, path: x}",
                ": Invalid value: {\"name\":\"b\",\"path\":\"x\",\"signerName\":\"example.com/s\"}: only one of name and signerName may be used",
            ),
            (
                "{name: b, path: x, labelSelector: {}}",
                ".labelSelector: Invalid value: {}: labelSelector must be unset if name is specified",
            ),
            (
                "{name: ':b', path: x}",
                ".name: Invalid value: \":b\": not a valid clustertrustbundlename: ClusterTrustBundle without signer name must not have \":\" in its name",
            ),
            (
                "{signerName: s, path: x}",
                ".signerName: Invalid value: \"s\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
        ] {
            let path = "spec.volumes[0].projected.sources[0].clusterTrustBundle";
            let expected = if expected.is_empty() { String::new() } else { format!("{path}{expected}") };
            let spec = format!("volumes: [{{name: v, projected: {{sources: [{{clusterTrustBundle: {bundle}}}]}}}}]");
            check_specs(&[(&spec, &expected)]);
        }
    }
}
