//! `apiextensions.k8s.io`: CustomResourceDefinition, and the kinds that are made from it.

pub mod custom_resource;
pub mod custom_resource_definition;

pub const GROUP: &str = "apiextensions.k8s.io";
