//! Captures: what they show, how they are bounded, and that nobody waits for their readers.

#[path = "captures/judged.rs"]
mod judged;

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use vnet::capture::{
    CaptureError, CaptureOptions, CaptureSink, Flush, FrameTap, LargeSegments, Recorder, Rotate,
    Writing,
};
use vnet::net::{EchoSocket, TcpListener, TcpStream, UdpSocket};
use vnet::{Direction, DropReason, LinkConfig, Offload, System, Vnet};
use vnet_tests::accounts::assert_conserved;
use vnet_tests::judge;
use vnet_tests::skip::has_tshark;
use vnet_tests::topology::pair;

/// Files in memory, by number.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

struct MemoryFile(Memory, usize);

impl Memory {
    fn sink(&self) -> impl CaptureSink + use<> {
        let memory = self.clone();
        move |slot: u32| {
            let slot = slot as usize;
            let mut files = memory.0.lock().unwrap();
            let files_needed = files.len().max(slot + 1);
            files.resize(files_needed, Vec::new());
            files[slot].clear();
            drop(files);
            Ok(Box::new(MemoryFile(memory.clone(), slot)) as Box<dyn Write + Send>)
        }
    }

    fn files(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a file says of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    interface: u32,
    bytes: Vec<u8>,
    original_len: u32,
    comment: Option<String>,
    missed_before: u64,
}

/// A file, read back.
#[derive(Debug, Default)]
struct Content {
    frames: Vec<Frame>,
    interfaces: usize,
    /// `isb_ifdrop`, by interface.
    missed: Vec<u64>,
}

fn read(file: &[u8]) -> Content {
    let mut content = Content::default();
    let mut reader = PcapNgReader::new(file).expect("a section header");
    while let Some(block) = reader.next_block() {
        match block.expect("a whole block") {
            Block::InterfaceDescription(_) => content.interfaces += 1,
            Block::EnhancedPacket(p) => {
                let mut frame = Frame {
                    interface: p.interface_id,
                    bytes: p.data.to_vec(),
                    original_len: p.original_len,
                    comment: None,
                    missed_before: 0,
                };
                for option in &p.options {
                    match option {
                        EnhancedPacketOption::Comment(c) => frame.comment = Some(c.to_string()),
                        EnhancedPacketOption::DropCount(n) => frame.missed_before = *n,
                        _ => {}
                    }
                }
                content.frames.push(frame);
            }
            Block::InterfaceStatistics(s) => {
                for option in &s.options {
                    if let InterfaceStatisticsOption::IsbIfDrop(n) = option {
                        content.missed.push(*n);
                    }
                }
            }
            other => panic!("an unexpected block {other:?}"),
        }
    }
    content
}

fn recorder(memory: &Memory, options: CaptureOptions) -> Recorder {
    Recorder::new(memory.sink(), options).unwrap()
}

/// Records both ends of the pair.
fn watch(recorder: &Recorder, a: &Vnet, b: &Vnet) {
    for (vnet, name) in [(a, "a:eth0"), (b, "b:eth0")] {
        vnet.capture("eth0", recorder.tap(name).unwrap()).unwrap();
    }
}

/// Sends `len` bytes from `a` to `b` by TCP.
fn transfer(a: &Vnet, b: &Vnet, len: usize) {
    let listener = TcpListener::bind_in(b, "10.0.0.2:80").unwrap();
    let work = move || TcpStream::connect("10.0.0.2:80")?.write_all(&vec![7; len]);
    let client = a.spawn(work).unwrap();
    let mut received = Vec::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_end(&mut received)
        .unwrap();
    client.join().unwrap().unwrap();
    assert_eq!(received.len(), len);
}

/// A transfer over a link that loses, with a datagram that nobody wants.
fn lossy_run(seed: u64, options: CaptureOptions) -> (Vec<Vec<u8>>, [u64; 2]) {
    let system = System::virtual_time(seed);
    let (a, b) = pair(&system);
    // Announcements that are under way would be seen by one end only.
    system.sleep(Duration::from_millis(1)).unwrap();
    let memory = Memory::default();
    let recorder = recorder(&memory, options);
    watch(&recorder, &a, &b);
    a.set_link(
        "eth0",
        LinkConfig {
            rate_bps: Some(10_000_000),
            loss: 0.05.into(),
            ..LinkConfig::default()
        },
    )
    .unwrap();
    transfer(&a, &b, 200_000);
    let unwanted = UdpSocket::bind_in(&b, "0.0.0.0:0").unwrap();
    unwanted.send_to(b"anyone?", "10.0.0.1:9").unwrap();
    system.sleep(Duration::from_secs(1)).unwrap();
    let lost = a.stats().unwrap().tx_drops(DropReason::LinkLoss);
    let unwanted = a.stats().unwrap().rx_drops(DropReason::NoSocket);
    recorder.finish().unwrap();
    (memory.files(), [lost, unwanted])
}

fn commented(frames: &[Frame], comment: &str) -> u64 {
    let is_it = |f: &&Frame| f.comment.as_deref() == Some(comment);
    frames.iter().filter(is_it).count() as u64
}

/// What tshark prints of the fields of a file's frames.
fn tshark(path: &Path, filter: &str, field: &str) -> Vec<String> {
    let output = judge::tshark(path)
        .args(["-Y", filter, "-T", "fields", "-e", field])
        .output()
        .expect("tshark starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

const BAD: &str = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 \
    || udp.checksum.status == 0 || icmp.checksum.status == 0";

fn saved(files: &[Vec<u8>]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let save = |(n, bytes): (usize, &Vec<u8>)| {
        let path = directory.path().join(format!("{n}.pcapng"));
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let paths = files.iter().enumerate().map(save).collect();
    (directory, paths)
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let options = CaptureOptions::default();
    let (first, again) = (lossy_run(1, options).0, lossy_run(1, options).0);
    assert!(first == again, "the bytes differ");
    assert!(first != lossy_run(2, options).0);
}

#[test]
fn each_dropped_frame_says_why_once() {
    let (files, [lost, unwanted]) = lossy_run(3, CaptureOptions::default());
    assert!(lost > 0 && unwanted == 1, "{lost} and {unwanted}");
    let frames = read(&files[0]).frames;
    assert_eq!(commented(&frames, "dropped by the link: link-loss"), lost);
    assert_eq!(commented(&frames, "dropped by the vnet: no-socket"), 1);
    let nothing_said = frames.iter().filter(|f| f.comment.is_none()).count();
    assert!(nothing_said > 100, "most frames arrive");
    // The refused datagram stands before the ICMP error that it brought about.
    let refused = frames
        .iter()
        .position(|f| f.interface == 0 && f.comment.as_deref() == Some(NO_SOCKET))
        .unwrap();
    let answer = &frames[refused + 1];
    assert_eq!((answer.interface, answer.bytes[14 + 9]), (0, 1), "ICMP");
}

const NO_SOCKET: &str = "dropped by the vnet: no-socket";

#[test]
fn a_direction_of_a_link_is_seen_before_and_after_it() {
    let (sent, received) = (
        CaptureOptions {
            direction: Some(Direction::Out),
            ..CaptureOptions::default()
        },
        CaptureOptions {
            direction: Some(Direction::In),
            ..CaptureOptions::default()
        },
    );
    let (before, [lost, _]) = lossy_run(4, sent);
    let (after, _) = lossy_run(4, received);
    let of = |files: &[Vec<u8>], interface| {
        let frames = read(&files[0]).frames;
        let mine = frames.iter().filter(|f| f.interface == interface);
        mine.count() as u64
    };
    assert!(lost > 0);
    assert_eq!(of(&before, 0) - lost, of(&after, 1), "a to b");
    assert_eq!(of(&before, 1), of(&after, 0), "b to a loses nothing");
}

#[test]
fn tshark_finds_no_fault_and_shows_the_comments() {
    if !has_tshark() {
        return;
    }
    for large in [LargeSegments::Whole, LargeSegments::Cut] {
        let options = CaptureOptions {
            large,
            ..CaptureOptions::default()
        };
        let (files, [lost, _]) = lossy_run(5, options);
        let (_directory, paths) = saved(&files);
        let none: [&str; 0] = [];
        assert_eq!(tshark(&paths[0], BAD, "frame.number"), none);
        let comments = tshark(&paths[0], "frame.comment", "frame.comment");
        let losses = comments.iter().filter(|c| c.contains("link-loss"));
        assert_eq!(losses.count() as u64, lost);
        let names = tshark(&paths[0], "arp", "frame.interface_name");
        assert!(names.iter().any(|n| n == "a:eth0"), "{names:?}");
    }
}

#[test]
fn files_are_bounded_and_each_reads_by_itself() {
    let (max_bytes, max_files) = (20_000, 4);
    let options = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes,
            max_files,
        }),
        ..CaptureOptions::default()
    };
    let (files, _) = lossy_run(6, options);
    assert_eq!(files.len(), max_files as usize, "it came round");
    for file in &files {
        assert!(file.len() as u64 <= max_bytes, "{} bytes", file.len());
        let content = read(file);
        assert_eq!(content.interfaces, 2);
        assert_eq!(content.missed, [0, 0]);
        assert!(!content.frames.is_empty());
    }
    if has_tshark() {
        let (_directory, paths) = saved(&files);
        for path in &paths {
            assert!(!tshark(path, "frame", "frame.number").is_empty());
            let malformed: [&str; 0] = [];
            assert_eq!(tshark(path, BAD, "frame.number"), malformed);
        }
    }
    // Without a bound on their number, nothing is lost: as many frames as in one file.
    let unbounded = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes,
            max_files: 0,
        }),
        ..CaptureOptions::default()
    };
    let all =
        |files: Vec<Vec<u8>>| -> Vec<Frame> { files.iter().flat_map(|f| read(f).frames).collect() };
    let (one, many) = (
        lossy_run(6, CaptureOptions::default()),
        lossy_run(6, unbounded),
    );
    assert!(many.0.len() > max_files as usize);
    assert_eq!(all(one.0), all(many.0));
}

