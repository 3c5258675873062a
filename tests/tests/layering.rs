//! The code is built as `docs/architecture.md` says: its tables of imports and quarantines, the
//! list of files with `unsafe` in `CONTRIBUTING.md`, and the length of files.

#[path = "layering/loops.rs"]
mod loops;
#[path = "layering/scan.rs"]
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use scan::{TestItem, code_only, paths, without_tests, words};

/// Lines a file may have before its tests.
const MAX_LINES: usize = 800;

/// Files that may import each other in a loop.
const MAX_LOOP: usize = 2;

/// Crates to which the quarantines apply.
const SHIPPED: [&str; 6] = [
    "vnet/src",
    "vnet-tap/src",
    "vnet-tokio/src",
    "vnet-ready/src",
    "vnet-dns/src",
    "vnet-lab/src",
];

#[test]
fn layers_import_only_what_the_table_allows() {
    let rules = Rules::read();
    let tree = Tree::read(&["vnet/src"]);
    assert!(tree.files.len() > 50, "the library's files were not found");
    let offences = tree.check(|file| rules.imports(file));
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_long_loop() {
    let of = |folder: &&str| loops::loops(&loops::arrows(&Tree::read(&[folder])));
    let loops: Vec<BTreeSet<String>> = SHIPPED.iter().flat_map(of).collect();
    let offences = too_long_loops(&loops);
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

/// The library as it is, but for one import more.
#[test]
fn a_planted_import_is_found() {
    let rules = Rules::read();
    let offences = |from: &str, import: &str| {
        let mut tree = Tree::read(&["vnet/src"]);
        let file = tree.files.iter_mut().find(|f| f.path == from);
        file.expect("there is such a file").source.push_str(import);
        let loops = loops::loops(&loops::arrows(&tree));
        let by_table = tree.check(|file| rules.imports(file));
        (by_table.len(), too_long_loops(&loops).len())
    };
    let from = "vnet/src/base/slab.rs";
    assert_eq!(offences(from, ""), (0, 0));
    assert_eq!(offences(from, "use crate::stack::Stack;"), (1, 1));
    let from = "vnet/src/packet/checksum.rs";
    assert_eq!(offences(from, "use crate::netif::IfTable;"), (1, 1));
}

#[test]
fn every_layer_of_the_table_exists() {
    let rules = Rules::read();
    let tree = Tree::read(&["vnet/src"]);
    let there: BTreeSet<&str> = tree.files.iter().filter_map(|f| f.layer()).collect();
    let named: BTreeSet<&str> = rules.layers.keys().map(String::as_str).collect();
    assert_eq!(named, there, "the table and vnet/src name different layers");
}

#[test]
fn names_in_quarantine_stay_there() {
    let rules = Rules::read();
    let tree = Tree::read(&SHIPPED);
    let offences = tree.check(|file| rules.quarantine(file));
    assert!(offences.is_empty(), "{}", offences.join("\n"));
    for place in rules.quarantines.iter().flat_map(|q| &q.only_in) {
        assert!(
            root().join(place).exists(),
            "{place} is quarantined, but not there"
        );
    }
}

/// A simulation that is the same every run has three enemies: the wall clock, the identity of
/// threads, and the order of hash maps. The tables keep all of them, and the operating system's
/// randomness, out of every file of every protocol.
#[test]
fn no_clock_thread_or_hash_order_can_enter() {
    let rules = Rules::read();
    let ways_in = [
        "use std::time::Instant;",
        "fn f() -> u64 { std::time::SystemTime::now().into() }",
        "fn f() { std::thread::sleep(D); }",
        "use std::thread; fn f() { thread::current().id(); }",
        "use std::thread::ThreadId;",
        "fn f() { std::thread::available_parallelism(); }",
        "thread_local! { static N: u8 = 0; }",
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet};",
        "use std::collections::hash_map::Entry;",
        "use std::hash::RandomState;",
        "use std::hash::DefaultHasher;",
        "use foldhash::fast::FixedState;",
        "fn f() -> u64 { rand::random() }",
        "fn f() { getrandom::fill(&mut B); }",
        "fn f() { std::env::var(\"SEED\"); }",
    ];
    let tree = Tree::read(&["vnet/src"]);
    let protocols = ["link", "netif", "neigh", "ip", "icmp", "transport", "stack"];
    let is_protocol = |f: &&File| f.layer().is_some_and(|l| protocols.contains(&l));
    let files: Vec<&File> = tree.files.iter().filter(is_protocol).collect();
    assert!(files.len() > 30, "the protocols were not found");
    for file in files {
        for source in ways_in {
            let infected = File {
                path: file.path.clone(),
                source: source.to_owned(),
                is_test: false,
            };
            assert!(
                !rules.quarantine(&infected).is_empty(),
                "{}: {source}",
                file.path
            );
        }
    }
}

/// All crates, with their tests.
const EVERYTHING: [&str; 8] = [
    "vnet",
    "vnet-tap",
    "vnet-tokio",
    "vnet-ready",
    "vnet-dns",
    "vnet-lab",
    "tests",
    "benches",
];

#[test]
fn unsafe_is_where_it_is_said_to_be() {
    let contributing = read(&root().join("CONTRIBUTING.md"));
    let listed = listed_unsafe(&contributing);
    assert!(
        !listed.is_empty(),
        "CONTRIBUTING.md lists no file with unsafe"
    );
    let found: BTreeSet<String> = Tree::read(&EVERYTHING)
        .files
        .into_iter()
        .filter(|f| words(&code_only(&f.source)).any(|w| w == "unsafe"))
        .map(|f| f.path)
        .collect();
    assert_eq!(
        listed, found,
        "CONTRIBUTING.md (left) and the code (right) differ"
    );
}

#[test]
fn files_are_short_enough_to_read() {
    let tree = Tree::read(&EVERYTHING);
    let offences = tree.check(|file| too_long(file).into_iter().collect());
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_document_with_rust_in_it_is_a_doctest() {
    let libraries = [
        "vnet/src/lib.rs",
        "vnet-tap/src/lib.rs",
        "vnet-tokio/src/lib.rs",
        "vnet-ready/src/lib.rs",
        "vnet-dns/src/lib.rs",
    ];
    let lib = libraries.map(|lib| read(&root().join(lib))).concat();
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).expect("docs can be listed") {
        let name = entry.expect("docs can be listed").file_name();
        documents.push(format!("docs/{}", name.to_string_lossy()));
    }
    for document in documents.iter().filter(|d| d.ends_with(".md")) {
        if read(&root().join(document)).contains("```rust") {
            let include = format!("include_str!(\"../../{document}\")");
            assert!(
                lib.contains(&include),
                "none of {libraries:?} includes {document}"
            );
        }
    }
}

/// A source file.
struct File {
    /// From the root of the workspace, with `/`.
    path: String,
    source: String,
    /// Compiled for tests only.
    is_test: bool,
}

impl File {
    /// The layer of the library that it is in; `None` for `lib.rs` and other crates.
    fn layer(&self) -> Option<&str> {
        let first = self.path.strip_prefix("vnet/src/")?.split('/').next()?;
        match first.strip_suffix(".rs").unwrap_or(first) {
            "lib" => None,
            layer => Some(layer),
        }
    }

    /// Modules between the root of the crate and this file's items.
    fn depth(&self) -> usize {
        let inner = self.path.split("src/").nth(1).unwrap_or(&self.path);
        match inner.rsplit('/').next() {
            Some("mod.rs" | "lib.rs" | "main.rs") => inner.split('/').count() - 1,
            _ => inner.split('/').count(),
        }
    }

    /// The paths in it, tests left out.
    fn paths(&self) -> Vec<scan::Path> {
        paths(&without_tests(&code_only(&self.source)).0)
    }
}

struct Tree {
    files: Vec<File>,
}

impl Tree {
    /// Every Rust file below `folders`.
    fn read(folders: &[&str]) -> Tree {
        let mut files = Vec::new();
        for folder in folders {
            walk(&root().join(folder), &mut files);
        }
        let tests: Vec<String> = files.iter().flat_map(test_modules).collect();
        for file in &mut files {
            let within = |module: &String| {
                let rest = file.path.strip_prefix(module.as_str());
                rest.is_some_and(|r| r == ".rs" || r.starts_with('/'))
            };
            file.is_test = tests.iter().any(within);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { files }
    }

    fn check(&self, rule: impl FnMut(&File) -> Vec<String>) -> Vec<String> {
        self.files.iter().flat_map(rule).collect()
    }
}

fn walk(folder: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("folders can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let inside = path.strip_prefix(root()).expect("below the root");
            files.push(File {
                source: read(&path),
                path: inside.to_string_lossy().replace('\\', "/"),
                is_test: false,
            });
        }
    }
}

/// The paths of the modules that `#[cfg(test)] mod name;` in `file` declares, without extension.
fn test_modules(file: &File) -> Vec<String> {
    let folder = match file.path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    let (_, items) = without_tests(&code_only(&file.source));
    items
        .into_iter()
        .filter_map(|item| match item {
            TestItem::File(name) => Some(format!("{folder}/{name}")),
            TestItem::Inline => None,
        })
        .collect()
}

fn too_long(file: &File) -> Option<String> {
    let tests_at = file
        .source
        .find("\n#[cfg(test)]\nmod ")
        .unwrap_or(file.source.len());
    let lines = file.source[..tests_at].lines().count();
    (lines > MAX_LINES).then(|| format!("{}: {lines} lines, at most {MAX_LINES}", file.path))
}

/// Loops of more files than may import each other.
fn too_long_loops(loops: &[BTreeSet<String>]) -> Vec<String> {
    let offences = loops.iter().filter(|set| set.len() > MAX_LOOP);
    offences
        .map(|set| {
            let files: Vec<&str> = set.iter().map(String::as_str).collect();
            format!(
                "{} files import each other: {}",
                set.len(),
                files.join(", ")
            )
        })
        .collect()
}

/// The tables of `docs/architecture.md`.
struct Rules {
    layers: BTreeMap<String, BTreeSet<String>>,
    quarantines: Vec<Quarantine>,
}

struct Quarantine {
    name: Vec<String>,
    only_in: Vec<String>,
}

impl Rules {
    fn read() -> Rules {
        let rules = Rules::parse(&read(&root().join("docs/architecture.md")));
        assert!(rules.layers.len() > 5, "the table of layers was not found");
        assert!(
            rules.quarantines.len() > 5,
            "the table of quarantines was not found"
        );
        rules
    }

    fn parse(document: &str) -> Rules {
        let layers = table(document, "| layer | may import |")
            .into_iter()
            .map(|row| {
                (
                    quoted(&row[0]).concat(),
                    quoted(&row[1]).into_iter().collect(),
                )
            })
            .collect();
        let quarantines = table(document, "| name | only in |")
            .into_iter()
            .flat_map(|row| {
                let only_in = quoted(&row[1]);
                quoted(&row[0]).into_iter().map(move |name| Quarantine {
                    name: name.split("::").map(str::to_owned).collect(),
                    only_in: only_in.clone(),
                })
            })
            .collect();
        Rules {
            layers,
            quarantines,
        }
    }

    /// The imports of `file` that its row does not allow.
    fn imports(&self, file: &File) -> Vec<String> {
        let Some(layer) = file.layer().filter(|_| !file.is_test) else {
            return Vec::new();
        };
        let Some(allowed) = self.layers.get(layer) else {
            return vec![format!(
                "{}: layer `{layer}` is not in the table",
                file.path
            )];
        };
        let mut offences = Vec::new();
        for path in file.paths() {
            let Some(named) = named_layer(file, &path.segments) else {
                continue;
            };
            if named != layer && !allowed.contains(named) {
                let (at, line) = (&file.path, path.line);
                offences.push(format!("{at}:{line}: `{layer}` may not import `{named}`"));
            }
        }
        offences.dedup();
        offences
    }

    /// The names in `file` that belong elsewhere.
    fn quarantine(&self, file: &File) -> Vec<String> {
        if file.is_test {
            return Vec::new();
        }
        let mut offences = Vec::new();
        let paths = file.paths();
        for q in &self.quarantines {
            let at_home = q.only_in.iter().any(|place| is_within(&file.path, place));
            for path in paths.iter().filter(|_| !at_home) {
                if q.names(&path.segments) || q.names_through_import(&path.segments, &paths) {
                    let name = q.name.join("::");
                    let (at, line) = (&file.path, path.line);
                    offences.push(format!("{at}:{line}: `{name}` belongs elsewhere"));
                }
            }
        }
        offences
    }
}

impl Quarantine {
    /// True when `path` names it, or imports everything that it is among.
    fn names(&self, path: &[String]) -> bool {
        match path.split_last() {
            Some((last, module)) if last == "*" => {
                self.name.starts_with(module) && module.len() < self.name.len()
            }
            _ => path.starts_with(&self.name),
        }
    }

    /// True when `path` imports a module that it is in, and another path of the file names it
    /// through that: `use std::time;` and `time::Instant`.
    fn names_through_import(&self, path: &[String], all: &[scan::Path]) -> bool {
        if path.len() < 2 || path.len() >= self.name.len() || !self.name.starts_with(path) {
            return false;
        }
        let rest = &self.name[path.len() - 1..];
        all.iter().any(|p| p.segments.starts_with(rest))
    }
}

fn is_within(file: &str, place: &str) -> bool {
    match place.ends_with('/') {
        true => file.starts_with(place),
        false => file == place,
    }
}

/// The first module below the root of the library that a path names, if it starts there.
fn named_layer<'a>(file: &File, segments: &'a [String]) -> Option<&'a str> {
    let start = match segments.first()?.as_str() {
        "crate" => 1,
        "super" => {
            let ups = segments.iter().take_while(|s| *s == "super").count();
            if ups < file.depth() {
                return None;
            }
            ups
        }
        "self" if segments.get(1)? == "super" => {
            return named_layer(file, &segments[1..]);
        }
        _ => return None,
    };
    segments.get(start).map(String::as_str)
}

