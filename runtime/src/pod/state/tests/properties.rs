//! Whatever happens to a pod, in whatever order, some things hold.

use proptest::prelude::*;

use super::super::Life;
use super::*;

/// What may happen, with more noise than a well-behaved engine would make.
#[derive(Clone, Debug)]
enum Happening {
    SetUp(bool),
    Started(usize),
    Exited(usize, i32),
    Refused(usize, bool),
    Probed(usize, bool),
    Delete(u64),
    Removed,
    Image(usize),
    Wait(u32),
    Stale(usize),
    Serves(usize),
    /// Other resources are wanted, or were given.
    Resize(usize),
    Resized(usize, bool),
    /// The attempt beside the current one has started, or was refused.
    Beside(usize, bool),
    /// The attempt before the current one is over.
    Retired(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => any::<bool>().prop_map(Happening::SetUp),
        6 => (0..4_usize).prop_map(Happening::Started),
        6 => ((0..4_usize), (0..3_i32)).prop_map(|(index, code)| Happening::Exited(index, code)),
        3 => ((0..4_usize), any::<bool>()).prop_map(|(index, pull)| Happening::Refused(index, pull)),
        3 => ((0..4_usize), any::<bool>()).prop_map(|(index, healthy)| Happening::Probed(index, healthy)),
        1 => (0..60_u64).prop_map(Happening::Delete),
        1 => Just(Happening::Removed),
        2 => (0..4_usize).prop_map(Happening::Image),
        6 => (0..700_u32).prop_map(Happening::Wait),
        2 => (0..4_usize).prop_map(Happening::Stale),
        3 => (0..4_usize).prop_map(Happening::Serves),
        2 => (0..4_usize).prop_map(Happening::Resize),
        3 => ((0..4_usize), any::<bool>()).prop_map(|(index, given)| Happening::Resized(index, given)),
        3 => ((0..4_usize), any::<bool>()).prop_map(|(index, starts)| Happening::Beside(index, starts)),
        3 => (0..4_usize).prop_map(Happening::Retired),
    ]
}

