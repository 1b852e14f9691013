//! The paths of a kind and the operations on them: enough for clients to see which verb takes which parameters.

use k8w_kinds::{KindDef, Subresource};
use serde_json::{Map, Value, json};

use super::parameters;

pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON_STREAM: &str = "application/json;stream=watch";
const PROTOBUF_STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    STRATEGIC_MERGE_PATCH,
];

/// `api/v1`, `apis/apps/v1`.
pub fn group_version(kind: &KindDef) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

/// The types that the kind's operations refer to.
pub fn types(kind: &KindDef) -> Vec<String> {
    let bodies = kind.subresources.iter().filter(|sub| !is_stream(sub)).map(|sub| body_type(kind, sub));
    let mut types: Vec<String> = bodies.collect();
    types.push(kind.schema_name.to_string());
    if kind.verbs.contains(&"list") {
        types.push(list_type(kind));
    }
    types
}

/// Every path of the kind with its operations.
pub fn of(kind: &KindDef) -> Vec<(String, Value)> {
    let root = format!("/{}", group_version(kind));
    let collection = match kind.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{root}/{}", kind.plural),
    };
    let item = format!("{collection}/{{name}}");
    let scope = if kind.namespaced { &["namespace", "pretty"][..] } else { &["pretty"] };
    let named = if kind.namespaced { &["name", "namespace", "pretty"][..] } else { &["name", "pretty"] };
    let mut paths = Vec::new();
    let mut put = |path: String, parameters: &[&str], operations: Map<String, Value>| {
        if !operations.is_empty() {
            let mut entry = operations;
            entry.insert("parameters".into(), parameters::of_path(parameters));
            paths.push((path, Value::Object(entry)));
        }
    };
    put(collection, scope, collection_operations(kind));
    if kind.namespaced && kind.verbs.contains(&"list") {
        let list = Map::from_iter([("get".into(), Operation::list(kind, "ForAllNamespaces").into_value())]);
        put(format!("{root}/{}", kind.plural), &["pretty"], list);
    }
    put(item.clone(), named, item_operations(kind, kind.verbs, kind.schema_name.to_string(), own_gvk(kind), ""));
    for sub in &kind.subresources {
        let gvk = sub.gvk.unwrap_or(own_gvk(kind));
        let body = if is_stream(sub) { String::new() } else { body_type(kind, sub) };
        let operations = item_operations(kind, sub.verbs, body, gvk, sub.name);
        put(format!("{item}/{}", sub.name), named, operations);
    }
    if kind.verbs.contains(&"watch") && kind.custom.is_none() {
        paths.extend(of_watches(kind));
    }
    paths
}

/// The paths that stand for a list with `?watch=true`, from before that parameter. Custom kinds never had them.
fn of_watches(kind: &KindDef) -> impl Iterator<Item = (String, Value)> {
    let root = format!("/{}/watch", group_version(kind));
    let plural = &kind.plural;
    let paths = match kind.namespaced {
        true => vec![
            (format!("{root}/{plural}"), "ListForAllNamespaces", &[][..]),
            (format!("{root}/namespaces/{{namespace}}/{plural}"), "List", &["namespace"]),
            (format!("{root}/namespaces/{{namespace}}/{plural}/{{name}}"), "", &["name", "namespace"]),
        ],
        false => {
            vec![(format!("{root}/{plural}"), "List", &[][..]), (format!("{root}/{plural}/{{name}}"), "", &["name"])]
        }
    };
    paths.into_iter().map(|(path, suffix, names)| {
        let action = if suffix.is_empty() { "watch" } else { "watchlist" };
        let watch = Operation { suffix, answer: WATCH_EVENT, ..Operation::new(kind, "watch", action) };
        let parameters: Vec<&str> = names.iter().chain(&["pretty"]).chain(LIST).copied().collect();
        (path, json!({"get": watch.into_value(), "parameters": parameters::of_path(&parameters)}))
    })
}

/// The path of the discovery document of the kind's group and version.
pub fn resource_list(kind: &KindDef) -> (String, Value) {
    let id = format!("get{}{}APIResources", group_words(kind), capitalized(&kind.version));
    let get = json!({
        "operationId": id, "tags": [tag(kind)], "description": "get available resources",
        "responses": {
            "200": {"description": "OK", "content": content(&[JSON, YAML, PROTOBUF], RESOURCE_LIST)},
            "401": {"description": "Unauthorized"},
        },
    });
    (format!("/{}/", group_version(kind)), json!({"get": get}))
}

