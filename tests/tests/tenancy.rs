//! A handle reaches what its holder may: every method that a tenant without privileges can call is
//! tried, and finds, tells and changes nothing outside the tenant's own instance and those below it.

#[path = "layering/scan.rs"]
#[allow(dead_code)] // Half of the scanner is for the test of layers.
mod scan;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::link::{Change, Shape};
use vnet::net::UdpSocket;
use vnet::parallel::Parallel;
use vnet::record::Operation;
use vnet::time::Instant;
use vnet::{
    AdminState, BridgeConfig, Carrier, ClassMaps, CreateError, Denied, Direction, Forwarding,
    InitRecord, LaggConfig, LinkConfig, MacAddr, MemberConfig, MessageLayer, Offload, OwnedVnet,
    Packet, Privilege, Privileges, Resource, RouterConfig, RunLimit, Stage, System, VirtualConfig,
    VlanConfig, Vnet,
};
use vnet_tests::topology::hosts;

/// A tenant of `house.flat`, which is wired to `stranger`; `house.flat.room` is below it.
struct Scene {
    tenant: Vnet,
    flat: OwnedVnet,
    room: OwnedVnet,
    others: Vec<OwnedVnet>,
    system: System,
}

impl Scene {
    fn new() -> Scene {
        let config = VirtualConfig {
            threads: 2,
            ..VirtualConfig::default()
        };
        let system = System::virtual_time_with(1, config);
        let step = |name| InitRecord::new(name, Stage::Services, 0, |_| Ok(()), |_| Ok(()));
        let [house, upstairs, stranger] =
            ["house", "upstairs", "stranger"].map(|n| system.create(n).unwrap());
        let flat = house.create_child("flat").unwrap();
        let room = flat.create_child("room").unwrap();
        system.register(step("everywhere")).unwrap();
        flat.epair("eth0", &stranger, "eth0").unwrap();
        flat.bridge("bridge0").unwrap();
        let _unplugged = flat.port("port0", None).unwrap();
        flat.add_member("bridge0", "port0").unwrap();
        flat.lagg("lagg0", LaggConfig::default()).unwrap();
        flat.vlan("eth0", "eth0.5", VlanConfig::dot1q(5)).unwrap();
        for (vnet, address) in [(&flat, "192.0.2.1/24"), (&stranger, "192.0.2.2/24")] {
            vnet.add_address("eth0", address.parse().unwrap()).unwrap();
        }
        let _waits = stranger.spawn_future(pending::<()>());
        let _waits = system.spawn_future(pending::<()>());
        flat.set_privileges(Privileges::NONE).unwrap();
        system.run_until_idle(RunLimit::default()).unwrap();
        Scene {
            tenant: flat.clone(),
            flat,
            room,
            others: vec![house, upstairs, stranger],
            system,
        }
    }

    /// Everything about the others that the tenant could have changed.
    fn others(&self) -> String {
        let views = self
            .others
            .iter()
            .map(|v| v.inspect().unwrap().normalised());
        let views: Vec<_> = views.collect();
        let names = self.system.names();
        let steps = self.system.init_steps();
        format!("{views:?} {names:?} {steps:?}")
    }
}

/// What is to come of an act.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// A typed error that names the privilege, and a count of it.
    Denied(Privilege),
    /// Counted as denied, for want of an error: it does nothing.
    Ignored(Privilege),
    /// It concerns the tenant's own instance and those below it, and names no other.
    Own,
    /// The same, and it may show the names of what its wires are plugged into, and its parent's.
    OwnWires,
}

use Fate::{Denied as No, Ignored, Own, OwnWires};

type Act = fn(&Scene) -> String;

fn said(result: impl Debug) -> String {
    format!("{result:?}")
}

struct NoTap;
impl FrameTap for NoTap {
    fn frame(&self, _: Instant, _: Direction, _: &Packet) {}
}

const CONFIG: Fate = No(Privilege::InterfaceConfig);
const MAKE: Fate = No(Privilege::InterfaceCreate);
const SYSTEM: Fate = No(Privilege::System);
const SECOND: Duration = Duration::from_secs(1);

fn mac() -> MacAddr {
    MacAddr::from_number(77)
}

