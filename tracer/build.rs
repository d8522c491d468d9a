//! Hands the kernel object to the crate, which embeds it.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=BPF_OBJECT");
    let object = env::var_os("BPF_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/droptrace.bpf.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env=BPF_OBJECT={}", object.display()),
        Err(error) => println!(
            "cargo::error=the kernel programs are not built ({}: {error}); run: cargo xtask build",
            object.display()
        ),
    }
}
