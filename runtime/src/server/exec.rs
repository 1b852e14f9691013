//! `/exec`, `/attach` and `/run`: standard streams of a command, as messages in the two bodies of one request.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8w_kinds::node_stream::{Decoder, Message};
use k8w_networking::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Answer, Failure, answer, running_container, text};
use crate::agent::Shared;
use crate::engine::{Command, ContainerId, ExecError, Io, Output};
use crate::pod::logs::pairs;

/// Pieces of each direction that wait for the other side.
const QUEUED_PIECES: usize = 8;
/// The most output that `/run` collects.
const MAX_RUN_BYTES: usize = 4 << 20;

/// What is wanted of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Exec,
    Attach,
}

/// The query of a request.
#[derive(Debug, Default)]
struct Options {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    fn parse(query: &str) -> Options {
        let mut options = Options::default();
        for (key, value) in pairs(query) {
            let set = matches!(value.as_str(), "true" | "1");
            match key.as_str() {
                "command" => options.command.push(value),
                "stdin" | "input" => options.stdin = set,
                "stdout" | "output" => options.stdout = set,
                "stderr" | "error" => options.stderr = set,
                "tty" => options.tty = set,
                _ => {}
            }
        }
        options
    }
}

/// Answers with what the command says, while it takes from the request's body what it hears.
pub(super) fn serve(shared: &Arc<Shared>, what: What, path: [&str; 3], query: &str, body: Body) -> Answer {
    let [namespace, pod, container] = path;
    let options = Options::parse(query);
    let id = running_container(shared, namespace, pod, container)?;
    if what == What::Exec && options.command.is_empty() {
        return Err(Failure { status: StatusCode::BAD_REQUEST, message: "you must specify a command".to_owned() });
    }
    let (messages, answered) = mpsc::channel(QUEUED_PIECES);
    let session = Session { shared: shared.clone(), what, id, options };
    tokio::spawn(session.run(body, messages));
    let frames = ReceiverStream::new(answered).map(|message: Message| Ok(Frame::data(message.encode())));
    Ok(answer(StatusCode::OK, "application/octet-stream", StreamBody::new(frames).boxed_unsync()))
}

struct Session {
    shared: Arc<Shared>,
    what: What,
    id: ContainerId,
    options: Options,
}

impl Session {
    async fn run(self, body: Body, messages: mpsc::Sender<Message>) {
        let (stdin_sender, stdin) = mpsc::channel(QUEUED_PIECES);
        let (output, written) = mpsc::channel(QUEUED_PIECES);
        let io = Io { stdin: self.options.stdin.then_some(stdin), output };
        let (stdout, stderr) = (self.options.stdout, self.options.stderr || self.options.tty);
        let ended = tokio::select! {
            (ended, ()) = async { tokio::join!(self.work(io), pass(written, stdout, stderr, &messages)) } => ended,
            () = hear(body, stdin_sender) => return,
            () = messages.closed() => return,
        };
        let last = match ended {
            Ok(code) => Message::Exit(code),
            Err(error) => Message::Failed(error.to_string()),
        };
        // A client that is gone does not want to know.
        let _ = messages.send(last).await;
    }

    async fn work(&self, io: Io) -> Result<i32, ExecError> {
        match self.what {
            What::Exec => {
                let command = Command { argv: self.options.command.clone(), tty: self.options.tty };
                self.shared.engine.exec(&self.id, command, io).await
            }
            What::Attach => self.shared.engine.attach(&self.id, io).await.map(|()| 0),
        }
    }
}

/// Passes on output until all of it was written.
async fn pass(mut written: mpsc::Receiver<Output>, stdout: bool, stderr: bool, messages: &mpsc::Sender<Message>) {
    while let Some(output) = written.recv().await {
        let message = match output {
            Output::Stdout(bytes) if stdout => Message::Stdout(bytes),
            Output::Stderr(bytes) if stderr => Message::Stderr(bytes),
            _ => continue,
        };
        if messages.send(message).await.is_err() {
            return;
        }
    }
}

/// Takes in what the client says, until it is gone.
async fn hear(mut body: Body, stdin: mpsc::Sender<Bytes>) {
    let (mut decoder, mut stdin) = (Decoder::default(), Some(stdin));
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        decoder.push(&bytes);
        loop {
            match decoder.pop() {
                Ok(Some(Message::Stdin(bytes))) => {
                    if let Some(stdin) = &stdin {
                        // A command that reads no more goes on without.
                        let _ = stdin.send(bytes).await;
                    }
                }
                Ok(Some(Message::StdinEnd)) => stdin = None,
                // A terminal has no size in WASI: there is nobody to tell.
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return tracing::debug!(%error, "a client of exec speaks another language"),
            }
        }
    }
}

/// `/run/{namespace}/{pod}/{container}?cmd=…`: the command's output, once it has ended.
pub(super) async fn run(shared: &Arc<Shared>, path: [&str; 3], query: &str) -> Answer {
    let [namespace, pod, container] = path;
    let command = pairs(query).into_iter().find(|(key, _)| key == "cmd").map(|(_, value)| value).unwrap_or_default();
    let argv: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if argv.is_empty() {
        return Err(Failure { status: StatusCode::BAD_REQUEST, message: "you must specify a command".to_owned() });
    }
    let id = running_container(shared, namespace, pod, container)?;
    let (output, written) = mpsc::channel(QUEUED_PIECES);
    let running = shared.engine.exec(&id, Command { argv, tty: false }, Io { stdin: None, output });
    let (ended, collected) = tokio::join!(running, collect(written));
    let failed = |message: String| Failure { status: StatusCode::INTERNAL_SERVER_ERROR, message };
    match ended.map_err(|error| failed(error.to_string()))? {
        0 => Ok(text(StatusCode::OK, collected)),
        code => Err(failed(format!("command terminated with exit code {code}: {collected}"))),
    }
}

async fn collect(mut written: mpsc::Receiver<Output>) -> String {
    let mut all = Vec::new();
    while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = written.recv().await {
        let room = MAX_RUN_BYTES - all.len();
        all.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    String::from_utf8_lossy(&all).into_owned()
}
