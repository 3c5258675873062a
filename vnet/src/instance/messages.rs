//! Each instance's message buffer, and how messages get there.
//!
//! An event is about a vnet if it has a field `vnet` with the vnet's name; otherwise it belongs to
//! the vnet that is current where it is emitted. So does one that names a vnet that the current one
//! must not know about: no tenant writes into another's buffer. Finding the buffer takes no lock
//! but leaves: an event may be emitted while any lock is held, the vnet's own included.

use std::fmt::{self, Write};
use std::sync::{Arc, Weak};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::context::peek_current;
use super::cores::{SystemCore, VnetCore};
use super::directory::Directory;
use super::privilege::Privilege;
use super::system::System;
use super::vnet::Vnet;
use crate::base::time::Instant;
use crate::trace::{Line, Message, MessageBuffer, Messages};

/// A [`tracing_subscriber`] layer that puts events into the message buffers of a system's vnets: an
/// event with a field `vnet` into that of the vnet of this name, any other into that of the vnet
/// that is current. Events that concern none of them are left to other layers.
///
/// While a vnet is current whose tenants lack [`Privilege::System`], events of the program may name
/// that vnet and those below it; one that names another goes to the current vnet, with the field in
/// its text.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
/// use vnet::{MessageLayer, System};
///
/// let system = System::virtual_time(1);
/// let subscriber = tracing_subscriber::registry().with(MessageLayer::new(&system));
/// tracing::subscriber::with_default(subscriber, || {
///     let (a, b) = (system.create("a")?, system.create("b")?);
///     {
///         let _in_a = a.enter();
///         tracing::info!(answer = 42, "hello");
///     }
///     tracing::warn!(vnet = "b", "look out");
///     assert_eq!(a.messages().lines.last().unwrap().text, "hello answer=42");
///     assert_eq!(b.messages().lines.last().unwrap().text, "look out");
///     Ok::<(), vnet::CreateError>(())
/// })?;
/// # Ok::<(), vnet::CreateError>(())
/// ```
///
/// A vnet keeps its last 1024 messages, of at most 64 KiB together. Of a message it keeps 1024 bytes; a longer one is
/// truncated, and ends with `…`.
pub struct MessageLayer {
    system: Weak<SystemCore>,
    directory: Arc<Directory>,
    /// The vnet to which, and to those below which, the layer is confined.
    only: Option<Box<str>>,
}

impl MessageLayer {
    /// A layer for the present and future vnets of `system`. It does not keep the system alive.
    /// With a handle to the system that lacks [`Privilege::System`] now, it is for the handle's
    /// vnet and those below it.
    pub fn new(system: &System) -> MessageLayer {
        let directory = Arc::clone(&system.core.directory);
        directory.want();
        let there = system.core.registry().vnets();
        there
            .iter()
            .for_each(|core| directory.add(&core.name, &core.messages));
        MessageLayer {
            system: Arc::downgrade(&system.core),
            directory,
            only: system.confined_to().map(|vnet| vnet.name().into()),
        }
    }

    fn is_ours(&self, core: &VnetCore) -> bool {
        Weak::as_ptr(&self.system) == Arc::as_ptr(&core.system) && self.is_wanted(&core.name)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| is_family(only, name))
    }

    /// The buffer of the current vnet, if it is one of ours, and the time.
    fn current(&self) -> Option<(Arc<MessageBuffer>, Instant)> {
        peek_current(|core| {
            let found = || (Arc::clone(core.messages.buffer()), core.driver.now());
            self.is_ours(core).then(found)
        })?
    }

    fn named(&self, name: &str) -> Option<(Arc<MessageBuffer>, Instant)> {
        if !self.is_wanted(name) {
            return None;
        }
        let buffer = self.directory.find(name)?;
        Some((buffer, self.system.upgrade()?.driver.now()))
    }

    /// Whether whoever speaks may speak about the vnet of that name.
    fn may_name(&self, name: &str, metadata: &Metadata<'_>) -> bool {
        let module = metadata.module_path().unwrap_or_default();
        if module == "vnet" || module.starts_with("vnet::") {
            return true;
        }
        let current = peek_current(|core| {
            !self.is_ours(core)
                || is_family(&core.name, name)
                || core.privileges.get().contains(Privilege::System)
        });
        current.unwrap_or(true)
    }
}

/// True when `name` is that of the vnet `of`, or of one below it.
fn is_family(of: &str, name: &str) -> bool {
    let below = name.strip_prefix(of);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl<S: Subscriber> Layer<S> for MessageLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Formatted before anything is locked: values may do as they like when they are shown.
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let named = match said.vnet.as_deref() {
            Some(name) if self.may_name(name, metadata) => self.named(name),
            Some(_) => {
                said.keep_vnet();
                None
            }
            None => None,
        };
        let Some((buffer, at)) = named.or_else(|| self.current()) else {
            return;
        };
        buffer.push(Message {
            at,
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            text: said.text(),
        });
    }
}

impl fmt::Debug for MessageLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageLayer").finish_non_exhaustive()
    }
}

/// The fields of an event.
#[derive(Default)]
struct Said {
    vnet: Option<String>,
    message: Line,
    fields: Line,
}

impl Said {
    fn show(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // An error is a line that is full.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            "vnet" => {
                let mut name = Line::default();
                let written = name.write_fmt(value);
                self.vnet = Some(name.finish());
                written
            }
            name => {
                let gap = if self.fields.is_empty() { "" } else { " " };
                write!(self.fields, "{gap}{name}={value}")
            }
        };
    }

    /// Makes the vnet's name a field like any other.
    fn keep_vnet(&mut self) {
        if let Some(name) = self.vnet.take() {
            let gap = if self.fields.is_empty() { "" } else { " " };
            let _ = write!(self.fields, "{gap}vnet={name}");
        }
    }

    /// The message, and the fields but the vnet's name behind it.
    fn text(self) -> String {
        let Said {
            vnet: _,
            message: mut line,
            fields,
        } = self;
        if !fields.is_empty() {
            let gap = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{gap}{}", fields.finish());
        }
        line.finish()
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.show(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.show(field, format_args!("{value:?}"));
    }
}

impl Vnet {
    /// The instance's message buffer: the most recent events that were emitted while it was
    /// current, or about it, while a [`MessageLayer`] was active. It can still be read when the
    /// instance is gone.
    pub fn messages(&self) -> Messages {
        let buffer = self.core.messages.get();
        buffer.map(|b| b.read()).unwrap_or_default()
    }

    /// Empties the message buffer, and returns what it held.
    pub fn take_messages(&self) -> Messages {
        let buffer = self.core.messages.get();
        buffer.map(|b| b.take()).unwrap_or_default()
    }
}
