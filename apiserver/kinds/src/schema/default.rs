//! Static defaulting: fields that are absent and have a fixed default.

use serde_json::Value;

use super::shape::{Node, Shape};

/// Fills in defaults at every level, inside of what was filled in too.
pub(super) fn fill(node: &Node, value: &mut Value) {
    match (node.shape.resolve(), value) {
        (Shape::Object(object), Value::Object(members)) => {
            for field in &object.fields {
                if let Some(default) = &field.node.default
                    && !members.contains_key(&*field.name)
                {
                    members.insert((*field.name).to_owned(), (**default).clone());
                }
            }
            for (name, member) in members.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
                if let Some(field) = object.field(name) {
                    fill(&field.node, member);
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => items.iter_mut().for_each(|item| fill_element(&list.item, item)),
        (Shape::Map(map), Value::Object(members)) => {
            members.values_mut().for_each(|member| fill_element(&map.value, member));
        }
        _ => {}
    }
}

/// An item or a map's value: null that is no value there stands for the default.
fn fill_element(node: &Node, value: &mut Value) {
    if value.is_null()
        && !node.nullable
        && let Some(default) = &node.default
    {
        *value = (**default).clone();
    }
    fill(node, value);
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
    fn a_filled_in_object_is_filled_too() {
        let mut service = json!({});
        Schema::builtin("io.k8s.api.core.v1.Service").unwrap().default(&mut service);
        expect![[r#"{"metadata":{},"spec":{},"status":{"loadBalancer":{}}}"#]].assert_eq(&service.to_string());
    }
}
