//! What the API server knows about one kind: its names, its schema, its rules and its columns.
//!
//! Built-in kinds are made in a file each and listed in [`crate::registry`]; custom kinds are made at run time from the
//! same parts.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::Value;

use crate::age;
use crate::field::FieldError;
use crate::jsonpath::JsonPath;
use crate::object;
use crate::schema::{Schema, go};

/// Every verb that a stored resource can have, in the order of discovery documents.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// One kind of resource.
pub struct KindDef {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub list_kind: Cow<'static, str>,
    /// The resource in URLs, such as `pods`.
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub short_names: Vec<Cow<'static, str>>,
    /// Groups of resources for clients, such as `all`.
    pub categories: Vec<Cow<'static, str>>,
    pub namespaced: bool,
    /// The type's name as upstream publishes it, such as `io.k8s.api.core.v1.Pod`.
    pub schema_name: Cow<'static, str>,
    pub verbs: &'static [&'static str],
    pub subresources: Vec<Subresource>,
    pub columns: Vec<Column>,
    /// The conditions of an object's row (`metav1.TableRow`), where there can be any.
    pub row_conditions: Option<fn(&Value) -> Option<Value>>,
    /// Whether a deletion answers the object, and not a Status.
    pub answers_deleted: bool,
    /// What field selectors may name beside `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    pub strategy: Arc<dyn Strategy>,
    /// Set where the objects are stored as another kind of the same plural name.
    pub stored_as: Option<StoredAs>,
    /// What clients of a deprecated version are told in a `Warning` header.
    pub deprecation: Option<Cow<'static, str>>,
    /// Set for kinds made from a CustomResourceDefinition.
    pub custom: Option<Custom>,
    schema: OnceLock<Schema>,
}

/// What only kinds have whose schema does not come from the built-in types.
#[derive(Clone)]
pub struct Custom {
    /// `openAPIV3Schema` of the version, as it is published.
    pub open_api_v3_schema: Arc<Value>,
}

/// Another spelling of a kind, under which its objects are stored: one object then shows in both.
#[derive(Clone)]
pub struct StoredAs {
    /// API group of the stored kind.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub conversion: Arc<dyn Conversion>,
}

/// Turns an object of a kind into the kind it is stored as, and back; `apiVersion` included.
pub trait Conversion: Send + Sync {
    fn to_stored(&self, object: &mut Value);
    fn to_served(&self, object: &mut Value);
}