/// A row for every public method of [`Vnet`].
const OF_VNET: &[(&str, Fate, Act)] = &[
    ("bridge", MAKE, |s| said(s.tenant.bridge("b1"))),
    ("vlan", MAKE, |s| {
        said(s.tenant.vlan("eth0", "v1", VlanConfig::dot1q(1)))
    }),
    ("vlan_in", MAKE, |s| {
        let config = VlanConfig::dot1q(1);
        said(s.tenant.vlan_in("eth0", &s.room, "v1", config))
    }),
    ("set_vlan_classes", CONFIG, |s| {
        said(
            s.tenant
                .set_vlan_classes("eth0.5", Some(ClassMaps::default())),
        )
    }),
    ("set_router", CONFIG, |s| {
        said(s.tenant.set_router("eth0", Some(RouterConfig::default())))
    }),
    ("set_vlan", MAKE, |s| {
        said(s.tenant.set_vlan("eth0.5", VlanConfig::dot1q(6)))
    }),
    ("lagg", MAKE, |s| {
        said(s.tenant.lagg("lagg1", LaggConfig::default()))
    }),
    ("set_lagg", CONFIG, |s| {
        said(s.tenant.set_lagg("lagg0", LaggConfig::default()))
    }),
    ("lagg_info", Own, |s| said(s.tenant.lagg_info("lagg0"))),
    ("add_member", CONFIG, |s| {
        said(s.tenant.add_member("bridge0", "eth0"))
    }),
    ("remove_member", CONFIG, |s| {
        said(s.tenant.remove_member("bridge0", "port0"))
    }),
    ("set_member", CONFIG, |s| {
        said(
            s.tenant
                .set_member("bridge0", "port0", MemberConfig::default()),
        )
    }),
    ("set_bridge", CONFIG, |s| {
        said(s.tenant.set_bridge("bridge0", BridgeConfig::default()))
    }),
    ("add_station", CONFIG, |s| {
        said(s.tenant.add_station("bridge0", "port0", mac(), None))
    }),
    ("remove_station", CONFIG, |s| {
        said(s.tenant.remove_station("bridge0", mac(), None))
    }),
    ("flush_stations", CONFIG, |s| {
        said(s.tenant.flush_stations("bridge0"))
    }),
    ("bridge_info", Own, |s| {
        said(s.tenant.bridge_info("bridge0"))
    }),
    ("stations", Own, |s| said(s.tenant.stations("bridge0"))),
    ("capture", No(Privilege::Capture), |s| {
        said(s.tenant.capture("eth0", Arc::new(NoTap)))
    }),
    ("start_capture", No(Privilege::Capture), |s| {
        said(s.tenant.start_capture("eth0", Arc::new(NoTap)).map(drop))
    }),
    ("captures", Own, |s| said(s.tenant.captures("eth0"))),
    ("failure", Own, |s| said(s.tenant.failure())),
    ("callback_panics", Own, |s| said(s.tenant.callback_panics())),
    ("enter", Own, |s| {
        let _entered = s.tenant.enter();
        said(Vnet::current())
    }),
    ("current", Own, |s| {
        let nobody = said(Vnet::current());
        let _entered = s.tenant.enter();
        let current = Vnet::current().expect("entered");
        assert!(
            current.require(Privilege::Routes).is_err(),
            "it is a tenant's"
        );
        nobody + &said(current.system().names())
    }),
    ("scope", Own, |s| {
        said(
            s.tenant
                .system()
                .block_on(s.tenant.scope(async { Vnet::current() })),
        )
    }),
    ("create_child", No(Privilege::Children), |s| {
        said(s.tenant.create_child("x").map(drop))
    }),
    ("children", Own, |s| said(s.tenant.children())),
    ("descendants", Own, |s| said(s.tenant.descendants())),
    ("descendant", Own, |s| {
        let names = ["room", "", "..stranger", "stranger", "upstairs", "house"];
        said(names.map(|name| s.tenant.descendant(name)))
    }),
    ("neighbours", Own, |s| said(s.tenant.neighbours())),
    ("protocol_stats", Own, |s| said(s.tenant.protocol_stats())),
    ("sockets", Own, |s| said(s.tenant.sockets())),
    ("link", Own, |s| said(s.tenant.link("eth0"))),
    ("link_stats", Own, |s| said(s.tenant.link_stats("eth0"))),
    ("inspect", OwnWires, |s| said(s.tenant.inspect())),
    ("epair", MAKE, |s| {
        said(s.tenant.epair("e0", &s.tenant, "e1"))
    }),
    ("remove_interface", MAKE, |s| {
        said(s.tenant.remove_interface("eth0"))
    }),
    ("rename_interface", CONFIG, |s| {
        said(s.tenant.rename_interface("eth0", "e0"))
    }),
    ("set_up", CONFIG, |s| {
        said(s.tenant.set_up("eth0", AdminState::Down))
    }),
    ("set_ip_mtu", CONFIG, |s| {
        said(s.tenant.set_ip_mtu("eth0", 1400))
    }),
    ("set_mac", CONFIG, |s| said(s.tenant.set_mac("eth0", mac()))),
    ("set_offload", CONFIG, |s| {
        said(s.tenant.set_offload("eth0", Offload::None))
    }),
    ("set_link", CONFIG, |s| {
        said(s.tenant.set_link("eth0", LinkConfig::default()))
    }),
    ("add_address", CONFIG, |s| {
        said(
            s.tenant
                .add_address("eth0", "198.51.100.1/24".parse().unwrap()),
        )
    }),
    ("add_anycast", CONFIG, |s| {
        let shared = "2001:db8::53".parse().unwrap();
        said(s.tenant.add_anycast("eth0", shared))
    }),
    ("remove_address", CONFIG, |s| {
        said(
            s.tenant
                .remove_address("eth0", "192.0.2.1".parse().unwrap()),
        )
    }),
    ("add_neighbour", CONFIG, |s| {
        let address = "192.0.2.7".parse().unwrap();
        said(s.tenant.add_neighbour("eth0", address, mac()))
    }),
    ("remove_neighbour", CONFIG, |s| {
        let address = "192.0.2.7".parse().unwrap();
        said(s.tenant.remove_neighbour("eth0", address))
    }),
    ("interfaces", Own, |s| said(s.tenant.interfaces())),
    ("usage", Own, |s| said(s.tenant.usage(Resource::Sockets))),
    ("usages", Own, |s| said(s.tenant.usages())),
    ("messages", OwnWires, |s| said(s.tenant.messages())),
    ("take_messages", OwnWires, |s| {
        said(s.tenant.take_messages())
    }),
    ("move_interface", MAKE, |s| {
        said(s.tenant.move_interface("eth0", &s.room))
    }),
    ("move_interface_as", MAKE, |s| {
        said(s.tenant.move_interface_as("eth0", &s.room, "e"))
    }),
    ("return_interface", MAKE, |s| {
        said(s.tenant.return_interface("eth0"))
    }),
    ("reclaim_interface", MAKE, |s| {
        said(s.tenant.reclaim_interface("eth0"))
    }),
    ("pins", Own, |s| said(s.tenant.pins())),
    ("port", MAKE, |s| {
        said(s.tenant.port("port1", None).map(drop))
    }),
    ("plug_port", MAKE, |s| {
        said(s.tenant.plug_port("port0").map(drop))
    }),
    ("privileges", Own, |s| said(s.tenant.privileges())),
    ("require", SYSTEM, |s| {
        said(s.tenant.require(Privilege::System))
    }),
    ("denials", Own, |s| {
        said(s.tenant.denials(Privilege::Routes))
    }),
    ("record", OwnWires, |s| said(s.tenant.record())),
    ("apply", Own, |s| {
        let op = |text: &str| toml::from_str::<Operation>(text).expect("an operation");
        let all = Privileges::WITH_SYSTEM;
        let widen = op(&format!("op = 'set_privileges'\nprivileges = '{all}'"));
        let widen = s.tenant.apply(&widen);
        assert!(widen.is_err());
        // One that is there and one that is not are the same to it.
        let pair = |peer: &str| {
            op(&format!(
                "op = 'epair'\ninterface = 'e0'\npeer = '{peer}'\npeer_interface = 'e0'"
            ))
        };
        let told = ["stranger", "nobody", "house"].map(|peer| {
            let refused = s.tenant.apply(&pair(peer)).unwrap_err().to_string();
            refused.replace(peer, "it")
        });
        assert!(told.iter().all(|t| *t == told[0]), "{told:?}");
        said(widen)
    }),
    ("add_route", No(Privilege::Routes), |s| {
        let dst = "198.51.100.0/24".parse().unwrap();
        said(
            s.tenant
                .add_route(dst, vnet::NextHop::Interface("eth0".into())),
        )
    }),
    ("add_route_at", No(Privilege::Routes), |s| {
        let dst = "198.51.100.0/24".parse().unwrap();
        said(s.tenant.add_route_at(dst, vnet::NextHop::Blackhole, 7))
    }),
    ("remove_route", No(Privilege::Routes), |s| {
        said(s.tenant.remove_route("192.0.2.0/24".parse().unwrap()))
    }),
    ("routes", Own, |s| said(s.tenant.routes())),
    ("count_routed", Own, |s| {
        said(s.tenant.count_routed(&["127.0.0.1".parse().unwrap()]))
    }),
    ("set_forwarding", No(Privilege::Forwarding), |s| {
        said(s.tenant.set_forwarding(Forwarding::Enabled))
    }),
    ("script_link", CONFIG, |s| {
        let change = Change::State(Shape::Const(Carrier::Down));
        let event = (SECOND, change);
        said(s.tenant.script_link("eth0", &[event]))
    }),
    ("sysctl", Own, |s| said(s.tenant.sysctl("net.inet.ip.ttl"))),
    ("set_sysctl", No(Privilege::Tunables), |s| {
        said(s.tenant.set_sysctl("net.inet.ip.ttl", 9))
    }),
    ("sysctls", Own, |s| said(s.tenant.sysctls(""))),
    ("set_address_policy", No(Privilege::Tunables), |s| {
        said(s.tenant.set_address_policy(None))
    }),
    ("set_hosts", Own, |s| {
        said(s.tenant.set_hosts(Default::default()))
    }),
    ("set_resolver", Own, |s| {
        said(s.tenant.set_resolver(|_| Ok(Vec::new())))
    }),
    ("set_async_resolver", Own, |s| {
        said(
            s.tenant
                .set_async_resolver(|_, _| std::future::ready(Ok(Vec::new()))),
        )
    }),
    ("lookup", Own, |s| {
        said(s.system.block_on(s.tenant.lookup("localhost")).unwrap())
    }),
    ("spawn", Own, |s| {
        let names = || (Vnet::current().unwrap().system().names(), Vnet::current());
        said(s.tenant.spawn(names).unwrap().join().unwrap())
    }),
    ("spawn_future", Own, |s| {
        // One that nothing can end: the report of that has no others in it.
        let task = s.tenant.spawn_future(pending::<()>());
        said(task.join())
    }),
    ("name", Own, |s| said(s.tenant.name())),
    ("system", Own, |s| said(s.tenant.system())),
    ("stats", Own, |s| said(s.tenant.stats())),
    ("pending", Own, |s| said(s.tenant.pending())),
    ("is", Own, |s| said(s.tenant.is(&s.room))),
];

