//! `events`: what happened to one object, or to all.

use k8w_testkit::eventually;

use crate::sandbox;

/// The 31st of February never comes, which its CronJob is told.
#[test]
fn events_are_chosen_by_object_and_type() {
    let t = sandbox();
    t.kubectl.ok(&["create", "cronjob", "never", "--image=localhost/none:latest", "--schedule=59 23 31 2 *"]);
    let events = |arguments: &[&str]| t.kubectl.ok(&[&["events", "--for=cronjob/never"], arguments].concat());
    eventually("the CronJob's schedule is found to make no sense", || {
        let events = events(&[]);
        if events.contains("InvalidSchedule") { Ok(()) } else { Err(events) }
    });
    let table = events(&["--types=Warning"]);
    let line = table.lines().find(|line| line.contains("InvalidSchedule")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains("Warning") && line.contains("CronJob/never"), "{line}");
    assert!(line.contains("invalid schedule: 59 23 31 2 *"), "{line}");
    assert!(!events(&["--types=Normal"]).contains("InvalidSchedule"));
    assert!(!events(&["--no-headers"]).contains("LAST SEEN"));
    assert!(events(&["-o", "json"]).contains("\"reason\": \"InvalidSchedule\""));
    let all = t.kubectl.ok(&["events", "--all-namespaces"]);
    assert!(all.lines().any(|line| line.starts_with(&t.namespace) && line.contains("InvalidSchedule")), "{all}");
}
