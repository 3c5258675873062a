//! Options of packets, which sockets that are not connected streams have alike.

/// Methods of a `$kind`, whose vnet's socket is `$socket`.
macro_rules! packet_options {
    ($kind:ident, $this:ident => $socket:expr) => {
        impl $kind {
            /// The type of service of packets sent (`IP_TOS`).
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn tos_v4(&self) -> std::io::Result<u32> {
                let $this = self;
                $socket.tos_v4()
            }

            /// Sets the type of service of packets sent (`IP_TOS`).
            ///
            /// # Errors
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) for more than 255; the vnet is gone.
            pub fn set_tos_v4(&self, tos: u32) -> std::io::Result<()> {
                let $this = self;
                $socket.set_tos_v4(tos)
            }

            /// As `tos_v4`.
            ///
            /// # Errors
            /// As `tos_v4`.
            #[deprecated(note = "tokio calls it `tos_v4` now")]
            pub fn tos(&self) -> std::io::Result<u32> {
                self.tos_v4()
            }

            /// As `set_tos_v4`.
            ///
            /// # Errors
            /// As `set_tos_v4`.
            #[deprecated(note = "tokio calls it `set_tos_v4` now")]
            pub fn set_tos(&self, tos: u32) -> std::io::Result<()> {
                self.set_tos_v4(tos)
            }

            /// The traffic class of packets sent (`IPV6_TCLASS`), which is the same as the type of service.
            ///
            /// # Errors
            /// The vnet is gone.
            pub fn tclass_v6(&self) -> std::io::Result<u32> {
                self.tos_v4()
            }

            /// Sets the traffic class of packets sent (`IPV6_TCLASS`), which is the same as the type of service.
            ///
            /// # Errors
            /// As `set_tos_v4`.
            pub fn set_tclass_v6(&self, tclass: u32) -> std::io::Result<()> {
                self.set_tos_v4(tclass)
            }

            /// Binds the socket to an interface of its vnet (`SO_BINDTODEVICE`), or to none; see
            /// [`vnet::net::Socket::bind_device`].
            ///
            /// # Errors
            /// [`AddrNotAvailable`](std::io::ErrorKind::AddrNotAvailable) when there is no such interface; the vnet is
            /// gone.
            pub fn bind_device(&self, interface: Option<&[u8]>) -> std::io::Result<()> {
                let $this = self;
                $socket.bind_device(interface)
            }
        }
    };
}
pub(super) use packet_options;
