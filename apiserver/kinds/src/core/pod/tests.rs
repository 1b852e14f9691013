use expect_test::expect;

use super::*;
use crate::testing::{check, check_default, check_update, made, updated, yaml};

/// A pod with these fields of its spec, and a container where they have none.
fn with(spec: &str) -> String {
    let containers = if spec.starts_with("containers:") { "" } else { "containers: [{name: c, image: i}], " };
    format!("{{metadata: {{name: a, namespace: b, labels: {{app: x}}}}, spec: {{{containers}{spec}}}}}")
}

/// Rows of a spec's fields and what is said of them, a line for each error.
pub fn check_specs(rows: &[(&str, &str)]) {
    for (spec, expected) in rows {
        assert_eq!(made("pods", &with(spec)).trim_end(), *expected, "{spec}");
    }
}

/// Rows of fields of a container and what is said of them.
pub fn check_containers(rows: &[(&str, &str)]) {
    for (fields, expected) in rows {
        let pod = with(&format!("containers: [{{name: c, image: i, {fields}}}]"));
        assert_eq!(made("pods", &pod).trim_end(), *expected, "{fields}");
    }
}

/// Rows of a spec's fields before and after an update, and what is said of that.
pub fn check_changes(rows: &[(&str, &str, &str)]) {
    for (old, new, expected) in rows {
        assert_eq!(updated("pods", &with(old), &with(new)).trim_end(), *expected, "{old} -> {new}");
    }
}

#[test]
fn grace_of_a_deletion() {
    let mut pod = json!({"spec": {"terminationGracePeriodSeconds": 30}});
    assert_eq!(Pod.graceful_delete(&pod, None), None);
    pod["spec"]["nodeName"] = "n".into();
    assert_eq!(Pod.graceful_delete(&pod, None), Some(30));
    assert_eq!(Pod.graceful_delete(&pod, Some(5)), Some(5));
    assert_eq!(Pod.graceful_delete(&pod, Some(0)), None);
    assert_eq!(Pod.graceful_delete(&pod, Some(-1)), Some(1));
    pod["status"]["phase"] = "Succeeded".into();
    assert_eq!(Pod.graceful_delete(&pod, Some(5)), None);
}

