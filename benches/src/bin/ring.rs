//! How fast virtual time is: rings of routers in which each pings both its neighbours, with the
//! events, the wall time and the events a second. Linear is good: the last column stays the same.

use std::future::poll_fn;
use std::time::{Duration, Instant as Wall};

use clap::Parser;
use comfy_table::Table;
use vnet::net::{EchoEvent, EchoSocket};
use vnet::{Forwarding, LinkConfig, OwnedVnet, RunLimit, System};

#[derive(Parser)]
struct Args {
    /// Routers in the ring.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    nodes: Vec<usize>,
    /// Requests to each neighbour.
    #[arg(long, default_value_t = 100)]
    pings: u16,
}

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let mut table = Table::new();
    table.set_header(["nodes", "start-up", "events", "wall time", "events/s"]);
    for nodes in args.nodes {
        let from = Wall::now();
        let system = System::virtual_time(1);
        let ring = ring(&system, nodes)?;
        let start_up = from.elapsed();
        let mut tasks = Vec::new();
        for (n, router) in ring.iter().enumerate() {
            for to in [address((n + nodes - 1) % nodes, 1), address(n, 2)] {
                tasks.push(router.spawn_future(ping(to, args.pings)));
            }
        }
        let from = Wall::now();
        let events = system.run_until_idle(RunLimit::default())?;
        let took = from.elapsed();
        for task in tasks {
            assert_eq!(task.join()??, args.pings, "no answer is lost");
        }
        table.add_row([
            nodes.to_string(),
            format!("{start_up:.1?}"),
            events.to_string(),
            format!("{took:.1?}"),
            format!("{:.0}", events as f64 / took.as_secs_f64()),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// End `end` (1 or 2) of the link from router `n` to the next one.
fn address(n: usize, end: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(10, (n >> 8) as u8, n as u8, end)
}

fn ring(system: &System, nodes: usize) -> Result<Vec<OwnedVnet>, Error> {
    let routers: Result<Vec<OwnedVnet>, _> = (0..nodes)
        .map(|n| system.create(&format!("r{n}")))
        .collect();
    let routers = routers?;
    let link = LinkConfig {
        delay: Duration::from_millis(1),
        ..LinkConfig::default()
    };
    for (n, router) in routers.iter().enumerate() {
        let next = &routers[(n + 1) % nodes];
        router.set_forwarding(Forwarding::Enabled)?;
        router.epair("next", next, "prev")?;
        router.add_address("next", ipnet::Ipv4Net::new(address(n, 1), 24)?.into())?;
        next.add_address("prev", ipnet::Ipv4Net::new(address(n, 2), 24)?.into())?;
        router.set_link("next", link.clone())?;
        next.set_link("prev", link.clone())?;
    }
    Ok(routers)
}

/// Requests, one after the other; how many were answered.
async fn ping(to: std::net::Ipv4Addr, count: u16) -> std::io::Result<u16> {
    let socket = EchoSocket::bind()?;
    let mut answered = 0;
    for seq in 0..count {
        socket.send_to(seq, &[0; 56], to.into())?;
        let (event, _) = poll_fn(|cx| socket.poll_recv(cx)).await?;
        answered += u16::from(matches!(event, EchoEvent::Reply { .. }));
    }
    Ok(answered)
}
