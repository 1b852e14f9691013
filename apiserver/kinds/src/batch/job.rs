//! Job: pods that run until enough of them have succeeded.

use serde_json::{Map, Value, json};

use super::{job_policies, job_status};
use crate::apps::workload;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, CellContext, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, int, list, text};
use crate::selector::LabelSelector;
use crate::{age, names, rules};

/// Labels that tie pods to their Job; the ones without a prefix are kept for older clients.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// Failures before a Job is given up.
const BACKOFF_LIMIT: i64 = 6;
/// Most pods at a time, and most failed indexes, of an Indexed Job; with more completions, what follows holds too.
const INDEXED_MAX: i64 = 100_000;
/// The same of an Indexed Job of more than [`INDEXED_MAX`] completions with a limit per index.
const MANY_INDEXES_MAX: i64 = 10_000;
const MANAGER_MAX_BYTES: usize = 63;

pub fn definition() -> KindDef {
    KindDef::builtin("batch", "v1", "Job", "jobs", "io.k8s.api.batch.v1.Job")
        .categories(&["all"])
        .subresources(vec![Subresource::status()])
        .columns(columns())
        .selectable(vec![SelectableField::computed("status.successful", |job| {
            int(job, &["status", "succeeded"]).to_string()
        })])
        .strategy(Job)
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Status", |job, _| status(job).into()).describe("Status of the job."),
        Column::text("Completions", |job, _| completions(job).into()),
        Column::text("Duration", |job, context| duration(job, context).into())
            .describe("Time required to complete the job."),
        Column::age(),
        Column::text("Containers", |job, _| template::containers(of(job), "name").into()).wide(),
        Column::text("Images", |job, _| template::containers(of(job), "image").into()).wide(),
        Column::text("Selector", |job, _| template::selector(get(job, &["spec", "selector"])).into()).wide(),
    ]
}

fn of(job: &Value) -> &Value {
    get(job, &["spec", "template"]).unwrap_or(&Value::Null)
}

