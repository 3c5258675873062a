//! Packets shown to raw sockets.

use super::*;
use crate::base::rng::Rng;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use std::net::Ipv4Addr;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const C: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

struct World {
    raw: Raw,
    rng: Rng,
    stats: Stats,
    out: Out,
}

impl World {
    fn new() -> World {
        World {
            raw: Raw::new(RawConfig::default(), Rng::seeded(1)),
            rng: Rng::seeded(2),
            stats: Stats::default(),
            out: Out::default(),
        }
    }

    fn show(&mut self, proto: u8, src: IpAddr, dst: IpAddr, data: &Payload) -> Verdict {
        let mut cx = Cx {
            now: Instant::ZERO,
            rng: &mut self.rng,
            stats: &mut self.stats,
            out: &mut self.out,
        };
        let meta = RawMeta {
            src,
            dst,
            proto,
            ttl: 61,
            tos: 0,
            ident: 9,
        };
        self.raw.input(&mut cx, &meta, data)
    }
}

#[test]
fn every_socket_that_wants_the_packet_gets_it_by_reference() {
    let mut w = World::new();
    let all = w.raw.open(89).unwrap();
    let bound = w.raw.open(89).unwrap();
    let connected = w.raw.open(89).unwrap();
    let other = w.raw.open(1).unwrap();
    w.raw.bind(bound, A).unwrap();
    w.raw.connect(connected, Some(C)).unwrap();
    let data = Payload::from(vec![1, 2, 3]);
    assert!(w.raw.listens_to(89) && !w.raw.listens_to(17));
    assert_eq!(w.show(89, B, A, &data), Verdict::Delivered);
    assert_eq!(w.show(17, B, A, &data), Verdict::NoSocket);
    for id in [all, bound] {
        let (got, meta) = w.raw.recv(id, Recv::Peek).unwrap().unwrap();
        assert_eq!(got.slices()[0].as_ptr(), data.slices()[0].as_ptr());
        assert_eq!((meta.src, meta.dst, meta.ttl), (B, A, 61));
    }
    for id in [connected, other] {
        assert_eq!(
            w.raw.recv(id, Recv::Peek).err(),
            Some(SocketError::WouldBlock)
        );
    }
    assert_eq!(w.show(89, C, B, &data), Verdict::Delivered);
    let queued: Vec<usize> = w.raw.list().map(|info| info.queued).collect();
    assert_eq!(queued, [2, 1, 1, 0]);
    let released = w.raw.teardown(&mut w.out);
    assert_eq!((released.sockets, released.packets), (4, 4));
    assert!(!w.raw.listens_to(89));
}

#[test]
fn a_full_buffer_is_a_drop_unless_another_socket_took_it() {
    let mut w = World::new();
    let small = w.raw.open(89).unwrap();
    w.raw.options_mut(small).unwrap().recv_buffer = 0;
    let data = Payload::from(vec![1; 10]);
    assert_eq!(w.show(89, B, A, &data), Verdict::Delivered);
    let full = Verdict::Drop(DropReason::SocketBufferFull);
    assert_eq!(w.show(89, B, A, &data), full);
    let large = w.raw.open(89).unwrap();
    assert_eq!(w.show(89, B, A, &data), Verdict::Delivered);
    w.raw.close(&mut w.out, large);
    assert_eq!(w.show(89, B, A, &data), full);
}

#[test]
fn sending_needs_a_destination_and_says_who_writes_the_header() {
    let mut w = World::new();
    let id = w.raw.open(89).unwrap();
    let none = w.raw.send(id, None, Payload::new());
    assert_eq!(none.err(), Some(SocketError::NotConnected));
    w.raw.bind(id, A).unwrap();
    let out = w.raw.send(id, Some(B), vec![1].into()).unwrap();
    assert_eq!((out.src, out.dst, out.proto), (Some(A), B, 89));
    assert_eq!((out.ttl, out.header), (64, IpHeader::Built));
    let six = w.raw.send(id, Some("::1".parse().unwrap()), Payload::new());
    assert_eq!(six.err(), Some(SocketError::InvalidInput));
    let big = w.raw.send(id, Some(B), vec![0; 65_535].into());
    assert_eq!(big.err(), Some(SocketError::MessageTooLong));
    w.raw.options_mut(id).unwrap().header = IpHeader::Included;
    let whole = w.raw.send(id, Some(B), vec![0; 65_535].into()).unwrap();
    assert_eq!(whole.header, IpHeader::Included);
}
