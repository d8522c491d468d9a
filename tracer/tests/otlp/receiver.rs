//! A receiver that answers as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{AggregationTemporality, metric::Data, number_data_point},
};
use prost::Message;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Status,
    codec::CompressionEncoding,
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt};

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It is too busy, and takes nothing.
    Busy,
    /// And says for how many seconds.
    BusyFor(u64),
    /// It takes all, and answers as if it had not.
    TakeAndFail,
    /// It takes all but this many, as it says.
    Partial(i64),
    /// It takes nothing, and answers late.
    Slow,
    /// It takes nothing, and its answer has no end.
    Endless,
    /// It wants none of it.
    Refuse,
}

/// What is lost as loss records say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    pub records: u64,
    pub packets: u64,
}

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Got {
    /// Packets by the record's number.
    pub records: BTreeMap<u64, u64>,
    pub lost: BTreeMap<String, Loss>,
    /// Numbers of loss records.
    pub told: BTreeMap<u64, String>,
    pub duplicates: u64,
    pub metrics: Vec<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    got: Got,
    logs: VecDeque<Answer>,
    metrics: VecDeque<Answer>,
    refused: Option<u64>,
    refuses_all: bool,
}

type Shared = Arc<Mutex<State>>;

pub struct Receiver {
    address: SocketAddr,
    state: Shared,
}

impl Receiver {
    pub fn start(protocol: &str, identity: Option<(String, String)>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Shared::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_grpc = protocol == "grpc";
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                if is_grpc {
                    grpc(listener, shared, identity).await;
                } else {
                    http(listener, shared, identity).await;
                }
            });
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next requests with records are answered so, those after them well.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().logs.extend(answers);
    }

    pub fn answer_metrics(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().metrics.extend(answers);
    }

    /// Requests with this record are refused.
    pub fn refuse(&self, seq: Option<u64>) {
        self.state.lock().unwrap().refused = seq;
    }

    pub fn refuse_all(&self, all: bool) {
        self.state.lock().unwrap().refuses_all = all;
    }

    pub fn got(&self) -> Got {
        self.state.lock().unwrap().got.clone()
    }
}

/// Takes a request as the next answer wants, which it gives.
fn take(state: &Shared, request: &ExportLogsServiceRequest) -> Option<Answer> {
    let mut state = state.lock().unwrap();
    let records: Vec<&LogRecord> = request
        .resource_logs
        .iter()
        .flat_map(|it| &it.scope_logs)
        .flat_map(|it| &it.log_records)
        .collect();
    if state.refuses_all
        || records.iter().any(|record| {
            state.refused.is_some() && state.refused == number(record, "droptrace.seq")
        })
    {
        return Some(Answer::Refuse);
    }
    let answer = state.logs.pop_front();
    match answer {
        // Of all that is not wanted nothing is kept.
        Some(Answer::Partial(50)) => return answer,
        None | Some(Answer::TakeAndFail | Answer::Partial(_)) => {}
        _ => return answer,
    }
    for record in records {
        let seq = number(record, "droptrace.seq").unwrap();
        let packets = number(record, "droptrace.packets").unwrap();
        if record.event_name == "droptrace.loss" {
            let text = format!("{record:?}");
            if let Some(before) = state.got.told.insert(seq, text.clone()) {
                assert_eq!(before, text);
                state.got.duplicates += 1;
            } else {
                let why = string(record, "droptrace.loss.why").unwrap();
                let loss = state.got.lost.entry(why).or_default();
                loss.records += number(record, "droptrace.loss.count").unwrap();
                loss.packets += packets;
            }
        } else if let Some(before) = state.got.records.insert(seq, packets) {
            assert_eq!(before, packets);
            state.got.duplicates += 1;
        }
    }
    answer
}

fn take_metrics(state: &Shared, request: &ExportMetricsServiceRequest) -> Option<Answer> {
    let mut state = state.lock().unwrap();
    if let Some(answer) = state.metrics.pop_front() {
        return Some(answer);
    }
    for metric in request
        .resource_metrics
        .iter()
        .flat_map(|it| &it.scope_metrics)
        .flat_map(|it| &it.metrics)
    {
        let Some(Data::Sum(sum)) = &metric.data else {
            panic!("no sum");
        };
        assert_eq!(
            sum.aggregation_temporality,
            AggregationTemporality::Cumulative as i32
        );
        for point in &sum.data_points {
            let Some(number_data_point::Value::AsInt(value)) = point.value else {
                panic!("no whole number");
            };
            let labels: Vec<_> = point
                .attributes
                .iter()
                .map(|it| format!("{}={}", it.key, as_string(it).unwrap()))
                .collect();
            let seconds = |time: u64| time / 1_000_000_000;
            state.got.metrics.push(format!(
                "{}{{{}}} {value} {} cumulative since {} at {}",
                metric.name,
                labels.join(","),
                metric.unit,
                seconds(point.start_time_unix_nano),
                seconds(point.time_unix_nano),
            ));
        }
    }
    None
}