fn pod(policy: &str) -> PodPlan {
    plan(json!({
        "restartPolicy": policy,
        "initContainers": [{ "name": "i", "image": "i" }, { "name": "s", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "i", "readinessProbe": { "httpGet": { "port": 1 } } },
                       { "name": "b", "image": "i", "restartPolicyRules": [
                           { "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [2] } }] }]
    }))
}

fn event(state: &PodState, happening: &Happening) -> Event {
    let named = |index: usize| (state.containers()[index].plan.name.clone(), state.containers()[index].attempt);
    match *happening {
        Happening::SetUp(true) => Event::SetUp(Ok(())),
        Happening::SetUp(false) => {
            Event::SetUp(Err(vec![SetupError { reason: "FailedMount", message: "m".to_owned() }]))
        }
        Happening::Started(index) => {
            let (container, attempt) = named(index);
            Event::Started { container, attempt }
        }
        Happening::Exited(index, exit_code) => {
            let (container, attempt) = named(index);
            Event::Exited { container, attempt, exit_code, reason: "Error".to_owned(), message: String::new() }
        }
        Happening::Refused(index, pull) => {
            let (container, attempt) = named(index);
            let cancelled = matches!(state.containers()[index].life, Life::Launching { cancelled: true, .. });
            let reason = match (cancelled, pull) {
                (true, _) => RefusalReason::Cancelled,
                (false, true) => RefusalReason::ErrImagePull,
                (false, false) => RefusalReason::CreateContainerConfigError,
            };
            Event::Refused { container, attempt, refusal: Refusal::new(reason, "m") }
        }
        Happening::Probed(index, healthy) => {
            let (container, attempt) = named(index);
            let probe = if index % 2 == 0 { ProbeKind::Readiness } else { ProbeKind::Liveness };
            Event::Probed { container, attempt, probe, healthy }
        }
        Happening::Delete(grace) => {
            let deletion_grace = Some(Duration::from_secs(grace));
            Event::Plan(PodPlan { deletion_grace, ..state.plan().clone() })
        }
        Happening::Removed => Event::Removed,
        Happening::Image(index) => {
            let mut plan = state.plan().clone();
            plan.containers[index].image.push('x');
            Event::Plan(plan)
        }
        Happening::Wait(_) => Event::Tick,
        Happening::Stale(index) => {
            let (container, attempt) = named(index);
            Event::Started { container, attempt: attempt.wrapping_sub(1) }
        }
        Happening::Serves(index) => {
            let (container, attempt) = named(index);
            Event::Serves { container, attempt }
        }
        Happening::Resize(index) => {
            let mut plan = state.plan().clone();
            let limits = plan.containers[index].resources.own.limits.get_or_insert_default();
            let memory = limits.entry("memory".to_owned()).or_default();
            memory.0.push('1');
            Event::Plan(plan)
        }
        Happening::Resized(index, given) => {
            let (container, attempt) = named(index);
            Event::Resized { container, attempt, result: if given { Ok(()) } else { Err("m".to_owned()) } }
        }
        Happening::Beside(index, true) => {
            let (container, attempt) = named(index);
            Event::Started { container, attempt: attempt + 1 }
        }
        Happening::Beside(index, false) => {
            let (container, attempt) = named(index);
            let refusal = Refusal::new(RefusalReason::Cancelled, "");
            Event::Refused { container, attempt: attempt + 1, refusal }
        }
        Happening::Retired(index) => {
            let (container, attempt) = named(index);
            let (reason, message) = ("Completed".to_owned(), String::new());
            Event::Exited { container, attempt: attempt.wrapping_sub(1), exit_code: 0, reason, message }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_pod_stays_sane(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let mut state = PodState::new(pod(policy), at(0.0));
        let mut now = 0.0;
        // By container: the attempt that was launched and has not ended.
        let mut under_way: std::collections::HashMap<String, u32> = std::collections::HashMap::new();
        for happening in &happenings {
            now += if let Happening::Wait(tenths) = happening { f64::from(*tenths) / 10.0 } else { 0.001 };
            let before = state.clone();
            let event = event(&state, happening);
            if let Event::Refused { container, attempt, .. } = &event
                && under_way.get(container) == Some(attempt)
            {
                under_way.remove(container);
            }
            let actions = step(&mut state, event, at(now));
            for (old, new) in before.containers().iter().zip(state.containers()) {
                prop_assert!(new.attempt >= old.attempt && new.attempt <= old.attempt + 1, "restart counts grow by one");
                if !new.is_busy() {
                    under_way.remove(&new.plan.name);
                }
            }
            for action in &actions {
                match action {
                    Action::Launch { container, attempt, .. } => {
                        let other = under_way.insert(container.clone(), *attempt);
                        prop_assert!(other.is_none_or(|other| other < *attempt), "two attempts of {container}");
                        prop_assert!(state.ending().is_none(), "a pod that ends starts nothing");
                    }
                    Action::Close => prop_assert!(!before.is_closed(), "closed once"),
                    _ => {}
                }
            }
            if let Some(outcome) = before.outcome() {
                prop_assert_eq!(state.outcome(), Some(outcome), "a final phase is final");
            }
            if state.is_closed() {
                prop_assert!(state.containers().iter().all(|container| !container.is_busy()));
            }
            if let Some(wake) = state.next_wake() {
                let mut later = state.clone();
                step(&mut later, Event::Tick, wake.max(at(now)));
                prop_assert!(later.next_wake() != Some(wake) || wake > at(now), "a tick that is due does something");
            }
        }
    }

    #[test]
    fn a_deleted_pod_always_ends(
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut state = PodState::new(pod("Always"), at(0.0));
        for (index, happening) in happenings.iter().enumerate() {
            let event = event(&state, happening);
            step(&mut state, event, at(index as f64));
        }
        let deletion_grace = Some(Duration::from_secs(1));
        let plan = PodPlan { deletion_grace, ..state.plan().clone() };
        step(&mut state, Event::Plan(plan), at(1_000.0));
        // A well-behaved engine answers what is live, at most three times for each container.
        for _ in 0..3 * state.containers().len() {
            for index in 0..state.containers().len() {
                for beside in [Happening::Beside(index, false), Happening::Retired(index)] {
                    let event = event(&state, &beside);
                    step(&mut state, event, at(1_001.0));
                }
                let answer = match state.containers()[index].life {
                    Life::Launching { .. } => Happening::Refused(index, false),
                    Life::Stopping { .. } => Happening::Exited(index, 0),
                    _ => continue,
                };
                let event = event(&state, &answer);
                step(&mut state, event, at(1_001.0));
            }
        }
        prop_assert!(state.is_closed());
    }
}
