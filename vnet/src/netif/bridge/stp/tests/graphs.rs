//! Random graphs: they converge, after a cut and a repair, too, and frames never circulate.

use super::*;

/// Graphs that are tried, unless the environment says how many.
const GRAPHS: u64 = 1_000;
const MAX_BRIDGES: usize = 60;

/// The slowest that the standard allows, so that paths may be as long as it allows.
fn slowest() -> RstpConfig {
    RstpConfig {
        max_age: Duration::from_secs(40),
        forward_delay: Duration::from_secs(21),
        ..RstpConfig::default()
    }
}

/// What is old has expired, and whoever did not get an agreement has listened and learned.
fn bound() -> Duration {
    let RstpConfig {
        max_age,
        forward_delay,
        ..
    } = slowest();
    max_age + 2 * forward_delay
}

fn random_graph(seed: u64) -> Net {
    let mut rng = Rng::seeded(seed);
    let count = 2 + pick(&mut rng, MAX_BRIDGES - 1);
    let mut ids: Vec<BridgeIdentifier> = (0..count)
        .map(|n| bridge_id(n, [0x4000, 0x8000, 0x8000][pick(&mut rng, 3)]))
        .collect();
    for n in (1..count).rev() {
        ids.swap(n, pick(&mut rng, n + 1));
    }
    let mut net = Net::new(&ids, slowest());
    let link = |net: &mut Net, rng: &mut Rng, a: usize, b: usize| {
        let mut cost = || [200, 2_000, 2_000, 20_000][pick(rng, 4)];
        let costs = [cost(), cost()];
        let delay = Duration::from_nanos(1_000 + u64::from(rng.below(3_000_000)));
        net.link([a, b], costs, delay);
    };
    // Mostly connected, mostly not deep.
    for n in 1..count {
        if !rng.chance(0.02) {
            let to = pick(&mut rng, n);
            link(&mut net, &mut rng, n, to);
        }
    }
    for _ in 0..pick(&mut rng, 2 * count) {
        let a = pick(&mut rng, count);
        let b = (a + 1 + pick(&mut rng, count - 1)) % count;
        link(&mut net, &mut rng, a, b);
    }
    net
}

struct Times {
    start: Duration,
    cut: Duration,
    repair: Duration,
}

/// Starts a graph, cuts a link and repairs it; how long the last change of a port's state took each time.
fn live(seed: u64) -> Option<(Times, u64)> {
    let mut net = random_graph(seed);
    let mut rng = Rng::seeded(seed ^ 0x5eed);
    if net.links.is_empty() {
        return None;
    }
    for link in 0..net.links.len() {
        net.run_for(Duration::from_millis(rng.below(50).into()));
        if rng.chance(0.5) {
            net.set_up(link, true);
            continue;
        }
        // One end after the other.
        for end in net.links[link].ends {
            net.port_up(end);
            net.run_for(Duration::from_millis(rng.below(500).into()));
        }
    }
    // Beyond the maximum age nobody hears of the root.
    if net.expected().iter().any(|(_, _, hops)| *hops >= 39) {
        return None;
    }
    let settle = |net: &mut Net| {
        let start = net.now;
        net.run_for(bound());
        net.check_tree();
        net.last_change - start
    };
    let start = settle(&mut net);
    let cut = pick(&mut rng, net.links.len());
    net.set_up(cut, false);
    let after_cut = settle(&mut net);
    net.set_up(cut, true);
    let repair = settle(&mut net);
    let times = Times {
        start,
        cut: after_cut,
        repair,
    };
    Some((times, net.history))
}

#[test]
fn random_graphs_converge_and_frames_never_circulate() {
    let graphs = std::env::var("VNET_STP_GRAPHS").ok();
    let graphs = graphs.map_or(GRAPHS, |n| n.parse().expect("a number of graphs"));
    let mut worst = [Duration::ZERO; 3];
    let mut lived = 0;
    for seed in 0..graphs {
        if let Some((Times { start, cut, repair }, _)) = live(seed) {
            lived += 1;
            for (worst, took) in worst.iter_mut().zip([start, cut, repair]) {
                *worst = took.max(*worst);
            }
        }
    }
    println!("{lived} graphs; slowest start, cut and repair: {worst:?}");
    assert!(lived * 10 >= graphs * 9);
}

#[test]
fn the_same_seed_makes_the_same_tree_in_the_same_steps() {
    for seed in 0..5 {
        let history = |seed| live(seed).map(|(_, history)| history);
        assert_eq!(history(seed), history(seed));
    }
}
