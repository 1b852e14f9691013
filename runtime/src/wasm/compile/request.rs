//! What a node asks its control plane, and what it is told.
//!
//! The node POSTs the component to [`PATH`](k8w_kinds::machine_code::PATH), and says in the query which one it is and what
//! machine code it can use; it is answered with that code, or with a Status. That it sends the component, which it has pulled
//! with the secrets of a pod, proves that it may have the code, and keeps those secrets where they are needed.

use std::fmt;

use serde::Deserialize;
use wasmtime::Engine;

use super::code::{Code, Target, WASMTIME_VERSION, fingerprint};
use crate::engine::EngineError;

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of the component: `sha256:<hex>`.
    pub digest: String,
    pub wasmtime: String,
    pub code: Code,
    /// What comes of `code` at the node: see [`fingerprint`].
    pub fingerprint: String,
}

/// Why there is no machine code.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Malformed(String),
    #[error("too many requests for machine code, please try again later")]
    Busy,
    #[error("a component may have {0} bytes")]
    TooLarge(u64),
    /// The node needs other code than this machine can make.
    #[error("{0}")]
    Unlike(String),
    #[error("{}", in_words(.0))]
    Engine(EngineError),
}

impl Request {
    /// # Errors
    /// When this machine has no compiler.
    pub fn new(digest: &str, code: &Code) -> wasmtime::Result<Request> {
        let code = code.elsewhere();
        let fingerprint = fingerprint(&code.compiler()?);
        Ok(Request { digest: digest.to_owned(), wasmtime: WASMTIME_VERSION.to_owned(), code, fingerprint })
    }

    /// Reads a query.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(query: &str) -> Result<Request, Refusal> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
            found.ok_or_else(|| Refusal::Malformed(format!("the query says no {name}")))
        };
        fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Refusal> {
            value.parse().map_err(|_| Refusal::Malformed(format!("{name} cannot be {value:?}")))
        }
        let number = |name: &str| parsed(name, value(name)?);
        let features = value("features")?.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Request {
            digest: value("digest")?.to_owned(),
            wasmtime: value("wasmtime")?.to_owned(),
            code: Code {
                memory_bytes: number("memoryBytes")?,
                stack_bytes: parsed("stackBytes", value("stackBytes")?)?,
                wasi_p3: parsed("wasiP3", value("wasiP3")?)?,
                target: Some(Target { triple: value("target")?.to_owned(), features: features.collect() }),
            },
            fingerprint: value("fingerprint")?.to_owned(),
        })
    }

    /// The engine that makes what is asked for.
    ///
    /// # Errors
    /// [`Refusal::Unlike`], when this machine cannot make it.
    pub fn compiler(&self) -> Result<Engine, Refusal> {
        let other = |what: String| Err(Refusal::Unlike(format!("the control plane {what}; {REMEDY}")));
        let theirs = self.code.target.clone().unwrap_or_else(Target::here);
        if self.wasmtime != WASMTIME_VERSION {
            return other(format!("has wasmtime {WASMTIME_VERSION}, and the node {}", self.wasmtime));
        }
        if !theirs.can_be_made_here() {
            let ours = Target::here().triple;
            return other(format!("makes code for {ours}, and the node needs code for {}", theirs.triple));
        }
        if let Some(feature) = theirs.unknown_feature() {
            return other(format!("knows no processor with {feature}, and the node has one"));
        }
        let engine = self.code.compiler();
        let engine = engine.map_err(|error| Refusal::Malformed(format!("there is no such code: {error:#}")))?;
        if fingerprint(&engine) != self.fingerprint {
            return other("sets its compiler otherwise than the node".to_owned());
        }
        Ok(engine)
    }
}

/// What helps a node that is too unlike its control plane.
const REMEDY: &str = "run the same k8w on machines alike, or `k8w node --compile=here`";

impl fmt::Display for Request {
    /// The query. All of it may stand there as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { digest, wasmtime, code, fingerprint } = self;
        let Code { memory_bytes, stack_bytes, wasi_p3, target } = code;
        let (triple, features) = target.as_ref().map(|t| (t.triple.as_str(), t.features.join(","))).unwrap_or_default();
        write!(f, "digest={digest}&wasmtime={wasmtime}&target={triple}&features={features}")?;
        write!(f, "&memoryBytes={memory_bytes}&stackBytes={stack_bytes}&wasiP3={wasi_p3}&fingerprint={fingerprint}")
    }
}

/// Limits are those of whoever compiles.
fn in_words(error: &EngineError) -> String {
    match error {
        EngineError::CompileLimit(what) => {
            format!("compiling the component exceeded the control plane's limits: {what}")
        }
        other => other.to_string(),
    }
}

const INVALID_MODULE: &str = "InvalidModule";
const SWITCHED_OFF: &str = "SwitchedOff";

