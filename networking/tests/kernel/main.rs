//! The kernel's side, each test in a network namespace of its own. Without the privilege to make one, or without the
//! programs that it takes, they are shown as ignored.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod addresses;
mod harness;
mod names;
mod policies;
mod services;

/// Every test by its name.
const TESTS: &[(&str, fn())] = &[
    ("addresses::pods_are_reached_and_nothing_stays_behind", addresses::pods_are_reached_and_nothing_stays_behind),
    (
        "addresses::another_namespace_comes_under_its_own_address",
        addresses::another_namespace_comes_under_its_own_address,
    ),
    ("addresses::what_a_killed_run_left_is_replaced", addresses::what_a_killed_run_left_is_replaced),
    ("addresses::two_clusters_do_not_share_a_kernel", addresses::two_clusters_do_not_share_a_kernel),
    ("addresses::ranges_of_others_are_left_alone", addresses::ranges_of_others_are_left_alone),
    ("addresses::idle_pods_cost_no_socket", addresses::idle_pods_cost_no_socket),
    ("addresses::datagrams_reach_pods_and_answers_come_back", addresses::datagrams_reach_pods_and_answers_come_back),
    ("names::cluster_dns_answers_at_its_address", names::cluster_dns_answers_at_its_address),
    ("policies::clients_are_told_apart_by_their_addresses", policies::clients_are_told_apart_by_their_addresses),
    ("services::every_field_has_its_values", services::every_field_has_its_values),
    ("services::every_combination_leads_where_it_should", services::every_combination_leads_where_it_should),
];

fn main() {
    k8w_testkit::run_in_namespaces(TESTS)
}
