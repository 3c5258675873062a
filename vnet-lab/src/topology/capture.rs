//! How captures are made, when the command line asks for some: `[capture]`.

use toml::Spanned;
use vnet::capture::{LargeSegments, Rotate};

use crate::file::source::Problems;
use crate::file::table::{Table, Value};
use crate::file::units;

/// How captures are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureFormat {
    /// Bounds on the files in the directory.
    pub rotate: Option<Rotate>,
    /// Bytes of each frame to keep at most.
    pub snaplen: Option<u32>,
    /// What becomes of segments larger than the MTU.
    pub large: LargeSegments,
}

/// Reads the table `capture`. Where captures go is for the command line to say.
pub(super) fn read(value: Value<'_>, problems: &mut Problems<'_>) -> Option<CaptureFormat> {
    let mut table = Table::of("`capture`", value, problems)?;
    let snaplen = table.integer("snaplen", 1..=u64::from(u32::MAX), problems);
    let large = table.read("gso", large, problems);
    let rotate = table.value("rotate").and_then(|v| rotate(v, problems));
    table.finish(problems);
    Some(CaptureFormat {
        snaplen: snaplen.map(|n| n.into_inner() as u32),
        large: large.map_or_else(LargeSegments::default, Spanned::into_inner),
        rotate,
    })
}

fn large(text: &str) -> Result<LargeSegments, String> {
    match text {
        "whole" => Ok(LargeSegments::Whole),
        "cut" => Ok(LargeSegments::Cut),
        _ => Err(format!("expected \"whole\" or \"cut\", found \"{text}\"")),
    }
}

fn rotate(value: Value<'_>, problems: &mut Problems<'_>) -> Option<Rotate> {
    let mut table = Table::of("`rotate`", value, problems)?;
    let bytes = table.read("bytes", file_size, problems);
    let files = table.integer("files", 0..=u64::from(u32::MAX), problems);
    if table.key_span("bytes").is_none() {
        table.missing("bytes", "a size such as \"1MB\"", problems);
    }
    table.finish(problems);
    Some(Rotate {
        max_bytes: bytes?.into_inner(),
        max_files: files.map_or(0, |n| n.into_inner() as u32),
    })
}

fn file_size(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        n if n < Rotate::MIN_BYTES => Err(format!(
            "a capture file has at least {}B",
            Rotate::MIN_BYTES
        )),
        n => Ok(n),
    }
}
