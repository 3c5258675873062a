//! Public crates, unmodified, on a vnet's sockets: in virtual time, across a link that loses one frame in a hundred and
//! delays each by 40 ms, twice with the same outcome; and on threads.
//!
//! | file | what |
//! |---|---|
//! | `http` | hyper's server, HTTP/1 and HTTP/2; clients: hyper-util's `Client` with a connector, h2 |
//! | `websocket` | tokio-tungstenite |
//! | `tls` | tokio-rustls |
//! | `quic` | quinn, on a `UdpSocket` |
//!
//! Where a crate draws random numbers of its own (TLS, QUIC, the masks of WebSocket), bytes differ from run to run. What
//! is compared then is everything but the bytes: how many frames of which sizes passed each end, and when all was over.

#[path = "../common/mod.rs"]
mod common;
mod http;
mod quic;
mod tls;
mod websocket;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use vnet::{IfCounters, LinkConfig, OwnedVnet, System};
use vnet_tokio::Runtime;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The server's address.
const SERVER: &str = "192.0.2.2:443";

/// How long one waits for an answer that takes longer, and how long that takes.
#[derive(Clone, Copy)]
struct Patience {
    limit: Duration,
    answer: Duration,
}

impl Patience {
    /// Checks that `slow` is not done within the limit, to the millisecond where time is simulated.
    async fn runs_out(self, slow: impl Future) {
        let start = Instant::now();
        assert!(timeout(self.limit, slow).await.is_err());
        assert!(start.elapsed() >= self.limit);
        if self.limit >= Duration::from_secs(1) {
            // tokio's timers end with the millisecond.
            assert!(start.elapsed() <= self.limit + Duration::from_millis(1));
        }
    }
}

/// What is compared of two runs.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Of every frame's bytes, if these are the same.
    fingerprint: Option<String>,
    counters: Vec<IfCounters>,
    ended: vnet::time::Instant,
}

fn outcome(system: &System, ends: [&OwnedVnet; 2]) -> Outcome {
    let counters = ends.map(|vnet| vnet.interfaces().expect("it is there")[1].counters);
    Outcome {
        fingerprint: system.fingerprint().map(|sum| sum.to_string()),
        counters: counters.to_vec(),
        ended: system.now(),
    }
}

/// Whether two runs have the same bytes.
#[derive(Clone, Copy, PartialEq)]
enum Bytes {
    Same,
    Random,
}

/// Runs `serve` on one end of a link and `ask` on the other one.
fn run<S, C>(
    system: &System,
    link: &LinkConfig,
    patience: Patience,
    serve: fn(Patience) -> S,
    ask: fn(Patience) -> C,
) -> Outcome
where
    S: Future<Output = Result<(), Error>> + Send + 'static,
    C: Future<Output = Result<(), Error>>,
{
    let (a, b) = common::pair(system, link);
    let (client, server) = (Runtime::new(&a).unwrap(), Runtime::new(&b).unwrap());
    let served = server.spawn(serve(patience));
    let asked = client.block_on(async { ask(patience).await });
    asked.unwrap().unwrap();
    assert!(!served.is_finished(), "it would serve others, too");
    let outcome = outcome(system, [&a, &b]);
    drop((client, server));
    outcome
}

/// The exchange in virtual time, twice; another seed loses other frames.
fn in_virtual_time<S, C>(bytes: Bytes, serve: fn(Patience) -> S, ask: fn(Patience) -> C)
where
    S: Future<Output = Result<(), Error>> + Send + 'static,
    C: Future<Output = Result<(), Error>>,
{
    let patience = Patience {
        limit: Duration::from_secs(20),
        answer: Duration::from_secs(60),
    };
    let run = |seed| {
        let system = System::virtual_time(seed);
        if bytes == Bytes::Same {
            system.record_fingerprint();
        }
        run(&system, &common::lossy(), patience, serve, ask)
    };
    let first = run(1);
    assert!(first.ended >= vnet::time::Instant::ZERO + Duration::from_secs(20));
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

/// The exchange in real time.
fn on_threads<S, C>(serve: fn(Patience) -> S, ask: fn(Patience) -> C)
where
    S: Future<Output = Result<(), Error>> + Send + 'static,
    C: Future<Output = Result<(), Error>>,
{
    let patience = Patience {
        limit: Duration::from_millis(20),
        answer: Duration::from_secs(3600),
    };
    run(
        &System::threads(),
        &LinkConfig::default(),
        patience,
        serve,
        ask,
    );
}

/// Connects. On threads the server may not be there yet.
async fn connect() -> Result<vnet_tokio::net::TcpStream, Error> {
    loop {
        match vnet_tokio::net::TcpStream::connect(SERVER).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            connected => return Ok(connected?),
        }
    }
}

/// What is sent to be counted or returned: much enough to lose something.
fn much() -> Vec<u8> {
    (0..150_000_u32).map(|n| (n % 251) as u8).collect()
}
