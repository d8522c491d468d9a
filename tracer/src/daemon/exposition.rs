//! Numbers as Prometheus reads them: `OpenMetrics`, or the classic text.

use std::fmt::{self, Write as _};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::counters::{Family, Kind, Value};

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text of Prometheus from before `OpenMetrics`.
    Classic,
}

impl Format {
    /// The form that a client prefers by its header `Accept`.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        let quality = |wanted: &str| {
            header.split(',').find_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                if !parts.next()?.eq_ignore_ascii_case(wanted) {
                    return None;
                }
                let quality = parts.find_map(|part| part.strip_prefix("q="));
                quality.map_or(Some(1.0), |text| text.parse::<f32>().ok())
            })
        };
        let classic = quality("text/plain").unwrap_or(0.0);
        match quality("application/openmetrics-text") {
            Some(open) if open > 0.0 && open >= classic => Self::OpenMetrics,
            _ => Self::Classic,
        }
    }

    /// The header `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text of these numbers.
///
/// # Errors
///
/// If they cannot be written, for which there is no reason.
pub fn text(families: Vec<Family>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(View(families)));
    let mut open = String::new();
    text::encode(&mut open, &registry)?;
    match format {
        Format::OpenMetrics => Ok(open),
        Format::Classic => classic(&open),
    }
}

#[derive(Debug)]
struct View(Vec<Family>);

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let unit = match family.unit {
                "" => None,
                "bytes" => Some(Unit::Bytes),
                "seconds" => Some(Unit::Seconds),
                other => Some(Unit::Other(other.to_owned())),
            };
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Info => MetricType::Info,
            };
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for series in &family.series {
                if family.kind == Kind::Info {
                    metric.encode_info(&series.labels)?;
                    continue;
                }
                let mut one = metric.encode_family(&series.labels)?;
                match (family.kind, series.value) {
                    (Kind::Gauge, Value::Count(count)) => one.encode_gauge(&count)?,
                    (Kind::Gauge, Value::Real(real)) => one.encode_gauge(&real)?,
                    (_, Value::Count(count)) => {
                        one.encode_counter::<[(&str, &str); 0], _, u64>(&count, None)?;
                    }
                    (_, Value::Real(real)) => {
                        one.encode_counter::<[(&str, &str); 0], _, u64>(&real, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The classic text of the same. There a family of counters has the name of its samples,
/// and units are not told.
fn classic(open: &str) -> Result<String, fmt::Error> {
    let mut classic = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                writeln!(classic, "# HELP {name}{suffix} {help}")?;
            }
            writeln!(classic, "# TYPE {name}{suffix} {kind}")?;
        } else if !line.starts_with('#') {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    Ok(classic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::counters::Series;

    fn families() -> Vec<Family> {
        let series = |labels, value| Series { labels, value };
        vec![
            Family {
                name: "droptrace_dropped",
                unit: "packets",
                help: "Packets.",
                kind: Kind::Counter,
                series: vec![series(
                    vec![("class", "a\"b\\c\nd".to_owned())],
                    Value::Count(3),
                )],
            },
            Family {
                name: "droptrace_build",
                unit: "",
                help: "Version.",
                kind: Kind::Info,
                series: vec![series(vec![("version", "1".to_owned())], Value::Count(1))],
            },
            Family {
                name: "process_start_time",
                unit: "seconds",
                help: "Start.",
                kind: Kind::Gauge,
                series: vec![series(Vec::new(), Value::Real(1.5))],
            },
        ]
    }

    #[test]
    fn open_metrics_have_units_and_an_end() {
        let expected = concat!(
            "# HELP droptrace_dropped_packets Packets.\n",
            "# TYPE droptrace_dropped_packets counter\n",
            "# UNIT droptrace_dropped_packets packets\n",
            "droptrace_dropped_packets_total{class=\"a\\\"b\\\\c\\nd\"} 3\n",
            "# HELP droptrace_build Version.\n",
            "# TYPE droptrace_build info\n",
            "droptrace_build_info{version=\"1\"} 1\n",
            "# HELP process_start_time_seconds Start.\n",
            "# TYPE process_start_time_seconds gauge\n",
            "# UNIT process_start_time_seconds seconds\n",
            "process_start_time_seconds 1.5\n",
            "# EOF\n",
        );
        assert_eq!(text(families(), Format::OpenMetrics).unwrap(), expected);
    }

    #[test]
    fn the_classic_text_has_the_names_of_the_samples() {
        let expected = concat!(
            "# HELP droptrace_dropped_packets_total Packets.\n",
            "# TYPE droptrace_dropped_packets_total counter\n",
            "droptrace_dropped_packets_total{class=\"a\\\"b\\\\c\\nd\"} 3\n",
            "# HELP droptrace_build_info Version.\n",
            "# TYPE droptrace_build_info gauge\n",
            "droptrace_build_info{version=\"1\"} 1\n",
            "# HELP process_start_time_seconds Start.\n",
            "# TYPE process_start_time_seconds gauge\n",
            "process_start_time_seconds 1.5\n",
        );
        assert_eq!(text(families(), Format::Classic).unwrap(), expected);
    }

    #[test]
    fn the_client_says_which_text_it_wants() {
        for (header, format) in [
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("text/plain", Format::Classic),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "text/plain, application/openmetrics-text; q=0.4",
                Format::Classic,
            ),
            ("application/openmetrics-text;q=0", Format::Classic),
            ("application/openmetrics-text;q=x", Format::Classic),
        ] {
            assert_eq!(Format::accepted(header), format, "{header}");
        }
    }
}
