//! Entering and leaving a vnet, and asking which is current.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vnet::{System, Vnet};

fn enter(c: &mut Criterion) {
    let vnet = System::manual(1).create("a").expect("the name is free");
    c.bench_function("context/enter and leave", |b| {
        b.iter(|| drop(black_box(vnet.enter())));
    });
}

fn nested(c: &mut Criterion) {
    let system = System::manual(1);
    let outer = system.create("a").expect("the name is free");
    let inner = system.create("b").expect("the name is free");
    let _outside = outer.enter();
    c.bench_function("context/enter and leave inside another", |b| {
        b.iter(|| drop(black_box(inner.enter())));
    });
}

fn current(c: &mut Criterion) {
    let vnet = System::manual(1).create("a").expect("the name is free");
    let _inside = vnet.enter();
    c.bench_function("context/current", |b| b.iter(|| black_box(Vnet::current())));
}

criterion_group!(benches, enter, nested, current);
criterion_main!(benches);
