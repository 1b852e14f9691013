//! HTTP: where a request's URI and `Host` say that it goes, which headers end at a border, and which rule of an Ingress it
//! meets, against naive readings of the same.

use std::net::SocketAddr;
use std::sync::OnceLock;

use http::header::{CONNECTION, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use k8w_networking::headers::{remove_hop_by_hop, set_forwarded, settle_host, upgrade_of};
use k8w_networking::ingress::{Backend, Rules};
use k8w_networking::{Destination, Pooled, Tls, Trust};
use serde_json::json;

/// An input is a request's head: a line for the URI, then a header a line.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let Ok(mut request) = Request::get(lines.next().unwrap_or_default()).body(()) else { return };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
            request.headers_mut().append(name, value);
        }
    }
    goes_where_it_says(&request);
    has_one_host(&mut request);
    ends_at_borders(request.headers_mut());
    tells_who_it_is_from(&mut request);
}

/// The destination is what the URI spells, and the pool knows the connection to it by what it is.
fn goes_where_it_says(request: &Request<()>) {
    let Ok(to) = Destination::of(request.uri()) else { return };
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.clone() };
    let spelled = authority.rsplit('@').next().unwrap_or_default();
    let scheme_port = if to.secure { 443 } else { 80 };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match spelled.strip_prefix(&host) {
        Some("" | ":") => assert_eq!(to.port, scheme_port, "{spelled}"),
        Some(port) => assert_eq!(port.strip_prefix(':').map(str::parse), Some(Ok(to.port)), "{spelled}"),
        None => panic!("{} is not at the beginning of {spelled}", to.host),
    }
    assert_eq!(to.secure, request.uri().scheme() == Some(&Scheme::HTTPS));
    for (address, trust) in ["192.0.2.1:8080", "[2001:db8::1]:443"].into_iter().zip(Trust::ALL) {
        let address: SocketAddr = address.parse().expect("an address");
        let pooled = Pooled { address, tls: to.secure.then_some(Tls { name: &to.host, trust }) };
        let Some(uri) = pooled.to_uri(request.uri()) else { continue };
        assert_eq!(Pooled::from_uri(&uri), Some(pooled));
        assert_eq!(uri.path_and_query().map(|path| path.as_str()), Some(path));
    }
}

/// A host that was settled is settled: `Host` names it, and nothing else.
fn has_one_host(request: &mut Request<()>) {
    let Ok(host) = settle_host(request) else { return };
    assert_eq!(settle_host(request), Ok(host.clone()));
    assert!(!host.is_empty() && host == host.to_ascii_lowercase() && !host.contains(['@', '/']), "{host}");
    let header = request.headers()[HOST].to_str().expect("it was read").to_ascii_lowercase();
    let port = header.strip_prefix(&host).unwrap_or_else(|| panic!("{host} is not at the beginning of {header}"));
    let port = port.strip_prefix('.').unwrap_or(port).strip_prefix(':').unwrap_or_default();
    assert!(port.is_empty() || port.parse::<u16>().is_ok(), "{header}");
    let (rules, path) = (rules(), request.uri().path());
    let found = rules.find(&host, path).map(|backend| match backend {
        Backend::Broken(why) => why.split('/').next_back().unwrap_or_default().to_owned(),
        Backend::Service(port) => panic!("there is no Service {}", port.service),
    });
    assert_eq!(found, expected(&host, path).map(|service| format!("{service} does not exist")), "{host}{path}");
}

/// Nothing is left of what ends here, and everything of what does not.
fn ends_at_borders(headers: &mut HeaderMap) {
    const ENDING: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let before = headers.clone();
    remove_hop_by_hop(headers);
    let named = |name: &str| {
        let values = before.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        name != "trailer"
            && values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(name))
    };
    for name in before.keys() {
        let left: Vec<_> = headers.get_all(name).iter().collect();
        if name == "te" {
            assert!(left.is_empty() || left == ["trailers"]);
        } else if ENDING.contains(&name.as_str()) || named(name.as_str()) {
            assert!(left.is_empty(), "{name} is left");
        } else {
            assert_eq!(left, before.get_all(name).iter().collect::<Vec<_>>(), "{name} is gone");
        }
    }
    let once = headers.clone();
    remove_hop_by_hop(headers);
    assert_eq!(*headers, once);
}

/// What a client says of itself is gone; who it is stands there once.
fn tells_who_it_is_from(request: &mut Request<()>) {
    assert_eq!(upgrade_of(request), None, "upgrades end at borders");
    set_forwarded(request, SocketAddr::from(([192, 0, 2, 7], 1)), &Scheme::HTTPS, 443);
    let headers = request.headers();
    let said = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.7"),
    ];
    for (name, value) in said {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value]);
    }
    assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-forwarded-server"));
    assert_eq!(headers.get("x-forwarded-host"), headers.get(HOST));
}

/// Host, type and path of every rule; the Service is named after its place.
const RULES: [(&str, &str, &str); 8] = [
    ("a.b", "Prefix", "/"),
    ("a.b", "Prefix", "/a"),
    ("a.b", "Prefix", "/a/b/"),
    ("a.b", "Exact", "/a/b"),
    ("*.b", "Exact", "/"),
    ("*.b", "Prefix", "/b"),
    ("", "Prefix", "/c"),
    ("", "Exact", "/c/"),
];

fn rules() -> &'static Rules {
    static BUILT: OnceLock<Rules> = OnceLock::new();
    BUILT.get_or_init(|| {
        let rules = RULES.iter().enumerate().map(|(place, (host, path_type, path))| {
            let backend = json!({"service": {"name": place.to_string(), "port": {"number": 80}}});
            let host = if host.is_empty() { None } else { Some(host) };
            json!({"host": host, "http": {"paths": [{"path": path, "pathType": path_type, "backend": backend}]}})
        });
        let rules: Vec<_> = rules.collect();
        let ingress = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": {"rules": rules}}));
        Rules::build(&[&ingress.expect("an Ingress")], &|_| Err("does not exist"))
    })
}

/// The rule that a request meets: of the most telling host, an exact path or the longest prefix of whole elements.
fn expected(host: &str, path: &str) -> Option<usize> {
    let meets_host = |rule: &str| match rule.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, suffix)| suffix == rest),
        None => rule == host || rule.is_empty(),
    };
    let meets_path = |path_type: &str, rule: &str| match path_type {
        "Exact" => path == rule,
        _ => {
            let rule = rule.strip_suffix('/').unwrap_or(rule);
            path.strip_prefix(rule).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let telling = |host: &str| (!host.is_empty(), !host.starts_with('*'));
    let met = RULES.iter().enumerate().filter(|(_, (host, kind, path))| meets_host(host) && meets_path(kind, path));
    met.max_by_key(|(_, (host, kind, path))| (telling(host), *kind == "Exact", path.len())).map(|(place, _)| place)
}
