//! An ephemeral volume: that of a claim which is made with its pod, after a template, and goes with it.
//!
//! A controller makes the claim; a node knows it by its name, and by whom it belongs to. From there on it is a volume as that of
//! any claim: [`super::persistent`] or [`super::nfs`].

/// The name of the pod's claim for one of its volumes.
pub fn claim_name(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// Whether a claim of that name is the pod's own, by what the owners of the claim are: their uids, and whether each is the one
/// that controls it. Whoever may make claims could have made another of that name before, and would see what the pod writes.
pub fn is_own<'a>(pod_uid: &str, owners: impl IntoIterator<Item = (&'a str, bool)>) -> bool {
    owners.into_iter().any(|(uid, controls)| controls && uid == pod_uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_the_pods_own_when_the_pod_controls_it() {
        assert_eq!(claim_name("web-0", "scratch"), "web-0-scratch");
        for (owners, own) in [
            (&[("u", true)][..], true),
            (&[("other", false), ("u", true)], true),
            (&[("u", false)], false),
            (&[("other", true)], false),
            (&[], false),
        ] {
            assert_eq!(is_own("u", owners.iter().copied()), own, "{owners:?}");
        }
    }
}
