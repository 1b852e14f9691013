//! Makes the one wasmtime engine of a node, and the settings that compiled code depends on.

use std::fmt;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::config::PoolLimits;

/// Memory mappings that one live instance may cost.
const MAPPINGS_PER_INSTANCE: u64 = 8;
/// Memory mappings left for everything else in the process.
const MAPPINGS_RESERVED: u64 = 16_384;
/// Largest `VMContext` of a component and of a core instance.
const CONTEXT_BYTES: usize = 8 << 20;
const MEMORIES_PER_MODULE: u32 = 4;
const TABLES_PER_MODULE: u32 = 8;

/// Settings that decide what machine code looks like. The compile worker and the node must agree on every one.
fn code_config(limits: &PoolLimits, wasi_p3: bool) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Without it a component can neither have asynchronous functions, streams and futures, nor reach wasmtime's code for them.
    config.concurrency_support(wasi_p3);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config.memory_reservation(limits.memory_bytes);
    config.max_wasm_stack(limits.stack_bytes / 2);
    config.async_stack_size(limits.stack_bytes);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.native_unwind_info(false);
    config
}

/// An engine that compiles and never runs anything: it reserves no address space.
///
/// # Errors
/// When the settings contradict each other.
pub fn compiler(limits: &PoolLimits, wasi_p3: bool) -> wasmtime::Result<Engine> {
    Engine::new(&code_config(limits, wasi_p3))
}

/// The engine that runs guests, and how it came out.
pub struct Pool {
    pub engine: Engine,
    pub allocation: Allocation,
}

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From pools for so many live instances.
    Pooled { instances: u32 },
    /// Mapped one by one, because the address space for a pool cannot be had.
    OnDemand { instances: u32 },
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allocation::Pooled { instances } => write!(f, "pools for {instances} live instances"),
            Allocation::OnDemand { instances } => {
                write!(f, "no pools (not enough address space), at most {instances} live instances")
            }
        }
    }
}

/// Makes the engine of a node. Where the address space for all instances cannot be had, a quarter of them is tried, and
/// so on; without any pool instances are mapped on demand.
///
/// # Errors
/// When not even that works.
pub fn engine(limits: &PoolLimits, wasi_p3: bool) -> wasmtime::Result<Pool> {
    let most = instances_within(max_map_count()).min(limits.instances);
    let mut instances = most;
    while instances >= 16 {
        let mut config = code_config(limits, wasi_p3);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(limits, instances)));
        match Engine::new(&config) {
            Ok(engine) => return Ok(Pool { engine, allocation: Allocation::Pooled { instances } }),
            Err(error) => tracing::debug!(instances, "no address space for the pool: {error:#}"),
        }
        instances /= 4;
    }
    let engine = Engine::new(&code_config(limits, wasi_p3))?;
    Ok(Pool { engine, allocation: Allocation::OnDemand { instances: most } })
}

fn pooling(limits: &PoolLimits, instances: u32) -> PoolingAllocationConfig {
    let core_instances = instances.saturating_mul(limits.core_instances_per_instance);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(core_instances)
        .total_memories(instances)
        .total_tables(core_instances)
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
}
