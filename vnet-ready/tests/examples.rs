//! The examples do what they say.

#[path = "../examples/guest.rs"]
mod guest;
#[path = "../examples/sockets.rs"]
mod sockets;

#[test]
fn a_guest_fetches_by_frames_that_a_loop_carries() {
    // Segments of 1448 bytes at most.
    let frames = guest::run(100_000).unwrap();
    assert!(frames > 100_000 / 1448, "{frames}");
}

#[test]
fn a_loop_serves_many_connections() {
    assert_eq!(sockets::run(16).unwrap(), 16 * 10 * 5);
}
