//! ResourceClaim: devices that a pod wants, and those that it got.

use jiff::Timestamp;
use serde_json::Value;

use super::{allocation, request};
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{get, list};
use crate::rules;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.resource.v1.ResourceClaim";
    KindDef::builtin(super::GROUP, "v1", "ResourceClaim", "resourceclaims", schema)
        .subresources(vec![Subresource::status()])
        .columns(vec![Column::name(), Column::text("State", |claim, _| state(claim).into()), Column::age()])
        .answers_deleted()
        .strategy(ResourceClaim)
}

fn state(claim: &Value) -> String {
    let deleted = get(claim, &["metadata", "deletionTimestamp"]).is_some();
    let allocated = get(claim, &["status", "allocation"]).is_some();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && !list(claim, &["status", "reservedFor"]).is_empty(), "reserved"),
    ];
    states.into_iter().filter(|(holds, _)| *holds).map(|(_, state)| state).collect::<Vec<_>>().join(",")
}

struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, claim: &mut Value) {
        request::default(claim.get_mut("spec"));
    }

    fn validate(&self, claim: &Value) -> Vec<FieldError> {
        let root = Field::root(claim);
        let mut errors = Vec::new();
        request::validate(&root.get("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (Field::root(new), Field::root(old));
        let mut errors = Vec::new();
        rules::immutable(&new.get("spec"), &old.get("spec"), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        allocation::validate_update(new, old)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row, check_update, kind, yaml};

    #[test]
    fn rules() {
        check(
            "resourceclaims",
            "{metadata: {name: a, namespace: b}, spec: {devices: {requests: [{name: A}, {name: x, exactly: {allocationMode: Odd}}, {name: x, exactly: {deviceClassName: c, count: -1}}]}}}",
            expect![[r#"
                spec.devices.requests[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
                spec.devices.requests[1].exactly.deviceClassName: Required value
                spec.devices.requests[1].exactly.allocationMode: Unsupported value: "Odd": supported values: "All", "ExactCount"
                spec.devices.requests[2].exactly.count: Invalid value: -1: must be greater than zero
                spec.devices.requests[2]: Duplicate value: "x"
            "#]],
        );
        check_update(
            "resourceclaims",
            "{metadata: {name: a, namespace: b}, spec: {devices: {requests: [{name: x, exactly: {deviceClassName: c}}]}}}",
            "{metadata: {name: a, namespace: b}, spec: {devices: {}}}",
            expect![[r#"
                spec: Invalid value: {"devices":{}}: field is immutable
            "#]],
        );
    }

    #[test]
    fn defaults() {
        check_default(
            "resourceclaims",
            "{metadata: {name: a}, spec: {devices: {requests: [{name: x, exactly: {deviceClassName: c}}]}}}",
            expect![[r#"
                metadata:
                  name: a
                spec:
                  devices:
                    requests:
                    - exactly:
                        allocationMode: ExactCount
                        count: 1
                        deviceClassName: c
                      name: x
                status: {}
            "#]],
        );
        check_row(
            "resourceclaims",
            "{metadata: {name: a}, status: {allocation: {}, reservedFor: [{name: p}]}}",
            expect!["Name=a | State=allocated,reserved | Age=<unknown>"],
        );
    }

    #[test]
    fn what_is_asked_for() {
        check(
            "resourceclaims",
            "{metadata: {name: a, namespace: b}, spec: {devices: {
              requests: [{name: x, exactly: {deviceClassName: c, allocationMode: All, count: 1, tolerations: [{operator: Exists, value: v}, {operator: Odd, effect: Odd}],
                selectors: [{}]}}, {name: other, firstAvailable: [{name: z, deviceClassName: c}, {name: z}]}, {name: w, exactly: {}, firstAvailable: [{name: z}]}],
              constraints: [{requests: [x, x, other/z, other/w, a/b/c], matchAttribute: a}, {}, {distinctAttribute: A.b/1}],
              config: [{requests: [q], opaque: {driver: d, parameters: []}}]}}}",
            expect![[r#"
                spec.devices.requests[0].exactly.selectors[0].cel: Required value
                spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'
                spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`
                spec.devices.requests[0].exactly.tolerations[1].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
                spec.devices.requests[0].exactly.tolerations[1].effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", "None"
                spec.devices.requests[1].firstAvailable[1].deviceClassName: Required value
                spec.devices.requests[1].firstAvailable[1]: Duplicate value: "z"
                spec.devices.requests[2]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set
                spec.devices.constraints[0].requests[3]: Invalid value: "other/w": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[4]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[1]: Duplicate value: "x"
                spec.devices.constraints[0].matchAttribute: Invalid value: "a": a fully qualified name must be a domain and a name separated by a slash
                spec.devices.constraints[1]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
                spec.devices.constraints[2].distinctAttribute: Invalid value: "1": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                spec.devices.config[0].requests[0]: Invalid value: "q": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
            "#]],
        );
    }

    #[test]
    fn what_was_allocated() {
        let spec = "metadata: {name: a, namespace: b, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {devices: {requests: [{name: x, exactly: {deviceClassName: c}}]}}";
        let old = yaml(&format!("{{{spec}}}"));
        let new = yaml(&format!("{{{spec}, status: {{reservedFor: [{{resource: pods, name: p, uid: u}}, {{uid: u}}],
          allocation: {{devices: {{results: [{{request: other, driver: d, pool: p//, device: D}}], config: [{{source: Odd}}]}}}},
          devices: [{{driver: d, pool: p, device: e, shareID: X, data: 1, networkData: {{ips: [10.0.0.1, 10.0.0.1/8, '010.0.0.1/8']}}}}]}}}}"));
        let errors = kind("resourceclaims").strategy.validate_status_update(&new, &old);
        let errors: String = errors.iter().map(|error| format!("{error}\n")).collect();
        expect![[r#"
            status.reservedFor[1].resource: Required value
            status.reservedFor[1].name: Required value
            status.reservedFor[1]: Duplicate value: "u"
            status.devices[0].shareID: Invalid value: "X": uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters
            status.devices[0]: Invalid value: "d/p/e/X": must be an allocated device in the claim
            status.devices[0].data: Invalid value: "<value omitted>": must be a valid JSON object
            status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
            status.devices[0].networkData.ips[2]: Invalid value: "010.0.0.1/8": must be in canonical form ("10.0.0.1/8")
            status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set
            status.allocation.devices.results[0].request: Invalid value: "other": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            status.allocation.devices.results[0].pool: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.allocation.devices.results[0].pool: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.allocation.devices.results[0].device: Invalid value: "D": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            status.allocation.devices.config[0].source: Unsupported value: "Odd": supported values: "FromClaim", "FromClass"
            status.allocation.devices.config[0].opaque: Required value
        "#]].assert_eq(&errors);
    }
}
