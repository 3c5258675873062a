//! tokio-rustls, with ring. Keys are random. The key of the certificate is one of Ed25519, whose signatures all have the
//! same length.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use vnet_tokio::net::TcpListener;

use crate::{Bytes, Error, Patience, SERVER, connect, in_virtual_time, much, on_threads};

/// Of `server`, signed by itself, from 2000 to 2099.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBFDCBx6ADAgECAgEBMAUGAytlcDARMQ8wDQYDVQQDDAZzZXJ2ZXIwIBcNMDAw
MTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMBExDzANBgNVBAMMBnNlcnZlcjAq
MAUGAytlcAMhAANETwwhEnbPnvid9XmvRVeXBPkeSuEIx8M1Swc1qt0Jo0IwQDAR
BgNVHREECjAIggZzZXJ2ZXIwDAYDVR0TAQH/BAIwADAdBgNVHQ4EFgQUwfHyKLFd
zn0zvYZhTnE7NI84BYMwBQYDK2VwA0EASV3R/LmagHQQ48gjyF4XX38+cUpE8BH4
V/HApDHn8+X+o3/eACDQLRKP9wxm2NIRB6wvPj0GwyxLjP87VWggAw==
-----END CERTIFICATE-----
";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKGp4bpgr1CpjWJnfLZ8FAaDX3DehwYpZI8XIjNU0X2g
-----END PRIVATE KEY-----
";

pub(crate) fn of_server() -> Result<ServerConfig, Error> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes())?;
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(config.with_single_cert(vec![certificate], key)?)
}

pub(crate) fn of_client() -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(config.with_no_client_auth())
}

/// Returns what it is sent, and after a while the end.
async fn serve(patience: Patience) -> Result<(), Error> {
    let acceptor = TlsAcceptor::from(Arc::new(of_server()?));
    let listener = TcpListener::bind(SERVER).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut sent = vec![0; much().len()];
            stream.read_exact(&mut sent).await?;
            stream.write_all(&sent).await?;
            stream.flush().await?;
            sleep(patience.answer).await;
            stream.shutdown().await?;
            Ok::<_, Error>(())
        });
    }
}

async fn ask(patience: Patience) -> Result<(), Error> {
    let connector = TlsConnector::from(Arc::new(of_client()?));
    let name = ServerName::try_from("server")?;
    let mut stream = connector.connect(name, connect().await?).await?;
    stream.write_all(&much()).await?;
    stream.flush().await?;
    let mut answer = vec![0; much().len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, much());
    patience.runs_out(stream.read_u8()).await;
    Ok(())
}

#[test]
fn tls() {
    in_virtual_time(Bytes::Random, serve, ask);
    on_threads(serve, ask);
}
