//! A connected socket that carries single bytes: std's and ours alike.

use std::io::{Read, Write};

use super::PATIENCE;
use crate::compare::SideError;

/// One end of a connected pair.
pub(super) trait Link: Send + 'static {
    /// Sends one byte.
    fn send_byte(&mut self, byte: u8) -> Result<(), SideError>;
    /// Waits for one byte.
    fn recv_byte(&mut self) -> Result<u8, SideError>;
    /// Gives up on a byte that takes longer than [`PATIENCE`].
    fn be_patient(&mut self) -> Result<(), SideError>;
    /// Waits for bytes without end.
    fn wait_forever(&mut self);
}

macro_rules! link {
    ($socket:ty, $send:ident, $recv:ident) => {
        impl Link for $socket {
            fn send_byte(&mut self, byte: u8) -> Result<(), SideError> {
                match self.$send(&[byte])? {
                    1 => Ok(()),
                    n => Err(SideError::new(format!("{n} bytes sent instead of one"))),
                }
            }

            fn recv_byte(&mut self) -> Result<u8, SideError> {
                let mut byte = [0; 2];
                match self.$recv(&mut byte)? {
                    1 => Ok(byte[0]),
                    n => Err(SideError::new(format!("{n} bytes received instead of one"))),
                }
            }

            fn be_patient(&mut self) -> Result<(), SideError> {
                Ok(self.set_read_timeout(Some(PATIENCE))?)
            }

            fn wait_forever(&mut self) {
                self.set_read_timeout(None)
                    .expect("a socket that had a timeout can lose it");
            }
        }
    };
}

link!(std::net::TcpStream, write, read);
link!(std::net::UdpSocket, send, recv);
link!(vnet::net::TcpStream, write, read);
link!(vnet::net::UdpSocket, send, recv);
