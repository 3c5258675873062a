//! The message buffers of a system's instances, by name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::base::lock::{Mutex, Rank};
use crate::trace::MessageBuffer;

/// An instance's buffer, made with the first line.
#[derive(Debug, Default)]
pub(crate) struct Slot(OnceLock<Arc<MessageBuffer>>);

impl Slot {
    /// The buffer, if there is one.
    pub(super) fn get(&self) -> Option<&MessageBuffer> {
        self.0.get().map(|buffer| &**buffer)
    }

    pub(super) fn buffer(&self) -> &Arc<MessageBuffer> {
        self.0.get_or_init(Arc::default)
    }
}

/// The buffers of a system's instances by name. It is kept only once there is a layer.
#[derive(Debug)]
pub(crate) struct Directory {
    wanted: AtomicBool,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    buffers: BTreeMap<Box<str>, Weak<MessageBuffer>>,
    /// How many there are when those of the dead are next cleared out.
    clear_at: usize,
}

impl Directory {
    pub(crate) fn new() -> Directory {
        Directory {
            wanted: AtomicBool::new(false),
            names: Mutex::new(Rank::Messages, Names::default()),
        }
    }

    /// There is a layer: from now on, whoever is made is listed.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Lists an instance that is being made, if there is a layer.
    pub(crate) fn welcome(&self, name: &str, slot: &Slot) {
        if self.wanted.load(Ordering::Acquire) {
            self.add(name, slot);
        }
    }

    pub(super) fn add(&self, name: &str, slot: &Slot) {
        let buffer = Arc::downgrade(slot.buffer());
        let mut names = self.names.lock();
        names.buffers.insert(name.into(), buffer);
        if names.buffers.len() > names.clear_at {
            names.buffers.retain(|_, buffer| buffer.strong_count() > 0);
            names.clear_at = 2 * names.buffers.len() + 16;
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<MessageBuffer>> {
        self.names.lock().buffers.get(name)?.upgrade()
    }
}
