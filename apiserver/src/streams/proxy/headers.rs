//! What a proxy changes in headers (`k8s.io/apimachinery` `pkg/util/proxy`, and Go's `httputil.ReverseProxy` beneath it).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;

use crate::call::Call;
use crate::streams::upgrade;

/// Meant for the next hop alone (RFC 9110, section 7.6.1, and what older software sends).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The headers that the other side gets: those of the client without its credentials, and where the request came from.
pub fn of_request(call: &Call, host: &str, upgrading: bool) -> HeaderMap {
    let mut headers = call.parts.headers.clone();
    let upgrade = headers.get(header::UPGRADE).cloned();
    remove_hop_by_hop(&mut headers);
    if let (true, Some(upgrade)) = (upgrading, upgrade) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
    headers.remove(header::AUTHORIZATION);
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    own.iter().for_each(|name| drop(headers.remove(name)));
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::try_from(host)
    {
        headers.insert(header::HOST, host);
    }
    if let Ok(uri) = HeaderValue::try_from(call.parts.uri.path()) {
        headers.insert(FORWARDED_URI, uri);
    }
    if let Some(address) = call.peer.address {
        let before = headers.get(FORWARDED_FOR).and_then(|before| before.to_str().ok());
        let all = before.map(|before| format!("{before}, ")).unwrap_or_default() + &address.ip().to_string();
        if let Ok(all) = HeaderValue::try_from(all) {
            headers.insert(FORWARDED_FOR, all);
        }
    }
    headers
}

/// Makes an answer's headers ours. `prefix` is the path that stands for the other side's root, `hosts` the names under
/// which it may know itself.
pub fn clean_response(headers: &mut HeaderMap, prefix: &str, hosts: &[&str]) {
    remove_hop_by_hop(headers);
    // A page from a pod must not decide who may read the API server's answers.
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    own.iter().for_each(|name| drop(headers.remove(name)));
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    if let Some(location) = location.and_then(|location| through(location, prefix, hosts))
        && let Ok(location) = HeaderValue::try_from(location)
    {
        headers.insert(header::LOCATION, location);
    }
}

/// A redirect to an absolute path of the same host, so that it leads through the proxy; `None` for others.
fn through(location: &str, prefix: &str, hosts: &[&str]) -> Option<String> {
    let (location, fragment) = match location.split_once('#') {
        Some((location, fragment)) => (location, format!("#{fragment}")),
        None => (location, String::new()),
    };
    let uri: Uri = location.parse().ok()?;
    let own = uri.authority().is_none_or(|authority| hosts.contains(&authority.as_str()));
    let path = uri.path();
    if !own || !path.starts_with('/') {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let prefix = if path.starts_with(prefix) { "" } else { prefix };
    Some(format!("{prefix}{path}{query}{fragment}"))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| upgrade::contains(headers, header::CONNECTION, name.as_str())).cloned().collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_through_the_proxy() {
        let prefix = "/api/v1/namespaces/n/pods/p/proxy";
        let through = |location: &str| through(location, prefix, &["p:80", "localhost:8001"]);
        assert_eq!(through("/login?next=%2F#top").unwrap(), format!("{prefix}/login?next=%2F#top"));
        assert_eq!(through("http://p:80/a/").unwrap(), format!("{prefix}/a/"));
        assert_eq!(through("http://localhost:8001/").unwrap(), format!("{prefix}/"));
        assert_eq!(through(&format!("{prefix}/there")).unwrap(), format!("{prefix}/there"));
        assert_eq!(through("https://example.com/"), None);
        assert_eq!(through("relative"), None);
    }

    #[test]
    fn an_answer_keeps_what_is_meant_for_the_client() {
        let pairs = [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("access-control-allow-origin", "*"),
            ("content-type", "text/plain"),
        ];
        let pairs = pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::from_iter(pairs);
        clean_response(&mut headers, "/proxy", &[]);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }
}
