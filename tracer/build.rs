//! Hands the kernel objects to the crate, which embeds them.

use std::{
    env,
    path::{Path, PathBuf},
};

/// What the crate knows each by, and its file.
const OBJECTS: [(&str, &str); 2] = [
    ("BPF_OBJECT", "droptrace.bpf.o"),
    ("BPF_OBJECT_LOADS", "droptrace-loads.bpf.o"),
];

fn main() {
    for (name, file) in OBJECTS {
        println!("cargo::rerun-if-env-changed={name}");
        let object = env::var_os(name).map_or_else(
            || {
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("../target/bpf")
                    .join(file)
            },
            PathBuf::from,
        );
        println!("cargo::rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(object) => println!("cargo::rustc-env={name}={}", object.display()),
            Err(error) => println!(
                "cargo::error=the kernel programs are not built ({}: {error}); run: cargo xtask \
                 build",
                object.display()
            ),
        }
    }
}
