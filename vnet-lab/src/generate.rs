//! Topologies of any size, as the text of a file: rings, trees and random graphs of routers, each
//! with as many hosts behind a switch as one likes, and jobs that go over all of it.

use std::collections::BTreeSet;
use std::fmt::Write;

use vnet::Rng;

use crate::family::Family;

/// The most routers of one topology.
pub const MAX_ROUTERS: usize = 10_000;
/// The most hosts of one router: those that its /24 has addresses for.
pub const MAX_HOSTS: usize = 250;
/// The most flows.
pub const MAX_FLOWS: usize = 10_000;

/// How routers are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Each router is linked to the next one, and the last to the first.
    Ring,
    /// A binary tree.
    Tree,
    /// A tree in which each router is below a random one, and half as many links again between random
    /// routers.
    Random,
}

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// How routers are joined.
    pub shape: Shape,
    /// How many of them, 2 to [`MAX_ROUTERS`].
    pub routers: usize,
    /// Hosts on a LAN of each router, at most [`MAX_HOSTS`].
    pub hosts: usize,
    /// TCP transfers of 64 KiB between random nodes, all at once; at most [`MAX_FLOWS`].
    pub flows: usize,
    /// From which everything random follows.
    pub seed: u64,
    /// The versions of IP that every node speaks, at least one. With several, there is each ping for each of them;
    /// transfers use the first.
    pub families: Vec<Family>,
}

/// Why a topology cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A number of routers that is too small or too large.
    #[error("expected 2 to {MAX_ROUTERS} routers, found {0}")]
    Routers(usize),
    /// Too many hosts of each router.
    #[error("expected at most {MAX_HOSTS} hosts of each router, found {0}")]
    Hosts(usize),
    /// Too many flows.
    #[error("expected at most {MAX_FLOWS} flows, found {0}")]
    Flows(usize),
    /// No version of IP.
    #[error("expected at least one version of IP, found none")]
    Families,
}

/// The text of a topology file: routers `r0`, `r1`, ... with a job for each link in which one end
/// pings the other; with hosts, switches `s0`, ... and hosts `h0-0`, ..., each of which pings its
/// router.
///
/// # Errors
/// A number out of its range.
///
/// ```
/// use vnet_lab::{Family, Topology};
/// use vnet_lab::generate::{Shape, Spec, generate};
///
/// let families = vec![Family::V6];
/// let spec = Spec { shape: Shape::Ring, routers: 5, hosts: 2, flows: 3, seed: 1, families };
/// let text = generate(&spec)?;
/// let (topology, plan) = Topology::parse("ring.toml", &text)?;
/// assert_eq!((topology.nodes.len(), plan.links.len()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn generate(spec: &Spec) -> Result<String, GenerateError> {
    let Spec {
        shape,
        routers,
        hosts,
        flows,
        seed,
        ref families,
    } = *spec;
    if !(2..=MAX_ROUTERS).contains(&routers) {
        return Err(GenerateError::Routers(routers));
    }
    if hosts > MAX_HOSTS {
        return Err(GenerateError::Hosts(hosts));
    }
    if flows > MAX_FLOWS {
        return Err(GenerateError::Flows(flows));
    }
    if families.is_empty() {
        return Err(GenerateError::Families);
    }
    let mut rng = Rng::seeded(seed);
    let links = links(shape, routers, &mut rng.split(Label::Links as u64));
    Ok(text(spec, &links, &mut rng.split(Label::Flows as u64)))
}

/// Labels of the random streams.
#[derive(Clone, Copy)]
enum Label {
    Links = 1,
    Flows,
}

/// The pairs of routers that are linked, each with the smaller number first.
fn links(shape: Shape, routers: usize, rng: &mut Rng) -> BTreeSet<(usize, usize)> {
    let mut links = BTreeSet::new();
    for n in 1..routers {
        let above = match shape {
            Shape::Ring => n - 1,
            Shape::Tree => (n - 1) / 2,
            Shape::Random => below(rng, n),
        };
        links.insert((above, n));
    }
    match shape {
        Shape::Ring if routers > 2 => {
            links.insert((0, routers - 1));
        }
        Shape::Ring | Shape::Tree => {}
        Shape::Random => {
            for _ in 0..routers / 2 {
                let (a, b) = (below(rng, routers), below(rng, routers));
                if a != b {
                    links.insert((a.min(b), a.max(b)));
                }
            }
        }
    }
    links
}

