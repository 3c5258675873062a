//! A real guest: QEMU boots Debian's kernel with a busybox, and the guest's own stack talks to a vnet.
//!
//! Needs `qemu-system-x86_64` of 7.2 or later (package qemu-system-x86), and what a guest boots, unpacked in the
//! directory that `VNET_GUEST_ROOT` names: a kernel of Debian's (linux-image-cloud-amd64) and `bin/busybox`
//! (busybox-static). Says so otherwise; with `VNET_REQUIRE_QEMU` set, that is a failure. No rights are
//! needed, and no KVM: what runs here may be a virtual machine itself.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vnet::net::TcpListener;
use vnet::{
    BridgeConfig, BridgeVlans, MemberConfig, MemberVlans, OwnedVnet, System, Tpid, VlanConfig,
};
use vnet_tap::{Framing, Guest, PumpEnd, PumpReport};

/// Bytes that go each way.
const SIZE: usize = 100_000_000;
/// When a guest is given up, which only ends a test that hangs: its processor is emulated, and others use
/// ours. How long it takes is printed.
const PATIENCE: Duration = Duration::from_secs(400);
/// The guest says so when it has done all that was asked.
const DONE: &str = "VNET done";
/// Modules without which there is nothing to test.
const WANTED: [&str; 3] = ["virtio_pci", "virtio_net", "8021q"];

/// What a guest boots.
struct Image {
    folder: TempDir,
    kernel: PathBuf,
    busybox: PathBuf,
    /// In the order in which they need each other, unpacked.
    modules: Vec<PathBuf>,
}

fn skip(why: &dyn Display) {
    let required = std::env::var_os("VNET_REQUIRE_QEMU").is_some_and(|v| !v.is_empty());
    assert!(
        !required,
        "VNET_REQUIRE_QEMU is set, but there is no guest: {why}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn find(folder: &Path, is_it: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    let mut within = Vec::new();
    for entry in entries {
        let path = entry.path();
        match entry.file_type().ok()?.is_dir() {
            true => within.push(path),
            false if is_it(&entry.file_name().to_string_lossy()) => return Some(path),
            false => {}
        }
    }
    within.iter().find_map(|folder| find(folder, is_it))
}

fn image() -> Option<Image> {
    let missing = |what: &str| skip(&format!("there is no {what}"));
    let in_path = |program: &str| {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|place| place.join(program));
        places.find(|place| place.exists())
    };
    let Some(root) = std::env::var_os("VNET_GUEST_ROOT").map(PathBuf::from) else {
        missing("kernel for a guest: VNET_GUEST_ROOT is not set");
        return None;
    };
    if in_path("qemu-system-x86_64").is_none() {
        missing("qemu-system-x86_64");
        return None;
    }
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|place| root.join(place));
    let Some(busybox) = busybox.into_iter().find(|place| place.exists()) else {
        missing("bin/busybox where VNET_GUEST_ROOT says");
        return None;
    };
    let Some(kernel) = find(&root.join("boot"), &|name| name.starts_with("vmlinuz-")) else {
        missing("boot/vmlinuz-* where VNET_GUEST_ROOT says");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut modules = Modules {
        root: &root,
        folder: folder.path(),
        seen: BTreeSet::new(),
        files: Vec::new(),
    };
    if let Err(why) = WANTED.iter().try_for_each(|name| modules.add(name)) {
        skip(&why);
        return None;
    }
    let modules = modules.files;
    Some(Image {
        folder,
        kernel,
        busybox,
        modules,
    })
}

/// Modules of the kernel below `root`, each after those that it needs.
struct Modules<'a> {
    root: &'a Path,
    /// Where packed ones are unpacked.
    folder: &'a Path,
    seen: BTreeSet<String>,
    files: Vec<PathBuf>,
}

impl Modules<'_> {
    /// Adds a module and all that it needs. Which those are differs from one kernel to the next, so the module
    /// itself is asked, as depmod(8) does. Those that the kernel has built in are left out.
    fn add(&mut self, name: &str) -> Result<(), String> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        if let Some(file) = module(self.root, name, self.folder)? {
            let content = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            needed_by(&content)
                .iter()
                .try_for_each(|name| self.add(name))?;
            self.files.push(file);
        }
        Ok(())
    }
}

