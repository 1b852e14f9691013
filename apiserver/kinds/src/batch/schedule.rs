//! The form of cron schedules: `*/5 * * * *`, `@daily`, `@every 90s`.

/// What is wrong with a schedule; `None` for one that can be followed.
pub fn wrong(schedule: &str) -> Option<String> {
    if let Some(descriptor) = schedule.strip_prefix('@') {
        return wrong_descriptor(descriptor);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
    }
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let rules: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    fields
        .iter()
        .zip(rules)
        .find_map(|(field, (low, high, names))| field.split(',').find_map(|part| wrong_part(part, low, high, names)))
}

fn wrong_descriptor(descriptor: &str) -> Option<String> {
    if let Some(duration) = descriptor.strip_prefix("every ") {
        return (!is_duration(duration)).then(|| format!("failed to parse duration @every {duration}"));
    }
    match descriptor {
        "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => None,
        _ => Some(format!("unrecognized descriptor: @{descriptor}")),
    }
}

/// `1h30m`, `90s`: numbers, each with a unit.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = &rest[digits..];
        let unit = ["ms", "us", "ns", "h", "m", "s"].into_iter().find(|unit| after.starts_with(unit));
        match unit {
            Some(unit) if digits > 0 => rest = &after[unit.len()..],
            _ => return false,
        }
    }
    !text.is_empty()
}

/// One of `*`, `*/2`, `1`, `1-5`, `mon-fri/2`.
fn wrong_part(part: &str, low: u32, high: u32, names: &[&str]) -> Option<String> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|s| s.parse::<u32>().map_or(true, |n| n == 0)) {
        return Some(format!("step of range should be a positive number: {part}"));
    }
    if matches!(range, "*" | "?") {
        return None;
    }
    let number = |text: &str| {
        let named = names.iter().position(|n| text.eq_ignore_ascii_case(n));
        named.and_then(|i| u32::try_from(i).ok()).map(|i| i + low).or_else(|| text.parse().ok())
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Some(start), Some(end)) = (number(first), number(last)) else {
        return Some(format!("failed to parse int from {range}"));
    };
    if start < low {
        Some(format!("beginning of range ({start}) below minimum ({low}): {part}"))
    } else if end > high {
        Some(format!("end of range ({end}) above maximum ({high}): {part}"))
    } else if start > end {
        Some(format!("beginning of range ({start}) beyond end of range ({end}): {part}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for right in ["* * * * *", "*/5 0-3,5 1 jan-mar mon", "@daily", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(wrong(right), None, "{right}");
        }
        for bad in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "@often", "@every x", "a * * * *"]
        {
            assert!(wrong(bad).is_some(), "{bad}");
        }
    }
}
