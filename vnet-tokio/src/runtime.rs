//! [`Runtime`].

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use vnet::{TaskHandle, Vnet};

use crate::host::Host;

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
pub struct Runtime(Kind);

enum Kind {
    Threads {
        runtime: Option<tokio::runtime::Runtime>,
        vnet: Vnet,
    },
    Simulated {
        host: Arc<Host>,
        driving: TaskHandle<()>,
    },
}

impl Runtime {
    /// A runtime that belongs to `vnet`.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn new(vnet: &Vnet) -> io::Result<Runtime> {
        if vnet.system().is_simulated() {
            let (host, driving) = Host::new(vnet)?;
            let driving = vnet.spawn_future(driving);
            return Ok(Runtime(Kind::Simulated { host, driving }));
        }
        let theirs = vnet.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name(format!("vnet-{}", vnet.name()))
            // It is current until the thread ends.
            .on_thread_start(move || std::mem::forget(theirs.enter()))
            .build()?;
        Ok(Runtime(Kind::Threads {
            runtime: Some(runtime),
            vnet: vnet.clone(),
        }))
    }

    /// Runs a future to its end on the calling thread, with the vnet current.
    ///
    /// # Errors
    /// In virtual time as [`System::block_on`](vnet::System::block_on), with a [`Deadlock`](vnet::Deadlock) inside
    /// when nothing is left that could wake the future. The vnet is gone, or was destroyed meanwhile. A task has
    /// called what needs a thread of its own ([`ErrorKind::Unsupported`](io::ErrorKind::Unsupported)), or waits for its
    /// own runtime ([`ErrorKind::WouldBlock`](io::ErrorKind::WouldBlock)).
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        match &self.0 {
            Kind::Simulated { host, .. } => host.block_on(future),
            Kind::Threads { vnet, .. } => {
                let _vnet = vnet.enter();
                Ok(self.handle().block_on(future))
            }
        }
    }

    /// Starts a task. It runs whenever the system does, whether somebody waits for it or not.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self.handle().spawn(future);
        if let Kind::Simulated { host, .. } = &self.0 {
            host.wake();
        }
        task
    }

    fn handle(&self) -> &Handle {
        match &self.0 {
            Kind::Simulated { host, .. } => host.handle(),
            Kind::Threads { runtime, .. } => {
                let runtime = runtime.as_ref();
                runtime.expect("it is taken by `drop` only").handle()
            }
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        match &mut self.0 {
            Kind::Simulated { driving, .. } => driving.abort(),
            // Waiting for its thread is not possible everywhere; it ends by itself.
            Kind::Threads { runtime, .. } => {
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            }
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}
