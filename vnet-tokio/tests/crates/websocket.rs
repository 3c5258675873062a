//! tokio-tungstenite. A client masks what it sends by random numbers.

use futures_util::{SinkExt, StreamExt};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use vnet_tokio::net::TcpListener;

use crate::{Bytes, Error, Patience, SERVER, connect, in_virtual_time, much, on_threads};

/// Returns each binary message, and answers text after a while.
async fn serve(patience: Patience) -> Result<(), Error> {
    let listener = TcpListener::bind(SERVER).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await?;
            while let Some(message) = socket.next().await {
                match message? {
                    message if message.is_binary() => socket.send(message).await?,
                    message if message.is_text() => {
                        sleep(patience.answer).await;
                        socket.send(message).await?;
                    }
                    _ => {}
                }
            }
            Ok::<_, Error>(())
        });
    }
}

async fn ask(patience: Patience) -> Result<(), Error> {
    let stream = connect().await?;
    let (mut socket, _) = tokio_tungstenite::client_async("ws://server/", stream).await?;
    for _ in 0..3 {
        socket.send(Message::binary(much())).await?;
        let answer = socket.next().await.expect("the connection is open")?;
        assert_eq!(answer.into_data(), much());
    }
    socket.send(Message::text("slowly")).await?;
    patience.runs_out(socket.next()).await;
    Ok(())
}

#[test]
fn websockets() {
    in_virtual_time(Bytes::Random, serve, ask);
    on_threads(serve, ask);
}
