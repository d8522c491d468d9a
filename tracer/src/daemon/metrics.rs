//! Numbers for Prometheus over HTTP/1.1: `GET /metrics`, and nothing else.
//!
//! Whoever can reach the address may be hostile: connections, their headers and their
//! times are bounded, and more than can be served wait outside.

use std::{convert::Infallible, fmt, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    counters::Counters,
    exposition::{self, Format},
    health::Health,
};

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// How long the headers of a request may take, and how long a connection may be idle.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a connection is kept for more requests.
const LIFETIME: Duration = Duration::from_secs(60);
/// And how long the last answer may take then.
const FAREWELL: Duration = Duration::from_secs(10);
/// Of a request's line and headers.
const HEADERS_SIZE: usize = 16 << 10;
const HEADERS_COUNT: usize = 64;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for metrics: {error}; choose another metrics.listen, or \
     \"off\""
)]
pub struct MetricsError {
    address: SocketAddr,
    error: io::Error,
}

/// What gives the numbers of the daemon's other parts.
pub type HealthSource = dyn Fn() -> Health + Send + Sync;

/// The server.
pub struct Server {
    listener: TcpListener,
    source: Arc<Source>,
    times: Times,
}

struct Source {
    counters: Arc<Counters>,
    health: Box<HealthSource>,
}

#[derive(Clone, Copy)]
struct Times {
    headers: Duration,
    lifetime: Duration,
    farewell: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.listener).finish()
    }
}

impl Server {
    /// Listens on this address.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub async fn bind(
        address: SocketAddr,
        counters: Arc<Counters>,
        health: Box<HealthSource>,
    ) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: listener.map_err(|error| MetricsError { address, error })?,
            source: Arc::new(Source { counters, health }),
            times: Times {
                headers: HEADERS,
                lifetime: LIFETIME,
                farewell: FAREWELL,
            },
        })
    }

    /// Where it listens, as after a port of 0.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves; ends when it is dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            let source = self.source.clone();
                            connections.spawn(serve(stream, source, self.times));
                        }
                        Err(error) => {
                            log::warn!("cannot accept a connection for metrics: {error}");
                            // Mostly descriptors are short, which asking again does not
                            // change.
                            sleep(Duration::from_millis(500)).await;
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, source: Arc<Source>, times: Times) {
    let answer = service_fn(|request| {
        let response = source.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.headers)
        .max_buf_size(HEADERS_SIZE)
        .max_headers(HEADERS_COUNT)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    // How it ends is the client's business, here as below.
    if timeout(times.lifetime, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(times.farewell, connection).await;
}

impl Source {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
        }
        if request.method() != Method::GET {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        let accepted = request.headers().get(ACCEPT);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        let format = Format::accepted(accepted.unwrap_or_default());
        let mut families = self.counters.families();
        families.extend((self.health)().families());
        match exposition::text(families, format) {
            Ok(text) => {
                let mut response = Response::new(Full::from(text));
                let kind = HeaderValue::from_static(format.content_type());
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                log::error!("cannot write the metrics: {error}");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
            }
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
