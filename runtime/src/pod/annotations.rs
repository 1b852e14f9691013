//! What a pod's annotations say of how its servers are called: THE table. They hold for all of its containers, from the start
//! of each on. One of this system's that is not in the table, or whose value is not understood, is refused by name.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::engine::{HttpSettings, TrapBurst};

/// What the names of this system's annotations begin with. None of a pod's is set by the system itself.
const PREFIX: &str = "k8w.dev/";

/// Requests that one instance may serve.
const MAX_REUSE: u32 = 1_000_000;
/// As many requests as a container has at a time anyway.
const MAX_CONCURRENCY: usize = 1_000;
/// Of each of these the time is kept.
const MAX_TRAPS: usize = 1_000;
const MAX_TRAPS_WITHIN: Duration = Duration::from_secs(3_600);

struct Row {
    name: &'static str,
    takes: &'static str,
    /// Sets what the text says; `None` when it says nothing that can be.
    read: fn(&str, &mut HttpSettings) -> Option<()>,
}

const TABLE: &[Row] = &[
    Row {
        name: "k8w.dev/instance-reuse",
        takes: "a number of requests from 1 to 1000000",
        read: |text, settings| {
            settings.instance_reuse = Some(number(text).filter(|reuse| (1..=MAX_REUSE).contains(reuse))?);
            Some(())
        },
    },
    Row {
        name: "k8w.dev/trap-burst",
        takes: "a number of traps from 1 to 1000 and a time from 1s to 1h, such as 20/10s",
        read: |text, settings| {
            let (traps, within) = text.split_once('/')?;
            let traps = number(traps).filter(|traps| (1..=MAX_TRAPS).contains(traps))?;
            let within = time(within).filter(|within| !within.is_zero() && *within <= MAX_TRAPS_WITHIN)?;
            settings.trap_burst = Some(TrapBurst { traps, within });
            Some(())
        },
    },
    Row {
        name: "k8w.dev/concurrency",
        takes: "a number of requests from 1 to 1000",
        read: |text, settings| {
            settings.concurrent = Some(number(text).filter(|requests| (1..=MAX_CONCURRENCY).contains(requests))?);
            Some(())
        },
    },
];

/// Why a pod's containers may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("annotation {name}: {value:?} is not {takes}")]
    Value { name: &'static str, value: String, takes: &'static str },
    #[error("wasm pods do not support the annotation {name}: there are {}", names().join(", "))]
    Unknown { name: String },
}

fn names() -> Vec<&'static str> {
    TABLE.iter().map(|row| row.name).collect()
}

/// Reads the annotations of a pod.
///
/// # Errors
/// With the first that is not understood.
pub fn http_settings(pod: &Pod) -> Result<HttpSettings, Error> {
    let mut settings = HttpSettings::default();
    for (name, value) in pod.annotations().iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let Some(row) = TABLE.iter().find(|row| row.name == name) else {
            return Err(Error::Unknown { name: name.clone() });
        };
        let Row { name, takes, read } = *row;
        read(value, &mut settings).ok_or_else(|| Error::Value { name, value: value.clone(), takes })?;
    }
    Ok(settings)
}

/// Digits alone: no sign, no spaces.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A whole number of seconds, minutes or hours.
fn time(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3_600)];
    let (count, seconds) = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    Some(Duration::from_secs(number::<u64>(count)?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(annotations: Value) -> Result<HttpSettings, String> {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap();
        http_settings(&pod).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_set_and_nothing_else() {
        assert_eq!(read(json!({ "example.com/x": "y", "test.k8w.dev/x": "y" })), Ok(HttpSettings::default()));
        let all = json!({
            "k8w.dev/instance-reuse": "100", "k8w.dev/trap-burst": "20/10s", "k8w.dev/concurrency": "7",
        });
        assert_eq!(all.as_object().unwrap().len(), TABLE.len());
        let burst = |traps, seconds| TrapBurst { traps, within: Duration::from_secs(seconds) };
        let (instance_reuse, trap_burst) = (Some(100), Some(burst(20, 10)));
        assert_eq!(read(all), Ok(HttpSettings { instance_reuse, trap_burst, concurrent: Some(7) }));
        for (text, expected) in [("1/1s", burst(1, 1)), ("1000/1h", burst(1_000, 3_600)), ("3/05m", burst(3, 300))] {
            assert_eq!(read(json!({ "k8w.dev/trap-burst": text })).unwrap().trap_burst, Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (name, texts) in [
            ("k8w.dev/instance-reuse", &["", "0", "-1", "+1", "1.5", " 1", "many", "1000001", "4294967297"][..]),
            (
                "k8w.dev/trap-burst",
                &[
                    "",
                    "20",
                    "20/",
                    "/10s",
                    "20/10",
                    "20/s",
                    "0/10s",
                    "20/0s",
                    "1001/10s",
                    "1/61m",
                    "1/2h",
                    "1/-1s",
                    "1/1d",
                    "20 / 10s",
                    "1/99999999999999999999h",
                    "1/9999999999999999999h",
                ][..],
            ),
            ("k8w.dev/concurrency", &["", "0", "1001", "x"][..]),
        ] {
            let takes = TABLE.iter().find(|row| row.name == name).unwrap().takes;
            for text in texts {
                let why = format!("annotation {name}: {text:?} is not {takes}");
                assert_eq!(read(json!({ name: text })), Err(why), "{name}");
            }
        }
        for name in ["k8w.dev/instance-reus", "k8w.dev/anything"] {
            let why = format!(
                "wasm pods do not support the annotation {name}: there are k8w.dev/instance-reuse, k8w.dev/trap-burst, \
                 k8w.dev/concurrency"
            );
            assert_eq!(read(json!({ name: "1" })), Err(why));
        }
    }
}