impl KindDef {
    /// Whether it is the resource of this group (empty for the core group) and plural name, in whatever version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.plural == plural && self.group == group
    }

    /// A namespaced built-in kind with every verb; `schema_name` must be known to [`Schema::builtin`].
    pub fn builtin(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        schema_name: &'static str,
    ) -> KindDef {
        KindDef {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            schema_name: schema_name.into(),
            verbs: ALL_VERBS,
            subresources: Vec::new(),
            columns: vec![Column::name(), Column::created_at()],
            row_conditions: None,
            answers_deleted: false,
            selectable_fields: Vec::new(),
            strategy: Arc::new(Plain),
            stored_as: None,
            deprecation: None,
            custom: None,
            schema: OnceLock::new(),
        }
    }

    /// A custom kind, whose schema does not come from the built-in types.
    pub fn with_schema(mut self, schema: Schema, custom: Custom) -> KindDef {
        self.schema = OnceLock::from(schema);
        self.custom = Some(custom);
        self
    }

    pub fn cluster_scoped(mut self) -> KindDef {
        self.namespaced = false;
        self
    }

    pub fn short_names(mut self, names: &[&'static str]) -> KindDef {
        self.short_names = names.iter().map(|n| Cow::Borrowed(*n)).collect();
        self
    }

    pub fn categories(mut self, names: &[&'static str]) -> KindDef {
        self.categories = names.iter().map(|n| Cow::Borrowed(*n)).collect();
        self
    }

    /// Every answer says so.
    pub fn deprecated(mut self, warning: &'static str) -> KindDef {
        self.deprecation = Some(warning.into());
        self
    }

    pub fn verbs(mut self, verbs: &'static [&'static str]) -> KindDef {
        self.verbs = verbs;
        self
    }

    pub fn subresources(mut self, subresources: Vec<Subresource>) -> KindDef {
        self.subresources = subresources;
        self
    }

    pub fn columns(mut self, columns: Vec<Column>) -> KindDef {
        self.columns = columns;
        self
    }

    pub fn row_conditions(mut self, conditions: fn(&Value) -> Option<Value>) -> KindDef {
        self.row_conditions = Some(conditions);
        self
    }

    /// Deletions answer the object as it was, and not a Status (`ReturnDeletedObject` in Kubernetes).
    pub fn answers_deleted(mut self) -> KindDef {
        self.answers_deleted = true;
        self
    }

    pub fn selectable(mut self, fields: Vec<SelectableField>) -> KindDef {
        self.selectable_fields = fields;
        self
    }

    pub fn strategy(mut self, strategy: impl Strategy + 'static) -> KindDef {
        self.strategy = Arc::new(strategy);
        self
    }

    /// A kind whose objects are stored as those of the same plural name in `group`.
    pub fn stored_as(
        mut self,
        (group, version): (&'static str, &'static str),
        conversion: impl Conversion + 'static,
    ) -> KindDef {
        let conversion = Arc::new(conversion);
        self.stored_as = Some(StoredAs { group: group.into(), version: version.into(), conversion });
        self
    }

    /// The compact form of the kind's type, built on first use.
    ///
    /// # Panics
    /// Never for a kind of the table: a test builds the schema of each.
    pub fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| match Schema::builtin(&self.schema_name) {
            Some(schema) => schema,
            None => unreachable!("{} is not a built-in type", self.schema_name),
        })
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `deployments.apps`: how errors name the resource.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The value that a field selector compares; `None` for a label the kind does not support.
    pub fn select(&self, field: &str, object: &Value) -> Option<String> {
        match field {
            "metadata.name" => Some(object::text(object, &["metadata", "name"]).to_owned()),
            "metadata.namespace" if self.namespaced => {
                Some(object::text(object, &["metadata", "namespace"]).to_owned())
            }
            _ => self.selectable_fields.iter().find(|f| f.path == field).map(|f| f.value(object)),
        }
    }

    /// Whether field selectors may name `field`.
    pub fn is_selectable(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced)
            || self.selectable_fields.iter().any(|f| f.path == field)
    }
}

/// A resource below a resource, such as `pods/log`.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of its body where they are not the parent's own.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    pub verbs: &'static [&'static str],
    /// Where `scale` finds its numbers.
    pub scale: Option<ScalePaths>,
}

/// Where the `scale` subresource reads and writes in its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    /// A LabelSelector, or a map of labels where [`Self::selector_is_map`] says so.
    pub selector: Cow<'static, str>,
    pub selector_is_map: bool,
}

impl Subresource {
    const READ_WRITE: &'static [&'static str] = &["get", "patch", "update"];

    /// `status`: the same object, of which only the status is written.
    pub fn status() -> Subresource {
        Subresource { name: "status", gvk: None, verbs: Self::READ_WRITE, scale: None }
    }

    /// `scale`, as `autoscaling/v1` Scale, at the usual places of the apps kinds.
    pub fn scale() -> Subresource {
        let paths = ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: "spec.selector".into(),
            selector_is_map: false,
        };
        Subresource {
            name: "scale",
            gvk: Some(("autoscaling", "v1", "Scale")),
            verbs: Self::READ_WRITE,
            scale: Some(paths),
        }
    }

    /// Any other one, with a body of the given group, version and kind.
    pub fn other(
        name: &'static str,
        gvk: (&'static str, &'static str, &'static str),
        verbs: &'static [&'static str],
    ) -> Subresource {
        Subresource { name, gvk: Some(gvk), verbs, scale: None }
    }

    /// Another one that reads and writes the parent's own kind, such as `pods/resize`.
    pub fn of_parent(name: &'static str, verbs: &'static [&'static str]) -> Subresource {
        Subresource { name, gvk: None, verbs, scale: None }
    }
}

