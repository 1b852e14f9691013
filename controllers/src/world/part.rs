//! What of a resource is watched, where most of it is nobody's business.

use super::Object;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The objects of this name, in every namespace.
    Named(&'static str),
    /// The Secrets of this type.
    SecretType(&'static str),
}

impl Part {
    /// What the API server is asked for.
    pub fn field_selector(self) -> String {
        match self {
            Part::Named(name) => format!("metadata.name={name}"),
            Part::SecretType(of) => format!("type={of}"),
        }
    }

    pub fn holds(self, object: &Object) -> bool {
        match (self, object) {
            (Part::Named(name), object) => object.meta().name.as_deref() == Some(name),
            (Part::SecretType(of), Object::Secret(secret)) => secret.type_.as_deref() == Some(of),
            (Part::SecretType(_), _) => false,
        }
    }
}
