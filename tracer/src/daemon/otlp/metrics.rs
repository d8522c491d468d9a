//! Counts as metrics of OpenTelemetry.

use std::time::SystemTime;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        metric::Data, number_data_point::Value,
    },
    resource::v1::Resource,
};

use super::convert::text;

/// All counts at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Since when the sums count.
    pub start: SystemTime,
    /// When it was taken.
    pub time: SystemTime,
    /// What was counted.
    pub counts: Vec<Count>,
}

/// One number with one name, for each set of attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// Name, such as `droptrace.drops`.
    pub name: &'static str,
    /// Unit, by UCUM: `{packet}`, `By`, `s`.
    pub unit: &'static str,
    /// What it is, in a few words.
    pub description: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its values.
    pub points: Vec<Point>,
}

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sums since the start.
    Sum,
    /// How it is now.
    Gauge,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is of.
    pub attributes: Vec<(&'static str, String)>,
    /// How much.
    pub value: Number,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of things that are counted.
    Whole(u64),
    /// Of what is measured.
    Real(f64),
}

/// The request that tells them.
#[must_use]
pub fn request(snapshot: &Snapshot, resource: &Resource) -> ExportMetricsServiceRequest {
    let metrics = snapshot
        .counts
        .iter()
        .map(|count| metric(count, snapshot))
        .collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// Who made logs and metrics.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "droptrace".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn metric(count: &Count, snapshot: &Snapshot) -> Metric {
    let data_points = count
        .points
        .iter()
        .map(|point| NumberDataPoint {
            attributes: point
                .attributes
                .iter()
                .map(|(key, value)| KeyValue {
                    key: (*key).to_owned(),
                    value: Some(text(value)),
                    ..KeyValue::default()
                })
                .collect(),
            start_time_unix_nano: nanoseconds(snapshot.start),
            time_unix_nano: nanoseconds(snapshot.time),
            value: Some(value(point.value)),
            ..NumberDataPoint::default()
        })
        .collect();
    Metric {
        name: count.name.to_owned(),
        description: count.description.to_owned(),
        unit: count.unit.to_owned(),
        data: Some(match count.kind {
            Kind::Sum => Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            Kind::Gauge => Data::Gauge(Gauge { data_points }),
        }),
        ..Metric::default()
    }
}

fn value(number: Number) -> Value {
    match number {
        Number::Whole(number) => Value::AsInt(number.try_into().unwrap_or(i64::MAX)),
        Number::Real(number) => Value::AsDouble(number),
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}