#[test]
fn a_minimal_pod() {
    check_default(
        "pods",
        "{spec: {containers: [{name: c, image: 'i:1'}]}}",
        expect![[r#"
        metadata: {}
        spec:
          containers:
          - image: i:1
            imagePullPolicy: IfNotPresent
            name: c
            resources: {}
            terminationMessagePath: /dev/termination-log
            terminationMessagePolicy: File
          dnsPolicy: ClusterFirst
          enableServiceLinks: true
          restartPolicy: Always
          schedulerName: default-scheduler
          securityContext: {}
          terminationGracePeriodSeconds: 30
        status: {}
    "#]],
    );
}

#[test]
fn defaults_that_depend_on_other_fields() {
    check_default(
        "pods",
        r#"
        spec:
          hostNetwork: true
          serviceAccountName: me
          containers:
          - name: c
            image: registry:5000/i@sha256:0123
            resources: {limits: {cpu: 1500m, memory: 1024Mi}}
            ports: [{containerPort: 80}]
            env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: b, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]
            livenessProbe: {httpGet: {port: 80}}
            lifecycle: {preStop: {httpGet: {port: 80, path: /stop}}}
          volumes:
          - {name: a}
          - {name: b, configMap: {name: x}}
          - {name: c, hostPath: {path: /x}}
          - {name: d, projected: {sources: [{serviceAccountToken: {path: t}}]}}
        "#,
        expect![[r#"
            metadata: {}
            spec:
              containers:
              - env:
                - name: a
                  valueFrom:
                    fieldRef:
                      apiVersion: v1
                      fieldPath: metadata.name
                - name: b
                  valueFrom:
                    resourceFieldRef:
                      divisor: "0"
                      resource: limits.cpu
                image: registry:5000/i@sha256:0123
                imagePullPolicy: IfNotPresent
                lifecycle:
                  preStop:
                    httpGet:
                      path: /stop
                      port: 80
                      scheme: HTTP
                livenessProbe:
                  failureThreshold: 3
                  httpGet:
                    path: /
                    port: 80
                    scheme: HTTP
                  periodSeconds: 10
                  successThreshold: 1
                  timeoutSeconds: 1
                name: c
                ports:
                - containerPort: 80
                  hostPort: 80
                  protocol: TCP
                resources:
                  limits:
                    cpu: 1500m
                    memory: 1Gi
                  requests:
                    cpu: 1500m
                    memory: 1Gi
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
              dnsPolicy: ClusterFirst
              enableServiceLinks: true
              hostNetwork: true
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              serviceAccount: me
              serviceAccountName: me
              terminationGracePeriodSeconds: 30
              volumes:
              - emptyDir: {}
                name: a
              - configMap:
                  defaultMode: 420
                  name: x
                name: b
              - hostPath:
                  path: /x
                  type: ""
                name: c
              - name: d
                projected:
                  defaultMode: 420
                  sources:
                  - serviceAccountToken:
                      expirationSeconds: 3600
                      path: t
            status: {}
        "#]],
    );
}

#[test]
fn what_a_pod_asks_for_as_a_whole() {
    let pod = |resources: &str, containers: &str, init: &str| {
        let spec = format!("{{resources: {resources}, containers: [{containers}], initContainers: [{init}]}}");
        let mut pod = yaml(&format!("{{spec: {spec}}}"));
        Pod.default(&mut pod);
        pod["spec"]["resources"].clone()
    };
    let container = |cpu: &str| format!("{{name: c{cpu}, resources: {{requests: {{cpu: {cpu}}}}}}}");
    for (resources, containers, init, expected) in [
        ("{limits: {cpu: 3000m}}", "{name: c}".into(), String::new(), "{limits: {cpu: '3'}, requests: {cpu: '3'}}"),
        (
            "{limits: {cpu: 3, memory: 1Gi}}",
            [container("100m"), container("200m")].join(","),
            container("400m"),
            "{limits: {cpu: '3', memory: 1Gi}, requests: {cpu: 400m, memory: 1Gi}}",
        ),
        ("{requests: {memory: 1Gi}}", container("1"), String::new(), "{requests: {memory: 1Gi}}"),
        (
            "{limits: {cpu: 1}}",
            "{name: c, resources: {limits: {hugepages-2Mi: 4Mi}}}".into(),
            String::new(),
            "{limits: {cpu: '1', hugepages-2Mi: 4Mi}, requests: {cpu: '1', hugepages-2Mi: 4Mi}}",
        ),
        ("{}", container("1"), String::new(), "{}"),
    ] {
        assert_eq!(pod(resources, &containers, &init), yaml(expected), "{resources} {containers}");
    }
}

#[test]
fn what_may_be_asked_for() {
    check(
        "pods",
        r#"
        spec:
          resources:
            requests: {cpu: 100m, ephemeral-storage: 1Gi, example.com/x: 1, pods: 1, what: 1}
            limits: {cpu: 200m, hugepages-2Mi: 2Mi}
          containers:
          - name: a
            image: i
            resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 300m, hugepages-2Mi: 4Mi}}
          - name: b
            image: i
            resources:
              requests: {cpu: 100m, a.kubernetes.io/x: 1, example.com/x: 500m, pods: 1}
              limits: {example.com/x: 500m, hugepages-2Mi: 3Mi}
          - {name: c, image: i, resources: {limits: {hugepages-1Gi: 1Gi, hugepages-: 1}}}
        "#,
        expect![[r#"
            metadata.name: Required value: name or generateName is required
            metadata.namespace: Required value
            spec.containers[1].resources.limits[example.com/x]: Invalid value: "500m": must be an integer
            spec.containers[1].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
            spec.containers[1].resources.requests[example.com/x]: Invalid value: "500m": must be an integer
            spec.containers[1].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
            spec.containers[1].resources.requests[pods]: Invalid value: "pods": must be a standard resource for containers
            spec.containers[2].resources.limits[hugepages-]: Invalid value: "hugepages-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.containers[2].resources.limits[hugepages-]: Invalid value: "1": 1 is not positive integer multiple of hugepages-
            spec.containers[2].resources.requests[hugepages-]: Invalid value: "hugepages-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.containers[2].resources.requests[hugepages-]: Invalid value: "1": 1 is not positive integer multiple of hugepages-
            spec.containers[2].resources: Forbidden: HugePages require cpu or memory
            spec.resources.limits[hugepages-]: Invalid value: "hugepages-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.resources.limits[hugepages-]: Invalid value: "1": 1 is not positive integer multiple of hugepages-
            spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"
            spec.resources.requests[example.com/x]: Unsupported value: "example.com/x": supported values: "cpu", "hugepages-", "memory"
            spec.resources.requests[hugepages-]: Invalid value: "hugepages-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.resources.requests[hugepages-]: Invalid value: "1": 1 is not positive integer multiple of hugepages-
            spec.resources.requests[pods]: Unsupported value: "pods": supported values: "cpu", "hugepages-", "memory"
            spec.resources.requests[what]: Invalid value: "what": must be a standard resource type or fully qualified
            spec.resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.resources.requests[cpu]: Invalid value: "100m": must be greater than or equal to aggregate container requests of 150m
            spec.resources.requests[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal to aggregate container requests of 7Mi
            spec.resources.limits[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal to aggregate container limits of 7Mi
            spec.resources.containers[0][cpu].limits: Invalid value: "300m": must be less than or equal to pod limits of 200m
            spec.resources.containers[0][hugepages-2Mi].limits: Invalid value: "4Mi": must be less than or equal to pod limits of 2Mi
            spec.resources.containers[1][hugepages-2Mi].limits: Invalid value: "3Mi": must be less than or equal to pod limits of 2Mi
        "#]],
    );
    check(
        "pods",
        "spec: {os: {name: windows}, resources: {limits: {cpu: 1}}, containers: [{name: c, image: i}]}",
        expect![[r#"
            metadata.name: Required value: name or generateName is required
            metadata.namespace: Required value
            spec.resources: Forbidden: may not be set for a windows pod
        "#]],
    );
}

#[test]
fn the_first_status() {
    let mut pod =
        json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}, "spec": {"serviceAccountName": "s"}});
    Pod.prepare_for_create(&mut pod);
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
    assert_eq!(pod["spec"]["serviceAccount"], "s");
}

#[test]
fn what_is_required() {
    check(
        "pods",
        "{metadata: {name: a, namespace: b}, spec: {}}",
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
    check(
        "pods",
        r#"
        metadata: {name: a, namespace: b}
        spec:
          restartPolicy: Sometimes
          dnsPolicy: None
          nodeSelector: {'a b': c}
          containers:
          - name: c
            image: " i"
            imagePullPolicy: Perhaps
            ports: [{name: HTTP, containerPort: 70000, protocol: tcp}, {}]
            env: [{name: "a=b"}, {value: x}, {name: c, value: x, valueFrom: {fieldRef: {fieldPath: spec.containers}}}, {name: d, valueFrom: {}}]
            envFrom: [{}]
            volumeMounts: [{name: none, mountPath: /a}, {name: v, mountPath: /a, subPath: ../x}]
            resources: {requests: {cpu: 2, memory: x, foo: 1}, limits: {cpu: 1}}
            livenessProbe: {periodSeconds: -1, successThreshold: 2}
            readinessProbe: {exec: {command: [x]}, httpGet: {port: x_}}
          - {name: c, image: i}
          initContainers: [{name: i, image: i, readinessProbe: {exec: {command: [x]}}}]
          volumes: [{name: v, emptyDir: {}, secret: {secretName: s}}, {name: v, configMap: {}}, {name: w, hostPath: {path: /../x, type: Odd}}]
          tolerations: [{operator: Odd, key: a}, {value: x}, {key: k, operator: Exists, value: v}]
        "#,
        expect![[r#"
            spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].configMap.name: Required value
            spec.volumes[2].hostPath.path: Invalid value: "/../x": must not contain '..'
            spec.volumes[2].hostPath.type: Unsupported value: "Odd": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            spec.containers[0].ports[0].name: Invalid value: "HTTP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].ports[0].name: Invalid value: "HTTP": must contain at least one letter (a-z)
            spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].ports[1].containerPort: Required value
            spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '=' (regex used for validation is '^[ -<>-~]+$')
            spec.containers[0].env[1].name: Required value
            spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: "spec.containers": error converting fieldPath: field label not supported: spec.containers
            spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            spec.containers[0].volumeMounts[0].name: Not found: "none"
            spec.containers[0].volumeMounts[1].name: Not found: "v"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'
            spec.containers[0].imagePullPolicy: Unsupported value: "Perhaps": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "x": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].livenessProbe: Required value: must specify a handler type
            spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.httpGet: Forbidden: may not specify more than 1 handler type
            spec.containers[1].name: Duplicate value: "c"
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            spec.tolerations[0].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
            spec.tolerations[1].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[2].operator: Invalid value: "v": value must be empty when `operator` is 'Exists'
            spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace
        "#]],
    );
}

#[test]
fn what_does_not_go_together() {
    check(
        "pods",
        r#"
        metadata: {name: a, namespace: b}
        spec:
          hostPID: true
          hostIPC: true
          hostUsers: false
          shareProcessNamespace: true
          terminationGracePeriodSeconds: 5
          securityContext: {seLinuxChangePolicy: Foo, sysctls: [{name: a.b, value: '1'}, {name: a.b, value: '2'}]}
          resourceClaims: [{name: a}, {name: b, resourceClaimName: x, resourceClaimTemplateName: t}, {name: b, resourceClaimName: x}]
          containers:
          - name: c
            image: i
            lifecycle: {preStop: {sleep: {seconds: 6}}, postStart: {sleep: {seconds: 5}}}
            restartPolicyRules: [{action: Foo}, {action: Restart, exitCodes: {operator: Foo}}]
            resizePolicy: [{resourceName: cpu, restartPolicy: Foo}, {resourceName: cpu, restartPolicy: NotRequired}, {resourceName: disk, restartPolicy: NotRequired}]
            resources: {claims: [{name: a}, {name: z}]}
            env:
            - {name: a, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 7}}}
            - {name: b, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
            - {name: c, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1m}}}
            volumeMounts:
            - {name: v, mountPath: /a, mountPropagation: Bidirectional}
            - {name: v, mountPath: /b, recursiveReadOnly: Enabled}
            - {name: v, mountPath: /c, recursiveReadOnly: IfPossible, readOnly: true, mountPropagation: HostToContainer}
          volumes: [{name: v, emptyDir: {}}, {name: f, fc: {}}]
        "#,
        expect![[r#"
            spec.volumes[1].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both
            spec.resourceClaims[0]: Invalid value: {"name":"a"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`
            spec.resourceClaims[1]: Invalid value: {"name":"b","resourceClaimName":"x","resourceClaimTemplateName":"t"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified
            spec.resourceClaims[2].name: Duplicate value: "b"
            spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
            spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource
            spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
            spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true
            spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified
            spec.containers[0].resources.claims[1]: Not found: "z": must be one of the names in pod.spec.resourceClaims: a, b
            spec.containers[0].resizePolicy: Unsupported value: "Foo": supported values: "NotRequired", "RestartContainer"
            spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"
            spec.containers[0].resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory"
            spec.containers[0].lifecycle.preStop.sleep: Invalid value: 6: must be non-negative and less than terminationGracePeriodSeconds (5)
            spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used
            spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Foo": supported values: "Restart", "RestartAllContainers"
            spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified
            spec.containers[0].restartPolicyRules[1].exitCodes.operator: Unsupported value: "Foo": supported values: "In", "NotIn"
            spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
            spec.securityContext.sysctls[1].name: Duplicate value: "a.b"
            spec.securityContext.seLinuxChangePolicy: Unsupported value: "Foo": supported values: "Recursive"
            spec.HostPID: Forbidden: when `hostUsers` is false
            spec.HostIPC: Forbidden: when `hostUsers` is false
        "#]],
    );
}

const POD: &str = "{metadata: {name: a, namespace: b}, spec: {containers: [{name: c, image: i}], tolerations: [{key: k, operator: Exists}]}}";

#[test]
fn what_an_update_may_change() {
    check_update(
        "pods",
        POD,
        "{metadata: {name: a, namespace: b, labels: {x: y}}, spec: {containers: [{name: c, image: j, imagePullPolicy: Always}], \
         tolerations: [{key: k, operator: Exists}, {key: l, operator: Exists}], activeDeadlineSeconds: 5}}",
        expect![[r#""#]],
    );
}

#[test]
fn a_pod_is_a_mirror_for_as_long_as_it_is_there_or_never() {
    let pod = |annotations: &str, node: &str| {
        format!(
            "{{metadata: {{name: a, namespace: b, annotations: {{{annotations}}}}}, spec: {{nodeName: {node}, containers: [{{name: c, image: i}}]}}}}"
        )
    };
    let (none, mirror) = (pod("", "one"), pod("kubernetes.io/config.mirror: x", "one"));
    let other = pod("kubernetes.io/config.mirror: y", "one");
    check_update("pods", &mirror, &mirror, expect![""]);
    check_update(
        "pods",
        &none,
        &mirror,
        expect![[r#"
            metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation
        "#]],
    );
    for new in [&none, &other] {
        check_update(
            "pods",
            &mirror,
            new,
            expect![[r#"
                metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation
            "#]],
        );
    }
    check(
        "pods",
        &pod("kubernetes.io/config.mirror: x", "''"),
        expect![[r#"
            metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set
        "#]],
    );
    assert_eq!(Pod.validate_status_update(&yaml(&mirror), &yaml(&none)).len(), 1);
}

#[test]
fn what_an_update_may_not_change() {
    check_update(
        "pods",
        POD,
        "{metadata: {name: a, namespace: b}, spec: {nodeName: x, containers: [{name: c, image: i, env: [{name: a, value: b}]}]}}",
        expect![[r#"
            spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
            spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            + spec.containers[0].env: [{"name":"a","value":"b"}]
            + spec.nodeName: "x"

        "#]],
    );
    check_update(
        "pods",
        POD,
        "{metadata: {name: a, namespace: b}, spec: {containers: [{name: c, image: i}, {name: d, image: i}], tolerations: [{key: k, operator: Exists}]}}",
        expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]],
    );
}
