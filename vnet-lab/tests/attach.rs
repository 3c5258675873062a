//! What is attached from outside while `vnet` runs: sockets of emulators, in whose place this test
//! speaks, and a TAP of the host's.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, Signal, kill_process};
use vnet::net::EchoSocket;
use vnet::{OwnedVnet, System, VlanConfig};
use vnet_tap::{Framing, Guest, NetNs, Nic, NicConfig, Xdp};

const PATIENCE: Duration = Duration::from_secs(30);

/// `vnet` in a directory, while it runs.
struct Running {
    vnet: Child,
    errors: BufReader<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.vnet.kill();
        let _ = self.vnet.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut vnet = piped.spawn().unwrap();
        let errors = BufReader::new(vnet.stderr.take().unwrap());
        Running { vnet, errors }
    }

    /// Waits until that many things are attached, and says what.
    fn attached(&mut self, how_many: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < how_many {
            let mut line = String::new();
            assert!(self.errors.read_line(&mut line).unwrap() > 0, "{lines:?}");
            lines.extend(line.trim().strip_prefix("attached: ").map(str::to_owned));
        }
        lines
    }

    /// Ends it as Ctrl-C does, and says what it reports.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.vnet);
        kill_process(pid, Signal::INT).unwrap();
        let mut report = String::new();
        let mut out = self.vnet.stdout.take().unwrap();
        out.read_to_string(&mut report).unwrap();
        (self.vnet.wait().unwrap().code(), report)
    }
}

fn vnet(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vnet"));
    command.current_dir(directory);
    command
}

fn run(directory: &Path, topology: &str) -> Running {
    fs::write(directory.join("x.toml"), topology).unwrap();
    Running::start(vnet(directory).args(["run", "x.toml"]))
}

/// `vnet attach` inside a network namespace.
fn attach(host: &NetNs, directory: &Path, arguments: &'static [&'static str]) -> Running {
    let directory = directory.to_owned();
    // A process that is started inside is inside.
    host.run(move || Running::start(vnet(&directory).arg("attach").args(arguments)))
}

/// A guest with this address in this VLAN.
fn guest(stream: UnixStream, name: &str, address: &str, vid: Option<u16>) -> (OwnedVnet, Guest) {
    let guest = System::threads().create(name).unwrap();
    let port = Guest::attach(&guest, "eth0", stream, Framing::Length32).unwrap();
    add_address(&guest, address, vid);
    (guest, port)
}

fn add_address(guest: &OwnedVnet, address: &str, vid: Option<u16>) {
    let interface = vid.map_or("eth0".to_owned(), |vid| format!("eth0.{vid}"));
    if let Some(vid) = vid {
        guest
            .vlan("eth0", &interface, VlanConfig::dot1q(vid))
            .unwrap();
    }
    guest
        .add_address(&interface, address.parse().unwrap())
        .unwrap();
}

/// Whether there is an answer from there, within so many tries.
fn answers(from: &OwnedVnet, to: &str, tries: u16) -> bool {
    let socket = EchoSocket::bind_in(from).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    (0..tries).any(|n| {
        // Without a neighbour, sending may fail.
        let _ = socket.send_to(n, b"are you there?", to.parse().unwrap());
        socket.recv().is_ok()
    })
}

const TRIES: u16 = 40;

