//! What the machine uses altogether, as the kernel counts it (proc(5)).

use std::fs;

/// What one unit of `/proc/stat` is: `USER_HZ` is 100 on every architecture that k8w runs on.
const NANOS_PER_TICK: u64 = 10_000_000;

/// CPU and memory of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Since it was booted.
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    /// Without what was read from files and is not in use.
    pub working_set_bytes: u64,
    pub total_bytes: u64,
}

impl Machine {
    /// What it uses now; `None` where the kernel does not say.
    pub fn read() -> Option<Machine> {
        Machine::parse(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(stat: &str, meminfo: &str) -> Option<Machine> {
        let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace();
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        // What guests had is in the first two; what passed in idleness, or waiting, is nobody's.
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let ticks = user + nice + system + irq + softirq + steal;
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1_024))
        };
        let total_bytes = bytes("MemTotal")?;
        let memory_bytes = total_bytes.saturating_sub(bytes("MemFree")?);
        let working_set_bytes = memory_bytes.saturating_sub(bytes("Inactive(file)").unwrap_or(0));
        Some(Machine { cpu_nanos: ticks.saturating_mul(NANOS_PER_TICK), memory_bytes, working_set_bytes, total_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "cpu  10 20 30 1000 2000 4 5 6 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let meminfo = "MemTotal: 100 kB\nMemFree:  20 kB\nInactive: 90 kB\nInactive(file): 30 kB\n";
        let kib = |kib: u64| kib * 1_024;
        let expected = Machine {
            cpu_nanos: 750_000_000,
            memory_bytes: kib(80),
            working_set_bytes: kib(50),
            total_bytes: kib(100),
        };
        assert_eq!(Machine::parse(stat, meminfo), Some(expected));
        assert_eq!(Machine::parse("cpu  1 2", meminfo), None);
        assert_eq!(Machine::parse(stat, ""), None);
        assert!(Machine::read().is_some());
    }
}