/// A row for every public method of the [`System`] that the tenant's handle gives.
const OF_SYSTEM: &[(&str, Fate, Act)] = &[
    ("pending", Own, |s| said(s.tenant.system().pending())),
    ("replay", SYSTEM, |s| {
        let record = s.room.record().unwrap();
        said(s.tenant.system().replay(&record, "x").map(drop))
    }),
    ("replay_all", SYSTEM, |s| {
        let records = [s.room.record().unwrap()];
        said(
            s.tenant
                .system()
                .replay_all(&records, |_| "x".into())
                .map(drop),
        )
    }),
    ("run_until", SYSTEM, |s| {
        said(s.tenant.system().run_until(s.system.now() + SECOND))
    }),
    ("run_for", SYSTEM, |s| {
        said(s.tenant.system().run_for(SECOND))
    }),
    ("run_until_idle", SYSTEM, |s| {
        said(s.tenant.system().run_until_idle(RunLimit::events(0)))
    }),
    ("create", SYSTEM, |s| {
        said(s.tenant.system().create("x").map(drop))
    }),
    ("vnet", Own, |s| {
        let names = [
            "house",
            "upstairs",
            "stranger",
            "house.flat",
            "house.flat.room",
        ];
        let found = names.map(|name| s.tenant.system().vnet(name));
        assert_eq!(found.iter().flatten().count(), 2);
        said(found)
    }),
    ("parallel", Own, |s| {
        let socket = UdpSocket::bind_in(&s.others[2], "192.0.2.2:2000").unwrap();
        for _ in 0..100 {
            socket.send_to(&[0], "192.0.2.1:9").unwrap();
            s.system.run_for(SECOND).unwrap();
        }
        let told = s.tenant.system().parallel();
        assert_eq!(told, Parallel::default());
        // Builds without assertions do not look so soon.
        assert!(s.system.parallel() != told || !cfg!(debug_assertions));
        said(told)
    }),
    ("names", Own, |s| {
        let names = s.tenant.system().names();
        assert_eq!(names, ["house.flat", "house.flat.room"]);
        said(names)
    }),
    ("register", SYSTEM, |s| {
        let step = InitRecord::new("evil", Stage::Services, 0, |_| Ok(()), |_| Ok(()));
        said(s.tenant.system().register(step))
    }),
    ("unregister", SYSTEM, |s| {
        said(s.tenant.system().unregister("everywhere"))
    }),
    ("init_steps", Own, |s| {
        let steps = s.tenant.system().init_steps();
        assert_eq!(steps.len(), s.tenant.inspect().unwrap().init.len());
        said(steps.len())
    }),
    ("record_fingerprint", Own, |s| {
        s.tenant.system().record_fingerprint();
        assert!(
            s.system.fingerprint().is_none(),
            "the system as a whole records none"
        );
        said(())
    }),
    ("fingerprint", Own, |s| {
        let before = s.tenant.system().fingerprint();
        s.tenant.system().record_fingerprint();
        let at_first = s.tenant.system().fingerprint();
        let socket = UdpSocket::bind_in(&s.others[2], "192.0.2.2:2000").unwrap();
        socket.send_to(b"x", "192.0.2.2:9").unwrap();
        assert_eq!(
            s.tenant.system().fingerprint(),
            at_first,
            "it is no part of it"
        );
        said((before, at_first.is_some()))
    }),
    ("now", Own, |s| said(s.tenant.system().now())),
    ("is_simulated", Own, |s| {
        said(s.tenant.system().is_simulated())
    }),
    ("sleep", Own, |s| said(s.tenant.system().sleep(SECOND))),
    ("block_on", Own, |s| {
        said(s.tenant.system().block_on(pending::<()>()))
    }),
    ("spawn", Own, |s| {
        let names = || Vnet::current().map(|v| v.system().names());
        said(s.tenant.system().spawn(names).unwrap().join().unwrap())
    }),
    ("poll", Ignored(Privilege::System), |s| {
        said(s.tenant.system().poll(s.system.now() + SECOND))
    }),
    ("spawn_future", Own, |s| {
        let task = s.tenant.system().spawn_future(async { Vnet::current() });
        let own = s.tenant.system().spawn_future(pending::<()>());
        let told = said((task.join(), s.tenant.system().pending().tasks));
        assert!(
            told.contains("house.flat"),
            "it goes with the tenant's vnet"
        );
        own.abort();
        told
    }),
    ("sleep_async", Own, |s| {
        let system = s.tenant.system();
        said(system.block_on(system.sleep_async(SECOND)))
    }),
    ("sleep_until_async", Own, |s| {
        let system = s.tenant.system();
        said(system.block_on(system.sleep_until_async(s.system.now() + SECOND)))
    }),
    ("timeout", Own, |s| {
        let system = s.tenant.system();
        said(system.block_on(system.timeout(SECOND, pending::<()>())))
    }),
    // Systems of one's own; that of the tenant has no part in them.
    ("virtual_time", Own, |_| {
        said(System::virtual_time(1).names())
    }),
    ("virtual_time_with", Own, |_| {
        said(System::virtual_time_with(1, VirtualConfig::default()).names())
    }),
    ("manual", Own, |_| said(System::manual(1).names())),
    ("threads", Own, |_| String::new()),
    ("threads_with", Own, |_| String::new()),
];

