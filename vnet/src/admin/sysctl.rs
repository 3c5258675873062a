//! Tunables of an instance, under the names a BSD user knows: `net.inet.tcp.msl`,
//! `net.inet.ip.ttl`. Each lives in the configuration of the layer that it tunes; this tree gives
//! it a name, a range, a unit and a description. `docs/reference.md` lists them.
//!
//! A tunable is reached by its name. Its value is a number, read as text; where the numbers stand for something that
//! has a name, the text is that:
//!
//! ```
//! use vnet::System;
//!
//! let system = System::virtual_time(1);
//! let a = system.create("a")?;
//! a.set_sysctl("net.inet.tcp.msl", 5000)?;
//! assert_eq!(a.sysctl("net.inet.tcp.msl")?, "5000");
//! assert_eq!(a.sysctl("net.inet.tcp.cc")?, "cubic");
//! a.set_sysctl("net.inet.tcp.cc", "reno")?;
//! let refused = a.set_sysctl("net.inet.ip.ttl", "0").unwrap_err();
//! assert_eq!(refused.to_string(), "net.inet.ip.ttl takes 1 to 255, not 0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod keys;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::record::{Op, VnetOp};
use crate::base::config::ConfigError;
use crate::base::rng::Rng;
use crate::instance::limits;
use crate::instance::phase::{Entry as Entering, Gone};
use crate::instance::privilege::{Authority, Privilege};
use crate::instance::vnet::Vnet;
use crate::ip::state::{Forwarding, Redirects};
use crate::netif::AdminError;
use crate::stack::Stack;
use crate::transport::tcp::{Congestion, EcnUse, Feature};

/// Who may change a tunable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody: it is read-only.
    ReadOnly,
    /// The owner only: it protects resources that tenants share.
    Owner,
    /// The owner, and tenants with this privilege.
    Tenant(Privilege),
}

/// A tunable whose value is a `T`.
struct Key<T> {
    name: &'static str,
    text: &'static str,
    unit: &'static str,
    access: Access,
    /// Least and largest value, as [`Tunable::to_raw`] gives them.
    range: (u64, u64),
    read: fn(&Stack) -> T,
    write: fn(&mut Stack, T),
}

/// The description of a tunable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its dotted name.
    pub name: &'static str,
    /// What it is for.
    pub text: &'static str,
    /// The unit of its value as text; empty for plain numbers and switches.
    pub unit: &'static str,
    /// Who may change it.
    pub access: Access,
    /// Lowest value.
    pub least: u64,
    /// Largest value.
    pub most: u64,
    /// Its value in a new instance without a parent, as text.
    pub default: String,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description {
            name,
            text,
            unit,
            access,
            least,
            most,
            default,
        } = self;
        write!(f, "{name}: {text} (")?;
        match access {
            Access::ReadOnly => f.write_str("read-only")?,
            Access::Owner => write!(f, "{least} to {most}, default {default}; owner only")?,
            Access::Tenant(_) => write!(f, "{least} to {most}, default {default}")?,
        }
        match *unit {
            "" => f.write_str(")"),
            unit => write!(f, "; {unit})"),
        }
    }
}

/// A type of tunable values.
trait Tunable: Copy + 'static {
    /// The value as a number.
    fn to_raw(self) -> u64;
    /// The value of a number.
    fn from_raw(raw: u64) -> Self;
    /// The names that the numbers from 0 on have as text, if they have any.
    const NAMES: &'static [&'static str] = &[];
}

impl Tunable for u64 {
    fn to_raw(self) -> u64 {
        self
    }
    fn from_raw(raw: u64) -> u64 {
        raw
    }
}

