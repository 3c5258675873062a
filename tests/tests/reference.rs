//! Promise: `docs/reference.md` lists every tunable and every reason for a drop, as the code has them.
//!
//! After a change of either run `VNET_GOLDEN=update cargo test -p vnet-tests --test reference` and commit
//! the page with the change.

use std::fmt::Write as _;
use std::path::Path;

use vnet::{DropReason, sysctl};

const HEAD: &str = "\
# Reference

This page is written by a test, which fails when it is not what the code says:

```text
VNET_GOLDEN=update cargo test -p vnet-tests --test reference
```
";

/// Where the reasons and their descriptions stand.
const STATS: &str = include_str!("../../vnet/src/base/stats.rs");

#[test]
fn the_page_says_what_the_code_has() {
    let page = format!("{HEAD}\n{}\n{}", tunables(), drop_reasons());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    if std::env::var("VNET_GOLDEN").as_deref() == Ok("update") {
        std::fs::write(&file, page).expect("the page can be written");
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference.md is stale; run \
         `VNET_GOLDEN=update cargo test -p vnet-tests --test reference`"
    );
}

fn tunables() -> String {
    let mut text = String::from(
        "## Tunables\n\n\
         Set with `Vnet::set_sysctl`; see [tenancy.md](tenancy.md#tunables).\n\n\
         | name | what | unit | least | most | default | access |\n|---|---|---|---|---|---|---|\n",
    );
    for name in sysctl::Description::names("") {
        let d = sysctl::Description::of(name).expect("a name just listed");
        let bound = |n: u64| match n {
            u64::MAX => "none".to_owned(),
            n => n.to_string(),
        };
        let (least, most) = (bound(d.least), bound(d.most));
        let (text_of, unit, default, access) = (d.text, d.unit, d.default, d.access);
        writeln!(
            text,
            "| `{name}` | {text_of} | {unit} | {least} | {most} | {default} | {access:?} |"
        )
        .expect("a string takes it");
    }
    text
}

fn drop_reasons() -> String {
    let mut text = String::from(
        "## Reasons for a drop\n\n\
         Each dropped packet is counted under one of them (`Stats::rx_drops`, `Stats::tx_drops`), and captures show the \
         word.\n\n| word | when |\n|---|---|\n",
    );
    for reason in DropReason::ALL {
        let word = reason.as_str();
        let line = format!(" = \"{word}\",");
        let before = STATS.split_once(&line).expect("declared there").0;
        let comments = before.lines().rev().skip(1);
        let mut said: Vec<&str> = comments
            .map_while(|line| line.trim().strip_prefix("/// "))
            .collect();
        said.reverse();
        writeln!(text, "| `{word}` | {} |", said.join(" ")).expect("a string takes it");
    }
    text
}
