//! What a pod asks of its node's state machine: a small, plain extract of the Pod.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;

use super::containers;
use super::room::Pending;

/// `terminationGracePeriodSeconds` when the pod gives none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// The parts of a Pod that decide which of its containers should run.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub restart: RestartPolicy,
    /// Init containers in order (sidecars among them), then the main ones, then those that were added to look into it.
    pub containers: Vec<ContainerPlan>,
    pub grace: Duration,
    pub active_deadline: Option<Duration>,
    /// Set when the pod is being deleted: how long its containers may take.
    pub deletion_grace: Option<Duration>,
    /// Why the containers' resources are not those that the manifest gives them now.
    pub resize_pending: Option<Pending>,
}

/// One container of a [`PodPlan`].
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerPlan {
    pub name: String,
    pub role: Role,
    pub image: String,
    pub restart: RestartPolicy,
    pub rules: Vec<RestartRule>,
    /// What the node gives it.
    pub resources: Resources,
    /// Resources whose change it does not live through (`resizePolicy`).
    pub restarts_for: Vec<String>,
    pub has_startup_probe: bool,
    pub has_readiness_probe: bool,
    pub has_post_start_hook: bool,
    /// `terminationGracePeriodSeconds` of the probes themselves, where they have their own.
    pub startup_grace: Option<Duration>,
    pub liveness_grace: Option<Duration>,
}

/// What the node gives a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub own: core::ResourceRequirements,
    /// What its pod as a whole has.
    pub pod: core::ResourceRequirements,
}

/// Where a container stands in its pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, kept running beside the main ones.
    Sidecar,
    Main,
    /// Added while the pod runs, to look into it; run once, and no part of its phase (KEP-277).
    Ephemeral,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A container's `restartPolicyRules` entry, by exit code (KEP-5307).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// All containers of the pod are restarted, not only its own (KEP-5532).
    pub restarts_all: bool,
    /// `In` when true, else `NotIn`.
    pub within: bool,
    pub codes: Vec<i32>,
}

impl PodPlan {
    /// Reads a Pod. Missing fields take the API's defaults.
    pub fn of(pod: &core::Pod) -> PodPlan {
        let spec = pod.spec.as_ref();
        let restart = RestartPolicy::parse(spec.and_then(|s| s.restart_policy.as_deref()), RestartPolicy::Always);
        let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let main = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let added = spec.and_then(|s| s.ephemeral_containers.as_deref()).unwrap_or_default();
        let whole = spec.and_then(|s| s.resources.clone()).unwrap_or_default();
        let containers =
            init.iter()
                .map(|container| ContainerPlan::init(container, restart))
                .chain(main.iter().map(|container| ContainerPlan::new(container, Role::Main, restart)))
                .chain(added.iter().map(|added| {
                    ContainerPlan::new(&containers::ordinary(added), Role::Ephemeral, RestartPolicy::Never)
                }))
                .map(|plan| plan.within(&whole))
                .collect();
        PodPlan {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            restart,
            containers,
            grace: spec.and_then(|s| s.termination_grace_period_seconds).map_or(DEFAULT_GRACE, seconds),
            active_deadline: spec.and_then(|s| s.active_deadline_seconds).map(seconds),
            resize_pending: None,
            deletion_grace: pod.metadata.deletion_timestamp.as_ref().map(|_| {
                let given = pod.metadata.deletion_grace_period_seconds;
                given.or(spec.and_then(|s| s.termination_grace_period_seconds)).map_or(DEFAULT_GRACE, seconds)
            }),
        }
    }

    /// Whether some container's end may restart all of them.
    pub fn may_restart_all(&self) -> bool {
        self.containers.iter().flat_map(|container| &container.rules).any(|rule| rule.restarts_all)
    }

    /// `name_namespace(uid)`, as the kubelet names a pod in its messages.
    pub fn display(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }
}

