//! What is true of every reconciler, whatever is asked of it and whatever goes wrong meanwhile: generated cases.
//!
//! A [`Row`] says what there is, what somebody may ask for next, what holds at every moment, and how the world looks when
//! all is done. A case is a world's seed, how unkind that world is (writes that fail, answers that are lost, crashes
//! between any two writes, stale and repeated watches, watches that lose their place) and what is asked for when. Of each:
//!
//! - it converges: once the world is kind it comes to rest where the last that was asked for says;
//! - it is idempotent: whoever starts anew in a world at rest writes nothing;
//! - it keeps what it promises on the way.
//!
//! A controller without a row fails the build, and so does one that has nothing to write in any case of its row.

mod accounts;
mod addresses;
mod placing;
mod tidying;
mod workloads;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use k8w_controllers::Config;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::MAX_STEPS;
use crate::cluster::{Chaos, Cluster, usual};
use crate::server::Server;

/// Cases of each row.
const CASES: u32 = 12;
/// Most changes that are asked for in a case, and most steps that are taken before each.
const MAX_CHANGES: usize = 5;
const MAX_WAIT: usize = 300;
/// How long a world has to come to rest whose nodes go on reporting: more than the longest patience in it.
const REST: Duration = Duration::from_secs(240);

pub struct Row {
    pub name: &'static str,
    /// Names of the controllers that it is about; each has something to write in some case of it.
    pub of: &'static [&'static str],
    /// What there is, beside two nodes and a namespace.
    pub prepare: fn(&mut Server),
    pub changes: &'static [fn(&mut Server)],
    /// Holds at every moment after the world has come to rest for the first time.
    pub promise: fn(&Server),
    /// Brings to rest what never rests by itself.
    pub rest: fn(&mut Server),
    /// Holds at rest.
    pub arrived: fn(&Server),
    /// How pods and time go by.
    pub world: fn(&mut Cluster),
    pub config: fn(&mut Config),
}

const ROW: Row = Row {
    name: "",
    of: &[],
    prepare: |_| {},
    changes: &[],
    promise: |_| {},
    rest: |_| {},
    arrived: |_| {},
    world: |_| {},
    config: |_| {},
};

#[derive(Debug)]
struct Case {
    seed: u64,
    chaos: Chaos,
    /// Steps that are taken first, and which of the row's changes comes then.
    changes: Vec<(usize, usize)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let chance = |most: f64| prop_oneof![Just(0.0), 0.0..most];
    let chaos = (chance(0.2), chance(0.1), chance(0.05), chance(0.2), chance(0.05));
    let chaos = chaos.prop_map(|(refused, unanswered, crash, replayed, relisted)| Chaos {
        refused,
        unanswered,
        crash,
        replayed,
        relisted,
    });
    let changes = prop::collection::vec((0..MAX_WAIT, any::<usize>()), 0..MAX_CHANGES);
    (any::<u64>(), chaos, changes).prop_map(|(seed, chaos, changes)| Case { seed, chaos, changes })
}

/// Names of the controllers that had something to write.
fn check(row: &Row, case: &Case) -> BTreeSet<&'static str> {
    let mut config = Cluster::config();
    (row.config)(&mut config);
    let mut cluster = Cluster::in_miniature(case.seed, case.chaos, config, |server| {
        usual(server);
        (row.prepare)(server);
    });
    (row.world)(&mut cluster);
    cluster.run(MAX_WAIT, |_| {});
    settle(&mut cluster, row, |_| {});
    cluster.trouble(case.chaos);
    for (wait, which) in &case.changes {
        cluster.run(*wait, row.promise);
        if let Some(change) = row.changes.get(which % row.changes.len().max(1)) {
            change(&mut cluster.server());
        }
    }
    cluster.run(MAX_WAIT, row.promise);
    (row.rest)(&mut cluster.server());
    settle(&mut cluster, row, row.promise);
    let before = cluster.writes();
    cluster.restart();
    settle(&mut cluster, row, row.promise);
    assert_eq!(cluster.writes(), before, "whoever starts anew writes nothing");
    cluster.wrote()
}

fn settle(cluster: &mut Cluster, row: &Row, watch: impl FnMut(&Server)) {
    cluster.calm();
    if cluster.nodes_report {
        cluster.run_for(REST, watch);
    } else {
        assert!(cluster.run(MAX_STEPS, watch), "it settles");
    }
    (row.arrived)(&cluster.server());
}

fn check_rows(rows: &[Row]) {
    for row in rows {
        let config =
            ProptestConfig { cases: CASES, failure_persistence: None, max_shrink_iters: 64, ..Default::default() };
        // The same cases each time: who wants others changes their number.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let wrote = RefCell::new(BTreeSet::new());
        let result = TestRunner::new_with_rng(config, rng).run(&cases(), |case| {
            let checked = std::panic::catch_unwind(|| check(row, &case));
            wrote.borrow_mut().extend(checked.map_err(|cause| TestCaseError::fail(words(&*cause)))?);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", row.name);
        }
        let idle: Vec<_> = row.of.iter().filter(|name| !wrote.borrow().contains(*name)).collect();
        assert!(idle.is_empty(), "{}: nothing to write for {idle:?}", row.name);
    }
}

/// What a panic said.
fn words(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

const TABLES: [&[Row]; 5] = [workloads::ROWS, placing::ROWS, accounts::ROWS, addresses::ROWS, tidying::ROWS];

#[test]
fn every_controller_has_a_row() {
    let rows: BTreeSet<&str> = TABLES.iter().flat_map(|table| table.iter()).flat_map(|row| row.of).copied().collect();
    let controllers = k8w_controllers::controllers(&Config::default());
    assert_eq!(rows, controllers.iter().map(|controller| controller.name()).collect());
}

#[test]
fn workloads_converge_and_keep_their_promises() {
    check_rows(workloads::ROWS);
}

#[test]
fn pods_are_placed_and_leave_as_nodes_change() {
    check_rows(placing::ROWS);
}

#[test]
fn addresses_are_given_once_and_taken_back() {
    check_rows(addresses::ROWS);
}

#[test]
fn accounts_and_tokens_keep_each_other_company() {
    check_rows(accounts::ROWS);
}

#[test]
fn everything_else_converges_and_rests() {
    check_rows(tidying::ROWS);
}
