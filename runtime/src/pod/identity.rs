//! Who a pod is in the network.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8w_networking::PodIdentity;
use kube::ResourceExt;

/// The identity of a pod that has this address.
pub fn identity(pod: &Pod, ip: IpAddr) -> PodIdentity {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    PodIdentity {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ip,
        service_account: account.unwrap_or_else(|| "default".to_owned()),
    }
}
