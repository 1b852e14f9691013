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
}