/// A field that field selectors may name.
#[derive(Clone, Debug)]
pub struct SelectableField {
    /// As selectors write it, such as `spec.nodeName`.
    pub path: Cow<'static, str>,
    read: Option<fn(&Value) -> String>,
}

impl SelectableField {
    /// A field that is read at its own path; a missing one reads as `""`.
    pub fn at(path: impl Into<Cow<'static, str>>) -> SelectableField {
        SelectableField { path: path.into(), read: None }
    }

    /// A field that is worked out, for instance because a missing one has a value.
    pub fn computed(path: &'static str, read: fn(&Value) -> String) -> SelectableField {
        SelectableField { path: path.into(), read: Some(read) }
    }

    pub fn value(&self, object: &Value) -> String {
        if let Some(read) = self.read {
            return read(object);
        }
        let found = self.path.trim_start_matches('.').split('.').try_fold(object, |v, name| v.get(name));
        match found {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

/// What writes keep and count for a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Status is written through `/status` alone.
    pub status: bool,
    /// `metadata.generation` counts changes of the spec.
    pub generation: bool,
}

impl Shape {
    /// An object that is all data, such as a ConfigMap.
    pub const DATA: Shape = Shape { status: false, generation: false };
    /// Spec and status, without a generation.
    pub const STATUS: Shape = Shape { status: true, generation: false };
    /// Spec and status; the generation counts changes of the spec.
    pub const SPEC_AND_STATUS: Shape = Shape { status: true, generation: true };
    /// No status; the generation counts changes.
    pub const SPEC: Shape = Shape { status: false, generation: true };
}

/// The rules of a kind. Every method has a body that suits a kind without rules of its own; what is the same for all
/// (metadata) is in [`crate::metadata`] and runs for all.
///
/// Order of a write: `Schema::default`, [`default`](Self::default), admission, `prepare_*`, `validate*`, `canonicalize`.
pub trait Strategy: Send + Sync {
    fn shape(&self) -> Shape {
        Shape::DATA
    }

    /// Computed defaults, after [`Schema::default`].
    fn default(&self, _object: &mut Value) {}

    /// Whether a new object has the status that its creator gives it. Its fields are the creator's, then.
    fn comes_with_status(&self) -> bool {
        false
    }

    /// Brings a new object to its first state: without a status that clients may not set, generation 1.
    fn prepare_for_create(&self, object: &mut Value) {
        let shape = self.shape();
        prepare_for_create(Shape { status: shape.status && !self.comes_with_status(), ..shape }, object);
    }

    /// Keeps what an update may not change silently, and counts the generation.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        prepare_for_update(self.shape(), new, old);
    }

    /// Keeps everything but the status (and what of the metadata a status writer may touch).
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        prepare_for_status_update(new, old);
    }

    /// Keeps everything but what `subresource` (any but `status` and `scale`) is there to write.
    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value, _now: Timestamp) {
        new.clone_from(old);
    }

    /// How the kind's names are checked.
    fn validate_name(&self, name: &str) -> Vec<String> {
        crate::names::dns_subdomain(name)
    }

    /// Rules of a new object; metadata was checked before.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Rules of an update; `validate` is not run beside it.
    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_status_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Rules of a write through that subresource.
    fn validate_subresource_update(&self, _subresource: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Brings an object that was found right to the one form in which all that mean the same are stored.
    fn canonicalize(&self, _object: &mut Value) {}

    /// Texts for `Warning:` headers.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The same of an update, where it is told something else than the writer of a new object.
    fn update_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        self.warnings(new)
    }

    /// Marks an object whose deletion begins and that is held back, or that this holds back with a finalizer.
    fn prepare_for_delete(&self, _object: &mut Value, _now: Timestamp) {}

    /// Seconds of grace that a deletion gives; `None` deletes at once.
    fn graceful_delete(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether PUT creates what does not exist.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update may come without a resource version.
    fn allow_unconditional_update(&self) -> bool {
        true
    }
}

