//! PriorityLevelConfiguration: how many requests of a level are served at once, and what becomes of the others.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::mandatory;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, text};
use crate::rules;

/// Queues per level.
const MAX_QUEUES: i64 = 10_000_000;
const MAX_HASH_BITS: f64 = 60.0;
const DEFAULT_SHARES: i64 = 30;
/// What a level that queues defaults.
const QUEUING: [(&str, i64); 3] = [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)];

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration";
    KindDef::builtin(super::GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", schema)
        .cluster_scoped()
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::at("Type", "string", "spec.type"),
            Column::text("NominalConcurrencyShares", |level, _| {
                or_none(
                    get(level, &["spec", "limited", "nominalConcurrencyShares"])
                        .or_else(|| get(level, &["spec", "exempt", "nominalConcurrencyShares"])),
                )
            }),
            Column::text("Queues", |level, _| queuing(level, "queues")),
            Column::text("HandSize", |level, _| queuing(level, "handSize")),
            Column::text("QueueLengthLimit", |level, _| queuing(level, "queueLengthLimit")),
            Column::age(),
        ])
        .strategy(PriorityLevelConfiguration)
}

fn queuing(level: &Value, field: &str) -> Value {
    or_none(get(level, &["spec", "limited", "limitResponse", "queuing", field]))
}

fn or_none(value: Option<&Value>) -> Value {
    value.cloned().unwrap_or_else(|| "<none>".into())
}

struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn default(&self, level: &mut Value) {
        if let Some(exempt) = object::get_mut(level, &["spec", "exempt"]).and_then(Value::as_object_mut) {
            shares(exempt, 0);
        }
        let Some(limited) = object::get_mut(level, &["spec", "limited"]).and_then(Value::as_object_mut) else { return };
        shares(limited, DEFAULT_SHARES);
        let queuing = limited.get_mut("limitResponse").and_then(|response| response.get_mut("queuing"));
        if let Some(queuing) = queuing.and_then(Value::as_object_mut) {
            for (name, default) in QUEUING {
                if queuing.get(name).and_then(Value::as_i64).unwrap_or_default() == 0 {
                    queuing.insert(name.to_owned(), default.into());
                }
            }
        }
    }

    fn validate(&self, level: &Value) -> Vec<FieldError> {
        let root = Field::root(level);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let type_ = spec.get("type");
        let name = text(level, &["metadata", "name"]);
        if (name == "exempt") != (type_.text() == "Exempt") {
            errors.push(type_.invalid("type must be 'Exempt' if and only if `name` is 'exempt'"));
        }
        let (exempt, limited) = (spec.get("exempt"), spec.get("limited"));
        match type_.text() {
            "Exempt" => {
                if limited.is_set() {
                    errors.push(limited.forbidden("must be nil if the type is not Limited"));
                }
                concurrency(&exempt, &mut errors);
            }
            "Limited" => {
                if exempt.is_set() {
                    errors.push(exempt.forbidden("must be nil if the type is not Exempt"));
                }
                if limited.is_set() {
                    limit_response(&limited.get("limitResponse"), &mut errors);
                    concurrency(&limited, &mut errors);
                } else {
                    errors.push(limited.required("must not be empty when type is Limited"));
                }
            }
            _ => errors.push(type_.not_supported(&["Exempt", "Limited"])),
        }
        mandatory::check_priority_level(name, &spec, &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let mut errors = Vec::new();
        mandatory::conditions(&root.get("status"), &mut errors);
        errors
    }
}

