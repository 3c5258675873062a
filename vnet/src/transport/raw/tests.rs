//! Packets shown to raw sockets.

use super::*;
use crate::base::rng::Rng;
use crate::base::stats::{DropReason, Stats};
use crate::base::time::Instant;
use crate::transport::edge::ReadMode;
use std::net::Ipv4Addr;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

struct World {
    raw: Raw,
    rng: Rng,
    stats: Stats,
    out: Out,
}

impl World {
    fn new() -> World {
        World {
            raw: Raw::new(Rng::seeded(1)),
            rng: Rng::seeded(2),
            stats: Stats::default(),
            out: Out::default(),
        }
    }

    fn show(&mut self, proto: u8, data: &Payload) -> Verdict {
        let mut cx = Cx {
            now: Instant::ZERO,
            rng: &mut self.rng,
            stats: &mut self.stats,
            out: &mut self.out,
        };
        let meta = RawMeta {
            src: B,
            dst: A,
            proto,
            ttl: 61,
            tos: 0,
            ident: 9,
        };
        self.raw.input(&mut cx, &meta, data)
    }
}

#[test]
fn every_socket_of_the_protocol_gets_the_packet_by_reference() {
    let mut w = World::new();
    let (one, two) = (w.raw.open(89).unwrap(), w.raw.open(89).unwrap());
    let other = w.raw.open(1).unwrap();
    let data = Payload::from(vec![1, 2, 3]);
    assert!(w.raw.listens_to(89) && !w.raw.listens_to(17));
    assert_eq!(w.show(89, &data), Verdict::Delivered);
    assert_eq!(w.show(17, &data), Verdict::NoSocket);
    for id in [one, two] {
        let (got, meta) = w.raw.sockets.recv(id, ReadMode::Peek).unwrap();
        assert_eq!(
            got.slices().map(<[u8]>::as_ptr).next(),
            data.slices().map(<[u8]>::as_ptr).next()
        );
        assert_eq!((meta.src, meta.dst, meta.ttl), (B, A, 61));
    }
    let nothing = w.raw.sockets.recv(other, ReadMode::Peek);
    assert_eq!(nothing.err(), Some(SocketError::WouldBlock));
    assert_eq!((w.raw.sockets.len(), w.raw.sockets.queued()), (3, 2));
    w.raw.teardown(&mut w.out);
    assert_eq!((w.raw.sockets.len(), w.raw.sockets.queued()), (0, 0));
    assert!(!w.raw.listens_to(89));
}

#[test]
fn a_full_buffer_is_a_drop_unless_another_socket_took_it() {
    let mut w = World::new();
    let small = w.raw.open(89).unwrap();
    w.raw.sockets.get_mut(small).unwrap().options.recv_buffer = 0;
    let data = Payload::from(vec![1; 10]);
    assert_eq!(w.show(89, &data), Verdict::Delivered);
    let full = Verdict::Drop(DropReason::SocketBufferFull);
    assert_eq!(w.show(89, &data), full);
    let large = w.raw.open(89).unwrap();
    assert_eq!(w.show(89, &data), Verdict::Delivered);
    w.raw.close(&mut w.out, large);
    assert_eq!(w.show(89, &data), full);
}

#[test]
fn what_is_sent_has_the_options_of_the_socket_and_fits_a_packet() {
    let mut w = World::new();
    let id = w.raw.open(89).unwrap();
    let out = w.raw.send(id, vec![1].into()).unwrap();
    assert_eq!((out.proto, out.ttl, out.tos), (89, 0, 0));
    let big = w.raw.send(id, vec![0; MAX_PAYLOAD + 1].into());
    assert_eq!(big.err(), Some(SocketError::MessageTooLong));
    w.raw.close(&mut w.out, id);
    let gone = w.raw.send(id, Payload::new());
    assert_eq!(gone.err(), Some(SocketError::Gone));
}
