//! StatefulSet: a number of pods that keep their names and volumes.

use serde_json::{Value, json};

use super::workload;
use crate::core::persistent_volume_claim as claim;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, int, list, text};
use crate::{names, rules};

/// What of the spec an update may change.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "StatefulSet", "statefulsets", "io.k8s.api.apps.v1.StatefulSet")
        .short_names(&["sts"])
        .categories(&["all"])
        .subresources(vec![Subresource::scale(), Subresource::status()])
        .columns(columns())
        .strategy(StatefulSet)
}

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::text("Ready", |set, _| {
            format!("{}/{}", int(set, &["status", "readyReplicas"]), int(set, &["spec", "replicas"])).into()
        })
        .describe("Number of the pod with ready state"),
        Column::age(),
    ];
    columns.extend(workload::wide_columns().into_iter().take(2));
    columns
}

struct StatefulSet;

impl Strategy for StatefulSet {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        // Pods are named after it, and their names become host names.
        crate::names::dns_label(name)
    }

    fn default(&self, set: &mut Value) {
        let Some(spec) = object::ensure(set, &["spec"]) else { return };
        object::set_default(spec, "replicas", 1);
        object::set_default(spec, "revisionHistoryLimit", 10);
        object::set_default_text(spec, "podManagementPolicy", "OrderedReady");
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        if let Some(policy) = object::ensure(set, &["spec", "persistentVolumeClaimRetentionPolicy"]) {
            object::set_default_text(policy, "whenDeleted", "Retain");
            object::set_default_text(policy, "whenScaled", "Retain");
        }
        for claim in object::list_mut(set, &["spec", "volumeClaimTemplates"]) {
            claim::default_template(claim);
        }
        let Some(strategy) = object::ensure(set, &["spec", "updateStrategy"]) else { return };
        object::set_default_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = object::ensure(set, &["spec", "updateStrategy", "rollingUpdate"])
        {
            object::set_default(rolling, "partition", 0);
            object::set_default(rolling, "maxUnavailable", 1);
        }
    }

    fn prepare_for_create(&self, set: &mut Value) {
        kind::prepare_for_create(self.shape(), set);
        if let Some(object) = set.as_object_mut() {
            object.insert("status".to_owned(), json!({"replicas": 0, "availableReplicas": 0}));
        }
    }

    fn validate(&self, set: &Value) -> Vec<FieldError> {
        let mut errors = validate(set);
        let root = Field::root(set);
        let spec = root.get("spec");
        rules::maybe_form(&spec.get("serviceName"), names::dns_label, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let fixed = |spec: &Field| {
            let mut fixed = spec.value().cloned().unwrap_or_default();
            MUTABLE.iter().for_each(|field| object::remove(&mut fixed, field));
            fixed
        };
        if !object::same(Some(&fixed(&new)), Some(&fixed(&old))) {
            let names: Vec<String> = MUTABLE.iter().map(|field| format!("'{field}'")).collect();
            let (last, first) = names.split_last().map_or((String::new(), &[][..]), |(l, f)| (l.clone(), f));
            let detail = format!(
                "updates to statefulset spec for fields other than {} and {last} are forbidden",
                first.join(", ")
            );
            errors.push(new.forbidden(detail));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let counts = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let mut errors = Vec::new();
        workload::validate_counts(&root.get("status"), &counts, "status.readyReplicas", &mut errors);
        workload::validate_collisions(new, old, &mut errors);
        errors
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        let mut warnings = workload::template_warnings(set);
        warnings.extend(claim_warnings(set, false));
        warnings.extend(history_warning(set));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        let mut warnings = workload::if_generation_moved(new, old, || workload::template_warnings(new));
        warnings.extend(claim_warnings(new, true));
        warnings.extend(history_warning(new));
        warnings
    }
}

/// Kubernetes finds what is odd about a claim at its template and, of an update, at a field that it writes with a capital.
fn claim_warnings(set: &Value, is_update: bool) -> Vec<String> {
    let (root, mut warnings) = (Field::root(set), Vec::new());
    for claim in root.get("spec").get("volumeClaimTemplates").items() {
        let spec = claim.value().and_then(|claim| claim.get("spec"));
        let beneath = claim.path.child("Spec");
        warnings.extend(claim::spec_warnings(&Field::new(spec, if is_update { beneath } else { claim.path })));
    }
    warnings
}

fn history_warning(set: &Value) -> Option<String> {
    let warning =
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
    (int(set, &["spec", "revisionHistoryLimit"]) < 0).then(|| warning.to_owned())
}

/// Rules of new and of changed sets.
fn validate(set: &Value) -> Vec<FieldError> {
    let complete = with_claimed_volumes(set);
    let root = Field::root(&complete);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(management.required("")),
        _ => errors.push(management.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" if rolling.is_set() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rules::not_negative(&rolling.get("partition"), &mut errors);
            max_unavailable(&rolling.get("maxUnavailable"), &mut errors);
        }
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
    let policy = spec.get("persistentVolumeClaimRetentionPolicy");
    for name in ["whenDeleted", "whenScaled"] {
        let when = policy.get(name);
        if policy.is_set() && !matches!(when.text(), "Retain" | "Delete") {
            errors.push(when.not_supported(&["Retain", "Delete"]));
        }
    }
    rules::not_negative(&spec.get("replicas"), &mut errors);
    rules::not_negative(&spec.get("minReadySeconds"), &mut errors);
    rules::not_negative(&spec.get("ordinals").get("start"), &mut errors);
    template::validate_workload(&spec, "StatefulSet", &mut errors);
    errors
}

fn max_unavailable(pods: &Field, errors: &mut Vec<FieldError>) {
    if !pods.is_set() {
        return;
    }
    rules::int_or_percent(pods, errors);
    if workload::amount(pods) == 0 {
        errors.push(pods.invalid("cannot be 0"));
    }
    rules::at_most_all(pods, errors);
}

/// The set with a volume in its template for each claim template, as its pods will have: containers may mount them.
fn with_claimed_volumes(set: &Value) -> Value {
    let mut complete = set.clone();
    let claims = list(set, &["spec", "volumeClaimTemplates"]);
    if !claims.is_empty()
        && let Some(spec) = object::ensure(&mut complete, &["spec", "template", "spec"])
    {
        let mut volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        for name in claims.iter().map(|claim| text(claim, &["metadata", "name"])) {
            volumes.retain(|volume| text(volume, &["name"]) != name);
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": "claimed"}}));
        }
        spec.insert("volumes".to_owned(), volumes.into());
    }
    complete
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update, yaml};

    const SET: &str = "{metadata: {name: a, namespace: b}, spec: {serviceName: s, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}";

    #[test]
    fn warnings() {
        let set = |size: &str, history: &str| {
            let claim = format!("{{metadata: {{name: v}}, spec: {{resources: {{requests: {{storage: {size}}}}}}}}}");
            yaml(&SET.replace(
                "serviceName: s",
                &format!("volumeClaimTemplates: [{claim}], revisionHistoryLimit: {history}"),
            ))
        };
        assert_eq!(StatefulSet.warnings(&set("1Gi", "1")), [""; 0]);
        let (odd, history) = (
            "resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
        );
        let claims = "spec.volumeClaimTemplates[0]";
        assert_eq!(StatefulSet.warnings(&set("100m", "-1")), [format!("{claims}.{odd}").as_str(), history]);
        let updated = StatefulSet.update_warnings(&set("100m", "-1"), &set("100m", "1"));
        assert_eq!(updated, [format!("{claims}.Spec.{odd}").as_str(), history]);
    }

    #[test]
    fn rules() {
        check(
            "statefulsets",
            "{metadata: {name: a.b, namespace: b}, spec: {updateStrategy: {type: OnDelete, rollingUpdate: {}}, podManagementPolicy: Odd, replicas: -1}}",
            expect![[r#"
                metadata.name: Invalid value: "a.b": must not contain dots
                spec.podManagementPolicy: Invalid value: "Odd": must be 'OrderedReady' or 'Parallel'
                spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'
                spec.replicas: Invalid value: -1: must be greater than or equal to 0
                spec.selector: Required value
                spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
                spec.template.spec.containers: Required value
            "#]],
        );
        check_update(
            "statefulsets",
            SET,
            &SET.replace("serviceName: s", "serviceName: t"),
            expect![[r#"
            spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
        "#]],
        );
        check_row("statefulsets", SET, expect!["Name=a | Ready=0/0 | Age=<unknown> | Containers=c | Images=i"]);
    }

    #[test]
    fn rules_of_rollouts_and_names() {
        let with = |spec: &str| SET.replacen("serviceName: s", spec, 1);
        check(
            "statefulsets",
            &with(
                "serviceName: S, updateStrategy: {type: Odd}, persistentVolumeClaimRetentionPolicy: {whenScaled: Keep}",
            ),
            expect![[r#"
                spec.updateStrategy: Invalid value: {"type":"Odd"}: must be 'RollingUpdate' or 'OnDelete'
                spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete"
                spec.serviceName: Invalid value: "S": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            "#]],
        );
        check(
            "statefulsets",
            &with("revisionHistoryLimit: -1, updateStrategy: {rollingUpdate: {maxUnavailable: 0, partition: -1}}"),
            expect![[r#"
                spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0
                spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0
            "#]],
        );
        check(
            "statefulsets",
            &with("updateStrategy: {rollingUpdate: {maxUnavailable: 101%}}"),
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
            "#]],
        );
        let limited = yaml("{spec: {revisionHistoryLimit: -1}}");
        let warning =
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
        assert_eq!(StatefulSet.update_warnings(&limited, &limited), [warning]);
    }

    #[test]
    fn a_status_adds_up() {
        let told = |new: &str, old: &str| -> Vec<String> {
            StatefulSet.validate_status_update(&yaml(new), &yaml(old)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            told("{status: {replicas: 3, readyReplicas: 1, availableReplicas: 2}}", "{status: {collisionCount: 1}}"),
            [
                "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn containers_mount_what_is_claimed() {
        let mounted = SET.replace("image: i", "image: i, volumeMounts: [{name: data, mountPath: /data}]");
        check(
            "statefulsets",
            &mounted,
            expect![[r#"
                spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"
            "#]],
        );
        let claims = "spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {}}], ";
        check("statefulsets", &mounted.replacen("spec: {", claims, 1), expect![[r#""#]]);
    }

    #[test]
    fn defaults() {
        check_default(
            "statefulsets",
            "{spec: {volumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}}]}}",
            expect![[r#"
                metadata: {}
                spec:
                  persistentVolumeClaimRetentionPolicy:
                    whenDeleted: Retain
                    whenScaled: Retain
                  podManagementPolicy: OrderedReady
                  replicas: 1
                  revisionHistoryLimit: 10
                  serviceName: ""
                  template:
                    metadata: {}
                    spec:
                      dnsPolicy: ClusterFirst
                      restartPolicy: Always
                      schedulerName: default-scheduler
                      securityContext: {}
                      terminationGracePeriodSeconds: 30
                  updateStrategy:
                    rollingUpdate:
                      maxUnavailable: 1
                      partition: 0
                    type: RollingUpdate
                  volumeClaimTemplates:
                  - apiVersion: v1
                    kind: PersistentVolumeClaim
                    metadata:
                      name: v
                    spec:
                      accessModes:
                      - ReadWriteOnce
                      resources:
                        requests:
                          storage: 1Gi
                      volumeMode: Filesystem
                    status:
                      phase: Pending
                status:
                  availableReplicas: 0
                  replicas: 0
            "#]],
        );
    }
}
