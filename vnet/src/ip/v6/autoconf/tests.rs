//! Addresses that hosts give themselves, and what routers say of links.

use super::*;
use crate::ip::redirected::MAX_REDIRECTED;
use crate::ip::testing::interfaces;
use crate::packet::header::ra::{Prefix, Route};

impl Autoconf {
    /// By the word of a router of which nothing else is known.
    fn hears(&mut self, now: Instant, on: (IfId, &str), router: Ipv6Addr, advert: &Advert) {
        self.heard(now, on, router, advert, |_| false);
    }
}

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

fn net(text: &str) -> Ipv6Net {
    text.parse().expect("a prefix")
}

fn says(lifetime: u16, prefixes: &[(&str, u32)]) -> Advert {
    Advert {
        hop_limit: 0,
        preference: Preference::Medium,
        lifetime,
        reachable: 0,
        retrans: 0,
        source: None,
        mtu: None,
        prefixes: prefixes
            .iter()
            .map(|(prefix, valid)| Prefix {
                net: net(prefix),
                is_on_link: true,
                is_autonomous: true,
                valid: *valid,
                preferred: 0,
            })
            .collect(),
        ..Advert::default()
    }
}

fn wanted(auto: &Autoconf) -> Routes<V6> {
    auto.wanted(|_| true, |_, _| true)
}

fn router(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 1, 0, 0, 0, 0, 0, n)
}

#[test]
fn what_was_said_is_over_in_time() {
    let [a, b] = interfaces();
    let mut auto = Autoconf::new(1);
    auto.hears(
        at(0),
        (a, "eth0"),
        router(1),
        &says(30, &[("2001:db8:1::/64", 60)]),
    );
    let wanted_at_first = wanted(&auto);
    assert_eq!(wanted_at_first[&net("::/0")], (a, Some(router(1))));
    assert_eq!(wanted_at_first[&net("2001:db8:1::/64")], (a, None));
    let all: Vec<_> = auto.addresses().collect();
    assert_eq!(all.len(), 1);
    assert!(net("2001:db8:1::/64").contains(&all[0].1));
    assert_eq!(auto.next_deadline(), Some(at(30)));
    assert!(auto.take_due(at(30)).is_empty());
    assert_eq!(wanted(&auto).len(), 1);
    // The same address whoever says so; another one on another interface.
    auto.hears(
        at(40),
        (a, "eth0"),
        router(2),
        &says(0, &[("2001:db8:1::/64", 60)]),
    );
    assert_eq!(auto.addresses().collect::<Vec<_>>(), all);
    auto.take_due(at(100));
    assert_eq!((wanted(&auto).len(), auto.addresses().count()), (0, 0));
    auto.hears(
        at(200),
        (b, "eth1"),
        router(2),
        &says(9, &[("2001:db8:1::/64", 60)]),
    );
    assert_ne!(
        auto.addresses().next().map(|(_, addr)| addr),
        Some(all[0].1)
    );
    auto.remove_interface(b);
    assert_eq!(auto.next_deadline(), None);
}

#[test]
fn an_address_is_not_cut_short() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    let prefix = "2001:db8:1::/64";
    auto.hears(
        at(0),
        (a, "eth0"),
        router(1),
        &says(0, &[(prefix, FOREVER)]),
    );
    assert_eq!(auto.next_deadline(), None);
    auto.hears(at(1), (a, "eth0"), router(1), &says(0, &[(prefix, 0)]));
    assert!(wanted(&auto).is_empty(), "it is not on the link any more");
    assert_eq!(auto.next_deadline(), Some(at(7201)));
    auto.hears(at(9), (a, "eth0"), router(1), &says(0, &[(prefix, 1)]));
    // It is on the link again, for a second.
    assert_eq!(auto.next_deadline(), Some(at(10)));
    auto.take_due(at(10));
    assert_eq!(auto.next_deadline(), Some(at(7201)));
}