/// A kind without rules of its own.
struct Plain;
impl Strategy for Plain {}

/// What [`Strategy::prepare_for_create`] does for a shape.
pub fn prepare_for_create(shape: Shape, object: &mut Value) {
    if shape.status {
        object::remove(object, "status");
    }
    if shape.generation
        && let Some(metadata) = object::ensure(object, &["metadata"])
    {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// What [`Strategy::prepare_for_update`] does for a shape: any change outside metadata and status counts.
pub fn prepare_for_update(shape: Shape, new: &mut Value, old: &Value) {
    if shape.status {
        object::keep(new, old, "status");
    }
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64);
    let changed = shape.generation && !same_spec(new, old);
    let Some(metadata) = object::ensure(new, &["metadata"]) else { return };
    match generation {
        Some(g) if changed => metadata.insert("generation".to_owned(), (g + 1).into()),
        Some(g) => metadata.insert("generation".to_owned(), g.into()),
        None if changed => metadata.insert("generation".to_owned(), 1.into()),
        None => metadata.remove("generation"),
    };
}

/// What [`Strategy::prepare_for_status_update`] does: only the status is new, and `metadata.managedFields`.
pub fn prepare_for_status_update(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let metadata = new.get_mut("metadata").map(Value::take);
    *new = old.clone();
    let Some(object) = new.as_object_mut() else { return };
    match status {
        Some(status) if !status.is_null() => object.insert("status".to_owned(), status),
        _ => object.remove("status"),
    };
    // What clients write of the metadata may be written along with a status, as in Kubernetes; the counter may not.
    if let (Some(mut metadata), Some(kept)) = (metadata.filter(Value::is_object), object.get("metadata")) {
        object::keep(&mut metadata, kept, "generation");
        object.insert("metadata".to_owned(), metadata);
    }
}

/// Gives conditions that say no time the one that Go has for that: who reads them as `metav1.Condition` needs one.
pub fn default_condition_times(object: &mut Value) {
    for condition in object::list_mut(object, &["status", "conditions"]) {
        if let Some(condition) = condition.as_object_mut() {
            object::set_default(condition, "lastTransitionTime", "0001-01-01T00:00:00Z");
        }
    }
}

/// What [`Strategy::prepare_for_status_update`] does where a status writer writes the status alone: who manages it was
/// worked out by the server.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let version = object::get(new, &["metadata", "resourceVersion"]).cloned();
    let managed = object::get(new, &["metadata", "managedFields"]).cloned();
    new.clone_from(old);
    if let Some(object) = new.as_object_mut() {
        match status {
            Some(status) => object.insert("status".to_owned(), status),
            None => object.remove("status"),
        };
    }
    let Some(metadata) = object::ensure(new, &["metadata"]) else { return };
    for (name, value) in [("resourceVersion", version), ("managedFields", managed)] {
        if let Some(value) = value {
            metadata.insert(name.to_owned(), value);
        }
    }
}

fn same_spec(new: &Value, old: &Value) -> bool {
    let ignored = |key: &str| matches!(key, "metadata" | "status" | "apiVersion" | "kind");
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new == old };
    new.iter().filter(|(k, _)| !ignored(k)).all(|(k, v)| object::same(Some(v), old.get(k)))
        && old.iter().filter(|(k, _)| !ignored(k)).all(|(k, v)| object::same(Some(v), new.get(k)))
}

