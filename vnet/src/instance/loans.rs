//! What a vnet knows of interfaces that it has lent, and what becomes of them.

use std::fmt;
use std::sync::Weak;

use serde::{Deserialize, Serialize};

/// What became of an interface that was not at home when one of its two vnets was torn down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedInterface {
    /// The name that it had where it was.
    pub interface: String,
    /// The vnet that had borrowed it.
    pub from: String,
    /// The vnet that it belongs to.
    pub home: String,
    /// Its name at home: the original one, or one with the next free unit number if that has been given to
    /// another interface. `None` when its home was torn down, and the interface was destroyed with it.
    pub name: Option<String>,
}

impl fmt::Display for ReturnedInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReturnedInterface {
            interface,
            from,
            home,
            name,
        } = self;
        match name {
            Some(name) => write!(f, "{interface} went from {from} home to {home} as {name}"),
            None => write!(f, "{interface} of {home} was destroyed in {from}"),
        }
    }
}

/// An interface that its home has lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentInterface {
    /// Its name at home, which it gets back if the name is free.
    pub name: String,
    /// The vnet that has it.
    pub borrower: String,
}

impl fmt::Display for LentInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lent to {}", self.name, self.borrower)
    }
}

/// What a vnet knows of the interfaces that it has lent.
///
/// `V` is what has borrowed them: an instance.
pub(crate) struct Loans<V> {
    pub(crate) lent: Vec<Lent<V>>,
    /// Its own interfaces are being destroyed: none comes home any more.
    pub(crate) closed: bool,
    /// What has become of those that were away when it was torn down.
    pub(crate) ended: Vec<ReturnedInterface>,
}

impl<V> Default for Loans<V> {
    fn default() -> Loans<V> {
        Loans {
            lent: Vec::new(),
            closed: false,
            ended: Vec::new(),
        }
    }
}

impl<V> Loans<V> {
    /// From now on none comes home: the vnet has failed.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }
}

/// One of them.
pub(crate) struct Lent<V> {
    pub(crate) serial: u64,
    pub(crate) name: Box<str>,
    pub(crate) at: Weak<V>,
}
