//! Writing captures in the pcapng format (draft-ietf-opsawg-pcapng), through the `pcap-file`
//! crate: little-endian on every host, times in nanoseconds since the start of the system, and
//! nothing that tells one machine from another, so that equal runs give equal bytes.
//!
//! A frame is written as it would be on the wire: its VLAN tag in place, its transport checksum
//! filled in. A segment that has not been cut yet is written whole; it is a valid packet. Nothing
//! is read here.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::{DataLink, Endianness, PcapError};

use super::buf::Packet;
use super::checksum;
use super::header::ether;
use super::meta::Direction;
use crate::base::time::Instant;

/// Writes one capture file.
pub(crate) struct PcapngWriter<W: Write> {
    inner: PcapNgWriter<W>,
    interfaces: u32,
}

/// What is written beside a frame, and how much of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameNote<'a> {
    /// A comment (`opt_comment`), such as why the frame was dropped.
    pub comment: Option<&'a str>,
    /// Frames that the capture missed since the last one (`epb_dropcount`); zero is not written.
    pub missed: u64,
    /// Bytes of the frame to keep at most; its true length is written as well.
    pub snaplen: Option<u32>,
}

/// What a capture says of an interface at its end (an interface statistics block).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterfaceStatistics {
    /// Frames that should have been captured (`isb_ifrecv`).
    pub seen: u64,
    /// Those that could not be, for want of room (`isb_ifdrop`).
    pub missed: u64,
}

/// An interface of one capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CaptureInterface(u32);

impl<W: Write> PcapngWriter<W> {
    /// Starts a file. Writes are small: give it a buffered writer.
    ///
    /// # Errors
    /// What the writer says.
    pub(crate) fn new(writer: W) -> io::Result<PcapngWriter<W>> {
        let inner = PcapNgWriter::with_endianness(writer, Endianness::Little).map_err(io_error)?;
        Ok(PcapngWriter {
            inner,
            interfaces: 0,
        })
    }

    /// Adds an Ethernet interface, under the name that is shown for it.
    ///
    /// # Errors
    /// What the writer says.
    #[cfg(test)]
    pub(crate) fn add_interface(&mut self, name: &str) -> io::Result<CaptureInterface> {
        self.add_snapped_interface(name, NO_SNAPLEN)
    }

    /// As [`PcapngWriter::add_interface`], for an interface of whose frames at most `snaplen`
    /// bytes are written; zero is no limit.
    ///
    /// # Errors
    /// What the writer says.
    pub(crate) fn add_snapped_interface(
        &mut self,
        name: &str,
        snaplen: u32,
    ) -> io::Result<CaptureInterface> {
        let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, snaplen);
        block.options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        self.inner.write_pcapng_block(block).map_err(io_error)?;
        let number = self.interfaces;
        self.interfaces += 1;
        Ok(CaptureInterface(number))
    }

    /// Writes a frame that passed `interface` at `at`.
    ///
    /// # Errors
    /// What the writer says; [`io::ErrorKind::InvalidInput`] for an interface of another file.
    #[cfg(test)]
    pub(crate) fn write(
        &mut self,
        interface: CaptureInterface,
        at: Instant,
        way: Direction,
        frame: &Packet,
    ) -> io::Result<()> {
        self.write_noted(interface, at, way, frame, FrameNote::default())
    }

    /// As [`PcapngWriter::write`], with what there is to say about the frame.
    ///
    /// # Errors
    /// As [`PcapngWriter::write`].
    pub(crate) fn write_noted(
        &mut self,
        interface: CaptureInterface,
        at: Instant,
        way: Direction,
        frame: &Packet,
        note: FrameNote<'_>,
    ) -> io::Result<()> {
        let mut bytes = on_the_wire(frame);
        let original_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Some(snaplen) = note.snaplen {
            bytes.truncate(snaplen as usize);
        }
        let flags = match way {
            Direction::In => FLAG_INBOUND,
            Direction::Out => FLAG_OUTBOUND,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if note.missed > 0 {
            options.push(EnhancedPacketOption::DropCount(note.missed));
        }
        if let Some(comment) = note.comment {
            options.push(EnhancedPacketOption::Comment(Cow::Borrowed(comment)));
        }
        let block = EnhancedPacketBlock {
            interface_id: interface.0,
            timestamp: Duration::from_nanos(at.as_nanos()),
            original_len,
            data: Cow::Owned(bytes),
            options,
        };
        self.inner.write_pcapng_block(block).map_err(io_error)?;
        Ok(())
    }

    /// Writes what the capture knows of `interface` at `at`: once, after its frames.
    ///
    /// # Errors
    /// As [`PcapngWriter::write`].
    pub(crate) fn write_statistics(
        &mut self,
        interface: CaptureInterface,
        at: Instant,
        statistics: InterfaceStatistics,
    ) -> io::Result<()> {
        let block = InterfaceStatisticsBlock {
            interface_id: interface.0,
            // The format has the high half first; the crate writes one little-endian number.
            timestamp: at.as_nanos().rotate_left(32),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(statistics.seen),
                InterfaceStatisticsOption::IsbIfDrop(statistics.missed),
            ],
        };
        self.inner.write_pcapng_block(block).map_err(io_error)?;
        Ok(())
    }

    /// The writer, which may be emptied if it is a buffer.
    pub(crate) fn get_mut(&mut self) -> &mut W {
        self.inner.get_mut()
    }

    /// The writer.
    #[cfg(test)]
    pub(crate) fn into_inner(self) -> W {
        self.inner.into_inner()
    }
}