/// What the information section of a module says it needs: `depends=` and names between commas, among strings
/// that each end with a zero.
fn needed_by(module: &[u8]) -> Vec<String> {
    let strings = module.split(|&byte| byte == 0);
    let names = strings.filter_map(|string| string.strip_prefix(b"depends="));
    names
        .flat_map(|names| names.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// A module of the kernel below `root`, unpacked in `folder` where it is packed; `None` when the kernel has it
/// built in. Its file may have a hyphen for each underscore of its name.
fn module(root: &Path, name: &str, folder: &Path) -> Result<Option<PathBuf>, String> {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place));
    let is_it = |file: &str| {
        let stem = [".ko", ".ko.xz", ".ko.zst"]
            .iter()
            .find_map(|ending| file.strip_suffix(ending));
        stem.is_some_and(|stem| stem.replace('-', "_") == name)
    };
    let Some(file) = places.iter().find_map(|place| find(place, &is_it)) else {
        let list = |place: &PathBuf| find(place, &|file| file == "modules.builtin");
        let list = places.iter().find_map(list).map(fs::read_to_string);
        let is_built_in = list.and_then(Result::ok).is_some_and(|list| {
            let mut files = list.lines().filter_map(|line| line.rsplit('/').next());
            files.any(is_it)
        });
        return match is_built_in {
            true => Ok(None),
            false => Err(format!("there is no module {name} for the guest's kernel")),
        };
    };
    let unpacker = match file.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(Some(file)),
    };
    let unpacked = Command::new(unpacker).arg("-dc").arg(&file).output();
    match unpacked {
        Ok(unpacked) if unpacked.status.success() => {
            let to = folder.join(format!("{name}.ko"));
            fs::write(&to, unpacked.stdout).map_err(|e| e.to_string())?;
            Ok(Some(to))
        }
        _ => Err(format!("{unpacker} does not unpack {}", file.display())),
    }
}

impl Image {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An initramfs in which a guest called `name` does what `script` says.
    fn initramfs(&self, name: &str, script: &str) -> PathBuf {
        let root = self.path(&format!("{name}-root"));
        for folder in ["bin", "dev", "proc", "sys", "modules", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(&self.busybox, root.join("bin/busybox")).unwrap();
        let mut insert = String::new();
        for module in &self.modules {
            let file = module.file_name().unwrap().to_str().unwrap();
            fs::copy(module, root.join("modules").join(file)).unwrap();
            insert += &format!("insmod /modules/{file}\n");
        }
        let init = format!(
            "#!/bin/busybox sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/bin\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sys /sys\n\
             mount -t devtmpfs dev /dev\n\
             {insert}\
             fail() {{ echo VNET failed: \"$@\"; poweroff -f; }}\n\
             try() {{ \"$@\" || fail \"$@\"; }}\n\
             try ip link set lo up\n\
             try ip link set eth0 up\n\
             {script}\
             echo {DONE}\n\
             poweroff -f\n"
        );
        let path = root.join("init");
        fs::write(&path, init).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let archive = self.path(&format!("{name}.cpio"));
        let busybox = self.busybox.display();
        let command = format!("find . | {busybox} cpio -o -H newc > {}", archive.display());
        let packed = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&root)
            .output();
        let packed = packed.unwrap();
        assert!(packed.status.success(), "{packed:?}");
        archive
    }

    /// Boots a guest with this `-netdev`, whose identifier is `n0`.
    fn boot(&self, name: &str, script: &str, number: u8, netdev: &str) -> Running {
        self.boot_with(name, script, number, netdev, &[])
    }

    /// The same, with memory that is shared over a vhost-user socket, and with as many processors and pairs of queues: the
    /// guest's driver uses no more pairs than it has processors.
    fn boot_sharing_memory(
        &self,
        name: &str,
        script: &str,
        number: u8,
        at: &Path,
        pairs: u8,
    ) -> Running {
        let chardev = format!("socket,id=c0,path={}", at.display());
        let processors = pairs.to_string();
        let options = [
            "-object",
            "memory-backend-memfd,id=m0,size=512M,share=on",
            "-machine",
            "memory-backend=m0",
            "-chardev",
            &chardev,
            // Without KVM, QEMU 7.2 does not survive vhost-user with MSI-X.
            "-global",
            "virtio-net-pci.vectors=0",
            "-smp",
            &processors,
            "-global",
            match pairs {
                1 => "virtio-net-pci.mq=off",
                _ => "virtio-net-pci.mq=on",
            },
        ];
        let netdev = format!("vhost-user,id=n0,chardev=c0,queues={pairs}");
        self.boot_with(name, script, number, &netdev, &options)
    }

