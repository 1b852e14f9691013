//! Field numbers of the built-in types, from the struct tags of `k8s.io/api` v0.36.0 and `k8s.io/apimachinery`.
//!
//! One text file per API group, one line per type:
//!
//! ```text
//! DeploymentSpec 1=replicas* 2=selector*      a field and its JSON name; `*` where absence and zero differ (a Go pointer)
//! Volume 1=name 2=@VolumeSource               a part whose fields JSON has inlined
//! JSONSchemaProps 24=items*|list              a schema or something else: `list`, `bool` or `strings`
//! ```

use std::collections::HashMap;
use std::sync::OnceLock;

/// Package prefix of type names, and the numbers of their fields.
const FILES: [(&str, &str); 23] = [
    ("io.k8s.api.admissionregistration.v1.", include_str!("tags/admissionregistration.v1.txt")),
    ("io.k8s.api.apps.v1.", include_str!("tags/apps.v1.txt")),
    ("io.k8s.api.authentication.v1.", include_str!("tags/authentication.v1.txt")),
    ("io.k8s.api.authorization.v1.", include_str!("tags/authorization.v1.txt")),
    ("io.k8s.api.autoscaling.v1.", include_str!("tags/autoscaling.v1.txt")),
    ("io.k8s.api.autoscaling.v2.", include_str!("tags/autoscaling.v2.txt")),
    ("io.k8s.api.batch.v1.", include_str!("tags/batch.v1.txt")),
    ("io.k8s.api.certificates.v1.", include_str!("tags/certificates.v1.txt")),
    ("io.k8s.api.coordination.v1.", include_str!("tags/coordination.v1.txt")),
    ("io.k8s.api.core.v1.", include_str!("tags/core.v1.txt")),
    ("io.k8s.api.discovery.v1.", include_str!("tags/discovery.v1.txt")),
    ("io.k8s.api.events.v1.", include_str!("tags/events.v1.txt")),
    ("io.k8s.api.flowcontrol.v1.", include_str!("tags/flowcontrol.v1.txt")),
    ("io.k8s.api.networking.v1.", include_str!("tags/networking.v1.txt")),
    ("io.k8s.api.node.v1.", include_str!("tags/node.v1.txt")),
    ("io.k8s.api.policy.v1.", include_str!("tags/policy.v1.txt")),
    ("io.k8s.api.rbac.v1.", include_str!("tags/rbac.v1.txt")),
    ("io.k8s.api.resource.v1.", include_str!("tags/resource.v1.txt")),
    ("io.k8s.api.scheduling.v1.", include_str!("tags/scheduling.v1.txt")),
    ("io.k8s.api.storage.v1.", include_str!("tags/storage.v1.txt")),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.", include_str!("tags/apiextensions.v1.txt")),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.", include_str!("tags/meta.v1.txt")),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.", include_str!("tags/apiregistration.v1.txt")),
];

/// The field numbers of one type, ascending.
#[derive(Debug, Default)]
pub(super) struct Tags(Vec<(u32, Tag)>);

#[derive(Debug)]
pub(super) enum Tag {
    Field {
        name: &'static str,
        /// A zero that is written means zero, not absence.
        optional: bool,
        or_else: OrElse,
    },
    /// The name of a type whose fields JSON has in this place.
    Inline(Box<str>),
}

/// What a field of a JSON schema may hold in place of a schema. In JSON either stands by itself; as protobuf there is a
/// message between, in which the schema is field 1 and its stand-in field 2 (for a bool the other way round).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrElse {
    /// The field is what its type says.
    Nothing,
    ListOfSchemas,
    Bool,
    /// A map of names to schemas or lists of strings.
    Strings,
}

static NONE: Tags = Tags(Vec::new());

impl Tags {
    /// The numbers of a type by its published name; empty where there are none.
    pub fn of(type_name: &str) -> &'static Tags {
        static INDEX: OnceLock<HashMap<String, Tags>> = OnceLock::new();
        let index = INDEX.get_or_init(|| FILES.iter().flat_map(|(package, text)| types(package, text)).collect());
        index.get(type_name).unwrap_or(&NONE)
    }

    pub fn get(&self, number: u32) -> Option<&Tag> {
        self.0.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| &self.0[at].1)
    }

    /// All fields in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Tag)> {
        self.0.iter().map(|(number, tag)| (*number, tag))
    }

    /// The fields in which Go cannot tell zero from absence, those of inlined parts too.
    pub fn plain(&self) -> Vec<&'static str> {
        let fields = self.iter().map(|(_, tag)| match tag {
            Tag::Inline(part) => Tags::of(part).plain(),
            Tag::Field { name, optional: false, or_else: OrElse::Nothing } => vec![*name],
            Tag::Field { .. } => Vec::new(),
        });
        fields.flatten().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn types(package: &'static str, text: &'static str) -> impl Iterator<Item = (String, Tags)> {
    text.lines().filter_map(move |line| {
        let (short, fields) = line.split_once(' ')?;
        let tags = fields.split(' ').filter_map(|field| {
            let (number, name) = field.split_once('=')?;
            let found = match name.strip_prefix('@') {
                Some(part) => Tag::Inline(format!("{package}{part}").into()),
                None => tag(name),
            };
            Some((number.parse().ok()?, found))
        });
        Some((format!("{package}{short}"), Tags(tags.collect())))
    })
}

fn tag(text: &'static str) -> Tag {
    let (name, or_else) = text.split_once('|').unwrap_or((text, ""));
    let or_else = match or_else {
        "list" => OrElse::ListOfSchemas,
        "bool" => OrElse::Bool,
        "strings" => OrElse::Strings,
        _ => OrElse::Nothing,
    };
    Tag::Field { name: name.trim_end_matches('*'), optional: name.ends_with('*'), or_else }
}
