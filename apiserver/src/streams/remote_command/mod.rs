//! `pods/exec` and `pods/attach`: the standard streams of a command, between a client and a node.
//!
//! Clients choose between two transports and several protocols on each; the node is spoken to in
//! [`Message`](k8w_kinds::node_stream::Message)s. The names of protocols and the words of errors are those of
//! `k8s.io/kubelet` `pkg/cri/streaming/remotecommand`.

mod end;
mod spdy;
mod terminal;
mod websocket;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::end::{Command, StatusForm};
use super::upgrade::{self, Transport};
use super::{node, target};
use crate::ApiServer;
use crate::call::Call;
use crate::query::{Query, encode};
use crate::routes::Answer;
use crate::status::Status;

/// `pods/{name}/exec`: runs a command in a container.
pub fn serve_exec(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    serve(server, call, "exec").boxed()
}

/// `pods/{name}/attach`: connects to what runs in a container.
pub fn serve_attach(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    serve(server, call, "attach").boxed()
}

async fn serve(server: Arc<ApiServer>, mut call: Call, what: &'static str) -> Answer {
    if !matches!(call.parts.method.as_str(), "GET" | "POST") {
        return Err(Status::no_such_method());
    }
    target::authorize_create(&server, &call)?;
    let options = Options::read(&call.query);
    target::admit(&server, &call, options.object(what)).await?;
    let pod = target::pod(&server, &call).await?;
    let container = target::container(&pod, &options.container)?;
    let on = target::node(&pod)?;
    let streams = options.streams()?;
    let command = match what {
        "exec" if options.command.is_empty() => return Err(Status::bad_request("you must specify a command")),
        "exec" => Command::Exec(options.command.clone()),
        _ => Command::Attach,
    };
    let transport = upgrade::transport(&call.parts.headers)?;
    let path = format!("/{what}/{}/{}/{container}?{}", call.info.namespace, call.info.name, options.query(streams));
    match transport {
        Transport::WebSocket => {
            let agreement = upgrade::agree(&call.parts.headers, transport, websocket::NAMES)?;
            let protocol = websocket::protocol(agreement.protocol);
            let node = node::converse(&server, on, &path).await?;
            upgrade::switch(&server, &mut call, agreement, move |io| {
                websocket::run(io, protocol, streams, node, command)
            })
        }
        Transport::Spdy => {
            let agreement = upgrade::agree(&call.parts.headers, transport, spdy::NAMES)?;
            let protocol = spdy::protocol(agreement.protocol);
            let node = node::converse(&server, on, &path).await?;
            upgrade::switch(&server, &mut call, agreement, move |io| spdy::run(io, protocol, streams, node, command))
        }
    }
}

/// `core/v1` PodExecOptions and PodAttachOptions.
#[derive(Debug, Default, PartialEq)]
struct Options {
    container: String,
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// The streams that a client is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    fn read(query: &Query) -> Options {
        Options {
            container: query.get("container").unwrap_or_default().to_owned(),
            command: query.all("command").map(str::to_owned).collect(),
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
            tty: query.flag("tty"),
        }
    }

    fn streams(&self) -> Result<Streams, Status> {
        let &Options { stdin, stdout, stderr, tty, .. } = self;
        if !(stdin || stdout || stderr) {
            return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        // A terminal has one output.
        Ok(Streams { stdin, stdout, stderr: stderr && !tty, tty })
    }

    /// As admission sees it.
    fn object(&self, what: &str) -> Value {
        let kind = if what == "exec" { "PodExecOptions" } else { "PodAttachOptions" };
        let mut object = json!({"kind": kind, "apiVersion": "v1", "stdin": self.stdin, "stdout": self.stdout,
            "stderr": self.stderr, "tty": self.tty, "container": self.container});
        if what == "exec" {
            object["command"] = json!(self.command);
        }
        object
    }

    /// As the node reads it.
    fn query(&self, streams: Streams) -> String {
        let flags =
            [("stdin", streams.stdin), ("stdout", streams.stdout), ("stderr", streams.stderr), ("tty", streams.tty)];
        let flags = flags.iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name}=true"));
        let command = self.command.iter().map(|argument| format!("command={}", encode(argument)));
        flags.chain(command).collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_node_as_they_were_given() {
        let options =
            Options::read(&Query::parse("command=echo&command=a+b%26&stdout=true&stderr=1&tty=true&container=c"));
        let streams = options.streams().unwrap();
        assert!(!streams.stderr, "a terminal has one output");
        let query = options.query(streams);
        assert_eq!(query, "stdout=true&tty=true&command=echo&command=a%20b%26");
        assert_eq!(Query::parse(&query).all("command").collect::<Vec<_>>(), ["echo", "a b&"]);
        let none = Options::read(&Query::parse("command=ls")).streams().unwrap_err();
        assert_eq!(none.message, "you must specify at least 1 of stdin, stdout, stderr");
    }
}