impl ContainerPlan {
    fn init(container: &core::Container, pod: RestartPolicy) -> ContainerPlan {
        if container.restart_policy.as_deref() == Some("Always") {
            return ContainerPlan::new(container, Role::Sidecar, RestartPolicy::Always);
        }
        // An init container that succeeded is never run again.
        let restart = if pod == RestartPolicy::Always { RestartPolicy::OnFailure } else { pod };
        ContainerPlan::new(container, Role::Init, restart)
    }

    fn new(container: &core::Container, role: Role, inherited: RestartPolicy) -> ContainerPlan {
        let own = RestartPolicy::parse(container.restart_policy.as_deref(), inherited);
        let grace = |probe: &Option<core::Probe>| probe.as_ref()?.termination_grace_period_seconds.map(seconds);
        ContainerPlan {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            restart: if role == Role::Init && own == RestartPolicy::Always { RestartPolicy::OnFailure } else { own },
            rules: container.restart_policy_rules.iter().flatten().filter_map(RestartRule::of).collect(),
            resources: Resources { own: container.resources.clone().unwrap_or_default(), ..Resources::default() },
            restarts_for: container
                .resize_policy
                .iter()
                .flatten()
                .filter(|policy| policy.restart_policy == "RestartContainer")
                .map(|policy| policy.resource_name.clone())
                .collect(),
            has_startup_probe: container.startup_probe.is_some(),
            has_readiness_probe: container.readiness_probe.is_some(),
            has_post_start_hook: container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some()),
            startup_grace: grace(&container.startup_probe),
            liveness_grace: grace(&container.liveness_probe),
        }
    }

    /// The same in a pod that has this as a whole.
    fn within(mut self, pod: &core::ResourceRequirements) -> ContainerPlan {
        self.resources.pod = pod.clone();
        self
    }

    /// Whether a running attempt that has these resources has to be started again to get its own.
    pub fn restarts_for_resources(&self, has: &Resources) -> bool {
        let of = |resources: &Resources, name: &str| {
            let lists = [&resources.own.requests, &resources.own.limits];
            lists.map(|list| list.as_ref().and_then(|list| list.get(name)).cloned())
        };
        self.restarts_for.iter().any(|name| of(&self.resources, name) != of(has, name))
    }

    /// Whether an attempt that ended with this code is followed by another.
    pub fn restarts_after(&self, exit_code: i32) -> bool {
        if self.role == Role::Init && exit_code == 0 {
            return false;
        }
        if self.rule(exit_code).is_some() {
            return true;
        }
        match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }

    /// Whether an attempt that ended with this code has all containers of its pod restarted.
    pub fn restarts_all_after(&self, exit_code: i32) -> bool {
        self.rule(exit_code).is_some_and(|rule| rule.restarts_all)
    }

    /// The first rule that speaks of this code.
    fn rule(&self, exit_code: i32) -> Option<&RestartRule> {
        self.rules.iter().find(|rule| rule.matches(exit_code))
    }
}

impl RestartPolicy {
    /// Whether what was stopped for its own good is started again, however it ended.
    pub fn restarts_unhealthy(self) -> bool {
        self != RestartPolicy::Never
    }

    fn parse(text: Option<&str>, inherited: RestartPolicy) -> RestartPolicy {
        match text {
            Some("Always") => RestartPolicy::Always,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => inherited,
        }
    }
}

impl RestartRule {
    fn of(rule: &core::ContainerRestartRule) -> Option<RestartRule> {
        let codes = rule.exit_codes.as_ref()?;
        Some(RestartRule {
            restarts_all: rule.action == "RestartAllContainers",
            within: codes.operator == "In",
            codes: codes.values.clone().unwrap_or_default(),
        })
    }

    fn matches(&self, exit_code: i32) -> bool {
        self.codes.contains(&exit_code) == self.within
    }
}

fn seconds(value: i64) -> Duration {
    Duration::from_secs(value.max(0).unsigned_abs())
}
