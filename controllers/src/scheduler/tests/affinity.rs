use super::*;

fn term(kind: &str, selector: &str, more: &str) -> String {
    format!(
        "affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: \
         [{{topologyKey: zone, labelSelector: {selector}, {more}}}]}}}}"
    )
}

const APP: &str = "{matchLabels: {app: a}}";

/// Zone `a` with two nodes, zone `b` with one, and a node without a zone.
fn zones() -> String {
    [node("a1", "zone: a", ""), node("a2", "zone: a", ""), node("b1", "zone: b", ""), node("none", "", "")].concat()
}

#[test]
fn a_pod_goes_where_its_company_is() {
    let world = |other: String| [zones(), other, pod(&term("podAffinity", APP, ""), "")];
    assert_eq!(place(&world(running("q", "b1", "app: a", ""))), "b1");
    expect!["0/4 nodes are available: 4 node(s) didn't match pod affinity rules. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&world(running("q", "b1", "app: b", ""))));
    expect!["0/4 nodes are available: 4 node(s) didn't match pod affinity rules. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."]
        .assert_eq(&place(&world(running("q", "none", "app: a", ""))));
}

#[test]
fn the_first_of_a_group_founds_it() {
    let founder = labelled("p", "app: a", &term("podAffinity", APP, ""), "");
    assert_ne!(place(&[zones(), founder.clone()]), "none", "a node without the label is in no domain");
    assert_eq!(place(&[zones(), running("q", "b1", "app: a", ""), founder]), "b1");
}

#[test]
fn a_pod_avoids_others_and_others_avoid_it() {
    let far = term("podAntiAffinity", APP, "");
    let on_both = [running("q", "a1", "app: a", ""), running("r", "b1", "app: a", "")].concat();
    assert_eq!(place(&[zones(), on_both, pod(&far, "")]), "none");
    let holders = [running("q", "a1", "", &far), running("r", "b1", "", &far)].concat();
    assert_eq!(place(&[zones(), holders.clone(), labelled("p", "app: a", "", "")]), "none");
    let small = zones().replace("pods: '3'", "pods: '1'");
    let taken = running("s", "none", "", "");
    expect!["0/4 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules, 3 Too many pods. no new claims to deallocate, preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod."]
        .assert_eq(&place(&[small, holders, taken, labelled("p", "app: a", "", "")]));
}

#[test]
fn terms_choose_namespaces_by_name_and_by_label() {
    let elsewhere = running("q", "b1", "app: a", "").replace("namespace: ns", "namespace: other");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: x}}\n---\n".to_owned();
    let with =
        |more: &str| place(&[namespace.clone(), zones(), elsewhere.clone(), pod(&term("podAffinity", APP, more), "")]);
    assert!(with("").starts_with("0/4"), "the pod's own namespace alone");
    assert_eq!(with("namespaces: [other]"), "b1");
    assert_eq!(with("namespaceSelector: {matchLabels: {team: x}}"), "b1");
    assert_eq!(with("namespaceSelector: {}"), "b1");
    assert!(with("namespaceSelector: {matchLabels: {team: z}}").starts_with("0/4"));
}

#[test]
fn a_namespace_gets_its_label_later() {
    let namespace = |labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: other, labels: {{{labels}}}}}\n---\n")
    };
    let elsewhere = running("q", "b1", "app: a", "").replace("namespace: ns", "namespace: other");
    let near = term("podAffinity", APP, "namespaceSelector: {matchLabels: {team: x}}");
    let mut bench = bench(&[namespace(""), zones(), elsewhere, pod(&near, "")]);
    assert!(outcome(&mut bench, "p").starts_with("0/4"));
    wakes(&mut bench, &namespace("team: x"));
    assert_eq!(outcome(&mut bench, "p"), "b1");
}

#[test]
fn match_label_keys_narrow_a_term() {
    let near = |more: &str| labelled("p", "version: v2", &term("podAffinity", APP, more), "");
    let versions = [running("q", "a1", "app: a, version: v1", ""), running("r", "b1", "app: a, version: v2", "")];
    assert_eq!(place(&[zones(), versions.concat(), near("matchLabelKeys: [version]")]), "b1");
    assert_ne!(place(&[zones(), versions.concat(), near("mismatchLabelKeys: [version]")]), "b1");
}

#[test]
fn one_pod_must_satisfy_all_terms() {
    let both = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [\
                {topologyKey: zone, labelSelector: {matchLabels: {app: a}}}, \
                {topologyKey: zone, labelSelector: {matchLabels: {tier: x}}}]}}";
    let halves = [running("q", "a1", "app: a", ""), running("r", "a2", "tier: x", "")].concat();
    assert!(place(&[zones(), halves, pod(both, "")]).starts_with("0/4"));
    assert_eq!(place(&[zones(), running("q", "b1", "app: a, tier: x", ""), pod(both, "")]), "b1");
}