#[test]
fn no_file_is_larger_than_its_bound_whatever_the_frames() {
    // Whole segments of up to 64 KiB, into the smallest files that there are.
    let system = System::virtual_time(7);
    let (a, b) = pair(&system);
    let memory = Memory::default();
    let options = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes: Rotate::MIN_BYTES,
            max_files: 0,
        }),
        ..CaptureOptions::default()
    };
    let recorder = recorder(&memory, options);
    watch(&recorder, &a, &b);
    transfer(&a, &b, 500_000);
    let report = recorder.finish().unwrap();
    let files = memory.files();
    assert_eq!(files.len() as u64, report.files);
    let mut frames = Vec::new();
    for file in &files {
        assert!(file.len() as u64 <= Rotate::MIN_BYTES);
        frames.extend(read(file).frames);
    }
    assert_eq!(frames.len() as u64, report.frames);
    assert!(frames.iter().any(|f| f.original_len > 10_000));
}

#[test]
fn a_snap_length_cuts_what_is_kept_and_not_what_is_said() {
    let options = CaptureOptions {
        snaplen: Some(64),
        ..CaptureOptions::default()
    };
    let (files, _) = lossy_run(8, options);
    let frames = read(&files[0]).frames;
    assert!(frames.iter().all(|f| f.bytes.len() <= 64));
    assert!(frames.iter().any(|f| f.original_len == 1514));
}