fn concurrency(part: &Field, errors: &mut Vec<FieldError>) {
    let shares = part.get("nominalConcurrencyShares");
    if shares.int().is_some_and(|shares| shares < 0) {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
    rules::between(&part.get("lendablePercent"), 0, 100, errors);
    let borrowing = part.get("borrowingLimitPercent");
    if borrowing.int().is_some_and(|percent| percent < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn shares(part: &mut Map<String, Value>, default: i64) {
    object::set_default(part, "nominalConcurrencyShares", default);
    object::set_default(part, "lendablePercent", 0);
}

fn limit_response(response: &Field, errors: &mut Vec<FieldError>) {
    let (type_, queuing) = (response.get("type"), response.get("queuing"));
    match (type_.text(), queuing.is_set()) {
        ("Queue", false) => errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited")),
        ("Queue", true) => self::queues(&queuing, errors),
        ("Reject", true) => errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited")),
        ("Reject", false) => {}
        _ => errors.push(type_.not_supported(&["Queue", "Reject"])),
    }
}

fn queues(queuing: &Field, errors: &mut Vec<FieldError>) {
    let number = |name: &str| queuing.get(name).int().unwrap_or_default();
    let positive = |name: &str, errors: &mut Vec<FieldError>| {
        let is_positive = number(name) > 0;
        if !is_positive {
            errors.push(FieldError::invalid(&queuing.get(name).path, number(name), "must be positive"));
        }
        is_positive
    };
    positive("queueLengthLimit", errors);
    let (queues, hand) = (number("queues"), number("handSize"));
    if positive("queues", errors) && queues > MAX_QUEUES {
        errors.push(queuing.get("queues").invalid(format!("must not be greater than {MAX_QUEUES}")));
    }
    if !positive("handSize", errors) {
        return;
    }
    // A hand is dealt by the bits of a hash.
    let bits = (queues.max(1) as f64).log2() * hand as f64;
    if hand > queues {
        errors.push(queuing.get("handSize").invalid(format!("should not be greater than queues ({queues})")));
    } else if bits.ceil() > MAX_HASH_BITS {
        errors.push(queuing.get("handSize").invalid(format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        )));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

    #[test]
    fn rules() {
        check(
            "prioritylevelconfigurations",
            "{metadata: {name: a}, spec: {type: Limited, exempt: {}, limited: {lendablePercent: 101, limitResponse: {type: Queue, queuing: {queues: 4}}}}}",
            expect![[r#"
                spec.exempt: Forbidden: must be nil if the type is not Exempt
                spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)
                spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
            "#]],
        );
    }

    #[test]
    fn defaults() {
        let level =
            "{metadata: {name: a}, spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}}";
        check_default(
            "prioritylevelconfigurations",
            level,
            expect![[r#"
                metadata:
                  name: a
                spec:
                  limited:
                    lendablePercent: 0
                    limitResponse:
                      queuing:
                        handSize: 8
                        queueLengthLimit: 50
                        queues: 64
                      type: Queue
                    nominalConcurrencyShares: 30
                  type: Limited
                status: {}
            "#]],
        );
        check_row(
            "prioritylevelconfigurations",
            "{metadata: {name: exempt}, spec: {type: Exempt, exempt: {nominalConcurrencyShares: 0}}}",
            expect![
                "Name=exempt | Type=Exempt | NominalConcurrencyShares=0 | Queues=<none> | HandSize=<none> | QueueLengthLimit=<none> | Age=<unknown>"
            ],
        );
    }

    #[test]
    fn exempt_is_exempt_alone() {
        check(
            "prioritylevelconfigurations",
            "{metadata: {name: exempt}, spec: {type: Limited}}",
            expect![[r#"
            spec.type: Invalid value: "Limited": type must be 'Exempt' if and only if `name` is 'exempt'
            spec.limited: Required value: must not be empty when type is Limited
            spec: Invalid value: {"type":"Limited"}: spec of 'exempt' except the 'spec.exempt' field must equal the fixed value
        "#]],
        );
        check(
            "prioritylevelconfigurations",
            "{metadata: {name: exempt}, spec: {type: Exempt, exempt: {nominalConcurrencyShares: 9}}}",
            expect![[""]],
        );
        check(
            "prioritylevelconfigurations",
            "{metadata: {name: a}, spec: {type: Exempt, limited: {limitResponse: {type: Queue}}}}",
            expect![[r#"
                spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if `name` is 'exempt'
                spec.limited: Forbidden: must be nil if the type is not Limited
            "#]],
        );
        check(
            "prioritylevelconfigurations",
            "{metadata: {name: catch-all}, spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 128, handSize: 20}}}}}",
            expect![[r#"
                spec.limited.limitResponse.queuing.handSize: Invalid value: 20: required entropy bits of deckSize 128 and handSize 20 should not be greater than 60
                spec: Invalid value: {"limited":{"lendablePercent":0,"limitResponse":{"queuing":{"handSize":20,"queueLengthLimit":50,"queues":128},"type":"Queue"},"nominalConcurrencyShares":30},"type":"Limited"}: spec of 'catch-all' must equal the fixed value
            "#]],
        );
    }
}
