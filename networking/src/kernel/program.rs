//! The programs that change the kernel's network: `ip` of iproute2, and `nft`.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Error;

/// How long one run may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// Applies a script as one transaction.
pub async fn nft(script: &str) -> Result<(), Error> {
    run("nft", &["-f", "-"], script).await.map(drop)
}

/// What `nft` prints.
pub async fn nft_says(arguments: &[&str]) -> Result<String, Error> {
    run("nft", arguments, "").await
}

/// What `ip` prints.
pub async fn ip(arguments: &[&str]) -> Result<String, Error> {
    run("ip", arguments, "").await
}

async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let missing = |source: io::Error| Error::Missing { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(missing)?;
    let stdin = child.stdin.take();
    let run = async {
        if let Some(mut stdin) = stdin {
            // One that ends without reading says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let failed = |said: String| Error::Failed { program, said };
    let ended = tokio::time::timeout(RUN_TIMEOUT, run).await;
    let output = ended.map_err(|_| failed(format!("it did not end within {RUN_TIMEOUT:?}")))?.map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // What the sockets ask for is had with CAP_NET_RAW too, which containers have as a rule.
    if said.contains("Operation not permitted") {
        return Err(Error::Privilege(io::Error::new(io::ErrorKind::PermissionDenied, said)));
    }
    Err(failed(said))
}
