//! Instructions that an operation costs on hot paths, counted by callgrind. A count does not
//! depend on what else the machine does, and hardly on the machine, so two commits can be compared
//! by it; it does not know of caches, so it stands beside measurements, not in their place.
//!
//! Each workload is run for some operations and for twice as many, in processes of their own; the
//! difference is what the operations cost without start and end. The worlds are driven by hand, so
//! that two runs do the same. Only the library's public face is used, and this file alone: put it
//! into an older commit to compare with that.

use std::io::{self, ErrorKind, Read, Write};
use std::process::Command;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use vnet::net::{TcpListener, TcpStream, UdpSocket};
use vnet::time::Instant;
use vnet::{
    BridgeConfig, BridgeVlans, Forwarding, LinkConfig, MemberConfig, MemberVlans, Offload,
    OwnedVnet, System, VlanConfig,
};

#[derive(Parser)]
struct Args {
    /// Runs a workload for so many operations, without counting: what is counted calls this.
    #[arg(long, value_names = ["WORKLOAD", "OPERATIONS"], num_args = 2)]
    run: Option<Vec<String>>,
}

type Error = Box<dyn std::error::Error>;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Workload {
    /// 64 KiB of a stream, in segments as large as they can be.
    Bulk64k,
    /// The same over a VLAN interface at each end.
    Vlan64k,
    /// The same through a bridge.
    Bridge64k,
    /// The same through a bridge that tells VLANs apart, between two access ports.
    Access64k,
    /// 64 KiB of a stream, cut to frames of 1500 bytes.
    Bulk1500,
    /// A byte and its echo on a stream.
    TcpRr,
    /// A datagram of a byte and its echo.
    UdpRr,
    /// A datagram of 18 bytes, which is a frame of the least length, through a router.
    Forward,
    /// The same in virtual time, over links that take time: each frame is an event of its own.
    Events,
    /// An instance that is made, wired to another one, given an address and destroyed.
    Instance,
}

impl Workload {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |v| v.get_name().to_owned())
    }

    /// Operations that are counted.
    fn operations(self) -> u32 {
        match self {
            Workload::Bulk64k | Workload::Vlan64k | Workload::Bridge64k | Workload::Access64k => {
                500
            }
            Workload::Bulk1500 => 100,
            Workload::TcpRr | Workload::UdpRr => 2_000,
            Workload::Forward | Workload::Events => 4_000,
            Workload::Instance => 500,
        }
    }

    fn run(self, operations: u32) -> Result<(), Error> {
        match self {
            Workload::Bulk64k => bulk(Offload::Full, Below::Wire, operations),
            Workload::Vlan64k => bulk(Offload::Full, Below::Vlan, operations),
            Workload::Bridge64k => bulk(Offload::Full, Below::Bridge(None), operations),
            Workload::Access64k => {
                let access = MemberVlans::access(5);
                bulk(Offload::Full, Below::Bridge(Some(access)), operations)
            }
            Workload::Bulk1500 => bulk(Offload::Checksum, Below::Wire, operations),
            Workload::TcpRr => tcp_rr(operations),
            Workload::UdpRr => udp_rr(operations),
            Workload::Forward => forward(operations),
            Workload::Events => events(operations),
            Workload::Instance => instance(operations),
        }
    }
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    if let Some(run) = args.run {
        return Workload::from_str(&run[0], false)?.run(run[1].parse()?);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: there is no valgrind, and nothing was counted");
        return Ok(());
    }
    println!("{:<12} instructions/operation", "workload");
    for workload in Workload::value_variants() {
        let operations = workload.operations();
        let [once, twice] = [1, 2].map(|times| count(*workload, times * operations));
        let each = twice?.saturating_sub(once?) / u64::from(operations);
        println!("{:<12} {each:>10}", workload.name());
    }
    Ok(())
}

/// Instructions of a whole process that runs a workload.
fn count(workload: Workload, operations: u32) -> Result<u64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", &workload.name(), &operations.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| {
        let (_, number) = line.split_once("Collected : ")?;
        number.trim().parse().ok()
    });
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{}: callgrind failed:\n{told}", workload.name()).into()),
    }
}

/// A system that is driven by hand.
struct World {
    system: System,
    now: Instant,
}