/// The rows of the Markdown table whose header begins with `header`.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    document
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// What stands in backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The files listed in the table of `CONTRIBUTING.md`.
fn listed_unsafe(document: &str) -> BTreeSet<String> {
    let rows = table(document, "| file with `unsafe` |");
    rows.iter().flat_map(|row| quoted(&row[0])).collect()
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the package is in the workspace")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The rules can be broken: each is shown a file that does.
mod offences {
    use super::*;

    const DOCUMENT: &str = "\
| layer | may import | what it is |
|---|---|---|
| `base` | — | ground |
| `ip` | `base` | the layer tested |

| name | only in | why |
|---|---|---|
| `smoltcp` | `vnet/src/packet/` | |
| `std::time::Instant`, `std::time::SystemTime` | `vnet/src/clock.rs` | |
";

    fn file(path: &str, source: &str) -> File {
        File {
            path: path.to_owned(),
            source: source.to_owned(),
            is_test: false,
        }
    }

    fn imports(path: &str, source: &str) -> Vec<String> {
        Rules::parse(DOCUMENT).imports(&file(path, source))
    }

    fn quarantine(path: &str, source: &str) -> Vec<String> {
        Rules::parse(DOCUMENT).quarantine(&file(path, source))
    }

    #[test]
    fn an_import_of_a_higher_layer_is_found() {
        let found = imports(
            "vnet/src/ip/fib.rs",
            "use std::fmt;\nuse crate::stack::Stack;\n",
        );
        assert_eq!(found, ["vnet/src/ip/fib.rs:2: `ip` may not import `stack`"]);
        let sources = [
            "use crate::{base::time, stack::{self, rx}};",
            "fn f() -> crate::stack::Stack { g::<crate::base::X>() }",
            "use super::super::stack::Stack;",
            "use self::super::super::stack::Stack;",
            "use crate::*;",
            "type T = crate::System;",
            "fn f<'a>(x: &'a crate::stack::Stack) {}",
            "const C: char = '\"'; use crate::stack::X; const S: &str = \"\";",
        ];
        for source in sources {
            assert_eq!(imports("vnet/src/ip/fib.rs", source).len(), 1, "{source}");
        }
        assert_eq!(imports("vnet/src/ip.rs", "use super::stack::X;").len(), 1);
        assert_eq!(
            imports("vnet/src/ip/mod.rs", "use super::stack::X;").len(),
            1
        );
        assert_eq!(
            imports("vnet/src/new.rs", "").len(),
            1,
            "a layer without a row"
        );
    }

    #[test]
    fn what_is_allowed_or_no_code_is_not_found() {
        let sources = [
            "use crate::base::time::Instant; use crate::ip::Fib;",
            "macro_rules! m { () => { $crate::Stack::new() } }",
            "use super::stack::Stack; // the sibling module vnet/src/ip/stack.rs",
            "// use crate::stack::Stack;\n/* /* */ crate::stack::X */",
            "/// [`Stack`](crate::stack::Stack)\nfn f() {}",
            "const S: &str = \"crate::stack\"; const R: &str = r#\"crate::\"stack\"#;",
            "#[cfg(test)]\nmod tests { use crate::stack::Stack; }",
            "#[cfg(test)]\n#[allow(unused)]\nuse crate::{stack::Stack};\nfn f() {}",
        ];
        for source in sources {
            assert_eq!(imports("vnet/src/ip/fib.rs", source), [""; 0], "{source}");
        }
        let after = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::stack::Stack;";
        assert_eq!(imports("vnet/src/ip/fib.rs", after).len(), 1);
        assert_eq!(
            imports("vnet/src/lib.rs", "pub use crate::stack::Stack;"),
            [""; 0]
        );
    }

    #[test]
    fn a_name_outside_its_quarantine_is_found() {
        let sources = [
            "use smoltcp::wire::Ipv4Packet;",
            "fn f() { ::smoltcp::wire::pretty(); }",
            "use smoltcp as s;",
            "use std::time::{Duration, Instant as WallInstant};",
            "use std::{fmt, time::SystemTime};",
            "fn f() { std::time::Instant::now(); }",
            "use std::time::*;",
            "use std::time; fn f() { time::Instant::now(); }",
            "use std::time::{self, Duration}; type T = time::SystemTime;",
        ];
        for source in sources {
            assert!(
                !quarantine("vnet/src/ip/fib.rs", source).is_empty(),
                "{source}"
            );
        }
        let allowed = [
            "use std::time::Duration;",
            "use std::time; fn f(t: time::Duration) {}",
            "use crate::base::time::Instant;",
            "use std::fmt::{self, Display};",
            "// smoltcp\nuse std::io;",
        ];
        for source in allowed {
            assert_eq!(
                quarantine("vnet/src/ip/fib.rs", source),
                [""; 0],
                "{source}"
            );
        }
        assert_eq!(
            quarantine("vnet/src/packet/a/b.rs", "use smoltcp::wire::X;"),
            [""; 0]
        );
        assert_eq!(
            quarantine("vnet/src/clock.rs", "use std::time::Instant;"),
            [""; 0]
        );
        assert_eq!(
            quarantine("vnet/src/clocks.rs", "use std::time::Instant;").len(),
            1
        );
    }

    #[test]
    fn modules_of_tests_are_recognised() {
        let parent = "#[cfg(test)]\npub(crate) mod testing;\nmod real;\n#[cfg(test)]\nmod t {}";
        let found = test_modules(&file("vnet/src/ip/mod.rs", parent));
        assert_eq!(found, ["vnet/src/ip/testing"]);
        let found = test_modules(&file("vnet/src/ip/fib.rs", parent));
        assert_eq!(found, ["vnet/src/ip/fib/testing"]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(MAX_LINES);
        let tested = format!("{long}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(too_long(&file("a.rs", &long)), None);
        assert_eq!(too_long(&file("a.rs", &tested)), None);
        assert!(too_long(&file("a.rs", &format!("{long}fn g() {{}}\n"))).is_some());
    }

    #[test]
    fn the_list_of_unsafe_files_is_read() {
        let document = "| file with `unsafe` | why |\n|---|---|\n| `a/b.rs` | `x` |\n\n`c.rs`";
        assert_eq!(
            listed_unsafe(document),
            BTreeSet::from(["a/b.rs".to_owned()])
        );
        assert!(
            !words(&code_only("// unsafe\nfn f() { \"unsafe\"; not_unsafe() }"))
                .any(|w| w == "unsafe")
        );
        assert!(words(&code_only("fn f() { unsafe { g() } }")).any(|w| w == "unsafe"));
    }
}
