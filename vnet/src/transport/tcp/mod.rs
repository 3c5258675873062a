//! Stub.
#![allow(missing_docs, unused)]
use super::datagram::Interest;
use super::error::SocketError;
use super::ports::Reuse;
use crate::base::{
    rng::Rng,
    stats::DropReason,
    time::{Duration, Instant},
};
use crate::packet::{Cx, Payload, header::TcpHeader};
use bytes::Bytes;
use std::{
    net::{Shutdown, SocketAddr},
    task::Waker,
};
slotmap::new_key_type! { pub struct ConnId; pub struct ListenerId; }
pub struct SegmentIn<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub header: &'a TcpHeader,
    pub payload: Payload,
    pub gso_segment: Option<u16>,
}
pub enum Verdict {
    Delivered,
    Drop(DropReason),
}
pub struct SegmentOut {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub header: TcpHeader,
    pub payload: Payload,
    pub gso: Option<u16>,
    pub ttl: u8,
    pub tos: u8,
}
pub struct Path {
    pub ip_mtu: u32,
    pub gso_max: u32,
}
#[derive(Default)]
pub struct TcpConfig;
#[derive(Default)]
pub struct Counts {
    pub sockets: u64,
    pub connections: u64,
    pub buffered_bytes: u64,
    pub deadlines: u64,
}
#[derive(Clone, Copy)]
pub enum Consume {
    Yes,
    No,
}
type R<T> = Result<T, SocketError>;
pub struct Tcp;
impl Tcp {
    pub fn new(_: TcpConfig, _: Rng) -> Tcp {
        Tcp
    }
    pub fn input(&mut self, cx: &mut Cx, s: SegmentIn) -> Verdict {
        Verdict::Drop(DropReason::NoSocket)
    }
    pub fn poll_transmit(&mut self, cx: &mut Cx) -> Option<SegmentOut> {
        None
    }
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }
    pub fn on_deadline(&mut self, cx: &mut Cx) {}
    pub fn teardown(&mut self, cx: &mut Cx) {}
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
    pub fn on_icmp_error(
        &mut self,
        cx: &mut Cx,
        l: SocketAddr,
        r: SocketAddr,
        seq: u32,
        k: crate::packet::header::IcmpKind,
    ) -> bool {
        false
    }
    pub fn connect(&mut self, cx: &mut Cx, l: SocketAddr, r: SocketAddr, p: Path) -> R<ConnId> {
        todo!()
    }
    pub fn listen(
        &mut self,
        cx: &mut Cx,
        l: SocketAddr,
        b: usize,
        r: Reuse,
    ) -> R<(ListenerId, SocketAddr)> {
        todo!()
    }
    pub fn accept(&mut self, cx: &mut Cx, l: ListenerId) -> R<(ConnId, SocketAddr)> {
        todo!()
    }
    pub fn register_accept(&mut self, l: ListenerId, w: &Waker) {
        todo!()
    }
    pub fn register(&mut self, l: ConnId, i: Interest, w: &Waker) {
        todo!()
    }
    pub fn close_listener(&mut self, cx: &mut Cx, l: ListenerId) {
        todo!()
    }
    pub fn close(&mut self, cx: &mut Cx, l: ConnId) {
        todo!()
    }
    pub fn connected(&mut self, l: ConnId) -> R<()> {
        todo!()
    }
    pub fn recv(
        &mut self,
        cx: &mut Cx,
        l: ConnId,
        m: usize,
        into: &mut Payload,
        c: Consume,
    ) -> R<usize> {
        todo!()
    }
    pub fn send_bytes(&mut self, cx: &mut Cx, l: ConnId, b: Bytes) -> R<()> {
        todo!()
    }
    pub fn send_reserved(&mut self, cx: &mut Cx, l: ConnId, b: Bytes) -> R<()> {
        todo!()
    }
    pub fn send_copy(&mut self, cx: &mut Cx, l: ConnId, b: &[u8]) -> R<usize> {
        todo!()
    }
    pub fn send_space(&mut self, l: ConnId) -> R<usize> {
        todo!()
    }
    pub fn reserve(&mut self, l: ConnId, n: usize) -> R<()> {
        todo!()
    }
    pub fn shutdown(&mut self, cx: &mut Cx, l: ConnId, h: Shutdown) -> R<()> {
        todo!()
    }
    pub fn local_addr(&self, l: ConnId) -> R<SocketAddr> {
        todo!()
    }
    pub fn peer_addr(&self, l: ConnId) -> R<SocketAddr> {
        todo!()
    }
    pub fn take_error(&mut self, l: ConnId) -> Option<SocketError> {
        todo!()
    }
    pub fn set_nodelay(&mut self, cx: &mut Cx, l: ConnId, n: bool) -> R<()> {
        todo!()
    }
    pub fn nodelay(&self, l: ConnId) -> R<bool> {
        todo!()
    }
    pub fn set_keepalive(&mut self, cx: &mut Cx, l: ConnId, n: bool) -> R<()> {
        todo!()
    }
    pub fn set_ttl(&mut self, l: ConnId, n: u8) -> R<()> {
        todo!()
    }
    pub fn ttl(&self, l: ConnId) -> R<u8> {
        todo!()
    }
    pub fn set_linger(&mut self, l: ConnId, n: Option<Duration>) -> R<()> {
        todo!()
    }
    pub fn linger(&self, l: ConnId) -> R<Option<Duration>> {
        todo!()
    }
}