#[test]
fn floods_meet_bounds_and_the_better_router_is_taken() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    for n in 1..=100 {
        let prefix = format!("2001:db8:{n:x}::/64");
        let mut advert = says(100, &[(&prefix, 100)]);
        let route = Route {
            net: net(&format!("2001:db9:{n:x}::/48")),
            preference: Preference::Medium,
            lifetime: 100,
        };
        advert.routes.push(route);
        auto.hears(at(0), (a, "eth0"), router(n), &advert);
    }
    assert_eq!(auto.addresses().count(), MAX_EACH);
    assert_eq!(wanted(&auto).len(), 1 + 2 * MAX_EACH);
    assert_eq!(auto.routers.len(), MAX_ROUTERS);
    let better = Advert {
        preference: Preference::High,
        ..says(100, &[])
    };
    auto.hears(at(0), (a, "eth0"), router(3), &better);
    assert_eq!(wanted(&auto)[&net("::/0")], (a, Some(router(3))));
    // What is nobody's to give.
    auto.reset();
    for prefix in ["fe80::/64", "ff02::/64", "::/64"] {
        auto.hears(at(0), (a, "eth0"), router(1), &says(0, &[(prefix, 100)]));
    }
    assert!(wanted(&auto).is_empty() && auto.addresses().next().is_none());
}

#[test]
fn nothing_is_heard_of_prefixes_that_are_of_one_link_or_no_network() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    let taken = |auto: &mut Autoconf, text: &str| {
        auto.reset();
        let mut advert = says(0, &[(text, 100)]);
        advert.routes.push(Route {
            net: net(text),
            preference: Preference::Medium,
            lifetime: 100,
        });
        auto.hears(at(0), (a, "eth0"), router(1), &advert);
        !wanted(auto).is_empty()
    };
    for text in [
        "fe80:2::/65",
        "fe80::/9",
        "febf::/16",
        "8000::/1",
        "fc00::/6",
        "ff05::/16",
        "ff0e::/16",
        "ff00::/8",
        "::/96",
        "::1/128",
        "::/3",
        "::ffff:0:0/96",
    ] {
        assert!(!taken(&mut auto, text), "{text}");
    }
    for text in ["2000::/3", "2001:db8::/32", "fc00::/7", "64:ff9b::/96"] {
        assert!(taken(&mut auto, text), "{text}");
    }
}

// A draw of 64 bits hits neither of the reserved ranges once in a lifetime of tests: they are put before it.
#[test]
fn identifiers_that_are_reserved_are_drawn_again_and_differ() {
    let auto = Autoconf::new(1);
    let reserved = [
        0,
        0x0200_5eff_fe00_0000,
        0x0200_5eff_fe00_5212,
        0xfdff_ffff_ffff_ff80,
        u64::MAX,
        u64::MAX - 1,
    ];
    let drawn: BTreeSet<u64> = reserved.iter().map(|id| auto.unreserved(*id)).collect();
    assert_eq!(drawn.len(), reserved.len());
    assert!(drawn.iter().all(|id| !is_reserved(*id)));
    for free in [1, 0x0200_5eff_fe00_5213, 0xfdff_ffff_ffff_ff7f] {
        assert_eq!(auto.unreserved(free), free);
    }
    // The whole upper half is as likely as the lower one.
    let upper = (0..1000).filter(|n| {
        let net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, *n, 0, 0, 0, 0), 64);
        auto.stable("eth0", net) >= 0xfe00_0000_0000_0000
    });
    assert!(
        upper.count() <= 1,
        "identifiers of that range are the reserved ones"
    );
}

#[test]
fn another_address_is_chosen_for_one_that_somebody_has_three_times() {
    let [a, b] = interfaces();
    let mut auto = Autoconf::new(1);
    auto.hears(
        at(0),
        (a, "eth0"),
        router(1),
        &says(9, &[("2001:db8:1::/64", 60)]),
    );
    let mut all = BTreeSet::new();
    for n in 0..=IDGEN_RETRIES {
        let (_, addr) = auto.addresses().next().expect("there is one");
        assert!(net("2001:db8:1::/64").contains(&addr) && all.insert(addr));
        assert!(!auto.choose_again(b, addr));
        assert_eq!(auto.choose_again(a, addr), n < IDGEN_RETRIES);
    }
    assert_eq!(auto.next_deadline(), Some(at(9)), "as long as was said");
}

