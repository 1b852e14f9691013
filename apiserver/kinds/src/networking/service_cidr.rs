//! ServiceCIDR: a range that Services get their addresses from.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::list;
use crate::{addresses, rules};

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
        Shape::STATUS
    }

    fn default(&self, range: &mut Value) {
        kind::default_condition_times(range);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let root = Field::root(object);
        let spec = root.get("spec");
        let ranges = spec.get("cidrs");
        let mut errors = Vec::new();
        let shown = |detail: &str| FieldError::invalid(&ranges.path, spec.value().cloned().unwrap_or_default(), detail);
        let families =
            ranges.items().map(|range| addresses::read_range(range.text()).0.map(|range| range.addr().is_ipv4()));
        match families.collect::<Vec<_>>()[..] {
            [] => errors.push(ranges.required("at least one CIDR required")),
            [_] => {}
            [Some(first), Some(second)] if first != second => {}
            [_, _] => errors.push(shown(
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            )),
            _ => errors.push(shown("may only hold up to 2 values")),
        }
        if errors.is_empty() {
            ranges.items().for_each(|range| addresses::canonical_range(&range, &mut errors));
        }
        errors
    }

    /// What there is stays; a range of the other family may be added.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let (new, old) = (new.get("cidrs"), old.get("cidrs"));
        if new.len() != old.len() && (old.len(), new.len()) != (1, 2) {
            rules::immutable(&new, &old, &mut errors);
            return errors;
        }
        for (range, before) in new.items().zip(old.items()) {
            rules::immutable(&range, &before, &mut errors);
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn ranges() {
        let with =
            |ranges: &str| format!("{{metadata: {{name: a, resourceVersion: '1'}}, spec: {{cidrs: [{ranges}]}}}}");
        check("servicecidrs", &with("10.0.0.0/8, 'fd00::/64'"), expect![""]);
        check(
            "servicecidrs",
            &with("10.0.0.1/8"),
            expect![[r#"
                spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
            "#]],
        );
        check(
            "servicecidrs",
            &with("'FD00::/64'"),
            expect![[r#"
                spec.cidrs[0]: Invalid value: "FD00::/64": must be in canonical form ("fd00::/64")
            "#]],
        );
        check(
            "servicecidrs",
            &with("10.0.0.0/8, x"),
            expect![[r#"
                spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/8","x"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64
            "#]],
        );
        check(
            "servicecidrs",
            &with("10.0.0.0/8, x, z"),
            expect![[r#"
                spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/8","x","z"]}: may only hold up to 2 values
            "#]],
        );
        let one = with("10.0.0.0/8");
        check_update("servicecidrs", &one, &with("10.0.0.0/8, 'fd00::/64'"), expect![""]);
        check_update(
            "servicecidrs",
            &one,
            &with("11.0.0.0/8"),
            expect![[r#"
                spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable
            "#]],
        );
        check_update(
            "servicecidrs",
            &with("10.0.0.0/8, 'fd00::/64'"),
            &one,
            expect![[r#"
                spec.cidrs: Invalid value: ["10.0.0.0/8"]: field is immutable
            "#]],
        );
        check_row(
            "servicecidrs",
            "{metadata: {name: a}, spec: {cidrs: [10.0.0.0/8, 'fd00::/64']}}",
            expect!["Name=a | CIDRs=10.0.0.0/8,fd00::/64 | Age=<unknown>"],
        );
    }
}