/// The bytes of the TCP payloads that `interface` saw from port `to`, by sequence number.
fn payload(frames: &[Frame], interface: u32) -> Vec<u8> {
    let mut pieces = Vec::new();
    for f in frames.iter().filter(|f| f.interface == interface) {
        let ip = &f.bytes[14..];
        if f.bytes[12..14] != [8, 0] || ip[9] != 6 {
            continue;
        }
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let tcp = &ip[20..len];
        let data = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if !data.is_empty() {
            let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            pieces.push((seq, data.to_vec()));
        }
    }
    let mut next = pieces.first().expect("data").0;
    let mut all = Vec::new();
    for (seq, data) in pieces {
        assert_eq!(seq, next, "one after the other");
        next = next.wrapping_add(data.len() as u32);
        all.extend(data);
    }
    all
}

#[test]
fn large_segments_are_cut_into_frames_of_the_mtu_and_are_the_same_bytes() {
    let run = |large| {
        let system = System::virtual_time(9);
        let (a, b) = pair(&system);
        a.set_offload("eth0", Offload::Full).unwrap();
        let memory = Memory::default();
        let options = CaptureOptions {
            large,
            direction: Some(Direction::Out),
            ..CaptureOptions::default()
        };
        let recorder = recorder(&memory, options);
        watch(&recorder, &a, &b);
        transfer(&a, &b, 300_000);
        recorder.finish().unwrap();
        memory.files().remove(0)
    };
    let (whole, cut) = (run(LargeSegments::Whole), run(LargeSegments::Cut));
    let (whole_frames, cut_frames) = (read(&whole).frames, read(&cut).frames);
    assert!(whole_frames.iter().any(|f| f.original_len > 10_000));
    assert!(cut_frames.iter().all(|f| f.bytes.len() <= 1514));
    assert!(cut_frames.iter().any(|f| f.bytes.len() == 1514));
    assert_eq!(payload(&cut_frames, 0), vec![7; 300_000]);
    assert_eq!(payload(&whole_frames, 0), payload(&cut_frames, 0));
    if has_tshark() {
        let (_directory, paths) = saved(&[cut]);
        let none: [&str; 0] = [];
        assert_eq!(tshark(&paths[0], BAD, "frame.number"), none);
        let good = tshark(&paths[0], "tcp.checksum.status == 1", "frame.number");
        assert!(good.len() > 200, "{}", good.len());
    }
}

