//! YAML: whatever decodes is written as YAML, and as JSON, that decodes to the same again.

use crate::input::typed;
use crate::keeps::keeps_json;
use k8w_apiserver::codec::to_yaml;
use k8w_kinds::schema::{Decoded, Format};

/// See the module.
pub fn check(input: &[u8]) {
    let Some((schema, body)) = typed(input) else { return };
    let Ok(Decoded { value, .. }) = schema.decode(body, Format::Yaml) else { return };
    keeps_json(&schema, &value);
    let yaml = to_yaml(value.to_string().as_bytes());
    let again = schema.decode(&yaml, Format::Yaml);
    assert_eq!(again, Ok(Decoded { value, issues: Vec::new() }), "{}", String::from_utf8_lossy(&yaml));
}
