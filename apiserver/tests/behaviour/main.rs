//! What a client of the API server may rely on, a module per behaviour, named as the Kubernetes documentation names it.
//!
//! Requests go straight into the chain, with a store in memory: no sockets, no files.

#![allow(clippy::unwrap_used, reason = "a test's helpers may, like the test")]

mod api;
mod cluster;

mod access_reviews;
mod api_operations;
mod authorization;
mod bootstrap_tokens;
mod certificate_signing_requests;
mod chunked_lists;
mod component_statuses;
mod custom_resource_definitions;
mod custom_resources;
mod deletion;
mod discovery;
mod dry_run;
mod ephemeral_containers;
mod errors;
mod events;
mod field_validation;
mod generated_names;
mod health;
mod hostile_input;
mod immutable_data;
mod impersonation;
mod limit_ranges;
mod machine_code;
mod namespaces;
mod objects;
mod owner_references;
mod patches;
mod pod_binding;
mod pod_eviction;
mod pod_generation;
mod pod_logs;
mod pod_resize;
mod pod_security;
mod pod_streams;
mod pod_updates;
mod protobuf;
mod representations;
mod resource_quotas;
mod resource_versions;
mod runtime_classes;
mod scale;
mod selectors;
mod server_side_apply;
mod service_account_secrets;
mod service_account_tokens;
mod service_addresses;
mod serving;
mod watches;
mod webhook_configurations;
