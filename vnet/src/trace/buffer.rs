//! The message buffer: the most recent lines, bounded in number and in bytes, like the one that
//! `dmesg(8)` shows.

use std::collections::VecDeque;
use std::fmt;

use crate::base::lock::{Mutex, Rank};
use crate::base::time::Instant;

/// The maximum number of lines that a buffer keeps.
const MAX_LINES: usize = 1024;
/// The maximum number of bytes of text that a buffer keeps.
const MAX_BYTES: usize = 64 << 10;
/// The maximum number of bytes in a line's text; longer text is truncated and ends in `…`.
const MAX_LINE: usize = 1024;

/// One line of a message buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was emitted, by the system's clock.
    pub at: Instant,
    /// How serious it is.
    pub level: tracing::Level,
    /// The part of the program that emitted it.
    pub target: String,
    /// The message, and the event's fields behind it.
    pub text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message {
            at,
            level,
            target,
            text,
        } = self;
        write!(f, "[{at}] {level} {target}: {text}")
    }
}

/// The contents of a message buffer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The lines, oldest first.
    pub lines: Vec<Message>,
    /// The number of older lines that were discarded to make room.
    pub dropped: u64,
}

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} older lines are lost)", self.dropped)?;
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The most recent lines; the oldest make room. Its lock is a leaf: nothing else is done while it
/// is held, so a line can be added whatever else is locked.
#[derive(Debug)]
pub(crate) struct MessageBuffer {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
}

impl Default for MessageBuffer {
    fn default() -> MessageBuffer {
        MessageBuffer {
            kept: Mutex::new(Rank::Messages, Kept::default()),
        }
    }
}

impl MessageBuffer {
    /// Adds a line.
    pub(crate) fn push(&self, message: Message) {
        let mut kept = self.kept.lock();
        kept.bytes += size(&message);
        kept.lines.push_back(message);
        while kept.lines.len() > MAX_LINES || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= size(&oldest);
            kept.dropped += 1;
        }
    }

    /// What it holds.
    pub(crate) fn read(&self) -> Messages {
        let kept = self.kept.lock();
        Messages {
            lines: kept.lines.iter().cloned().collect(),
            dropped: kept.dropped,
        }
    }

    /// Empties it, and returns what it held.
    pub(crate) fn take(&self) -> Messages {
        let kept = std::mem::take(&mut *self.kept.lock());
        Messages {
            lines: kept.lines.into(),
            dropped: kept.dropped,
        }
    }
}

fn size(message: &Message) -> usize {
    message.text.len() + message.target.len()
}

/// A line under construction: takes at most [`MAX_LINE`] bytes, however much it is given.
#[derive(Debug, Default)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl fmt::Write for Line {
    /// An error stops the formatting: what follows would be truncated anyway.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const CUT: &str = "…";
        let room = (MAX_LINE - CUT.len()).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        if !self.0.ends_with(CUT) {
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            self.0.push_str(CUT);
        }
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn message(text: String) -> Message {
        Message {
            at: Instant::ZERO,
            level: tracing::Level::INFO,
            target: "t".to_owned(),
            text,
        }
    }

    #[test]
    fn the_oldest_lines_make_room_and_are_counted() {
        let buffer = MessageBuffer::default();
        for n in 0..MAX_LINES + 3 {
            buffer.push(message(n.to_string()));
        }
        let held = buffer.read();
        assert_eq!((held.lines.len(), held.dropped), (MAX_LINES, 3));
        assert_eq!(held.lines[0].text, "3");
        assert!(
            held.to_string()
                .starts_with("(3 older lines are lost)\n[0.")
        );
        assert_eq!(buffer.take(), held);
        assert_eq!(buffer.read(), Messages::default());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let buffer = MessageBuffer::default();
        for _ in 0..200 {
            buffer.push(message("x".repeat(MAX_LINE)));
        }
        let held = buffer.read();
        let bytes: usize = held.lines.iter().map(size).sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - 2 * MAX_LINE);
        assert_eq!(held.lines.len() as u64 + held.dropped, 200);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut line = Line::default();
        let mut given = 0;
        while line.write_str("äöü").is_ok() {
            given += 6;
        }
        assert!(line.write_str("more").is_err());
        let text = line.finish();
        assert!(text.len() <= MAX_LINE && text.len() > given && text.ends_with('…'));
    }
}