type Gvk<'a> = (&'a str, &'a str, &'a str);

fn own_gvk(kind: &KindDef) -> Gvk<'_> {
    (&kind.group, &kind.version, &kind.kind)
}

/// `…v1.PodList` for `…v1.Pod`; the list of a custom kind may have any name.
fn list_type(kind: &KindDef) -> String {
    match kind.schema_name.rsplit_once('.') {
        Some((package, _)) if kind.custom.is_some() => format!("{package}.{}", kind.list_kind),
        _ => format!("{}List", kind.schema_name),
    }
}

/// Types live in packages named after the first part of their group: `io.k8s.api.autoscaling.v1.Scale`.
fn body_type(kind: &KindDef, sub: &Subresource) -> String {
    match sub.gvk {
        None => kind.schema_name.to_string(),
        Some((group, version, name)) => {
            let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
            format!("io.k8s.api.{package}.{version}.{name}")
        }
    }
}

/// Whether a subresource answers with a stream (logs, exec) and its kind is that of its query parameters.
fn is_stream(sub: &Subresource) -> bool {
    sub.name == "log" || sub.gvk.is_some_and(|(_, _, kind)| kind.ends_with("Options"))
}

fn collection_operations(kind: &KindDef) -> Map<String, Value> {
    let mut operations = Map::new();
    for verb in kind.verbs {
        match *verb {
            "list" => operations.insert("get".into(), Operation::list(kind, "").into_value()),
            "create" => operations.insert(
                "post".into(),
                Operation {
                    body: Some(&kind.schema_name),
                    parameters: WRITE,
                    ..Operation::new(kind, "create", "post")
                }
                .into_value(),
            ),
            "deletecollection" => operations.insert(
                "delete".into(),
                Operation {
                    body: Some(DELETE_OPTIONS),
                    answer: STATUS,
                    parameters: DELETE_COLLECTION,
                    ..Operation::new(kind, "deleteCollection", "deletecollection")
                }
                .into_value(),
            ),
            _ => None,
        };
    }
    operations
}

fn item_operations(
    kind: &KindDef,
    verbs: &[&str],
    body: String,
    gvk: Gvk<'_>,
    subresource: &str,
) -> Map<String, Value> {
    if body.is_empty() && subresource != "log" {
        return connect_operations(kind, verbs, gvk, subresource);
    }
    let mut operations = Map::new();
    for verb in verbs {
        let base = |name, action| Operation { answer: &body, gvk, subresource, ..Operation::new(kind, name, action) };
        let (method, operation) = match *verb {
            "get" if subresource == "log" => ("get", Operation { parameters: LOG, ..base("read", "get") }),
            "get" => ("get", base("read", "get")),
            "update" => ("put", Operation { body: Some(&body), parameters: WRITE, ..base("replace", "put") }),
            "patch" => {
                let patch = Operation { body: Some(PATCH), parameters: PATCH_PARAMETERS, ..base("patch", "patch") };
                ("patch", patch)
            }
            "delete" => {
                let answer = if kind.answers_deleted { &*kind.schema_name } else { STATUS };
                let body = Some(DELETE_OPTIONS);
                ("delete", Operation { body, answer, parameters: DELETE, ..base("delete", "delete") })
            }
            "create" if !subresource.is_empty() => {
                ("post", Operation { body: Some(&body), parameters: WRITE, ..base("create", "post") })
            }
            _ => continue,
        };
        operations.insert(method.into(), operation.into_value());
    }
    operations
}

/// Every method of a proxy or stream is a way to connect.
fn connect_operations(kind: &KindDef, verbs: &[&str], gvk: Gvk<'_>, subresource: &str) -> Map<String, Value> {
    let operations = verbs.iter().filter_map(|verb| {
        let (method, name) = match *verb {
            "get" => ("get", "connectGet"),
            "create" => ("post", "connectPost"),
            "update" => ("put", "connectPut"),
            "patch" => ("patch", "connectPatch"),
            "delete" => ("delete", "connectDelete"),
            _ => return None,
        };
        let operation = Operation { answer: "", gvk, subresource, ..Operation::new(kind, name, "connect") };
        Some((method.to_owned(), operation.into_value()))
    });
    operations.collect()
}

