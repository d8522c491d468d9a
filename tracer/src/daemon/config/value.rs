//! Values with units, checked where they are read.

use std::{fmt, fs, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A time, such as `500ms` or `1h`; never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match humantime::parse_duration(&text) {
            Ok(span) if !span.is_zero() => Ok(Self(span)),
            _ => Err(D::Error::custom(format!(
                "`{text}` is no time; write a number and a unit, such as \"500ms\" or \"1h\""
            ))),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Without the spaces between parts, as one writes it.
        let text = humantime::format_duration(self.0).to_string();
        to.serialize_str(&text.replace(' ', ""))
    }
}

/// How often counts are taken, within the bounds of the command line's `--interval`.
pub fn interval<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(from)?;
    let allowed = Duration::from_millis(20)..=Duration::from_secs(3600);
    if allowed.contains(&span.0) {
        Ok(span)
    } else {
        Err(D::Error::custom("an interval must be 20ms to 1h"))
    }
}

/// How many flows are listed, within the bounds of the command line's `--max-flows`.
pub fn flows<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        flows @ 1..=1_048_576 => Ok(flows),
        _ => Err(D::Error::custom("max_flows must be 1 to 1048576")),
    }
}

/// Bytes, such as `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    fn parse(text: &str) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start() {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        let size = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
        (size > 0).then_some(size)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no size; write a number and B, KiB, MiB or GiB, such as \"64MiB\""
            ))
        })
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
        let whole = |(_, shift): &&(&str, u32)| self.0.trailing_zeros() >= *shift;
        let (unit, shift) = units.iter().find(whole).unwrap_or(&("B", 0));
        to.collect_str(&format_args!("{}{unit}", self.0 >> shift))
    }
}

/// A share of one CPU in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let number = text.strip_suffix('%').map(str::trim_end);
        match number.and_then(|number| number.parse().ok()) {
            Some(share) if share > 0.0 && share <= 100.0 => Ok(Self(share)),
            _ => Err(D::Error::custom(format!(
                "`{text}` is no share of a CPU; write 0.1% to 100%, such as \"5%\""
            ))),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}%", self.0))
    }
}

/// Permissions of a file, in octal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match u32::from_str_radix(&text, 8) {
            // Others have no business with what passes on this machine.
            Ok(mode) if mode & !0o770 == 0 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err(D::Error::custom(format!(
                "`{text}` are no permissions for the socket; write \"0600\", \"0660\" or \"0640\""
            ))),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{self:?}"))
    }
}

/// What no log shows: given as it is, or by the file that has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Itself(String),
            In { file: PathBuf },
        }
        match Given::deserialize(from) {
            Ok(Given::Itself(text)) => Ok(Self(text)),
            Ok(Given::In { file }) => match fs::read_to_string(&file) {
                Ok(text) => Ok(Self(text.trim_end().to_owned())),
                Err(error) => Err(D::Error::custom(format!(
                    "cannot read {}: {error}",
                    file.display()
                ))),
            },
            // What stands there is not repeated: it may be the secret.
            Err(_) => Err(D::Error::custom(
                "no value of a header; write \"TEXT\" or { file = \"PATH\" }",
            )),
        }
    }
}

/// Whoever shows a configuration does not show its secrets.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{self:?}"))
    }
}

pub fn address_or_off<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) if text == "off" => Ok(None),
        Err(_) => Err(D::Error::custom(format!(
            "`{text}` is no address to listen on; write ADDR:PORT, such as \"127.0.0.1:9469\", or \
             \"off\""
        ))),
    }
}

/// As [`address_or_off`] reads it.
#[allow(clippy::ref_option, reason = "serde hands over the field as it is")]
pub fn or_off<S: Serializer>(address: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.collect_str(address),
        None => to.serialize_str("off"),
    }
}

pub fn endpoint<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '@', '?', '#'])) {
        Ok(text)
    } else {
        Err(D::Error::custom(
            "no address of a receiver; write http://HOST:PORT or https://HOST:PORT, without a \
             password",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(Size::parse("64MiB"), Some(64 << 20));
        assert_eq!(Size::parse("1 GiB"), Some(1 << 30));
        assert_eq!(Size::parse("12B"), Some(12));
        for bad in [
            "",
            "64",
            "64MB",
            "0KiB",
            "-1MiB",
            "99999999999GiB",
            "MiB",
            "1.5MiB",
        ] {
            assert_eq!(Size::parse(bad), None, "{bad}");
        }
    }
}
