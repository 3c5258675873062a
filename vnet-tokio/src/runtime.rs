//! [`Runtime`].

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use vnet::{SocketError, TaskError, TaskHandle, Vnet};

use crate::host::Host;
use crate::threaded::Threaded;

/// A tokio runtime that belongs to a vnet: the vnet is current in every task, and time is the system's.
///
/// In virtual time `tokio::spawn`, `tokio::time`, channels and `select!` work, and take their turns with everything
/// else: time passes when nobody has anything to do, and one seed gives the same bytes. Under
/// [`System::threads`](vnet::System::threads) it is an ordinary runtime with a thread of its own.
///
/// Dropping it drops its tasks, and so does the end of the vnet.
///
/// ```
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use vnet::System;
/// use vnet_tokio::Runtime;
/// use vnet_tokio::net::{TcpListener, TcpStream};
///
/// let system = System::virtual_time(1);
/// let (a, b) = (system.create("a")?, system.create("b")?);
/// a.epair("eth0", &b, "eth0")?;
/// a.add_address("eth0", "192.0.2.1/24".parse()?)?;
/// b.add_address("eth0", "192.0.2.2/24".parse()?)?;
///
/// let server = Runtime::new(&b)?;
/// server.spawn(async {
///     let listener = TcpListener::bind("0.0.0.0:7").await?;
///     loop {
///         let (mut stream, _) = listener.accept().await?;
///         tokio::spawn(async move {
///             tokio::time::sleep(Duration::from_secs(60)).await;
///             stream.write_all(b"a minute later").await
///         });
///     }
///     # #[allow(unreachable_code)]
///     std::io::Result::Ok(())
/// });
/// let answer = Runtime::new(&a)?.block_on(async {
///     let mut stream = TcpStream::connect("192.0.2.2:7").await?;
///     let mut answer = String::new();
///     let reading = stream.read_to_string(&mut answer);
///     tokio::time::timeout(Duration::from_secs(90), reading).await??;
///     std::io::Result::Ok(answer)
/// })??;
/// assert_eq!(answer, "a minute later");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Runtime {
    kind: Kind,
    /// The vnet's task with which it ends.
    driving: TaskHandle<()>,
}

enum Kind {
    Threads(Arc<Threaded>),
    Simulated(Arc<Host>),
}

impl Runtime {
    /// A runtime that belongs to `vnet`.
    ///
    /// # Errors
    /// The vnet is gone, or has as many tasks as it may ([`Resource::Tasks`](vnet::Resource::Tasks)), of which a
    /// runtime takes one. The operating system's error.
    #[track_caller]
    pub fn new(vnet: &Vnet) -> io::Result<Runtime> {
        let (kind, driving) = if vnet.system().is_simulated() {
            let (host, driving) = Host::new(vnet)?;
            (Kind::Simulated(host), vnet.spawn_future(driving))
        } else {
            let (threaded, driving) = Threaded::new(vnet)?;
            (Kind::Threads(threaded), vnet.spawn_future(driving))
        };
        if !driving.is_finished() {
            return Ok(Runtime { kind, driving });
        }
        // It was not begun.
        Err(match driving.join() {
            Err(TaskError::Gone) => io::Error::new(ErrorKind::ConnectionAborted, SocketError::Gone),
            Err(error) => io::Error::other(error),
            Ok(()) => unreachable!("it waits for ever"),
        })
    }

    /// Runs a future to its end on the calling thread, with the vnet current. In virtual time its tasks run on while
    /// the simulation does; when the future is done, those that are ready run at the next opportunity, as with tokio.
    ///
    /// # Errors
    /// In virtual time as [`System::block_on`](vnet::System::block_on), with a [`Deadlock`](vnet::Deadlock) inside
    /// when nothing is left that could wake the future. The vnet is gone, or was destroyed meanwhile. A task of any
    /// runtime of the system has called what needs a thread of its own
    /// ([`ErrorKind::Unsupported`](io::ErrorKind::Unsupported)). The caller is in a task, or inside of any tokio
    /// runtime ([`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock)).
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        match &self.kind {
            Kind::Simulated(host) => host.block_on(future),
            Kind::Threads(threaded) => threaded.block_on(future),
        }
    }

    /// Starts a task. It runs whenever the system does, whether somebody waits for it or not.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self.handle().spawn(future);
        if let Kind::Simulated(host) = &self.kind {
            host.wake();
        }
        task
    }

    /// tokio's handle of it, for crates that want one to spawn tasks, or to make timers inside of its `enter`. Its
    /// `block_on` is not for virtual time, where only [`Runtime::block_on`] lets time pass.
    pub fn handle(&self) -> &Handle {
        match &self.kind {
            Kind::Simulated(host) => host.handle(),
            Kind::Threads(threaded) => threaded.handle(),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}