#[test]
fn guests_reach_the_network_and_each_other_until_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("lan.sock");
    let mut running = run(
        folder.path(),
        "hosts = ['server']\n\
         switches = ['lan']\n\
         link = [{ ends = ['server 192.0.2.1/24', 'lan'] }]\n\
         job = [{ ping = { from = 'server', to = 'server', count = 1 } }]\n\
         [[attach]]\n\
         to = 'lan'\n\
         qemu = 'lan.sock'\n\
         guests = 2\n",
    );
    assert_eq!(running.attached(1), ["qemu lan.sock"]);
    let connect = || UnixStream::connect(&at).unwrap();
    let (a, port) = guest(connect(), "a", "192.0.2.10/24", None);
    let (b, _other) = guest(connect(), "b", "192.0.2.11/24", None);
    assert!(answers(&a, "192.0.2.1", TRIES));
    assert!(answers(&b, "192.0.2.10", TRIES));
    // A third is sent away.
    assert_eq!(connect().read(&mut [0]).unwrap(), 0);
    // One that comes back is let in again, once it is known that the other has gone.
    drop(port);
    a.destroy();
    let comes_back = || {
        let again = System::threads().create("again").unwrap();
        let Ok(_port) = Guest::attach(&again, "eth0", connect(), Framing::Length32) else {
            return false;
        };
        add_address(&again, "192.0.2.12/24", None);
        answers(&again, "192.0.2.1", 2)
    };
    let give_up = Instant::now() + PATIENCE;
    while !comes_back() {
        assert!(Instant::now() < give_up, "its place stays taken");
    }
    // The job has a thread of its own, which may have had no processor yet; nobody is told of its end before that of all.
    sleep(Duration::from_millis(500));
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("qemu lan.sock"), "{report}");
    assert!(report.contains("1 job passed"), "{report}");
    assert!(!at.exists(), "the socket goes with it");
}

#[test]
fn each_guest_is_in_its_vlan_and_a_trunk_in_several() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = run(
        folder.path(),
        "routers = ['r']\n\
         switches = ['lan']\n\
         link = [{ ends = [{ node = 'r', vlan = { 10 = '192.0.2.1/24', 20 = '198.51.100.1/24' } },\n\
                           { node = 'lan', trunk = '10,20' }] }]\n\
         attach = [{ to = { node = 'lan', access = 10 }, qemu = 'ten' },\n\
                   { to = { node = 'lan', access = 20 }, qemu = 'twenty' },\n\
                   { to = { node = 'lan', trunk = '10,20' }, qemu = 'both' }]\n",
    );
    assert_eq!(
        running.attached(3),
        ["qemu ten", "qemu twenty", "qemu both"]
    );
    let connect = |name: &str| UnixStream::connect(folder.path().join(name)).unwrap();
    let (ten, _a) = guest(connect("ten"), "ten", "192.0.2.10/24", None);
    let (twenty, _b) = guest(connect("twenty"), "twenty", "198.51.100.20/24", None);
    let (both, _c) = guest(connect("both"), "both", "192.0.2.12/24", Some(10));
    add_address(&both, "198.51.100.12/24", Some(20));
    assert!(answers(&ten, "192.0.2.1", TRIES));
    assert!(answers(&twenty, "198.51.100.1", TRIES));
    assert!(answers(&both, "192.0.2.10", TRIES));
    assert!(answers(&both, "198.51.100.20", TRIES));
    // One that says it is in the other one is not heard there.
    twenty
        .add_address("eth0", "192.0.2.20/24".parse().unwrap())
        .unwrap();
    assert!(!answers(&twenty, "192.0.2.10", 3));
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
}

#[test]
fn datagrams_are_attached_to_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let command = &mut vnet(folder.path());
    let command = command.args([
        "attach",
        "vfkit",
        "guest.sock",
        "192.0.2.1/24",
        "--until",
        "60s",
    ]);
    let mut running = Running::start(command);
    assert_eq!(running.attached(1), ["vfkit guest.sock"]);
    let ours = UnixDatagram::bind(folder.path().join("ours")).unwrap();
    ours.connect(folder.path().join("guest.sock")).unwrap();
    ours.send(b"VFKT").unwrap();
    let guest = System::threads().create("guest").unwrap();
    let _port = Guest::attach(&guest, "eth0", ours, Framing::Datagrams).unwrap();
    add_address(&guest, "192.0.2.2/24", None);
    assert!(answers(&guest, "192.0.2.1", TRIES));
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("vfkit guest.sock"), "{report}");
}

