//! What a vnet says as a router on the link of an interface.

use super::neighbours::with_neighbours;
use super::record::{IfOp, Op};
use crate::instance::privilege::Privilege;
use crate::instance::vnet::Vnet;
use crate::ip::v6::router::RouterConfig;
use crate::netif::AdminError;

impl Vnet {
    /// Sets the contents of the router advertisements on the link of an interface; with `None`, they follow from its
    /// addresses. Advertisements are sent if the vnet forwards and `net.inet6.ip6.rtadv_interval` is not 0.
    ///
    /// ```
    /// use vnet::{RouterConfig, System};
    ///
    /// let router = System::virtual_time(1).create("router")?;
    /// router.port("eth0", None)?;
    /// let config = RouterConfig {
    ///     mtu: Some(1400),
    ///     dns: vec!["2001:db8::53".parse()?],
    ///     ..RouterConfig::default()
    /// };
    /// router.set_router("eth0", Some(config))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No interface of that name; one whose kind has no neighbours, as loopback; a value out of range; more than fits
    /// one message.
    pub fn set_router(
        &self,
        interface: &str,
        config: Option<RouterConfig>,
    ) -> Result<(), AdminError> {
        self.require(Privilege::InterfaceConfig)?;
        if let Some(config) = &config {
            config.validate()?;
        }
        self.configure(|stack, _| {
            let id = with_neighbours(stack, interface)?;
            stack.set_router(id, config.clone());
            let op = IfOp::SetRouter {
                config: config.map(Box::new),
            };
            Ok(Op::Interface(interface.to_owned(), op))
        })
    }
}