fn try_all(of: &str, rows: &[(&str, Fate, Act)]) {
    let denials = |s: &Scene| {
        Privilege::ALL
            .iter()
            .map(|p| s.flat.denials(*p))
            .collect::<Vec<_>>()
    };
    for (name, fate, act) in rows {
        let scene = Scene::new();
        let (others, before) = (scene.others(), denials(&scene));
        let told = act(&scene);
        let place = format!("{of}::{name} says {told}");
        assert_eq!(others, scene.others(), "{place}");
        let own_wires = told.replace("stranger:", "").replace("\"stranger\"", "");
        // The parent's name is the first part of its own.
        let own_wires = own_wires.replace("parent: Some(\"house\")", "");
        let seen = if *fate == OwnWires { &own_wires } else { &told };
        for foreign in ["stranger", "upstairs", "\"house\""] {
            assert!(!seen.contains(foreign), "{place}: it knows of {foreign}");
        }
        let (wanted, names_it) = match fate {
            No(privilege) => (Some(privilege), true),
            Ignored(privilege) => (Some(privilege), false),
            Own | OwnWires => (None, false),
        };
        let Some(privilege) = wanted else { continue };
        let counted = denials(&scene)[*privilege as usize] - before[*privilege as usize];
        assert_eq!(counted, 1, "{place}: denials of {privilege}");
        if names_it {
            let variant = format!("Denied({privilege:?})");
            let word = format!("Denied({:?})", privilege.as_str());
            assert!(told.contains(&variant) || told.contains(&word), "{place}");
        }
    }
}

