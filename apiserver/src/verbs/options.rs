//! The options that all writes share: `meta.k8s.io/v1` CreateOptions, UpdateOptions and PatchOptions.

use crate::ApiServer;
use crate::call::Call;
use crate::object_store::Write;
use crate::resources::Resource;
use crate::status::Status;
use http::header;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::metadata;

/// How much of a user agent is a manager's name.
const MANAGER_LIMIT_CHARS: usize = 128;

/// What is done about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
    /// Who writes; from the user agent when the client does not say.
    pub manager: String,
    /// Whether the client said who writes.
    manager_given: bool,
}

impl WriteOptions {
    /// `kind` is the name of the options for messages, such as `CreateOptions`.
    pub fn parse(call: &Call, kind: &str) -> Result<Self, Status> {
        let query = &call.query;
        let validation = match query.non_empty("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = FieldPath::new("fieldValidation");
                let error = FieldError::not_supported(&path, other, &["Ignore", "Strict", "Warn"]);
                return Err(invalid(kind, &[error]));
            }
        };
        let manager = query.non_empty("fieldManager");
        let wrong = manager.map(|manager| metadata::field_manager(manager, &FieldPath::new("fieldManager")));
        if let Some(wrong) = wrong.filter(|wrong| !wrong.is_empty()) {
            return Err(invalid(kind, &wrong));
        }
        Ok(WriteOptions {
            dry_run: dry_run(query.all("dryRun"), kind)?,
            validation,
            manager: manager.map_or_else(|| from_user_agent(call), str::to_string),
            manager_given: manager.is_some(),
        })
    }

    /// The options of a patch. An apply says who applies, and it alone can be forced.
    pub fn of_patch(call: &Call, is_apply: bool) -> Result<Self, Status> {
        let options = Self::parse(call, "PatchOptions")?;
        let error = match is_apply {
            true if !options.manager_given => {
                FieldError::required(&FieldPath::new("fieldManager"), "is required for apply patch")
            }
            false if call.query.get("force").is_some() => {
                FieldError::forbidden(&FieldPath::new("force"), "may not be specified for non-apply patch")
            }
            _ => return Ok(options),
        };
        Err(invalid("PatchOptions", &[error]))
    }

    /// The write that these options describe.
    pub fn write<'a>(&'a self, server: &'a ApiServer, resource: &'a Resource, call: &'a Call) -> Write<'a> {
        Write {
            server,
            resource,
            subresource: &call.info.subresource,
            namespace: &call.info.namespace,
            name: &call.info.name,
            user: &call.user,
            dry_run: self.dry_run,
            manager: &self.manager,
            now: server.config.outside.now(),
            warnings: Vec::new(),
        }
    }
}

/// The only way to try a write is `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, Status> {
    let mut dry = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported(&FieldPath::new("dryRun"), value, &["All"]);
            return Err(invalid(kind, &[error]));
        }
        dry = true;
    }
    Ok(dry)
}

/// 422 for options that make no sense.
pub fn invalid(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid("meta.k8s.io", kind, "", errors)
}

/// The user agent up to its first slash, as Kubernetes takes it.
fn from_user_agent(call: &Call) -> String {
    let agent = call.header(header::USER_AGENT).unwrap_or_default();
    let name: String = agent.chars().take_while(|c| *c != '/').take(MANAGER_LIMIT_CHARS).collect();
    if name.is_empty() { "unknown".into() } else { name }
}