#[test]
fn preferences_weigh_both_ways() {
    let prefers = |kind: &str| {
        format!(
            "affinity: {{{kind}: {{preferredDuringSchedulingIgnoredDuringExecution: \
             [{{weight: 50, podAffinityTerm: {{topologyKey: zone, labelSelector: {APP}}}}}]}}}}"
        )
    };
    let nodes = [node("a1", "zone: a", ""), node("b1", "zone: b", "")].concat();
    let there = running("q", "b1", "app: a", "");
    assert_eq!(place(&[nodes.clone(), there.clone(), pod(&prefers("podAffinity"), "")]), "b1");
    assert_eq!(place(&[nodes.clone(), there, pod(&prefers("podAntiAffinity"), "")]), "a1");
    let admirer = running("q", "b1", "", &prefers("podAffinity"));
    assert_eq!(place(&[nodes.clone(), admirer, labelled("p", "app: a", "", "")]), "b1");
    let holder = running("q", "b1", "", &term("podAffinity", APP, ""));
    assert_eq!(place(&[nodes, holder, labelled("p", "app: a", "", "")]), "b1", "who requires it likes it too");
}

#[test]
fn a_node_that_changes_its_zone_takes_its_pods_along() {
    let near = pod(&term("podAffinity", APP, ""), "");
    let mut bench = bench(&[zones(), running("q", "b1", "app: a", ""), near]);
    wakes(&mut bench, &node("b1", "zone: a", "unschedulable: true"));
    assert!(["a1", "a2"].contains(&outcome(&mut bench, "p").as_str()));
}

#[test]
fn selectors_of_terms_take_every_operator() {
    let one = |labels: &str| [node("m", "region: r1", ""), running("q", "m", labels, "")].concat();
    let asks = |labels: &str, kind: &str, expressions: &str| {
        let selector = format!("{{matchExpressions: [{expressions}]}}");
        let spec = term(kind, &selector, "").replace("topologyKey: zone", "topologyKey: region");
        labelled("p", labels, &spec, "")
    };
    let needs = |kind: &str, expressions: &str| asks("", kind, expressions);
    const IN: &str = "{key: service, operator: In, values: [scan, other]}";
    const NOT_IN: &str = "{key: service, operator: NotIn, values: [other]}";
    const EXISTS: &str = "{key: service, operator: Exists}";
    const LACKS: &str = "{key: wrong, operator: DoesNotExist}";
    let all = [IN, NOT_IN, EXISTS, LACKS].join(", ");
    for expressions in [IN, NOT_IN, EXISTS, LACKS, &all] {
        assert_eq!(verdicts(&[one("service: scan"), needs("podAffinity", expressions)]), "m: yes", "{expressions}");
        assert_eq!(
            verdicts(&[one("service: scan"), needs("podAntiAffinity", expressions)]),
            "m: later",
            "{expressions}"
        );
    }
    // The pod has the same labels, or the first of its kind would be let in.
    for (labels, expressions) in [
        ("service: third", IN),
        ("service: other", NOT_IN),
        ("purpose: scan", EXISTS),
        ("wrong: scan", LACKS),
        ("service: other", all.as_str()),
    ] {
        assert_eq!(
            verdicts(&[one(labels), asks(labels, "podAffinity", expressions)]),
            "m: never",
            "{expressions} of {labels}"
        );
        assert_eq!(
            verdicts(&[one(labels), asks(labels, "podAntiAffinity", expressions)]),
            "m: yes",
            "{expressions} of {labels}"
        );
    }
}

#[test]
fn terms_of_both_sides_must_hold() {
    let far = term("podAntiAffinity", "{matchLabels: {app: b}}", "");
    let near = |app: &str| term("podAffinity", &format!("{{matchLabels: {{app: {app}}}}}"), "");
    let there = |spec: &str| running("q", "b1", "app: a", spec);
    let both = near("a").replace(
        "affinity: {",
        "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                [{topologyKey: zone, labelSelector: {matchLabels: {app: c}}}]}, ",
    );
    let asks = |labels: &str, spec: &str| labelled("p", labels, spec, "");
    assert_eq!(verdicts(&[zones(), there(""), asks("app: b", &both)]), "a1: never, a2: never, b1: yes, none: never");
    assert_eq!(
        verdicts(&[zones(), there(&far), asks("app: b", &both)]),
        "a1: never, a2: never, b1: later, none: never"
    );
    let crowded = [there(""), running("r", "b1", "app: c", "")].concat();
    assert_eq!(verdicts(&[zones(), crowded, asks("app: b", &both)]), "a1: never, a2: never, b1: later, none: never");
    // Who wants itself and others finds no others.
    let two = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [\
               {topologyKey: zone, labelSelector: {matchLabels: {app: a}}}, \
               {topologyKey: region, labelSelector: {matchLabels: {app: a}}}]}}";
    assert_eq!(verdicts(&[zones(), asks("app: a", two)]), "a1: never, a2: never, b1: never, none: never");
}