    /// The same, with more options.
    fn boot_with(
        &self,
        name: &str,
        script: &str,
        number: u8,
        netdev: &str,
        options: &[&str],
    ) -> Running {
        let initramfs = self.initramfs(name, script);
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "512", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args(options)
            .args(["-netdev", netdev, "-device"])
            .arg(format!(
                "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:00:00:{number:02x}"
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = mpsc::channel();
        let out = qemu.stdout.take().unwrap();
        let errors = qemu.stderr.take().unwrap();
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(errors)] {
            let said = said.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let _ = said.send(String::from_utf8_lossy(&line).trim().to_owned());
                }
            });
        }
        Running {
            name: name.to_owned(),
            qemu,
            lines,
        }
    }
}

/// A guest that runs. Dropping it ends it.
struct Running {
    name: String,
    qemu: Child,
    lines: Receiver<String>,
}

impl Running {
    /// What it says until it has done what was asked.
    fn finish(mut self) -> Vec<String> {
        let give_up = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == DONE => break,
                Ok(line) if line.starts_with("VNET failed") => {
                    panic!("{}: {line}\n{}", self.name, told.join("\n"))
                }
                Ok(line) => told.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} takes too long:\n{}", self.name, told.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended early:\n{}", self.name, told.join("\n"))
                }
            }
        }
        let _ = self.qemu.wait();
        told
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The connection of an emulator that has been started.
fn accept(listener: &UnixListener, running: &mut Running) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let give_up = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("{e}"),
        }
        let ended = running.qemu.try_wait().unwrap();
        if ended.is_some() || Instant::now() > give_up {
            let said: Vec<String> = running.lines.try_iter().collect();
            panic!(
                "{} does not connect: {ended:?}\n{}",
                running.name,
                said.join("\n")
            );
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn neighbour() -> OwnedVnet {
    System::threads().create("host").unwrap()
}

fn address(vnet: &OwnedVnet, interface: &str, nets: [&str; 2]) {
    for net in nets {
        vnet.add_address(interface, net.parse().unwrap()).unwrap();
    }
}

fn pattern() -> Vec<u8> {
    (0..SIZE as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Pings both families, fetches the pattern, says its digest, and sends it back.
const TALK: &str = "\
    try ip addr add 192.0.2.10/24 dev eth0\n\
    try ip -6 addr add 2001:db8::10/64 dev eth0\n\
    sleep 2\n\
    try ping -c 3 -W 10 192.0.2.1\n\
    try ping6 -c 3 -W 10 2001:db8::1\n\
    nc 192.0.2.1 5001 > /tmp/file < /dev/null || fail fetching\n\
    sha256sum /tmp/file\n\
    nc 2001:db8::1 5002 < /tmp/file || fail sending\n";

/// Has a guest do what [`TALK`] says, and returns what it told and what was carried.
fn talks(vnet: &OwnedVnet, attach: impl FnOnce() -> (Guest, Running)) -> (String, PumpReport) {
    let started = Instant::now();
    let (guest, running) = attach();
    address(vnet, "guest0", ["192.0.2.1/24", "2001:db8::1/64"]);
    let give = TcpListener::bind_in(vnet, "192.0.2.1:5001").unwrap();
    let take = TcpListener::bind_in(vnet, "[2001:db8::1]:5002").unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = give.accept().unwrap();
        let begun = Instant::now();
        stream.write_all(&pattern()).unwrap();
        drop(stream);
        let mut taken = Vec::new();
        let (mut stream, _) = take.accept().unwrap();
        let given = begun.elapsed();
        let begun = Instant::now();
        stream.read_to_end(&mut taken).unwrap();
        (taken, given, begun.elapsed())
    });
    let told = running.finish().join("\n");
    let (taken, given, took) = server.join().unwrap();
    assert_eq!(taken.len(), SIZE);
    let expected = digest(&pattern());
    assert_eq!(digest(&taken), expected, "as it came back");
    assert!(told.contains(&expected), "as it arrived: {told}");
    assert!(
        told.matches("3 packets received").count() == 2
            || told.matches("0% packet loss").count() == 2,
        "{told}"
    );
    eprintln!(
        "{SIZE} bytes to the guest in {given:?} with its digest, back in {took:?}; {:?} in all; {}",
        started.elapsed(),
        guest.report()
    );
    (told, guest.detach())
}

#[test]
fn a_module_says_what_it_needs() {
    let module = b"\x7fELF\0license=GPL\0depends=mrp,garp\0name=8021q\0";
    assert_eq!(needed_by(module), ["mrp", "garp"]);
    assert_eq!(needed_by(b"license=GPL\0depends=\0"), [""; 0]);
}

#[test]
fn a_guest_talks_over_a_stream() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    let at = image.path("stream");
    let listener = UnixListener::bind(&at).unwrap();
    talks(&vnet, || {
        let netdev = format!(
            "stream,id=n0,server=off,addr.type=unix,addr.path={}",
            at.display()
        );
        let mut running = image.boot("stream", TALK, 1, &netdev);
        let socket = accept(&listener, &mut running);
        let guest = Guest::attach(&vnet, "guest0", socket, Framing::Length32).unwrap();
        (guest, running)
    });
}

