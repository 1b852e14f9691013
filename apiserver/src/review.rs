//! Requests that are answered and not stored: reviews, and token requests.

use http::{StatusCode, header};
use k8w_kinds::schema::Schema;
use serde_json::Value;

use crate::call::Call;
use crate::codec::{self, Accept, Offer};
use crate::routes::Answer;
use crate::status::Status;
use crate::verbs::{Expected, FieldValidation};

/// What a review's body must be.
pub struct Kind {
    pub group: &'static str,
    pub kind: &'static str,
    /// The type's published name.
    pub type_name: &'static str,
}

impl Kind {
    pub const fn authentication(kind: &'static str, type_name: &'static str) -> Kind {
        Kind { group: "authentication.k8s.io", kind, type_name }
    }

    pub const fn authorization(kind: &'static str, type_name: &'static str) -> Kind {
        Kind { group: "authorization.k8s.io", kind, type_name }
    }

    /// Reads the body of a create. All such kinds have the version `v1`.
    ///
    /// # Errors
    /// 405 for anything but a create; what [`Expected::read`] says of a bad body.
    pub async fn read(&self, call: &mut Call) -> Result<Value, Status> {
        if call.info.verb != "create" {
            return Err(Status::no_such_method());
        }
        // Before anything is done: whoever cannot read the answer need not ask.
        Accept::parse(call.header(header::ACCEPT), Offer::Fixed)?;
        let schema = self.schema()?;
        let expected = Expected { group: self.group, version: "v1", kind: self.kind, schema: &schema };
        let mut review = expected.read(call, FieldValidation::Ignore, &mut Vec::new()).await?;
        schema.default(&mut review);
        Ok(review)
    }

    fn schema(&self) -> Result<Schema, Status> {
        Schema::builtin(self.type_name).ok_or_else(|| Status::internal(self.type_name))
    }

    /// 201 with the review: what a create answers.
    ///
    /// # Errors
    /// 406 when the client accepts nothing that we can write.
    pub fn created(&self, call: &Call, review: &Value) -> Answer {
        codec::answer(call, &self.schema()?, StatusCode::CREATED, review.to_string().into())
    }
}
