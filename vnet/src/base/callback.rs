//! Calls into the program: wakers, taps and other callbacks that it has given to the library. They
//! may panic, and the panic must not reach an unrelated caller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a callback has panicked with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Calls `f`, a callback whose result nothing waits for. A panic, which the panic hook has already
/// reported, is logged and goes no further.
pub(crate) fn contained(what: &'static str, f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        let text = panic_text(&*panic);
        tracing::error!(target: "vnet::lifecycle", "{what} has panicked: {text}");
        discard(panic);
    }
}

/// Drops the payload of a panic, which is the program's, and whose destructor may panic as well.
pub(crate) fn discard(panic: Payload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // This could go on for ever.
        std::mem::forget(again);
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text")
}
