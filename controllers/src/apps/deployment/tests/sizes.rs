//! How large each set becomes: tables of numbers.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::super::bounds::Bounds;
use super::super::scale::{self, Resize};

/// A set of this size, all or some of which is available; the higher `age`, the older.
fn set(name: &str, age: usize, replicas: i32, available: i32) -> Arc<ReplicaSet> {
    sized(name, age, replicas, available, 0, 0)
}

/// One that was last sized for a Deployment of `desired` and at most `max` replicas.
fn sized(name: &str, age: usize, replicas: i32, available: i32, desired: i32, max: i32) -> Arc<ReplicaSet> {
    let yaml = format!(
        "
metadata:
  name: {name}
  uid: {name}
  creationTimestamp: 2024-01-01T00:00:{:02}Z
  annotations: {{deployment.kubernetes.io/desired-replicas: '{desired}', deployment.kubernetes.io/max-replicas: '{max}'}}
spec: {{replicas: {replicas}, selector: {{}}}}
status: {{replicas: {replicas}, availableReplicas: {available}}}
",
        59 - age
    );
    Arc::new(serde_saphyr::from_str(&yaml).unwrap())
}

fn bounds(replicas: i32, max_surge: i32, max_unavailable: i32) -> Bounds {
    Bounds { replicas, max_surge, max_unavailable }
}

fn size_of(set: &ReplicaSet, sizes: &[Resize]) -> i32 {
    let resized = sizes.iter().find(|resize| resize.set.metadata.name == set.metadata.name);
    resized.map_or(scale::spec_replicas(set), |resize| resize.replicas)
}

/// Sizes after a Deployment of this many replicas and this surge was resized: the new set's, if there is one, and the old
/// ones', the newest first.
struct Resized {
    is: (i32, i32),
    was: (i32, i32),
    new: Option<(i32, i32)>,
    old: &'static [(i32, i32)],
}

#[test]
fn a_resize_gives_each_set_its_share() {
    let one = |is: i32, was: i32, new: (i32, i32)| Resized { is: (is, 0), was: (was, 0), new: Some(new), old: &[] };
    let some = |is: i32, was: i32, new, old| Resized { is: (is, 0), was: (was, 0), new: Some(new), old };
    let cases = [
        one(12, 10, (10, 12)),
        one(5, 10, (10, 5)),
        some(10, 5, (2, 4), &[(3, 6)]),
        some(3, 5, (2, 1), &[(3, 2)]),
        some(4, 9, (8, 4), &[(1, 0)]),
        some(10, 7, (2, 3), &[(3, 4), (2, 3)]),
        some(8, 13, (2, 1), &[(8, 5), (3, 2)]),
        // What is left over: of equals the newest gets one more, and the oldest loses one first.
        some(4, 3, (1, 2), &[(1, 1), (1, 1)]),
        some(2, 3, (1, 1), &[(1, 1), (1, 0)]),
        Resized { is: (5, 0), was: (4, 0), new: None, old: &[(2, 3), (2, 2)] },
        some(0, 6, (3, 0), &[(2, 0), (1, 0)]),
        some(6, 6, (0, 6), &[(0, 0), (0, 0)]),
        Resized { is: (20, 2), was: (10, 2), new: Some((6, 11)), old: &[(6, 11)] },
        Resized { is: (50, 6), was: (10, 3), new: Some((5, 22)), old: &[(8, 34)] },
        // Another template came along with the resize.
        Resized { is: (14, 0), was: (10, 0), new: None, old: &[(7, 10), (3, 4)] },
    ];
    for (case, Resized { is, was, new, old }) in cases.into_iter().enumerate() {
        let of = |age: usize, (size, _): (i32, i32)| sized(&format!("v{age}"), age, size, size, was.0, was.0 + was.1);
        let newest = new.map(|sizes| of(0, sizes));
        let mut others: Vec<_> = old.iter().enumerate().map(|(at, sizes)| of(at + 1, *sizes)).collect();
        others.reverse();
        let sizes = scale::rescale(&bounds(is.0, is.1, 0), true, was.0, newest.as_ref(), &others);
        let found: Vec<i32> = newest.iter().chain(others.iter().rev()).map(|set| size_of(set, &sizes)).collect();
        let expected: Vec<i32> = new.iter().chain(old).map(|(_, size)| *size).collect();
        assert_eq!(found, expected, "case {case}");
    }
}

