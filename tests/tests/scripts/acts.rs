//! What scripts are made of.

use std::time::Duration;

use proptest::prelude::*;
use vnet_tests::cases::extension_headers;
use vnet_tests::frames::{ACK, FIN, PSH, RST, SYN};
use vnet_tests::talks::{Place, Saying};

/// One act of a script. The `usize`s choose among what there is, modulo its number.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A frame comes in from outside, at a vnet's port.
    Rx(usize, Frame),
    /// Time passes.
    Advance(Duration),
    /// Somebody calls the library.
    Api(usize, Op),
}

#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Noise(Vec<u8>),
    Arp(u16, u8),
    Echo(usize, Vec<u8>),
    Datagram(usize, u16, Vec<u8>),
    Fragment(u16, u16, Vec<u8>),
    Segment(usize, u8, u32, Vec<u8>),
    /// A packet of IPv6, with extension headers and this hop limit.
    Six(usize, Vec<(u8, Vec<u8>)>, u8, Six),
    /// The peer opens a connection to a port, where somebody listens.
    Open(u16, u16),
    /// It speaks in one of its conversations.
    Say(usize, Saying),
}

/// What is in a packet of IPv6.
#[derive(Clone, Debug)]
pub(crate) enum Six {
    Datagram(u16, Vec<u8>),
    Segment(u8, u32, Vec<u8>),
    /// An ICMPv6 message: its type, the four octets behind the checksum, addresses, and options of neighbour discovery.
    Message(u8, u32, Vec<usize>, Vec<(u8, Vec<u8>)>),
    /// Another protocol.
    Noise(u8, Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    UdpBind(u16),
    UdpSend(usize, usize, u16, usize),
    UdpConnect(usize, usize, u16),
    UdpRecv(usize),
    EchoOpen,
    EchoSend(usize, usize, usize),
    RawOpen(u8),
    Listen(u16, usize),
    Accept(usize),
    Connect(usize, u16),
    Write(usize, usize),
    Read(usize, usize),
    Peek(usize),
    ShutDown(usize, u8),
    Option(usize, u8),
    Close(usize),
    SetUp(usize, bool),
    Mtu(usize, u16),
    AddAddress(usize, u8),
    RemoveAddress(usize, u8),
    AddRoute(u8, u8),
    RemoveRoute(u8),
    Link(usize, u8),
    Forward(bool),
    RemoveInterface(usize),
    Rewire,
    Bridge,
    Join(usize),
    Leave(usize),
    Destroy,
    Lend(usize, usize, bool),
    Return(usize, usize),
    Reclaim(usize),
    Child,
    Capture(usize),
    EndCapture(usize),
    Task(u16),
    EndTask(usize),
    Twin,
    Drain,
}

/// Distances near the ends of windows, and those at which a comparison could mean either.
fn distance() -> impl Strategy<Value = u32> {
    let far = prop::sample::select(vec![1u32 << 16, 1 << 30, 1 << 31, 3 << 30]);
    prop_oneof![
        8 => Just(0),
        4 => (-2i32..=2).prop_map(|n| n as u32),
        2 => (-3000i32..3000).prop_map(|n| n as u32),
        3 => (far, -2i32..=2).prop_map(|(at, by)| at.wrapping_add_signed(by)),
        1 => any::<u32>(),
    ]
}

/// Boxed, as other large ones are: proptest moves the whole tree of a value about, every alternative that was not taken
/// included, and that took more time than what the scripts do.
fn saying() -> BoxedStrategy<Saying> {
    let place = || {
        prop_oneof![
            2 => distance().prop_map(Place::First),
            1 => distance().prop_map(Place::Last),
        ]
    };
    let flags = prop_oneof![
        8 => Just(ACK),
        1 => prop::sample::select(vec![SYN | ACK, FIN | ACK, RST, RST | ACK, ACK | PSH, SYN]),
        1 => any::<u8>(),
    ];
    let body = prop_oneof![
        2 => Just(0usize),
        1 => 1..40usize,
        1 => prop::sample::select(vec![1400usize]),
    ];
    (
        flags,
        place(),
        prop_oneof![1 => Just(Place::Last(0)), 1 => place()],
        prop_oneof![any::<u16>(), Just(0), Just(u16::MAX)],
        prop_oneof![1 => Just(None), 4 => (distance(), distance()).prop_map(Some)],
        prop::collection::vec((place(), place()), 0..3),
        body,
    )
        .prop_map(|(flags, seq, ack, window, timestamp, sack, body)| Saying {
            flags,
            seq,
            ack,
            window,
            timestamp,
            sack,
            body: vec![0; body],
        })
        .boxed()
}

fn frame() -> BoxedStrategy<Frame> {
    let bytes = |n| prop::collection::vec(any::<u8>(), 0..n);
    let flags = prop::sample::select(vec![
        SYN,
        ACK,
        SYN | ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        ACK | PSH,
        0,
        0xff,
    ]);
    let places = any::<usize>();
    prop_oneof![
        1 => bytes(80).prop_map(Frame::Noise),
        1 => (1..3u16, 0..12u8).prop_map(|(op, host)| Frame::Arp(op, host)),
        1 => (places, bytes(40)).prop_map(|(to, b)| Frame::Echo(to, b)),
        2 => (places, 1..6u16, bytes(40)).prop_map(|(to, p, b)| Frame::Datagram(to, p, b)),
        1 => (0..4u16, prop::sample::select(vec![0x2000u16, 0x2001, 1, 2, 3, 0x3fff]), bytes(40))
            .prop_map(|(ident, fragment, b)| Frame::Fragment(ident, fragment, b)),
        3 => (places, flags, 0..100_000u32, bytes(40))
            .prop_map(|(to, f, seq, b)| Frame::Segment(to, f, seq, b)),
        2 => (1..3u16, 1..6u16).prop_map(|(from, to)| Frame::Open(from, to)),
        8 => (0..3usize, saying()).prop_map(|(n, what)| Frame::Say(n, what)),
        8 => six(),
    ]
    .boxed()
}

fn six() -> BoxedStrategy<Frame> {
    let bytes = |n| prop::collection::vec(any::<u8>(), 0..n);
    let kind = prop_oneof![
        4 => prop::sample::select(vec![128u8, 135, 136]),
        3 => prop::sample::select(vec![1u8, 2, 3, 4, 129, 130, 131, 132, 133, 134, 137, 143]),
        1 => any::<u8>(),
    ];
    let word = prop_oneof![Just(0u32), Just(0x6000_0000), Just(1280), any::<u32>()];
    let option = (
        prop::sample::select(vec![1u8, 1, 2, 3, 4, 5, 14, 24, 25, 31, 99]),
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 6),
            1 => prop::collection::vec(any::<u8>(), 30),
            1 => bytes(40),
        ],
    );
    let message = (
        kind,
        word,
        prop::collection::vec(any::<usize>(), 0..3),
        prop::collection::vec(option, 0..3),
    )
        .prop_map(|(kind, word, addresses, options)| Six::Message(kind, word, addresses, options))
        .boxed();
    let flags = prop::sample::select(vec![SYN, ACK, SYN | ACK, FIN | ACK, RST, ACK | PSH, 0xff]);
    let inside = prop_oneof![
        4 => message,
        2 => (1..6u16, bytes(40)).prop_map(|(port, body)| Six::Datagram(port, body)),
        2 => (flags, 0..100_000u32, bytes(40)).prop_map(|(f, seq, b)| Six::Segment(f, seq, b)),
        1 => (any::<u8>(), bytes(60)).prop_map(|(proto, body)| Six::Noise(proto, body)),
    ];
    let hop_limit = prop_oneof![3 => Just(255u8), 1 => Just(1), 1 => Just(64), 1 => any::<u8>()];
    let extensions = extension_headers().boxed();
    (any::<usize>(), extensions, hop_limit, inside.boxed())
        .prop_map(|(to, extensions, hop_limit, inside)| {
            Frame::Six(to, extensions, hop_limit, inside)
        })
        .boxed()
}

