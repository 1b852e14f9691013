//! NetworkPolicies for clients that come by the kernel.

use std::io::ErrorKind;
use std::sync::Arc;

use k8w_networking::{Objects, Tables, policy};
use k8w_testkit::{Neighbour, THERE};
use serde_json::{Value, json};

use crate::harness::*;

/// Of a pod of another node, beside the neighbour's own.
const ELSEWHERE: &str = "10.244.1.5";

fn tables(from: Value) -> Tables {
    let pod = |uid: &str, ip: &str, app: &str| {
        let object = json!({
            "metadata": {"namespace": "default", "uid": uid, "labels": {"app": app}},
            "spec": {"containers": []}, "status": {"podIP": ip},
        });
        Arc::new(policy::Pod::of(&serde_json::from_value(object).unwrap()).unwrap())
    };
    let policy = json!({
        "metadata": {"namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": from}]},
    });
    let objects = Objects {
        network_policies: &[Arc::new(serde_json::from_value(policy).unwrap())],
        pods: &[pod("pod-0-3", "10.64.0.3", "server"), pod("elsewhere", ELSEWHERE, "client")],
        ..Objects::default()
    };
    Tables::build(&objects, "here")
}

pub fn clients_are_told_apart_by_their_addresses() {
    let neighbour = Neighbour::new();
    neighbour.add_address(ELSEWHERE.parse().unwrap());
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let telling = tell_peers(&network, &pod(3), 5432).await;
        let server = "10.64.0.3:5432";
        let hears = |source: &str| {
            let source = source.to_owned();
            neighbour.run(move || hear_from(source.parse().unwrap(), at(server)))
        };
        let (client, there) = (ELSEWHERE.to_owned(), THERE.to_string());
        once_open(server).await;
        let label = |app: &str| json!([{"podSelector": {"matchLabels": {"app": app}}}]);
        let block = |cidr: &str, except: &[&str]| json!([{"ipBlock": {"cidr": cidr, "except": except}}]);
        for (from, allowed) in [
            (json!([]), vec![&client, &there]),
            (label("client"), vec![&client]),
            (label("nobody"), vec![]),
            (block("192.0.2.0/24", &[]), vec![&there]),
            (block("192.0.2.0/24", &["192.0.2.2/32"]), vec![]),
            (block("0.0.0.0/0", &["192.0.2.0/24"]), vec![&client]),
        ] {
            network.update(tables(from.clone()));
            for source in [&client, &there] {
                match hears(source) {
                    Ok(said) => assert!(allowed.contains(&source) && said == *source, "{source} with {from}: {said}"),
                    Err(error) => {
                        assert!(!allowed.contains(&source), "{source} with {from}: {error}");
                        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{source} with {from}");
                    }
                }
            }
            // The pod's own node always may.
            assert_eq!(ask(server).await.unwrap(), HOST.to_string(), "{from}");
        }
        served.stop().await;
        telling.abort();
    });
}