/// Sends bytes in frames of the MTU to `b`, and says what `b` has counted, and what was sent by the network's fingerprint.
fn cut(watched: bool) -> (u64, u64, Option<vnet::Fingerprint>, usize) {
    let system = System::virtual_time(9);
    system.record_fingerprint();
    let (a, b) = pair(&system);
    a.set_offload("eth0", Offload::None).unwrap();
    let memory = Memory::default();
    let recorder = recorder(&memory, CaptureOptions::default());
    if watched {
        watch(&recorder, &a, &b);
    }
    transfer(&a, &b, 300_000);
    recorder.finish().unwrap();
    assert_conserved(&b);
    let segments = b.protocol_stats().unwrap().get("tcp.segments_in");
    let captured = memory
        .files()
        .first()
        .map_or(0, |file| read(file).frames.len());
    let frames = b.stats().unwrap().delivered;
    (frames, segments.unwrap(), system.fingerprint(), captured)
}

#[test]
fn segments_that_are_taken_in_together_are_frames_of_their_own() {
    let (frames, segments, fingerprint, _) = cut(false);
    assert!(frames > 300_000 / 1448, "{frames}");
    assert!(
        segments < frames / 4,
        "{segments} segments in {frames} frames"
    );
    let (again, same, seen, captured) = cut(true);
    assert_eq!(
        (again, same, seen),
        (frames, segments, fingerprint),
        "it is of no account who looks"
    );
    // Both ends of the wire, and what the other one sent.
    assert!(captured as u64 >= 2 * frames, "{captured}");
}

