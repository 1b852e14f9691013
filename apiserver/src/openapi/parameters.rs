//! What a request's URL may say beside the path's own words: each parameter with its type and what it is for.

use serde_json::{Value, json};

const BOOLEAN: &str = "boolean";
const INTEGER: &str = "integer";
const STRING: &str = "string";

/// Query parameters: name, type and purpose.
const QUERY: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", BOOLEAN, "Whether a watch may send bookmarks, which say how far it has come."),
    ("container", STRING, "The container whose log to show; a pod with one container needs none."),
    ("continue", STRING, "Where to go on with a list that came in chunks, as the chunk before said."),
    ("dryRun", STRING, "With the value All, everything is checked and nothing is stored."),
    ("fieldManager", STRING, "Who makes these changes: at most 128 printable characters."),
    ("fieldSelector", STRING, "A selector to restrict the list of returned objects by their fields."),
    ("fieldValidation", STRING, "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
    ("follow", BOOLEAN, "Whether to go on with the log as it grows."),
    ("force", BOOLEAN, "Whether an apply takes over fields that others own."),
    ("gracePeriodSeconds", INTEGER, "How many seconds to wait before the object goes; 0 is at once."),
    ("insecureSkipTLSVerifyBackend", BOOLEAN, "Whether to take the log from a node that does not prove who it is."),
    ("labelSelector", STRING, "A selector to restrict the list of returned objects by their labels."),
    ("limit", INTEGER, "How many objects a list returns at most; its `continue` says where to go on."),
    ("limitBytes", INTEGER, "How many bytes of the log to show at most."),
    ("orphanDependents", BOOLEAN, "Whether dependents stay; propagationPolicy says this better."),
    ("pretty", STRING, "Whether the answer is indented; without it, for browsers and command-line tools alone."),
    ("previous", BOOLEAN, "Whether to show the log of the container that ran before."),
    ("propagationPolicy", STRING, "What becomes of dependents: Orphan, Background or Foreground."),
    ("resourceVersion", STRING, "How new the answer has to be."),
    ("resourceVersionMatch", STRING, "How a list takes resourceVersion: Exact or NotOlderThan."),
    ("sendInitialEvents", BOOLEAN, "Whether a watch begins with what there is."),
    ("sinceSeconds", INTEGER, "How many seconds back the log is to begin."),
    ("stream", STRING, "Which stream of the log to show: All, Stdout or Stderr."),
    ("tailLines", INTEGER, "How many lines from the end of the log to show."),
    ("timeoutSeconds", INTEGER, "How many seconds the call may last."),
    ("timestamps", BOOLEAN, "Whether each line of the log begins with its time."),
    ("watch", BOOLEAN, "Watch for changes to the described resources: a stream of events from resourceVersion on."),
];

/// Parameters of a query.
pub fn of_query(names: &[&str]) -> Value {
    names.iter().map(|name| query(name)).collect()
}

/// Parameters that all operations on a path have.
pub fn of_path(names: &[&str]) -> Value {
    let path = |name: &str, purpose: &str| {
        json!({"in": "path", "name": name, "description": purpose, "required": true,
            "schema": {"type": STRING, "uniqueItems": true}})
    };
    let parameter = |name: &&str| match *name {
        "name" => path(name, "The object's name."),
        "namespace" => path(name, "The namespace that the object is in."),
        _ => query(name),
    };
    names.iter().map(parameter).collect()
}

fn query(name: &str) -> Value {
    let known = QUERY.iter().find(|(known, ..)| *known == name);
    let (type_, purpose) = known.map_or((STRING, ""), |(_, type_, purpose)| (*type_, *purpose));
    json!({"in": "query", "name": name, "description": purpose, "schema": {"type": type_, "uniqueItems": true}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_says_something_of_each() {
        assert!(QUERY.is_sorted_by_key(|(name, ..)| *name));
        assert!(QUERY.iter().all(|(_, _, purpose)| purpose.ends_with('.')));
    }
}
