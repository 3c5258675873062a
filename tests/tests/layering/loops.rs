//! Which file of a crate imports which, and the loops in that.
//!
//! An arrow is a path in a file, tests left out, that begins at `crate`, `super`, `self` or a module of the
//! file's own, and leads to another file. A path to a name that a module only re-exports leads to the file
//! that defines it; so a `mod.rs` that declares and re-exports has no arrow in either direction, and neither
//! has a re-export that its own file does not use. What a method call needs is no import, and no arrow.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{code_only, paths, without_tests, words};
use super::{File, Tree};

/// Files and what they import.
pub(crate) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// A module's path from the root of the library.
type Module = Vec<String>;

/// How many re-exports a name may pass through.
const MAX_HOPS: usize = 8;

struct Modules<'a> {
    files: BTreeMap<Module, &'a File>,
    /// What a module re-exports, by name, and where that is.
    exports: BTreeMap<(Module, String), Module>,
}

/// The arrows between the files of `tree`, which are those of one crate.
pub(crate) fn arrows(tree: &Tree) -> Arrows {
    let files: Vec<(Module, &File)> = tree
        .files
        .iter()
        .filter(|file| !file.is_test)
        .filter_map(|file| Some((module(&file.path)?, file)))
        .collect();
    let mut modules = Modules {
        files: files.iter().cloned().collect(),
        exports: BTreeMap::new(),
    };
    let code: BTreeMap<&str, String> = files
        .iter()
        .map(|(_, file)| (&*file.path, without_tests(&code_only(&file.source)).0))
        .map(|(path, code)| (path, without_visibilities(&code)))
        .collect();
    for (module, file) in &files {
        for segments in re_exports(&code[&*file.path]) {
            if let (Some(name), Some(at)) = (segments.last(), modules.absolute(module, &segments)) {
                let key = (module.clone(), name.clone());
                modules.exports.insert(key, at);
            }
        }
    }
    let mut arrows = Arrows::new();
    for (module, file) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let code = &code[&*file.path];
        let re_exported: Vec<Module> = re_exports(code);
        let targets = arrows.entry(file.path.clone()).or_default();
        for path in paths(code) {
            let name = path.segments.last().cloned().unwrap_or_default();
            let is_used = || words(code).filter(|word| **word == *name).count() > 1;
            if re_exported.contains(&path.segments) && !is_used() {
                continue;
            }
            let target = modules.absolute(module, &path.segments);
            if let Some(target) = target.and_then(|at| modules.file_of(&at))
                && target != file.path
            {
                targets.insert(target.to_owned());
            }
        }
    }
    arrows
}

/// Code with `pub` in place of `pub(in path)`: who may see an item is not what its file imports.
fn without_visibilities(code: &str) -> String {
    let mut parts = code.split("pub(in ");
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        left.push_str("pub");
        left.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    left
}

/// The module of a file of the library; the root has none of its own.
fn module(path: &str) -> Option<Module> {
    let inner = path.split_once("/src/")?.1.strip_suffix(".rs")?;
    let mut segments: Module = inner.split('/').map(str::to_owned).collect();
    if matches!(segments.last()?.as_str(), "mod" | "lib") {
        segments.pop();
    }
    Some(segments)
}

/// The paths that a file re-exports.
fn re_exports(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let start = line.trim_start();
        let is_one = start.starts_with("pub") && words(start).nth(1) == Some("use")
            || start.starts_with("pub(") && words(start).nth(2) == Some("use");
        if is_one {
            let from = at + line.find("use").map_or(0, |n| n + 3);
            let end = code[from..].find(';').map_or(code.len(), |n| from + n);
            found.extend(paths(&code[from..end]).into_iter().map(|p| p.segments));
        }
        at += line.len();
    }
    found
}

impl Modules<'_> {
    /// A path in `module`, from the root of the library; `None` for one that does not begin in it.
    fn absolute(&self, module: &[String], segments: &[String]) -> Option<Module> {
        let (first, rest) = segments.split_first()?;
        if rest.is_empty() {
            // A visibility, `pub(super)`, or a name of the file's own.
            return None;
        }
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => {
                let (_, parent) = module.split_last()?;
                return match rest.first().map(String::as_str) {
                    Some("super") => self.absolute(parent, rest),
                    _ => Some([parent, rest].concat()),
                };
            }
            _ => {
                let child = [module, &segments[..1]].concat();
                let is_child = self.files.contains_key(&child);
                return is_child.then(|| [module, segments].concat());
            }
        };
        match rest.first().map(String::as_str) {
            Some("super") => self.absolute(module, rest),
            _ => Some([&start[..], rest].concat()),
        }
    }

    /// The file that defines what an absolute path names.
    fn file_of(&self, path: &[String]) -> Option<&str> {
        let mut path = path.to_vec();
        for _ in 0..MAX_HOPS {
            let depth = (0..=path.len())
                .rev()
                .find(|n| self.files.contains_key(&path[..*n]))?;
            let (module, rest) = path.split_at(depth);
            let export = rest
                .first()
                .and_then(|name| self.exports.get(&(module.to_vec(), name.clone())));
            match export {
                Some(at) if at.as_slice() != path => path = [at, &rest[1..]].concat(),
                _ => return Some(&self.files.get(module)?.path),
            }
        }
        None
    }
}

/// The loops: sets of files each of which leads to all others of the set.
pub(crate) fn loops(arrows: &Arrows) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows
        .keys()
        .map(|file| (file.as_str(), reachable(arrows, file)))
        .collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, there) in &reach {
        let back = |other: &&str| reach.get(other).is_some_and(|r| r.contains(file));
        let mut set: BTreeSet<String> = there
            .iter()
            .copied()
            .filter(|other| back(other))
            .map(str::to_owned)
            .collect();
        set.insert((*file).to_owned());
        if set.len() > 1 && !found.contains(&set) {
            found.push(set);
        }
    }
    found.sort_by_key(|set| std::cmp::Reverse(set.len()));
    found
}

fn reachable<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(file) = todo.pop() {
        for next in arrows.get(file).into_iter().flatten() {
            if seen.insert(next.as_str()) {
                todo.push(next);
            }
        }
    }
    seen
}