#[test]
fn each_frame_counts_that_comes_for_a_connection_that_is_gone() {
    let system = System::virtual_time(9);
    let (a, b) = pair(&system);
    a.set_offload("eth0", Offload::None).unwrap();
    let slow = LinkConfig {
        delay: Duration::from_millis(1),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow).unwrap();
    let listener = TcpListener::bind_in(&b, "10.0.0.2:80").unwrap();
    let mut near = TcpStream::start_connect_in(&a, "10.0.0.2:80".parse().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(&[7; 100_000]).unwrap();
    far.read_exact(&mut [0; 50_000]).unwrap();
    system.run_for(Duration::from_millis(100)).unwrap();
    // This is on its way as the other end goes.
    near.write_all(&[7; 20_000]).unwrap();
    far.set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    system.run_for(Duration::from_secs(1)).unwrap();
    assert_conserved(&b);
    let stats = b.stats().unwrap();
    assert_eq!(
        stats.rx_drops(DropReason::TcpUnacceptable),
        20_000_u64.div_ceil(1448),
        "{stats:?}"
    );
}

/// A writer that takes nothing until it is let go.
struct Stuck(std::sync::mpsc::Receiver<()>, Memory, bool);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.2 {
            self.2 = true;
            // Whoever lets go may have gone.
            let _ = self.0.recv();
        }
        MemoryFile(self.1.clone(), 0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_reads_nothing_stalls_nobody_and_what_it_missed_is_counted() {
    let system = System::threads();
    let (a, b) = pair(&system);
    let memory = Memory(Arc::new(Mutex::new(vec![Vec::new()])));
    let (let_go, wait) = std::sync::mpsc::channel();
    let mut writer = Some(Stuck(wait, memory.clone(), false));
    let max_bytes = 50_000;
    let sink = move |_slot| Ok(Box::new(writer.take().unwrap()) as Box<dyn Write + Send>);
    let options = CaptureOptions {
        writing: Writing::Queued { max_bytes },
        flush: Flush::EachFrame,
        ..CaptureOptions::default()
    };
    let recorder = Recorder::new(sink, options).unwrap();
    watch(&recorder, &a, &b);
    transfer(&a, &b, 1_000_000); // Ends, or the test does not.
    let report = recorder.report();
    assert!(report.missed > 0, "{report:?}");
    let_go.send(()).unwrap();
    let report = recorder.finish().unwrap();
    let content = read(&memory.files()[0]);
    assert_eq!(content.frames.len() as u64, report.frames);
    assert_eq!(content.missed.iter().sum::<u64>(), report.missed);
    assert!(memory.files()[0].len() < max_bytes + 10_000);
}

#[test]
fn a_reader_that_goes_away_does_no_harm() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut n = 0;
    // The file that holds the section is taken; the next one is not.
    let sink = move |_slot| {
        n += 1;
        Ok(match n {
            1 => Box::new(io::sink()) as Box<dyn Write + Send>,
            _ => Box::new(Gone),
        })
    };
    let system = System::virtual_time(10);
    let (a, b) = pair(&system);
    let options = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes: Rotate::MIN_BYTES,
            max_files: 2,
        }),
        ..CaptureOptions::default()
    };
    let recorder = Recorder::new(sink, options).unwrap();
    watch(&recorder, &a, &b);
    transfer(&a, &b, 100_000);
    assert!(recorder.report().missed > 0);
    let error = recorder.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn tshark_reads_along_while_the_vnets_run() {
    if !has_tshark() {
        return;
    }
    let mut reader = Command::new("tshark")
        .args(["-l", "-n", "-r", "-", "-T", "fields", "-e", "icmp.seq"])
        .args(["-Y", "icmp.type == 8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = reader.stdin.take();
    let system = System::virtual_time(11);
    let (a, b) = pair(&system);
    let sink = move |_slot| Ok(Box::new(pipe.take().unwrap()) as Box<dyn Write + Send>);
    let options = CaptureOptions {
        direction: Some(Direction::Out),
        flush: Flush::EachFrame,
        ..CaptureOptions::default()
    };
    let recorder = Recorder::new(sink, options).unwrap();
    watch(&recorder, &a, &b);
    let ping = EchoSocket::bind_in(&a).unwrap();
    ping.send_to(77, b"x", "10.0.0.2".parse().unwrap()).unwrap();
    ping.recv().unwrap();
    // It is shown before the capture ends, or this waits for ever.
    let mut line = String::new();
    let mut shown = io::BufReader::new(reader.stdout.take().unwrap());
    io::BufRead::read_line(&mut shown, &mut line).unwrap();
    assert_eq!(line.trim(), "77");
    recorder.finish().unwrap();
    assert!(reader.wait().unwrap().success());
}

#[test]
fn a_capture_stops_when_its_handle_goes_and_is_listed_until_then() {
    let system = System::virtual_time(12);
    let (a, b) = pair(&system);
    let memory = Memory::default();
    let recorder = recorder(&memory, CaptureOptions::default());
    let first = a.start_capture("eth0", recorder.tap("one").unwrap());
    let (first, second) = (
        first.unwrap(),
        a.start_capture("eth0", recorder.tap("two").unwrap())
            .unwrap(),
    );
    let list = a.captures("eth0").unwrap();
    assert_eq!(list, ["pcapng of one", "pcapng of two"]);
    drop(first);
    transfer(&a, &b, 1000);
    drop(second);
    assert!(a.captures("eth0").unwrap().is_empty());
    let seen = recorder.report().frames;
    transfer(&a, &b, 1000);
    assert_eq!(recorder.finish().unwrap().frames, seen);
    let frames = read(&memory.files()[0]).frames;
    assert!(seen > 0 && frames.iter().all(|f| f.interface == 1));
}

// Row 20 of the reference's catalogue.
#[test]
fn a_capture_of_an_interface_that_went_sees_nothing_of_the_next_and_its_handle_stops_nothing() {
    let system = System::virtual_time(13);
    let (a, b) = pair(&system);
    let memory = Memory::default();
    let recorder = recorder(&memory, CaptureOptions::default());
    let old = a
        .start_capture("eth0", recorder.tap("old").unwrap())
        .unwrap();
    a.remove_interface("eth0").unwrap();
    let seen = recorder.report();
    b.remove_interface("eth0").unwrap();
    vnet_tests::topology::join(&a, "eth0 10.0.0.1/24", &b, "eth0 10.0.0.2/24");
    let new = a
        .start_capture("eth0", recorder.tap("new").unwrap())
        .unwrap();
    drop(old);
    assert_eq!(a.captures("eth0").unwrap().len(), 1, "the new one goes on");
    drop(new);
    transfer(&a, &b, 1000);
    assert_eq!(recorder.finish().unwrap(), seen);
    a.destroy();
}

#[test]
fn options_that_cannot_be_are_typed_errors() {
    let with = |options| Recorder::new(Memory::default().sink(), options).err();
    let small = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes: Rotate::MIN_BYTES - 1,
            max_files: 1,
        }),
        ..CaptureOptions::default()
    };
    assert!(matches!(with(small), Some(CaptureError::FileTooSmall(_))));
    let empty = CaptureOptions {
        snaplen: Some(0),
        ..CaptureOptions::default()
    };
    assert!(matches!(with(empty), Some(CaptureError::NoSnaplen)));
    let full = CaptureOptions {
        rotate: Some(Rotate {
            max_bytes: Rotate::MIN_BYTES,
            max_files: 1,
        }),
        ..CaptureOptions::default()
    };
    let recorder = recorder(&Memory::default(), full);
    let refused = (0..100).find_map(|n| recorder.tap(&format!("interface {n}")).err());
    assert!(matches!(refused, Some(CaptureError::TooManyInterfaces(_))));
    let denied = |_slot| Err(io::Error::from(ErrorKind::PermissionDenied));
    let error = Recorder::new(denied, CaptureOptions::default()).err();
    assert!(matches!(error, Some(CaptureError::Io(_))), "{error:?}");
}

