//! What the machine says about itself, read once at start.

use std::fs;
use std::path::Path;

/// Facts about the machine that the Node object shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    /// Size of the file system that holds the node's directory.
    pub storage_bytes: u64,
    pub kernel_version: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
}

impl Machine {
    /// Reads the facts; what cannot be read is empty or zero.
    pub fn read(root_dir: &Path) -> Machine {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let machine_id = line("/etc/machine-id");
        let storage = nix::sys::statvfs::statvfs(root_dir);
        Machine {
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&line("/proc/meminfo")),
            storage_bytes: storage.map_or(0, |stat| stat.blocks().saturating_mul(stat.fragment_size())),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&line("/etc/os-release")),
            system_uuid: Some(line("/sys/class/dmi/id/product_uuid"))
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| machine_id.clone()),
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
        }
    }
}

/// The memory that this process may have: the machine's, or what the least of its control groups lets it have.
pub fn usable_memory_bytes() -> u64 {
    let machine = memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.min(group_limit(&groups, |file| fs::read_to_string(file).ok()).unwrap_or(u64::MAX))
}

/// The least limit of the control groups in `/proc/self/cgroup` (cgroups(7)) and of those that they are in, whose files `read`
/// has.
fn group_limit(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = Some(path.trim_end_matches('/'));
        while let Some(path) = group {
            let limit = read(&format!("{root}{path}/{file}")).and_then(|limit| limit.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit).min();
            group = path.rsplit_once('/').map(|(parent, _)| parent);
        }
    }
    least
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_formats_of_linux() {
        assert_eq!(memory_bytes("MemFree: 1 kB\nMemTotal:       16384 kB\n"), 16 << 20);
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn the_least_control_group_counts() {
        let limit = |groups: &str, files: &[(&str, &str)]| {
            let read = |file: &str| Some(files.iter().find(|(name, _)| *name == file)?.1.to_owned());
            group_limit(groups, read)
        };
        let own = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        let outer = ("/sys/fs/cgroup/a/memory.max", "2048\n");
        let root = ("/sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(limit("0::/a/b\n", &[own, outer]), Some(2048));
        assert_eq!(limit("0::/a/b\n", &[own]), None);
        // What is seen from within a container.
        assert_eq!(limit("0::/\n", &[root]), Some(4096));
        assert_eq!(limit("0::/elsewhere\n", &[root]), Some(4096));
        let old = ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1024");
        let of_all = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(limit("5:cpu,memory:/a\n4:pids:/b\n0::/\n", &[old, of_all, root]), Some(1024));
        assert_eq!(limit("", &[root]), None);
        assert_eq!(limit("nothing", &[root]), None);
    }
}
