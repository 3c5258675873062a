//! The examples in `docs/topology.md` are valid topologies, and the table of errors is no tale.

use vnet_lab::Topology;

const PAGE: &str = include_str!("../../docs/topology.md");

/// The blocks between "```toml" and "```".
fn examples() -> Vec<&'static str> {
    let blocks = PAGE.split("```toml\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

#[test]
fn the_examples_are_valid() {
    let examples = examples();
    assert_eq!(examples.len(), 6);
    for source in examples {
        if let Err(invalid) = Topology::parse("docs/topology.md", source) {
            panic!("{invalid}\n{source}");
        }
    }
}

#[test]
fn the_readme_shows_the_short_example() {
    let block = format!("```toml\n{}```", examples()[0]);
    assert!(include_str!("../../README.md").contains(&block));
}

#[test]
fn the_short_example_has_ten_lines() {
    assert_eq!(examples()[0].lines().count(), 10);
}

#[test]
fn the_error_shown_is_the_error_given() {
    let source = "\n\nrouting = 'auto'\nhosts = ['a', 'b']\n\n\
        link = [{ ends = [\"a 192.0.2.1/24\", \"b 198.51.100.1/24\"], rate = \"1Gbit\" }]\n";
    let invalid = Topology::parse("two.toml", source).expect_err("two prefixes");
    let shown = invalid.to_string();
    let shown = shown.rsplit_once('\n').expect("a last line").0;
    assert!(PAGE.contains(shown), "the page does not show\n{shown}");
}
