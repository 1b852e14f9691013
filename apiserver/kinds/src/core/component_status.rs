//! ComponentStatus: how the control plane's parts are (deprecated since v1.19). Nobody stores any.

use serde_json::Value;

use crate::kind::{Column, KindDef};
use crate::object::{list, text};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "ComponentStatus", "componentstatuses", "io.k8s.api.core.v1.ComponentStatus")
        .cluster_scoped()
        .short_names(&["cs"])
        .deprecated("v1 ComponentStatus is deprecated in v1.19+")
        .verbs(&["get", "list"])
        .columns(vec![
            Column::name(),
            Column::text("Status", |component, _| match text(healthy(component), &["status"]) {
                "True" => "Healthy".into(),
                "False" => "Unhealthy".into(),
                _ => "Unknown".into(),
            }),
            Column::text("Message", |component, _| text(healthy(component), &["message"]).into()),
            Column::text("Error", |component, _| text(healthy(component), &["error"]).into()),
        ])
}

fn healthy(component: &Value) -> &Value {
    let conditions = list(component, &["conditions"]);
    conditions.iter().find(|condition| text(condition, &["type"]) == "Healthy").unwrap_or(&Value::Null)
}