#[test]
fn nothing_of_a_vnets_handle_reaches_others() {
    try_all("Vnet", OF_VNET);
}

#[test]
fn nothing_of_a_systems_handle_reaches_others() {
    try_all("System", OF_SYSTEM);
}

/// A method that is added has to say what it gives to a tenant.
#[test]
fn every_method_has_its_row() {
    let mut files = Vec::new();
    rust_files(
        &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vnet/src"),
        &mut files,
    );
    assert!(files.len() > 50, "the library's files were not found");
    let codes: Vec<String> = files.iter().map(|file| code_of(file)).collect();
    for (of, rows) in [("Vnet", OF_VNET), ("System", OF_SYSTEM)] {
        let there: BTreeSet<&str> = codes.iter().flat_map(|code| methods(code, of)).collect();
        let tried: BTreeSet<&str> = rows.iter().map(|(name, ..)| *name).collect();
        assert_eq!(
            there, tried,
            "methods of {of} (left), and rows of the table (right)"
        );
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("folders can be listed").path();
        match path.is_dir() {
            true => rust_files(&path, files),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
}

fn code_of(file: &Path) -> String {
    let source = std::fs::read_to_string(file).expect("text");
    scan::without_tests(&scan::code_only(&source)).0
}

/// The public methods in the blocks `impl <of> {`, of code as rustfmt leaves it.
fn methods<'a>(code: &'a str, of: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let (open, mut inside) = (format!("impl {of} {{"), false);
    for line in code.lines() {
        inside = (inside || line.trim_end() == open) && line.trim_end() != "}";
        let public = line.strip_prefix("    pub ").filter(|_| inside);
        if let Some((_, rest)) = public.and_then(|line| line.split_once("fn ")) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            found.push(&rest[..end.unwrap_or(rest.len())]);
        }
    }
    found
}

