//! `scale`: rings, trees and random networks of 10, 100 and 1 000 routers in virtual time, and how
//! long 1 000 hosts take to start.
//!
//! ```text
//! cargo run --release -p vnet-benches --bin scale
//! cargo run --release -p vnet-benches --bin scale -- --shape ring --nodes 10,1000 --json
//! ```

use std::error::Error;
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};
use vnet_benches::scale::graph::Shape;
use vnet_benches::scale::report::{Line, phases, relate, startups, table};
use vnet_benches::scale::traffic::MAX_REACH;
use vnet_benches::scale::{startup, trial};

/// Large networks in virtual time: every router pings its neighbours, then TCP flows between random
/// pairs. Fails when anything does not arrive.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What the networks look like.
    #[arg(long, value_delimiter = ',', default_values = ["ring", "tree", "random"])]
    shape: Vec<ShapeName>,
    /// How many routers they have.
    #[arg(long, value_delimiter = ',', default_values = ["10", "100", "1000"])]
    nodes: Vec<usize>,
    /// Routers below each router of a tree.
    #[arg(long, default_value_t = 4)]
    fan_out: usize,
    /// TCP flows in each network.
    #[arg(long, default_value_t = 100)]
    flows: usize,
    /// Bytes of each flow.
    #[arg(long, default_value_t = 1_000_000)]
    bytes: usize,
    /// Links between the ends of a flow, at most. With a small number, large networks do the same
    /// as small ones, only in more places.
    #[arg(long, default_value_t = MAX_REACH)]
    reach: usize,
    /// From which everything random follows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of each network; the fastest is reported. Every run does the same, so what it takes
    /// longer is what else the machine does.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Hosts whose start is timed; 0 leaves it out.
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// Run every network in this process: for a profiler. Figures of memory then depend on what
    /// ran before.
    #[arg(long)]
    here: bool,
    /// One JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShapeName {
    Ring,
    Tree,
    Random,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("scale: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut lines = Vec::new();
    for name in &arguments.shape {
        for nodes in &arguments.nodes {
            lines.push(fastest(arguments, *name, *nodes)?);
        }
    }
    relate(&mut lines);
    let mut starts = Vec::new();
    if arguments.hosts > 0 {
        starts.push(startup::by_api(arguments.hosts)?);
        starts.push(startup::by_toml(arguments.hosts)?);
    }
    if arguments.json {
        lines.iter().for_each(|line| println!("{}", line.json()));
        for start in &starts {
            println!("{}", serde_json::to_string(start)?);
        }
        return Ok(());
    }
    if !lines.is_empty() {
        println!("{}\n{}", table(&lines), phases(&lines));
    }
    if !starts.is_empty() {
        println!("{}", startups(&starts));
    }
    Ok(())
}

fn fastest(arguments: &Arguments, name: ShapeName, nodes: usize) -> Result<Line, Box<dyn Error>> {
    let run = || match arguments.here {
        true => here(arguments, name, nodes),
        false => apart(arguments, name, nodes),
    };
    let mut best = run()?;
    for _ in 1..arguments.runs {
        let line = run()?;
        if line.totals != best.totals {
            return Err(format!("two runs of the {} of {nodes} routers differ", best.shape).into());
        }
        if line.ns_per_event < best.ns_per_event {
            best = line;
        }
    }
    Ok(best)
}

fn here(arguments: &Arguments, name: ShapeName, nodes: usize) -> Result<Line, Box<dyn Error>> {
    let load = trial::Load {
        shape: match name {
            ShapeName::Ring => Shape::Ring,
            ShapeName::Tree => Shape::Tree {
                fan_out: arguments.fan_out,
            },
            ShapeName::Random => Shape::Random,
        },
        routers: nodes,
        flows: arguments.flows,
        bytes: arguments.bytes,
        reach: arguments.reach,
        seed: arguments.seed,
    };
    Ok(Line::new(&load, &trial::run(&load)?))
}

/// Runs one network in a process of its own, whose memory is that of this network only.
fn apart(arguments: &Arguments, name: ShapeName, nodes: usize) -> Result<Line, Box<dyn Error>> {
    let shape = name.to_possible_value().expect("no shape is skipped");
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "--here",
        "--json",
        "--hosts",
        "0",
        "--shape",
        shape.get_name(),
    ]);
    let numbers = [
        ("--nodes", nodes as u64),
        ("--fan-out", arguments.fan_out as u64),
        ("--flows", arguments.flows as u64),
        ("--bytes", arguments.bytes as u64),
        ("--reach", arguments.reach as u64),
        ("--seed", arguments.seed),
    ];
    for (key, value) in numbers {
        command.arg(key).arg(value.to_string());
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        let shape = shape.get_name();
        return Err(format!("the {shape} of {nodes} routers failed").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
