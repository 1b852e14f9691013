//! Between the version that a custom object is stored in and the one that it is served as (conversion strategy `None`).

use serde_json::Value;

use crate::kind::Conversion;
use crate::schema::Schema;

/// One served version of a kind.
pub struct Version {
    served: String,
    stored: String,
    schema: Schema,
}

impl Version {
    pub fn new(group: &str, served: &str, stored: &str, schema: Schema) -> Version {
        Version { served: format!("{group}/{served}"), stored: format!("{group}/{stored}"), schema }
    }
}

impl Conversion for Version {
    fn to_stored(&self, object: &mut Value) {
        object["apiVersion"] = self.stored.clone().into();
    }

    /// The schema may have changed since the object was stored: what it no longer knows is left out, and what it has a
    /// default for now is filled in.
    fn to_served(&self, object: &mut Value) {
        object["apiVersion"] = self.served.clone().into();
        if let Ok(decoded) = self.schema.check(object.clone()) {
            *object = decoded.value;
        }
        self.schema.default(object);
    }
}