#[test]
fn a_guest_talks_through_its_memory() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    let at = image.path("vhost");
    let listener = UnixListener::bind(&at).unwrap();
    // One flow after the other: from several addresses, and from each processor.
    let script = format!(
        "cat /sys/class/net/eth0/device/features\n{TALK}\
         for n in 21 22 23 24 25 26; do\n\
         try ip addr add 192.0.2.$n/24 dev eth0\n\
         for cpu in 1 2; do try taskset $cpu ping -q -c 1 -W 10 -I 192.0.2.$n 192.0.2.1; done\n\
         done\n"
    );
    let (told, report) = talks(&vnet, || {
        let mut running = image.boot_sharing_memory("vhost", &script, 1, &at, 2);
        let socket = accept(&listener, &mut running);
        let guest = Guest::attach(&vnet, "guest0", socket, Framing::VhostUser).unwrap();
        (guest, running)
    });
    let mut lines = told.lines();
    let features =
        lines.find(|line| line.len() == 64 && line.bytes().all(|b| b == b'0' || b == b'1'));
    // Checksums, TSO with ECN over both families, both ways, merged buffers, and several pairs of queues.
    let agreed: Vec<_> = [0, 1, 7, 8, 9, 11, 12, 13, 15, 22]
        .map(|bit| features.and_then(|bits| bits.as_bytes().get(bit)).copied())
        .into();
    assert!(agreed.iter().all(|bit| *bit == Some(b'1')), "{told}");
    assert_eq!((report.queues_in, report.queues_out), (2, 2), "{report}");
    // Cut to the MTU, it would be 69061 segments each way, and acknowledgements.
    assert!(
        report.frames_in < 50_000 && report.frames_out < 50_000,
        "{report}"
    );
}

#[test]
fn a_guest_talks_over_datagrams() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    let [ours, theirs] = ["ours", "theirs"].map(|name| image.path(name));
    let server = UnixDatagram::bind(&ours).unwrap();
    talks(&vnet, || {
        let guest = Guest::attach(&vnet, "guest0", server, Framing::Datagrams).unwrap();
        let netdev = format!(
            "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            theirs.display(),
            ours.display()
        );
        (guest, image.boot("dgram", TALK, 1, &netdev))
    });
}

/// Boots a guest that connects to a listener, and plugs it into a bridge.
fn plug(image: &Image, vnet: &OwnedVnet, name: &str, number: u8, script: &str) -> (Guest, Running) {
    let at = image.path(&format!("{name}.sock"));
    let listener = UnixListener::bind(&at).unwrap();
    let netdev = format!(
        "stream,id=n0,server=off,addr.type=unix,addr.path={}",
        at.display()
    );
    let mut running = image.boot(name, script, number, &netdev);
    let socket = accept(&listener, &mut running);
    let guest = Guest::attach(vnet, name, socket, Framing::Length32).unwrap();
    vnet.add_member("br0", name).unwrap();
    (guest, running)
}

/// The digest among what a guest has said.
fn digest_told(told: &[String]) -> Option<String> {
    let mut words = told.iter().flat_map(|line| line.split_whitespace());
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    words.find(is_digest).map(str::to_owned)
}

