//! Which Ingresses are ours.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// `spec.controller` of the IngressClasses that this ingress implements.
const CONTROLLER: &str = "k8w.dev/ingress";
/// The class that k8w makes; it counts even before it is seen.
const CLASS: &str = "k8w";
/// Marks the class of Ingresses that name none (API reference, IngressClass v1).
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How an Ingress named its class before `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Whether this ingress serves `ingress`: its class is ours or, where it names none, ours is the default.
pub fn is_ours(ingress: &Ingress, classes: &[Arc<IngressClass>]) -> bool {
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotation = ingress.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION)).map(String::as_str);
    match field.or(annotation) {
        Some(name) => match classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)) {
            Some(class) => is_implemented(class),
            None => name == CLASS,
        },
        None => classes.iter().any(|class| is_implemented(class) && is_default(class)),
    }
}

fn is_implemented(class: &IngressClass) -> bool {
    class.spec.as_ref().is_some_and(|spec| spec.controller.as_deref() == Some(CONTROLLER))
}

fn is_default(class: &IngressClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|a| a.get(IS_DEFAULT)).is_some_and(|value| value == "true")
}
