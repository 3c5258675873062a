//! What uses an instance: its sockets, the threads that are in it, interfaces that are away from
//! home, children. None of these prevents [`OwnedVnet::destroy`]; any of them prevents
//! [`OwnedVnet::try_destroy`], which names them.
//!
//! Handles do not count. A clone of a [`Vnet`] is only a name.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::inspect::{self, SocketKind};
use super::moves::LentInterface;
use crate::instance::context;
use crate::instance::cores::{Inside, VnetCore};
use crate::instance::lifecycle;
use crate::instance::phase::{Entry, Gone, Phase};
use crate::instance::report::DestroyReport;
use crate::instance::vnet::{OwnedVnet, Vnet};

use crate::transport::tcp::TcpState;

/// Everything that uses an instance at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The instance's name.
    pub vnet: String,
    /// Sockets, and TCP connections that outlived theirs and have not ended yet. TIME-WAIT does not
    /// count: nothing waits for it.
    pub sockets: Vec<SocketPin>,
    /// Threads in which the vnet is current, or will be when a guard drops; including those of
    /// [`Vnet::spawn`]. Guards of one thread beyond the sixteenth are not seen.
    pub threads: Vec<ThreadPin>,
    /// Interfaces that belong to other vnets.
    pub borrowed: Vec<InterfacePin>,
    /// Its own interfaces that are in other vnets.
    pub lent: Vec<LentInterface>,
    /// The names of its children.
    pub children: Vec<String>,
}

/// A socket that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketPin {
    /// Its kind and state, as [`SocketKind`] is written.
    pub kind: String,
    /// Its address, when it has one.
    pub local: Option<SocketAddr>,
    /// Its peer's address, when it has one.
    pub peer: Option<SocketAddr>,
}

/// A thread that is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadPin {
    /// The thread's name, or its number when it has none.
    pub thread: String,
    /// Where in the source it entered, as `file:line:column`.
    pub entered_at: String,
}

/// An interface that belongs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePin {
    /// Its name here.
    pub name: String,
    /// The vnet that it belongs to.
    pub home: String,
}

impl Pins {
    /// True if nothing uses the instance.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pins there are.
    pub fn len(&self) -> usize {
        let Pins {
            vnet: _,
            sockets,
            threads,
            borrowed,
            lent,
            children,
        } = self;
        sockets.len() + threads.len() + borrowed.len() + lent.len() + children.len()
    }
}

impl fmt::Display for SocketPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SocketPin { kind, local, peer } = self;
        f.write_str(kind)?;
        if let Some(local) = local {
            write!(f, " {local}")?;
        }
        match peer {
            Some(peer) => write!(f, " to {peer}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ThreadPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, entered at {}", self.thread, self.entered_at)
    }
}

impl fmt::Display for InterfacePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} borrowed from {}", self.name, self.home)
    }
}

impl fmt::Display for Pins {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pins {
            vnet,
            sockets,
            threads,
            borrowed,
            lent,
            children,
        } = self;
        writeln!(f, "vnet {vnet} is pinned by {}:", self.len())?;
        for socket in sockets {
            writeln!(f, "  socket     {socket}")?;
        }
        for thread in threads {
            writeln!(f, "  thread     {thread}")?;
        }
        for interface in borrowed {
            writeln!(f, "  interface  {interface}")?;
        }
        for interface in lent {
            writeln!(f, "  interface  {interface}")?;
        }
        for child in children {
            writeln!(f, "  child      {child}")?;
        }
        Ok(())
    }
}