struct Operation<'a> {
    kind: &'a KindDef,
    /// First word of the operation's id.
    name: &'a str,
    /// `x-kubernetes-action`.
    action: &'a str,
    /// Last words of the operation's id.
    suffix: &'a str,
    subresource: &'a str,
    gvk: Gvk<'a>,
    body: Option<&'a str>,
    answer: &'a str,
    parameters: &'a [&'a str],
}

impl<'a> Operation<'a> {
    fn new(kind: &'a KindDef, name: &'a str, action: &'a str) -> Self {
        Operation {
            kind,
            name,
            action,
            suffix: "",
            subresource: "",
            gvk: own_gvk(kind),
            body: None,
            answer: &kind.schema_name,
            parameters: &[],
        }
    }

    fn list(kind: &'a KindDef, suffix: &'a str) -> Self {
        Operation { suffix, parameters: LIST, ..Operation::new(kind, "list", "list") }
    }

    fn into_value(self) -> Value {
        let (group, version, kind) = self.gvk;
        let answer = if self.action == "list" { list_type(self.kind) } else { self.answer.to_owned() };
        let mut operation = json!({
            "operationId": self.id(),
            "tags": [tag(self.kind)],
            "responses": self.responses(&answer),
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if self.name == "watch" {
            operation["description"] =
                "deprecated: use the parameter 'watch' of the list, with a field selector for one \
                object"
                    .into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = parameters::of_query(self.parameters);
        }
        if let Some(body) = self.body {
            let types = if self.action == "patch" { PATCH_TYPES } else { &["*/*"][..] };
            // Only built-in kinds have keys to merge their lists by.
            let taken = |media: &&str| self.kind.custom.is_none() || *media != STRATEGIC_MERGE_PATCH;
            let types: Vec<&str> = types.iter().copied().filter(taken).collect();
            operation["requestBody"] = json!({"content": content(&types, body), "required": body != DELETE_OPTIONS});
        }
        operation
    }

    /// What can come back, by status code.
    fn responses(&self, answer: &str) -> Value {
        let media = match (self.action, answer) {
            ("connect", _) => &["*/*"][..],
            ("list" | "watch" | "watchlist", _) => &[JSON, YAML, PROTOBUF, JSON_STREAM, PROTOBUF_STREAM],
            (_, "") => &[JSON, YAML, PROTOBUF, "text/plain"],
            _ => &[JSON, YAML, PROTOBUF],
        };
        let codes: &[(&str, &str)] = match self.action {
            "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            "put" | "patch" => &[("200", "OK"), ("201", "Created")],
            "delete" => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        let response = |description: &str| json!({"description": description, "content": content(media, answer)});
        let mut responses: Map<String, Value> =
            codes.iter().map(|(code, description)| (code.to_string(), response(description))).collect();
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        responses.into()
    }

    /// `readAppsV1NamespacedDeploymentStatus`.
    fn id(&self) -> String {
        let group = group_words(self.kind);
        let is_in_namespace = self.kind.namespaced && !self.suffix.ends_with("ForAllNamespaces");
        let scope = if is_in_namespace { "Namespaced" } else { "" };
        let (version, subresource) = (capitalized(&self.kind.version), capitalized(self.subresource));
        let collection = if self.action == "deletecollection" { "Collection" } else { "" };
        let name = if collection.is_empty() { self.name } else { "delete" };
        // The method of a connection stands behind the version.
        let (name, method) = name.strip_prefix("connect").map_or((name, ""), |method| ("connect", method));
        format!("{name}{group}{version}{method}{collection}{scope}{}{subresource}{}", self.kind.kind, self.suffix)
    }
}

/// `Core`, `Apps`, `RbacAuthorization`: a group in operation ids.
fn group_words(kind: &KindDef) -> String {
    match &*kind.group {
        "" => "Core".to_owned(),
        group => group.trim_end_matches(".k8s.io").split(['.', '-']).map(capitalized).collect(),
    }
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(kind: &KindDef) -> String {
    let words = group_words(kind);
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    format!("{}{}_{}", first.map(String::from).unwrap_or_default(), letters.as_str(), kind.version)
}

/// A body in any of some media types.
fn content(media_types: &[&str], schema: &str) -> Value {
    let schema = json!({"schema": reference(schema)});
    media_types.iter().map(|media| (media.to_string(), schema.clone())).collect::<Map<_, _>>().into()
}

/// The schema of a body; without a name it is text.
fn reference(schema: &str) -> Value {
    if schema.is_empty() {
        return json!({"type": "string"});
    }
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
