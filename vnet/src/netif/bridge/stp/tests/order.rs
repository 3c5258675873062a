//! Ports that come up in any order: what the first of two says is lost, and they agree all the same as soon as the last one
//! is there, not at the next hello.

use super::*;

const DELAY: Duration = Duration::from_micros(50);

/// Of two bridges, the first one is better. Returns the time from when the later end is up until the last port has changed its
/// state.
fn two(first: usize, gap: Duration) -> Duration {
    let mut net = Net::new(
        &[bridge_id(1, 0x8000), bridge_id(2, 0x8000)],
        RstpConfig::default(),
    );
    let link = net.link([0, 1], [2_000; 2], DELAY);
    let ends = net.links[link].ends;
    net.port_up(ends[first]);
    net.run_for(gap);
    let up = net.now;
    net.port_up(ends[1 - first]);
    net.run_for(Duration::from_secs(10));
    net.check_tree();
    net.last_change - up
}

#[test]
fn two_bridges_agree_when_the_later_end_is_up() {
    for gap in [0, 1, 500, 1_500, 2_500].map(Duration::from_millis) {
        // It proposes, and the worse one agrees.
        assert_eq!(two(1, gap), 2 * DELAY, "{gap:?}");
        // What the better one proposed was lost: it answers the worse one with it.
        let trips = if gap.is_zero() { 2 } else { 3 };
        assert_eq!(two(0, gap), trips * DELAY, "{gap:?}");
    }
    // The first end has taken whoever is there for hosts, and forwards.
    for first in [0, 1] {
        assert_eq!(two(first, Duration::from_secs(5)), 2 * DELAY);
    }
}

/// All orders of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last);
    let with_last = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    shorter.iter().flat_map(with_last).collect()
}

#[test]
fn a_ring_agrees_when_its_last_port_is_up_in_whatever_order_they_come() {
    let all = orders(6);
    assert_eq!(all.len(), 720);
    // What was proposed a little earlier counts as on its way, so an agreement could be as late: how many gaps and trips pass
    // until one counts, at the most.
    for (gap, gaps, trips) in [(0, 0, 3), (10, 3, 7), (500, 0, 4)] {
        let gap = Duration::from_millis(gap);
        let mut slowest = Duration::ZERO;
        for order in &all {
            let ids = [1, 2, 3].map(|n| bridge_id(n, 0x8000));
            let mut net = Net::new(&ids, RstpConfig::default());
            for bridges in [[0, 1], [0, 2], [1, 2]] {
                net.link(bridges, [2_000; 2], DELAY);
            }
            let ends: Vec<End> = net.links.iter().flat_map(|link| link.ends).collect();
            for end in order {
                net.run_for(gap);
                net.port_up(ends[*end]);
            }
            let up = net.now;
            net.run_for(Duration::from_secs(1));
            net.check_tree();
            slowest = slowest.max(net.last_change - up);
        }
        assert_eq!(slowest, gaps * gap + trips * DELAY, "{gap:?}");
    }
}
