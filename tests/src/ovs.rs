//! Open vSwitch as a peer: Debian's, with its userspace datapath, in a network namespace of its own.
//!
//! It has its database and its sockets in a temporary directory, and knows of no switch of the host's.
//! Both processes are killed with the thread that started them, and their devices go with the
//! namespace, so that nothing is left whatever fails.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vnet::Vnet;
use vnet_tap::{NetNs, Tap, TapConfig};

use crate::skip::{without_ovs, without_tap};

/// The schema of its database, where Debian has it.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// What takes longer does not come: building and testing machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Open vSwitch with one bridge, `br0`.
pub struct Ovs {
    processes: Vec<Child>,
    dir: TempDir,
    /// The namespace that it is in.
    pub ns: NetNs,
}

impl Ovs {
    /// `None`, with the reason printed, when it cannot be run here.
    ///
    /// # Panics
    /// When it is there and does not start; when it is required and is not there.
    pub fn start() -> Option<Ovs> {
        let ns = NetNs::new().map_err(|e| without_tap(&e)).ok()?;
        let probed = ns.run(vnet_tap::probe);
        probed.map_err(|e| without_tap(&e)).ok()?;
        for program in ["ovs-vsctl", "ovs-vswitchd", "ovsdb-server", "ovsdb-tool"] {
            let said = Command::new(program).arg("--version").output();
            said.map_err(|e| without_ovs(&format!("{program}: {e}")))
                .ok()?;
        }
        let dir = TempDir::new().expect("a temporary directory");
        let mut ovs = Ovs {
            processes: Vec::new(),
            dir,
            ns,
        };
        ovs.run("ovsdb-tool", &["create", &ovs.path("conf.db"), SCHEMA]);
        let (database, control) = (ovs.path("conf.db"), ovs.path("db.ctl"));
        let remote = format!("--remote=punix:{}", ovs.path("db.sock"));
        ovs.spawn(
            "ovsdb-server",
            &[&database, &remote, &format!("--unixctl={control}")],
        );
        ovs.wait_for("its database answers", |ovs| {
            ovs.try_run("ovs-vsctl", &[&ovs.remote(), "--no-wait", "init"])
                .is_ok()
        });
        let (server, control) = (ovs.server(), ovs.path("switch.ctl"));
        let control = format!("--unixctl={control}");
        ovs.spawn("ovs-vswitchd", &[&server, "--disable-system", &control]);
        // So that a frame with two tags is looked into.
        ovs.vsctl("set Open_vSwitch . other_config:vlan-limit=2");
        ovs.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev");
        Some(ovs)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn server(&self) -> String {
        format!("unix:{}", self.path("db.sock"))
    }

    fn remote(&self) -> String {
        format!("--db={}", self.server())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        // Killed when the thread ends that has started it: that is the namespace's.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", program])
            .args(arguments);
        for variable in ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"] {
            command.env(format!("OVS_{variable}"), self.dir.path());
        }
        command.stdin(Stdio::null());
        command
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let mut command = self.command(program, arguments);
        command
            .arg("-vconsole:off")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.ns.run(move || command.spawn());
        self.processes.push(child.expect("it answered before"));
    }

    fn try_run(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.command(program, arguments);
        let output = self.ns.run(move || command.output())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(said),
            false => Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let said = self.try_run(program, arguments);
        said.unwrap_or_else(|e| panic!("{program} {arguments:?}: {e}"))
    }

    /// Runs `ovs-vsctl` with these arguments, separated by spaces, and waits until they are in effect.
    ///
    /// # Panics
    /// When it fails.
    pub fn vsctl(&self, arguments: &str) -> String {
        let (remote, patience) = (self.remote(), format!("--timeout={}", PATIENCE.as_secs()));
        let mut all = vec![&*remote, &*patience];
        all.extend(arguments.split_whitespace());
        self.run("ovs-vsctl", &all)
    }

    /// Runs `ovs-appctl` with these arguments, separated by spaces.
    ///
    /// # Panics
    /// When it fails.
    pub fn appctl(&self, arguments: &str) -> String {
        let control = self.path("switch.ctl");
        let mut all = vec!["-t", &*control];
        all.extend(arguments.split_whitespace());
        self.run("ovs-appctl", &all)
    }

    /// Makes a TAP that is `ifname` in a vnet and `host_name` in the switch's namespace, where it is up.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn tap(&self, vnet: &Vnet, ifname: &str, host_name: &str) -> Tap {
        let (vnet, ifname) = (vnet.clone(), ifname.to_owned());
        let config = TapConfig {
            host_name: Some(host_name.to_owned()),
            ..TapConfig::default()
        };
        let tap = self.ns.run(move || Tap::attach(&vnet, &ifname, config));
        let tap = tap.expect("a TAP could be made before");
        let up = self.ns.ip(&format!("link set {host_name} up"));
        up.expect("it was just made");
        tap
    }

    /// The same, with the host's end a port of the switch; `settings` are those of the port.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn port(&self, vnet: &Vnet, ifname: &str, host_name: &str, settings: &str) -> Tap {
        let tap = self.tap(vnet, ifname, host_name);
        self.vsctl(&format!("add-port br0 {host_name} {settings}"));
        tap
    }

    /// Waits for something that takes its time, and says how long it took.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Ovs) -> bool) -> Duration {
        let started = Instant::now();
        while !is_so(self) {
            assert!(
                started.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        while let Some(mut process) = self.processes.pop() {
            // One that has ended by itself cannot be killed.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
