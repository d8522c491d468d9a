//! Which machine does a guest run on?

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::Command,
};

use crate::cmd;

pub const PROGRAM: &str = "qemu-system-x86_64";

/// Megabytes: droptrace with all its maps needs a tenth of it.
const MEMORY: &str = "1536";

/// Two, so that programs run at the same time.
const CPUS: &str = "2";

/// Warnings and worse go to the console, an oops ends the machine.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off \
     tsc=reliable no_timer_check random.trust_cpu=on net.ifnames=0 cryptomgr.notests audit=0";

/// Files in the folder of a run.
pub const CONSOLE: &str = "console";
pub const STATUS: &str = "status";
pub const INITRAMFS: &str = "initramfs";

/// The machine; its standard output and error are the command's.
pub fn command(vmlinux: &Path, run: &Path) -> Command {
    // So that no guest survives this process, however that ends.
    let mut qemu = cmd::tool("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--"]);
    qemu.arg(cmd::find(PROGRAM).unwrap_or_else(|| PROGRAM.into()));
    qemu.args([
        "-machine",
        "q35,graphics=off,vmport=off,smbus=off,sata=off,usb=off,hpet=off",
    ]);
    qemu.args(["-smp", CPUS, "-m", MEMORY]);
    if has_kvm() {
        qemu.args(["-accel", "kvm", "-cpu", "host"]);
    } else {
        qemu.args(["-accel", "tcg,thread=multi,tb-size=256"]);
        // QEMU 7.2 emulates cmpxchg16b wrongly, which kernels do without. With
        // `erms` and `fsrm` they clear and copy byte by byte, which is fast in a
        // processor only: without, droptrace starts in three quarters of the time.
        qemu.args(["-cpu", "max,-cx16,-erms,-fsrm"]);
    }
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-nic", "none"]);
    qemu.arg("-kernel").arg(vmlinux);
    qemu.arg("-initrd").arg(run.join(INITRAMFS));
    qemu.args(["-append", KERNEL_ARGUMENTS]);
    qemu.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
    let file = |name: &str| option(&run.join(name));
    qemu.arg("-chardev");
    qemu.arg(format!("file,id=console,path={}", file(CONSOLE)));
    qemu.args(["-serial", "chardev:console"]);
    for (port, path) in [
        ("out", "/dev/fd/1".to_owned()),
        ("err", "/dev/fd/2".to_owned()),
        ("status", file(STATUS)),
    ] {
        qemu.arg("-chardev")
            .arg(format!("file,id={port},append=on,path={path}"));
        qemu.arg("-device")
            .arg(format!("virtserialport,chardev={port},name={port}"));
    }
    qemu.args([
        "-virtfs",
        "local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on",
    ]);
    qemu
}

/// A path as part of an option, in which commas separate.
fn option(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A KVM device alone proves nothing: there are some that can only emulate a
/// stock kernel.
fn has_kvm() -> bool {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu.split_whitespace()
        .any(|flag| matches!(flag, "vmx" | "svm"))
        && OpenOptions::new().write(true).open("/dev/kvm").is_ok()
}
