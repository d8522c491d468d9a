//! What the receiver's answer to a request means.
//!
//! What is no answer in the protocol's terms (a web page, garbage) says nothing about the
//! records: it is a failure, and they are sent again.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Response,
    body::Incoming,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
};
use prost::Message;
use tonic::Code;
use tonic_types::StatusExt;

use super::send::Signal;

/// No answer is read further than this.
pub const MAX_ANSWER: usize = 64 << 10;
/// No receiver makes the exporter wait longer.
const MAX_WAIT: Duration = Duration::from_secs(3600);

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
    /// It may go better at any time.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed {
            why: why.into(),
            after: None,
        }
    }
}

/// Of gRPC.
pub async fn of_grpc(signal: Signal, response: Response<Incoming>) -> Outcome {
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

/// Of HTTP.
pub async fn of_http(signal: Signal, response: Response<Incoming>) -> Outcome {
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
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default()
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
pub fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
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