/// What a cell may depend on beside its object.
#[derive(Clone, Copy, Debug)]
pub struct CellContext {
    /// The time that ages are measured to.
    pub now: Timestamp,
}

/// How a cell is worked out.
#[derive(Clone, Debug)]
pub enum Cell {
    Computed(fn(&Value, &CellContext) -> Value),
    /// The value at a dotted path.
    Path(Cow<'static, str>),
    /// The first value at the path of a custom kind's column, as the column's type; dates are shown as ages.
    JsonPath(JsonPath),
}

/// A column of the tables that `kubectl get` prints (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// OpenAPI type: string, integer, boolean, number, date.
    pub type_: Cow<'static, str>,
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// 0 is always shown; more only with `-o wide`.
    pub priority: i32,
    pub cell: Cell,
}

impl Column {
    pub fn new(name: &'static str, type_: &'static str, cell: fn(&Value, &CellContext) -> Value) -> Column {
        Column {
            name: name.into(),
            type_: type_.into(),
            format: "".into(),
            description: "".into(),
            priority: 0,
            cell: Cell::Computed(cell),
        }
    }

    /// A column of text.
    pub fn text(name: &'static str, cell: fn(&Value, &CellContext) -> Value) -> Column {
        Column::new(name, "string", cell)
    }

    /// A column that shows one field as it is.
    pub fn at(name: &'static str, type_: &'static str, path: &'static str) -> Column {
        Column { cell: Cell::Path(path.into()), ..Column::new(name, type_, |_, _| Value::Null) }
    }

    pub fn describe(mut self, description: &'static str) -> Column {
        self.description = description.into();
        self
    }

    /// Shown only with `-o wide`.
    pub fn wide(mut self) -> Column {
        self.priority = 1;
        self
    }

    /// The object's name: the first column of every kind.
    pub fn name() -> Column {
        let mut column = Column::at("Name", "string", "metadata.name")
            .describe("Name must be unique within a namespace. Is required when creating resources.");
        column.format = "name".into();
        column
    }

    /// How long ago the object was made.
    pub fn age() -> Column {
        Column::text("Age", |object, context| crate::age::since_creation(object, context.now).into())
            .describe("CreationTimestamp is when this object was created, shown as its age.")
    }

    /// When the object was made: the second column of kinds without columns of their own.
    pub fn created_at() -> Column {
        Column::at("Created At", "date", "metadata.creationTimestamp")
    }

    /// The cell of `object`.
    pub fn render(&self, object: &Value, context: &CellContext) -> Value {
        match &self.cell {
            Cell::Computed(cell) => cell(object, context),
            Cell::Path(path) => {
                let found = path.trim_start_matches('.').split('.').try_fold(object, |v, name| v.get(name));
                found.cloned().unwrap_or_else(|| if self.type_ == "string" { "".into() } else { Value::Null })
            }
            Cell::JsonPath(path) => path.find(object).first().map_or(Value::Null, |value| self.typed(value, context)),
        }
    }

    /// A value as the column's type shows it; null where it has another type
    /// (`cellForJSONValue` in `k8s.io/apiextensions-apiserver`).
    fn typed(&self, value: &Value, context: &CellContext) -> Value {
        match (&*self.type_, value) {
            // Go's words for it.
            ("string", Value::Null) => "<no value>".into(),
            (_, Value::Null) => Value::Null,
            ("string", Value::Number(_)) => go(value).into(),
            ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => value.clone(),
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(whole) => whole.into(),
                None => number.as_f64().map_or(Value::Null, |number| (number as i64).into()),
            },
            ("date", Value::String(text)) if text.parse::<Timestamp>().is_ok() => {
                age::since(Some(text), context.now).into()
            }
            ("date", Value::String(text)) if matches!(&**text, "" | "null") => "<unknown>".into(),
            ("date", Value::String(_)) => "<invalid>".into(),
            _ => Value::Null,
        }
    }
}
