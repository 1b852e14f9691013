//! ServiceCIDR: a range that Services get their addresses from.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::list;
use crate::rules;

pub fn definition() -> KindDef {
    KindDef::builtin("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "io.k8s.api.networking.v1.ServiceCIDR")
        .cluster_scoped()
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("CIDRs", |object, _| {
                let ranges = list(object, &["spec", "cidrs"]).iter().filter_map(Value::as_str);
                ranges.collect::<Vec<_>>().join(",").into()
            }),
            Column::age(),
        ])
        .strategy(ServiceCidr)
}

struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, range: &mut Value) {
        kind::default_condition_times(range);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let root = Field::root(object);
        let spec = root.get("spec");
        let ranges = spec.get("cidrs");
        let mut errors = Vec::new();
        match ranges.len() {
            0 => errors.push(ranges.required("at least one CIDR required")),
            1 | 2 => {}
            _ => errors.push(ranges.invalid("may only hold up to 2 values")),
        }
        let parsed: Vec<Option<ipnet::IpNet>> = ranges.items().map(|r| r.text().parse().ok()).collect();
        for (field, range) in ranges.items().zip(&parsed) {
            match range {
                None => errors.push(field.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
                Some(range) if range.addr() != range.network() => {
                    errors.push(field.invalid("must not have bits set beyond the prefix length"));
                }
                Some(_) => {}
            }
        }
        if let [Some(first), Some(second)] = parsed[..]
            && first.addr().is_ipv4() == second.addr().is_ipv4()
        {
            errors.push(
                ranges.invalid(
                    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
                ),
            );
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let kept = old.get("cidrs").items().zip(new.get("cidrs").items()).all(|(a, b)| a.text() == b.text());
        if !kept || new.get("cidrs").len() < old.get("cidrs").len() {
            rules::immutable(&new.get("cidrs"), &old.get("cidrs"), &mut errors);
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn ranges() {
        check(
            "servicecidrs",
            "{metadata: {name: a}, spec: {cidrs: [10.0.0.1/8, x]}}",
            expect![[r#"
            spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
            spec.cidrs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]],
        );
        check_row(
            "servicecidrs",
            "{metadata: {name: a}, spec: {cidrs: [10.0.0.0/8, 'fd00::/64']}}",
            expect!["Name=a | CIDRs=10.0.0.0/8,fd00::/64 | Age=<unknown>"],
        );
    }
}
