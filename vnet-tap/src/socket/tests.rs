//! What guests may send, in every format, against models of the formats.

use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};

use proptest::prelude::*;
use std::io::Write as _;

use super::*;

/// Cases of each test: `VNET_GUEST_CASES`, or as many as every run of the tests can have.
fn cases() -> u32 {
    let asked = std::env::var("VNET_GUEST_CASES").ok();
    asked.map_or(50_000, |n| n.parse().expect("a number of cases"))
}

/// What a model reads of a stream: the frames, and whether it makes no sense behind them.
fn model(mut bytes: &[u8], prefix: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    while let Some((len, rest)) = bytes.split_at_checked(prefix) {
        let len = match prefix {
            2 => usize::from(len[0]) + 256 * usize::from(len[1]),
            _ => len
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        };
        if !(14..=65_557).contains(&len) {
            return (frames, true);
        }
        let Some((frame, behind)) = rest.split_at_checked(len) else {
            break;
        };
        frames.push(frame.to_vec());
        bytes = behind;
    }
    (frames, false)
}

/// A frame behind its length, or something that looks a little like one.
fn piece(prefix: usize) -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        12 => 14usize..200,
        2 => Just(1514usize),
        1 => prop::sample::select(vec![0, 1, 13, 65_535, 65_549, 65_557, 65_558, 70_000]),
    ];
    let short_by = prop_oneof![20 => Just(0usize), 1 => 1usize..20];
    (len, short_by, any::<u8>()).prop_map(move |(len, short_by, fill)| {
        let mut bytes = match prefix {
            2 => (len as u16).to_le_bytes().to_vec(),
            _ => (len as u32).to_be_bytes().to_vec(),
        };
        bytes.resize((prefix + len).saturating_sub(short_by), fill);
        bytes
    })
}

fn framing(prefix: usize) -> Framing {
    match prefix {
        2 => Framing::Length16,
        _ => Framing::Length32,
    }
}

/// Everything that can be read now, and the error behind it.
fn read_all(inward: &mut dyn Inward, into: &mut Vec<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = inward.read()? {
        assert!(frame.header.is_none());
        into.push(frame.bytes.to_vec());
    }
    Ok(())
}

fn any_stream(prefix: usize) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let bytes = prop_oneof![
        8 => prop::collection::vec(piece(prefix), 0..6).prop_map(|pieces| pieces.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    (bytes, prop::collection::vec(1usize..5000, 1..4))
}

fn stream_is_read_as_the_model_reads_it(
    prefix: usize,
    bytes: &[u8],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut inward, _outward) = line(ours.into(), framing(prefix)).unwrap();
    let (expected, is_senseless) = model(bytes, prefix);
    let mut frames = Vec::new();
    let mut ended = None;
    let mut cuts = cuts.iter().cycle();
    let mut left = bytes;
    while !left.is_empty() && ended.is_none() {
        let (now, later) = left.split_at(left.len().min(*cuts.next().unwrap()));
        theirs.write_all(now).unwrap();
        left = later;
        ended = read_all(&mut *inward, &mut frames).err();
    }
    // It is not enough to drop it: a process that another test starts has a copy of it for a moment.
    theirs.shutdown(Shutdown::Write).unwrap();
    let ended = match ended {
        Some(error) => error,
        None => read_all(&mut *inward, &mut frames).unwrap_err(),
    };
    prop_assert_eq!(frames, expected);
    prop_assert_eq!(
        ended.kind() == io::ErrorKind::InvalidData,
        is_senseless,
        "{}",
        ended
    );
    if !is_senseless {
        prop_assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_stream_of_qemus_is_read_as_a_model_reads_it((bytes, cuts) in any_stream(4)) {
        stream_is_read_as_the_model_reads_it(4, &bytes, &cuts)?;
    }

    #[test]
    fn any_stream_of_hyperkits_is_read_as_a_model_reads_it((bytes, cuts) in any_stream(2)) {
        stream_is_read_as_the_model_reads_it(2, &bytes, &cuts)?;
    }

    /// Packets in sequence end with one of no bytes, whatever was before.
    #[test]
    fn any_packets_are_read_until_their_end(lens in prop::collection::vec(0usize..3000, 0..8)) {
        use rustix::net::{SocketFlags, socketpair};
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let (mut inward, _outward) = line(ours, Framing::Datagrams).unwrap();
        for len in &lens {
            rustix::net::send(&theirs, &vec![1; *len], SendFlags::NOSIGNAL).unwrap();
        }
        rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write).unwrap();
        let mut frames = Vec::new();
        let error = read_all(&mut *inward, &mut frames).unwrap_err();
        prop_assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let expected: Vec<usize> = lens.iter().copied().take_while(|len| *len > 0).collect();
        prop_assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Of whatever comes from whomever, what is heard is what a model of the server hears, and answers
    /// go to whom it hears.
    #[test]
    fn any_datagrams_are_heard_as_a_model_hears_them(
        acts in prop::collection::vec((0usize..3, 0u8..4, prop_oneof![
            9 => 0usize..100, 1 => prop::sample::select(vec![65_557usize, 65_558, 66_000])
        ]), 1..10),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("server");
        let server = UnixDatagram::bind(&at).unwrap();
        let (mut inward, _outward) = line(server.into(), Framing::Datagrams).unwrap();
        // Two with a name, one without, which cannot be answered.
        let names = ["a", "b"].map(|name| folder.path().join(name));
        let mut clients: Vec<_> = names.iter().map(|name| {
            Some(UnixDatagram::bind(name).unwrap())
        }).collect();
        clients.push(Some(UnixDatagram::unbound().unwrap()));
        let mut peer: Option<usize> = None;
        for (who, act, len) in acts {
            let Some(client) = &clients[who] else { continue };
            let message = match act {
                // It goes, and does not come back.
                3 if who < 2 => {
                    clients[who] = None;
                    // A process that another test starts has a copy of it for a moment.
                    let probe = UnixDatagram::unbound().unwrap();
                    while probe.connect(&names[who]).is_ok() {
                        std::thread::yield_now();
                    }
                    continue;
                }
                2 => VFKIT_MAGIC.to_vec(),
                _ => vec![who as u8; len],
            };
            if client.send_to(&message, &at).is_err() {
                continue;
            }
            let is_magic = message == VFKIT_MAGIC;
            let is_free = peer.is_none_or(|peer| clients[peer].is_none());
            let heard = match who {
                2 => peer.is_none(),
                _ if peer == Some(who) || is_free => {
                    peer = Some(who);
                    true
                }
                _ => false,
            };
            let mut frames = Vec::new();
            read_all(&mut *inward, &mut frames).unwrap();
            let expected = match heard && !is_magic {
                // One byte more than a frame has shows that it is none.
                true => vec![message[..message.len().min(MAX_FRAME_LEN + 1)].to_vec()],
                false => Vec::new(),
            };
            prop_assert_eq!(frames, expected);
        }
    }
}
