//! What works in IPv4 works in IPv6, and in both at once: the topologies of this package, with other addresses.

mod in_ipv6;
mod running;

use in_ipv6::{in_both, in_ipv6};
use running::{DRIVERS, at_once, example, imunes, options, passes, run};
use vnet_lab::run::{CaptureSettings, Driver, Options};
use vnet_lab::{Family, TRIANGLE};

/// All jobs of a text over one family.
fn over(family: &str, text: &str) -> String {
    text.replace("{ from = ", &format!("{{ family = \"{family}\", from = "))
}

/// The examples, but for those whose figures their own tests look at.
fn examples() -> Vec<String> {
    let read = |file| std::fs::read_to_string(file).expect("readable");
    let mut examples: Vec<String> = imunes().iter().map(read).collect();
    examples.push(example("lagg.toml"));
    examples
}

#[test]
fn each_example_passes_in_ipv6_under_both_drivers() {
    let examples = examples();
    assert!(examples.len() >= 9, "{}", examples.len());
    at_once(&examples, |text| {
        let text = in_ipv6(text);
        for driver in DRIVERS {
            let report = passes(&text, &options(driver, 1));
            assert!(report.jobs.iter().all(|job| job.family == Family::V6));
        }
    });
}

/// Both families on the same links: each job passes over either.
#[test]
fn each_example_passes_over_either_family_where_both_are() {
    // Where a text has addresses elsewhere than at ends, two cannot stand for one.
    let of_ends = |text: &String| !text.contains("routes =") && !text.contains("vlan =");
    let examples: Vec<String> = examples().into_iter().filter(of_ends).collect();
    assert!(examples.len() >= 7, "{}", examples.len());
    for text in examples {
        for (key, family) in [("v4", Family::V4), ("v6", Family::V6)] {
            let report = passes(&over(key, &in_both(&text)), &options(Driver::Virtual, 1));
            assert!(report.jobs.iter().all(|job| job.family == family));
        }
    }
}

#[test]
fn the_built_in_topology_passes_in_either_family_and_in_both_at_once() {
    let both = in_both(TRIANGLE);
    let texts = [
        in_ipv6(TRIANGLE),
        over("v4", &both),
        over("v6", &both),
        both,
    ];
    at_once(&texts, |text| {
        for driver in DRIVERS {
            passes(text, &options(driver, 1));
        }
    });
}

/// Everything that is written is the same for equal seeds: the report, and the frames themselves.
#[test]
fn equal_seeds_give_equal_bytes_in_ipv6() {
    let text = over("v6", &in_both(TRIANGLE));
    let run = |seed| {
        let directory = tempfile::tempdir().expect("a directory");
        let report = passes(
            &text,
            &Options {
                capture: CaptureSettings {
                    directory: Some(directory.path().to_owned()),
                    ..CaptureSettings::default()
                },
                ..options(Driver::Virtual, seed)
            },
        );
        let files = std::fs::read_dir(directory.path()).expect("a directory");
        let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
        files.sort();
        assert_eq!(files.len(), 7);
        let bytes: Vec<Vec<u8>> = files
            .iter()
            .map(|f| std::fs::read(f).expect("it"))
            .collect();
        (report.to_json(), bytes)
    };
    let first = run(1);
    assert!(first.0.contains(r#""family":"v6""#), "{}", first.0);
    assert_eq!(first, run(1));
    assert_ne!(first.0, run(2).0);
}

/// Beside IPv6, IPv4 takes the ways that it takes alone; and a report of IPv4 alone says nothing of families.
#[test]
fn the_ways_of_one_family_do_not_depend_on_the_other() {
    let alone = passes(TRIANGLE, &options(Driver::Virtual, 1));
    let beside = passes(
        &over("v4", &in_both(TRIANGLE)),
        &options(Driver::Virtual, 1),
    );
    for (one, other) in alone.jobs.iter().zip(&beside.jobs) {
        if let vnet_lab::report::Figures::Traceroute(hops) = &one.figures {
            let same = vnet_lab::report::Figures::Traceroute(hops.clone());
            assert_eq!(same, other.figures);
        }
    }
    assert!(!alone.to_json().contains("family"));
}

/// Routes over link-local gateways, which any link may have: the interface says which one is meant.
#[test]
fn a_link_local_gateway_is_one_on_its_link() {
    let text = "routers = ['r']\nlink = [\n\
        { ends = ['a fe80::a/64 2001:db8::1/64', 'r fe80::1/64 2001:db8::2/64'] },\n\
        { ends = ['r fe80::1/64 2001:db8:0:1::2/64', 'b fe80::a/64 2001:db8:0:1::1/64'] }]\n\
        job = [{ traceroute = { from = 'a', to = 'b', expect = ['r', 'b'] } }]\n\
        [node.a]\nroutes = ['::/0 via fe80::1 dev eth0']\n\
        [node.b]\nroutes = ['default via fe80::1 dev eth0']\n";
    passes(text, &options(Driver::Virtual, 1));
}

/// Packets without fragments on their way: a router says what its link takes, and the sender keeps to it.
#[test]
fn the_smallest_link_of_a_path_is_found() {
    let text = "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r']\nlink = [\n\
        { ends = ['a 2001:db8::1/64', 'r 2001:db8::2/64'] },\n\
        { ends = [{ node = 'r', address = '2001:db8:0:1::2/64', ip_mtu = 1280 }, \
          { node = 'b', address = '2001:db8:0:1::1/64', ip_mtu = 1280 }] }]\n\
        job = [{ transfer = { from = 'a', to = 'b', size = '256KiB' } },\n\
        { ping = { from = 'a', to = 'b', count = 3, bytes = 4000 } },\n\
        { ping = { from = 'b', to = 'a', count = 3, bytes = 65507, max_loss = '0%' } }]";
    passes(text, &options(Driver::Virtual, 1));
}

/// A request that must not be fragmented does not get through a link that is too narrow, and it is said who says so.
#[test]
fn a_ping_that_must_not_be_fragmented_says_what_the_path_takes() {
    let text = |job: &str| {
        format!(
            "routing = 'auto'\nhosts = ['a', 'b']\nrouters = ['r']\n\
             [[link]]\nends = ['a 192.0.2.1/30', 'r 192.0.2.2/30']\n\
             [[link]]\nends = [{{ node = 'r', address = '192.0.2.5/30', ip_mtu = 1400 }}, \
             {{ node = 'b', address = '192.0.2.6/30', ip_mtu = 1400 }}]\n\
             [[job]]\nping = {{ from = 'a', to = 'b', count = 1, {job} }}\n"
        )
        .replace('\'', "\"")
    };
    for family in [Family::V4, Family::V6] {
        let of = |job: &str| match family {
            Family::V4 => text(job),
            Family::V6 => in_ipv6(&text(job)),
        };
        for driver in DRIVERS {
            passes(
                &of("bytes = 1300, dont_fragment = true"),
                &options(driver, 1),
            );
        }
        if family == Family::V4 {
            passes(&of("bytes = 1400"), &options(Driver::Virtual, 1));
        }
        let long = of("bytes = 1400, dont_fragment = true");
        let report = run(&long, &options(Driver::Virtual, 1));
        assert!(!report.passed);
        let reason = report.jobs[0].reason.as_deref().expect("it failed");
        let said = "no answer in time: the path takes 1400 bytes, says r";
        assert!(reason.starts_with(said), "{reason}");
    }
}
