//! Where in the file a problem is, and how it is shown: `file:line:column: what was expected`,
//! then the line itself with the place underlined.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use crate::text::{printable, push};

/// A range of bytes in the source.
pub(crate) type Span = Range<usize>;

/// One thing that is wrong in a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 for what is wrong with the file as a whole.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    shown: Shown,
}

/// A line of the file as it is printed: of a long one the part around the place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    text: String,
    /// Characters of `text` before the place, and in it.
    indent: usize,
    width: usize,
}

/// What is wrong in a topology file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The file's name as it was given.
    pub file: String,
    /// Never empty. When there is a lot, the first of it: [`Invalid::MOST`].
    pub problems: Vec<Problem>,
    /// How many there are beyond those.
    pub more: usize,
}

impl Invalid {
    /// How many problems of one file are listed.
    pub const MOST: usize = 50;
}

/// Characters of a line that are shown, with the line's number as wide as a narrow terminal.
const LINE: usize = 76;
/// Characters of it before the place.
const BEFORE: usize = 24;
/// Characters of a message, which may quote the file.
const MESSAGE: usize = 600;

impl Problem {
    fn show(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        let (line, Shown { text, .. }) = (self.line, &self.shown);
        let message = abridged(&self.message);
        writeln!(f, "{line}:{}: {kind}{message}", self.column)?;
        if !text.trim().is_empty() {
            let gutter = line.to_string().len();
            writeln!(f, "{line} | {text}")?;
            let indent = " ".repeat(self.shown.indent);
            let marks = "^".repeat(self.shown.width);
            writeln!(f, "{:gutter$} | {indent}{marks}", "")?;
        }
        Ok(())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list(f, "", "error")
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// What is wrong with a file as a whole.
    pub(crate) fn of_file(file: &str, message: String) -> Invalid {
        let shown = Shown {
            text: String::new(),
            indent: 0,
            width: 0,
        };
        let problem = Problem {
            line: 0,
            column: 0,
            message,
            shown,
        };
        Invalid {
            file: file.to_owned(),
            problems: vec![problem],
            more: 0,
        }
    }

    fn list(&self, f: &mut fmt::Formatter<'_>, kind: &str, what: &str) -> fmt::Result {
        if let [problem @ Problem { line: 0, .. }] = &self.problems[..] {
            let (file, message) = (printable(&self.file), abridged(&problem.message));
            return write!(f, "{file}: {kind}{message}");
        }
        for problem in &self.problems {
            write!(f, "{}:", printable(&self.file))?;
            problem.show(f, kind)?;
            writeln!(f)?;
        }
        match (self.problems.len(), self.more) {
            (1, 0) => write!(f, "1 {what}"),
            (n, 0) => write!(f, "{n} {what}s"),
            (n, more) => {
                let all = n + more;
                write!(f, "{all} {what}s, of which the first {n} are shown")
            }
        }
    }
}

/// What is valid in a topology file but probably a mistake. Shown like [`Invalid`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warnings(pub(crate) Invalid);

impl Warnings {
    /// What there is to say, in the order of the file; not more than [`Invalid::MOST`].
    pub fn all(&self) -> &[Problem] {
        &self.0.problems
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.list(f, "warning: ", "warning")
    }
}

/// A message that can be printed, without its middle when it is very long.
fn abridged(message: &str) -> String {
    let shown = printable(message);
    let end = shown.char_indices().nth(MESSAGE).map(|(at, _)| at);
    match end {
        None => shown.into_owned(),
        Some(end) => format!("{}…", &shown[..end]),
    }
}

/// Problems as they are found, by place in the source.
pub(crate) struct Problems<'a> {
    source: &'a str,
    found: Vec<(Span, String)>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a str) -> Problems<'a> {
        Problems {
            source,
            found: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, span: Span, message: impl Into<String>) {
        self.found.push((span, message.into()));
    }

    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// The place of `part`, a range of bytes in the string value at `span`. Exact when the string
    /// is written without escapes; else the whole string.
    pub(crate) fn inside(&self, span: &Span, value: &str, part: Span) -> Span {
        let start = span.start + 1;
        match self.source.get(start..start + value.len()) {
            Some(written) if written == value => start + part.start..start + part.end,
            _ => span.clone(),
        }
    }

    /// `Err` with all problems in the order of the file, if there are any, each once.
    pub(crate) fn finish(self, file: &str) -> Result<(), Invalid> {
        match self.located(file) {
            invalid if invalid.problems.is_empty() => Ok(()),
            invalid => Err(invalid),
        }
    }

    /// Everything that was found, whether it is a problem or something less.
    pub(crate) fn located(self, file: &str) -> Invalid {
        let Problems { source, mut found } = self;
        let mut said = BTreeSet::new();
        found.retain(|(span, message)| said.insert((span.start, span.end, message.clone())));
        found.sort_by_key(|(span, _)| span.start);
        let more = found.len().saturating_sub(Invalid::MOST);
        found.truncate(Invalid::MOST);
        let mut lines = Lines::of(source);
        let problems = found.into_iter();
        Invalid {
            file: file.to_owned(),
            problems: problems
                .map(|(span, message)| lines.locate(span, message))
                .collect(),
            more,
        }
    }
}

