//! Server sockets for emulators: made at a path or an address, and taken away again.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen,
    socket_with, sockopt,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// What kind of socket emulators are to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// A stream, which they connect to.
    Stream,
    /// Datagrams, which they send there.
    Datagrams,
    /// Packets in sequence (`SOCK_SEQPACKET`), which they connect to.
    Packets,
}

impl SocketKind {
    fn socket_type(self) -> SocketType {
        match self {
            SocketKind::Stream => SocketType::STREAM,
            SocketKind::Datagrams => SocketType::DGRAM,
            SocketKind::Packets => SocketType::SEQPACKET,
        }
    }
}

/// The path of a server socket, which disappears with this, unless another server is there by then.
#[derive(Debug)]
pub struct SocketFile(Option<Bound>);

/// A path, and the file that was made there: its device and its number.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

/// The file that is at a path.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let there = fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(Bound { path, file }) = &self.0
            && file_at(path) == *file
        {
            // Whoever has removed it meanwhile has done no harm.
            let _ = fs::remove_file(path);
        }
    }
}

/// A server socket at `place`: `ADDRESS:PORT`, or a path, whose rights decide who may connect. A socket
/// that a process left at that path which has gone is replaced. A stream or packet socket listens, for
/// [`Guests::listen`](crate::Guests::listen); one of datagrams is for
/// [`Guest::attach`](crate::Guest::attach).
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when somebody is there already, or the path is that of something else
/// than a socket; [`io::ErrorKind::InvalidInput`] when `place` has a colon and no slash, and is no numeric address;
/// whatever the system says.
///
/// ```
/// use vnet_tap::{SocketKind, serve};
///
/// let folder = tempfile::tempdir()?;
/// let at = folder.path().join("lan.sock");
/// let place = at.to_str().ok_or("a path in Unicode")?;
/// let (socket, file) = serve(place, SocketKind::Stream)?;
/// assert!(serve(place, SocketKind::Stream).is_err(), "one is there");
/// drop((socket, file));
/// assert!(!at.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serve(place: &str, kind: SocketKind) -> io::Result<(OwnedFd, SocketFile)> {
    let (address, path): (SocketAddrAny, _) = match place.parse::<SocketAddr>() {
        Ok(address) => (address.into(), None),
        Err(_) => {
            check_place(place)?;
            let path = PathBuf::from(place);
            make_way(&path, kind)?;
            (SocketAddrUnix::new(&path)?.into(), Some(path))
        }
    };
    let family = address.address_family();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind.socket_type(), flags, None)?;
    if family != AddressFamily::UNIX && kind == SocketKind::Stream {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    // From here on it is there.
    let file = SocketFile(path.map(|path| Bound {
        file: file_at(&path),
        path,
    }));
    if kind != SocketKind::Datagrams {
        listen(&socket, BACKLOG)?;
    }
    Ok((socket, file))
}

/// What looks like an address is not a path: `localhost:5555` would be a file of that name.
fn check_place(place: &str) -> io::Result<()> {
    if place.contains(':') && !place.contains('/') {
        let what = format!(
            "expected a path, or ADDRESS:PORT with a numeric address, found {place:?}: a file of that name is \"./{place}\""
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

/// Removes a socket that nobody is at any more.
fn make_way(path: &Path, kind: SocketKind) -> io::Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
    if !there.file_type().is_socket() {
        return Err(in_use());
    }
    let probe = socket_with(
        AddressFamily::UNIX,
        kind.socket_type(),
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // Somebody is there, though perhaps with a socket of another kind, or with no room for one more.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN) => Err(in_use()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_that_has_gone_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("socket");
        let place = at.to_str().unwrap();
        for kind in [
            SocketKind::Stream,
            SocketKind::Datagrams,
            SocketKind::Packets,
        ] {
            let (socket, file) = serve(place, kind).unwrap();
            for other in [SocketKind::Stream, SocketKind::Datagrams] {
                let error = serve(place, other).unwrap_err();
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::AddrInUse,
                    "{kind:?}, {other:?}"
                );
            }
            // As when the process is killed.
            std::mem::forget(file);
            drop(socket);
            assert!(at.exists());
            drop(serve(place, kind).unwrap());
            assert!(!at.exists());
        }
        fs::write(&at, "precious").unwrap();
        let error = serve(place, SocketKind::Stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&at).unwrap(), b"precious");
        let long = "x".repeat(200);
        assert!(serve(&long, SocketKind::Stream).is_err());
    }

    #[test]
    fn what_looks_like_an_address_is_no_file() {
        for place in ["localhost:5555", "192.0.2.1:99999", "::1:5555", ":5555"] {
            let error = serve(place, SocketKind::Stream).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidInput,
                "{place}: {error}"
            );
            assert!(!Path::new(place).exists());
        }
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("a:5");
        drop(serve(at.to_str().unwrap(), SocketKind::Stream).unwrap());
    }

    #[test]
    fn the_socket_of_a_later_server_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("socket");
        let place = at.to_str().unwrap();
        let (first, file) = serve(place, SocketKind::Stream).unwrap();
        fs::remove_file(&at).unwrap();
        let second = serve(place, SocketKind::Stream).unwrap();
        drop((first, file));
        assert!(at.exists(), "it is the second's");
        drop(second);
        assert!(!at.exists());
    }

    #[test]
    fn an_address_is_served_as_well() {
        let (socket, _) = serve("127.0.0.1:0", SocketKind::Stream).unwrap();
        let at = rustix::net::getsockname(&socket).unwrap();
        let at = SocketAddr::try_from(at).unwrap();
        assert!(std::net::TcpStream::connect(at).is_ok());
        serve("[::1]:0", SocketKind::Datagrams).unwrap();
    }
}
