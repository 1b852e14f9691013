//! CronJob: Jobs at times that a schedule says.

use serde_json::{Value, json};

use super::job;
use super::schedule::{self, Schedule};
use crate::apps::workload;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{age, rules};

/// Jobs get a name of this and a time; both must fit.
const NAME_MAX_BYTES: usize = 52;

pub fn definition() -> KindDef {
    KindDef::builtin("batch", "v1", "CronJob", "cronjobs", "io.k8s.api.batch.v1.CronJob")
        .short_names(&["cj"])
        .categories(&["all"])
        .subresources(vec![Subresource::status()])
        .columns(columns())
        .strategy(CronJob)
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::at("Schedule", "string", "spec.schedule"),
        Column::text("Timezone", |job, _| or_none(text(job, &["spec", "timeZone"])).into()),
        Column::new("Suspend", "boolean", |job, _| match get(job, &["spec", "suspend"]) {
            Some(Value::Bool(true)) => "True".into(),
            Some(_) => "False".into(),
            None => "<unset>".into(),
        }),
        Column::new("Active", "integer", |job, _| list(job, &["status", "active"]).len().into()),
        Column::text("Last Schedule", |job, context| match text(job, &["status", "lastScheduleTime"]) {
            "" => "<none>".into(),
            time => age::since(Some(time), context.now).into(),
        }),
        Column::age(),
        Column::text("Containers", |job, _| template::containers(of(job), "name").into()).wide(),
        Column::text("Images", |job, _| template::containers(of(job), "image").into()).wide(),
        Column::text("Selector", |job, _| {
            template::selector(get(job, &["spec", "jobTemplate", "spec", "selector"])).into()
        })
        .wide(),
    ]
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn of(job: &Value) -> &Value {
    get(job, &["spec", "jobTemplate", "spec", "template"]).unwrap_or(&Value::Null)
}

struct CronJob;

impl Strategy for CronJob {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, job: &mut Value) {
        let Some(spec) = object::ensure(job, &["spec"]) else { return };
        object::set_default_text(spec, "concurrencyPolicy", "Allow");
        object::set_default(spec, "suspend", false);
        object::set_default(spec, "successfulJobsHistoryLimit", 3);
        object::set_default(spec, "failedJobsHistoryLimit", 1);
        // Of the Job's own defaults it gets none: each Job gets them when it is made.
        if let Some(template) = object::get_mut(job, &["spec", "jobTemplate", "spec", "template"]) {
            template::default(template);
        }
    }

    fn prepare_for_create(&self, job: &mut Value) {
        kind::prepare_for_create(self.shape(), job);
        if let Some(object) = job.as_object_mut() {
            object.insert("status".to_owned(), json!({}));
        }
    }

    fn validate(&self, job: &Value) -> Vec<FieldError> {
        let mut errors = validate(job, None);
        let root = Field::root(job);
        let metadata = root.get("metadata");
        let name = metadata.get("name");
        if name.text().len() > NAME_MAX_BYTES {
            errors.push(name.invalid(format!("must be no more than {NAME_MAX_BYTES} characters")));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(new, Some(old))
    }

    fn warnings(&self, job: &Value) -> Vec<String> {
        let mut warnings = workload::name_warnings(job);
        warnings.extend(job_warnings(job));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || job_warnings(new))
    }
}

fn job_warnings(job: &Value) -> Vec<String> {
    job::spec_warnings(&Field::root(job).get("spec").get("jobTemplate").get("spec"))
}

/// Rules of new and of changed CronJobs.
fn validate(job: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(job);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let times = spec.get("schedule");
    if rules::required(&times, &mut errors) {
        if times.text().contains("TZ") {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(times.invalid(detail));
        } else if let Err(wrong) = Schedule::parse(times.text()) {
            errors.push(times.invalid(wrong));
        }
    }
    rules::not_negative(&spec.get("startingDeadlineSeconds"), &mut errors);
    let zone = spec.get("timeZone");
    if zone.is_set() && old.and_then(|old| get(old, &["spec", "timeZone"])) != zone.value() {
        time_zone(&zone, &mut errors);
    }
    rules::one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], &mut errors);
    let template = spec.get("jobTemplate");
    let template = template.get("spec");
    job::validate_spec(&template, &mut errors);
    let (selector, manual) = (template.get("selector"), template.get("manualSelector"));
    if selector.is_set() {
        errors.push(selector.invalid("`selector` will be auto-generated"));
    }
    if manual.bool() == Some(true) {
        errors.push(manual.not_supported(&["nil", "false"]));
    }
    rules::not_negative(&spec.get("successfulJobsHistoryLimit"), &mut errors);
    rules::not_negative(&spec.get("failedJobsHistoryLimit"), &mut errors);
    errors
}

