//! A real NFS server (nfs-ganesha, with rpcbind) in the calling thread's network namespace, which is to be a test's own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::outcome::output;
use crate::process::Process;
use crate::skip::{is_by_tests_run, skipped};
use crate::wait::eventually;

/// Both programs have their sockets and state in folders that only they see, and end with the first of them.
/// A server asks all file systems that it sees, also those that it serves itself: these it is not to see.
const SCRIPT: &str = "set -e
umount --all --lazy --types nfs,nfs4
mount -t tmpfs run /run
mkdir -p /run/rpcbind /run/ganesha
mount -t tmpfs state /var/lib/nfs
mkdir -p /var/lib/nfs/ganesha
rpcbind
exec ganesha.nfsd -F -f \"$1\" -L \"$2\" -p /run/ganesha.pid
";

/// A running server, which exports one folder to everybody, by versions 3 and 4.
pub struct NfsServer {
    folder: TempDir,
    process: Process,
}

impl NfsServer {
    /// Starts it, and waits until it serves. `None`, and a line that says so, where there is none, or nobody to mount it.
    ///
    /// Panics where `tests/run`, which installs it, runs the test.
    pub fn start() -> Option<Self> {
        if !["ganesha.nfsd", "rpcbind"].iter().all(|program| has(program)) {
            let missing = "there is no NFS server on this machine (Debian: apt install nfs-ganesha-vfs)";
            assert!(!is_by_tests_run(), "{missing}");
            skipped(missing);
            return None;
        }
        let fuse = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if !kernel_has_nfs() && fuse().is_err() {
            skipped("this machine has neither NFS in its kernel nor a device /dev/fuse, or not for this user");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("k8w-nfs-").tempdir().unwrap_or_else(|error| panic!("{error}"));
        let export = folder.path().join("export");
        std::fs::create_dir(&export).unwrap_or_else(|error| panic!("{error}"));
        let config = format!(
            "NFS_CORE_PARAM {{ Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; }}
             NFSV4 {{ Graceless = true; Only_Numeric_Owners = true; }}
             EXPORT {{ Export_Id = 1; Path = {0}; Pseudo = {0}; Protocols = 3, 4; Access_Type = RW; Squash = none;
                       SecType = sys; PrivilegedPort = true; FSAL {{ Name = VFS; }} }}
             LOG {{ Default_Log_Level = EVENT; }}",
            export.display()
        );
        std::fs::write(folder.path().join("config"), config).unwrap_or_else(|error| panic!("{error}"));
        let process = serve(folder.path());
        Some(Self { folder, process })
    }

    /// The folder that it exports, which is its own name of it, too.
    pub fn export(&self) -> PathBuf {
        self.folder.path().join("export")
    }

    /// kill -9: clients get no word of it but the end of their connections.
    pub fn kill(&mut self) {
        let server = self.id();
        self.process.kill();
        eventually("the server and its port mapper have ended", || {
            match std::fs::read_to_string(format!("/proc/{server}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => Err(stat),
                _ => Ok(()),
            }
        });
    }

    /// SIGSTOP: it keeps its connections and says nothing more.
    pub fn freeze(&self) {
        output("kill", &["-STOP", &self.id()]);
    }

    /// The server's process, with which all of its namespace ends.
    fn id(&self) -> String {
        let id = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.unwrap_or_else(|error| panic!("{error}")).trim().to_owned()
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) {
        self.process = serve(self.folder.path());
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Whether this kernel mounts volumes of NFS itself, without a client of k8w's own.
pub fn kernel_has_nfs() -> bool {
    let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_else(|error| panic!("{error}"));
    kinds.lines().any(|line| line.ends_with("\tnfs"))
}

fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

fn serve(folder: &Path) -> Process {
    let log = folder.join("log");
    let _ = std::fs::remove_file(&log);
    let paths = [folder.join("config"), log.clone()].map(|path| path.display().to_string());
    // `unshare` does not end when it is asked to.
    let arguments = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"];
    let arguments = [&arguments[..], &["sh", "-c", SCRIPT, "sh"]].concat();
    let arguments = arguments.into_iter().map(String::from).chain(paths);
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let mut process = Process::start("setpriv", &arguments.collect::<Vec<_>>(), &stdout, &stderr)
        .unwrap_or_else(|error| panic!("cannot start the server: {error}"));
    eventually("the server serves", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default() + &process.stderr();
        assert!(process.ended().is_none(), "nfs-ganesha, which tests/run installs, did not start:\n{said}");
        if said.contains("NFS SERVER INITIALIZED") { Ok(()) } else { Err(said) }
    });
    process
}
