//! Which package is the kernel that is meant.

use super::*;

#[test]
fn plain_kernels_are_told_from_flavours() {
    for (package, release) in [
        ("linux-image-6.12.117+deb13-amd64", Some("6.12.117+deb13")),
        ("linux-image-5.10.0-46-amd64", Some("5.10.0-46")),
        (
            "linux-image-6.1.0-0.deb11.48-amd64",
            Some("6.1.0-0.deb11.48"),
        ),
        ("linux-image-6.12.117+deb13-cloud-amd64", None),
        ("linux-image-6.12.117+deb13-amd64-unsigned", None),
        ("linux-image-6.12-amd64", None),
        ("linux-image-amd64", None),
        ("linux-image-cloud-amd64", None),
    ] {
        assert_eq!(release_of(package), release, "{package}");
    }
}

#[test]
fn series_is_not_the_beginning_of_a_number() {
    let wanted: Wanted = "6.1".parse().unwrap();
    assert!(fits("6.1.0-56", &wanted));
    assert!(!fits("6.12.117+deb13", &wanted));
    assert!(fits("6.12.117+deb13", &Wanted::Newest));
    for wrong in ["6", "6.12.117", "latest", "6.", ""] {
        assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
    }
}

#[test]
fn split_kernel_is_fetched_in_parts() {
    let package = |depends: &[&str]| Package {
        name: "linux-image-7.2.1-amd64".to_owned(),
        version: "7.2.1-1".to_owned(),
        depends: depends.iter().map(|&name| name.to_owned()).collect(),
    };
    let depends = ["kmod", "linux-modules-7.2.1-amd64", "linux-base"];
    assert_eq!(
        parts(&package(&depends)),
        ["linux-image-7.2.1-amd64", "linux-modules-7.2.1-amd64"]
    );
    assert_eq!(parts(&package(&[])), ["linux-image-7.2.1-amd64"]);
}

#[test]
fn newest_is_by_version() {
    let package = |version: &str| Package {
        name: "linux-image".to_owned(),
        version: version.to_owned(),
        depends: Vec::new(),
    };
    let packages = ["2", "3", "1"].map(package).to_vec();
    assert_eq!(newest(packages, |a, b| a > b), Some(package("3")));
    assert_eq!(newest(Vec::new(), |a, b| a > b), None);
}