fn op() -> BoxedStrategy<Op> {
    let any = any::<usize>;
    let port = || 1..6u16;
    let traffic = prop_oneof![
        port().prop_map(Op::UdpBind),
        (any(), any(), port(), 0..4000usize).prop_map(|(s, to, p, n)| Op::UdpSend(s, to, p, n)),
        (any(), any(), port()).prop_map(|(s, to, p)| Op::UdpConnect(s, to, p)),
        any().prop_map(Op::UdpRecv),
        Just(Op::EchoOpen),
        (any(), any(), 0..3000usize).prop_map(|(s, to, n)| Op::EchoSend(s, to, n)),
        prop::sample::select(vec![1u8, 6, 17, 89]).prop_map(Op::RawOpen),
        (port(), 0..4usize).prop_map(|(p, b)| Op::Listen(p, b)),
        any().prop_map(Op::Accept),
        (any(), port()).prop_map(|(to, p)| Op::Connect(to, p)),
        (any(), prop_oneof![1..100usize, 1..200_000usize]).prop_map(|(s, n)| Op::Write(s, n)),
        (any(), 1..100_000usize).prop_map(|(s, n)| Op::Read(s, n)),
        any().prop_map(Op::Peek),
        (any(), 0..3u8).prop_map(|(s, how)| Op::ShutDown(s, how)),
        (any(), 0..8u8).prop_map(|(s, which)| Op::Option(s, which)),
        any().prop_map(Op::Close),
    ];
    let administration = prop_oneof![
        (any(), prop::bool::ANY).prop_map(|(i, up)| Op::SetUp(i, up)),
        (
            any(),
            prop::sample::select(vec![68u16, 576, 1280, 1500, 9000, 65_535])
        )
            .prop_map(|(i, mtu)| Op::Mtu(i, mtu)),
        (any(), 0..10u8).prop_map(|(i, n)| Op::AddAddress(i, n)),
        (any(), 0..10u8).prop_map(|(i, n)| Op::RemoveAddress(i, n)),
        (0..10u8, 0..40u8).prop_map(|(n, via)| Op::AddRoute(n, via)),
        (0..10u8).prop_map(Op::RemoveRoute),
        (any(), 0..10u8).prop_map(|(i, n)| Op::Link(i, n)),
        prop::bool::ANY.prop_map(Op::Forward),
        any().prop_map(Op::RemoveInterface),
        Just(Op::Rewire),
        Just(Op::Bridge),
        any().prop_map(Op::Join),
        any().prop_map(Op::Leave),
        Just(Op::Destroy),
    ];
    let instances = prop_oneof![
        3 => (any(), any(), prop::bool::ANY).prop_map(|(i, to, new)| Op::Lend(i, to, new)),
        1 => (any(), any()).prop_map(|(who, i)| Op::Return(who, i)),
        1 => any().prop_map(Op::Reclaim),
        1 => Just(Op::Child),
        1 => any().prop_map(Op::Capture),
        1 => any().prop_map(Op::EndCapture),
        1 => port().prop_map(Op::Task),
        1 => any().prop_map(Op::EndTask),
        1 => Just(Op::Twin),
        1 => Just(Op::Drain),
    ];
    prop_oneof![10 => traffic.boxed(), 4 => administration.boxed(), 3 => instances.boxed()].boxed()
}

pub(crate) fn script(len: usize) -> impl Strategy<Value = Vec<Action>> {
    let time = prop::sample::select(vec![
        0u64, 1, 5, 40, 200, 1_000, 3_000, 15_000, 70_000, 400_000,
    ]);
    let action = prop_oneof![
        3 => (any::<usize>(), frame()).prop_map(|(at, f)| Action::Rx(at, f)),
        3 => time.prop_map(|ms| Action::Advance(Duration::from_millis(ms))),
        6 => (any::<usize>(), op()).prop_map(|(at, op)| Action::Api(at, op)),
    ];
    prop::collection::vec(action, 1..len)
}
