//! `instances`: what an instance costs in memory and in time.
//!
//! ```text
//! cargo run --release -p vnet-benches --bin instances
//! cargo run --release -p vnet-benches --bin instances -- --count 10000
//! ```

use std::alloc::System as Malloc;
use std::process::ExitCode;
use std::time::Instant;

use cap::Cap;
use clap::Parser;
use vnet::{SocketKind, System};
use vnet_benches::compare::SideError;
use vnet_benches::instances::{
    Crowd, Lifetime, Population, lifetime, namespaces, resident, unshare,
};

#[global_allocator]
static ALLOCATOR: Cap<Malloc> = Cap::new(Malloc, usize::MAX);

/// Namespaces that are made to be compared with.
const NAMESPACES: usize = 20;

/// Measures memory and time of instances.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Idle instances to make.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// Connections of the instance that is destroyed.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=16_000))]
    connections: u64,
    /// How many of them are in TIME-WAIT.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=16_000))]
    time_wait: u64,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("instances: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), SideError> {
    let count = arguments.count as usize;
    let few = lifetime(&System::manual(1))?;
    print("alone", few);

    let (before, live) = (resident(), allocated());
    let started = Instant::now();
    let population = Population::new(count)?;
    let took = started.elapsed();
    let each = |now: u64, before: u64| now.saturating_sub(before) / count as u64;
    println!(
        "{count} idle instances (lo0, one address more): {} B resident, {} B allocated each \
         (aim: 8192), made in {took:.2?}",
        each(resident(), before),
        each(allocated(), live),
    );
    let many = lifetime(&population.system)?;
    print(&format!("among {count}"), many);
    let started = Instant::now();
    drop(population);
    println!(
        "all {count} destroyed: {:.2} us each, {} B allocated left",
        started.elapsed().as_secs_f64() * 1e6 / count as f64,
        allocated().saturating_sub(live),
    );

    match (unshare(NAMESPACES), namespaces(NAMESPACES)) {
        (Ok(bare), Ok(full)) => {
            println!(
                "network namespace: unshare {bare:.0} us; with loopback up {:.0} us, let go \
                 {:.0} us; an instance is made {:.0} times as fast as the bare one",
                full.create_micros,
                full.destroy_micros,
                bare / many.create_micros
            );
        }
        (Err(e), _) | (_, Err(e)) => println!("SKIPPED: network namespaces: {e}"),
    }

    let crowd = Crowd::new(arguments.connections as usize, arguments.time_wait as usize)?;
    let sockets = crowd
        .client
        .sockets()
        .map_err(|e| SideError::new(e.to_string()))?;
    let waiting = sockets
        .iter()
        .filter(|s| {
            format!("{:?}", s.kind) == "Tcp(TimeWait)" && matches!(s.kind, SocketKind::Tcp(_))
        })
        .count();
    let (report, took) = crowd.destroy()?;
    println!(
        "instance with {} connections, {waiting} of them in TIME-WAIT, destroyed in {took:.2?}: \
         no time passed in its own clock, {} packets and {} deadlines released",
        report.released.connections(),
        report.released.packets(),
        report.released.deadlines(),
    );
    Ok(())
}

fn print(where_: &str, lifetime: Lifetime) {
    println!(
        "create {:.2} us, destroy {:.2} us {where_} (aim: 10 each)",
        lifetime.create_micros, lifetime.destroy_micros
    );
}

/// Bytes that are allocated and not freed.
fn allocated() -> u64 {
    ALLOCATOR.allocated() as u64
}