/// All bytes of a frame as a wire would carry them.
fn on_the_wire(frame: &Packet) -> Vec<u8> {
    let mut frame = frame.clone();
    // A checksum that cannot be filled in is shown as it is: a capture shows what there is.
    let network = ether::network_offset(&mut frame);
    let _ = checksum::finish(&mut frame, network);
    frame.to_vec()
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    }
}

/// Zero is "no limit".
#[cfg(test)]
const NO_SNAPLEN: u32 = 0;
/// `if_tsresol`: the negative power of ten.
const NANOSECONDS: u8 = 9;
/// `epb_flags`, bits 0 and 1.
const FLAG_INBOUND: u32 = 0b01;
const FLAG_OUTBOUND: u32 = 0b10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::header::IpProto;
    use crate::packet::header::ether::ETHER_LEN;
    use crate::packet::meta::Csum;
    use crate::packet::payload::Payload;
    use pcap_file::pcapng::{Block, PcapNgReader};

    fn capture(frames: &[(u64, Packet)]) -> Vec<u8> {
        let mut writer = PcapngWriter::new(Vec::new()).expect("a vector takes everything");
        let a = writer.add_interface("a:eth0").expect("a vector");
        let b = writer.add_interface("b:eth0").expect("a vector");
        for (n, (at, frame)) in frames.iter().enumerate() {
            let (at, way) = (Instant::from_nanos(*at), Direction::Out);
            let interface = if n % 2 == 0 { a } else { b };
            writer.write(interface, at, way, frame).expect("a vector");
        }
        writer.into_inner()
    }

    #[test]
    fn frames_are_read_back_as_they_were_written() {
        let mut second = Packet::incoming(vec![2; 61]);
        second.prepend(4).fill(9);
        let late = 5_000_000_000_000_000_001;
        let bytes = capture(&[(1, Packet::incoming(vec![1; 60])), (late, second)]);
        let mut reader = PcapNgReader::new(&bytes[..]).expect("a section header");
        let mut seen = Vec::new();
        let mut names = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.expect("a block") {
                Block::InterfaceDescription(i) => names.push(i.into_owned().options),
                Block::EnhancedPacket(p) => {
                    seen.push((p.interface_id, p.timestamp.as_nanos(), p.data.to_vec()));
                }
                other => panic!("an unexpected block {other:?}"),
            }
        }
        assert_eq!(names.len(), 2);
        assert_eq!(
            names[1],
            [
                InterfaceDescriptionOption::IfName("b:eth0".into()),
                InterfaceDescriptionOption::IfTsResol(9)
            ]
        );
        let second = [vec![9; 4], vec![2; 61]].concat();
        assert_eq!(seen, [(0, 1, vec![1; 60]), (1, u128::from(late), second)]);
    }

    #[test]
    fn a_note_is_written_beside_the_frame_and_the_frame_cut() {
        let mut writer = PcapngWriter::new(Vec::new()).expect("a vector");
        let a = writer.add_snapped_interface("a", 20).expect("a vector");
        let note = FrameNote {
            comment: Some("why"),
            missed: 3,
            snaplen: Some(20),
        };
        let frame = Packet::incoming(vec![1; 60]);
        writer
            .write_noted(a, Instant::from_nanos(1), Direction::In, &frame, note)
            .expect("a vector");
        let bytes = writer.into_inner();
        let mut reader = PcapNgReader::new(&bytes[..]).expect("a section header");
        let Some(Ok(Block::InterfaceDescription(interface))) = reader.next_block() else {
            panic!("no interface");
        };
        assert_eq!(interface.snaplen, 20);
        let Some(Ok(Block::EnhancedPacket(packet))) = reader.next_block() else {
            panic!("no frame");
        };
        assert_eq!((packet.data.len(), packet.original_len), (20, 60));
        let options = [
            EnhancedPacketOption::Flags(FLAG_INBOUND),
            EnhancedPacketOption::DropCount(3),
            EnhancedPacketOption::Comment("why".into()),
        ];
        assert_eq!(packet.options, options);
    }

    #[test]
    fn the_time_of_statistics_has_its_high_half_first() {
        let mut writer = PcapngWriter::new(Vec::new()).expect("a vector");
        let a = writer.add_interface("a").expect("a vector");
        writer.get_mut().clear();
        let at = Instant::from_nanos(0x0102_0304_0506_0708);
        let statistics = InterfaceStatistics { seen: 9, missed: 2 };
        writer
            .write_statistics(a, at, statistics)
            .expect("a vector");
        let bytes = writer.into_inner();
        // Type 5, length 52, interface 0, time, isb_ifrecv, isb_ifdrop, end of options, length.
        let block = [
            5, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 4, 0, 8, 0, 9, 0, 0, 0, 0,
            0, 0, 0, 5, 0, 8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0,
        ];
        assert_eq!(bytes, block);
    }

    #[test]
    fn the_bytes_are_the_same_on_every_host() {
        let bytes = capture(&[]);
        // Section header: type, length 28, byte-order magic, version 1.0, unknown length.
        let header = [
            0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0,
        ];
        assert_eq!(bytes[..28], header);
        // Interface: type, length 44, Ethernet, no limit, if_name of 6, if_tsresol 9, end.
        let interface = [
            1, 0, 0, 0, 44, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 6, 0, b'a', b':', b'e', b't',
            b'h', b'0', 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0,
        ];
        assert_eq!(bytes[28..72], interface);
    }

    /// An IPv4 packet with a UDP datagram whose checksum is left to the device.
    fn partial() -> Packet {
        let mut frame = Packet::outgoing(Payload::from(b"data".to_vec()));
        frame
            .prepend(8)
            .copy_from_slice(&[0, 7, 0, 9, 0, 12, 0xde, 0xad]);
        frame.prepend(20).copy_from_slice(&[
            0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0xf6, 0xc9, 192, 0, 2, 1, 192, 0, 2, 2,
        ]);
        frame.prepend(ETHER_LEN).fill(1);
        frame.meta.csum = Csum::Partial {
            start: 20,
            offset: 6,
        };
        frame
    }

    #[test]
    fn a_partial_checksum_is_filled_in_and_the_frame_left_alone() {
        let frame = partial();
        let bytes = on_the_wire(&frame);
        let udp = &bytes[ETHER_LEN + 20..];
        assert_ne!(udp[6..8], [0xde, 0xad]);
        let mut sum = checksum::pseudo_header(
            std::net::IpAddr::from([192, 0, 2, 1]),
            std::net::IpAddr::from([192, 0, 2, 2]),
            IpProto::UDP,
            12,
        );
        sum.add(udp);
        assert!(sum.is_valid());
        assert_eq!(frame.to_vec()[ETHER_LEN + 26..ETHER_LEN + 28], [0xde, 0xad]);
    }
}