#[test]
fn a_writer_that_panics_ends_its_capture_and_costs_the_network_nothing() {
    struct Bomb(usize);
    impl Write for Bomb {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).expect("the disk is on fire");
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for writing in [Writing::AtOnce, Writing::Queued { max_bytes: 1 << 20 }] {
        let system = System::virtual_time(1);
        let (a, b) = pair(&system);
        let options = CaptureOptions {
            writing,
            ..CaptureOptions::default()
        };
        let sink = |_slot| Ok(Box::new(Bomb(3)) as Box<dyn Write + Send>);
        let recorder = Recorder::new(sink, options).unwrap();
        let tap = recorder.tap("a:eth0").unwrap();
        a.capture("eth0", tap).unwrap();
        let socket = EchoSocket::bind_in(&a).unwrap();
        for n in 0..5 {
            socket.send_to(n, b"ping", [10, 0, 0, 2].into()).unwrap();
            socket.recv().unwrap();
        }
        for v in [&a, &b] {
            vnet_tests::accounts::assert_conserved(v);
        }
        let error = recorder.finish().unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}

#[test]
fn a_frame_whose_end_nobody_tells_does_not_hold_up_the_others() {
    struct Bomb;
    impl FrameTap for Bomb {
        fn frame(&self, _: vnet::time::Instant, way: vnet::Direction, _: &vnet::Packet) {
            assert!(way == vnet::Direction::Out, "not this one");
        }
    }
    let system = System::manual(1);
    let (a, b) = pair(&system);
    let port = a.port("tap0", None).unwrap();
    let memory = Memory::default();
    let recorder = Recorder::new(memory.sink(), CaptureOptions::default()).unwrap();
    let quiet = recorder.tap("a:tap0").unwrap();
    a.capture("tap0", quiet).unwrap();
    a.capture("tap0", std::sync::Arc::new(Bomb)).unwrap();
    port.send(vec![0xff; 60]).unwrap();
    let poll = std::panic::AssertUnwindSafe(|| system.poll(system.now()));
    std::panic::catch_unwind(poll).expect_err("the other tap panics");
    // The interface goes, and with it whoever could have told.
    a.remove_interface("tap0").unwrap();
    b.capture("eth0", recorder.tap("b:eth0").unwrap()).unwrap();
    b.add_address("eth0", "10.0.0.3/24".parse().unwrap())
        .unwrap();
    let report = recorder.report();
    assert_eq!(report.frames, 2, "that one, and the announcement");
}
