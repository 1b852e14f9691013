//! PodTemplate: a template for pods, kept for others to use.

use serde_json::Value;

use super::pod::template;
use crate::apps::workload;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{get, map};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "PodTemplate", "podtemplates", "io.k8s.api.core.v1.PodTemplate")
        .columns(vec![
            Column::name(),
            Column::text("Containers", |object, _| template::containers(of(object), "name").into()),
            Column::text("Images", |object, _| template::containers(of(object), "image").into()),
            Column::text("Pod Labels", |object, _| {
                template::labels(map(object, &["template", "metadata", "labels"])).into()
            }),
        ])
        .answers_deleted()
        .strategy(PodTemplate)
}

fn of(object: &Value) -> &Value {
    get(object, &["template"]).unwrap_or(&Value::Null)
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("template") {
            template::default(template);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        template::validate(&Field::root(object).get("template"), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(&Field::root(object).get("template"))
    }

    /// What has not changed is not said again.
    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || self.warnings(new))
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_row, yaml};

    #[test]
    fn templates_are_checked() {
        check(
            "podtemplates",
            "{metadata: {name: a, namespace: b}, template: {spec: {containers: [{name: c}]}}}",
            expect![[r#"
                template.spec.containers[0].image: Required value
            "#]],
        );
        let mut template =
            yaml("{metadata: {name: a}, template: {spec: {hostAliases: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]}}}");
        let warning = "template.spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"";
        assert_eq!(PodTemplate.warnings(&template), [warning]);
        assert_eq!(PodTemplate.update_warnings(&template, &template), [""; 0]);
        let old = template.clone();
        template["metadata"]["generation"] = 2.into();
        assert_eq!(PodTemplate.update_warnings(&template, &old), [warning]);
        check_row(
            "podtemplates",
            "{metadata: {name: a}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}",
            expect!["Name=a | Containers=c | Images=i | Pod Labels=a=b"],
        );
    }
}
