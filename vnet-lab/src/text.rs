//! Texts as they can be printed on a terminal: a name from a file may hold anything.

use std::borrow::Cow;

/// The text with everything escaped that would not be seen or do something else: control characters,
/// line breaks and escape sequences among them, and what changes the direction of writing.
///
/// ```
/// use vnet_lab::text::printable;
///
/// assert_eq!(printable("a → b"), "a → b");
/// assert_eq!(printable("red \u{1b}[31m\n"), "red \\u{1b}[31m\\n");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_unseen) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.chars().fold(String::new(), |mut shown, c| {
            push(&mut shown, c);
            shown
        })),
    }
}

/// The same for a text of several lines, which stay apart.
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// Adds a character as it can be printed.
pub(crate) fn push(shown: &mut String, c: char) {
    match is_unseen(c) {
        true => shown.extend(c.escape_default()),
        false => shown.push(c),
    }
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Separators of lines, marks, embeddings, overrides and isolates of direction.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unseen_is_printed() {
        let hostile = "a\u{7}\u{1b}]0;t\u{9b}\u{202e}\r\n\t\u{0}\u{7f}";
        let shown = printable(hostile);
        assert!(!shown.chars().any(is_unseen), "{shown:?}");
        assert_eq!(
            shown,
            "a\\u{7}\\u{1b}]0;t\\u{9b}\\u{202e}\\r\\n\\t\\u{0}\\u{7f}"
        );
        assert_eq!(printable_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
        assert_eq!(printable("zürich 東京 e\u{301}"), "zürich 東京 e\u{301}");
    }
}
