//! CSIDriver: what a storage driver can do.

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list, text};
use crate::rules;

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
        for name in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
            rules::required(&spec.get(name), &mut errors);
        }
        rules::maybe_one_of(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"], &mut errors);
        for mode in spec.get("volumeLifecycleModes").items() {
            rules::maybe_one_of(&mode, &["Ephemeral", "Persistent"], &mut errors);
        }
        let mut audiences = std::collections::BTreeSet::new();
        for request in spec.get("tokenRequests").items() {
            let audience = request.get("audience");
            if !audiences.insert(audience.text()) {
                errors.push(audience.duplicate());
            }
            let seconds = request.get("expirationSeconds");
            if seconds.int().is_some_and(|s| s < 600) {
                errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for name in ["attachRequired", "volumeLifecycleModes"] {
            rules::immutable(&new.get(name), &old.get(name), &mut errors);
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "csidrivers",
            "{metadata: {name: a}, spec: {fsGroupPolicy: Odd, volumeLifecycleModes: [Odd]}}",
            expect![[r#"
                spec.fsGroupPolicy: Unsupported value: "Odd": supported values: "File", "None", "ReadWriteOnceWithFSType"
                spec.volumeLifecycleModes[0]: Unsupported value: "Odd": supported values: "Ephemeral", "Persistent"
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
}
