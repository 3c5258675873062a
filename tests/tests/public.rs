//! Promise: the library's face does not change unnoticed. Everything that can be named from outside,
//! items and their methods, variants, fields and constants, is in `tests/golden/public.txt`, one a line.
//! The list is read from what rustdoc makes of the crate, so it holds what macros make and nothing that
//! cannot be reached.
//!
//! When a change is meant, run `VNET_GOLDEN=update cargo test -p vnet-tests --test public` and commit
//! the file with the change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOW: &str = "if the change is meant, run \
    `VNET_GOLDEN=update cargo test -p vnet-tests --test public` and commit the file";

/// What begins on an item's page where its own members end: traits that it implements, and methods
/// that it has from others.
const ENDS: [&str; 6] = [
    "id=\"trait-implementations\"",
    "id=\"synthetic-implementations\"",
    "id=\"blanket-implementations\"",
    "id=\"foreign-impls\"",
    "id=\"implementors\"",
    "id=\"deref-methods-",
];

/// Kinds of members, by which their anchors begin.
const MEMBERS: [&str; 6] = [
    "method",
    "tymethod",
    "variant",
    "structfield",
    "associatedconstant",
    "associatedtype",
];

#[test]
fn the_public_items_are_those_in_the_file() {
    let found = items(&documentation());
    assert!(found.len() > 100, "rustdoc's pages are not understood");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/public.txt");
    if std::env::var("VNET_GOLDEN").as_deref() == Ok("update") {
        let text: String = found.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).expect("the file can be written");
        return;
    }
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let known: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:#?}\ngone: {gone:#?}\n{HOW}"
    );
}

/// Lets rustdoc make the library's pages, and says where they are.
fn documentation() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = tmp.parent().expect("it is in the target directory");
    let out = Command::new(env!("CARGO"))
        .args(["doc", "--package", "vnet", "--no-deps", "--lib"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "cargo doc failed:\n{told}");
    target.join("doc/vnet")
}

/// All items and their members. Pages of items that are gone may be left over: the list of all items
/// does not have them.
fn items(pages: &Path) -> BTreeSet<String> {
    let read = |page: &str| {
        let path = pages.join(page);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let mut items = BTreeSet::new();
    for page in after_each(&read("all.html"), "<li><a href=\"", "\"") {
        // Such as `capture/struct.Capture.html`.
        let (modules, file) = page.rsplit_once('/').unwrap_or(("", page));
        let parts = file.strip_suffix(".html").and_then(|f| f.split_once('.'));
        let Some((kind, name)) = parts else {
            continue;
        };
        let modules: String = modules
            .split_terminator('/')
            .fold(String::new(), |path, m| path + m + "::");
        let path = format!("{modules}{name}");
        items.insert(format!("{path} ({kind})"));
        let html = read(page);
        let end = ENDS.iter().filter_map(|mark| html.find(mark)).min();
        for id in after_each(&html[..end.unwrap_or(html.len())], " id=\"", "\"") {
            // Such as `method.validate`, and `variant.Reply.field.from`.
            let Some((kind, name)) = id.split_once('.').filter(|(k, _)| MEMBERS.contains(k)) else {
                continue;
            };
            let (kind, name) = match name.split_once(".field.") {
                Some((variant, field)) => ("field", format!("{variant}.{field}")),
                // The heading above a variant's fields.
                None if name.ends_with(".fields") => continue,
                None => (kind, name.to_owned()),
            };
            items.insert(format!("{path}.{name} ({kind})"));
        }
    }
    items
}

/// What stands between each `open` and the next `close`.
fn after_each<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    let pieces = text.split(open).skip(1);
    pieces.filter_map(move |piece| piece.split_once(close).map(|(found, _)| found))
}