/// Counts lines on the way through a source.
struct Lines<'a> {
    source: &'a str,
    /// Where the current line starts, and its number from 1.
    start: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn of(source: &'a str) -> Lines<'a> {
        Lines {
            source,
            start: 0,
            number: 1,
        }
    }

    /// Says where a problem is. Places come in the order of the source.
    fn locate(&mut self, span: Span, message: String) -> Problem {
        let source = self.source;
        let start = floor_char(source, span.start).max(self.start);
        let passed = &source[self.start..start];
        self.number += passed.matches('\n').count();
        self.start = passed
            .rfind('\n')
            .map_or(self.start, |n| self.start + n + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |n| start + n);
        let end = floor_char(source, span.end).clamp(start, line_end);
        Problem {
            line: self.number,
            column: source[self.start..start].chars().count() + 1,
            message,
            shown: shown(
                &source[self.start..start],
                &source[start..end],
                &source[end..line_end],
            ),
        }
    }
}

/// The line of three parts, of which the second is the place.
fn shown(before: &str, place: &str, after: &str) -> Shown {
    let whole: usize = [before, place, after.trim_end()]
        .map(|part| part.chars().take(LINE + 1).count())
        .iter()
        .sum();
    let mut text = String::new();
    // Of a long line what is far to the left goes first.
    let skipped = match whole > LINE {
        true => before.chars().count().saturating_sub(BEFORE),
        false => 0,
    };
    if skipped > 0 {
        text.push('…');
    }
    let mut room = LINE;
    let mut add = |text: &mut String, part: &str| {
        for c in part.chars() {
            if room == 0 {
                text.push('…');
                return false;
            }
            room -= 1;
            // A tab as wide as one character, so that the marks are where they should be.
            push(text, if c == '\t' { ' ' } else { c });
        }
        true
    };
    let far = before.char_indices().nth(skipped);
    let near = far.map_or("", |(at, _)| &before[at..]);
    add(&mut text, near);
    let indent = text.chars().count();
    let fits = add(&mut text, place);
    let width = (text.chars().count() - indent).max(1);
    if fits {
        add(&mut text, after.trim_end());
    }
    Shown {
        text: text.trim_end().to_owned(),
        indent,
        width,
    }
}

fn floor_char(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_line_underlined() {
        let source = "a = 1\nname = \"zürich\" x\n";
        let mut problems = Problems::new(source);
        let at = source.find('x').expect("an x");
        problems.push(at..at + 1, "expected nothing here");
        problems.push(0..1, "expected b");
        let shown = problems.finish("t.toml").expect_err("two").to_string();
        assert_eq!(
            shown,
            "t.toml:1:1: expected b\n1 | a = 1\n  | ^\n\n\
             t.toml:2:17: expected nothing here\n2 | name = \"zürich\" x\n  |                 ^\n\n\
             2 errors"
        );
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let source = format!("x = [{}, ??, {}]", "1, ".repeat(1000), "2, ".repeat(1000));
        let at = source.find("??").expect("the place");
        let mut problems = Problems::new(&source);
        problems.push(at..at + 2, "expected a number");
        let shown = problems.finish("t").expect_err("one").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], format!("t:1:{}: expected a number", at + 1));
        assert!(lines.iter().all(|l| l.chars().count() <= 82), "{shown}");
        let column = |line: &str, what: &str| line.split(what).next().map(|l| l.chars().count());
        assert_eq!(column(lines[1], "??"), column(lines[2], "^^"), "{shown}");
    }

    #[test]
    fn what_would_move_the_cursor_is_escaped_and_still_underlined() {
        let source = "a = \"\u{1b}[31m\u{202e}\" ?\n";
        let at = source.find('?').expect("the place");
        let mut problems = Problems::new(source);
        problems.push(at..at + 1, "expected none, found \"\u{1b}[2J\"");
        let shown = problems.finish("\u{7}t").expect_err("one").to_string();
        let expected = "\\u{7}t:1:14: expected none, found \"\\u{1b}[2J\"\n\
             1 | a = \"\\u{1b}[31m\\u{202e}\" ?\n  |                          ^\n\n1 error";
        assert_eq!(shown, expected);
    }

    #[test]
    fn of_many_the_first_are_told_and_each_once() {
        let source = "x\n".repeat(1000);
        let mut problems = Problems::new(&source);
        for n in (0..1000).rev() {
            problems.push(2 * n..2 * n + 1, "expected y");
            problems.push(2 * n..2 * n + 1, "expected y");
        }
        let invalid = problems.finish("t").expect_err("many");
        assert_eq!((invalid.problems.len(), invalid.more), (Invalid::MOST, 950));
        assert_eq!(invalid.problems[49].line, 50);
        let shown = invalid.to_string();
        assert!(shown.ends_with("\n1000 errors, of which the first 50 are shown"));
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        let mut problems = Problems::new("");
        problems.push(5..9, "expected something");
        let invalid = problems.finish("t").expect_err("one");
        assert_eq!(
            (invalid.problems[0].line, invalid.problems[0].column),
            (1, 1)
        );
        assert_eq!(invalid.to_string(), "t:1:1: expected something\n\n1 error");
    }

    #[test]
    fn a_part_of_a_string_is_found_unless_it_is_escaped() {
        let problems = Problems::new(r#"a = "x y"  b = "x\u0020y""#);
        assert_eq!(problems.inside(&(4..9), "x y", 2..3), 7..8);
        assert_eq!(problems.inside(&(15..25), "x y", 2..3), 15..25);
    }
}