/// In milliseconds, rounded up.
impl Tunable for Duration {
    fn to_raw(self) -> u64 {
        u64::try_from(self.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
    fn from_raw(raw: u64) -> Duration {
        Duration::from_millis(raw)
    }
}

/// Enums whose variants have numbers, from 0 on, and names if the type has a list of them.
macro_rules! numbered {
    ($($type:ident $(($names:expr))?: $($variant:ident = $raw:literal),+;)+) => {$(
        impl Tunable for $type {
            $(const NAMES: &'static [&'static str] = $names;)?
            fn to_raw(self) -> u64 {
                match self {
                    $($type::$variant => $raw,)+
                }
            }
            fn from_raw(raw: u64) -> $type {
                let all = [$($type::$variant),+];
                all[(raw as usize).min(all.len() - 1)]
            }
        }
    )+};
}

numbered! {
    Feature: Off = 0, On = 1;
    Forwarding: Disabled = 0, Enabled = 1;
    Redirects: Silent = 0, Sent = 1;
    Congestion(Congestion::NAMES): Reno = 0, Cubic = 1, Bbr = 2, Dctcp = 3;
    EcnUse(EcnUse::NAMES): Off = 0, Ask = 1, Grant = 2, Accurate = 3;
}

/// The largest number of a value that has a name.
const fn last_name<T: Tunable>() -> u64 {
    T::NAMES.len() as u64 - 1
}

/// A [`Key`] of any type, with its values as numbers.
trait Entry: Sync {
    fn name(&self) -> &'static str;
    fn access(&self) -> Access;
    fn read(&self, stack: &Stack) -> u64;
    /// Writes a value that [`Entry::check`] has accepted.
    fn write(&self, stack: &mut Stack, raw: u64);
    fn check(&self, raw: u64) -> Result<(), AdminError>;
    fn names(&self) -> &'static [&'static str];
    fn describe(&self, fresh: &Stack) -> Description;
}

impl<T: Tunable> Entry for Key<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn access(&self) -> Access {
        self.access
    }

    fn read(&self, stack: &Stack) -> u64 {
        (self.read)(stack).to_raw()
    }

    fn write(&self, stack: &mut Stack, raw: u64) {
        (self.write)(stack, T::from_raw(raw));
    }

    fn names(&self) -> &'static [&'static str] {
        T::NAMES
    }

    fn check(&self, value: u64) -> Result<(), AdminError> {
        let (least, most) = self.range;
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let name = self.name;
        let message = format!("{name} takes {least} to {most}, not {value}");
        Err(ConfigError::new(name, message).into())
    }

    fn describe(&self, fresh: &Stack) -> Description {
        Description {
            name: self.name,
            text: self.text.trim_end_matches('.'),
            unit: self.unit,
            access: self.access,
            least: self.range.0,
            most: self.range.1,
            default: text(self, self.read(fresh)),
        }
    }
}

/// A value as text.
fn text(entry: &dyn Entry, raw: u64) -> String {
    let name = usize::try_from(raw).ok().and_then(|n| entry.names().get(n));
    name.map_or_else(|| raw.to_string(), |name| (*name).to_owned())
}

/// The value that a text stands for: a number, or the name of one.
fn parse(entry: &dyn Entry, text: &str) -> Option<u64> {
    let named = entry.names().iter().position(|name| *name == text);
    named.map(|n| n as u64).or_else(|| text.parse().ok())
}

fn find(name: &str) -> Result<&'static dyn Entry, AdminError> {
    let found = keys::TABLE.binary_search_by(|e| e.name().cmp(name));
    let at = found.map_err(|_| AdminError::NoSuchTunable(name.to_owned()))?;
    Ok(keys::TABLE[at])
}

fn fresh() -> Stack {
    Stack::new(&mut Rng::seeded(0), "")
}

impl Description {
    /// The names of all tunables that start with `prefix`, in alphabetical order.
    pub fn names(prefix: &str) -> impl Iterator<Item = &'static str> {
        let all = keys::TABLE.iter().map(|e| e.name());
        all.filter(move |name| name.starts_with(prefix))
    }

    /// The description of the tunable of that name.
    ///
    /// # Errors
    /// There is no tunable of that name.
    ///
    /// ```
    /// let ttl = vnet::sysctl::Description::of("net.inet.ip.ttl")?;
    /// assert_eq!((ttl.least, ttl.most, ttl.default.as_str()), (1, 255, "64"));
    /// # Ok::<(), vnet::AdminError>(())
    /// ```
    pub fn of(name: &str) -> Result<Description, AdminError> {
        Ok(find(name)?.describe(&fresh()))
    }
}

/// Gives a stack the tunables of another one, read as [`snapshot`] reads them.
pub(crate) fn inherit(stack: &mut Stack, values: &[u64]) {
    for (entry, raw) in keys::TABLE.iter().zip(values) {
        if entry.access() != Access::ReadOnly {
            entry.write(stack, *raw);
        }
    }
}

/// The values of all tunables of a new instance without a parent.
fn defaults() -> &'static [u64] {
    static DEFAULTS: OnceLock<Vec<u64>> = OnceLock::new();
    DEFAULTS.get_or_init(|| snapshot(&fresh()))
}

