//! What vnets send, as tshark sees it: an opinion on headers and checksums that is not our own.
//!
//! Every process that is tested records what its stacks send in the folder that `VNET_TEST_CAPTURE` names
//! (`vnet/src/packet/witness.rs`), and [`whole_folder`] has tshark look at all of that when the tests are over.
//!
//! Beside that, a test that wants to have all of its frames looked at, and datagrams put together of their fragments,
//! calls [`watch`] when it has made its vnets, and [`judge`] when it has done with them. Where there is no tshark,
//! nothing is recorded then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

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

/// What no frame may be, of all that a folder has. Of those that our stacks have made: what [`BAD`] says, and an IGMP message with
/// a bad checksum; but for an error that is the first of several fragments, as the header that it quotes may end in the
/// next one. Of packets from elsewhere, routers vouch for the header of IPv4; and of what our stacks quote, for
/// no more than the checksums of the error that quotes it.
fn bad_of_a_folder() -> String {
    let cut = "ip.flags.mf#1 == 1 && frame.protocols matches \"ip:icmp:ip\" \
        || frame.protocols matches \"ipv6:ipv6.fraghdr:icmpv6:ipv6\"";
    let ours = format!("({BAD} || igmp.checksum.status == 0) && !({cut})");
    let header = "ip.checksum.status#1 == 0";
    let errors = "icmp.checksum.status#1 == 0 && icmp.type#1 in {3, 4, 5, 11, 12} \
        || icmpv6.checksum.status#1 == 0 && icmpv6.type#1 in {1, 2, 3, 4, 137}";
    format!(
        "frame.interface_name == \"ours\" && ({ours}) \
         || frame.interface_name == \"routed\" && {header} \
         || frame.interface_name == \"quoting\" && ({header} || {errors})"
    )
}

/// What a folder of captures has, in tshark's opinion.
#[derive(Debug, Default)]
pub struct Opinion {
    /// Frames by protocol, in tshark's words, for each that a frame has: most frames are several times in it.
    pub frames: BTreeMap<String, u64>,
    /// What is wrong with which frame of which file.
    pub faults: Vec<String>,
}

impl Opinion {
    fn add(&mut self, other: Opinion) {
        for (protocol, count) in other.frames {
            *self.frames.entry(protocol).or_default() += count;
        }
        self.faults.extend(other.faults);
    }
}

/// Has tshark look at each capture (`*.pcapng`) of a folder.
///
/// What many worlds have sent is in one file. So fragments are not put together, which would be of different datagrams
/// with the same addresses and number, and connections are not followed.
///
/// # Errors
/// Those of the folder, and of tshark if it cannot be run or stops halfway.
pub fn whole_folder(folder: &Path) -> io::Result<Opinion> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_capture = entry.path().extension().is_some_and(|e| e == "pcapng");
        if is_capture && entry.metadata()?.len() > 0 {
            files.push((entry.metadata()?.len(), entry.path()));
        }
    }
    // tshark takes longer to start than to read most of the files: it reads many in one go, the largest first.
    files.sort_by(|a, b| b.cmp(a));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut shares: Vec<(u64, Vec<PathBuf>)> = vec![(0, Vec::new()); processors];
    for (len, path) in files {
        let least = shares.iter_mut().min_by_key(|(total, _)| *total);
        let (total, share) = least.expect("there is a processor");
        *total += len;
        share.push(path);
    }
    shares.retain(|(_, share)| !share.is_empty());
    let opinions: Vec<io::Result<Opinion>> = thread::scope(|scope| {
        let judges: Vec<_> = shares
            .iter()
            .map(|(_, share)| scope.spawn(|| in_one_go(share)))
            .collect();
        let heard = judges.into_iter().map(|judge| judge.join());
        heard
            .map(|opinion| opinion.expect("it does not panic"))
            .collect()
    });
    let mut all = Opinion::default();
    for opinion in opinions {
        all.add(opinion?);
    }
    Ok(all)
}

/// Files one behind the other; and each by itself, if there is something wrong.
fn in_one_go(files: &[PathBuf]) -> io::Result<Opinion> {
    let mut opinion = opinion_of(files)?;
    if !opinion.faults.is_empty() && files.len() > 1 {
        opinion.faults.clear();
        for file in files {
            let of_one = opinion_of(std::slice::from_ref(file))?;
            opinion.faults.extend(of_one.faults);
        }
    }
    Ok(opinion)
}

/// What tshark prints of a frame that is bad.
const FIELDS: [&str; 4] = [
    "frame.number",
    "frame.comment",
    "frame.protocols",
    "_ws.expert.message",
];

fn opinion_of(files: &[PathBuf]) -> io::Result<Opinion> {
    let mut command = tshark(Path::new("-"));
    for version in ["ip", "ipv6"] {
        command.args(["-o", &format!("{version}.defragment:FALSE")]);
    }
    command.args(["-o", "tcp.analyze_sequence_numbers:FALSE"]);
    command.args(["-z", "io,phs", "-Y", &bad_of_a_folder(), "-T", "fields"]);
    command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tshark = command.stderr(Stdio::piped()).spawn()?;
    let mut input = tshark.stdin.take().expect("it is piped");
    let output = thread::scope(|scope| {
        let fed = scope.spawn(move || {
            for file in files {
                io::copy(&mut File::open(file)?, &mut input)?;
            }
            input.flush()
        });
        let output = tshark.wait_with_output();
        fed.join().expect("it does not panic").and(output)
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("tshark: {why}")));
    }
    Ok(read(&text, files))
}

/// Reads what tshark prints: a line for each frame that is bad, and the hierarchy of protocols, such as
/// `  ip  frames:12 bytes:800`.
fn read(text: &str, files: &[PathBuf]) -> Opinion {
    let mut opinion = Opinion::default();
    for line in text.lines() {
        if let Some((protocol, rest)) = line.split_once(" frames:") {
            let count = rest.split_whitespace().next().and_then(|n| n.parse().ok());
            let seen = opinion.frames.entry(protocol.trim().to_owned());
            *seen.or_default() += count.unwrap_or(0u64);
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let file = match files {
                [file] => file.display().to_string(),
                _ => "one of many files".to_owned(),
            };
            opinion.faults.push(format!("{file}: frame {line}"));
        }
    }
    opinion
}
