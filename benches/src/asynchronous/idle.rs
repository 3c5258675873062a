//! Connections that are open and do nothing: what each holds in memory, and what runs for them.
//!
//! Either end of each connection belongs to a task that waits for something to read. What is counted afterwards is
//! exact: how often one of these tasks was polled, and how often the library worked on one of the two vnets, for
//! whatever reason.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comfy_table::Table;
use tokio::io::AsyncReadExt;
use vnet::{OwnedVnet, System};
use vnet_tokio::net::{TcpListener, TcpStream};

use crate::compare::SideError;
use crate::rr::{IPV4, SERVER, joined_by_epair};

/// Connections to one port of the server: there are some 16 000 ports for the client's ends.
const OF_A_PORT: usize = 10_000;
/// Connections that are opened before they are accepted.
const WAVE: usize = 100;
/// Seconds within which the connections come to rest.
const PATIENCE: u32 = 60;

/// Idle connections, with the tasks at both ends.
pub struct Idle {
    runtime: Runtime,
    vnets: [OwnedVnet; 2],
    count: usize,
    polls: Arc<AtomicU64>,
}

enum Runtime {
    Real(tokio::runtime::Runtime),
    Virtual(System, vnet_tokio::Runtime),
}

/// What has run for idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes {
    /// Polls of the tasks at their ends.
    pub polls: u64,
    /// How often a vnet was serviced: for frames, timers of connections, or anything else.
    pub services: u64,
}

impl Idle {
    /// Opens `count` connections under the threads driver, on a `current_thread` runtime of tokio's.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn in_real_time(count: usize) -> Result<Idle, SideError> {
        let vnets = joined_by_epair(&System::threads(), IPV4)?;
        Idle::open(Runtime::Real(super::runtime()?), vnets, count)
    }

    /// Opens `count` connections in virtual time, on a [`vnet_tokio::Runtime`].
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn in_virtual_time(count: usize) -> Result<Idle, SideError> {
        let system = System::virtual_time(1);
        let vnets = joined_by_epair(&system, IPV4)?;
        let runtime = vnet_tokio::Runtime::new(&vnets[0])?;
        Idle::open(Runtime::Virtual(system, runtime), vnets, count)
    }

    fn open(runtime: Runtime, vnets: [OwnedVnet; 2], count: usize) -> Result<Idle, SideError> {
        let polls = Arc::default();
        let opened = open(&vnets, count, &polls);
        match &runtime {
            Runtime::Real(runtime) => runtime.block_on(opened)?,
            Runtime::Virtual(_, runtime) => runtime.block_on(opened)??,
        }
        let idle = Idle {
            runtime,
            vnets,
            count,
            polls,
        };
        // What is still to be acknowledged is, within a second.
        for _ in 0..PATIENCE {
            if idle.pass(Duration::from_secs(1))?.is_none() {
                return Ok(idle);
            }
        }
        Err(SideError::new("the connections do not come to rest"))
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Lets `time` pass, and says what has run meanwhile, if anything has.
    ///
    /// # Errors
    /// A connection has ended.
    pub fn pass(&self, time: Duration) -> Result<Option<Wakes>, SideError> {
        let before = self.wakes()?;
        let alive = match &self.runtime {
            Runtime::Real(runtime) => {
                // A timer is made inside of its runtime.
                runtime.block_on(async { tokio::time::sleep(time).await });
                runtime.metrics().num_alive_tasks()
            }
            Runtime::Virtual(system, runtime) => {
                let passed = system.run_for(time);
                passed.map_err(|e| SideError::new(e.to_string()))?;
                // One is the runtime's own.
                runtime.handle().metrics().num_alive_tasks() - 1
            }
        };
        if alive != 2 * self.count {
            return Err(SideError::new("a connection has ended"));
        }
        let after = self.wakes()?;
        let wakes = Wakes {
            polls: after.polls - before.polls,
            services: after.services - before.services,
        };
        Ok((after != before).then_some(wakes))
    }

    fn wakes(&self) -> Result<Wakes, SideError> {
        let mut services = 0;
        for vnet in &self.vnets {
            let stats = vnet.stats().map_err(|e| SideError::new(e.to_string()))?;
            services += stats.services;
        }
        Ok(Wakes {
            polls: self.polls.load(Ordering::Relaxed),
            services,
        })
    }
}

async fn open(
    [client, server]: &[OwnedVnet; 2],
    count: usize,
    polls: &Arc<AtomicU64>,
) -> std::io::Result<()> {
    let mut left = count;
    for port in 5001.. {
        let listener = TcpListener::bind_in(server, (SERVER, port))?;
        let mut of_this_port = left.min(OF_A_PORT);
        left -= of_this_port;
        while of_this_port > 0 {
            // The first one alone: few packets may wait for a neighbour's address.
            let wave = match of_this_port == count.min(OF_A_PORT) {
                true => 1,
                false => WAVE.min(of_this_port),
            };
            of_this_port -= wave;
            let opened: Vec<_> = (0..wave)
                .map(|_| {
                    let client = vnet::Vnet::clone(client);
                    let opened =
                        async move { TcpStream::connect_in(&client, (SERVER, port)).await };
                    tokio::spawn(opened)
                })
                .collect();
            for opened in opened {
                let (far, _) = listener.accept().await?;
                let near = opened.await.map_err(std::io::Error::other)??;
                for stream in [near, far] {
                    tokio::spawn(counted(wait(stream), Arc::clone(polls)));
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Waits for what never comes.
async fn wait(mut stream: TcpStream) {
    // Whatever ends it is noticed by its end.
    let _ = stream.read(&mut [0; 1]).await;
}

/// `future`, with its polls counted.
async fn counted<F: Future>(future: F, polls: Arc<AtomicU64>) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|task| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(task)
    })
    .await
}

/// What idle connections cost.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Figures {
    /// Always `async-idle`.
    pub case: &'static str,
    /// Open connections, both ends of which are in this process.
    pub connections: usize,
    /// Resident memory of each, in bytes: both ends in the stacks, both streams, and both tasks.
    pub bytes_each: u64,
    /// For how long they were watched, in seconds.
    pub seconds: f64,
    /// Polls of their tasks in that time.
    pub polls: u64,
    /// Services of their vnets in that time.
    pub services: u64,
}

/// Opens `count` connections under the threads driver, and watches them for `time`.
///
/// # Errors
/// When one cannot be opened, or ends.
pub fn measure(count: usize, time: Duration) -> Result<Figures, SideError> {
    let before = crate::instances::resident();
    let idle = Idle::in_real_time(count)?;
    let held = crate::instances::resident().saturating_sub(before);
    let wakes = idle.pass(time)?;
    Ok(Figures {
        case: "async-idle",
        connections: idle.count(),
        bytes_each: held / count as u64,
        seconds: time.as_secs_f64(),
        polls: wakes.map_or(0, |wakes| wakes.polls),
        services: wakes.map_or(0, |wakes| wakes.services),
    })
}

impl Figures {
    /// The figures as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers have a JSON form")
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let a_second = |times: u64| times as f64 / self.seconds;
        let mut table = Table::new();
        table
            .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
            .set_header([
                "case",
                "connections",
                "bytes each, resident",
                "tasks polled a second",
                "vnets serviced a second",
            ]);
        table.add_row([
            self.case.to_owned(),
            self.connections.to_string(),
            self.bytes_each.to_string(),
            a_second(self.polls).to_string(),
            a_second(self.services).to_string(),
        ]);
        table.to_string()
    }
}
