//! Paths to fields as CRDs write them in `selectableFields` and in rules' `fieldPath`: `.spec.size`, `.spec['a.b']`.

use serde_json::Value;

use super::members;

/// A field that a path leads to.
pub(crate) struct Found<'s> {
    /// The path in the form that errors have: `spec.a[b]`.
    pub path: String,
    pub schema: Option<&'s Value>,
}

/// The field that `path` leads to in a structural schema.
///
/// # Errors
/// Why it leads nowhere, in Kubernetes' words.
pub(crate) fn find<'s>(path: &str, schema: &'s Value, allow_keys: bool) -> Result<Found<'s>, String> {
    let mut found = Found { path: String::new(), schema: Some(schema) };
    let mut rest = path;
    while let Some(token) = next(&mut rest) {
        match token {
            "." => found.enter(next(&mut rest).ok_or_else(end)?)?,
            "[" if !allow_keys => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let token = next(&mut rest).ok_or_else(end)?;
                let inside = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
                let Some(inside) = inside else { return Err(format!("expected single quoted string but got {token}")) };
                found.enter(&inside.replace("\\'", "'").replace("\\\\", "\\"))?;
                match next(&mut rest).ok_or_else(end)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

fn end() -> String {
    "unexpected end of JSON path".to_owned()
}

/// The next of `.`, `[`, `]`, a text in single quotes, or whatever else stands between.
fn next<'p>(rest: &mut &'p str) -> Option<&'p str> {
    let text = *rest;
    let length = match text.chars().next()? {
        '.' | '[' | ']' => 1,
        '\'' => {
            let bytes = text.as_bytes();
            let closing = (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\');
            closing.map_or(text.len(), |closing| closing + 1)
        }
        _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
    };
    let (token, after) = text.split_at(length);
    *rest = after;
    Some(token)
}

impl Found<'_> {
    fn enter(&mut self, name: &str) -> Result<(), String> {
        let nowhere = || "does not refer to a valid field".to_owned();
        let schema = self.schema.ok_or_else(nowhere)?;
        if members(schema, "properties").next().is_some() {
            self.schema = Some(members(schema, "properties").find(|(known, _)| *known == name).ok_or_else(nowhere)?.1);
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
        } else {
            let values = schema.get("additionalProperties").filter(|values| !values.is_null()).ok_or_else(nowhere)?;
            self.schema = Some(values).filter(|values| values.is_object());
            self.path.push_str(&format!("[{name}]"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        let schema = json!({"properties": {"spec": {"properties": {"a": {"type": "string"},
            "m": {"additionalProperties": {"type": "string"}}}}}});
        let cases = [
            (".spec.a", Ok("spec.a")),
            (".spec['a']", Ok("spec.a")),
            (".spec.m['x.y']", Ok("spec.m[x.y]")),
            (".spec.b", Err("does not refer to a valid field")),
            (".spec.a.b", Err("does not refer to a valid field")),
            ("spec", Err("expected [ or . but got: spec")),
            (".", Err("unexpected end of JSON path")),
            (".spec[0]", Err("expected single quoted string but got 0")),
            (".spec['a'", Err("unexpected end of JSON path")),
        ];
        for (path, expected) in cases {
            let found = find(path, &schema, true).map(|found| found.path);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
        }
        assert_eq!(find(".spec['a']", &schema, false).err().as_deref(), Some("array notation is not allowed"));
    }
}