#[test]
fn two_guests_on_a_bridge_talk_to_each_other() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    vnet.bridge("br0").unwrap();
    let server = "\
        try ip addr add 192.0.2.10/24 dev eth0\n\
        try ip -6 addr add 2001:db8::10/64 dev eth0\n\
        nc -l -p 5003 | sha256sum\n";
    let client = "\
        try ip addr add 192.0.2.11/24 dev eth0\n\
        try ip -6 addr add 2001:db8::11/64 dev eth0\n\
        until ping -c 1 -W 5 192.0.2.10; do sleep 1; done\n\
        until ping6 -c 1 -W 5 2001:db8::10; do sleep 1; done\n\
        head -c 20000000 /dev/urandom > /tmp/file\n\
        sha256sum /tmp/file\n\
        until nc 192.0.2.10 5003 < /tmp/file; do sleep 1; done\n";
    let (a, server) = plug(&image, &vnet, "a", 1, server);
    let (b, client) = plug(&image, &vnet, "b", 2, client);
    let sent = client.finish();
    let received = server.finish();
    assert!(digest_told(&sent).is_some(), "{sent:?}");
    assert_eq!(digest_told(&sent), digest_told(&received));
    for guest in [a, b] {
        let give_up = Instant::now() + PATIENCE;
        while guest.is_running() {
            assert!(
                Instant::now() < give_up,
                "the emulator is gone, its guest is not"
            );
            thread::sleep(Duration::from_millis(5));
        }
        let report = guest.detach();
        assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
    }
}

#[test]
fn an_emulator_that_is_killed_leaves_nothing_behind() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    vnet.bridge("br0").unwrap();
    for round in 0..3 {
        let (guest, running) = plug(&image, &vnet, &format!("a{round}"), 1, "");
        // SIGKILL, while it boots.
        drop(running);
        let give_up = Instant::now() + PATIENCE;
        while guest.is_running() {
            assert!(Instant::now() < give_up, "its guest is still there");
            thread::sleep(Duration::from_millis(5));
        }
        let report = guest.detach();
        assert!(matches!(report.end, Some(PumpEnd::Closed)), "{report}");
        vnet.remove_interface(&format!("a{round}")).unwrap();
    }
    let report = vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
}

#[test]
fn a_guest_with_vlans_is_on_a_trunk() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    vnet.bridge("br0").unwrap();
    let config = BridgeConfig {
        vlans: Some(BridgeVlans::default()),
        ..BridgeConfig::default()
    };
    vnet.set_bridge("br0", config).unwrap();
    // A stack on a trunk of its own, with an address in each VLAN.
    let lan = vnet.system().create("lan").unwrap();
    vnet.epair("up", &lan, "eth0").unwrap();
    vnet.add_member("br0", "up").unwrap();
    let script = "\
        try ip link add link eth0 name eth0.10 type vlan id 10\n\
        try ip link add link eth0 name eth0.20 type vlan id 20\n\
        try ip link add link eth0 name eth0.30 type vlan id 30\n\
        for v in 10 20 30; do\n\
        try ip link set eth0.$v up\n\
        try ip addr add 198.18.$v.2/24 dev eth0.$v\n\
        done\n\
        try ip -6 addr add 2001:db8:0:10::2/64 dev eth0.10\n\
        sleep 2\n\
        try ping -c 2 -W 10 198.18.10.1\n\
        try ping6 -c 2 -W 10 2001:db8:0:10::1\n\
        try ping -c 2 -W 10 198.18.20.1\n\
        ping -c 2 -W 2 198.18.30.1 && fail reaching a VLAN that is not on the trunk\n";
    let (_guest, running) = plug(&image, &vnet, "a", 1, script);
    for (member, vids) in [("a", "10,20"), ("up", "10,20,30")] {
        let config = MemberConfig {
            vlans: MemberVlans::trunk(vids.parse().unwrap()),
            ..MemberConfig::default()
        };
        vnet.set_member("br0", member, config).unwrap();
    }
    for vid in [10, 20, 30] {
        let name = format!("eth0.{vid}");
        lan.vlan("eth0", &name, VlanConfig::dot1q(vid)).unwrap();
        lan.add_address(&name, format!("198.18.{vid}.1/24").parse().unwrap())
            .unwrap();
    }
    lan.add_address("eth0.10", "2001:db8:0:10::1/64".parse().unwrap())
        .unwrap();
    running.finish();
}

