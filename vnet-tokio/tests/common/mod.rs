//! What the tests share: two vnets with a link.

#![allow(dead_code)]

use std::time::Duration;

use vnet::{LinkConfig, OwnedVnet, System};

/// Two vnets, 192.0.2.1 and 192.0.2.2, with `link` in both directions.
pub(crate) fn pair(system: &System, link: &LinkConfig) -> (OwnedVnet, OwnedVnet) {
    let (a, b) = (system.create("a").unwrap(), system.create("b").unwrap());
    a.epair("eth0", &b, "eth0").unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    a.set_link("eth0", link.clone()).unwrap();
    b.set_link("eth0", link.clone()).unwrap();
    (a, b)
}

/// 40 ms, and one frame in a hundred is lost.
pub(crate) fn lossy() -> LinkConfig {
    LinkConfig {
        loss: 0.01.into(),
        delay: Duration::from_millis(40),
        ..LinkConfig::default()
    }
}