/// RFC 4862 section 5.5.4.
#[test]
fn an_address_is_deprecated_before_it_is_over() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    let mut advert = says(0, &[("2001:db8:1::/64", 100)]);
    advert.prefixes[0].preferred = 60;
    auto.hears(at(0), (a, "eth0"), router(1), &advert);
    let (ifid, addr) = auto.addresses().next().expect("it has one");
    assert_eq!(auto.derived(ifid, addr), None, "nobody has added it yet");
    auto.assigned.insert((ifid, addr));
    assert_eq!(auto.derived(ifid, addr), Some(Derived::Preferred));
    assert_eq!(auto.next_deadline(), Some(at(60)));
    auto.take_due(at(60));
    assert_eq!(auto.derived(ifid, addr), Some(Derived::Deprecated));
    assert_eq!(auto.next_deadline(), Some(at(100)));
    // Its router prefers it again, and then no more, at once.
    auto.hears(at(61), (a, "eth0"), router(1), &advert);
    assert_eq!(auto.derived(ifid, addr), Some(Derived::Preferred));
    advert.prefixes[0].preferred = 0;
    auto.hears(at(62), (a, "eth0"), router(1), &advert);
    assert_eq!(auto.derived(ifid, addr), Some(Derived::Deprecated));
    assert_eq!(auto.derived(ifid, Ipv6Addr::LOCALHOST), None);
    auto.forget_link(a);
    assert_eq!((auto.len(), auto.deprecated.len()), (0, 0));
}

// One station by many names, and many short promises.
#[test]
fn short_promises_keep_no_router_out_that_is_there() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    let ours = says(1800, &[("2001:db8:99::/64", 86_400)]);
    let is_there = |by| by == router(99);
    auto.heard(at(0), (a, "eth0"), router(99), &ours, is_there);
    for second in 0..5 {
        for n in 1..=40 {
            let prefix = format!("2001:db8:{n:x}::/64");
            let short = says(1, &[(&prefix, 1)]);
            auto.heard(at(second), (a, "eth0"), router(n), &short, is_there);
        }
        assert!(auto.is_router(a, router(99)), "it stays");
        assert!(wanted(&auto).contains_key(&net("2001:db8:99::/64")));
        let prefix = net("2001:db8:99::/64");
        assert!(auto.addresses().any(|(_, addr)| prefix.contains(&addr)));
    }
    // And one that comes later gets in.
    let late = says(1800, &[("2001:db8:98::/64", 86_400)]);
    auto.heard(at(5), (a, "eth0"), router(98), &late, is_there);
    assert!(auto.is_router(a, router(98)));
    assert!(wanted(&auto).contains_key(&net("2001:db8:98::/64")));
    assert!(auto.routers.len() <= MAX_ROUTERS && auto.on_link.len() <= MAX_EACH);
    // A router that says a great deal leaves room for others, though it is there.
    let many: Vec<_> = (0..16).map(|n| format!("2001:db8:a{n:x}::/64")).collect();
    let many: Vec<_> = many.iter().map(|net| (&**net, FOREVER)).collect();
    let mut auto = Autoconf::new(1);
    auto.heard(at(0), (a, "eth0"), router(99), &says(1800, &many), is_there);
    auto.heard(at(1), (a, "eth0"), router(98), &late, is_there);
    assert!(wanted(&auto).contains_key(&net("2001:db8:98::/64")));
    assert_eq!(
        (auto.on_link.len(), auto.addresses.len()),
        (MAX_EACH, MAX_EACH)
    );
}

#[test]
fn a_station_that_promised_for_ever_keeps_no_router_out() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    for n in 1..=20 {
        let prefix = format!("2001:db8:{n:x}::/64");
        auto.hears(
            at(0),
            (a, "eth0"),
            router(n),
            &says(u16::MAX, &[(&prefix, FOREVER)]),
        );
    }
    auto.hears(
        at(1),
        (a, "eth0"),
        router(99),
        &says(1800, &[("2001:db8:99::/64", 86_400)]),
    );
    assert!(auto.is_router(a, router(99)));
    assert_eq!(auto.routers.len(), MAX_ROUTERS);
    assert_eq!(wanted(&auto)[&net("2001:db8:99::/64")], (a, None));
    assert_eq!(auto.on_link.len(), MAX_EACH);
}

