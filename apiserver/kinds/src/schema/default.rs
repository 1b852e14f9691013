//! Static defaulting: fields that are absent and have a fixed default are filled in, zeros that mean absence go.

use serde_json::Value;

use super::shape::{Node, Shape};

/// What becomes of zeros that mean the same as absence: `hostNetwork: false`, `workingDir: ""`. Go does not write them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    Drop,
    Keep,
}

/// Fills in defaults at every level, inside of what was filled in too.
pub(super) fn fill(node: &Node, value: &mut Value, zeros: Zeros) {
    match (node.shape.resolve(), value) {
        (Shape::Object(object), Value::Object(members)) => {
            members.retain(|name, member| {
                let Some(field) = object.field(name) else { return true };
                if zeros == Zeros::Drop && field.zero_is_absence && is_zero(member) {
                    return false;
                }
                if member.is_object() || member.is_array() {
                    fill(&field.node, member, zeros);
                }
                true
            });
            for field in &object.fields {
                if let Some(default) = &field.node.default
                    && !members.contains_key(&*field.name)
                {
                    members.insert((*field.name).to_owned(), filled(&field.node, default));
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            items.iter_mut().for_each(|item| fill_element(&list.item, item, zeros));
        }
        (Shape::Map(map), Value::Object(members)) => {
            members.values_mut().for_each(|member| fill_element(&map.value, member, zeros));
        }
        _ => {}
    }
}

/// A default means what it says.
fn filled(node: &Node, default: &Value) -> Value {
    let mut value = default.clone();
    fill(node, &mut value, Zeros::Keep);
    value
}

/// An item or a map's value: null that is no value there stands for the default.
fn fill_element(node: &Node, value: &mut Value, zeros: Zeros) {
    match &node.default {
        Some(default) if value.is_null() && !node.nullable => *value = filled(node, default),
        _ => fill(node, value, zeros),
    }
}

/// A scalar's zero. An empty object is something: that it is there.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Puts null where Go's zero value of an object has a list or map that it always writes.
pub(super) fn add_nulls(node: &Node, value: &mut Value) {
    let (Some(object), Value::Object(members)) = (node.shape.object(), value) else { return };
    for field in &object.fields {
        match members.get_mut(&*field.name) {
            Some(member) => add_nulls(&field.node, member),
            None if field.required && matches!(field.node.shape, Shape::List(_) | Shape::Map(_)) => {
                members.insert((*field.name).to_owned(), Value::Null);
            }
            None => {}
        }
    }
}

/// Undoes [`add_nulls`].
pub(super) fn drop_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use crate::schema::Schema;

    #[test]
    fn absent_fields_with_a_default_are_filled_in() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"protocol": "UDP"}]}]}});
        Schema::builtin("io.k8s.api.core.v1.Pod").unwrap().default(&mut pod);
        expect![[r#"{"metadata":{},"spec":{"containers":[{"name":"a","ports":[{"containerPort":1,"protocol":"TCP"},{"containerPort":0,"protocol":"UDP"}],"resources":{}}]},"status":{}}"#]]
            .assert_eq(&pod.to_string());
    }

    #[test]
    fn zeros_that_mean_absence_go() {
        let schema = Schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        for (sent, stored) in [
            (json!({"hostNetwork": false, "nodeName": "", "hostname": ""}), json!({})),
            // Pointers in Go: a zero says something.
            (json!({"hostUsers": false, "priority": 0}), json!({"hostUsers": false, "priority": 0})),
            (json!({"nodeSelector": {"a": ""}}), json!({"nodeSelector": {"a": ""}})),
            (
                json!({"containers": [{"name": "", "workingDir": "", "tty": false, "env": [{"name": "A", "value": ""}],
                    "ports": [{"containerPort": 0, "hostPort": 0, "protocol": ""}],
                    "securityContext": {"runAsUser": 0, "privileged": false}}]}),
                json!({"containers": [{"name": "", "env": [{"name": "A"}],
                    "ports": [{"containerPort": 0, "protocol": "TCP"}],
                    "resources": {}, "securityContext": {"runAsUser": 0, "privileged": false}}]}),
            ),
        ] {
            let mut pod = json!({"metadata": {"generateName": ""}, "spec": sent, "status": {"hostIP": ""}});
            schema.default(&mut pod);
            assert_eq!(pod, json!({"metadata": {}, "spec": stored, "status": {"hostIP": ""}}));
        }
    }

    #[test]
    fn a_filled_in_object_is_filled_too() {
        let mut service = json!({});
        Schema::builtin("io.k8s.api.core.v1.Service").unwrap().default(&mut service);
        expect![[r#"{"metadata":{},"spec":{},"status":{"loadBalancer":{}}}"#]].assert_eq(&service.to_string());
    }
}
