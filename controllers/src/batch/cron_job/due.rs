//! Which run of a CronJob is due, after however many were missed.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8w_kinds::batch::schedule::Schedule;

/// Runs that may be missed without a word.
const MAX_MISSED: usize = 100;

/// The last time that has passed and was not acted on; earlier ones are not made up for.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub too_many_missed: bool,
}

/// `since`: the last run, or when the CronJob was made.
pub fn due(schedule: &Schedule, zone: &TimeZone, since: Timestamp, now: Timestamp) -> Option<Due> {
    let passed = |after: Timestamp| {
        std::iter::successors(schedule.next(after, zone), |at| schedule.next(*at, zone)).take_while(|at| *at <= now)
    };
    let missed: Vec<Timestamp> = passed(since).take(MAX_MISSED + 1).collect();
    let (first, last) = (*missed.first()?, *missed.last()?);
    if missed.len() <= MAX_MISSED {
        return Some(Due { at: last, too_many_missed: false });
    }
    // Back from now in steps that grow, so that even a year of minutes is found quickly.
    let mut back = missed[1].duration_since(first);
    loop {
        let from = now.checked_sub(back).unwrap_or(last).max(last);
        if from == last {
            return Some(Due { at: passed(last).last().unwrap_or(last), too_many_missed: true });
        }
        if let Some(at) = passed(from).last() {
            return Some(Due { at, too_many_missed: true });
        }
        back = back.checked_mul(2).unwrap_or(jiff::SignedDuration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, since: &str, now: &str) -> Option<(String, bool)> {
        let schedule = Schedule::parse(schedule).unwrap();
        let due = due(&schedule, &TimeZone::UTC, since.parse().unwrap(), now.parse().unwrap());
        due.map(|due| (due.at.to_string(), due.too_many_missed))
    }

    #[test]
    fn only_the_last_of_the_missed_runs_is_due() {
        assert_eq!(check("0 * * * *", "2024-01-01T00:10:00Z", "2024-01-01T00:59:59Z"), None);
        assert_eq!(
            check("0 * * * *", "2024-01-01T00:10:00Z", "2024-01-01T01:00:00Z"),
            Some(("2024-01-01T01:00:00Z".into(), false))
        );
        assert_eq!(
            check("0 * * * *", "2024-01-01T00:10:00Z", "2024-01-03T07:30:00Z"),
            Some(("2024-01-03T07:00:00Z".into(), false))
        );
    }

    #[test]
    fn very_many_missed_runs_are_told() {
        assert_eq!(
            check("* * * * *", "2024-01-01T00:00:00Z", "2025-01-01T00:00:30Z"),
            Some(("2025-01-01T00:00:00Z".into(), true))
        );
        assert_eq!(
            check("* 0 * * *", "2024-01-01T00:00:00Z", "2024-06-01T12:00:00Z"),
            Some(("2024-06-01T00:59:00Z".into(), true))
        );
    }
}