/// Boots a guest whose memory is shared, and plugs it into a bridge.
fn plug_memory(
    image: &Image,
    vnet: &OwnedVnet,
    name: &str,
    number: u8,
    script: &str,
) -> (Guest, Running) {
    let at = image.path(&format!("{name}.sock"));
    let listener = UnixListener::bind(&at).unwrap();
    let mut running = image.boot_sharing_memory(name, script, number, &at, 1);
    let socket = accept(&listener, &mut running);
    let guest = Guest::attach(vnet, name, socket, Framing::VhostUser).unwrap();
    vnet.add_member("br0", name).unwrap();
    (guest, running)
}

#[test]
fn guests_by_memory_and_by_datagrams_talk_in_customers_and_providers_vlans() {
    let Some(image) = image() else { return };
    let vnet = neighbour();
    vnet.bridge("br0").unwrap();
    // A provider's bridge: customers' tags pass untouched.
    let config = BridgeConfig {
        vlans: Some(BridgeVlans {
            tpid: Tpid::Dot1ad,
            ..BridgeVlans::default()
        }),
        ..BridgeConfig::default()
    };
    vnet.set_bridge("br0", config).unwrap();
    let links = |number: u8| {
        format!(
            "\
            try ip link add link eth0 name c10 type vlan id 10\n\
            try ip link add link eth0 name s40 type vlan proto 802.1ad id 40\n\
            try ip link add link eth0 name s41 type vlan proto 802.1ad id 41\n\
            for i in c10 s40 s41; do try ip link set $i up; done\n\
            try ip addr add 198.18.10.{number}/24 dev c10\n\
            try ip -6 addr add 2001:db8:0:10::{number}/64 dev c10\n\
            try ip addr add 198.18.40.{number}/24 dev s40\n\
            try ip addr add 198.18.41.{number}/24 dev s41\n"
        )
    };
    let finds = "\
        until ping -c 1 -W 5 198.18.10.1; do sleep 1; done\n\
        until ping6 -c 1 -W 5 2001:db8:0:10::1; do sleep 1; done\n\
        try ping -c 2 -W 10 198.18.40.1\n\
        ping -c 2 -W 2 198.18.41.1 && fail reaching a VLAN that is not on the trunk\n";
    let server = format!(
        "{}nc -l -p 5003 | sha256sum\nnc -l -p 5004 > /tmp/said\n",
        links(1)
    );
    let client = format!(
        "{}{finds}\
         head -c 1000 /dev/urandom > /tmp/file\n\
         sha256sum /tmp/file\n\
         until nc 198.18.10.1 5003 < /tmp/file; do sleep 1; done\n",
        links(2)
    );
    let other = format!(
        "{}{finds}\
         until nc 198.18.40.1 5004 < /proc/version; do sleep 1; done\n",
        links(3)
    );
    let (a, server) = plug_memory(&image, &vnet, "a", 1, &server);
    let (b, client) = plug_memory(&image, &vnet, "b", 2, &client);
    let [ours, theirs] = ["ours", "theirs"].map(|name| image.path(name));
    let socket = UnixDatagram::bind(&ours).unwrap();
    let c = Guest::attach(&vnet, "c", socket, Framing::Datagrams).unwrap();
    vnet.add_member("br0", "c").unwrap();
    let netdev = format!(
        "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        theirs.display(),
        ours.display()
    );
    let other = image.boot("c", &other, 3, &netdev);
    for member in ["a", "b", "c"] {
        let config = MemberConfig {
            vlans: MemberVlans {
                // What has no tag of the provider's is in a VLAN of its own.
                pvid: Some(1),
                untagged: "1".parse().unwrap(),
                ..MemberVlans::trunk("40".parse().unwrap())
            },
            ..MemberConfig::default()
        };
        vnet.set_member("br0", member, config).unwrap();
    }
    let sent = client.finish();
    other.finish();
    let received = server.finish();
    assert!(digest_told(&sent).is_some(), "{sent:?}");
    assert_eq!(digest_told(&sent), digest_told(&received));
    for guest in [a, b, c] {
        let report = guest.detach();
        assert!(report.frames_in > 0 && report.frames_out > 0, "{report}");
    }
}