/// Neither a handle taken earlier nor one passed on knows more than its vnet's tenants may now.
#[test]
fn the_privilege_is_asked_for_at_each_act() {
    let system = System::virtual_time(1);
    let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
    assert_eq!(
        a.privileges(),
        Privileges::WITH_SYSTEM,
        "everything, at first"
    );
    let tenant = a.clone().system();
    let passed_on = tenant.vnet("b").unwrap().system();
    assert_eq!(tenant.names(), ["a", "b"]);
    a.set_privileges(Privileges::ALL).unwrap();
    assert_eq!(
        (tenant.names(), passed_on.names()),
        (vec!["a".into()], vec!["a".into(), "b".into()])
    );
    let denied = tenant.clone().create("c").map(drop).unwrap_err();
    assert!(matches!(
        denied,
        CreateError::Denied(Denied(Privilege::System))
    ));
    a.set_privileges(Privileges::NONE | Privilege::System)
        .unwrap();
    tenant.create("c").unwrap();
    // The owner is not limited, whatever the mask; the steps are not, either.
    b.set_privileges(Privileges::NONE).unwrap();
    assert_eq!(b.system().names(), ["a", "b"]);
}

/// A mask that leaves something out leaves the system out too: with it, all else could be had.
#[test]
fn no_mask_has_the_system_in_it_unasked() {
    let raw = Privileges::from(Privilege::RawSockets);
    for mask in [
        Privileges::ALL,
        !raw,
        Privileges::ALL & !raw,
        "all".parse().unwrap(),
    ] {
        assert!(!mask.contains(Privilege::System), "{mask}");
    }
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let child = a.create_child("b").unwrap();
    assert_eq!(child.privileges(), Privileges::ALL, "and so is no child's");
    assert_eq!(child.clone().system().names(), ["a.b"]);
    // Its owner is one of the parent's tenants.
    assert_eq!(child.system().names(), ["a", "a.b"]);
    a.set_privileges(Privileges::ALL).unwrap();
    assert_eq!(child.system().names(), ["a.b"]);
    assert!(child.set_privileges(Privileges::WITH_SYSTEM).is_err());
}