/// A name of the time zone database (<https://data.iana.org/time-zones/theory.html#naming>), and one that is in it.
fn time_zone(zone: &Field, errors: &mut Vec<FieldError>) {
    const PART_MAX_BYTES: usize = 14;
    let name = zone.text();
    if name.is_empty() {
        errors.push(zone.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        (1..=PART_MAX_BYTES).contains(&part.len())
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    let unknown = || zone.invalid(format!("unknown time zone {name}"));
    if !name.split('/').all(is_part) {
        errors.push(unknown());
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(zone.invalid(detail));
    }
    if name != "Local" && schedule::time_zone(name).is_none() {
        errors.push(unknown());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update, yaml};

    #[test]
    fn rules() {
        check(
            "cronjobs",
            "{metadata: {name: a, namespace: b}, spec: {schedule: '61 * * * *', concurrencyPolicy: Odd, timeZone: '', jobTemplate: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}",
            expect![[r#"
                spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61
                spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string
                spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"
                spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
            "#]],
        );
    }

    fn job(spec: &str) -> String {
        format!(
            "{{metadata: {{name: a, namespace: b, resourceVersion: '1'}}, spec: {{schedule: '@daily', {spec}, jobTemplate: {{spec: {{template: \
             {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}}}}}"
        )
    }

    #[test]
    fn zones_are_those_of_the_database() {
        for (zone, expected) in [
            ("Europe/Berlin", ""),
            ("Etc/GMT+5", ""),
            (
                "local",
                r#"timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones; unknown time zone local"#,
            ),
            ("Local", "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
            ("Europe/Nowhere", "unknown time zone Europe/Nowhere"),
            ("europe/berlin", "unknown time zone europe/berlin"),
            ("Etc/Unknown", "unknown time zone Etc/Unknown"),
            ("../etc/passwd", "unknown time zone ../etc/passwd"),
            ("Europe//Berlin", "unknown time zone Europe//Berlin"),
            ("Abcdefghijklmno", "unknown time zone Abcdefghijklmno"),
        ] {
            let errors = CronJob.validate(&yaml(&job(&format!("timeZone: {zone}"))));
            let of_zone = errors.into_iter().filter(|error| error.field == "spec.timeZone");
            let told: Vec<String> = of_zone.map(|error| error.detail).collect();
            assert_eq!(told.join("; "), expected, "{zone}");
        }
        // One that is there already is not looked at again.
        let unknown = job("timeZone: Europe/Nowhere");
        check_update("cronjobs", &unknown, &unknown, expect![""]);
    }

    #[test]
    fn names_leave_room_and_selectors_are_made() {
        let long = job("suspend: true").replace("name: a,", &format!("name: {},", "a".repeat(53)));
        check(
            "cronjobs",
            &long.replace("jobTemplate: {spec: {", "jobTemplate: {spec: {manualSelector: true, selector: {}, "),
            expect![[r#"
                spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated
                spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"
                metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters
            "#]],
        );
        check_update("cronjobs", &long, &long, expect![""]);
        let warning = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label \
                       is recommended: [must not contain dots]";
        assert_eq!(CronJob.warnings(&yaml("{metadata: {name: a.b}}")), [warning]);
    }

    #[test]
    fn defaults() {
        check_default(
            "cronjobs",
            "{spec: {schedule: '@daily'}}",
            expect![[r#"
            metadata: {}
            spec:
              concurrencyPolicy: Allow
              failedJobsHistoryLimit: 1
              jobTemplate:
                metadata: {}
                spec:
                  template:
                    metadata: {}
                    spec:
                      dnsPolicy: ClusterFirst
                      restartPolicy: Always
                      schedulerName: default-scheduler
                      securityContext: {}
                      terminationGracePeriodSeconds: 30
              schedule: "@daily"
              successfulJobsHistoryLimit: 3
              suspend: false
            status: {}
        "#]],
        );
        check_row(
            "cronjobs",
            "{metadata: {name: a}, spec: {schedule: '@daily', suspend: false}, status: {lastScheduleTime: '2026-01-01T00:00:00Z'}}",
            expect![
                "Name=a | Schedule=@daily | Timezone=<none> | Suspend=False | Active=0 | Last Schedule=60m | Age=<unknown> | Containers= | Images= | Selector=<none>"
            ],
        );
    }
}