#[test]
fn a_router_is_taken_that_can_be_reached() {
    let [a, b] = interfaces();
    let mut auto = Autoconf::new(1);
    auto.hears(
        at(0),
        (a, "eth0"),
        router(1),
        &says(60, &[("2001:db8:1::/64", 60)]),
    );
    auto.hears(
        at(0),
        (b, "eth1"),
        router(2),
        &says(60, &[("2001:db8:1::/64", 60)]),
    );
    let default = net("::/0");
    let link = net("2001:db8:1::/64");
    let up = auto.wanted(|_| true, |_, _| true);
    assert_eq!((up[&default], up[&link]), ((a, Some(router(1))), (a, None)));
    let down = auto.wanted(|on| on != a, |_, _| true);
    assert_eq!(
        (down[&default], down[&link]),
        ((b, Some(router(2))), (b, None))
    );
    let silent = auto.wanted(|_| true, |_, by| by != router(1));
    assert_eq!(
        (silent[&default], silent[&link]),
        ((b, Some(router(2))), (a, None))
    );
    // Who says so is taken for none any more (RFC 4861 section 7.2.5).
    assert!(auto.retire(a, router(1)) && !auto.retire(a, router(1)));
    assert_eq!(wanted(&auto)[&default], (b, Some(router(2))));
}

#[test]
fn redirects_are_bounded_and_end() {
    let [a, b] = interfaces();
    let mut auto = Autoconf::new(1);
    let far = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, n);
    for n in 1..=100 {
        auto.redirected
            .put(at(u64::from(n)), a, far(n), Some(router(n % 2)));
    }
    assert_eq!(auto.redirected.routes().count(), MAX_REDIRECTED);
    assert!(
        auto.redirected
            .routes()
            .all(|(net, _)| net.addr() > far(36)),
        "the oldest give way"
    );
    assert!(!auto.redirected.forget_hop(b, router(1)) && auto.redirected.forget_hop(a, router(1)));
    assert_eq!(auto.redirected.routes().count(), MAX_REDIRECTED / 2);
    auto.redirected.put(at(100), a, far(1), None);
    assert!(
        auto.redirected.forget_hop(a, far(1)),
        "it is itself the first hop"
    );
    auto.take_due(at(699));
    assert_eq!(auto.redirected.routes().count(), 1);
    auto.take_due(at(700));
    assert_eq!(
        (auto.redirected.routes().count(), auto.next_deadline()),
        (0, None)
    );
}

#[test]
fn what_is_said_of_the_route_to_everywhere_counts_more_than_the_header() {
    let [a, _] = interfaces();
    let mut auto = Autoconf::new(1);
    auto.accept = Accept::Advertisements;
    auto.ask(a);
    let mut advert = says(60, &[]);
    advert.routes.push(Route {
        net: net("::/0"),
        preference: Preference::Low,
        lifetime: 0,
    });
    auto.hears(at(0), (a, "eth0"), router(1), &advert);
    assert!(wanted(&auto).is_empty());
    assert!(!auto.asking.is_empty(), "no router is known yet");
    advert.routes[0].lifetime = 60;
    auto.hears(at(0), (a, "eth0"), router(1), &advert);
    auto.hears(at(0), (a, "eth0"), router(2), &says(60, &[]));
    assert_eq!(wanted(&auto)[&net("::/0")], (a, Some(router(2))));
    assert!(auto.asking.is_empty());
}

#[test]
fn routers_are_asked_for_three_times() {
    let [a, b] = interfaces();
    let mut auto = Autoconf::new(1);
    auto.ask(a);
    assert_eq!(auto.next_deadline(), None, "nobody is to be obeyed");
    auto.accept = Accept::Advertisements;
    auto.ask(a);
    auto.ask(b);
    // RFC 4861 section 6.3.7: one that is no default router ends no search for one.
    auto.hears(at(0), (a, "eth0"), router(1), &says(0, &[]));
    auto.hears(at(0), (b, "eth1"), router(1), &says(u16::MAX, &[]));
    assert_eq!(auto.take_due(at(0)), [a]);
    for secs in [4, 8] {
        assert_eq!(auto.next_deadline(), Some(at(secs)));
        assert_eq!(auto.take_due(at(secs)), [a]);
    }
    assert_eq!(auto.next_deadline(), Some(at(65_535)));
}
