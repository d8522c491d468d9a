//! A receiver of OTLP over HTTP that takes everything and keeps what it is told of drops.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use tokio::net::TcpListener;

use super::ledger::{Ledger, Record};

/// It runs up to the end of the process.
pub struct Receiver {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
}

impl Receiver {
    /// Listens on loopback.
    pub fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ledger = Arc::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&ledger);
        std::thread::spawn(move || runtime.block_on(listen(listener, shared)));
        Ok(Self { address, ledger })
    }

    /// Where it listens, as `otlp.endpoint` has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: std::net::TcpListener, ledger: Arc<Mutex<Ledger>>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            let service = service_fn(|request| serve(Arc::clone(&ledger), request));
            // A daemon that is killed breaks it off.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn serve(
    ledger: Arc<Mutex<Ledger>>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let is_logs = request.uri().path() == "/v1/logs";
    let mut response = Response::new(Empty::new());
    match request.into_body().collect().await {
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        Ok(body) if is_logs => {
            let taken = take(&body.to_bytes());
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            match taken {
                Ok(records) => records.into_iter().for_each(|record| ledger.add(record)),
                Err(error) => ledger.complaints.push(format!("the receiver: {error:#}")),
            }
        }
        Ok(_) => {}
    }
    Ok(response)
}

fn take(body: &[u8]) -> anyhow::Result<Vec<Record>> {
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut message)
        .context("a request is not compressed")?;
    let request = ExportLogsServiceRequest::decode(&*message).context("a request is none")?;
    let records = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
    records.flat_map(|it| &it.log_records).map(record).collect()
}

fn record(log: &LogRecord) -> anyhow::Result<Record> {
    let value = |key: &str| {
        let attribute = log.attributes.iter().find(|it| it.key == key)?;
        attribute.value.as_ref()?.value.as_ref()
    };
    let text = |key: &str| match value(key) {
        Some(Value::StringValue(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |key: &str| match value(key) {
        Some(Value::IntValue(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let need = |key: &str| number(key).with_context(|| format!("a record has no {key}"));
    Ok(Record {
        seq: need("droptrace.seq")?,
        boot_id: text("droptrace.boot_id").context("a record has no boot_id")?,
        kind: log.event_name.trim_start_matches("droptrace.").to_owned(),
        packets: need("droptrace.packets")?,
        time: log.time_unix_nano,
        to: text("destination.address")
            .zip(number("destination.port").and_then(|port| port.try_into().ok())),
        netns: number("droptrace.netns.inode"),
        rule: text("droptrace.rule.text"),
        loss: match (text("droptrace.loss.what"), text("droptrace.loss.why")) {
            (Some(what), Some(why)) => {
                Some((format!("{what} {why}"), need("droptrace.loss.count")?))
            }
            _ => None,
        },
    })
}
