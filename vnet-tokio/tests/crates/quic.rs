//! quinn, on a `UdpSocket`, with tokio's timers. Its keys are random.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Endpoint, EndpointConfig, UdpPoller};
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep, sleep_until};
use vnet_tokio::net::UdpSocket;

use crate::tls::{of_client, of_server};
use crate::{Bytes, Error, Patience, SERVER, in_virtual_time, much, on_threads};

/// The moment to which quinn's times are relative, in the time of the standard library and of tokio.
#[derive(Clone, Copy, Debug)]
struct Clock {
    std: Instant,
    tokio: tokio::time::Instant,
}

impl quinn::Runtime for Clock {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(
            *self,
            Box::pin(sleep_until(self.tokio + (at - self.std))),
        ))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        self.std + self.tokio.elapsed()
    }
}

struct Timer(Clock, Pin<Box<Sleep>>);

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timer").finish()
    }
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let at = self.0.tokio + (at - self.0.std);
        self.1.as_mut().reset(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.1.as_mut().poll(cx)
    }
}

#[derive(Debug)]
struct Socket(UdpSocket);

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.0.try_send_to(transmit.contents, transmit.destination);
        sent.map(drop)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(&mut bufs[0]);
        let received = self.0.poll_recv_from(cx, &mut buf);
        received.map_ok(|addr| {
            let len = buf.filled().len();
            let mut received = RecvMeta::default();
            (received.addr, received.len, received.stride) = (addr, len, len);
            meta[0] = received;
            1
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
struct Writable(Arc<Socket>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.0.poll_send_ready(cx)
    }
}

async fn endpoint(at: &str, server: Option<quinn::ServerConfig>) -> Result<Endpoint, Error> {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some([7; 32]));
    let clock = Clock {
        std: Instant::now(),
        tokio: tokio::time::Instant::now(),
    };
    let socket = Arc::new(Socket(UdpSocket::bind(at).await?));
    Ok(Endpoint::new_with_abstract_socket(
        config,
        server,
        socket,
        Arc::new(clock),
    )?)
}

/// Returns what each stream brings, and ends the second one of a connection after a while.
async fn serve(patience: Patience) -> Result<(), Error> {
    let crypto = QuicServerConfig::try_from(of_server()?)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = endpoint(SERVER, Some(config)).await?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let mut slowly = false;
            loop {
                let (mut send, mut receive) = connection.accept_bi().await?;
                let sent = receive.read_to_end(1 << 20).await?;
                if std::mem::replace(&mut slowly, true) {
                    sleep(patience.answer).await;
                }
                send.write_all(&sent).await?;
                send.finish()?;
            }
            #[allow(unreachable_code)]
            Ok::<_, Error>(())
        });
    }
    Ok(())
}

async fn ask(patience: Patience) -> Result<(), Error> {
    let endpoint = endpoint("192.0.2.1:0", None).await?;
    let crypto = QuicClientConfig::try_from(of_client()?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    config.transport_config(Arc::new(transport));
    let connection = loop {
        // On threads, the server may not be there yet.
        let connecting = endpoint.connect_with(config.clone(), SERVER.parse()?, "server")?;
        match connecting.await {
            Err(quinn::ConnectionError::TimedOut) => {}
            connection => break connection?,
        }
    };
    let exchange = async |connection: &quinn::Connection| {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&much()).await?;
        send.finish()?;
        Ok::<_, Error>(receive.read_to_end(1 << 20).await?)
    };
    assert_eq!(exchange(&connection).await?, much());
    patience.runs_out(exchange(&connection)).await;
    Ok(())
}

#[test]
fn quic() {
    in_virtual_time(Bytes::Random, serve, ask);
    on_threads(serve, ask);
}
