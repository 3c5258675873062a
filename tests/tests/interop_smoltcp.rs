//! A vnet and smoltcp understand each other: they exchange data both ways over TCP while frames
//! get lost, open and close connections from either end, ping each other, and every run can be
//! repeated byte for byte.
//!
//! The stacks are in memory, under a clock that the test moves. No call of the vnet waits under
//! that driver.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::time::Duration;

use proptest::prelude::*;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};
use vnet::net::{EchoEvent, EchoSocket, TcpListener, TcpStream};
use vnet::time::Instant;
use vnet_tests::smol::{Faults, Progress, SMOL, SMOL_6, Smol, VNET, VNET_6, World};
use vnet_tests::stream::{Sink, Source, Summary};

const PORT: u16 = 7;
const SMOL_PORT: u16 = 49_152;
/// Far beyond what a transfer takes, even with backed-off retransmissions.
const DEADLINE: Instant = Instant::from_nanos(3_600_000_000_000);

/// Who closes its direction when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// The vnet, once it has sent everything; smoltcp after it has seen the end.
    VnetFirst,
    /// Smoltcp, once it has sent everything; the vnet after it has seen the end.
    SmolFirst,
    /// Both as soon as they have sent everything.
    EachWhenDone,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// The vnet; smoltcp listens.
    Vnet,
    /// Smoltcp; the vnet listens.
    Smol,
}

/// Over which version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    V4,
    V6,
}

impl Over {
    fn vnet(self) -> IpAddr {
        match self {
            Over::V4 => VNET.into(),
            Over::V6 => VNET_6.into(),
        }
    }

    fn smol(self) -> IpAddr {
        match self {
            Over::V4 => SMOL.into(),
            Over::V6 => SMOL_6.into(),
        }
    }
}

/// What a transfer is to do.
#[derive(Clone, Debug)]
struct Plan {
    over: Over,
    seed: u64,
    faults: Faults,
    from_vnet: u64,
    from_smol: u64,
    opening: Opening,
    closing: Closing,
}

/// What it did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    at_smol: Summary,
    at_vnet: Summary,
    took: Instant,
    transcript: [u8; 32],
}

/// One end connects; data goes both ways at once; both close.
fn transfer(plan: &Plan) -> Outcome {
    let (ours, theirs) = (plan.over.vnet(), plan.over.smol());
    let mut world = World::between(ours, theirs, plan.seed, plan.faults);
    if plan.faults.mark > 0.0 {
        world
            .vnet
            .set_sysctl("net.inet.tcp.ecn", "accurate")
            .unwrap();
    }
    let handle = add_tcp_socket(&mut world.smol);
    let (interface, sockets) = world.smol.parts();
    let socket = sockets.get_mut::<tcp::Socket>(handle);
    let mut vnet_end = match plan.opening {
        Opening::Smol => {
            let listener = TcpListener::bind_in(&world.vnet, (ours, PORT)).unwrap();
            let remote = (IpAddress::from(ours), PORT);
            socket
                .connect(interface.context(), remote, SMOL_PORT)
                .unwrap();
            VnetEnd::new(Some(listener), None, plan)
        }
        Opening::Vnet => {
            socket.listen(PORT).unwrap();
            let remote = (theirs, PORT).into();
            let stream = TcpStream::start_connect_in(&world.vnet, remote).unwrap();
            VnetEnd::new(None, Some(stream), plan)
        }
    };
    let mut smol_end = SmolEnd::new(handle, plan);
    world
        .run(DEADLINE, |smol| {
            let ours = vnet_end.step();
            let theirs = smol_end.step(smol);
            match (ours, theirs) {
                (Progress::Done, Progress::Done) => Progress::Done,
                (Progress::Some, _) | (_, Progress::Some) => Progress::Some,
                _ => Progress::None,
            }
        })
        .unwrap_or_else(|stuck| panic!("{plan:?}: {stuck:?}, {vnet_end:?}, {smol_end:?}"));

    let result = Outcome {
        at_smol: smol_end.sink.summary(),
        at_vnet: vnet_end.sink.summary(),
        took: world.now(),
        transcript: world.transcript(),
    };
    drop(vnet_end.stream);
    drop(vnet_end.listener);
    let report = world.vnet.destroy();
    assert!(report.leaked.is_zero(), "{report}");
    result
}

