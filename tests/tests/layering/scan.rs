//! A scanner of Rust text that knows just enough: comments, literals, `#[cfg(test)]` items, and
//! paths with their `use` trees spread out. It is not a parser; it errs on the side of seeing a
//! path too many.

/// `source` with comments blanked, and the contents of literals as well. Lines stay where they are.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (chars[i], chars.get(i + 1)) {
            ('/', Some('/')) => line_end(&chars, i),
            ('/', Some('*')) => block_comment_end(&chars, i),
            ('"', _) => string_end(&chars, i),
            ('r', Some('"' | '#')) if !inside_word(&chars, i) => match raw_string_end(&chars, i) {
                Some(end) => end,
                None => i,
            },
            ('\'', _) => char_end(&chars, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            out.push(chars[i]);
            i += 1;
        } else {
            out.extend(chars[i..end].iter().map(|c| match c {
                '\n' => '\n',
                _ => ' ',
            }));
            i = end;
        }
    }
    out
}

fn inside_word(chars: &[char], i: usize) -> bool {
    match i.checked_sub(1).map(|before| chars[before]) {
        // `br"..."` is a raw string as well.
        Some('b') => inside_word(chars, i - 1),
        before => before.is_some_and(is_word),
    }
}

fn line_end(chars: &[char], from: usize) -> usize {
    let rest = chars[from..].iter().position(|c| *c == '\n');
    rest.map_or(chars.len(), |n| from + n)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of a raw string at `from`, or `None` when it is a raw identifier.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    (open + 1..chars.len()).find_map(|i| {
        let closes = chars[i] == '"' && chars[i + 1..].iter().take(hashes).all(|c| *c == '#');
        closes.then_some((i + 1 + hashes).min(chars.len()))
    })
}

/// The end of a character literal at `from`, or `None` when it is a lifetime.
fn char_end(chars: &[char], from: usize) -> Option<usize> {
    match chars.get(from + 1)? {
        '\\' => {
            let close = chars[from + 3..].iter().position(|c| *c == '\'')?;
            Some(from + 3 + close + 1)
        }
        _ if chars.get(from + 2) == Some(&'\'') => Some(from + 3),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What `#[cfg(test)]` stands before.
#[derive(Debug, PartialEq)]
pub(crate) enum TestItem {
    /// `mod name;`: the module's file is a test as a whole.
    File(String),
    /// Anything else.
    Inline,
}

/// `code` (of [`code_only`]) with every `#[cfg(test)]` item blanked, and what those were.
pub(crate) fn without_tests(code: &str) -> (String, Vec<TestItem>) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(at) = out[from..].find(MARK).map(|n| from + n) {
        let start = after_attributes(&out, at + MARK.len());
        let end = item_end(&out, start);
        items.push(kind_of(&out[start..end]));
        let blank: String = out[at..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(at..end, &blank);
        from = at + blank.len();
    }
    (out, items)
}

fn after_attributes(code: &str, mut at: usize) -> usize {
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            return at;
        }
        at = matching(code, at + 1, '[', ']');
    }
}

/// The end of the item at `start`: its first `;` outside of braces, or its closing brace.
fn item_end(code: &str, start: usize) -> usize {
    let visibility = |w: &&str| matches!(*w, "pub" | "crate" | "super" | "in");
    let is_use = words(&code[start..]).find(|w| !visibility(w)) == Some("use");
    for (n, c) in code[start..].char_indices() {
        match c {
            ';' => return start + n + 1,
            '{' if !is_use => return matching(code, start + n, '{', '}'),
            _ => {}
        }
    }
    code.len()
}

/// The end of the bracket that opens at `at`.
fn matching(code: &str, at: usize, open: char, close: char) -> usize {
    let mut depth = 0;
    for (n, c) in code[at..].char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return at + n + c.len_utf8();
            }
        }
    }
    code.len()
}

fn kind_of(item: &str) -> TestItem {
    let mut words = words(item);
    match words.by_ref().find(|w| *w == "mod").and(words.next()) {
        Some(name) if item.ends_with(';') => TestItem::File(name.to_owned()),
        _ => TestItem::Inline,
    }
}

/// The identifiers and keywords of `code`, in order.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|w| !w.is_empty())
}

/// A path and the line (from 1) on which it begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    /// Its segments; a glob import ends in `*`.
    pub segments: Vec<String>,
    /// Where it stands.
    pub line: usize,
}

/// Every path in `code`, trees of `use` spread out: `a::{b, c::d}` is `a::b` and `a::c::d`.
/// Lone identifiers are paths of one segment.
pub(crate) fn paths(code: &str) -> Vec<Path> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_name(tokens[i].0) && !continues(&tokens[..i]) {
            i = path(&tokens, i, &[], &mut found);
        } else {
            i += 1;
        }
    }
    found
}

/// True when what follows `before` belongs to a path that is being read: `a::`, `Vec::<T>::`.
/// A `::` at the start of a path is none. Nor is `$crate` a path of ours: it is how a macro of the
/// library spells the public path for those who use it.
fn continues(before: &[(&str, usize)]) -> bool {
    match before {
        [.., ("$", _)] => true,
        [.., (name, _), ("::", _)] => is_name(name) || matches!(*name, ">" | ")" | "]"),
        _ => false,
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(is_word)
}

fn tokens(code: &str) -> Vec<(&str, usize)> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let len = match c {
            ':' if rest.starts_with("::") => 2,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if c == '\n' {
            line += 1;
        } else if !c.is_whitespace() {
            out.push((&rest[..len], line));
        }
        rest = &rest[len..];
    }
    out
}

/// Reads the path at `i`, which continues `prefix`; returns the first token after it.
fn path(tokens: &[(&str, usize)], mut i: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[i].1;
    loop {
        match tokens.get(i) {
            Some(("{", _)) => return tree(tokens, i, &segments, found),
            Some((name, _)) if *name == "*" || is_name(name) => segments.push((*name).to_owned()),
            _ => break,
        }
        i += 1;
        let goes_on = matches!(tokens.get(i), Some(("::", _)))
            && matches!(tokens.get(i + 1), Some((t, _)) if *t == "*" || *t == "{" || is_name(t));
        if !goes_on {
            break;
        }
        i += 1;
    }
    found.push(Path { segments, line });
    i
}

/// Reads the tree whose brace opens at `i`.
fn tree(tokens: &[(&str, usize)], mut i: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    i += 1;
    while let Some((token, line)) = tokens.get(i) {
        i = match *token {
            "}" => return i + 1,
            "self" if !matches!(tokens.get(i + 1), Some(("::", _))) => {
                let segments = prefix.to_vec();
                found.push(Path {
                    segments,
                    line: *line,
                });
                i + 1
            }
            "as" => i + 2,
            t if is_name(t) || t == "*" => path(tokens, i, prefix, found),
            _ => i + 1,
        };
    }
    i
}
