//! Promise: the ways in which the teardown of network stacks has failed where VLANs stood on interfaces have a
//! test, as the others have in `catalogue.rs`. `docs/lifecycle.md` lists them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vnet::capture::FrameTap;
use vnet::net::{TcpListener, TcpStream};
use vnet::time::Instant;
use vnet::{
    AdminState, Carrier, Direction, LinkConfig, OwnedVnet, Packet, System, VlanConfig, Vnet,
};
use vnet_tests::accounts::{assert_clean, assert_conserved};
use vnet_tests::reach::reaches;
use vnet_tests::topology::vnet;

fn address(v: &Vnet, interface: &str, address: &str) {
    v.add_address(interface, address.parse().unwrap()).unwrap();
}

/// Two vnets with a wire between them, and a VLAN in a VLAN on it at the far end, 192.0.2.2.
fn wired(system: &System) -> (OwnedVnet, OwnedVnet) {
    let (home, far) = (vnet(system, "home"), vnet(system, "far"));
    home.epair("eth0", &far, "eth0").unwrap();
    for (v, outer) in [(&home, "v5"), (&far, "v5")] {
        v.vlan("eth0", outer, VlanConfig::dot1ad(5)).unwrap();
    }
    far.vlan("v5", "q6", VlanConfig::dot1q(6)).unwrap();
    address(&far, "q6", "192.0.2.2/24");
    (home, far)
}

// A VLAN's parent was destroyed under traffic, and an epoch deadlocked.
#[test]
fn row_23_the_parent_of_a_vlan_may_be_destroyed_under_traffic() {
    let system = System::threads();
    for round in 0..40 {
        let (home, far) = wired(&system);
        let guest = vnet(&system, "guest");
        let slow = LinkConfig {
            delay: Duration::from_micros(200),
            ..LinkConfig::default()
        };
        home.set_link("eth0", slow).unwrap();
        // On a VLAN in its own vnet, or in another one.
        let user: &Vnet = if round % 2 == 0 { &home } else { &guest };
        home.vlan_in("v5", user, "q6", VlanConfig::dot1q(6))
            .unwrap();
        address(user, "q6", "192.0.2.1/24");
        let listener = TcpListener::bind_in(&far, "192.0.2.2:80").unwrap();
        let mut near = TcpStream::connect_in(user, "192.0.2.2:80").unwrap();
        let mut served = listener.accept().unwrap().0;
        near.set_write_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let user = user.clone();
        std::thread::scope(|s| {
            s.spawn(move || while near.write_all(&[1; 4096]).is_ok() {});
            s.spawn(move || while served.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
            std::thread::sleep(Duration::from_micros(700));
            // The parent, the parent's parent, the other end of its wire, or all of its vnet.
            match round / 2 % 4 {
                0 => home.remove_interface("v5").unwrap(),
                1 => home.remove_interface("eth0").unwrap(),
                2 => far.remove_interface("eth0").unwrap(),
                _ => {}
            }
            // It goes with what it stands on, wherever it is.
            let has = user.interfaces().unwrap().iter().any(|i| i.name == "q6");
            assert_eq!(has, round / 2 % 4 >= 2, "{round}");
            assert_clean(&home.destroy());
            assert_clean(&guest.destroy());
            assert_clean(&far.destroy());
        });
    }
}

// The transmit path used an interface that had left; the link changed while it did.
#[test]
fn row_05_a_vlan_moves_and_flaps_under_traffic_and_works_afterwards() {
    let system = System::threads();
    let (home, far) = wired(&system);
    let guest = vnet(&system, "guest");
    home.vlan("v5", "q6", VlanConfig::dot1q(6)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        // Whoever has it says something on it at every move.
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = reaches_at_once(&far, "192.0.2.1");
            }
        });
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for state in [AdminState::Down, AdminState::Up] {
                    far.set_up("v5", state).unwrap();
                }
            }
        });
        for _ in 0..200 {
            home.move_interface("q6", &guest).unwrap();
            address(&guest, "q6", "192.0.2.1/24");
            guest.return_interface("q6").unwrap();
            address(&home, "q6", "192.0.2.1/24");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let carrier = |v: &Vnet| {
        let all = v.interfaces().unwrap();
        all.iter().find(|i| i.name == "q6").map(|i| i.carrier)
    };
    far.set_up("v5", AdminState::Up).unwrap();
    assert_eq!(carrier(&home), Some(Carrier::Up));
    assert!((0..20).any(|_| reaches(&home, "192.0.2.2")), "it works");
    for v in [home, guest, far] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}

/// Sends an echo request, and does not wait.
fn reaches_at_once(from: &Vnet, to: &str) -> std::io::Result<()> {
    let echo = vnet::net::EchoSocket::bind_in(from)?;
    echo.send_to(1, b"hello", to.parse().expect("an address"))
}

#[derive(Default)]
struct Count(AtomicU64);

impl FrameTap for Count {
    fn frame(&self, _: Instant, _: Direction, _: &Packet) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// A capture survived a move and saw the next tenant's frames.
#[test]
fn row_20_a_capture_of_a_vlan_ends_when_that_is_lent_and_when_it_returns() {
    let system = System::virtual_time(1);
    let (home, far) = wired(&system);
    let guest = vnet(&system, "guest");
    home.vlan("v5", "q6", VlanConfig::dot1q(6)).unwrap();
    let counts = [(); 2].map(|()| Arc::new(Count::default()));
    let seen = || counts.each_ref().map(|c| c.0.load(Ordering::Relaxed));
    home.capture("q6", Arc::<Count>::clone(&counts[0])).unwrap();
    home.move_interface("q6", &guest).unwrap();
    let before = seen();
    address(&guest, "q6", "192.0.2.1/24");
    guest
        .capture("q6", Arc::<Count>::clone(&counts[1]))
        .unwrap();
    assert!(reaches(&guest, "192.0.2.2"));
    let now = seen();
    assert_eq!(
        now[0], before[0],
        "the home's capture saw the guest's frames"
    );
    assert!(now[1] > before[1]);
    home.reclaim_interface("q6").unwrap();
    address(&home, "q6", "192.0.2.1/24");
    assert!(reaches(&home, "192.0.2.2"));
    assert_eq!(seen(), now, "the guest's saw those of the home");
    for v in [guest, home, far] {
        assert_conserved(&v);
        assert_clean(&v.destroy());
    }
}
