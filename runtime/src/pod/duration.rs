//! Times as Kubernetes writes them, which is as Go prints a duration.

/// Whole seconds: `10s`, `5m0s`, `1h2m3s`.
pub fn seconds(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn are_printed_as_go_does() {
        let printed = [0, 10, 60, 300, 3_600, 3_723].map(super::seconds);
        assert_eq!(printed, ["0s", "10s", "1m0s", "5m0s", "1h0m0s", "1h2m3s"]);
    }
}