fn text(spec: &Spec, links: &BTreeSet<(usize, usize)>, rng: &mut Rng) -> String {
    let (routers, hosts) = (spec.routers, spec.hosts);
    let quoted = |names: Vec<String>| names.join("\", \"");
    let mut out = format!(
        "name = \"{:?}-{routers}\"\nrouting = \"auto\"\nrouters = [\"{}\"]\n",
        spec.shape,
        quoted((0..routers).map(|n| format!("r{n}")).collect())
    )
    .to_lowercase();
    let host_names = (0..routers).flat_map(|n| (0..hosts).map(move |k| format!("h{n}-{k}")));
    let host_names: Vec<String> = host_names.collect();
    if hosts > 0 {
        let switches = (0..routers).map(|n| format!("s{n}")).collect();
        let _ = writeln!(out, "switches = [\"{}\"]", quoted(switches));
        let _ = writeln!(out, "hosts = [\"{}\"]", quoted(host_names.clone()));
    }
    out += "link = [\n";
    for (k, (a, b)) in links.iter().enumerate() {
        let [near, far] =
            [1, 2].map(|end| addresses(spec, |family| between_routers(family, k, end)));
        let _ = writeln!(
            out,
            "  {{ ends = [\"r{a}{near}\", \"r{b}{far}\"], delay = \"1ms\" }},"
        );
    }
    for n in 0..if hosts > 0 { routers } else { 0 } {
        let router = addresses(spec, |family| in_lan(family, n, 254));
        let _ = writeln!(out, "  {{ ends = [\"r{n}:lan{router}\", \"s{n}\"] }},");
        for k in 0..hosts {
            let host = addresses(spec, |family| in_lan(family, n, k + 1));
            let _ = writeln!(out, "  {{ ends = [\"h{n}-{k}{host}\", \"s{n}\"] }},");
        }
    }
    out += "]\njob = [\n";
    // One version is all that the nodes have, and needs no saying.
    let said = |family: &Family| match spec.families.len() {
        1 => String::new(),
        _ => format!(", family = \"{}\"", family.key()),
    };
    for over in spec.families.iter().map(said) {
        for (a, b) in links {
            let _ = writeln!(
                out,
                "  {{ ping = {{ from = \"r{a}\", to = \"r{b}\"{over}, count = 1 }} }},"
            );
        }
        for (n, k) in (0..routers).flat_map(|n| (0..hosts).map(move |k| (n, k))) {
            let _ = writeln!(
                out,
                "  {{ ping = {{ from = \"h{n}-{k}\", to = \"r{n}:lan\"{over}, count = 1 }} }},"
            );
        }
    }
    let nodes = match hosts {
        0 => (0..routers).map(|n| format!("r{n}")).collect(),
        _ => host_names,
    };
    for _ in 0..spec.flows {
        let from = below(rng, nodes.len());
        // Not to itself.
        let to = (from + 1 + below(rng, nodes.len() - 1)) % nodes.len();
        let _ = writeln!(
            out,
            "  {{ start = \"0s\", transfer = {{ from = \"{}\", to = \"{}\", size = \"64KiB\" }} }},",
            nodes[from], nodes[to]
        );
    }
    out += "]\n";
    out
}

/// An interface's addresses, each with a space before it.
fn addresses(spec: &Spec, of: impl Fn(Family) -> String) -> String {
    spec.families
        .iter()
        .map(|family| format!(" {}", of(*family)))
        .collect()
}

/// The address of an end, 1 or 2, of the link number `k` between routers.
fn between_routers(family: Family, k: usize, end: u8) -> String {
    match family {
        // A /30 of 10.128.0.0/9 each.
        Family::V4 => {
            let [_, x, y, z] = (k as u32 * 4).to_be_bytes();
            format!("10.{}.{y}.{}/30", x | 128, z + end)
        }
        Family::V6 => format!("2001:db8:1:{k:x}::{end}/64"),
    }
}

/// The address of a station of the LAN at the router number `n`.
fn in_lan(family: Family, n: usize, station: usize) -> String {
    match family {
        // A /24 of 10.0.0.0/9 each.
        Family::V4 => format!("10.{}.{}.{station}/24", n / 256, n % 256),
        Family::V6 => format!("2001:db8:0:{n:x}::{station:x}/64"),
    }
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    let bound = u32::try_from(bound).expect("no topology has that many nodes");
    rng.below(bound) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Topology;
    use crate::report::Layout;
    use crate::run::Options;

    fn spec(shape: Shape) -> Spec {
        Spec {
            shape,
            routers: 12,
            hosts: 2,
            flows: 10,
            seed: 3,
            families: vec![Family::V4],
        }
    }

    #[test]
    fn every_job_of_each_shape_passes() {
        for shape in [Shape::Ring, Shape::Tree, Shape::Random] {
            let families = [&[Family::V4][..], &[Family::V6], &[Family::V6, Family::V4]];
            for (hosts, families) in [0, 2].into_iter().flat_map(|n| families.map(|f| (n, f))) {
                let spec = Spec {
                    hosts,
                    families: families.to_vec(),
                    ..spec(shape)
                };
                let text = generate(&spec).expect("all in range");
                let (_, plan) = Topology::parse("t.toml", &text).unwrap_or_else(|e| panic!("{e}"));
                assert!(plan.jobs.len() >= families.len() * (11 + 12 * hosts) + 10);
                let options = Options {
                    seed: 1,
                    ..Options::default()
                };
                let report = crate::run(&plan, &options, Arc::new(|_| {})).expect("a run");
                assert!(report.passed, "{}", report.to_text(Layout::default()));
            }
        }
    }

    #[test]
    fn equal_specs_give_equal_texts_and_other_seeds_others() {
        let one = spec(Shape::Random);
        let other = Spec {
            seed: 4,
            ..one.clone()
        };
        assert_eq!(generate(&one), generate(&one));
        assert_ne!(generate(&one), generate(&other));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let of = |routers, hosts, flows| {
            generate(&Spec {
                routers,
                hosts,
                flows,
                ..spec(Shape::Ring)
            })
        };
        assert_eq!(of(1, 0, 0), Err(GenerateError::Routers(1)));
        assert_eq!(of(10_001, 0, 0), Err(GenerateError::Routers(10_001)));
        assert_eq!(of(2, 251, 0), Err(GenerateError::Hosts(251)));
        assert_eq!(of(2, 0, 10_001), Err(GenerateError::Flows(10_001)));
        assert!(of(2, 0, 0).is_ok());
        let neither = generate(&Spec {
            families: Vec::new(),
            ..spec(Shape::Ring)
        });
        assert_eq!(neither, Err(GenerateError::Families));
    }
}