fn output(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn nothing_is_attached_in_simulated_time() {
    let folder = tempfile::tempdir().unwrap();
    let topology = "hosts = ['h']\n[[attach]]\nto = 'h 192.0.2.1/24'\nqemu = 'a'\n";
    fs::write(folder.path().join("x.toml"), topology).unwrap();
    for arguments in [
        ["run", "x.toml", "--driver", "virtual"],
        ["check", "x.toml", "--driver", "virtual"],
    ] {
        let (status, said) = output(vnet(folder.path()).args(arguments));
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("cannot follow simulated time"), "{said}");
        assert!(said.contains("x.toml:2"), "{said}");
    }
    let checked = vnet(folder.path())
        .args(["check", "x.toml"])
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(said, "unnamed: 1 node, 0 links, 0 jobs, 1 attached\n");
    assert!(!folder.path().join("a").exists());
    // It ends by itself when it is told to, and says what nobody did.
    let arguments = ["run", "x.toml", "--until", "10ms", "--json"];
    let ran = vnet(folder.path()).args(arguments).output().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let attached = &report["attached"][0];
    assert_eq!(attached["what"], "qemu a");
    assert_eq!(attached["guests"], 0);
    // What is in use is said at its place.
    let _taken = UnixDatagram::bind(folder.path().join("a")).unwrap();
    let (status, said) = output(vnet(folder.path()).args(["run", "x.toml"]));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("cannot attach qemu a"), "{said}");
    // On the command line there is no file in which it could have a place.
    let arguments = ["attach", "qemu", "a", "192.0.2.1/24"];
    let (status, said) = output(vnet(folder.path()).args(arguments));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.starts_with("cannot attach qemu a: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// A network namespace in which TAPs can be made. `None` says why there is none, and is a failure with
/// `VNET_REQUIRE_TAP` set.
fn host() -> Option<NetNs> {
    let made = NetNs::new().map_err(|error| error.to_string());
    let host = made.and_then(|host| {
        let probed = host.run(vnet_tap::probe);
        probed.map_err(|error| error.to_string()).map(|()| host)
    });
    host.inspect_err(|why| skip(why)).ok()
}

fn skip(why: &dyn std::fmt::Display) {
    let required = std::env::var_os("VNET_REQUIRE_TAP").is_some_and(|v| !v.is_empty());
    assert!(
        !required,
        "VNET_REQUIRE_TAP is set, but there is no such device: {why}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

#[test]
fn a_tap_is_attached_to_a_host() {
    let Some(host) = host() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut running = attach(&host, folder.path(), &["tap", "lan%d", "192.0.2.1/24"]);
    assert_eq!(running.attached(1), ["tap lan0"]);
    host.ip("addr add 192.0.2.2/24 dev lan0").unwrap();
    host.ip("link set lan0 up").unwrap();
    let refused = host.run(|| {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        socket.connect("192.0.2.1:9").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        // Nobody listens there, which is an answer.
        (0..TRIES).any(|_| {
            let _ = socket.send(b"are you there?");
            let answer = socket.recv(&mut [0]);
            answer.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    });
    assert!(refused);
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("tap lan0"), "{report}");
    host.wait_until_gone("lan0", PATIENCE).unwrap();
}

/// A host's address may have been another station's before: whoever is outside has to hear of it.
#[test]
fn what_is_attached_hears_of_the_addresses_behind_it() {
    let Some(host) = host() else { return };
    host.ip("link add nic0 type veth peer name far0").unwrap();
    host.run(|| fs::write("/proc/sys/net/ipv4/conf/far0/arp_accept", "1"))
        .unwrap();
    host.ip("addr add 192.0.2.2/24 dev far0").unwrap();
    host.ip("link set nic0 up").unwrap();
    host.ip("link set far0 up").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut running = attach(&host, folder.path(), &["nic", "nic0", "192.0.2.1/24"]);
    assert_eq!(running.attached(1), ["nic nic0"]);
    let deadline = Instant::now() + PATIENCE;
    let heard = || {
        let shown = host.run(|| {
            Command::new("ip")
                .args(["neigh", "show", "dev", "far0"])
                .output()
        });
        String::from_utf8(shown.unwrap().stdout).unwrap()
    };
    while !heard().contains("192.0.2.1 lladdr") {
        assert!(Instant::now() < deadline, "no announcement: {}", heard());
        sleep(Duration::from_millis(20));
    }
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
}

/// The topology with something attached that the README shows.
fn of_the_readme() -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mut shown = readme.split("```toml\n").skip(1);
    let mut shown = shown.by_ref().filter_map(|rest| rest.split("```").next());
    let topology = shown.find(|topology| topology.contains("[[attach]]"));
    topology.expect("it shows one").to_owned()
}

#[test]
fn what_the_readme_shows_joins_guests_the_network_and_the_host() {
    let topology = of_the_readme();
    assert!(topology.lines().count() < 20, "{topology}");
    let Some(host) = host() else { return };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_owned();
    let mut running = host.run(move || run(&here, &topology));
    assert_eq!(running.attached(2), ["qemu lan.sock", "tap vnet0"]);
    // It is up by what the topology says.
    host.ip("addr add 192.0.2.20/24 dev vnet0").unwrap();
    let at = folder.path().join("lan.sock");
    let connect = || UnixStream::connect(&at).unwrap();
    let (a, _a) = guest(connect(), "a", "192.0.2.10/24", None);
    let (b, _b) = guest(connect(), "b", "192.0.2.11/24", None);
    let (server, kernel) = ("192.0.2.1", "192.0.2.20");
    for (from, to) in [(&a, server), (&a, kernel), (&b, kernel), (&b, "192.0.2.10")] {
        assert!(answers(from, to, TRIES), "{to}");
    }
    for of_guest in ["192.0.2.10:9", "192.0.2.1:9"] {
        let refused = host.run(move || TcpStream::connect(of_guest).map(drop));
        let refused = refused.unwrap_err().kind();
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused, "{of_guest}");
    }
    let (status, report) = running.interrupt();
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("qemu lan.sock") && report.contains("tap vnet0"));
    host.wait_until_gone("vnet0", PATIENCE).unwrap();
    assert!(!at.exists(), "the socket goes with it");
}

/// Sends so many echo requests, and checks what comes back.
fn ping(from: &NetNs, to: Ipv4Addr, count: u8) {
    let give_up = Instant::now() + PATIENCE;
    from.run(move || {
        let kind = (AddressFamily::INET, SocketType::DGRAM);
        let socket = rustix::net::socket(kind.0, kind.1, Some(ipproto::ICMP)).unwrap();
        let brief = Some(Duration::from_millis(500));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, brief).unwrap();
        rustix::net::connect(&socket, &SocketAddrV4::new(to, 0)).unwrap();
        let mut answered = 0;
        while answered < count {
            assert!(Instant::now() < give_up, "{answered} answers of {count}");
            // Type 8 (RFC 792); the kernel fills in the checksum and the identifier.
            let request = [&[8, 0, 0, 0, 0, 0, 0, answered][..], &[answered; 1400]].concat();
            rustix::net::send(&socket, &request, SendFlags::empty()).unwrap();
            let mut answer = [0; 1500];
            // The first may find no neighbour.
            if let Ok((n, _)) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()) {
                assert_eq!(answer[0], 0, "an echo reply");
                assert_eq!(answer[7..n], request[7..]);
                answered += 1;
            }
        }
    });
}

