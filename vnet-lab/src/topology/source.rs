//! Where in the file a problem is, and how it is shown: `file:line:column: what was expected`,
//! then the line itself with the place underlined.

use std::fmt;
use std::ops::Range;

/// A range of bytes in the source.
pub(crate) type Span = Range<usize>;

/// One thing that is wrong in a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    text: String,
    width: usize,
}

/// Everything that is wrong in a topology file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The file's name as it was given.
    pub file: String,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, p) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            let (line, column) = (p.line, p.column);
            writeln!(f, "{}:{line}:{column}: {}", self.file, p.message)?;
            if !p.text.trim().is_empty() {
                let gutter = line.to_string().len();
                writeln!(f, "{line} | {}", p.text)?;
                let marks = "^".repeat(p.width);
                let indent = " ".repeat(column - 1);
                writeln!(f, "{:gutter$} | {indent}{marks}", "")?;
            }
        }
        let n = self.problems.len();
        write!(f, "{n} error{}", if n == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Invalid {}

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
        let message = message.into();
        if !self.found.iter().any(|(s, m)| *s == span && *m == message) {
            self.found.push((span, message));
        }
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

    /// `Err` with all problems in the order of the file, if there are any.
    pub(crate) fn finish(self, file: &str) -> Result<(), Invalid> {
        let Problems { source, mut found } = self;
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|(span, _)| span.start);
        let problems = found
            .into_iter()
            .map(|(span, message)| locate(source, span, message))
            .collect();
        Err(Invalid {
            file: file.to_owned(),
            problems,
        })
    }
}

fn locate(source: &str, span: Span, message: String) -> Problem {
    let start = floor_char(source, span.start);
    let line_start = source[..start].rfind('\n').map_or(0, |n| n + 1);
    let line_end = source[start..]
        .find('\n')
        .map_or(source.len(), |n| start + n);
    let end = floor_char(source, span.end).clamp(start, line_end);
    Problem {
        line: source[..line_start].matches('\n').count() + 1,
        column: source[line_start..start].chars().count() + 1,
        message,
        text: source[line_start..line_end].trim_end().replace('\t', " "),
        width: source[start..end].chars().count().max(1),
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
             t.toml:2:17: expected nothing here\n2 | name = \"zürich\" x\n  |                 ^\n\
             2 errors"
        );
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
        assert_eq!(invalid.to_string(), "t:1:1: expected something\n1 error");
    }

    #[test]
    fn a_part_of_a_string_is_found_unless_it_is_escaped() {
        let problems = Problems::new(r#"a = "x y"  b = "x\u0020y""#);
        assert_eq!(problems.inside(&(4..9), "x y", 2..3), 7..8);
        assert_eq!(problems.inside(&(15..25), "x y", 2..3), 15..25);
    }
}