fn status(job: &Value) -> &'static str {
    let met = |type_: &str| {
        list(job, &["status", "conditions"])
            .iter()
            .any(|c| text(c, &["type"]) == type_ && text(c, &["status"]) == "True")
    };
    if met("Complete") {
        "Complete"
    } else if met("Failed") {
        "Failed"
    } else if get(job, &["metadata", "deletionTimestamp"]).is_some() {
        "Terminating"
    } else if met("Suspended") {
        "Suspended"
    } else if met("FailureTarget") {
        "FailureTarget"
    } else if met("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let done = int(job, &["status", "succeeded"]);
    match (get(job, &["spec", "completions"]).and_then(Value::as_i64), int(job, &["spec", "parallelism"])) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(job: &Value, context: &CellContext) -> String {
    let time = |field: &str| text(job, &["status", field]).parse::<jiff::Timestamp>().ok();
    let end = time("completionTime").or_else(|| {
        let failed = list(job, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Failed");
        failed.and_then(|c| text(c, &["lastTransitionTime"]).parse().ok())
    });
    match time("startTime") {
        Some(_) => age::since(Some(text(job, &["status", "startTime"])), end.unwrap_or(context.now)),
        None => String::new(),
    }
}

fn default_spec(spec: &mut Map<String, Value>) {
    let unset = |spec: &Map<String, Value>, field: &str| spec.get(field).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    object::set_default(spec, "parallelism", 1);
    // With a limit of its own per index, the whole has none that matters.
    let limit = if unset(spec, "backoffLimitPerIndex") { BACKOFF_LIMIT } else { i64::from(i32::MAX) };
    object::set_default(spec, "backoffLimit", limit);
    object::set_default(spec, "completionMode", "NonIndexed");
    object::set_default(spec, "suspend", false);
    object::set_default(spec, "manualSelector", false);
    let replacement = if unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    object::set_default(spec, "podReplacementPolicy", replacement);
    if let Some(Value::Array(policies)) = spec.get_mut("podFailurePolicy").and_then(|p| p.get_mut("rules")) {
        for condition in policies.iter_mut().flat_map(|p| object::list_mut(p, &["onPodConditions"])) {
            if let Some(condition) = condition.as_object_mut() {
                object::set_default_text(condition, "status", "True");
            }
        }
    }
    if let Some(template) = spec.get_mut("template") {
        template::default(template);
    }
}

struct Job;

impl Strategy for Job {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, job: &mut Value) {
        if let Some(spec) = object::ensure(job, &["spec"]) {
            default_spec(spec);
        }
        let labels = object::map(job, &["spec", "template", "metadata", "labels"]).filter(|l| !l.is_empty()).cloned();
        let own = object::map(job, &["metadata", "labels"]).is_none_or(Map::is_empty);
        if let (true, Some(labels), Some(metadata)) = (own, labels, object::ensure(job, &["metadata"])) {
            metadata.insert("labels".to_owned(), Value::Object(labels));
        }
    }

    /// The selector is the Job's own identity, unless the user insists on another.
    fn prepare_for_create(&self, job: &mut Value) {
        kind::prepare_for_create(self.shape(), job);
        if let Some(object) = job.as_object_mut() {
            object.insert("status".to_owned(), json!({}));
        }
        if get(job, &["spec", "manualSelector"]) == Some(&Value::Bool(true)) {
            return;
        }
        let (name, uid) = (text(job, &["metadata", "name"]).to_owned(), text(job, &["metadata", "uid"]).to_owned());
        if let Some(labels) = object::ensure(job, &["spec", "template", "metadata", "labels"]) {
            UID_LABELS.iter().for_each(|label| object::set_default(labels, label, uid.as_str()));
            NAME_LABELS.iter().for_each(|label| object::set_default(labels, label, name.as_str()));
        }
        if let Some(selected) = object::ensure(job, &["spec", "selector", "matchLabels"]) {
            selected.entry(UID_LABELS[0]).or_insert_with(|| uid.into());
        }
    }

    fn validate(&self, job: &Value) -> Vec<FieldError> {
        validate(job, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new, Some(old));
        let kept = if rests(old) { with_mutable(old, new) } else { old.clone() };
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for name in
            ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        {
            rules::immutable(&new.get(name), &old.get(name), &mut errors);
        }
        // An Indexed Job is resized by both numbers together.
        let (completions, before) = (new.get("completions"), old.get("completions"));
        if new.get("completionMode").text() != "Indexed" {
            rules::immutable(&completions, &before, &mut errors);
        } else if ![None, before.int(), new.get("parallelism").int()].contains(&completions.int()) {
            errors.push(completions.invalid("can only be modified in tandem with spec.parallelism"));
        }
        let kept = Field::root(&kept);
        rules::immutable(&new.get("template"), &kept.get("spec").get("template"), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        job_status::validate_update(new, old)
    }

    fn warnings(&self, job: &Value) -> Vec<String> {
        let root = Field::root(job);
        let mut warnings = workload::name_warnings(job);
        warnings.extend(spec_warnings(&root.get("spec")));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || spec_warnings(&Field::root(new).get("spec")))
    }
}

/// What is allowed in a Job's spec, but likely not meant.
pub fn spec_warnings(spec: &Field) -> Vec<String> {
    let above = |name: &str, most: i64| spec.get(name).int().unwrap_or_default() > most;
    let mut warnings = Vec::new();
    if spec.get("completionMode").text() == "Indexed"
        && above("completions", INDEXED_MAX)
        && above("parallelism", MANY_INDEXES_MAX)
    {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    warnings.extend(template::warnings(&spec.get("template")));
    warnings
}

/// Rules of new and of changed Jobs.
fn validate(job: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(job);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    validate_identity(job, old, &mut errors);
    validate_spec(&spec, &mut errors);
    let selector = spec.get("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        rules::label_selector(&selector, &mut errors);
    }
    let template = spec.get("template");
    let labels = template.get("metadata");
    let labels = labels.get("labels");
    let parsed = LabelSelector::from_object(selector.value()).unwrap_or_default();
    if !parsed.matches(labels.value().and_then(Value::as_object)) {
        let shown = labels.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&labels.path, shown, "`selector` does not match template `labels`"));
    }
    let completions = spec.get("completions").int().unwrap_or_default();
    if spec.get("completionMode").text() == "Indexed" && completions > 0 {
        // What the pod of the last index will be called.
        let metadata = root.get("metadata");
        let name = metadata.get("name");
        let host = format!("{}-{}", name.text(), completions - 1);
        if !names::dns_label(&host).is_empty() {
            errors.push(name.invalid(format!("will not able to create pod with invalid DNS label: {host}")));
        }
    }
    errors
}

