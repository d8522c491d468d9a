//! How does a packaged kernel become one that starts fast?
//!
//! QEMU starts the uncompressed image by its PVH entry, which saves the
//! emulated machine from uncompressing it: 1.5 to 4.5 s in software. Where the
//! offsets stand: <https://docs.kernel.org/arch/x86/boot.html>.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use crate::cmd;

/// Makes what the package leaves to its installation, once for each kernel, and
/// gives the path of the uncompressed image.
pub fn prepare(kernel: &Kernel) -> Result<PathBuf> {
    if !kernel.modules.join("modules.dep").is_file() {
        // The folder that holds `lib/modules`.
        let base = kernel.modules.ancestors().nth(3).unwrap_or(Path::new("/"));
        let mut depmod = cmd::tool("depmod");
        depmod.arg("-b").arg(base).arg(&kernel.release);
        cmd::run(&mut depmod, "list what each kernel module needs")?;
    }
    let vmlinux = kernel.folder.join("vmlinux");
    if !vmlinux.is_file() {
        let image = fs::read(&kernel.vmlinuz)
            .with_context(|| format!("could not read {}", kernel.vmlinuz.display()))?;
        let half = vmlinux.with_extension("new");
        extract(&image, &half).with_context(|| {
            format!(
                "could not uncompress the kernel {}",
                kernel.vmlinuz.display()
            )
        })?;
        fs::rename(&half, &vmlinux).context("could not rename the uncompressed kernel")?;
    }
    Ok(vmlinux)
}

fn extract(image: &[u8], into: &Path) -> Result<()> {
    let payload = payload(image)?;
    let file = File::create(into)?;
    let (program, payload) = program(payload)?;
    let mut child = cmd::tool(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    let mut pipe = child.stdin.take().context("no pipe")?;
    pipe.write_all(payload)?;
    drop(pipe);
    let status = child.wait()?;
    if !status.success() {
        bail!("{program} ended with {status}; it says above why");
    }
    Ok(())
}

/// The compressed kernel inside a bootable image.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let find = || {
        let setup_sectors = usize::from(*image.get(0x1f1)?);
        let start = (setup_sectors + 1) * 512 + word(0x248)?;
        image.get(start..start + word(0x24c)?)
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        bail!("it is no bootable x86 image");
    }
    find().context("it is cut off")
}

/// What uncompresses this. Behind all but gzip's data stands its size.
fn program(payload: &[u8]) -> Result<(&'static str, &[u8])> {
    const FORMATS: [(&str, &[u8]); 3] = [
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("xz", b"\xfd7zXZ\0"),
        ("lz4", &[0x02, 0x21, 0x4c, 0x18]),
    ];
    for (program, magic) in FORMATS {
        if payload.starts_with(magic) {
            return Ok((program, &payload[..payload.len() - 4]));
        }
    }
    bail!("its compression is unknown; add it to xtask/src/vm/image.rs")
}

/// The content of a module, which packages compress or not.
pub fn module(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("could not read {}", path.display())),
    };
    let mut uncompress: Command = cmd::tool(program);
    let output = uncompress
        .args(["-d", "-c"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        bail!("could not uncompress {} with {program}", path.display());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One sector of setup, and this payload 16 bytes behind it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * 512 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = u8::try_from(payload.len()).unwrap();
        image.extend(payload);
        image
    }

    #[test]
    fn payload_is_found_by_the_boot_protocol() {
        let image = image(b"\xfd7zXZ\0...size");
        assert_eq!(
            program(payload(&image).unwrap()).unwrap(),
            ("xz", &b"\xfd7zXZ\0..."[..])
        );
        let cut = payload(&image[..image.len() - 1]).unwrap_err();
        assert_eq!(cut.to_string(), "it is cut off");
        assert!(payload(b"ELF").is_err());
    }

    #[test]
    fn unknown_compression_is_an_error() {
        assert!(program(b"BZh9...size").is_err());
    }
}
