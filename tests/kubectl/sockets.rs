//! Sockets of the host that a process has, as the kernel tells.

use std::collections::BTreeSet;
use std::path::PathBuf;

fn of_process(process: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{name}"))
}

/// The inodes of its sockets.
fn inodes(process: u32) -> BTreeSet<String> {
    let descriptors = std::fs::read_dir(of_process(process, "fd")).unwrap();
    // One that is closed meanwhile leads nowhere.
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let inode = |target: PathBuf| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    targets.filter_map(inode).collect()
}

/// How many it has.
pub fn count(process: u32) -> usize {
    inodes(process).len()
}

/// The ports at which it hears from others, as `tcp 80`.
pub fn listening(process: u32) -> BTreeSet<String> {
    let own = inodes(process);
    let mut ports = BTreeSet::new();
    for (table, protocol, state) in
        [("tcp", "tcp", Some("0A")), ("tcp6", "tcp", Some("0A")), ("udp", "udp", None), ("udp6", "udp", None)]
    {
        let text = std::fs::read_to_string(of_process(process, &format!("net/{table}"))).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, is, ..] = words[..] else { continue };
            let is_own = words.get(9).is_some_and(|inode| own.contains(*inode));
            if is_own && state.is_none_or(|state| state == is) {
                let port = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok()).unwrap();
                ports.insert(format!("{protocol} {port}"));
            }
        }
    }
    ports
}
