//! Who asks for a certificate is what the server says, not what the request does: a CertificateSigningRequest carries the
//! identity of whoever made it.

use async_trait::async_trait;
use k8w_kinds::object::ensure;
use serde_json::Value;

use super::is;
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

pub const GROUP: &str = "certificates.k8s.io";
pub const PLURAL: &str = "certificatesigningrequests";

pub struct CertificateRequester;

#[async_trait]
impl Admission for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, PLURAL)])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is(request, Operation::Create) {
            return Ok(());
        }
        let user = request.user;
        let Some(spec) = ensure(request.object, &["spec"]) else { return Ok(()) };
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        spec.insert("username".to_owned(), user.name.clone().into());
        if !user.uid.is_empty() {
            spec.insert("uid".to_owned(), user.uid.clone().into());
        }
        if !user.groups.is_empty() {
            spec.insert("groups".to_owned(), user.groups.clone().into());
        }
        if !user.extra.is_empty() {
            let extra = user.extra.iter().map(|(key, values)| (key.clone(), Value::from(values.clone())));
            spec.insert("extra".to_owned(), extra.collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;
    use crate::identity::UserInfo;

    #[tokio::test]
    async fn nobody_asks_in_anothers_name() {
        let user = UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() };
        let world = World::new([]).await.acting_as(user);
        let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "r"}, "spec": {"username": "admin", "uid": "1", "signerName": "a.b/c"}});
        let request = world.create(&CertificateRequester, request).await.unwrap();
        assert_eq!(request["spec"], json!({"username": "jane", "groups": ["dev"], "signerName": "a.b/c"}));
    }
}