impl World {
    fn new() -> World {
        let system = System::manual(1);
        let now = system.now();
        World { system, now }
    }

    fn row<const N: usize>(&self, names: [&str; N]) -> Result<[OwnedVnet; N], Error> {
        row(&self.system, names)
    }

    /// Lets the world go on until `f` does not have to wait any more.
    fn until<T>(&mut self, mut f: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
        let give_up = self.now + Duration::from_secs(10);
        loop {
            match f() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Ok(done?),
            }
            if self.now > give_up {
                return Err("nothing happens".into());
            }
            self.now += Duration::from_micros(10);
            self.system.poll(self.now);
        }
    }

    /// Both ends of a connection.
    fn connect(&mut self, [a, b]: &[OwnedVnet; 2]) -> Result<(TcpStream, TcpStream), Error> {
        let listener = TcpListener::bind_in(b, "198.18.0.2:5001")?;
        listener.set_nonblocking(true)?;
        let client = TcpStream::start_connect_in(a, "198.18.0.2:5001".parse()?)?;
        let (server, _) = self.until(|| listener.accept())?;
        for stream in [&client, &server] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        Ok((client, server))
    }
}

/// Vnets in a row, joined by wires; the `n`th wire is 198.18.`n`.0/24, with its left end at .1.
fn row<const N: usize>(system: &System, names: [&str; N]) -> Result<[OwnedVnet; N], Error> {
    let mut made = Vec::new();
    for name in names {
        made.push(system.create(name)?);
    }
    for (n, pair) in made.windows(2).enumerate() {
        pair[0].epair("right", &pair[1], "left")?;
        for (vnet, end, host) in [(&pair[0], "right", 1), (&pair[1], "left", 2)] {
            let address = format!("198.18.{n}.{host}/24");
            vnet.add_address(end, address.parse()?)?;
        }
    }
    made.try_into().map_err(|_| "as many as names".into())
}

/// What has the addresses of a stream's ends.
enum Below {
    Wire,
    Vlan,
    /// A bridge whose members are in these VLANs, if it tells them apart.
    Bridge(Option<MemberVlans>),
}

/// Puts a bridge between both ends.
fn through_a_bridge(
    world: &World,
    ends: &[OwnedVnet; 2],
    vlans: Option<MemberVlans>,
) -> Result<OwnedVnet, Error> {
    let switch = world.system.create("switch")?;
    switch.bridge("bridge0")?;
    let config = BridgeConfig {
        vlans: vlans.is_some().then(BridgeVlans::default),
        ..BridgeConfig::default()
    };
    switch.set_bridge("bridge0", config)?;
    for (vnet, end, host) in [(&ends[0], "right", 1), (&ends[1], "left", 2)] {
        vnet.epair(end, &switch, end)?;
        vnet.add_address(end, format!("198.18.0.{host}/24").parse()?)?;
        switch.add_member("bridge0", end)?;
        if let Some(vlans) = vlans.clone() {
            let config = MemberConfig {
                vlans,
                ..MemberConfig::default()
            };
            switch.set_member("bridge0", end, config)?;
        }
    }
    Ok(switch)
}

