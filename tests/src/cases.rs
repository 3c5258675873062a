//! Cases that tests draw: how many are run, and what more than one test draws.

use std::cell::{Cell, RefCell};
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestRng, TestRunner};

/// Parts of the cases that all processors run: many enough that none waits long for another at the end.
const PARTS: u32 = 64;

/// How many frames a test is to try: `few`, unless `VNET_FUZZ_FRAMES` asks for another number.
///
/// # Panics
/// When that is no number.
pub fn frames(few: u32) -> u32 {
    let given = std::env::var("VNET_FUZZ_FRAMES").ok();
    given.map_or(few, |n| n.parse().expect("VNET_FUZZ_FRAMES is a number"))
}

/// Runs `cases` cases, every one of them, from a fixed seed: a failure is the next run's, too. Returns how many ran.
///
/// # Panics
/// When one fails.
pub fn run_cases<S: Strategy>(
    cases: u32,
    seed: u8,
    strategy: &S,
    mut test: impl FnMut(S::Value),
) -> u32 {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = Cell::new(0);
    let test = RefCell::new(&mut test);
    runner
        .run(strategy, |value| {
            ran.set(ran.get() + 1);
            (test.borrow_mut())(value);
            Ok::<(), TestCaseError>(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    ran.get()
}

/// Runs `cases` cases, every one of them, on all processors. What is drawn depends on the number of cases and proptest's
/// seed (`PROPTEST_RNG_SEED`) alone, and not on the processors that there are. Returns how many ran.
///
/// # Panics
/// When one fails, with the least that fails so.
pub fn run_cases_on_all<S: Strategy>(
    cases: u32,
    strategy: impl Fn() -> S + Sync,
    test: impl Fn(S::Value) + Sync,
) -> u32 {
    let (next, ran) = (AtomicU32::new(0), AtomicU32::new(0));
    let run = || {
        let strategy = strategy();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= PARTS {
                return;
            }
            let given = Config::default();
            let seed = match given.rng_seed {
                RngSeed::Fixed(seed) => seed,
                RngSeed::Random => 0,
            };
            let config = Config {
                cases: cases / PARTS + u32::from(part < cases % PARTS),
                failure_persistence: None,
                rng_seed: RngSeed::Fixed(seed.wrapping_add(part.into())),
                // Strategies draw a seed for each alternative: with the default, that is a tenth of the time.
                rng_algorithm: RngAlgorithm::XorShift,
                ..given
            };
            let result = TestRunner::new(config).run(&strategy, |value| {
                test(value);
                ran.fetch_add(1, Ordering::Relaxed);
                Ok::<(), TestCaseError>(())
            });
            if let Err(failure) = result {
                // Nobody needs to look for another.
                next.store(PARTS, Ordering::Relaxed);
                panic!("part {part} of {PARTS}: {failure}");
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let named = || match thread::current().name() {
            Some(name) => thread::Builder::new().name(name.to_owned()),
            None => thread::Builder::new(),
        };
        let all: Vec<_> = (0..threads)
            .map(|_| named().spawn_scoped(scope, run).expect("a thread"))
            .collect();
        for one in all {
            if let Err(failure) = one.join() {
                std::panic::resume_unwind(failure);
            }
        }
    });
    ran.into_inner()
}

/// Extension headers: their types, known ones and others, and what is behind their lengths.
pub fn extension_headers() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = prop_oneof![
        8 => prop::sample::select(vec![0u8, 60, 43, 44]),
        1 => prop::sample::select(vec![50u8, 51, 59, 135, 253]),
        1 => any::<u8>(),
    ];
    let content = prop_oneof![
        // Padding, an option to be skipped, one that asks for a word, a router alert, a jumbo payload.
        3 => prop::sample::select(vec![
            vec![1, 4, 0, 0, 0, 0],
            vec![0x1e, 4, 1, 2, 3, 4],
            vec![0xde, 4, 1, 2, 3, 4],
            vec![0x5e, 4, 1, 2, 3, 4],
            vec![5, 2, 0, 0, 1, 0],
            vec![0xc2, 4, 0, 1, 0, 0],
        ]),
        // A first, middle, last or only fragment of a few datagrams.
        3 => (prop::sample::select(vec![0u8, 1, 8, 9, 16]), 0..3u8)
            .prop_map(|(at, ident)| vec![0, at, 0, 0, 0, ident]),
        // Routing of several types with and without segments left.
        1 => (prop::sample::select(vec![0u8, 2, 3, 4]), 0..2u8)
            .prop_map(|(kind, left)| [&[kind, left][..], &[0; 20]].concat()),
        2 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    let some = prop::collection::vec((kind, content), 0..4);
    prop_oneof![2 => Just(Vec::new()), 3 => some]
}
