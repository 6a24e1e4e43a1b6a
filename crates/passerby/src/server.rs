//! Accepting connections: time and number limits, HTTP/1 and HTTP/2, TLS, and the end.
//!
//! Neither the accept loop nor hyper's version sniffing has a time limit of its own, so a connection is timed here from
//! its first moment: until it has shown which protocol it speaks by `Opening`, from there on by hyper's timers.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum_server::{
    Handle,
    accept::{Accept, DefaultAcceptor},
    service::{MakeService, SendService},
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Sleep, sleep},
};

/// What an HTTP/2 connection without TLS begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Limits of connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// At once; more are closed as they come.
    pub connections: usize,
    /// From the connection to its first bytes, for the TLS handshake, and from each request's first chance to the end
    /// of its head. So also how long a connection may idle between two requests.
    pub head: Duration,
    /// Requests of one HTTP/2 connection at once.
    pub streams: u32,
    /// After the signal to stop, for what still runs.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 10_000, head: Duration::from_secs(10), streams: 128, shutdown: Duration::from_secs(20) }
    }
}

/// Opens the listening socket.
///
/// # Errors
/// What the system says: taken, not ours, not allowed.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // a restart must not wait for the last process's connections to be forgotten
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is done; then accepts no more, lets running requests finish within [`Limits::shutdown`], cuts
/// what is left, and returns.
///
/// # Errors
/// When the service cannot be made; connections that fail are their own business.
pub async fn serve<M>(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    limits: &Limits,
    make_service: M,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    M: MakeService<SocketAddr, Request<Incoming>>,
    M::Service: SendService<Request<Incoming>>,
{
    let handle = Handle::new();
    let (stopping, within) = (handle.clone(), limits.shutdown);
    let stopper = tokio::spawn(async move {
        stop.await;
        stopping.graceful_shutdown(Some(within));
    });
    let served = match tls {
        None => run(listener, DefaultAcceptor::new(), limits, handle, make_service).await,
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(limits.head);
            run(listener, acceptor, limits, handle, make_service).await
        }
    };
    stopper.abort();
    served
}

async fn run<M, A>(
    listener: TcpListener,
    acceptor: A,
    limits: &Limits,
    handle: Handle<SocketAddr>,
    make_service: M,
) -> io::Result<()>
where
    M: MakeService<SocketAddr, Request<Incoming>>,
    A: Accept<TcpStream, M::Service> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let gate = Gate { acceptor, handle: handle.clone(), connections: limits.connections, head: limits.head };
    let mut server = axum_server::Server::<SocketAddr>::from_listener(listener).handle(handle).acceptor(gate);
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        // head and body in one write: answers are small, a gathering write costs more than the copy
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(limits.head);
    server.serve(make_service).await
}

/// What every connection passes first.
#[derive(Clone)]
struct Gate<A> {
    acceptor: A,
    handle: Handle<SocketAddr>,
    connections: usize,
    head: Duration,
}

impl<A, S> Accept<TcpStream, S> for Gate<A>
where
    A: Accept<TcpStream, S> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: Send,
    A::Future: Send,
    S: Send + 'static,
{
    type Stream = Opening<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Self { acceptor, handle, connections, head } = self.clone();
        Box::pin(async move {
            // this one is counted already
            if handle.connection_count() > connections {
                tracing::warn!(connections, "a connection was closed: there are as many as max_connections allows");
                return Err(io::Error::other("too many connections"));
            }
            stream.set_nodelay(true)?;
            let (stream, service) = acceptor.accept(stream, service).await?;
            Ok((Opening::new(stream, head), service))
        })
    }
}

/// A stream that is timed until its first bytes tell HTTP/1 from HTTP/2; then it is only passed through.
struct Opening<S> {
    stream: S,
    waits: Option<Waits>,
}

struct Waits {
    until: Pin<Box<Sleep>>,
    /// So many bytes of the preface have come.
    seen: usize,
}