/// The application on the vnet's side.
#[derive(Debug)]
struct VnetEnd {
    peer: IpAddr,
    listener: Option<TcpListener>,
    stream: Option<TcpStream>,
    source: Source,
    sink: Sink,
    closing: Closing,
    has_closed: bool,
    saw_end: bool,
}

impl VnetEnd {
    fn new(listener: Option<TcpListener>, stream: Option<TcpStream>, plan: &Plan) -> VnetEnd {
        VnetEnd {
            peer: plan.over.smol(),
            listener,
            stream,
            source: Source::new(plan.seed, plan.from_vnet),
            sink: Sink::default(),
            closing: plan.closing,
            has_closed: false,
            saw_end: false,
        }
    }

    fn step(&mut self) -> Progress {
        let Some(stream) = &self.stream else {
            let listener = self.listener.as_ref().expect("there is one or the other");
            return match listener.accept() {
                Ok((stream, from)) => {
                    assert_eq!(from, (self.peer, SMOL_PORT).into());
                    self.stream = Some(stream);
                    Progress::Some
                }
                Err(e) => would_block(e),
            };
        };
        let mut progress = Progress::None;
        let mut buf = [0; 4096];
        while self.source.left() > 0 {
            let n = self.source.peek(&mut buf);
            match (&*stream).write(&buf[..n]) {
                Ok(n) => self.source.consume(n),
                Err(e) => {
                    would_block(e);
                    break;
                }
            }
            progress = Progress::Some;
        }
        while !self.saw_end {
            match (&*stream).read(&mut buf) {
                Ok(0) => self.saw_end = true,
                Ok(n) => self.sink.take(&buf[..n]),
                Err(e) => {
                    would_block(e);
                    break;
                }
            }
            progress = Progress::Some;
        }
        let may_close = self.saw_end || self.closing != Closing::SmolFirst;
        if self.source.left() == 0 && !self.has_closed && may_close {
            stream.shutdown(Shutdown::Write).unwrap();
            self.has_closed = true;
            progress = Progress::Some;
        }
        if self.has_closed && self.saw_end && progress == Progress::None {
            return Progress::Done;
        }
        progress
    }
}

/// The application on smoltcp's side.
#[derive(Debug)]
struct SmolEnd {
    handle: SocketHandle,
    source: Source,
    sink: Sink,
    closing: Closing,
    has_closed: bool,
    saw_end: bool,
}

impl SmolEnd {
    fn new(handle: SocketHandle, plan: &Plan) -> SmolEnd {
        SmolEnd {
            handle,
            source: Source::new(!plan.seed, plan.from_smol),
            sink: Sink::default(),
            closing: plan.closing,
            has_closed: false,
            saw_end: false,
        }
    }

    fn step(&mut self, smol: &mut Smol) -> Progress {
        let socket = smol.sockets.get_mut::<tcp::Socket>(self.handle);
        match socket.state() {
            tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen => {
                return Progress::None;
            }
            tcp::State::Closed | tcp::State::TimeWait if self.has_closed && self.saw_end => {
                return Progress::Done;
            }
            _ => {}
        }
        let mut progress = Progress::None;
        let mut buf = [0; 4096];
        while self.source.left() > 0 && socket.can_send() {
            let n = self.source.peek(&mut buf);
            self.source.consume(socket.send_slice(&buf[..n]).unwrap());
            progress = Progress::Some;
        }
        while !self.saw_end {
            match socket.recv_slice(&mut buf) {
                Ok(0) => break,
                Ok(n) => self.sink.take(&buf[..n]),
                Err(tcp::RecvError::Finished) => self.saw_end = true,
                Err(e) => panic!("smoltcp: {e} in state {}", socket.state()),
            }
            progress = Progress::Some;
        }
        let may_close = self.saw_end || self.closing != Closing::VnetFirst;
        if self.source.left() == 0 && !self.has_closed && may_close {
            socket.close();
            self.has_closed = true;
            progress = Progress::Some;
        }
        progress
    }
}

/// The call could not be served yet; anything else is a failure.
fn would_block(e: std::io::Error) -> Progress {
    assert_eq!(e.kind(), ErrorKind::WouldBlock, "{e}");
    Progress::None
}

