//! What vnets send, as tshark sees it: an opinion on headers and checksums that is not our own.
//!
//! A test that has made its vnets calls [`watch`], and [`judge`] when it has done with them. Where there is no tshark,
//! nothing is recorded.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use vnet::Vnet;
use vnet::capture::{CaptureOptions, LargeSegments, Recorder};

use crate::skip::has_tshark;

/// What no frame of ours may be, in tshark's words. What errors quote is cut off, so that its checksums, which tshark
/// looks at none the less, say nothing.
pub const BAD: &str = "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 \
    || icmpv6.checksum.status == 0 || !(icmpv6.type <= 4 || icmp.type == 3 || icmp.type == 11) \
    && (_ws.expert.severity == error || tcp.checksum.status == 0 || udp.checksum.status == 0)";

const FILE: &str = "all.pcapng";

struct Record {
    directory: TempDir,
    recorder: Recorder,
}

thread_local! {
    static RECORDS: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// Records what passes each interface that the vnets have by now, segments cut as a network card cuts them.
///
/// # Panics
/// When a file cannot be written or a vnet is gone.
pub fn watch(vnets: &[&Vnet]) {
    if !has_tshark() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(FILE);
    let sink = move |_slot: u32| {
        let file = File::create(&path)?;
        Ok(Box::new(file) as Box<dyn std::io::Write + Send>)
    };
    let options = CaptureOptions {
        large: LargeSegments::Cut,
        ..CaptureOptions::default()
    };
    let recorder = Recorder::new(sink, options).expect("a capture can be begun");
    for vnet in vnets {
        for interface in vnet.interfaces().expect("the vnet is alive") {
            let name = format!("{}:{}", vnet.name(), interface.name);
            let tap = recorder.tap(&name).expect("there is room for a name");
            vnet.capture(&interface.name, tap).expect("it is there");
        }
    }
    RECORDS.with_borrow_mut(|records| {
        records.push(Record {
            directory,
            recorder,
        });
    });
}

/// Has tshark look at what this thread has recorded.
///
/// # Panics
/// When there is something wrong with a frame.
pub fn judge() {
    for Record {
        directory,
        recorder,
    } in RECORDS.take()
    {
        recorder.finish().expect("the capture is written");
        assert_sound(&directory.path().join(FILE));
    }
}

/// tshark, told to look at all checksums of a capture. What TCP and UDP carry is data to it: it takes random bytes for
/// whatever protocol they resemble, and finds fault with that.
pub fn tshark(capture: &Path) -> Command {
    let mut command = Command::new("tshark");
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    for transport in ["tcp", "udp"] {
        command.args(["-d", &format!("{transport}.port==1-65535,data")]);
    }
    command.arg("-r").arg(capture);
    command
}

/// tshark finds frames in a capture, and nothing wrong with any of them.
///
/// # Panics
/// When there is none, or something wrong with one.
pub fn assert_sound(capture: &Path) {
    let shown = |filter: &str, more: &[&str]| {
        let output = tshark(capture).args(["-Y", filter]).args(more).output();
        let output = output.expect("tshark starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let bad = shown(BAD, &["-V"]);
    assert!(bad.is_empty(), "{bad}");
    let first = shown("frame.number == 1", &[]);
    assert!(!first.is_empty(), "nothing was recorded");
}
