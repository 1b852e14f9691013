//! Tests of the runners that make up their list themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::{Failed, Trial};

/// A test that fails when it panics, with what the panic says.
pub fn trial(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Failed::from(said.unwrap_or("it panicked"))
        })
    })
}