impl Refusal {
    /// What a Status says beside its message, so that [`error`] finds out what is the component's fault.
    pub fn cause(&self) -> Option<(&'static str, &str)> {
        match self {
            Refusal::Engine(EngineError::InvalidModule(why)) => Some((INVALID_MODULE, why)),
            Refusal::Engine(EngineError::SwitchedOff) => Some((SWITCHED_OFF, "")),
            _ => None,
        }
    }
}

/// What a Status means to the node. `code` is that of HTTP.
pub fn error(code: u16, body: &[u8]) -> EngineError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        message: String,
        details: Details,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        causes: Vec<Cause>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Cause {
        reason: String,
        message: String,
    }
    let Ok(status) = serde_json::from_slice::<Status>(body) else {
        return EngineError::ControlPlane(format!("it answers {code}"));
    };
    let cause = status.details.causes.into_iter().next().unwrap_or_default();
    match cause.reason.as_str() {
        INVALID_MODULE => EngineError::InvalidModule(cause.message),
        SWITCHED_OFF => EngineError::SwitchedOff,
        _ => EngineError::ControlPlane(status.message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wasm::config::PoolLimits;

    fn request() -> Request {
        Request::new("sha256:00", &Code::here(&PoolLimits::default(), true)).unwrap()
    }

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let request = request();
        let query = request.to_string();
        assert!(http::uri::PathAndQuery::try_from(format!("/?{query}")).is_ok(), "{query}");
        assert_eq!(Request::parse(&query), Ok(request.clone()));
        assert!(request.compiler().is_ok());
        for (change, why) in [
            (query.replace("digest=", "dig="), "the query says no digest"),
            (query.replace("wasiP3=true", "wasiP3=maybe"), "wasiP3 cannot be \"maybe\""),
            (query.replace("stackBytes=1048576", "stackBytes=-1"), "stackBytes cannot be \"-1\""),
            (String::new(), "the query says no features"),
        ] {
            assert_eq!(Request::parse(&change), Err(Refusal::Malformed(why.to_owned())), "{change}");
        }
    }

    #[test]
    fn who_is_unlike_is_told_how() {
        let why = |change: fn(&mut Request)| {
            let mut request = request();
            change(&mut request);
            request.compiler().map(drop).unwrap_err().to_string()
        };
        let ours = Target::here().triple;
        let target = |request: &mut Request| request.code.target.get_or_insert_with(Target::here).clone();
        let other = why(|request| request.wasmtime = "47.0.1".to_owned());
        assert_eq!(other, format!("the control plane has wasmtime {WASMTIME_VERSION}, and the node 47.0.1; {REMEDY}"));
        let mut elsewhere = request();
        elsewhere.code.target = Some(Target { triple: "s390x-unknown-linux-gnu".to_owned(), ..target(&mut request()) });
        assert_eq!(
            elsewhere.compiler().map(drop).unwrap_err().to_string(),
            format!(
                "the control plane makes code for {ours}, and the node needs code for s390x-unknown-linux-gnu; {REMEDY}"
            )
        );
        let mut newer = request();
        newer.code.target = Some(Target { triple: ours, features: vec!["has_more".to_owned()] });
        assert_eq!(
            newer.compiler().map(drop).unwrap_err().to_string(),
            format!("the control plane knows no processor with has_more, and the node has one; {REMEDY}")
        );
        let other = why(|request| request.fingerprint = "0".to_owned());
        assert_eq!(other, format!("the control plane sets its compiler otherwise than the node; {REMEDY}"));
        assert!(why(|request| request.code.stack_bytes = 0).starts_with("there is no such code: "));
    }

    #[test]
    fn a_status_is_what_the_component_would_be_told_here() {
        let status = |refusal: Refusal| {
            let causes: Vec<_> =
                refusal.cause().iter().map(|(reason, message)| json!({"reason": reason, "message": message})).collect();
            error(422, json!({"message": refusal.to_string(), "details": {"causes": causes}}).to_string().as_bytes())
        };
        for same in [EngineError::InvalidModule("it is short".to_owned()), EngineError::SwitchedOff] {
            assert_eq!(status(Refusal::Engine(same.clone())), same);
        }
        for (refusal, why) in [
            (
                Refusal::Engine(EngineError::CompileLimit("more than 180 s".to_owned())),
                "compiling the component exceeded the control plane's limits: more than 180 s",
            ),
            (Refusal::Engine(EngineError::Internal("no disk".to_owned())), "engine failed: no disk"),
            (Refusal::Unlike("it is another".to_owned()), "it is another"),
            (Refusal::TooLarge(3), "a component may have 3 bytes"),
        ] {
            assert_eq!(status(refusal), EngineError::ControlPlane(why.to_owned()));
        }
        assert_eq!(error(502, b"<html>"), EngineError::ControlPlane("it answers 502".to_owned()));
    }
}
