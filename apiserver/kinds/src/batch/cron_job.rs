//! CronJob: Jobs at times that a schedule says.

use serde_json::{Value, json};

use super::job;
use super::schedule::Schedule;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{age, names, rules};

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

    fn validate_name(&self, name: &str) -> Vec<String> {
        let mut wrong = names::dns_subdomain(name);
        if name.len() > NAME_MAX_BYTES {
            wrong.push("must be no more than 52 characters".to_owned());
        }
        wrong
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
        rules::one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"], &mut errors);
        rules::not_negative(&spec.get("successfulJobsHistoryLimit"), &mut errors);
        rules::not_negative(&spec.get("failedJobsHistoryLimit"), &mut errors);
        let zone = spec.get("timeZone");
        if zone.is_set() && zone.is_empty() {
            errors.push(zone.invalid("timeZone must be nil or non-empty string"));
        } else if zone.text().eq_ignore_ascii_case("local") {
            errors.push(
                zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
            );
        }
        let template = spec.get("jobTemplate");
        job::validate_spec(&template.get("spec"), &mut errors);
        if template.get("spec").get("manualSelector").bool() == Some(true) {
            errors.push(template.get("spec").get("manualSelector").not_supported(&["nil", "false"]));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

    #[test]
    fn rules() {
        check(
            "cronjobs",
            "{metadata: {name: a, namespace: b}, spec: {schedule: '61 * * * *', concurrencyPolicy: Odd, timeZone: '', jobTemplate: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}",
            expect![[r#"
                spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61
                spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"
                spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string
                spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
            "#]],
        );
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
