//! Whose records they are: this machine, by what it knows itself. No service is asked.

use std::{fs, path::Path};

use opentelemetry_proto::tonic::{common::v1::KeyValue, resource::v1::Resource};

use super::convert::text;

/// What is known of this machine.
#[must_use]
pub fn resource() -> Resource {
    read(Path::new("/"))
}

fn read(root: &Path) -> Resource {
    let line = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (provider, instance) = cloud(&|name| line(&format!("sys/class/dmi/id/{name}")));
    let attributes = [
        ("service.name", Some("droptrace".to_owned())),
        (
            "service.version",
            Some(env!("CARGO_PKG_VERSION").to_owned()),
        ),
        ("host.name", line("proc/sys/kernel/hostname")),
        // In a cloud the convention wants its number of the instance.
        ("host.id", instance.or_else(|| line("etc/machine-id"))),
        ("host.arch", Some(arch().to_owned())),
        ("os.type", Some("linux".to_owned())),
        ("os.version", line("proc/sys/kernel/osrelease")),
        ("cloud.provider", provider.map(str::to_owned)),
    ];
    Resource {
        attributes: attributes
            .into_iter()
            .filter_map(|(key, value)| {
                Some(KeyValue {
                    key: key.to_owned(),
                    value: Some(text(&value?)),
                    ..KeyValue::default()
                })
            })
            .collect(),
        ..Resource::default()
    }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        other => other,
    }
}

/// The cloud that the machine's firmware names, and its number there if that is told.
fn cloud(dmi: &dyn Fn(&str) -> Option<String>) -> (Option<&'static str>, Option<String>) {
    let vendor = dmi("sys_vendor").unwrap_or_default();
    let product = dmi("product_name").unwrap_or_default();
    let tag = dmi("chassis_asset_tag").unwrap_or_default();
    if vendor == "Amazon EC2" {
        // Of machines of the Nitro kind it is the instance's number.
        let instance = dmi("board_asset_tag").filter(|tag| tag.starts_with("i-"));
        (Some("aws"), instance)
    } else if vendor == "Google" && product == "Google Compute Engine" {
        (Some("gcp"), None)
    } else if tag == "7783-7084-3265-9085-8269-3286-77" {
        // What Azure gives to all of its machines; vendor and product are Hyper-V's.
        (Some("azure"), None)
    } else {
        (None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_told_by_their_firmware() {
        let on = |values: &'static [(&str, &str)]| {
            cloud(&|name| {
                let (_, value) = values.iter().find(|(key, _)| *key == name)?;
                Some((*value).to_owned())
            })
        };
        assert_eq!(
            on(&[
                ("sys_vendor", "Amazon EC2"),
                ("board_asset_tag", "i-0123456789abcdef0")
            ]),
            (Some("aws"), Some("i-0123456789abcdef0".to_owned()))
        );
        assert_eq!(
            on(&[
                ("sys_vendor", "Google"),
                ("product_name", "Google Compute Engine")
            ]),
            (Some("gcp"), None)
        );
        assert_eq!(
            on(&[
                ("sys_vendor", "Microsoft Corporation"),
                ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")
            ]),
            (Some("azure"), None)
        );
        assert_eq!(on(&[("sys_vendor", "QEMU")]), (None, None));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/machine-id"), "abc\n").unwrap();
        let keys: Vec<_> = read(dir.path())
            .attributes
            .into_iter()
            .map(|attribute| attribute.key)
            .collect();
        assert!(keys.contains(&"host.id".to_owned()));
        assert!(!keys.contains(&"host.name".to_owned()));
        assert!(!keys.contains(&"cloud.provider".to_owned()));
    }
}
