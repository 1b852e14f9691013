//! CSIDriver: what a storage driver can do.

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list, text};
use crate::rules;

/// How often a node may be told how many volumes it can have.
const MIN_PERIOD_SECONDS: i64 = 10;
/// How long a driver's tokens may last.
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

pub fn definition() -> KindDef {
    KindDef::builtin("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "io.k8s.api.storage.v1.CSIDriver")
        .cluster_scoped()
        .columns(vec![
            Column::name(),
            Column::new("AttachRequired", "boolean", |driver, _| flag(driver, "attachRequired").unwrap_or(true).into()),
            Column::new("PodInfoOnMount", "boolean", |driver, _| {
                flag(driver, "podInfoOnMount").unwrap_or_default().into()
            }),
            Column::new("StorageCapacity", "boolean", |driver, _| {
                flag(driver, "storageCapacity").unwrap_or_default().into()
            }),
            Column::text("TokenRequests", |driver, _| audiences(driver).into()),
            Column::new("RequiresRepublish", "boolean", |driver, _| {
                flag(driver, "requiresRepublish").unwrap_or_default().into()
            }),
            Column::text("Modes", |driver, _| modes(driver).into()),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(CsiDriver)
}

fn flag(driver: &Value, field: &str) -> Option<bool> {
    get(driver, &["spec", field]).and_then(Value::as_bool)
}

fn audiences(driver: &Value) -> String {
    let requests = list(driver, &["spec", "tokenRequests"]);
    if requests.is_empty() {
        return "<unset>".to_owned();
    }
    requests.iter().map(|r| text(r, &["audience"])).collect::<Vec<_>>().join(",")
}

fn modes(driver: &Value) -> String {
    let modes: Vec<&str> = list(driver, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
    if modes.is_empty() { "<none>".to_owned() } else { modes.join(",") }
}

struct CsiDriver;

impl Strategy for CsiDriver {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, driver: &mut Value) {
        let Some(spec) = object::ensure(driver, &["spec"]) else { return };
        object::set_default(spec, "attachRequired", true);
        for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            object::set_default(spec, name, false);
        }
        object::set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        object::set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }

    fn validate(&self, driver: &Value) -> Vec<FieldError> {
        let root = Field::root(driver);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        // The first by the name that Kubernetes gives it here.
        let required = [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ];
        for (name, told) in required {
            rules::required(&Field::new(spec.get(name).value(), spec.path.child(told)), &mut errors);
        }
        rules::maybe_one_of(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"], &mut errors);
        token_requests(&spec.get("tokenRequests"), &mut errors);
        let (modes, known) = (spec.get("volumeLifecycleModes"), ["Ephemeral", "Persistent"]);
        for mode in modes.items().filter(|mode| !known.contains(&mode.text())) {
            errors.push(FieldError::not_supported(&modes.path, mode.text(), &known));
        }
        rules::required(&spec.get("seLinuxMount"), &mut errors);
        let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds < MIN_PERIOD_SECONDS) {
            errors.push(period.invalid(format!("must be greater than or equal to {MIN_PERIOD_SECONDS} seconds")));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for (name, told) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            let new = Field::new(new.get(name).value(), new.path.child(told));
            rules::immutable(&new, &old.get(name), &mut errors);
        }
        errors
    }
}

fn token_requests(requests: &Field, errors: &mut Vec<FieldError>) {
    let mut audiences = std::collections::BTreeSet::new();
    for request in requests.items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !audiences.insert(audience.text()) {
            errors.push(FieldError::duplicate(&audience.path, audience.text()));
            continue;
        }
        if seconds.int().is_some_and(|seconds| seconds < MIN_TOKEN_SECONDS) {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.int().is_some_and(|seconds| seconds > MAX_TOKEN_SECONDS) {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "csidrivers",
            "{metadata: {name: a}, spec: {fsGroupPolicy: Odd, volumeLifecycleModes: [Odd]}}",
            expect![[r#"
                spec.fsGroupPolicy: Unsupported value: "Odd": supported values: "File", "None", "ReadWriteOnceWithFSType"
                spec.volumeLifecycleModes: Unsupported value: "Odd": supported values: "Ephemeral", "Persistent"
            "#]],
        );
        check_row(
            "csidrivers",
            "{metadata: {name: a}, spec: {volumeLifecycleModes: [Persistent]}}",
            expect![
                "Name=a | AttachRequired=true | PodInfoOnMount=false | StorageCapacity=false | TokenRequests=<unset> | RequiresRepublish=false | Modes=Persistent | Age=<unknown>"
            ],
        );
    }

    #[test]
    fn numbers_and_what_is_fixed() {
        check(
            "csidrivers",
            "{metadata: {name: a}, spec: {nodeAllocatableUpdatePeriodSeconds: 9, tokenRequests: [{audience: a, expirationSeconds: 5},
              {audience: a, expirationSeconds: 5}, {audience: b, expirationSeconds: 4294967297}]}}",
            expect![[r#"
                spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
                spec.tokenRequests[1].audience: Duplicate value: "a"
                spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds
                spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds
            "#]],
        );
        check_update(
            "csidrivers",
            "{metadata: {name: a}, spec: {attachRequired: false}}",
            "{metadata: {name: a}, spec: {attachRequired: true}}",
            expect![[r#"
                spec.attachedRequired: Invalid value: true: field is immutable
            "#]],
        );
    }
}
