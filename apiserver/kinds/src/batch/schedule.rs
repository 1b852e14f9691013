//! Cron schedules: `*/5 * * * *`, `@daily`, `@every 90s`; what they mean and when they are due next.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A schedule whose days never come (`0 0 31 2 *`) is looked for this far.
const HORIZON_YEARS: i64 = 5;
const MINUTE_SECONDS: i64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Times(Times),
    /// In whole seconds, at least one.
    Every(Duration),
}

/// The zone of this name, spelled as it is there. The time zone database is part of the program: what a machine has does not
/// matter.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown() && zone.iana_name() == Some(name))
}

/// The minutes, hours, days, months and weekdays at which it is due, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days must fit if one of them is `*`; else either may.
    needs_both_days: bool,
}

struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const fn bounds(low: u32, high: u32, names: &'static [&'static str]) -> Bounds {
    Bounds { low, high, names }
}

const FIELDS: [Bounds; 5] = [
    bounds(0, 59, &[]),
    bounds(0, 23, &[]),
    bounds(1, 31, &[]),
    bounds(1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    bounds(0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

impl Schedule {
    /// Reads a schedule; the error says what is wrong with it.
    pub fn parse(schedule: &str) -> Result<Self, String> {
        if let Some(descriptor) = schedule.strip_prefix('@') {
            return described(descriptor);
        }
        let fields: Vec<&str> = schedule.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let [minutes, hours, days, months, weekdays] = [
            field(minutes, &FIELDS[0])?,
            field(hours, &FIELDS[1])?,
            field(days, &FIELDS[2])?,
            field(months, &FIELDS[3])?,
            field(weekdays, &FIELDS[4])?,
        ];
        Ok(Self::Times(Times {
            minutes: minutes.bits,
            hours: hours.bits,
            days: days.bits,
            months: months.bits,
            weekdays: weekdays.bits,
            needs_both_days: days.is_star || weekdays.is_star,
        }))
    }

    /// The first time after `after`, by the clocks of `zone`: an hour that they skip has none, one that they repeat has
    /// each twice. `None` if there is none within years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(wait) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*wait).ok(),
            Self::Times(times) => times.next(after, zone),
        }
    }
}

impl Times {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let mut at = (after.as_second().div_euclid(MINUTE_SECONDS) + 1) * MINUTE_SECONDS;
        let end = at + HORIZON_YEARS * 366 * 24 * 60 * MINUTE_SECONDS;
        while at < end {
            let now = Timestamp::from_second(at).ok()?;
            let local = zone.to_datetime(now);
            let later = if !has(self.months, local.month()) {
                midnight(local.date().last_of_month().tomorrow().ok()?.to_datetime(Default::default()), zone)?
            } else if !self.has_day(local) {
                midnight(local.date().tomorrow().ok()?.to_datetime(Default::default()), zone)?
            } else if !has(self.hours, local.hour()) {
                at + i64::from(60 - local.minute()) * MINUTE_SECONDS
            } else if !has(self.minutes, local.minute()) {
                at + MINUTE_SECONDS
            } else {
                return Some(now);
            };
            at = later.max(at + MINUTE_SECONDS);
        }
        None
    }

    fn has_day(&self, local: DateTime) -> bool {
        let day = self.days >> local.day() & 1 == 1;
        let weekday = self.weekdays >> local.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.needs_both_days { day && weekday } else { day || weekday }
    }
}

/// When a day begins, in seconds since 1970.
fn midnight(day: DateTime, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(day).ok().map(Timestamp::as_second)
}

fn described(descriptor: &str) -> Result<Schedule, String> {
    if let Some(text) = descriptor.strip_prefix("every ") {
        let wait = duration(text).ok_or_else(|| format!("failed to parse duration @every {text}"))?;
        return Ok(Schedule::Every(Duration::from_secs(wait.as_secs().max(1))));
    }
    match descriptor {
        "yearly" | "annually" => Schedule::parse("0 0 1 1 *"),
        "monthly" => Schedule::parse("0 0 1 * *"),
        "weekly" => Schedule::parse("0 0 * * 0"),
        "daily" | "midnight" => Schedule::parse("0 0 * * *"),
        "hourly" => Schedule::parse("0 * * * *"),
        _ => Err(format!("unrecognized descriptor: @{descriptor}")),
    }
}