/// What `ip` says of an interface, but for what counts.
fn state(host: &NetNs, interface: &'static str) -> String {
    let show = move || {
        Command::new("ip")
            .args(["-d", "link", "show", "dev", interface])
            .output()
    };
    String::from_utf8(host.run(show).unwrap().stdout).unwrap()
}

#[test]
fn a_card_is_attached_by_af_xdp_and_given_back_as_it_was() {
    let (Some(host), Some(far)) = (host(), host()) else {
        return;
    };
    let there = far.thread_id();
    host.ip(&format!(
        "link add nic type veth peer name wire netns {there}"
    ))
    .unwrap();
    far.run(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0"))
        .unwrap();
    far.ip("addr add 192.0.2.2/24 dev wire").unwrap();
    for (end, name) in [(&host, "nic"), (&far, "wire")] {
        end.ip(&format!("link set {name} up")).unwrap();
        end.complete_frames(name).unwrap();
    }
    let before = state(&host, "nic");
    let probe = System::threads().create("probe").unwrap();
    let by_xdp = || NicConfig {
        xdp: Xdp::Always,
        ..NicConfig::from("nic")
    };
    if let Err(why) = host.run(move || Nic::attach(&probe, "eth0", by_xdp()).map(drop)) {
        return skip(&why);
    }
    assert_eq!(state(&host, "nic"), before);
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut running = attach(
            &host,
            folder.path(),
            &["nic", "nic", "192.0.2.1/24", "--xdp"],
        );
        assert_eq!(running.attached(1), ["nic nic (AF_XDP)"]);
        let during = state(&host, "nic");
        assert!(
            during.contains("prog/xdp") && during.contains("promiscuity 1"),
            "{during}"
        );
        // The host that is attached has another Ethernet address each time, and announced it when nothing was attached yet.
        far.ip("neigh flush dev wire").unwrap();
        ping(&far, Ipv4Addr::new(192, 0, 2, 1), 100);
        let refused = far.run(|| TcpStream::connect("192.0.2.1:9").map(drop));
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        if is_killed {
            running.vnet.kill().unwrap();
            running.vnet.wait().unwrap();
        } else {
            let (status, report) = running.interrupt();
            assert_eq!(status, Some(0), "{report}");
            assert!(report.contains("nic nic (AF_XDP)"), "{report}");
        }
        assert_eq!(state(&host, "nic"), before);
    }
    // The host has its card again.
    host.ip("addr add 192.0.2.1/24 dev nic").unwrap();
    far.ip("neigh flush dev wire").unwrap();
    ping(&far, Ipv4Addr::new(192, 0, 2, 1), 1);
}

