//! Headers at a border between connections: which end there, and what is said about the client.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::Scheme;
use http::{HeaderMap, Request, Version};

use crate::client::{host_and_port, port_of};

/// Headers about one connection, which no proxy passes on (RFC 9110, section 7.6.1).
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// What a client might say about itself and is not believed.
static CLAIMS: [HeaderName; 7] = [
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_FORWARDED_PORT,
    X_REAL_IP,
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("forwarded"),
];

/// Removes what ends at this connection; `TE: trailers` may go on, because trailers do.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = headers.get(TE).is_some_and(|te| te == "trailers");
    // `Connection`, however often it is there, names further headers that end here.
    let connection: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for name in connection.iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')) {
        if let Ok(name) = name.trim().parse::<HeaderName>()
            && name != TRAILER
        {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The protocol that a request asks to change to, such as `websocket` (RFC 9110, section 7.8).
pub fn upgrade_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    let asked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
    };
    let asks = request.version() == Version::HTTP_11 && request.headers().get_all(CONNECTION).iter().any(asked);
    asks.then(|| request.headers().get(UPGRADE).cloned()).flatten()
}

/// Says in the request who sent it and how it came in, at which port of the node, whatever the client said about that itself.
pub fn set_forwarded<B>(request: &mut Request<B>, peer: SocketAddr, scheme: &Scheme, port: u16) {
    let host = request.headers().get(HOST).cloned();
    let headers = request.headers_mut();
    for name in &CLAIMS {
        headers.remove(name);
    }
    let client = peer.ip().to_canonical().to_string();
    if let Ok(client) = HeaderValue::try_from(client) {
        headers.insert(X_REAL_IP, client.clone());
        headers.insert(X_FORWARDED_FOR, client);
    }
    headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
    headers
        .insert(X_FORWARDED_PROTO, HeaderValue::from_static(if *scheme == Scheme::HTTPS { "https" } else { "http" }));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// A request names no host, or several.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request must name exactly one host")]
pub struct BadHost;

/// Makes the `Host` header say which host the request is for, wherever the request itself does; returns the host in lower
/// case and without port. Errors: no host, or several (RFC 9112, section 3.2).
pub fn settle_host<B>(request: &mut Request<B>) -> Result<String, BadHost> {
    if let Some(authority) = request.uri().authority() {
        // The target's own host is the true one.
        let host = HeaderValue::from_str(host_and_port(authority)).map_err(|_| BadHost)?;
        request.headers_mut().insert(HOST, host);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(BadHost) };
    let authority = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok()).ok_or(BadHost)?;
    let host = authority.host().strip_suffix('.').unwrap_or(authority.host());
    let names_a_user = host_and_port(&authority) != authority.as_str();
    if host.is_empty() || names_a_user || port_of(&authority).is_err() {
        return Err(BadHost);
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut shown: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        shown.sort();
        shown
    }

    #[test]
    fn what_is_about_the_connection_stays_there() {
        let mut request = request(
            "/",
            &[
                ("connection", "close, X-Private"),
                ("connection", "upgrade, X-Other"),
                ("x-private", "1"),
                // Found by the fuzz target `http`: what another line of `Connection` names.
                ("x-other", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("transfer-encoding", "chunked"),
                ("trailer", "x-sum"),
                ("accept", "*/*"),
            ],
        );
        remove_hop_by_hop(request.headers_mut());
        assert_eq!(shown(request.headers()), ["accept: */*", "te: trailers", "trailer: x-sum"]);
    }

    #[test]
    fn a_client_cannot_speak_for_somebody_else() {
        let mut request = request(
            "/",
            &[
                ("host", "shop.example:8080"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-for", "10.0.0.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "admin.example"),
                ("x-forwarded-port", "22"),
                ("x-forwarded-server", "admin"),
                ("x-real-ip", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
            ],
        );
        set_forwarded(&mut request, "[::ffff:192.0.2.7]:1234".parse().unwrap(), &Scheme::HTTP, 8080);
        let expected = [
            "host: shop.example:8080",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: shop.example:8080",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
            "x-real-ip: 192.0.2.7",
        ];
        assert_eq!(shown(request.headers()), expected);
    }

    #[test]
    fn a_request_has_one_host() {
        let host = |uri, headers: &[_]| settle_host(&mut request(uri, headers));
        assert_eq!(host("/", &[("host", "Shop.Example:80")]), Ok("shop.example".into()));
        assert_eq!(host("/", &[("host", "shop.example.")]), Ok("shop.example".into()));
        assert_eq!(host("/", &[("host", "[::1]:80")]), Ok("[::1]".into()));
        assert_eq!(host("http://a.example/", &[("host", "b.example")]), Ok("a.example".into()));
        assert_eq!(host("/", &[]), Err(BadHost));
        assert_eq!(host("/", &[("host", "a"), ("host", "b")]), Err(BadHost));
        assert_eq!(host("/", &[("host", "a b")]), Err(BadHost));
        assert_eq!(host("/", &[("host", "")]), Err(BadHost));
        assert_eq!(host("/", &[("host", "user@a")]), Err(BadHost));
        assert_eq!(host("/", &[("host", "a:x")]), Err(BadHost));
        assert_eq!(host("/", &[("host", "[::1]80")]), Err(BadHost));
        assert_eq!(host("/", &[("host", ":80")]), Err(BadHost));
        assert_eq!(host("/", &[("host", ".")]), Err(BadHost));
    }

    #[test]
    fn upgrades_are_asked_for_twice() {
        let upgrade =
            |headers: &[_]| upgrade_of(&request("/", headers)).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            upgrade(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]),
            Some("websocket".into())
        );
        assert_eq!(upgrade(&[("upgrade", "websocket")]), None);
        assert_eq!(upgrade(&[("connection", "upgrade")]), None);
    }
}
