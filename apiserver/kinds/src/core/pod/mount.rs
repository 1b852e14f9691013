//! Rules of what a container mounts: volumes as directories, and as devices.

use std::collections::{BTreeMap, BTreeSet};

use super::volume::Volumes;
use crate::field::{Field, FieldError};
use crate::rules;

/// Checks `volumeMounts` and `volumeDevices` of a container.
///
/// Kubernetes finds some of what is wrong with one mount at the list of them.
pub fn validate(container: &Field, volumes: &Volumes, errors: &mut Vec<FieldError>) {
    let (mounts, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let mounted = places(&mounts, "mountPath");
    self::mounts(&mounts, container, &places(&devices, "devicePath"), volumes, errors);
    self::devices(&devices, &mounted, volumes, errors);
}

/// Where each volume is to be found, by its name.
fn places<'v>(list: &Field<'v, '_>, place: &str) -> BTreeMap<&'v str, &'v str> {
    list.items().map(|item| (item.get("name").text(), item.get(place).text())).collect()
}

fn mounts(
    mounts: &Field,
    container: &Field,
    devices: &BTreeMap<&str, &str>,
    volumes: &Volumes,
    errors: &mut Vec<FieldError>,
) {
    let privileged = container.get("securityContext").get("privileged").bool() == Some(true);
    let mut places = BTreeSet::new();
    for mount in mounts.items() {
        let (name, place) = (mount.get("name"), mount.get("mountPath"));
        rules::required(&name, errors);
        if !volumes.contains_key(name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        rules::required(&place, errors);
        if !places.insert(place.text()) {
            errors.push(place.invalid("must be unique"));
        }
        if devices.contains_key(name.text()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.values().any(|device| *device == place.text()) {
            errors.push(place.invalid("must not already exist as a path in volumeDevices"));
        }
        let at_list = |field: &'static str| Field::new(mount.get(field).value(), mounts.path.child(field));
        let (path, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        rules::path_below(&at_list("subPath"), errors);
        if !path.is_empty() && !expression.is_empty() {
            errors.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        rules::path_below(&at_list("subPathExpr"), errors);
        propagation(&at_list("mountPropagation"), privileged, errors);
        recursive_read_only(&mount, &at_list("recursiveReadOnly"), errors);
    }
}

fn propagation(propagation: &Field, privileged: bool, errors: &mut Vec<FieldError>) {
    const SUPPORTED: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    if propagation.is_set() && !SUPPORTED.contains(&propagation.text()) {
        errors.push(propagation.not_supported(&SUPPORTED));
    }
    if propagation.text() == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(propagation.forbidden(detail));
    }
}

fn recursive_read_only(mount: &Field, recursive: &Field, errors: &mut Vec<FieldError>) {
    match recursive.str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.get("readOnly").bool() != Some(true) {
                errors.push(recursive.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(mount.get("mountPropagation").str(), None | Some("None")) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(recursive.forbidden(detail));
            }
        }
        Some(_) => errors.push(recursive.not_supported(&["Disabled", "Enabled", "IfPossible"])),
    }
}

fn devices(devices: &Field, mounts: &BTreeMap<&str, &str>, volumes: &Volumes, errors: &mut Vec<FieldError>) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        rules::required(&name, errors);
        if !name.is_empty() && !names.insert(name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        match volumes.get(name.text()) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some(false) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(detail));
            }
            Some(true) => {}
        }
        rules::required(&path, errors);
        if paths.contains(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.text().split('/').any(|step| step == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.text());
        }
        if mounts.contains_key(name.text()) {
            errors.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mounts.values().any(|mount| *mount == path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::check_specs;

    #[test]
    fn a_volume_is_a_directory_or_a_device() {
        let list = "spec.containers[0].volumeMounts";
        for (fields, expected) in [
            ("volumeMounts: [{name: v, mountPath: /a}], volumeDevices: [{name: w, devicePath: /b}]", String::new()),
            (
                "volumeMounts: [{name: w, mountPath: /b}], volumeDevices: [{name: w, devicePath: /b}]",
                format!("{list}[0].name: Invalid value: \"w\": must not already exist in volumeDevices\n{list}[0].mountPath: Invalid value: \"/b\": must not already exist as a path in volumeDevices\nspec.containers[0].volumeDevices[0].name: Invalid value: \"w\": must not already exist in volumeMounts\nspec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/b\": must not already exist as a path in volumeMounts"),
            ),
            (
                "volumeDevices: [{name: v, devicePath: /a/../b}, {name: w, devicePath: /c}, {name: w, devicePath: /c}]",
                "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode\nspec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/a/../b\": can not contain backsteps ('..')\nspec.containers[0].volumeDevices[2].name: Invalid value: \"w\": must be unique\nspec.containers[0].volumeDevices[2].devicePath: Invalid value: \"/c\": must be unique".into(),
            ),
            (
                "volumeMounts: [{name: v, mountPath: /a, subPath: /x, subPathExpr: z, mountPropagation: Odd, recursiveReadOnly: Odd}]",
                format!("{list}.subPath: Invalid value: \"/x\": must be a relative path\n{list}[0].subPathExpr: Invalid value: \"z\": subPathExpr and subPath are mutually exclusive\n{list}.mountPropagation: Unsupported value: \"Odd\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"\n{list}.recursiveReadOnly: Unsupported value: \"Odd\": supported values: \"Disabled\", \"Enabled\", \"IfPossible\""),
            ),
        ] {
            let volumes = "volumes: [{name: v, emptyDir: {}}, {name: w, persistentVolumeClaim: {claimName: x}}]";
            check_specs(&[(&format!("containers: [{{name: c, image: i, {fields}}}], {volumes}"), &expected)]);
        }
    }
}
