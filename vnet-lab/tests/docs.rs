//! The examples in `docs/topology.md` are valid topologies, and what it shows of the command is true.

use std::process::Command;

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
    assert_eq!(examples.len(), 12);
    for source in examples {
        if let Err(invalid) = Topology::parse("docs/topology.md", source) {
            panic!("{invalid}\n{source}");
        }
    }
}

/// The options of a command, as its help lists them.
fn options(command: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_vnet"))
        .args([command, "--help"])
        .output()
        .expect("it starts");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = help.lines().map(str::trim);
    let options = lines.filter(|line| line.starts_with('-'));
    let options = options.filter_map(|line| line.split([' ', ',']).find(|w| w.starts_with("--")));
    options
        .filter(|o| *o != "--help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_synopsis_has_every_command_and_its_options() {
    let synopsis = PAGE.split("```").nth(1).expect("a synopsis");
    let commands = [
        "run",
        "check",
        "generate",
        "show",
        "record",
        "replay",
        "completions",
        "man",
    ];
    for command in commands {
        let line = format!("vnet {command} ");
        let (_, of_command) = synopsis
            .split_once(&line)
            .unwrap_or_else(|| panic!("{command}"));
        let end = of_command.find("\nvnet ").unwrap_or(of_command.len());
        let shown = &of_command[..end];
        let options = options(command);
        assert_eq!(
            shown.matches("--").count(),
            options.len(),
            "{command}: {options:?}"
        );
        for option in options {
            assert!(
                shown.contains(&option),
                "{command} {option} is not in the synopsis"
            );
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
