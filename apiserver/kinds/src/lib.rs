//! What a kind is: the schema core, and one table of every resource with its defaulting, validation and columns.
//!
//! Pure: no runtime, no sockets, no client and no clock. Objects are [`serde_json::Value`]; time comes in from the
//! caller. To add a kind, write its file, name it in its group's module, and add its row to [`registry`].

pub mod addresses;
pub mod admissionregistration;
pub mod age;
pub mod any_certificate;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod credentials;
mod difference;
pub mod discovery;
pub mod events;
pub mod field;
pub mod flowcontrol;
pub mod intstr;
pub mod json;
pub mod jsonpath;
pub mod kind;
pub mod machine_code;
pub mod metadata;
pub mod names;
pub mod networking;
pub mod node;
pub mod node_stream;
pub mod object;
pub mod pod_security;
pub mod policy;
pub mod quantity;
pub mod quota;
pub mod rbac;
pub mod registry;
pub mod resource;
pub mod rules;
pub mod scheduling;
pub mod schema;
pub mod selector;
pub mod storage;
#[cfg(test)]
mod testing;

pub use field::{Field, FieldError, FieldErrorKind, FieldPath};
pub use kind::{Cell, CellContext, Column, KindDef, ScalePaths, SelectableField, Shape, Strategy, Subresource};