impl<S> Opening<S> {
    fn new(stream: S, within: Duration) -> Self {
        Self { stream, waits: Some(Waits { until: Box::pin(sleep(within)), seen: 0 }) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(waits) = &mut this.waits else { return Pin::new(&mut this.stream).poll_read(cx, buffer) };
        let before = buffer.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buffer)?.is_pending() {
            ready!(waits.until.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let rest = &PREFACE[waits.seen..];
        let came = &buffer.filled()[before..];
        waits.seen += came.len();
        // not the preface, or all of it: hyper knows what it talks to, and its own timers run
        if came.is_empty() || !rest.starts_with(came) || waits.seen == PREFACE.len() {
            this.waits = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::{Notify, oneshot},
        task::JoinHandle,
    };

    use super::*;

    struct Running {
        address: SocketAddr,
        stop: Option<oneshot::Sender<()>>,
        served: JoinHandle<io::Result<()>>,
        /// Told when `/slow` was entered, and what lets it go.
        entered: Arc<Notify>,
        go: Arc<Notify>,
    }

    fn start(limits: Limits, tls: Option<RustlsConfig>) -> Running {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (is_in, may_go) = (entered.clone(), go.clone());
        let slow = async move || {
            is_in.notify_one();
            may_go.notified().await;
            "finished"
        };
        let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        let parts = async || {
            let parts = stream::unfold(0, async |n| {
                sleep(Duration::from_millis(150)).await;
                (n < 4).then(|| (Ok::<_, io::Error>(format!("part {n}\n")), n + 1))
            });
            Body::from_stream(parts)
        };
        let router = Router::new().route("/peer", get(peer)).route("/slow", get(slow)).route("/parts", get(parts));
        let make = router.into_make_service_with_connect_info::<SocketAddr>();
        let served =
            tokio::spawn(async move { serve(listener, tls, &limits, make, async move { drop(stopped.await) }).await });
        Running { address, stop: Some(stop), served, entered, go }
    }

    fn limits() -> Limits {
        Limits { head: Duration::from_millis(200), ..Limits::default() }
    }

    /// Sends, then reads until the other side closes.
    async fn talk(address: SocketAddr, bytes: &[u8]) -> (String, Duration) {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        (String::from_utf8_lossy(&answer).into_owned(), start.elapsed())
    }

    #[tokio::test]
    async fn whoever_keeps_silent_is_cut() {
        let running = start(limits(), None);
        for bytes in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /peer HT", b"GET /peer HTTP/1.1\r\nhost: x\r\n"] {
            let (_, took) = talk(running.address, bytes).await;
            assert!(took > Duration::from_millis(150) && took < Duration::from_secs(5), "{bytes:?} {took:?}");
        }
        let (answer, _) = talk(running.address, b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("127.0.0.1:"), "{answer}");
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed() {
        let running = start(Limits { connections: 1, ..Limits::default() }, None);
        let mut first = TcpStream::connect(running.address).await.unwrap();
        first.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        running.entered.notified().await;
        let (answer, _) = talk(running.address, b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(answer, "");
        running.go.notify_one();
        let mut byte = [0; 12];
        first.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_head() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let running = start(limits(), None);
        let url = format!("http://{}/parts", running.address);
        for client in [reqwest::Client::builder(), reqwest::Client::builder().http2_prior_knowledge()] {
            let text = client.build().unwrap().get(&url).send().await.unwrap().text().await.unwrap();
            assert_eq!(text, "part 0\npart 1\npart 2\npart 3\n");
        }
    }

    #[tokio::test]
    async fn a_stop_lets_running_requests_finish() {
        let mut running = start(Limits::default(), None);
        let asked = tokio::spawn(talk(running.address, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"));
        // one that has not said a word must not hold up the end
        let silent = TcpStream::connect(running.address).await.unwrap();
        running.entered.notified().await;
        running.stop.take().unwrap().send(()).unwrap();
        while TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        running.go.notify_one();
        assert!(asked.await.unwrap().0.ends_with("finished"));
        running.served.await.unwrap().unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn a_stop_has_a_deadline() {
        let mut running = start(Limits { shutdown: Duration::from_millis(200), ..Limits::default() }, None);
        let asked = tokio::spawn(talk(running.address, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"));
        running.entered.notified().await;
        running.stop.take().unwrap().send(()).unwrap();
        running.served.await.unwrap().unwrap();
        assert_eq!(asked.await.unwrap().0, "", "cut");
    }

    #[tokio::test]
    async fn http_2_with_and_without_tls() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = crate::tls::Watched::open(&certificate, &key).unwrap();
        let plain = start(limits(), None);
        let sealed = start(limits(), Some(tls.config()));

        let prior = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let response = prior.get(format!("http://{}/peer", plain.address)).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert!(response.text().await.unwrap().starts_with("127.0.0.1:"));

        let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let client = || reqwest::Client::builder().tls_certs_only([root.clone()]).resolve("localhost", sealed.address);
        let url = format!("https://localhost:{}/peer", sealed.address.port());
        let response = client().build().unwrap().get(&url).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let response = client().http1_only().build().unwrap().get(&url).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_11);
        let (answer, _) = talk(sealed.address, b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(!answer.contains("200"), "{answer}");
    }
}