/// Pods are tied to their Job by labels that say its name and UID, unless the user chose a selector.
fn validate_identity(job: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = Field::root(job);
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let (uid, name, selector) = (metadata.get("uid"), metadata.get("name"), spec.get("selector"));
    if spec.get("manualSelector").bool() == Some(true) || !selector.is_set() {
        return;
    }
    rules::required(&uid, errors);
    let has = |job: &Value, label: &str| {
        object::map(job, &["spec", "template", "metadata", "labels"]).is_some_and(|labels| labels.contains_key(label))
    };
    // Jobs from before there were labels with a prefix have none.
    let with_prefix = old.is_none_or(|old| has(old, UID_LABELS[0]) && has(old, NAME_LABELS[0]));
    let skipped = usize::from(!with_prefix);
    let expected: Vec<(&str, &str)> = [UID_LABELS[1], NAME_LABELS[1], UID_LABELS[0], NAME_LABELS[0]]
        .into_iter()
        .zip([uid.text(), name.text()].into_iter().cycle())
        .take(4 - 2 * skipped)
        .collect();
    let template = spec.get("template");
    let labels = template.get("metadata");
    let labels = labels.get("labels");
    for (label, value) in &expected {
        let found = labels.key(label);
        if !found.is_set() {
            errors.push(found.required(format!("must be '{value}'")));
        } else if found.text() != *value {
            let shown = labels.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&found.path, shown, format!("must be '{value}'")));
        }
    }
    let own: Map<String, Value> =
        expected.iter().map(|(label, value)| ((*label).to_owned(), (*value).into())).collect();
    if LabelSelector::from_object(selector.value()).is_ok_and(|parsed| !parsed.matches(Some(&own))) {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
}

/// Suspended, and no pod of it runs: its template may still change in parts (KEP-2926, KEP-5440).
fn rests(job: &Value) -> bool {
    let is_suspended = |c: &Value| text(c, &["type"]) == "Suspended" && text(c, &["status"]) == "True";
    get(job, &["spec", "suspend"]) == Some(&Value::Bool(true))
        && int(job, &["status", "active"]) == 0
        && (get(job, &["status", "startTime"]).is_none()
            || list(job, &["status", "conditions"]).iter().any(is_suspended))
}

/// The old Job with the new one's say in where its pods go, and in what they ask for.
fn with_mutable(old: &Value, new: &Value) -> Value {
    const MUTABLE: [&[&str]; 6] = [
        &["metadata", "labels"],
        &["metadata", "annotations"],
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["spec", "schedulingGates"],
        &["spec", "affinity", "nodeAffinity"],
    ];
    let mut kept = old.clone();
    let template = get(new, &["spec", "template"]).cloned().unwrap_or_default();
    for path in MUTABLE {
        let Some((name, parents)) = path.split_last() else { continue };
        let parents = [&["spec", "template"], parents].concat();
        if let Some(value) = get(&template, path) {
            if let Some(parent) = object::ensure(&mut kept, &parents) {
                parent.insert((*name).to_owned(), value.clone());
            }
        } else if let Some(Value::Object(parent)) = kept.pointer_mut(&format!("/{}", parents.join("/"))) {
            parent.remove(*name);
        }
    }
    for name in ["initContainers", "containers"] {
        let containers = object::list_mut(&mut kept, &["spec", "template", "spec", name]);
        for (container, new) in containers.iter_mut().zip(list(&template, &["spec", name])) {
            object::keep(container, new, "resources");
        }
    }
    kept
}

/// Rules of a Job's spec, also where a CronJob holds it (which has no selector yet).
pub fn validate_spec(spec: &Field, errors: &mut Vec<FieldError>) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        rules::not_negative(&spec.get(name), errors);
    }
    let (per_index, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if failed.is_set() && !per_index.is_set() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        rules::domain_path(&manager, errors);
        if manager.text().len() > MANAGER_MAX_BYTES {
            errors.push(FieldError::too_long(&manager.path, MANAGER_MAX_BYTES));
        }
    }
    let mode = spec.get("completionMode");
    match mode.text() {
        "Indexed" => validate_indexed(spec, errors),
        "" | "NonIndexed" => {
            for field in [&per_index, &failed] {
                if field.is_set() {
                    errors.push(field.invalid("requires indexed completion mode"));
                }
            }
        }
        _ => errors.push(mode.not_supported(&["NonIndexed", "Indexed"])),
    }
    job_policies::validate(spec, errors);
    let template = spec.get("template");
    template::validate(&template, errors);
    let pod = template.get("spec");
    let restart = pod.get("restartPolicy");
    match restart.text() {
        "" | "Always" => errors.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        "OnFailure" => {
            if spec.get("podFailurePolicy").is_set() {
                errors.push(restart.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
            }
        }
        _ => errors.push(restart.not_supported(&["OnFailure", "Never"])),
    }
}