/// The tunables that have another value than in a new instance, with their values as text.
pub(crate) fn changed(stack: &Stack) -> impl Iterator<Item = (&'static str, String)> {
    let pairs = keys::TABLE.iter().zip(defaults());
    pairs.filter_map(|(entry, default)| {
        let value = entry.read(stack);
        // Limits reach some of them as well, and may set more than the range.
        let is_set = entry.access() != Access::ReadOnly && entry.check(value).is_ok();
        (is_set && value != *default).then(|| (entry.name(), text(*entry, value)))
    })
}

/// Gives a tunable the value that it has in a new instance.
pub(crate) fn reset(stack: &mut Stack, name: &str) {
    let mut pairs = keys::TABLE.iter().zip(defaults());
    if let Some((entry, default)) = pairs.find(|(entry, _)| entry.name() == name) {
        entry.write(stack, *default);
    }
}

/// The values of all tunables.
pub(crate) fn snapshot(stack: &Stack) -> Vec<u64> {
    keys::TABLE.iter().map(|e| e.read(stack)).collect()
}

impl Vnet {
    /// The value of the tunable of that name, as text.
    ///
    /// # Errors
    /// There is no such tunable, or the vnet is gone.
    pub fn sysctl(&self, name: &str) -> Result<String, AdminError> {
        let entry = find(name)?;
        Ok(text(entry, self.read_entry(entry)?))
    }

    /// Changes the tunable of that name to a number, which may be given as text, or to one of the names of its values.
    ///
    /// # Errors
    /// There is no such tunable, it is read-only, `value` is not a number or out of range, the handle
    /// lacks the authority to change it, or the vnet is gone.
    pub fn set_sysctl(&self, name: &str, value: impl fmt::Display) -> Result<(), AdminError> {
        let entry = find(name)?;
        let text = value.to_string();
        let Some(raw) = parse(entry, text.trim()) else {
            let (name, names) = (entry.name(), entry.names().join(", "));
            let message = match names.as_str() {
                "" => format!("{name} takes a number, not {text:?}"),
                names => format!("{name} takes one of {names}, not {text:?}"),
            };
            return Err(ConfigError::new(name, message).into());
        };
        self.write_entry(entry, raw)
    }

    /// The names and values of all tunables whose names start with `prefix`, in alphabetical
    /// order.
    ///
    /// # Errors
    /// The vnet is gone.
    pub fn sysctls(&self, prefix: &str) -> Result<Vec<(&'static str, String)>, AdminError> {
        let chosen = keys::TABLE.iter().filter(|e| e.name().starts_with(prefix));
        Ok(self.core.enter_as(Entering::User, |inside, _| {
            chosen
                .map(|e| (e.name(), text(*e, e.read(&inside.stack))))
                .collect()
        })?)
    }

    fn read_entry(&self, entry: &dyn Entry) -> Result<u64, AdminError> {
        Ok(self
            .core
            .enter_as(Entering::User, |inside, _| entry.read(&inside.stack))?)
    }