struct Asks(std::sync::Mutex<Vec<Option<String>>>, AtomicUsize);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        let current = Vnet::current().map(|v| v.name().to_owned());
        self.0.lock().unwrap().push(current);
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whoever sends a frame wakes its receiver, on the sender's thread: the receiver's waker and the
/// callback of its port have no vnet there that is not theirs.
#[test]
fn callbacks_do_not_see_the_callers_vnet() {
    let system = System::manual(1);
    let (a, b) = hosts(&system);
    let port = a.port("port0", None).unwrap();
    let asks = Arc::new(Asks(std::sync::Mutex::default(), AtomicUsize::new(0)));
    let heard = Arc::clone(&asks);
    port.on_ready(Arc::new(move || Arc::clone(&heard).wake()));
    let receiver = UdpSocket::bind_in(&b, "192.0.2.2:2000").unwrap();
    let waker = Waker::from(Arc::clone(&asks));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(receiver.poll_recv_from(&mut cx, &mut [0; 8]).is_pending());
    {
        let _in_a = a.enter();
        a.add_address("port0", "198.51.100.1/24".parse().unwrap())
            .unwrap();
        let sender = UdpSocket::bind("192.0.2.1:0").unwrap();
        sender.send_to(b"x", "192.0.2.2:2000").unwrap();
        system.poll(system.now());
    }
    let seen = asks.0.lock().unwrap().clone();
    assert!(seen.len() >= 2, "both were called: {seen:?}");
    assert!(seen.iter().all(Option::is_none), "{seen:?}");
}

/// What a tenant says stays in its own vnet, or below it.
#[test]
fn nobody_writes_into_a_strangers_messages() {
    use tracing_subscriber::layer::SubscriberExt;
    let system = System::virtual_time(1);
    let subscriber = tracing_subscriber::registry().with(MessageLayer::new(&system));
    tracing::subscriber::with_default(subscriber, || {
        let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
        let child = a.create_child("x").unwrap();
        let last = |vnet: &Vnet| vnet.messages().lines.last().unwrap().text.clone();
        let _in_a = a.enter();
        tracing::info!(vnet = "b", "by one who may");
        assert_eq!(last(&b), "by one who may");
        a.set_privileges(Privileges::ALL).unwrap();
        tracing::info!(vnet = "b", "forged");
        tracing::info!(vnet = "nobody", "lost");
        tracing::info!(vnet = "a.x", "to a child");
        assert_eq!(last(&b), "by one who may");
        let said: Vec<String> = a.messages().lines.into_iter().map(|l| l.text).collect();
        assert!(
            said.ends_with(&["forged vnet=b".into(), "lost vnet=nobody".into()]),
            "{said:?}"
        );
        assert_eq!(last(&child), "to a child");
        // The library itself says what is about whom, wherever the thread is.
        let is_heard = (0..1000).any(|_| {
            // What another test has just said for the first time, where nobody listens, is listened to from now on.
            tracing::callsite::rebuild_interest_cache();
            b.set_ip_mtu("lo0", 9000).unwrap();
            last(&b) == "set_ip_mtu lo0 9000"
        });
        assert!(is_heard, "{}", last(&b));
    });
}