fn validate_indexed(spec: &Field, errors: &mut Vec<FieldError>) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let failed = spec.get("maxFailedIndexes");
    let above = |field: &Field, max: i64| field.int().is_some_and(|n| n > max);
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    if above(&parallelism, INDEXED_MAX) {
        let detail = format!("must be less than or equal to {INDEXED_MAX} when completion mode is Indexed");
        errors.push(parallelism.invalid(detail));
    }
    if completions.int().is_some_and(|completions| above(&failed, completions)) {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    if above(&failed, INDEXED_MAX) {
        errors.push(failed.invalid(format!("must be less than or equal to {INDEXED_MAX}")));
    }
    if above(&completions, INDEXED_MAX) && spec.get("backoffLimitPerIndex").is_set() {
        if !failed.is_set() {
            errors.push(failed.required(format!("must be specified when completions is above {INDEXED_MAX}")));
        }
        for field in [&parallelism, &failed] {
            if above(field, MANY_INDEXES_MAX) {
                errors.push(field.invalid(format!(
                    "must be less than or equal to {MANY_INDEXES_MAX} when completions are above {INDEXED_MAX} and used \
                     with backoff limit per index"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update, yaml};

    #[test]
    fn the_template_of_a_job_that_rests_may_say_otherwise_where_its_pods_go_and_what_they_ask_for() {
        let job = |status: &str, image: &str, more: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b, resourceVersion: '1'}}, spec: {{suspend: true, manualSelector: true, selector: {{matchLabels: {{x: z}}}}, \
                 template: {{metadata: {{labels: {{x: z}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: {image}}}]{more}}}}}}}, \
                 status: {{{status}}}}}"
            )
        };
        let elsewhere = ", nodeSelector: {zone: z}, tolerations: [{key: k, operator: Exists}], \
                         affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                         [{matchExpressions: [{key: k, operator: Exists}]}]}}}";
        let suspended = "startTime: '2026-01-01T00:00:00Z', conditions: [{type: Suspended, status: 'True'}]";
        for rests in ["", suspended] {
            check_update("jobs", &job(rests, "i", ""), &job(rests, "i", elsewhere), expect![""]);
        }
        // Nor need it say anything of the kind: a Job that is resumed most often does not.
        let resumed = job(suspended, "i", "").replace("suspend: true", "suspend: false");
        check_update("jobs", &job(suspended, "i", ""), &resumed, expect![""]);
        check_update("jobs", &job(suspended, "i", elsewhere), &resumed, expect![""]);
        let changed = |status: &str, new: &str| {
            let errors = Job.validate_update(&yaml(new), &yaml(&job(status, "i", "")));
            let immutable = errors.into_iter().filter(|error| error.detail.contains("immutable"));
            immutable.map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(changed("", &job("", "other", "")), ["spec.template"]);
        let runs = format!("active: 1, {suspended}");
        assert_eq!(changed(&runs, &job(&runs, "i", elsewhere)), ["spec.template"]);
    }

    #[test]
    fn rules() {
        check(
            "jobs",
            "{metadata: {name: a, namespace: b, uid: u}, spec: {completionMode: Indexed, parallelism: -1, template: {spec: {containers: [{name: c, image: i}]}}}}",
            expect![[r#"
                spec.parallelism: Invalid value: -1: must be greater than or equal to 0
                spec.completions: Required value: when completion mode is Indexed
                spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
            "#]],
        );
        let job = "{metadata: {name: a, namespace: b}, spec: {selector: {matchLabels: {x: z}}, manualSelector: true, template: {metadata: {labels: {x: z}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
        check("jobs", job, expect![[r#""#]]);
        let says_zero = "containers: [{name: c, image: i, workingDir: '', tty: false}], hostNetwork: false";
        check_update("jobs", &job.replace("containers: [{name: c, image: i}]", says_zero), job, expect![[r#""#]]);
        check_update(
            "jobs",
            job,
            &job.replace("selector: {matchLabels: {x: z}}, ", ""),
            expect![[r#"
                spec.selector: Required value
                spec.template.metadata.labels: Invalid value: {"x":"z"}: `selector` does not match template `labels`
                spec.selector: Invalid value: null: field is immutable
            "#]],
        );
        check_update(
            "jobs",
            job,
            &job.replace("image: i", "image: j"),
            expect![[r#"
            spec.template: Invalid value: {"metadata":{"labels":{"x":"z"}},"spec":{"containers":[{"image":"j","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}: field is immutable
        "#]],
        );
    }

    #[test]
    fn rules_of_indexes() {
        let job = |spec: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b}}, spec: {{manualSelector: true, selector: {{matchLabels: {{x: z}}}}, {spec}, \
                 template: {{metadata: {{labels: {{x: z}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}"
            )
        };
        check(
            "jobs",
            &job("managedBy: x, maxFailedIndexes: 1"),
            expect![[r#"
                spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
                spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")
                spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode
            "#]],
        );
        check(
            "jobs",
            &job(
                "completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, maxFailedIndexes: 4, managedBy: ''",
            ),
            expect![[r#"
                spec.managedBy: Required value
                spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions
            "#]],
        );
        check(
            "jobs",
            &job("completionMode: Indexed, completions: 100001, parallelism: 10001, backoffLimitPerIndex: 1"),
            expect![[r#"
                spec.maxFailedIndexes: Required value: must be specified when completions is above 100000
                spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index
            "#]],
        );
        check("jobs", &job("completionMode: Indexed, completions: 100001, parallelism: 9"), expect![[r#""#]]);
        let long = "a".repeat(61);
        check(
            "jobs",
            &job("completionMode: Indexed, completions: 11").replace("name: a,", &format!("name: {long},")),
            expect![[r#"
                metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": will not able to create pod with invalid DNS label: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-10
            "#]],
        );
        let indexed = job("completionMode: Indexed, completions: 3, parallelism: 2, managedBy: a.b/c")
            .replace("name: a,", "name: a, resourceVersion: '1',");
        check_update(
            "jobs",
            &indexed,
            &indexed.replace("completions: 3, parallelism: 2", "completions: 4, parallelism: 4"),
            expect![""],
        );
        check_update(
            "jobs",
            &indexed,
            &indexed.replace("completions: 3", "completions: 4").replace("a.b/c", "a.b/d"),
            expect![[r#"
                spec.managedBy: Invalid value: "a.b/d": field is immutable
                spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism
            "#]],
        );
    }

    #[test]
    fn labels_that_are_generated_are_not_chosen() {
        let job = "{metadata: {name: a, namespace: b, uid: u}, spec: {selector: {matchLabels: {controller-uid: v}}, \
                   template: {metadata: {labels: {job-name: c, controller-uid: v}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
        check(
            "jobs",
            job,
            expect![[r#"
                spec.template.metadata.labels[controller-uid]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"v","job-name":"c"}: must be 'u'
                spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"v","job-name":"c"}: must be 'a'
                spec.selector: Invalid value: {"matchLabels":{"batch.kubernetes.io/controller-uid":"u","controller-uid":"v"}}: `selector` not auto-generated
            "#]],
        );
    }

    #[test]
    fn warnings() {
        let many =
            yaml("{metadata: {name: a}, spec: {completionMode: Indexed, completions: 100001, parallelism: 10001}}");
        let warning = "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                       Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
        assert_eq!(Job.warnings(&many), [warning]);
        assert_eq!(Job.update_warnings(&many, &many), [""; 0]);
        let dotted = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
                      label is recommended: [must not contain dots]";
        assert_eq!(Job.warnings(&yaml("{metadata: {name: a.b}}")), [dotted]);
    }

    #[test]
    fn identity_is_the_selector() {
        let mut job = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"template": {}}});
        Job.prepare_for_create(&mut job);
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "a");
    }

    #[test]
    fn defaults() {
        check_default(
            "jobs",
            "{spec: {parallelism: 2, podFailurePolicy: {rules: []}}}",
            expect![[r#"
            metadata: {}
            spec:
              backoffLimit: 6
              completionMode: NonIndexed
              manualSelector: false
              parallelism: 2
              podFailurePolicy:
                rules: []
              podReplacementPolicy: Failed
              suspend: false
              template:
                metadata: {}
                spec:
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
            status: {}
        "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "jobs",
            "{metadata: {name: a}, spec: {completions: 2}, status: {succeeded: 2, startTime: '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:00:09Z', conditions: [{type: Complete, status: 'True'}]}}",
            expect![
                "Name=a | Status=Complete | Completions=2/2 | Duration=9s | Age=<unknown> | Containers= | Images= | Selector=<none>"
            ],
        );
    }
}
