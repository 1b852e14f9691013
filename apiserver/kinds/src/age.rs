//! How ages are shown in tables: short, and the coarser the older (`duration.HumanDuration`).

use jiff::Timestamp;
use serde_json::Value;

/// What tables show where a time is not known.
pub const UNKNOWN: &str = "<unknown>";

/// `5s`, `2m30s`, `3h`, `6d`, `2y45d`; `<invalid>` for a time more than a second ahead.
pub fn human(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with_rest(seconds / 60, "m", seconds % 60, "s"),
        600..10_800 => format!("{}m", seconds / 60),
        10_800..28_800 => with_rest(seconds / 3600, "h", seconds / 60 % 60, "m"),
        28_800..172_800 => format!("{}h", seconds / 3600),
        172_800..691_200 => with_rest(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        691_200..63_072_000 => format!("{}d", seconds / 86_400),
        63_072_000..252_288_000 => with_rest(seconds / 31_536_000, "y", seconds / 86_400 % 365, "d"),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

fn with_rest(whole: i64, unit: &str, rest: i64, rest_unit: &str) -> String {
    if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{rest_unit}") }
}

/// The time between an RFC 3339 text and `now`; `<unknown>` where there is none or it cannot be read.
pub fn since(time: Option<&str>, now: Timestamp) -> String {
    match time.and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(time) => human((now.as_nanosecond() - time.as_nanosecond()).div_euclid(1_000_000_000) as i64),
        None => UNKNOWN.to_owned(),
    }
}

/// The age of an object.
pub fn since_creation(object: &Value, now: Timestamp) -> String {
    since(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_get_coarser() {
        let shown: Vec<String> =
            [-5, -1, 0, 119, 120, 150, 599, 600, 10_800, 10_860, 28_800, 172_800, 176_400, 691_200]
                .into_iter()
                .chain([63_072_000, 63_072_000 + 86_400 * 45, 252_288_000])
                .map(human)
                .collect();
        expect_test::expect!["<invalid> 0s 0s 119s 2m 2m30s 9m59s 10m 3h 3h1m 8h 2d 2d1h 8d 2y 2y45d 8y"]
            .assert_eq(&shown.join(" "));
    }
}