fn add_tcp_socket(smol: &mut Smol) -> SocketHandle {
    let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1024]);
    smol.sockets.add(tcp::Socket::new(buffer(), buffer()))
}

/// Runs the plan and compares what arrived with what was sent.
fn check(plan: &Plan) -> Outcome {
    let result = transfer(plan);
    let sent_by_vnet = Source::new(plan.seed, plan.from_vnet).summary();
    let sent_by_smol = Source::new(!plan.seed, plan.from_smol).summary();
    assert_eq!(result.at_smol, sent_by_vnet, "{plan:?}");
    assert_eq!(result.at_vnet, sent_by_smol, "{plan:?}");
    result
}

fn megabyte(seed: u64, loss: f64) -> Plan {
    Plan {
        over: Over::V4,
        seed,
        faults: Faults::loss(loss),
        from_vnet: 1_000_000,
        from_smol: 1_000_000,
        opening: Opening::Smol,
        closing: Closing::EachWhenDone,
    }
}

#[test]
fn a_megabyte_each_way_without_loss() {
    check(&megabyte(1, 0.0));
}

#[test]
fn a_megabyte_each_way_at_one_percent_loss() {
    check(&megabyte(2, 0.01));
}

#[test]
fn a_megabyte_each_way_at_five_percent_loss() {
    check(&megabyte(3, 0.05));
}

#[test]
fn a_megabyte_each_way_over_ipv6() {
    for (seed, loss) in [(1, 0.0), (2, 0.01), (3, 0.05)] {
        check(&Plan {
            over: Over::V6,
            ..megabyte(seed, loss)
        });
    }
}

#[test]
fn a_seed_names_one_run() {
    let plan = Plan {
        from_vnet: 100_000,
        from_smol: 100_000,
        ..megabyte(4, 0.05)
    };
    let first = transfer(&plan);
    assert_eq!(transfer(&plan), first);
    let other = transfer(&Plan { seed: 5, ..plan });
    assert_ne!(other.transcript, first.transcript);
}

#[test]
fn either_end_may_open_and_close_first_and_send_nothing() {
    for closing in [
        Closing::VnetFirst,
        Closing::SmolFirst,
        Closing::EachWhenDone,
    ] {
        for opening in [Opening::Vnet, Opening::Smol] {
            for (from_vnet, from_smol) in [(0, 0), (0, 5000), (5000, 0), (1, 1)] {
                check(&Plan {
                    over: Over::V4,
                    seed: 6,
                    faults: Faults::default(),
                    from_vnet,
                    from_smol,
                    opening,
                    closing,
                });
            }
        }
    }
}

/// Everything at once that a network does to frames.
#[test]
fn a_megabyte_each_way_over_a_bad_network() {
    let faults = Faults {
        loss: 0.02,
        duplicate: 0.02,
        late: 0.1,
        corrupt: 0.02,
        mark: 0.2,
    };
    for over in [Over::V4, Over::V6] {
        for seed in 1..=4 {
            let plan = megabyte(seed, 0.0);
            check(&Plan {
                over,
                faults,
                ..plan
            });
        }
    }
}

