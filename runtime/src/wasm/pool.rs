//! Makes the one wasmtime engine of a node.

use std::fmt;

use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::compile::Code;
use super::config::PoolLimits;
use super::slots::TABLES_PER_SLOT;

/// Memory mappings that one live instance may cost.
const MAPPINGS_PER_INSTANCE: u64 = 8;
/// Memory mappings left for everything else in the process.
const MAPPINGS_RESERVED: u64 = 16_384;
/// Largest `VMContext` of a component and of a core instance.
const CONTEXT_BYTES: usize = 8 << 20;
const MEMORIES_PER_MODULE: u32 = 4;
const TABLES_PER_MODULE: u32 = 8;

/// The engine that runs guests, and how it came out.
pub struct Pool {
    pub engine: Engine,
    pub instances: Instances,
}

/// How many instances can be alive at a time, and why not more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instances {
    pub count: u32,
    bound: Bound,
    /// Whether they come from pools, or are mapped one by one because the address space for a pool cannot be had.
    pooled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// The engine's settings allow no more.
    Settings,
    /// The kernel's `vm.max_map_count`.
    Mappings(u64),
    AddressSpace,
}

impl fmt::Display for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} alive", self.count)?;
        match self.bound {
            Bound::Settings => {}
            Bound::Mappings(most) => {
                write!(f, ", (vm.max_map_count {most} - {MAPPINGS_RESERVED}) / {MAPPINGS_PER_INSTANCE}")?;
            }
            Bound::AddressSpace => f.write_str(", as address space is short")?,
        }
        if self.pooled { Ok(()) } else { f.write_str("; without pools, as address space is short") }
    }
}

/// Makes the engine of a node. Where the address space for all instances cannot be had, a quarter of them is tried, and
/// so on; without any pool instances are mapped on demand. `code` is what it runs.
///
/// # Errors
/// When not even that works.
pub fn engine(limits: &PoolLimits, code: &Code) -> wasmtime::Result<Pool> {
    let mappings = max_map_count();
    let within = instances_within(mappings);
    let bound = if within < limits.instances { Bound::Mappings(mappings) } else { Bound::Settings };
    let most = within.min(limits.instances);
    let mut count = most;
    while count >= 16 {
        let mut config = code.config()?;
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(limits, count)));
        match Engine::new(&config) {
            Ok(engine) => {
                let bound = if count < most { Bound::AddressSpace } else { bound };
                return Ok(Pool { engine, instances: Instances { count, bound, pooled: true } });
            }
            Err(error) => tracing::debug!(count, "no address space for the pool: {error:#}"),
        }
        count /= 4;
    }
    let engine = code.compiler()?;
    Ok(Pool { engine, instances: Instances { count: most, bound, pooled: false } })
}

fn pooling(limits: &PoolLimits, instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // These cost nothing but what is counted within a component.
        .total_core_instances(instances.saturating_mul(limits.core_instances_per_component))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_SLOT))
        .max_core_instances_per_component(limits.core_instances_per_component)
        .max_memories_per_component(limits.memories_per_component)
        .max_tables_per_component(limits.tables_per_component)
        .max_component_instance_size(CONTEXT_BYTES)
        .max_core_instance_size(CONTEXT_BYTES)
        .max_memories_per_module(MEMORIES_PER_MODULE)
        .max_tables_per_module(TABLES_PER_MODULE)
        .max_memory_size(usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX))
        .table_elements(limits.table_elements)
        .linear_memory_keep_resident(limits.keep_resident_bytes)
        .table_keep_resident(limits.keep_resident_bytes)
        // Where the kernel can tell which pages were touched, just those are reset, and stay mapped for the next guest.
        .pagemap_scan(Enabled::Auto);
    pool
}

/// How many instances fit into a process that may have so many memory mappings.
fn instances_within(mappings: u64) -> u32 {
    u32::try_from(mappings.saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_INSTANCE).unwrap_or(u32::MAX).max(16)
}

/// `vm.max_map_count`; the kernel's default where it cannot be read.
fn max_map_count() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(65_530)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_instances_stay_within_the_kernels_mappings() {
        assert_eq!(instances_within(65_530), 6_143);
        assert_eq!(instances_within(0), 16);
    }

    #[test]
    fn a_node_says_what_bounds_its_instances() {
        let say = |bound, pooled| Instances { count: 6_143, bound, pooled }.to_string();
        assert_eq!(say(Bound::Mappings(65_530), true), "at most 6143 alive, (vm.max_map_count 65530 - 16384) / 8");
        assert_eq!(say(Bound::Settings, false), "at most 6143 alive; without pools, as address space is short");
        assert_eq!(say(Bound::AddressSpace, true), "at most 6143 alive, as address space is short");
    }
}