/// Terms about pods that have a label, each with the topology it is about.
fn having(kind: &str, terms: &[(&str, &str)]) -> String {
    let term = |(label, key): &(&str, &str)| {
        format!("{{topologyKey: {key}, labelSelector: {{matchExpressions: [{{key: {label}, operator: Exists}}]}}}}")
    };
    let terms: Vec<String> = terms.iter().map(term).collect();
    format!("affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}}", terms.join(", "))
}

#[test]
fn each_term_is_about_its_own_topology() {
    const FAR: &str = "podAntiAffinity";
    const NEAR: &str = "podAffinity";
    // A region of three zones, with a node each.
    let nodes: String = ["a", "b", "c"].map(|name| node(name, &format!("region: r, zone: {name}"), "")).concat();
    // The pods there, each on a node with labels and a spec; the labels and the spec of the pod.
    type There<'t> = &'t [(&'t str, &'t str, String)];
    let check = |there: There, labels: &str, spec: &str| {
        let there =
            there.iter().enumerate().map(|(at, (on, labels, spec))| running(&format!("q{at}"), on, labels, spec));
        let world = [nodes.clone(), there.collect(), labelled("p", labels, spec, "")];
        verdicts(&world).replace("a: ", "").replace(" b: ", " ").replace(" c: ", " ")
    };
    let far = |terms: &[(&str, &str)]| having(FAR, terms);
    let near = |terms: &[(&str, &str)]| having(NEAR, terms);
    let plain = String::new;
    const BOTH: &str = "foo: '', bar: ''";
    const FOO: &str = "foo: ''";
    const BAR: &str = "bar: ''";
    // Those that are there don't want it, or it doesn't want them.
    assert_eq!(check(&[("a", "", far(&[("foo", "rack")]))], FOO, ""), "yes, yes, yes");
    assert_eq!(check(&[("a", FOO, plain())], "", &far(&[("foo", "rack")])), "yes, yes, yes");
    let apart = [("a", "", far(&[("foo", "zone")])), ("a", "", far(&[("bar", "region")]))];
    assert_eq!(check(&apart, BOTH, ""), "later, later, later");
    assert_eq!(check(&apart, FOO, ""), "later, yes, yes");
    let there = [("a", FOO, plain()), ("b", BAR, plain())];
    assert_eq!(check(&there, "", &far(&[("foo", "zone"), ("bar", "region")])), "later, later, later");
    assert_eq!(check(&there, "", &far(&[("foo", "zone"), ("bar", "zone")])), "later, later, yes");
    let (one_nowhere, wide) = (far(&[("foo", "rack"), ("bar", "zone")]), far(&[("foo", "region"), ("bar", "zone")]));
    assert_eq!(check(&[("a", "", one_nowhere.clone())], BOTH, ""), "later, yes, yes");
    assert_eq!(check(&[("a", BOTH, plain())], "", &one_nowhere), "later, yes, yes");
    assert_eq!(check(&[("a", "", wide.clone())], BOTH, ""), "later, later, later");
    assert_eq!(check(&[("a", BOTH, plain())], "", &wide), "later, later, later");
    let each_one =
        [("a", "", far(&[("foo", "zone"), ("x", "zone")])), ("b", "", far(&[("bar", "zone"), ("z", "zone")]))];
    assert_eq!(check(&each_one, BOTH, ""), "later, later, yes");
    // Both don't want each other, by one term of several.
    let two = far(&[("foo", "zone"), ("bar", "zone")]);
    assert_eq!(check(&[("a", BAR, far(&[("bar", "zone")]))], FOO, &two), "later, yes, yes");
    assert_eq!(check(&[("a", FOO, two.clone())], BAR, &far(&[("bar", "zone")])), "later, yes, yes");
    assert_eq!(check(&[("a", "bar: '', x: ''", two.clone())], "foo: '', x: ''", &two), "later, yes, yes");
    // One pod must satisfy all terms, each in its own topology.
    let together = near(&[("foo", "region"), ("bar", "zone")]);
    assert_eq!(check(&[("a", BOTH, plain())], "", &together), "yes, never, never");
    assert_eq!(check(&there, "", &together), "never, never, never");
    let nowhere = near(&[("foo", "zone"), ("bar", "rack")]);
    assert_eq!(check(&[("a", BOTH, plain())], BOTH, &nowhere), "never, never, never");
}
