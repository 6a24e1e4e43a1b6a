//! An HTTP service that answers as it is told to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A head, then a body without end.
    Endless,
    /// Nothing.
    Nothing,
}

impl Reply {
    pub(crate) fn status(status: u16, headers: &str) -> Self {
        Self::Bytes(
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\nok").into_bytes(),
        )
    }
}

/// Head and body of a request.
type Asked = (String, Vec<u8>);

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) port: u16,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that were made, with a request or without.
    pub(crate) connections: Arc<Mutex<usize>>,
}

impl Service {
    pub(crate) async fn open(address: &str, tls: Option<TlsAcceptor>, reply: Reply) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Self { port, asked: Arc::default(), connections: Arc::default() };
        let this = service.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                *this.connections.lock().unwrap() += 1;
                let (this, reply, tls) = (this.clone(), reply.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => this.answer(tcp, reply).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                this.answer(stream, reply).await;
                            }
                        }
                    }
                });
            }
        });
        service
    }

    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        self.asked.lock().unwrap().push((head, body));
        match reply {
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            Reply::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"400\r\n").await.is_ok() {
                    if stream.write_all(&[b'x'; 1024]).await.is_err() || stream.write_all(b"\r\n").await.is_err() {
                        return;
                    }
                }
            }
            Reply::Nothing => std::future::pending().await,
        }
    }
}