fn bulk(offload: Offload, below: Below, operations: u32) -> Result<(), Error> {
    let mut world = World::new();
    let vnets = world.row(["a", "b"])?;
    let mut _switch = None;
    if let Below::Bridge(vlans) = below {
        vnets[0].remove_interface("right")?;
        vnets[1].remove_interface("left")?;
        _switch = Some(through_a_bridge(&world, &vnets, vlans)?);
    } else if let Below::Vlan = below {
        for (vnet, end, host) in [(&vnets[0], "right", 1), (&vnets[1], "left", 2)] {
            let address = format!("198.18.0.{host}/24");
            vnet.remove_address(end, format!("198.18.0.{host}").parse()?)?;
            vnet.vlan(end, "v5", VlanConfig::dot1q(5))?;
            vnet.add_address("v5", address.parse()?)?;
        }
    }
    vnets[0].set_offload("right", offload)?;
    vnets[1].set_offload("left", offload)?;
    let (mut client, mut server) = world.connect(&vnets)?;
    let (data, mut room) = (vec![7; 64 << 10], vec![0; 64 << 10]);
    let mut left = operations as usize * data.len();
    let mut coming = left;
    while coming > 0 {
        world.until(|| {
            if left > 0 {
                match client.write(&data[..left.min(data.len())]) {
                    Ok(n) => left -= n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            coming -= server.read(&mut room)?;
            Ok(())
        })?;
    }
    Ok(())
}

fn tcp_rr(operations: u32) -> Result<(), Error> {
    let mut world = World::new();
    let vnets = world.row(["a", "b"])?;
    let (mut client, mut server) = world.connect(&vnets)?;
    let mut byte = [7];
    for _ in 0..operations {
        client.write_all(&byte)?;
        world.until(|| server.read_exact(&mut byte))?;
        server.write_all(&byte)?;
        world.until(|| client.read_exact(&mut byte))?;
    }
    Ok(())
}

fn udp_rr(operations: u32) -> Result<(), Error> {
    let mut world = World::new();
    let [a, b] = world.row(["a", "b"])?;
    let client = UdpSocket::bind_in(&a, "198.18.0.1:5001")?;
    let server = UdpSocket::bind_in(&b, "198.18.0.2:5001")?;
    client.connect("198.18.0.2:5001")?;
    for socket in [&client, &server] {
        socket.set_nonblocking(true)?;
    }
    let mut byte = [7];
    for _ in 0..operations {
        client.send(&byte)?;
        let (_, from) = world.until(|| server.recv_from(&mut byte))?;
        server.send_to(&byte, from)?;
        world.until(|| client.recv(&mut byte))?;
    }
    Ok(())
}

/// Datagrams that are on their way together.
const BURST: u32 = 32;

fn forward(operations: u32) -> Result<(), Error> {
    let mut world = World::new();
    let (vnets, client, server) = through_a_router(&world.system)?;
    server.set_nonblocking(true)?;
    pass(operations, &client, |room| {
        world.until(|| server.recv(room))?;
        Ok(())
    })?;
    drop(vnets);
    Ok(())
}

fn events(operations: u32) -> Result<(), Error> {
    let system = System::virtual_time(1);
    let (vnets, client, server) = through_a_router(&system)?;
    for (vnet, end) in [(&vnets[0], "right"), (&vnets[1], "right")] {
        let link = LinkConfig {
            rate_bps: Some(10_000_000),
            delay: Duration::from_millis(1),
            ..LinkConfig::default()
        };
        vnet.set_link(end, link)?;
    }
    pass(operations, &client, |room| {
        server.recv(room)?;
        Ok(())
    })
}

fn instance(operations: u32) -> Result<(), Error> {
    let mut world = World::new();
    let hub = world.system.create("hub")?;
    for _ in 0..operations {
        let vnet = world.system.create("made")?;
        vnet.epair("eth0", &hub, "eth0")?;
        vnet.add_address("eth0", "198.18.0.2/24".parse()?)?;
        if !vnet.destroy().leaked.is_zero() {
            return Err("it has left something".into());
        }
        // The hub keeps its end, which is of no use any more.
        hub.remove_interface("eth0")?;
        world.now += Duration::from_micros(10);
        world.system.poll(world.now);
    }
    Ok(())
}

/// Two hosts and the router between them, with a socket at each host.
fn through_a_router(system: &System) -> Result<([OwnedVnet; 3], UdpSocket, UdpSocket), Error> {
    let vnets = row(system, ["a", "router", "b"])?;
    let [a, router, b] = &vnets;
    router.set_forwarding(Forwarding::Enabled)?;
    let gateway: std::net::Ipv4Addr = "198.18.0.2".parse()?;
    a.add_route("0.0.0.0/0".parse()?, gateway)?;
    let client = UdpSocket::bind_in(a, "198.18.0.1:5001")?;
    let server = UdpSocket::bind_in(b, "198.18.1.2:5001")?;
    Ok((vnets, client, server))
}

/// Sends datagrams in bursts, and has each received.
fn pass(
    operations: u32,
    client: &UdpSocket,
    mut receive: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (data, mut room) = ([7; 18], [0; 18]);
    for _ in 0..operations / BURST {
        for _ in 0..BURST {
            client.send_to(&data, "198.18.1.2:5001")?;
        }
        for _ in 0..BURST {
            receive(&mut room)?;
        }
    }
    Ok(())
}