impl Vnet {
    /// What uses this instance now.
    ///
    /// # Errors
    /// [`Gone`].
    ///
    /// ```
    /// use vnet::System;
    /// use vnet::net::UdpSocket;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// assert!(a.pins()?.is_empty());
    /// let _dns = UdpSocket::bind_in(&a, "127.0.0.1:53")?;
    /// let _inside = a.enter();
    /// let pins = a.pins()?;
    /// assert_eq!(pins.sockets[0].to_string(), "udp4 127.0.0.1:53");
    /// assert!(pins.threads[0].entered_at.contains(".rs:"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pins(&self) -> Result<Pins, Gone> {
        let children = self.core.system.registry().children_of(&self.core);
        let core = &self.core;
        let pins = core.enter_as(Entry::User, |inside, _| held(core, inside, &children));
        self.core.driver.dispatch();
        pins
    }
}

impl OwnedVnet {
    /// Destroys the instance only if nothing uses it; otherwise it stays unchanged, and everything
    /// that uses it is named.
    ///
    /// The guard of the calling thread counts, too. A thread that enters at this very moment may be
    /// missed; it finds the instance gone.
    ///
    /// # Errors
    /// The owner's handle, and the pins. Dropping the handle destroys the instance in any case.
    ///
    /// ```
    /// use vnet::System;
    /// use vnet::net::TcpListener;
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let listener = TcpListener::bind_in(&a, "127.0.0.1:80")?;
    /// let Err((a, pins)) = a.try_destroy() else { panic!("somebody listens") };
    /// assert!(pins.to_string().contains("tcp4 Listen 127.0.0.1:80"));
    /// drop(listener);
    /// let report = a.try_destroy().expect("nothing uses it");
    /// assert!(report.leaked.is_zero());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_destroy(self) -> Result<DestroyReport, (OwnedVnet, Box<Pins>)> {
        if context::is_locked() {
            // From inside a vnet nothing can be seen of any; this thread is what pins it.
            let pins = Pins {
                vnet: self.name().to_owned(),
                threads: vec![ThreadPin {
                    thread: "this thread".to_owned(),
                    entered_at: "a callback that holds a vnet's lock".to_owned(),
                }],
                ..Pins::default()
            };
            return Err((self, Box::new(pins)));
        }
        let core = Arc::clone(&self.core);
        let pins = {
            // With the registry held no child can be published, and once the phase is set none
            // will be.
            let registry = core.system.registry();
            let children = registry.children_of(&core);
            let mut pins = None;
            core.alive(|live| {
                if live.inside.phase == Phase::Dying {
                    return;
                }
                let pins = pins.insert(held(&core, &live.inside, &children));
                if pins.is_empty() {
                    live.inside.phase = Phase::Dying;
                }
            });
            pins
        };
        match pins {
            Some(pins) if pins.is_empty() => Ok(lifecycle::go_down(&core)),
            Some(pins) => Err((self, Box::new(pins))),
            // It went with its parent.
            None => Ok(lifecycle::destroy(&core)),
        }
    }
}

/// Everything that uses an instance, as seen from inside.
pub(super) fn held(core: &Arc<VnetCore>, inside: &Inside, children: &[Arc<VnetCore>]) -> Pins {
    let borrowed = inside.stack.ifs.iter().filter_map(|n| {
        Some(InterfacePin {
            name: n.name.to_string(),
            home: n.loan.as_ref()?.home_name.to_string(),
        })
    });
    let threads = context::visits(core)
        .into_iter()
        .map(|(thread, at)| ThreadPin {
            thread,
            entered_at: at.to_string(),
        });
    let is_open = |kind: SocketKind| {
        let over = [TcpState::TimeWait, TcpState::Closed];
        !over.iter().any(|over| kind == SocketKind::Tcp(*over))
    };
    let sockets = inspect::sockets(&inside.stack, None).into_iter();
    Pins {
        vnet: core.name.to_string(),
        sockets: sockets
            .filter(|s| is_open(s.kind))
            .map(|s| SocketPin {
                kind: s.kind.to_string(),
                local: s.local,
                peer: s.peer,
            })
            .collect(),
        threads: threads.collect(),
        borrowed: borrowed.collect(),
        lent: inside.loans.lent.iter().map(|l| l.describe()).collect(),
        children: children.iter().map(|c| c.name.to_string()).collect(),
    }
}