/// `1h30m`, `90s`: numbers, each with a unit.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let (unit, size) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * size;
        rest = &after[unit.len()..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[derive(Default)]
struct Parsed {
    bits: u64,
    is_star: bool,
}

fn field(text: &str, bounds: &Bounds) -> Result<Parsed, String> {
    text.split(',').map(|part| part_of(part, bounds)).try_fold(Parsed::default(), |all, part| {
        let part = part?;
        Ok(Parsed { bits: all.bits | part.bits, is_star: all.is_star || part.is_star })
    })
}

/// One of `*`, `*/2`, `1`, `1/2` (from 1 on), `1-5`, `mon-fri/2`.
fn part_of(part: &str, bounds: &Bounds) -> Result<Parsed, String> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    let stride: usize = match step {
        None => 1,
        Some(step) => step
            .parse()
            .ok()
            .filter(|stride| *stride > 0)
            .ok_or_else(|| format!("step of range should be a positive number: {part}"))?,
    };
    let any = matches!(range, "*" | "?");
    let (first, last) = if any { (bounds.low, bounds.high) } else { ends(range, step.is_some(), bounds)? };
    let Bounds { low, high, .. } = bounds;
    if first < *low {
        return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
    }
    if last > *high {
        return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    let bits = (first..=last).step_by(stride).fold(0, |bits, value| bits | 1 << value);
    Ok(Parsed { bits, is_star: any && stride == 1 })
}

fn ends(range: &str, has_step: bool, bounds: &Bounds) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + bounds.low);
        named.or_else(|| text.parse().ok()).ok_or_else(|| format!("failed to parse int from {range}"))
    };
    match range.split_once('-') {
        Some((first, last)) => Ok((number(first)?, number(last)?)),
        None if has_step => Ok((number(range)?, bounds.high)),
        None => number(range).map(|only| (only, only)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for right in ["* * * * *", "*/5 0-3,5 1 jan-mar mon", "@daily", "@every 1h30m", "0 0 ? * 0"] {
            assert!(Schedule::parse(right).is_ok(), "{right}");
        }
        for bad in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "@often", "@every x", "a * * * *"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn check(schedule: &str, zone: &str, after: &str, expected: &[&str]) {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), time_zone(zone).unwrap());
        let first = schedule.next(after.parse().unwrap(), &zone);
        let times = std::iter::successors(first, |at| schedule.next(*at, &zone)).take(expected.len());
        assert_eq!(times.map(|at| at.to_string()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_next_time_fits_every_field() {
        check("*/15 * * * *", "UTC", "2024-01-01T00:00:00Z", &["2024-01-01T00:15:00Z", "2024-01-01T00:30:00Z"]);
        check("5/20 3 * * *", "UTC", "2024-01-01T03:10:30Z", &["2024-01-01T03:25:00Z", "2024-01-01T03:45:00Z"]);
        check("0 0 29 2 *", "UTC", "2024-03-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("@weekly", "UTC", "2024-01-01T00:00:00Z", &["2024-01-07T00:00:00Z"]);
        check("@every 90s", "UTC", "2024-01-01T00:00:00.5Z", &["2024-01-01T00:01:30Z", "2024-01-01T00:03:00Z"]);
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn either_day_will_do_where_both_are_named() {
        check("0 0 13 * fri", "UTC", "2024-09-06T00:00:00Z", &["2024-09-13T00:00:00Z", "2024-09-20T00:00:00Z"]);
        check("0 0 */2 * mon", "UTC", "2024-01-01T00:00:00Z", &["2024-01-03T00:00:00Z", "2024-01-05T00:00:00Z"]);
        check("0 0 * * mon", "UTC", "2024-01-01T00:00:00Z", &["2024-01-08T00:00:00Z"]);
    }

    #[test]
    fn clocks_that_are_set_skip_a_time_or_repeat_it() {
        check("30 2 * * *", "Europe/Berlin", "2024-03-30T00:00:00Z", &["2024-03-30T01:30:00Z", "2024-04-01T00:30:00Z"]);
        check("30 2 * * *", "Europe/Berlin", "2024-10-26T20:00:00Z", &["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"]);
    }
}
