//! One request to the receiver.
//!
//! gRPC and HTTP differ in how the message is wrapped and where the answer says how it
//! went; the rest, TLS too, is the same. Proxies of the environment (`HTTPS_PROXY`) are
//! not used, and redirections are not followed.

use std::{io, path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Uri,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::answer::{MAX_ANSWER, Outcome, of_grpc, of_http, reasons};
use crate::daemon::config::{Compression, Otlp, Protocol};

/// No headers of an answer are read further than this.
const MAX_HEADERS: u32 = 16 << 10;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Records.
    Logs,
    /// Counts.
    Metrics,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// A certificate file.
    #[error("cannot read certificates from {path}: {error}; `otlp.ca` is to name a PEM file")]
    Ca {
        /// The file.
        path: String,
        /// How it failed.
        error: String,
    },
    /// No certificate is believed.
    #[error(
        "this machine has no certificates to check the receiver's by; install ca-certificates, or \
         name a PEM file in `otlp.ca`"
    )]
    NoRoots,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A header.
    #[error("`otlp.headers` has `{0}`, whose name or value no header can have")]
    Header(String),
    /// The address.
    #[error("`otlp.endpoint` is no address of a receiver: {0}")]
    Endpoint(String),
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends to one receiver.
#[derive(Clone)]
pub struct Sender {
    connector: HttpsConnector<HttpConnector>,
    client: HttpClient,
    protocol: Protocol,
    logs: Uri,
    metrics: Uri,
    headers: HeaderMap,
    gzip: bool,
    timeout: Duration,
}

impl Sender {
    /// What the configuration says.
    ///
    /// # Errors
    ///
    /// If certificates, headers or the address are not what they must be.
    pub fn new(otlp: &Otlp) -> Result<Self, SenderError> {
        let connector = connector(otlp)?;
        let base = otlp.endpoint.trim_end_matches('/');
        let uri = |path: &str| {
            format!("{base}{path}")
                .parse()
                .map_err(|error| SenderError::Endpoint(format!("{error}")))
        };
        let (logs, metrics) = match otlp.protocol {
            Protocol::Grpc => (
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            ),
            Protocol::Http => ("/v1/logs", "/v1/metrics"),
        };
        Ok(Self {
            client: client(&connector, otlp.protocol),
            connector,
            protocol: otlp.protocol,
            logs: uri(logs)?,
            metrics: uri(metrics)?,
            headers: headers(otlp)?,
            gzip: otlp.compression == Compression::Gzip,
            timeout: otlp.timeout.0,
        })
    }

    /// Sends a message.
    pub async fn send(&self, signal: Signal, message: &[u8]) -> Outcome {
        let request = match self.request(signal, message) {
            Ok(request) => request,
            Err(error) => return Outcome::failed(format!("cannot make the request: {error}")),
        };
        let answer = async {
            match self.client.request(request).await {
                Ok(response) => match self.protocol {
                    Protocol::Grpc => of_grpc(signal, response).await,
                    Protocol::Http => of_http(signal, response).await,
                },
                Err(error) => Outcome::failed(reasons(&error)),
            }
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::failed(format!("no answer within {:?}", self.timeout)),
        }
    }

    /// Forgets connections: one of them may be dead without showing it.
    pub fn reconnect(&mut self) {
        self.client = client(&self.connector, self.protocol);
    }

    fn request(&self, signal: Signal, message: &[u8]) -> io::Result<Request<Full<Bytes>>> {
        let uri = match signal {
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
        };
        let packed = if self.gzip {
            Some(gzip(message)?)
        } else {
            None
        };
        let content = packed.as_deref().unwrap_or(message);
        let mut request = match self.protocol {
            Protocol::Grpc => {
                let mut body = BytesMut::with_capacity(5 + content.len());
                body.put_u8(u8::from(self.gzip));
                body.put_u32(u32::try_from(content.len()).map_err(io::Error::other)?);
                body.put_slice(content);
                let mut request = Request::new(Full::new(body.freeze()));
                let headers = request.headers_mut();
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/grpc+proto"),
                );
                headers.insert(TE, HeaderValue::from_static("trailers"));
                if self.gzip {
                    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
                }
                request
            }
            Protocol::Http => {
                let mut request = Request::new(Full::new(Bytes::copy_from_slice(content)));
                let headers = request.headers_mut();
                let protobuf = HeaderValue::from_static("application/x-protobuf");
                headers.insert(CONTENT_TYPE, protobuf.clone());
                headers.insert(ACCEPT, protobuf);
                if self.gzip {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                request
            }
        };
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri.clone();
        let agent = concat!("droptrace/", env!("CARGO_PKG_VERSION"));
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(agent));
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

fn connector(otlp: &Otlp) -> Result<HttpsConnector<HttpConnector>, SenderError> {
    let provider = rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(otlp)?)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    Ok(match otlp.protocol {
        Protocol::Grpc => builder.enable_http2().build(),
        Protocol::Http => builder.enable_http1().build(),
    })
}

/// Read only where they are needed.
fn roots(otlp: &Otlp) -> Result<RootCertStore, SenderError> {
    let mut roots = RootCertStore::empty();
    if !otlp.endpoint.starts_with("https:") {
        return Ok(roots);
    }
    if let Some(path) = &otlp.ca {
        let failed = |error: &dyn std::fmt::Display| SenderError::Ca {
            path: path.display().to_string(),
            error: error.to_string(),
        };
        for certificate in certificates(path).map_err(|error| failed(&error))? {
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
        if roots.is_empty() {
            return Err(failed(&"it has none"));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(SenderError::NoRoots);
        }
    }
    Ok(roots)
}

fn certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

fn client(connector: &HttpsConnector<HttpConnector>, protocol: Protocol) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(1)
        .http1_max_buf_size(MAX_ANSWER)
        .http2_only(protocol == Protocol::Grpc)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_initial_stream_window_size(u32::from(u16::MAX))
        .http2_initial_connection_window_size(u32::from(u16::MAX))
        .build(connector.clone())
}

fn headers(otlp: &Otlp) -> Result<HeaderMap, SenderError> {
    let mut headers = HeaderMap::new();
    for (name, secret) in &otlp.headers {
        // The value is not repeated: it may be a secret.
        let bad = || SenderError::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(secret.reveal()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn gzip(message: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write as _;

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(message)?;
    packed.finish()
}