#[test]
fn a_run_that_is_killed_leaves_nothing_that_keeps_the_next_one_from_running() {
    let Some(host) = host() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("lan.sock");
    for _ in 0..3 {
        let here = folder.path().to_owned();
        let mut running = host.run(move || {
            run(
                &here,
                "switches = ['lan']\n\
                 attach = [{ to = 'lan', qemu = 'lan.sock' }, { to = 'lan', tap = 'lan0' }]\n",
            )
        });
        assert_eq!(running.attached(2), ["qemu lan.sock", "tap lan0"]);
        let mut stream = UnixStream::connect(&at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[0, 0, 5, 0, 1, 2, 3]).unwrap();
        running.vnet.kill().unwrap();
        running.vnet.wait().unwrap();
        // Its peer is told, whatever was said before; the interface goes with the process.
        assert!(
            !matches!(stream.read_to_end(&mut Vec::new()), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        );
        host.wait_until_gone("lan0", PATIENCE).unwrap();
        assert!(at.exists(), "nobody was there to remove it");
    }
}

#[test]
fn a_tap_that_is_deleted_ends_the_run() {
    let Some(host) = host() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut running = attach(&host, folder.path(), &["tap", "lan%d", "192.0.2.1/24"]);
    running.attached(1);
    host.ip("link del lan0").unwrap();
    let give_up = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = running.vnet.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < give_up, "it still runs");
        sleep(Duration::from_millis(10));
    };
    let mut report = String::new();
    let mut out = running.vnet.stdout.take().unwrap();
    out.read_to_string(&mut report).unwrap();
    assert_eq!(status.code(), Some(1), "{report}");
    assert!(report.contains("tap lan0 failed: "), "{report}");
}
