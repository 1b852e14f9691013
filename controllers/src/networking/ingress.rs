//! Says in an Ingress's status where it can be reached, if its class is ours.

use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus};

use crate::config::IngressAddress;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::Plan;
use crate::pods::is_deleting;
use crate::resource::{INGRESSES, Key};
use crate::world::{Delta, Object, World};

/// The way to name a class before `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub struct Ingresses {
    controller: String,
    addresses: Vec<IngressAddress>,
}

impl Controller for Ingresses {
    fn name(&self) -> &'static str {
        "ingress-status"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Ingress(ingress) => wake.now(Key::of(&ingress.metadata)),
            Object::IngressClass(_) => world.ingresses.iter().for_each(|i| wake.now(Key::of(&i.metadata))),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.ingresses.by_key(key) {
            Some(ingress) if self.is_ours(ingress, world) => self.publish(ingress),
            _ => Plan::none(),
        }
    }
}

impl Ingresses {
    /// `controller`: `spec.controller` of our classes. Without addresses nothing is published.
    pub fn new(controller: &str, addresses: &[IngressAddress]) -> Self {
        Self { controller: controller.into(), addresses: addresses.into() }
    }

    fn is_ours(&self, ingress: &Ingress, world: &World) -> bool {
        let named = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_ref());
        let class = named.or_else(|| ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION));
        let class = class.and_then(|name| world.ingress_classes.get("", name));
        class.and_then(|c| c.spec.as_ref()?.controller.as_ref()) == Some(&self.controller)
    }

    fn publish(&self, ingress: &Ingress) -> Plan {
        let mut plan = Plan::none();
        let wanted: Vec<_> = self.addresses.iter().map(entry).collect();
        let current = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        if wanted.is_empty() || current == Some(&wanted) || is_deleting(&ingress.metadata) {
            return plan;
        }
        let load_balancer = Some(IngressLoadBalancerStatus { ingress: Some(wanted) });
        plan.update_status(&INGRESSES, &Ingress { status: Some(IngressStatus { load_balancer }), ..ingress.clone() });
        plan
    }
}

fn entry(address: &IngressAddress) -> IngressLoadBalancerIngress {
    match address {
        IngressAddress::Ip(ip) => IngressLoadBalancerIngress { ip: Some(ip.to_string()), ..Default::default() },
        IngressAddress::Hostname(name) => {
            IngressLoadBalancerIngress { hostname: Some(name.clone()), ..Default::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    fn check(metadata: &str, spec: &str, expect: Expect) {
        let world = format!(
            "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: k8w}}
spec: {{controller: k8w.dev/ingress}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: nginx}}
spec: {{controller: k8s.io/ingress-nginx}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{namespace: ns, name: web{metadata}}}
spec: {{{spec}}}
"
        );
        let addresses = [IngressAddress::Ip([127, 0, 0, 1].into()), IngressAddress::Hostname("here.test".into())];
        let mut bench = Bench::new(Ingresses::new("k8w.dev/ingress", &addresses), &world);
        expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:00:00Z")));
    }

    #[test]
    fn only_ingresses_of_our_class_get_our_address() {
        check(
            "",
            "ingressClassName: k8w",
            expect![[r#"
            update ingresses ns/web status: {"loadBalancer":{"ingress":[{"ip":"127.0.0.1"},{"hostname":"here.test"}]}}
        "#]],
        );
        check(
            ", annotations: {kubernetes.io/ingress.class: k8w}",
            "",
            expect![[r#"
            update ingresses ns/web status: {"loadBalancer":{"ingress":[{"ip":"127.0.0.1"},{"hostname":"here.test"}]}}
        "#]],
        );
        check("", "ingressClassName: nginx", expect![]);
        check("", "", expect![]);
    }
}
