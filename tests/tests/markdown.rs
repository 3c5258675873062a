//! The pages of the project: every relative link leads to a file, and every anchor to a heading.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_link_in_a_page_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 10, "the pages were not found");
    let mut links = 0;
    let mut offences = Vec::new();
    for page in &pages {
        let text = read(page);
        for link in links_in(&text) {
            links += 1;
            if let Err(why) = follow(page, &link) {
                offences.push(format!("{}: ({link}): {why}", page.display()));
            }
        }
    }
    assert!(links > 50, "the links were not found: {links}");
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_page_is_in_the_list_of_pages() {
    let list = read(&root().join("docs/README.md"));
    for page in pages() {
        let name = page.file_name().expect("a file").to_string_lossy();
        if page.parent().is_some_and(|p| p.ends_with("docs")) && name != "README.md" {
            assert!(list.contains(&format!("]({name})")), "{name} is not listed");
        }
    }
}

#[test]
fn broken_links_are_found() {
    let page = root().join("docs/README.md");
    assert_eq!(follow(&page, "locking.md#poison"), Ok(()));
    assert_eq!(follow(&page, "https://example.org/nowhere#at-all"), Ok(()));
    assert!(follow(&page, "nowhere.md").is_err());
    assert!(follow(&page, "locking.md#nowhere").is_err());
    assert!(follow(&page, "#nowhere").is_err());
    let text = "a [b](c.md)\n```text\n[d](e.md)\n```\n`[f](g.md)` [h\ni](j.md#k)";
    assert_eq!(links_in(text), ["c.md", "j.md#k"]);
    assert_eq!(
        anchor("Why `a_b` hangs, and 2 more"),
        "why-a_b-hangs-and-2-more"
    );
}

/// Every Markdown file outside of hidden and built folders.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folders can be listed") {
            let path = entry.expect("folders can be listed").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// Whether `link` in `page` leads to a file and, if it names one, to a heading in it.
fn follow(page: &Path, link: &str) -> Result<(), String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        file => page.parent().expect("a folder").join(file),
    };
    if !target.exists() {
        return Err("no such file".to_owned());
    }
    if heading.is_empty() || anchors(&read(&target)).contains(&heading.to_owned()) {
        return Ok(());
    }
    Err("no such heading".to_owned())
}

/// What links in inline form lead to.
fn links_in(text: &str) -> Vec<String> {
    let text = prose(text);
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors that GitHub makes of a page's headings; of equal ones, all but the first are numbered.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let lines = fenced_out(text);
    let headings = lines.lines().filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| anchor(title.trim()))
    });
    headings
        .map(|name| {
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            match *times {
                1 => name,
                n => format!("{name}-{}", n - 1),
            }
        })
        .collect()
}

/// The anchor of one heading.
fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let kept: String = title.to_lowercase().chars().filter(kept).collect();
    kept.replace(' ', "-")
}

/// A page without its blocks and words of code.
fn prose(text: &str) -> String {
    fenced_out(text).split('`').step_by(2).collect()
}

/// A page without its blocks of code.
fn fenced_out(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
