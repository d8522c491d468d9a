//! One request to the receiver, and what its answer means.
//!
//! gRPC and HTTP differ in how the message is wrapped and where the answer says how it
//! went; the rest, TLS too, is the same. What is no answer in the protocol's terms (a
//! broken connection, a web page, no end in time) says nothing about the records: it is a
//! failure, and they are sent again. Proxies of the environment (`HTTPS_PROXY`) are not
//! used.

use std::{io, path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, Uri,
    body::Incoming,
    header::{
        ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, TE,
        USER_AGENT,
    },
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::daemon::config::{Compression, Otlp, Protocol};

/// No answer is read further than this.
const MAX_ANSWER: usize = 64 << 10;
/// Nor are its headers.
const MAX_HEADERS: u32 = 16 << 10;
/// No receiver makes the exporter wait longer.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Records.
    Logs,
    /// Counts.
    Metrics,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has all of it.
    Taken,
    /// The receiver has it but for so many records, which it does not want.
    Partly {
        /// How many.
        rejected: u64,
        /// Why, as the receiver says.
        why: String,
    },
    /// The receiver does not want it, now or later.
    Refused(String),
    /// It may go better later.
    Failed {
        /// What happened.
        why: String,
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
    },
}

impl Outcome {
    fn failed(why: impl Into<String>) -> Self {
        Self::Failed {
            why: why.into(),
            after: None,
        }
    }
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

async fn of_grpc(signal: Signal, response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => body,
        Err(error) => return Outcome::failed(reasons(error.as_ref())),
    };
    let status = tonic::Status::from_header_map(&head.headers)
        .or_else(|| tonic::Status::from_header_map(body.trailers()?));
    let Some(status) = status else {
        return Outcome::failed(format!("HTTP status {}, and no gRPC", head.status));
    };
    let why = format!("{}: {}", status.code(), said(status.message()));
    match status.code() {
        Code::Ok => {
            let body = body.to_bytes();
            match body.split_first_chunk::<5>() {
                Some((&[0, a, b, c, d], message))
                    if message.len() == u32::from_be_bytes([a, b, c, d]) as usize =>
                {
                    answer(signal, message)
                }
                _ => Outcome::failed("the answer is no gRPC message"),
            }
        }
        // As the protocol's specification lists them.
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Failed {
            why,
            after: retry_info(&status),
        },
        Code::ResourceExhausted => match retry_info(&status) {
            after @ Some(_) => Outcome::Failed { why, after },
            None => Outcome::Refused(why),
        },
        _ => Outcome::Refused(why),
    }
}

fn retry_info(status: &tonic::Status) -> Option<Duration> {
    let delay = status.get_details_retry_info()?.retry_delay;
    Some(delay.unwrap_or_default().min(MAX_WAIT))
}

async fn of_http(signal: Signal, response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Outcome::failed(reasons(error.as_ref())),
    };
    let why = format!("HTTP status {}", head.status);
    match head.status.as_u16() {
        200..=299 if is_json(&head.headers) => json_answer(signal, &body),
        200..=299 => answer(signal, &body),
        // As the protocol's specification lists them.
        429 | 502 | 503 | 504 => Outcome::Failed {
            why,
            after: retry_after(&head.headers),
        },
        400..=599 => Outcome::Refused(why),
        _ => Outcome::failed(why),
    }
}

/// In seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_WAIT))
}

/// Against the specification some receivers answer in the protocol's other form.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

fn json_answer(signal: Signal, body: &[u8]) -> Outcome {
    let answer = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(answer) => answer,
        Err(_) if body.is_empty() => return Outcome::Taken,
        Err(_) => return Outcome::failed("the answer is not of OTLP"),
    };
    let partial = &answer["partialSuccess"];
    let rejected = match signal {
        Signal::Logs => &partial["rejectedLogRecords"],
        Signal::Metrics => &partial["rejectedDataPoints"],
    };
    // Numbers of 64 bits are texts there.
    let rejected = rejected
        .as_i64()
        .or_else(|| rejected.as_str()?.parse().ok())
        .unwrap_or(0);
    let why = partial["errorMessage"].as_str().unwrap_or_default();
    partly(rejected, why)
}

/// What a good answer says about single records.
fn answer(signal: Signal, message: &[u8]) -> Outcome {
    let said_of_it = match signal {
        Signal::Logs => ExportLogsServiceResponse::decode(message).map(|answer| {
            answer
                .partial_success
                .map(|it| (it.rejected_log_records, it.error_message))
        }),
        Signal::Metrics => ExportMetricsServiceResponse::decode(message).map(|answer| {
            answer
                .partial_success
                .map(|it| (it.rejected_data_points, it.error_message))
        }),
    };
    match said_of_it {
        Ok(None) => Outcome::Taken,
        Ok(Some((rejected, why))) => partly(rejected, &why),
        Err(_) => Outcome::failed("the answer is not of OTLP"),
    }
}

fn partly(rejected: i64, why: &str) -> Outcome {
    match u64::try_from(rejected) {
        Ok(rejected) if rejected > 0 => Outcome::Partly {
            rejected,
            why: said(why),
        },
        _ => {
            if !why.is_empty() {
                log::warn!("the receiver warns: {}", said(why));
            }
            Outcome::Taken
        }
    }
}

/// What the receiver said, fit for a log.
fn said(text: &str) -> String {
    text.chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

/// An error with what led to it.
fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    said(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_and_has_a_limit() {
        let wait = |text: &str| retry_after(&headers("retry-after", text));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999999999"), Some(MAX_WAIT));
        assert_eq!(wait("Fri, 01 Jan 2100 00:00:00 GMT"), Some(MAX_WAIT));
        assert_eq!(wait("Sat, 01 Jan 2000 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn an_answer_in_json_is_understood() {
        let of = |body: &str| json_answer(Signal::Logs, body.as_bytes());
        assert_eq!(of("{}"), Outcome::Taken);
        assert_eq!(of(""), Outcome::Taken);
        assert_eq!(
            of(r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no\u001b"}}"#),
            Outcome::Partly {
                rejected: 3,
                why: "no\\u{1b}".into()
            }
        );
        assert!(matches!(of("<html>"), Outcome::Failed { .. }));
        assert!(is_json(&headers(
            "content-type",
            "application/json; charset=utf-8"
        )));
    }
}
