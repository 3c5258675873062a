//! The examples do what they say.

#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/flaky.rs"]
mod flaky;
#[path = "../examples/web.rs"]
mod web;

use std::time::Duration;

#[test]
fn ten_minutes_of_echoes() {
    let took = echo::run().unwrap();
    assert!(
        took >= Duration::from_secs(600) && took < Duration::from_secs(660),
        "{took:?}"
    );
}

#[test]
fn web_twice_is_the_same_run() {
    assert_eq!(web::run(7).unwrap(), web::run(7).unwrap());
}

#[test]
fn a_client_on_flaky_networks() {
    flaky::run(10).unwrap();
}
