//! Asks a container over HTTP for a probe or a hook, as the kubelet does (`pkg/probe/http`): no certificate is verified, and a
//! redirect is followed as long as it stays at its host.
//!
//! Requests go through the network's tables, so that a component of this node is called in process. A component speaks no
//! TLS: what asks it by HTTPS learns that it answered in clear text, as of any server that does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8w_networking::{About, AnyCertificate, Body, Network, SendError};
use reqwest::Url;
use tokio::time::{Instant, timeout_at};

use super::unreached;
use crate::pod::probe;

/// Of an answer, this much is read; the rest is not waited for.
const MAX_ANSWER_BYTES: usize = 10 << 10;
/// Requests that one question may lead to.
const MAX_REQUESTS: usize = 10;

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub(super) struct HttpGet {
    url: Url,
    headers: HeaderMap,
    about: About,
}

/// What was answered in the end.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: String,
}

/// Why there is no answer, or not all of it, in the words of Go's client.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("Get \"{url}\": {why}")]
    None { url: String, why: String },
    /// Whoever was asked by HTTPS speaks HTTP.
    #[error("Get \"{url}\": http: server gave HTTP response to HTTPS client")]
    InClear { url: String },
    /// It broke off after its head.
    #[error("{0}")]
    BrokenOff(&'static str),
}

impl HttpGet {
    /// The request that an action means, to a pod's address where the action names no host; `agent` is who asks.
    ///
    /// # Errors
    /// When the action cannot be sent at all.
    pub fn of(
        action: &HTTPGetAction,
        container: &Container,
        address: IpAddr,
        agent: &'static str,
    ) -> Result<HttpGet, String> {
        let port = probe::port(&action.port, container)?;
        let scheme = action.scheme.as_deref().filter(|scheme| !scheme.is_empty()).unwrap_or("HTTP").to_lowercase();
        let named = action.host.as_deref().filter(|host| !host.is_empty());
        let host = match named.map_or(Ok(address), str::parse) {
            Ok(address) => SocketAddr::new(address, port).to_string(),
            Err(_) => format!("{}:{port}", named.unwrap_or_default()),
        };
        let path = action.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = Url::parse(&format!("{scheme}://{host}{slash}{path}")).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for header in action.http_headers.iter().flatten() {
            let name = HeaderName::try_from(&header.name).map_err(|error| error.to_string())?;
            headers.append(name, HeaderValue::try_from(&header.value).map_err(|error| error.to_string())?);
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
        match headers.get(ACCEPT).map(HeaderValue::is_empty) {
            None => drop(headers.insert(ACCEPT, HeaderValue::from_static("*/*"))),
            Some(true) => drop(headers.remove(ACCEPT)),
            Some(false) => {}
        }
        Ok(HttpGet { url, headers, about: About(address) })
    }

    /// The same request by HTTP, without what is nobody's business there.
    pub fn in_clear(mut self) -> HttpGet {
        // Between http and https a scheme can always be changed.
        let _ = self.url.set_scheme("http");
        self.headers.remove(AUTHORIZATION);
        self
    }

    /// Whom it asks: host and port.
    pub fn host(&self) -> &str {
        self.url.authority()
    }

    /// The URL with its port, which the kubelet always says.
    fn shown(&self) -> String {
        match (self.url.port(), self.url.port_or_known_default()) {
            (None, Some(port)) => {
                let (scheme, host) = (self.url.scheme(), self.url.host_str().unwrap_or_default());
                let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
                format!("{scheme}://{host}:{port}{}{query}", self.url.path())
            }
            _ => self.url.to_string(),
        }
    }

    /// Sends it, and what it leads to at the same host. `timeout` bounds all of it, if there is one.
    ///
    /// # Errors
    /// When nobody answers, or not to the end, or everybody sends further.
    pub async fn send(mut self, network: &Network, timeout: Option<Duration>) -> Result<Answer, NoAnswer> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let first = self.url.clone();
        for _ in 0..MAX_REQUESTS {
            let (status, headers, body) = match in_time(deadline, self.send_once(network)).await {
                Some(sent) => sent?,
                None => {
                    let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned();
                    return Err(NoAnswer::None { url: self.shown(), why });
                }
            };
            let location = headers.get(LOCATION).filter(|_| is_redirect(status)).and_then(|to| to.to_str().ok());
            let next = location.and_then(|location| Some((location, self.url.join(location).ok()?)));
            match next {
                Some((location, next)) if next.host() == first.host() => {
                    if Url::parse(location).is_ok() {
                        // A host of the action's own is meant for who was asked first, and for what is beneath it.
                        self.headers.remove(HOST);
                    }
                    self.url = next;
                }
                _ => {
                    let late = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
                    let body = in_time(deadline, read(body)).await.ok_or(NoAnswer::BrokenOff(late))??;
                    return Ok(Answer { status, body });
                }
            }
        }
        Err(NoAnswer::None { url: self.url.to_string(), why: format!("stopped after {MAX_REQUESTS} redirects") })
    }