fn attribute<'a>(record: &'a LogRecord, key: &str) -> Option<&'a KeyValue> {
    record.attributes.iter().find(|it| it.key == key)
}

fn number(record: &LogRecord, key: &str) -> Option<u64> {
    match attribute(record, key)?.value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn string(record: &LogRecord, key: &str) -> Option<String> {
    as_string(attribute(record, key)?)
}

fn as_string(attribute: &KeyValue) -> Option<String> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn partial(rejected: i64) -> ExportLogsServiceResponse {
    ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: "not these\u{1b}[0m".to_owned(),
        }),
    }
}

struct Service(Shared);

async fn grpc(listener: TcpListener, state: Shared, identity: Option<(String, String)>) {
    let mut server = Server::builder();
    if let Some((certificate, key)) = identity {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        server = server.tls_config(tls).unwrap();
    }
    server
        .add_service(
            LogsServiceServer::new(Service(Arc::clone(&state)))
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            MetricsServiceServer::new(Service(state)).accept_compressed(CompressionEncoding::Gzip),
        )
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

async fn status(answer: Answer) -> Status {
    match answer {
        Answer::Busy | Answer::TakeAndFail => Status::unavailable("busy"),
        Answer::BusyFor(seconds) => Status::with_error_details(
            Code::ResourceExhausted,
            "busy",
            ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds))),
        ),
        Answer::Refuse => Status::invalid_argument("none of it"),
        Answer::Slow => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Status::internal("too late")
        }
        // Longer than headers are read.
        Answer::Endless => Status::unavailable("x".repeat(100_000)),
        Answer::Partial(_) => unreachable!(),
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        if let Some(value) = request.metadata().get("authorization") {
            let value = value.to_str().unwrap().to_owned();
            self.0.lock().unwrap().got.authorization = Some(value);
        }
        match take(&self.0, request.get_ref()) {
            None => Ok(tonic::Response::new(ExportLogsServiceResponse::default())),
            Some(Answer::Partial(rejected)) => Ok(tonic::Response::new(partial(rejected))),
            Some(answer) => Err(status(answer).await),
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        match take_metrics(&self.0, request.get_ref()) {
            None => Ok(tonic::Response::new(ExportMetricsServiceResponse::default())),
            Some(answer) => Err(status(answer).await),
        }
    }
}

async fn http(listener: TcpListener, state: Shared, identity: Option<(String, String)>) {
    let tls = identity.map(|(certificate, key)| acceptor(&certificate, &key));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => connection(state, stream).await,
                // The other side may not believe the certificate.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(state, stream).await;
                    }
                }
            }
        });
    }
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn connection(state: Shared, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| serve(Arc::clone(&state), request));
    // The other side may break it off.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve(
    state: Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let empty = |status: u16| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status.try_into().unwrap();
        response
    };
    let Ok(body) = body.collect().await else {
        return Ok(empty(400));
    };
    assert_eq!(head.method, "POST");
    if let Some(value) = head.headers.get("authorization") {
        let value = value.to_str().unwrap().to_owned();
        state.lock().unwrap().got.authorization = Some(value);
    }
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    assert_eq!(head.headers["content-encoding"], "gzip");
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(&*body.to_bytes())
        .read_to_end(&mut message)
        .unwrap();
    let answer = match head.uri.path() {
        "/v1/logs" => take(
            &state,
            &ExportLogsServiceRequest::decode(&*message).unwrap(),
        ),
        "/v1/metrics" => take_metrics(
            &state,
            &ExportMetricsServiceRequest::decode(&*message).unwrap(),
        ),
        other => panic!("{other}"),
    };
    Ok(match answer {
        None => empty(200),
        Some(Answer::Busy) => empty(429),
        Some(Answer::TakeAndFail) => empty(503),
        Some(Answer::BusyFor(seconds)) => {
            let mut response = empty(503);
            response
                .headers_mut()
                .insert("retry-after", seconds.to_string().parse().unwrap());
            response
        }
        Some(Answer::Refuse) => empty(400),
        Some(Answer::Partial(rejected)) => {
            Response::new(Full::new(partial(rejected).encode_to_vec().into()))
        }
        Some(Answer::Slow) => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            empty(400)
        }
        Some(Answer::Endless) => Response::new(Full::new(vec![b'x'; 10 << 20].into())),
    })
}
