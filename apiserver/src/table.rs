//! Objects as a `meta.k8s.io` Table: the rows and columns that `kubectl get` prints.

use crate::status::Status;
use jiff::Timestamp;
use k8w_kinds::kind::{CellContext, KindDef};
use serde_json::{Map, Value, json};

/// What of the object comes along in each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// The `includeObject` parameter.
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// How a table is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Its group and version, and those of the metadata in its rows.
    pub api_version: &'static str,
    pub include: Include,
    /// Columns can be left out when the client has seen them.
    pub with_columns: bool,
}

/// A table of `objects`. `metadata` is that of the list.
pub fn table(def: &KindDef, objects: Vec<Value>, metadata: Value, style: Style) -> Value {
    let context = CellContext { now: Timestamp::now() };
    let rows: Vec<Value> = objects.into_iter().map(|object| row(def, object, style, &context)).collect();
    json!({
        "kind": "Table", "apiVersion": style.api_version, "metadata": metadata,
        "columnDefinitions": if style.with_columns { columns(def) } else { Value::Null },
        "rows": rows,
    })
}

fn columns(def: &KindDef) -> Value {
    let column = |column: &k8w_kinds::kind::Column| {
        json!({
            "name": column.name, "type": column.type_, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    };
    def.columns.iter().map(column).collect()
}

fn row(def: &KindDef, object: Value, style: Style, context: &CellContext) -> Value {
    let cells: Vec<Value> = def.columns.iter().map(|column| column.render(&object, context)).collect();
    let mut row = Map::new();
    row.insert("cells".into(), cells.into());
    if let Some(conditions) = def.row_conditions.and_then(|conditions| conditions(&object)) {
        row.insert("conditions".into(), conditions);
    }
    match style.include {
        Include::None => {}
        Include::Metadata => {
            let metadata = object.get("metadata").cloned().unwrap_or_default();
            let partial = json!({
                "kind": "PartialObjectMetadata", "apiVersion": style.api_version, "metadata": metadata,
            });
            row.insert("object".into(), partial);
        }
        Include::Object => {
            row.insert("object".into(), object);
        }
    }
    Value::Object(row)
}