    async fn send_once(&self, network: &Network) -> Result<(StatusCode, HeaderMap, Body), NoAnswer> {
        let failed = |why: String| NoAnswer::None { url: self.shown(), why };
        let empty: Body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = http::Request::get(self.url.as_str())
            .extension(AnyCertificate)
            .extension(self.about)
            .body(empty)
            .map_err(|error| failed(error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        match network.send(None, request).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok((head.status, head.headers, body))
            }
            Err(SendError::InClear) => Err(NoAnswer::InClear { url: self.shown() }),
            Err(error) => {
                let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default());
                let host = format!("{host}:{}", port.unwrap_or_default());
                Err(failed(unreached::request(&host, &error)))
            }
        }
    }
}

/// `None` when the deadline comes first.
async fn in_time<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// Those that Go's client follows.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads a bounded part of the answer, so that a connection can be used again and a component ends well.
async fn read(mut body: Body) -> Result<String, NoAnswer> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| NoAnswer::BrokenOff("unexpected EOF"))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_ANSWER_BYTES - text.len();
        text.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn get(action: Value) -> Result<HttpGet, String> {
        let action: HTTPGetAction = serde_json::from_value(action).unwrap();
        let container = json!({ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] });
        let container: Container = serde_json::from_value(container).unwrap();
        HttpGet::of(&action, &container, [10, 64, 0, 2].into(), "kube-probe/1.36")
    }

    #[test]
    fn an_action_says_whom_to_ask() {
        for (action, url) in [
            (json!({ "port": 80 }), "http://10.64.0.2/"),
            (json!({ "port": "web", "path": "healthz?full=1" }), "http://10.64.0.2:8080/healthz?full=1"),
            (json!({ "port": 8443, "scheme": "HTTPS", "host": "db" }), "https://db:8443/"),
            (json!({ "port": 8080, "host": "2001:db8::1" }), "http://[2001:db8::1]:8080/"),
        ] {
            assert_eq!(get(action).unwrap().url.as_str(), url);
        }
        assert_eq!(get(json!({ "port": "db" })).unwrap_err(), "strconv.Atoi: parsing \"db\": invalid syntax");
        let shown = |action: Value| get(action).unwrap().shown();
        assert_eq!(shown(json!({ "port": 80, "path": "/a?b" })), "http://10.64.0.2:80/a?b");
        assert_eq!(shown(json!({ "port": 443, "scheme": "HTTPS" })), "https://10.64.0.2:443/");
    }

    #[test]
    fn headers_are_the_actions_and_what_it_leaves_out() {
        let headers = |list: Value| get(json!({ "port": 80, "httpHeaders": list })).unwrap().headers;
        let plain = headers(json!([]));
        assert_eq!(
            (&plain[USER_AGENT], &plain[ACCEPT]),
            (&"kube-probe/1.36".parse().unwrap(), &"*/*".parse().unwrap())
        );
        let own = headers(json!([{ "name": "user-agent", "value": "me" }, { "name": "Accept", "value": "" },
            { "name": "X", "value": "1" }, { "name": "X", "value": "2" }]));
        assert_eq!((own[USER_AGENT].as_bytes(), own.get(ACCEPT)), (&b"me"[..], None));
        assert_eq!(own.get_all("x").iter().count(), 2);
    }

    #[test]
    fn in_clear_text_nobody_is_authorized() {
        let action =
            json!({ "port": 8443, "scheme": "HTTPS", "httpHeaders": [{ "name": "Authorization", "value": "t" }] });
        let request = get(action).unwrap().in_clear();
        assert_eq!((request.url.as_str(), request.headers.get(AUTHORIZATION)), ("http://10.64.0.2:8443/", None));
    }
}