/// A seed with which the answers to the first three questions for smoltcp's address are lost.
#[test]
fn a_connection_waits_for_a_resolution_that_takes_long() {
    check(&Plan {
        over: Over::V4,
        seed: 11782199816306978308,
        faults: Faults::loss(0.05),
        from_vnet: 5000,
        from_smol: 0,
        opening: Opening::Vnet,
        closing: Closing::VnetFirst,
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the seed, the version of IP, what the wire does, the amounts, who connects and who closes first.
    #[test]
    fn every_byte_arrives_once_and_in_order(
        over in prop::sample::select(vec![Over::V4, Over::V6]),
        seed in any::<u64>(),
        loss in prop::sample::select(vec![0.0, 0.01, 0.05]),
        others in prop::collection::vec(prop::sample::select(vec![0.0, 0.01, 0.05]), 3),
        mark in prop::sample::select(vec![0.0, 0.2]),
        from_vnet in 0u64..200_000,
        from_smol in 0u64..200_000,
        opening in prop::sample::select(vec![Opening::Vnet, Opening::Smol]),
        closing in prop::sample::select(vec![
            Closing::VnetFirst,
            Closing::SmolFirst,
            Closing::EachWhenDone,
        ]),
    ) {
        let [duplicate, late, corrupt] = others[..] else { unreachable!("three") };
        let faults = Faults { loss, duplicate, late, corrupt, mark };
        check(&Plan { over, seed, faults, from_vnet, from_smol, opening, closing });
    }
}

#[test]
fn smoltcp_pings_a_vnet() {
    for over in [Over::V4, Over::V6] {
        ping_vnet(over);
    }
}

/// Writes an echo request of smoltcp's.
fn write_request(over: Over, ident: u16, seq_no: u16, data: &[u8], message: &mut [u8]) {
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    match over {
        Over::V4 => {
            let request = Icmpv4Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            request.emit(&mut Icmpv4Packet::new_unchecked(message), &checksums);
        }
        Over::V6 => {
            let request = Icmpv6Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            let mut packet = Icmpv6Packet::new_unchecked(message);
            request.emit(&SMOL_6, &VNET_6, &mut packet, &checksums);
        }
    }
}

fn is_reply(over: Over, ident: u16, seq_no: u16, data: &[u8], message: &[u8]) -> bool {
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    match over {
        Over::V4 => {
            let packet = Icmpv4Packet::new_checked(message).unwrap();
            let expected = Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            Icmpv4Repr::parse(&packet, &checksums) == Ok(expected)
        }
        Over::V6 => {
            let packet = Icmpv6Packet::new_checked(message).unwrap();
            let expected = Icmpv6Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            Icmpv6Repr::parse(&VNET_6, &SMOL_6, &packet, &checksums) == Ok(expected)
        }
    }
}

fn ping_vnet(over: Over) {
    const IDENT: u16 = 0x22b;
    /// Octets of an echo request before its data, of either version.
    const HEADER: usize = 8;
    let mut world = World::between(over.vnet(), over.smol(), 7, Faults::default());
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(IDENT)).unwrap();
    let handle = world.smol.sockets.add(socket);
    for (seq_no, size) in [0, 56, 1452].into_iter().enumerate() {
        let mut payload = vec![0; size];
        Source::new(7, size as u64).peek(&mut payload);
        let seq_no = seq_no as u16;
        let socket = world.smol.sockets.get_mut::<icmp::Socket>(handle);
        let message = socket.send(HEADER + size, over.vnet().into()).unwrap();
        write_request(over, IDENT, seq_no, &payload, message);
        world
            .run(world.now() + Duration::from_secs(5), |smol| {
                let socket = smol.sockets.get_mut::<icmp::Socket>(handle);
                let Ok((message, from)) = socket.recv() else {
                    return Progress::None;
                };
                assert_eq!(from, over.vnet().into());
                assert!(is_reply(over, IDENT, seq_no, &payload, message));
                Progress::Done
            })
            .unwrap_or_else(|stuck| panic!("no reply of {size} bytes: {stuck:?}"));
    }
}

#[test]
fn a_vnet_pings_smoltcp() {
    for over in [Over::V4, Over::V6] {
        ping_smoltcp(over);
    }
}

fn ping_smoltcp(over: Over) {
    let mut world = World::between(over.vnet(), over.smol(), 8, Faults::default());
    let socket = EchoSocket::bind_in(&world.vnet).unwrap();
    for (seq, size) in [0, 56, 1452].into_iter().enumerate() {
        let mut payload = vec![0; size];
        Source::new(8, size as u64).peek(&mut payload);
        socket.send_to(seq as u16, &payload, over.smol()).unwrap();
        let mut event = None;
        world
            .run(world.now() + Duration::from_secs(5), |_| {
                match socket.recv() {
                    Ok((received, _)) => event = Some(received),
                    Err(e) => return would_block(e),
                }
                Progress::Done
            })
            .unwrap_or_else(|stuck| panic!("no reply of {size} bytes: {stuck:?}"));
        let Some(EchoEvent::Reply {
            from,
            seq: answered,
            len,
            ..
        }) = event
        else {
            panic!("no reply, but {event:?}");
        };
        assert_eq!((from, answered, len), (over.smol(), seq as u16, size));
    }
}
