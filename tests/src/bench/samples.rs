//! What was measured: for each part, case, contender and metric the figures of all
//! rounds, from which median and spread follow.

use serde::Serialize;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// As in a table's head.
    pub name: &'static str,
    /// Of the figure.
    pub unit: &'static str,
}

/// A metric with its unit.
pub const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

/// One figure of each round.
#[derive(Debug, Serialize)]
pub struct Series {
    /// Which part of the benchmark.
    pub part: &'static str,
    /// Under which load.
    pub case: String,
    /// Who was measured.
    pub contender: &'static str,
    /// What was measured.
    #[serde(flatten)]
    pub metric: Metric,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
}

/// Median, least and most of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the figures are no larger.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// All series, in the order in which they were begun.
#[derive(Debug, Default)]
pub struct Samples(pub Vec<Series>);

impl Samples {
    /// Adds the figure of a round.
    pub fn add(
        &mut self,
        part: &'static str,
        case: &str,
        contender: &'static str,
        metric: Metric,
        figure: f64,
    ) {
        let is_it = |series: &&mut Series| {
            (series.part, series.contender, series.metric) == (part, contender, metric)
                && series.case == case
        };
        if let Some(series) = self.0.iter_mut().find(is_it) {
            series.samples.push(figure);
        } else {
            self.0.push(Series {
                part,
                case: case.to_owned(),
                contender,
                metric,
                samples: vec![figure],
            });
        }
    }

    /// A series that was measured.
    pub fn find(&self, part: &str, case: &str, contender: &str, metric: Metric) -> Option<&Series> {
        self.0.iter().find(|series| {
            (series.part, series.contender, series.metric) == (part, contender, metric)
                && series.case == case
        })
    }

    /// Adds `ratio` for every series of `metric` in a part: what each round measured,
    /// times `scale`, by what the same round measured of `base`.
    pub fn relate(
        &mut self,
        part: &'static str,
        metric: Metric,
        base: &str,
        ratio: Metric,
        scale: f64,
    ) {
        let mut related = Vec::new();
        let of_part = |series: &&Series| series.part == part && series.metric == metric;
        for series in self.0.iter().filter(of_part) {
            let Some(bases) = self.find(part, &series.case, base, metric) else {
                continue;
            };
            let pairs = series.samples.iter().zip(&bases.samples);
            let samples: Vec<f64> = pairs
                .filter(|(_, base)| **base > 0.0)
                .map(|(figure, base)| scale * figure / base)
                .collect();
            if !samples.is_empty() {
                related.push(Series {
                    part,
                    case: series.case.clone(),
                    contender: series.contender,
                    metric: ratio,
                    samples,
                });
            }
        }
        self.0.extend(related);
    }
}

impl Series {
    /// Over all rounds; `None` where there was none.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    /// What the true median is at most, in 39 of 40 times that as many rounds are measured:
    /// the round that stands about as many places above the middle as the root of their
    /// number. Of few rounds the most.
    pub fn most_median(&self) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let above_middle = sorted.len().isqrt();
        let place = sorted.len() / 2 + above_middle;
        sorted.get(place).or(sorted.last()).copied()
    }
}

/// A count or a number of nanoseconds as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures of a benchmark need no 53 bits"
)]
pub fn figure(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: Metric = metric("speed", "1/s");

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let mut samples = Samples::default();
        for figure in [4.0, 1.0, 3.0, 9.0] {
            samples.add("cost", "one", "a", SPEED, figure);
        }
        let spread = samples.0[0].spread().unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 3.5,
                min: 1.0,
                max: 9.0
            }
        );
    }

    #[test]
    fn of_many_rounds_the_median_is_known_better() {
        let most = |rounds: u64| {
            let series = Series {
                part: "cost",
                case: "one".to_owned(),
                contender: "a",
                metric: SPEED,
                samples: (0..rounds).rev().map(figure).collect(),
            };
            series.most_median()
        };
        assert_eq!(most(0), None);
        assert_eq!(most(5), Some(4.0));
        assert_eq!(most(25), Some(17.0));
        assert_eq!(most(100), Some(60.0));
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_a_case() {
        let mut samples = Samples::default();
        for (case, contender, figure) in [
            ("one", "none", 10.0),
            ("one", "a", 5.0),
            ("one", "none", 100.0),
            ("one", "a", 20.0),
            ("two", "none", 7.0),
            ("two", "a", 7.0),
        ] {
            samples.add("cost", case, contender, SPEED, figure);
        }
        let share = metric("of none", "%");
        samples.relate("cost", SPEED, "none", share, 100.0);
        let of = |case| &samples.find("cost", case, "a", share).unwrap().samples;
        assert_eq!(of("one"), &[50.0, 20.0]);
        assert_eq!(of("two"), &[100.0]);
    }
}
