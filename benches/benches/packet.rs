//! What every frame pays: prepending headers, pulling them up, stripping them.
#![allow(missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vnet::packet::Pool;
use vnet::packet::{Packet, Payload};

/// Header sizes of a TCP segment with timestamps, from the inside out.
const TCP: usize = 32;
const IPV4: usize = 20;
const ETHERNET: usize = 14;

fn prepend(c: &mut Criterion) {
    let data = Bytes::from(vec![7; 1448]);
    c.bench_function("packet/prepend three headers", |b| {
        b.iter(|| {
            let mut packet = Packet::outgoing(Payload::from(data.clone()));
            for header in [TCP, IPV4, ETHERNET] {
                packet.prepend(header)[0] = black_box(1);
            }
            packet
        });
    });
}

fn pull_up(c: &mut Criterion) {
    let frame = Bytes::from(vec![7; 1514]);
    c.bench_function("packet/pull up and strip three headers", |b| {
        b.iter_batched(
            || Packet::incoming(frame.clone()),
            |mut packet| {
                for header in [ETHERNET, IPV4, TCP] {
                    black_box(packet.pull_up(header));
                    packet.strip(header);
                }
                packet
            },
            BatchSize::SmallInput,
        );
    });
}

fn slice(c: &mut Criterion) {
    let mut payload = Payload::new();
    payload.push(Bytes::from(vec![1; 40_000]));
    payload.push(Bytes::from(vec![2; 40_000]));
    c.bench_function("payload/slice across two pieces", |b| {
        b.iter(|| payload.slice(black_box(30_000)..black_box(50_000)));
    });
}

fn pool(c: &mut Criterion) {
    let pool = Pool::new(1 << 20);
    let mut group = c.benchmark_group("pool/copy");
    for size in [64, 1500, 65_536] {
        let data = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(size.to_string(), |b| b.iter(|| pool.copy(black_box(&data))));
    }
    group.finish();
}

criterion_group!(benches, prepend, pull_up, slice, pool);
criterion_main!(benches);
