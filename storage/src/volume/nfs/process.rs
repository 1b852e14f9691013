//! A volume's own process, which is its NFS client: the node starts it, and it ends with the mount or with the node.
//!
//! The kernel lets nobody be killed who waits for a file system whose process has heard of it. Were that the node itself,
//! one that is killed while a server is silent would stay for ever, with its ports and its lock.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fuse::NOT_ON_DISK;
use super::options::Options;
use super::{Error, Source, connect, fuse, resolve};
use crate::volume::mounted;

/// The hidden subcommand that must call [`serve`] with the arguments behind it.
pub const SUBCOMMAND: &str = "nfs-volume";

/// This very program. Not its path: the file may be replaced by an upgrade while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// Bounds what is read of the process's answer.
const MAX_ANSWER_BYTES: u64 = 4096;

const READ_ONLY: &str = "ro";
const WRITABLE: &str = "rw";

/// Starts the process of a volume; when this returns, it is mounted at `dir`.
///
/// # Errors
/// What the process says.
pub fn start(dir: &Path, source: &Source) -> Result<(), Error> {
    let mut child = Command::new(PROGRAM)
        .arg(SUBCOMMAND)
        .args(arguments(dir, source))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // It ends when it can read no more of its standard input: when this process, or the thread below, has.
    let (life, answer) = (child.stdin.take(), child.stdout.take());
    let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let mut line = String::new();
    let read = BufReader::new(answer.take(MAX_ANSWER_BYTES)).read_line(&mut line);
    match (read, line.strip_suffix('\n')) {
        (Ok(_), Some("")) => {
            let device = source.device();
            std::thread::Builder::new().name(SUBCOMMAND.to_owned()).spawn(move || {
                attend(child, &device);
                drop(life);
            })?;
            Ok(())
        }
        (_, said) => {
            drop(life);
            let status = child.wait()?;
            Err(Error::Process(
                said.map_or_else(|| format!("the process of the volume ended: {status}"), str::to_owned),
            ))
        }
    }
}

fn attend(mut child: Child, device: &str) {
    match child.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!(device, %status, "the process of a volume has ended"),
        Err(error) => tracing::warn!(device, %error, "the process of a volume is lost"),
    }
}

fn arguments(dir: &Path, source: &Source) -> Vec<OsString> {
    let manner = if source.read_only { READ_ONLY } else { WRITABLE };
    let mut all = vec![dir.into(), source.server.clone().into(), source.path.clone().into(), manner.into()];
    all.extend(source.options.iter().map(OsString::from));
    all
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<(PathBuf, Source)> {
    let mut arguments = arguments.into_iter();
    let dir = arguments.next()?.into();
    let mut texts = arguments.map(|argument| String::from_utf8(argument.into_vec()).ok());
    let (server, path) = (texts.next()??, texts.next()??);
    let read_only = match texts.next()??.as_str() {
        READ_ONLY => true,
        WRITABLE => false,
        _ => return None,
    };
    Some((dir, Source { server, path, read_only, options: texts.collect::<Option<_>>()? }))
}

/// The process: mounts, says so by an empty line on standard output, and serves. Otherwise it says why not.
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some((dir, source)) = parse(arguments) else {
        eprintln!("error: {SUBCOMMAND} is for k8w itself");
        return ExitCode::FAILURE;
    };
    match try_serve(&dir, &source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(io::stdout(), "{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn try_serve(dir: &Path, source: &Source) -> Result<(), Error> {
    // What asks the node to stop may be sent to all of its processes. It stops its pods first, which need their volumes.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block().map_err(io::Error::from)?;
    let (tell, mut node_ended) = oneshot::channel();
    std::thread::Builder::new().name("life".to_owned()).spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = tell.send(());
    })?;
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("nfs").enable_all().build()?;

    let options = Options::parse(&source.options)?;
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(Error::NoFuse)?;
    let address = resolve(&source.server)?;
    let connecting = async {
        tokio::select! {
            connected = connect(address, &source.path, &options) => connected,
            _ = &mut node_ended => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
        }
    };
    let files = Arc::new(runtime.block_on(connecting)?);
    let read_only = source.read_only || options.read_only;
    let mounting = fuse::mount(dir, &source.device(), files.clone(), runtime.handle().clone(), &options, read_only);
    let mut mount = mounting.map_err(Error::NotMounted)?;
    writeln!(io::stdout())?;

    runtime.block_on(async {
        tokio::select! {
            biased;
            () = mount.ended() => {}
            _ = &mut node_ended => mounted::remove_beneath(dir)?,
        }
        let settled = async {
            mount.settled().await;
            files.finish_all().await
        };
        let problem = match timeout(options.wait(), settled).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server does not answer".to_owned(),
        };
        tracing::warn!(device = source.device(), problem, "{NOT_ON_DISK}");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_all_of_a_volume() {
        let options = vec!["timeo=10".to_owned(), "-o".to_owned()];
        let source = Source { server: "s".to_owned(), path: "/a b".to_owned(), read_only: true, options };
        let (dir, parsed) = parse(arguments(Path::new("/dir"), &source)).unwrap();
        assert_eq!((dir, parsed), (PathBuf::from("/dir"), source));
        for wrong in [&["/dir", "s", "/"][..], &["/dir", "s", "/", "x"], &[]] {
            assert!(parse(wrong.iter().map(OsString::from)).is_none());
        }
    }
}
