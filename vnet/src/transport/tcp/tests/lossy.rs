//! Whatever the wire does, both ends get what was written, and close.

use super::*;

/// Sends `sizes` bytes each way over a bad wire, closes both ends, and checks everything.
pub(super) fn exchange(seed: u64, net: Net, config: TcpConfig, sizes: [usize; 2]) -> World {
    let mut w = World::with(seed, net, config);
    let l = w.listen(B, 80, 8);
    let a = w.connect(A, 80);
    let mut b = None;
    let data = [pattern(sizes[0], 1), pattern(sizes[1], 2)];
    let mut sent = [0, 0];
    let mut got = [Vec::new(), Vec::new()];
    let mut over = [false, false];
    let mut closed = [false, false];
    let chunk = [1, 100, 1448, 5000, 70_000][seed as usize % 5];
    let mut steps = 0;
    while !(over[A] && over[B]) {
        if b.is_none() {
            b = w.on(B, |tcp, cx| tcp.accept(cx, l)).ok().map(|x| x.0);
        }
        for (host, id) in [(A, Some(a)), (B, b)] {
            let Some(id) = id else { continue };
            while sent[host] < data[host].len() {
                let end = (sent[host] + chunk).min(data[host].len());
                let part = &data[host][sent[host]..end];
                let n = if seed.is_multiple_of(2) {
                    w.write(host, id, part)
                } else {
                    w.on(host, |tcp, cx| {
                        let n = tcp.send_space(id)?.min(part.len());
                        if n == 0 {
                            return Err(SocketError::WouldBlock);
                        }
                        tcp.reserve(id, n)?;
                        tcp.send_bytes(cx, id, bytes::Bytes::copy_from_slice(&part[..n]))?;
                        Ok(n)
                    })
                };
                match n {
                    Ok(n) => sent[host] += n,
                    Err(SocketError::WouldBlock) => break,
                    Err(e) => panic!("seed {seed}: write: {e}"),
                }
            }
            if sent[host] == data[host].len() && !closed[host] {
                closed[host] = true;
                if w.state(host, id) != Some(TcpState::SynSent) {
                    w.shutdown(host, id);
                } else {
                    closed[host] = false;
                }
            }
            loop {
                match w.read(host, id, 10_000) {
                    Ok(d) if d.is_empty() => {
                        over[host] = true;
                        break;
                    }
                    Ok(mut d) => got[host].append(&mut d),
                    Err(SocketError::WouldBlock) => break,
                    Err(e) => panic!("seed {seed}: read: {e}"),
                }
            }
        }
        if over[A] && over[B] {
            break;
        }
        steps += 1;
        assert!(steps < 500_000, "seed {seed}: stuck");
        assert!(w.step(), "seed {seed}: nothing can happen any more");
    }
    assert!(got[A] == data[B], "seed {seed}: B to A differs");
    assert!(got[B] == data[A], "seed {seed}: A to B differs");
    w.close(A, a);
    if let Some(b) = b {
        w.close(B, b);
    }
    w.on(B, |tcp, cx| tcp.close_listener(cx, l));
    w.run_out();
    w.assert_empty();
    w
}

fn bad(seed: u64) -> Net {
    let mut rng = Rng::seeded(seed);
    Net {
        loss: [0.0, 0.01, 0.05, 0.15][rng.below(4) as usize],
        duplicate: [0.0, 0.02, 0.2][rng.below(3) as usize],
        reorder: [0.0, 0.05, 0.5][rng.below(3) as usize],
        delay: Duration::from_micros([10, 1_000, 20_000][rng.below(3) as usize]),
        path: Path {
            ip_mtu: [576, 1500, 9000][rng.below(3) as usize],
            gso_max: [0, 65_000][rng.below(2) as usize],
        },
        cut: rng.below(2) == 0,
        bits_per_second: None,
        tick: Duration::from_micros([0, 0, 0, 3_000][rng.below(4) as usize]),
    }
}

#[test]
fn bytes_arrive_whatever_the_wire_does() {
    for seed in 0..300 {
        let mut rng = Rng::seeded(seed ^ 77);
        let sizes = [rng.below(60_000) as usize, rng.below(30_000) as usize];
        exchange(seed, bad(seed), TcpConfig::default(), sizes);
    }
}

#[test]
fn and_without_options_and_with_small_buffers() {
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed ^ 99);
        let feature = |on: u32| if on == 0 { Feature::Off } else { Feature::On };
        let config = TcpConfig {
            send_buffer: [3_000, 65_536][rng.below(2) as usize],
            recv_buffer: [1_000, 4_000, 65_536][rng.below(3) as usize],
            timestamps: feature(rng.below(2)),
            sack: feature(rng.below(2)),
            window_scaling: feature(rng.below(2)),
            ..TcpConfig::default()
        };
        let sizes = [rng.below(40_000) as usize, rng.below(40_000) as usize];
        exchange(seed, bad(seed), config, sizes);
    }
}