    fn write_entry(&self, entry: &dyn Entry, raw: u64) -> Result<(), AdminError> {
        match entry.access() {
            Access::ReadOnly => return Err(AdminError::ReadOnly(entry.name())),
            Access::Owner if self.authority != Authority::Owner => {
                return Err(AdminError::OwnerOnly(entry.name()));
            }
            Access::Owner => {}
            Access::Tenant(privilege) => self.require(privilege)?,
        }
        entry.check(raw)?;
        self.configure(|stack, _| {
            entry.write(stack, raw);
            limits::tell_others(&self.core, stack);
            Ok::<_, Gone>(Op::Vnet(VnetOp::SetSysctl {
                name: entry.name().to_owned(),
                value: text(entry, raw),
            }))
        })?;
        // Some tunables are limits by another name, which those below must keep as well.
        limits::spread(&self.core);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{OwnedVnet, Privileges, System};

    fn one() -> OwnedVnet {
        let system = System::virtual_time(1);
        system.create("a").expect("a free name")
    }

    #[test]
    fn the_table_is_sorted_and_every_default_is_in_range() {
        let fresh = fresh();
        assert!(keys::TABLE.is_sorted_by(|a, b| a.name() < b.name()));
        for entry in keys::TABLE {
            let about = entry.describe(&fresh);
            if entry.access() != Access::ReadOnly {
                assert_eq!(entry.check(entry.read(&fresh)), Ok(()), "{about}");
            }
            assert!(!about.text.is_empty() && about.name.split('.').count() >= 3);
            assert_eq!(Description::of(about.name), Ok(about));
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_changes() {
        for entry in keys::TABLE {
            let mut stack = fresh();
            let before = snapshot(&stack);
            if entry.access() == Access::ReadOnly {
                continue;
            }
            let about = entry.describe(&stack);
            for raw in [about.least, about.most] {
                entry.write(&mut stack, raw);
                assert_eq!(entry.read(&stack), raw, "{about}");
                let mut after = snapshot(&stack);
                for (at, other) in keys::TABLE.iter().enumerate() {
                    if other.name() == entry.name() {
                        after[at] = before[at];
                    }
                }
                assert_eq!(after, before, "{about}");
            }
            for out in [about.least.checked_sub(1), about.most.checked_add(1)] {
                assert!(out.is_none_or(|raw| entry.check(raw).is_err()), "{about}");
            }
        }
    }

    #[test]
    fn instances_have_their_own() {
        let a = one();
        let b = a.system().create("b").expect("a free name");
        a.set_sysctl("net.inet.ip.ttl", 9).expect("in range");
        assert_eq!(a.sysctl("net.inet.ip.ttl"), Ok("9".to_owned()));
        assert_eq!(b.sysctl("net.inet.ip.ttl"), Ok("64".to_owned()));
        let all = a.sysctls("").expect("alive");
        assert_eq!(all.len(), keys::TABLE.len());
        let tcp = a.sysctls("net.inet.tcp.").expect("alive");
        assert!(
            tcp.iter()
                .map(|(n, _)| *n)
                .eq(Description::names("net.inet.tcp."))
        );
    }

    #[test]
    fn a_datagram_carries_the_time_to_live() {
        let a = one();
        a.set_sysctl("net.inet.ip.ttl", 9).expect("in range");
        let socket = crate::net::UdpSocket::bind_in(&a, "127.0.0.1:0").expect("a free port");
        assert_eq!(socket.ttl().expect("alive"), 9);
    }

    #[test]
    fn a_value_with_a_name_is_written_and_read_by_it() {
        let a = one();
        let name = "net.inet.tcp.cc";
        assert_eq!(a.sysctl(name), Ok("cubic".to_owned()));
        assert_eq!(a.set_sysctl(name, "reno"), Ok(()));
        assert_eq!(a.sysctl(name), Ok("reno".to_owned()));
        assert_eq!(a.set_sysctl(name, 1), Ok(()));
        assert_eq!(a.sysctl(name), Ok("cubic".to_owned()));
        let refused = a.set_sysctl(name, "vegas").unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "net.inet.tcp.cc takes one of {}, not \"vegas\"",
                Congestion::NAMES.join(", ")
            )
        );
        // The range is that of the names, and each has its number.
        let names = Congestion::NAMES.iter().chain(EcnUse::NAMES);
        for (n, word) in names.enumerate() {
            let (name, n) = match n.checked_sub(Congestion::NAMES.len()) {
                None => (name, n),
                Some(n) => ("net.inet.tcp.ecn", n),
            };
            assert_eq!(a.set_sysctl(name, n), Ok(()));
            assert_eq!(a.sysctl(name).as_deref(), Ok(*word));
        }
        let beyond = a.set_sysctl(name, Congestion::NAMES.len());
        assert!(beyond.is_err(), "{beyond:?}");
    }

    #[test]
    fn refusals_say_why() {
        let a = one();
        let tenant = a.clone();
        let set = |vnet: &Vnet, name: &str, value: &str| vnet.set_sysctl(name, value);
        let refused = set(&a, "net.inet.ip.tll", "1");
        assert_eq!(
            refused,
            Err(AdminError::NoSuchTunable("net.inet.ip.tll".into()))
        );
        assert!(matches!(
            set(&a, "net.inet.ip.ttl", "many"),
            Err(AdminError::Config(_))
        ));
        let count = "net.inet.tcp.pcbcount";
        assert_eq!(set(&a, count, "1"), Err(AdminError::ReadOnly(count)));
        let limit = "net.inet.tcp.maxsockets";
        assert_eq!(set(&tenant, limit, "1"), Err(AdminError::OwnerOnly(limit)));
        assert_eq!(set(&a, limit, "100"), Ok(()));
        a.set_privileges(!Privileges::from(Privilege::Forwarding))
            .expect("alive");
        assert_eq!(set(&tenant, "net.inet.ip.ttl", "1"), Ok(()));
        let denied = Err(AdminError::Denied("forwarding"));
        assert_eq!(set(&tenant, "net.inet.ip.forwarding", "1"), denied);
        drop(a);
        assert_eq!(set(&tenant, "net.inet.ip.ttl", "1"), Err(AdminError::Gone));
    }
}
