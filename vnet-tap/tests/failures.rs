//! What cannot be attached leaves the vnet as it was: no interface that nobody uses, and no port that is plugged in
//! still. Descriptors are made scarce, so that each step fails once. TAPs and cards need root, and are left out
//! aloud otherwise.

mod alone;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use alone::{in_a_process_of_its_own, is_inside};
use rustix::process::{Resource, Rlimit, setrlimit};
use vnet::{OwnedVnet, Privilege, Privileges, System, Vnet};
use vnet_tap::{Framing, Guest, GuestError, NetNs, Nic, Tap, TapConfig};

/// Descriptors that this process may have.
const MOST: u64 = 128;

/// What is attached in the tests, to an interface of that name. It is kept until it is dropped.
type Attach<'a> = &'a dyn Fn(&Vnet, &str) -> Result<Box<dyn Door>, String>;

/// Whatever is attached as long as it is there.
trait Door {}
impl<T> Door for T {}

fn names(vnet: &OwnedVnet) -> Vec<String> {
    let interfaces = vnet.interfaces().unwrap();
    interfaces.into_iter().map(|i| i.name).collect()
}

/// Does something with so many descriptors left.
fn with_few_left<R>(left: usize, f: impl FnOnce() -> R) -> R {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - left);
    f()
}

/// Attaches with no descriptor left, with one, and so on, until there are enough.
fn fails_without_a_trace(what: &str, vnet: &OwnedVnet, attach: Attach<'_>) {
    let before = names(vnet);
    let mut failed = 0;
    for left in 0.. {
        match with_few_left(left, || attach(vnet, "door0")) {
            Ok(door) => {
                assert!(vnet.plug_port("door0").is_err(), "{what} is plugged in");
                drop(door);
                vnet.remove_interface("door0").unwrap();
                break;
            }
            Err(_) => failed += 1,
        }
        assert_eq!(names(vnet), before, "{what} with {left} descriptors");
        // A port that was there is free again.
        drop(vnet.port("door0", None).unwrap());
        let attached = with_few_left(left, || attach(vnet, "door0").map(drop));
        assert!(attached.is_err(), "{what} with {left} descriptors, again");
        drop(vnet.plug_port("door0").unwrap());
        vnet.remove_interface("door0").unwrap();
    }
    eprintln!("{what} failed {failed} times");
    assert!(failed > 0, "{what} was never short of any");
}

#[test]
fn what_cannot_be_attached_for_want_of_descriptors_leaves_no_port() {
    in_a_process_of_its_own("want_of_descriptors_inside");
}

#[test]
#[ignore = "run by the test before, in a process of its own"]
fn want_of_descriptors_inside() {
    if !is_inside() {
        return;
    }
    let limit = Rlimit {
        current: Some(MOST),
        maximum: Some(MOST),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let vnet = System::threads().create("lan").unwrap();
    for framing in [
        Framing::Length32,
        Framing::Length16,
        Framing::Datagrams,
        Framing::VhostUser,
    ] {
        // Made before they are scarce.
        let pair = || -> (OwnedFd, OwnedFd) {
            match framing {
                Framing::Datagrams => {
                    let (ours, theirs) = UnixDatagram::pair().unwrap();
                    (ours.into(), theirs.into())
                }
                _ => {
                    let (ours, theirs) = UnixStream::pair().unwrap();
                    (ours.into(), theirs.into())
                }
            }
        };
        let spare = std::cell::RefCell::new(Vec::new());
        spare.borrow_mut().extend((0..20).map(|_| pair()));
        let attach = |vnet: &Vnet, name: &str| {
            let (ours, theirs) = spare.borrow_mut().pop().expect("there are enough");
            let attached = Guest::attach(vnet, name, ours, framing);
            let guest = attached.map_err(|e| e.to_string())?;
            Ok(Box::new((guest, theirs)) as Box<dyn Door>)
        };
        fails_without_a_trace(&format!("{framing:?}"), &vnet, &attach);
    }
    let Some(host) = host() else { return };
    let netns = host.path();
    fails_without_a_trace("a TAP", &vnet, &|vnet, name| {
        let config = TapConfig {
            netns: Some(netns.clone()),
            ..TapConfig::default()
        };
        let tap = Tap::attach(vnet, name, config).map_err(|e| e.to_string())?;
        Ok(Box::new(tap) as Box<dyn Door>)
    });
    host.ip("link add nic type veth peer name wire").unwrap();
    let config = vnet_tap::NicConfig {
        netns: Some(netns.clone()),
        ..vnet_tap::NicConfig::from("nic")
    };
    fails_without_a_trace("a card", &vnet, &|vnet, name| {
        let nic = Nic::attach(vnet, name, config.clone()).map_err(|e| e.to_string())?;
        Ok(Box::new(nic) as Box<dyn Door>)
    });
}

/// A namespace in which TAPs can be made.
fn host() -> Option<NetNs> {
    let host = NetNs::new().map_err(|e| e.to_string());
    let probed = host.and_then(|host| match host.run(vnet_tap::probe) {
        Ok(()) => Ok(host),
        Err(why) => Err(why.to_string()),
    });
    probed
        .map_err(|why| {
            let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
            assert!(!required, "VNET_REQUIRE_TAP is set: {why}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: TAPs and cards: {why}");
        })
        .ok()
}

/// Who may make interfaces, and not configure them, is left without one.
#[test]
fn a_tenant_who_may_not_configure_its_ports_gets_none() {
    let system = System::threads();
    let vnet = system.create("lan").unwrap();
    vnet.set_privileges(Privileges::from(Privilege::InterfaceCreate))
        .unwrap();
    let before = names(&vnet);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let tenant = (*vnet).clone();
    let refused = Guest::attach(&tenant, "guest0", ours, Framing::Length32).unwrap_err();
    assert!(matches!(refused, GuestError::Port(_)), "{refused}");
    assert_eq!(names(&vnet), before);
}
