//! What a good pair of vnets keeps of its requests and of its throughput while others in the same
//! system do what they can to get in its way.
//!
//! The pair and the hog each have a thread of their own. The measure of what is fair is a thread
//! outside the library that does nothing but keep a processor busy: beside that, the operating system
//! shares the processors out, and vnet has no part in it.

mod frames;
mod hog;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use vnet::net::{TcpListener, TcpStream};
use vnet::{OwnedVnet, System};

use crate::case::Options;
use crate::compare::{Contest, Side, SideError, Unit};

pub use hog::Hog;

/// Anything that goes wrong.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How long after its time a pair may still be at it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What the pair does in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A request of one byte and its reply, one after the other; the figure is replies a second.
    Requests,
    /// Writing 64 KiB at a time; the figure is bytes a second read at the other end.
    Bulk,
}

/// A system in which a server, a client and a third vnet, the bystander, are joined two by two.
pub struct Arena {
    /// The system.
    pub system: System,
    /// 198.18.0.1, joined to the server.
    pub client: OwnedVnet,
    /// 198.18.0.2 towards the client.
    pub server: OwnedVnet,
    /// Who has nothing to do with the pair.
    pub bystander: OwnedVnet,
}

impl Arena {
    /// The pair, and its bystander.
    ///
    /// # Errors
    /// None that the library should have.
    pub fn new() -> Result<Arena, AnyError> {
        let system = System::threads();
        let [client, server, bystander] =
            ["client", "server", "bystander"].map(|n| system.create(n));
        let (client, server, bystander) = (client?, server?, bystander?);
        client.epair("eth0", &server, "eth0")?;
        client.add_address("eth0", "198.18.0.1/24".parse()?)?;
        server.add_address("eth0", "198.18.0.2/24".parse()?)?;
        Ok(Arena {
            system,
            client,
            server,
            bystander,
        })
    }

    /// The vnet that a hog is at.
    pub fn victim(&self, at: At) -> &OwnedVnet {
        match at {
            At::Bystander => &self.bystander,
            At::Server => &self.server,
        }
    }
}

/// Which vnet a hog is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// One that has nothing to do with the pair but the system.
    Bystander,
    /// The pair's server itself.
    Server,
}

/// Why a run has no figure.
#[derive(Debug)]
pub enum RunError {
    /// The pair was not done in time, but it was when the hog had stopped.
    Starved {
        /// How long after its time it was given up.
        patience: Duration,
    },
    /// The pair was not even done when the hog had stopped.
    Stuck {
        /// How long after the hog had stopped.
        patience: Duration,
    },
    /// Something else went wrong.
    Failed(AnyError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Starved { patience } => {
                write!(f, "starved: not done {patience:?} after its time")
            }
            RunError::Stuck { patience } => {
                write!(f, "stuck: not done {patience:?} after the hog had stopped")
            }
            RunError::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<AnyError> for RunError {
    fn from(error: AnyError) -> RunError {
        RunError::Failed(error)
    }
}

/// Runs the pair for so long beside a hog, and returns what it did a second.
///
/// # Errors
/// When the pair is not done [`PATIENCE`] after its time, and whatever else goes wrong.
pub fn run(hog: Hog, at: At, work: Work, time: Duration) -> Result<f64, RunError> {
    let arena = Arc::new(Arena::new()?);
    let stop = Arc::new(AtomicBool::new(false));
    let hog = hog.unleash(&arena, at, &stop)?;
    let (done, figure) = mpsc::channel();
    let its = Arc::clone(&arena);
    thread::spawn(move || drop(done.send(pair(&its, work, time))));
    let figure = match figure.recv_timeout(time + PATIENCE) {
        Err(RecvTimeoutError::Timeout) => {
            stop.store(true, Ordering::Relaxed);
            match figure.recv_timeout(PATIENCE) {
                Err(RecvTimeoutError::Timeout) => Err(RunError::Stuck { patience: PATIENCE }),
                _ => Err(RunError::Starved { patience: PATIENCE }),
            }
        }
        Ok(figure) => figure.map_err(RunError::Failed),
        Err(RecvTimeoutError::Disconnected) => Err(RunError::Failed("the pair panicked".into())),
    };
    stop.store(true, Ordering::Relaxed);
    if !matches!(figure, Err(RunError::Stuck { .. })) {
        for thread in hog {
            thread
                .join()
                .map_err(|_| AnyError::from("a hog panicked"))??;
        }
    }
    figure
}

macro_rules! cases {
    ($($name:ident: $hog:ident;)*) => {
        $(
            #[doc = concat!("Requests of a pair beside a bystander that [`Hog::", stringify!($hog), "`] is at.")]
            ///
            /// # Errors
            /// None: the pair is made for each measurement.
            pub fn $name(options: &Options) -> Result<Contest, SideError> {
                let beside = |hog| {
                    let time = options.time;
                    Box::new(Beside { hog, time })
                };
                Ok(Contest {
                    unit: Unit::TransactionsPerSecond,
                    ours: beside(Hog::$hog),
                    peer: beside(Hog::Thread),
                    peer_name: "the same beside a busy thread outside".to_owned(),
                })
            }
        )*
    };
}

cases! {
    flood: Udp;
    syn: Syn;
    broadcast: Arp;
    fragments: Fragments;
    buffers: NonReaders;
    sockets: Sockets;
    spinner: Spinner;
    task: Task;
}

/// A pair that asks and answers, beside a hog.
struct Beside {
    hog: Hog,
    time: Duration,
}

impl Side for Beside {
    fn measure(&mut self) -> Result<f64, SideError> {
        match run(self.hog, At::Bystander, Work::Requests, self.time) {
            Ok(figure) => Ok(figure),
            // It was to be measured what the pair keeps, and it has kept nothing.
            Err(RunError::Starved { .. }) => Ok(0.0),
            Err(e) => Err(SideError::new(e.to_string())),
        }
    }
}

fn pair(arena: &Arena, work: Work, time: Duration) -> Result<f64, AnyError> {
    let listener = TcpListener::bind_in(&arena.server, "198.18.0.2:80")?;
    let mut client = TcpStream::connect_in(&arena.client, "198.18.0.2:80")?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let serve = thread::spawn(move || -> io::Result<()> {
        let mut buf = vec![0; 64 << 10];
        loop {
            let n = server.read(&mut buf)?;
            if n == 0 {
                return Ok(());
            }
            match work {
                Work::Requests => server.write_all(&buf[..n])?,
                Work::Bulk => drop(counted.fetch_add(n as u64, Ordering::Relaxed)),
            }
        }
    });
    let (begin, data) = (Instant::now(), vec![7; 64 << 10]);
    while begin.elapsed() < time {
        match work {
            Work::Requests => {
                client.write_all(b"x")?;
                client.read_exact(&mut [0])?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Work::Bulk => client.write_all(&data)?,
        }
    }
    let figure = done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    drop(client);
    serve.join().map_err(|_| "the server panicked")??;
    Ok(figure)
}