#[test]
fn a_resize_that_reached_some_sets_only_goes_on_with_the_others() {
    let new = sized("v3", 0, 2, 2, 5, 5);
    let old = [sized("v1", 2, 1, 1, 5, 5), sized("v2", 1, 1, 1, 3, 3)];
    let sizes = scale::rescale(&bounds(5, 0, 0), true, 5, Some(&new), &old);
    assert_eq!([&new, &old[1], &old[0]].map(|set| size_of(set, &sizes)), [2, 2, 1]);
}

#[test]
fn a_new_set_that_is_full_but_broken_takes_nothing_from_the_old_ones() {
    let (new, old) = (sized("v2", 0, 2, 0, 2, 3), [sized("v1", 1, 1, 1, 2, 3)]);
    let sizes = scale::rescale(&bounds(2, 1, 1), true, 2, Some(&new), &old);
    assert_eq!((size_of(&new, &sizes), size_of(&old[0], &sizes)), (2, 1));
    // Once it works, the others go.
    let new = sized("v2", 0, 2, 2, 2, 3);
    let sizes = scale::rescale(&bounds(2, 1, 1), true, 2, Some(&new), &old);
    assert_eq!((size_of(&new, &sizes), size_of(&old[0], &sizes)), (2, 0));
}

#[test]
fn the_new_set_grows_into_the_surge_and_never_stays_too_large() {
    // Replicas and surge; sizes of the old and of the new set; what the new one becomes.
    let cases = [
        ((10, 0), 10, 0, 0),
        ((10, 2), 10, 0, 2),
        ((10, 2), 5, 0, 7),
        ((10, 2), 10, 2, 2),
        ((10, 2), 2, 11, 10),
        ((6, 10), 5, 2, 6),
        ((1, 1), 5, 1, 1),
    ];
    for ((replicas, surge), old, new, expected) in cases {
        let sizes = scale::grow_new(&bounds(replicas, surge, 0), &set("new", 0, new, new), &[set("old", 1, old, old)]);
        assert_eq!(sizes.map_or(new, |resize| resize.replicas), expected, "{replicas}+{surge}, {old} old, {new} new");
    }
}

#[test]
fn old_sets_lose_what_is_broken_first_and_then_what_may_be_unavailable() {
    // Of 10 replicas: how many may be unavailable; sizes of the old and the new set and how much of each is available; what
    // the old one becomes.
    let cases = [
        (1, (10, 10), (0, 0), 9),
        (2, (10, 10), (0, 0), 8),
        (2, (10, 8), (0, 0), 8),
        (2, (10, 9), (0, 0), 8),
        // What the new set lacks must not cost the old one more.
        (2, (8, 8), (2, 0), 8),
        (2, (0, 0), (10, 10), 0),
        (2, (10, 1), (0, 0), 8),
        // Nothing to spare: not even what is broken goes.
        (0, (10, 8), (0, 0), 10),
        (3, (10, 10), (2, 2), 5),
    ];
    for (unavailable, (old, old_available), (new, new_available), expected) in cases {
        let old_set = set("old", 1, old, old_available);
        let sizes = scale::shrink_old(
            &bounds(10, 0, unavailable),
            Some(&set("new", 0, new, new_available)),
            std::slice::from_ref(&old_set),
        );
        let found = size_of(&old_set, &sizes);
        assert_eq!(found, expected, "{unavailable} of {old_available}/{old} old, {new_available}/{new} new");
    }
}

#[test]
fn what_is_broken_goes_from_the_oldest_set_first() {
    let old = [set("v1", 3, 3, 1), set("v2", 2, 3, 2), set("v3", 1, 4, 4)];
    let sizes = scale::shrink_old(&bounds(8, 2, 2), Some(&set("v4", 0, 0, 0)), &old);
    assert_eq!(old.each_ref().map(|set| size_of(set, &sizes)), [0, 2, 4]);
}
