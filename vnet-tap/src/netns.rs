//! A private network namespace.
//!
//! Tests and measurements against the kernel need interfaces and addresses separate from the
//! host's. The namespace here has no name and no mount: it belongs to a thread and disappears with
//! the thread and the sockets made in it, even when the process is killed.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::sys;

/// Moves the calling thread to a new network namespace, which disappears with the thread. Its
/// loopback interface is down. Programs normally use [`NetNs`]; this function is for measurements.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN`.
pub fn unshare_thread() -> io::Result<()> {
    sys::unshare_network()
}

type Job = Box<dyn FnOnce() + Send>;

/// A new network namespace with a thread in it. It contains only a loopback interface, which is up.
#[derive(Debug)]
pub struct NetNs {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
}

impl NetNs {
    /// Makes the namespace.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN`;
    /// [`io::ErrorKind::NotFound`] when the `ip` command (iproute2) is not installed.
    pub fn new() -> io::Result<NetNs> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (born, birth) = mpsc::channel();
        let thread = Builder::new().name("netns".into()).spawn(move || {
            let entered = sys::unshare_network().map(|()| sys::thread_id());
            let alive = entered.is_ok();
            // The maker waits for exactly this message.
            let _ = born.send(entered);
            if alive {
                inbox.into_iter().for_each(|job| job());
            }
        })?;
        let thread_id = birth
            .recv()
            .expect("the thread reports before anything else")?;
        let ns = NetNs {
            jobs: Some(jobs),
            thread: Some(thread),
            thread_id,
        };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// Runs `f` on the thread inside the namespace and returns its result. Sockets and TAPs that
    /// `f` makes belong to the namespace wherever they are used afterwards; threads and processes
    /// that it starts are inside, too.
    ///
    /// # Panics
    /// When `f` panics, with the same payload.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || {
            // The caller waits for the result; it has gone only if its thread was unwound.
            let _ = done.send(panic::catch_unwind(AssertUnwindSafe(f)));
        };
        self.jobs
            .as_ref()
            .expect("the queue is closed in drop only")
            .send(Box::new(job))
            .expect("the thread lives until the queue is closed");
        match result.recv().expect("every job sends its result") {
            Ok(value) => value,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Runs `ip` with these arguments, separated by spaces, inside the namespace.
    ///
    /// # Errors
    /// When `ip` cannot be started or fails: the message contains the command and its output.
    pub fn ip(&self, arguments: &str) -> io::Result<()> {
        let arguments = arguments.to_owned();
        self.run(move || {
            let output = Command::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .map_err(|e| io::Error::new(e.kind(), format!("cannot start `ip`: {e}")))?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!(
                "`ip {arguments}` failed: {}",
                said.trim()
            )))
        })
    }

    /// Has an interface send its frames complete, with checksums filled in and segments cut, and leave VLAN tags in those
    /// that come: what AF_XDP needs of both ends of a veth pair.
    ///
    /// # Errors
    /// What the kernel says: mostly that there is no such interface.
    pub fn complete_frames(&self, interface: &str) -> io::Result<()> {
        let interface = interface.to_owned();
        self.run(move || {
            let control = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            sys::ethtool(&control, &interface, sys::ETHTOOL_SFLAGS, 0)?;
            sys::ethtool(&control, &interface, sys::ETHTOOL_STXCSUM, 0)?;
            Ok(())
        })
    }

    /// Waits until no interface of that name is inside. A process that another thread is starting at
    /// the moment has copies of all descriptors until it runs its program, so a TAP may outlive its last
    /// owner a little.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: it was there for as long as `limit`.
    pub fn wait_until_gone(&self, interface: &str, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        while self.ip(&format!("link show dev {interface}")).is_ok() {
            if Instant::now() >= until {
                let message = format!("interface {interface} is still there after {limit:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The file of the namespace, as [`TapConfig::netns`](crate::TapConfig::netns) takes it. It is there
    /// as long as the namespace.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/task/{}/ns/net", self.thread_id).into()
    }

    /// The identifier of the thread inside: `ip link set DEVICE netns ID` moves a device here.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Jobs catch their own panics, so the thread ends well.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn namespace() -> Option<NetNs> {
        match NetNs::new() {
            Ok(ns) => Some(ns),
            Err(e) => {
                eprintln!("skipped: no network namespace: {e}");
                None
            }
        }
    }

    #[test]
    fn an_address_inside_is_not_one_outside() {
        let Some(ns) = namespace() else { return };
        ns.ip("addr add 192.0.2.1/32 dev lo").unwrap();
        assert!(UdpSocket::bind("192.0.2.1:0").is_err());
        let inside = ns.run(|| UdpSocket::bind("192.0.2.1:0")).unwrap();
        assert_eq!(inside.local_addr().unwrap().ip().to_string(), "192.0.2.1");
    }

    #[test]
    fn a_panic_inside_reaches_the_caller_and_the_namespace_lives_on() {
        let Some(ns) = namespace() else { return };
        let caught = panic::catch_unwind(AssertUnwindSafe(|| ns.run(|| panic!("inside"))));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"inside"));
        assert_eq!(ns.run(|| 7), 7);
        let error = ns.ip("link set nothing up").unwrap_err().to_string();
        assert!(error.contains("link set nothing up"), "{error}");
    }
}
