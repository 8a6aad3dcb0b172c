//! Builds the guest toolkit (`guest/`), which the runner embeds: a kernel, so not a target that cargo knows, but
//! one that this very toolchain can build.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let guest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("guest");
    // A folder stands for everything in it.
    println!("cargo:rerun-if-changed={}", guest.display());
    println!("cargo:rerun-if-changed=build.rs");

    if variable("CARGO_CFG_TARGET_ARCH")? != "x86_64" {
        return Err("toril runs on x86-64 only: build it with --target x86_64-unknown-linux-gnu".into());
    }
    compile(&guest, &PathBuf::from(variable("OUT_DIR")?).join("toril-guest.elf"))
}

/// The variables that set cargo's own flags (RUSTFLAGS, `[build]`) do not reach this call of rustc: the kernel is
/// the same whatever they say.
fn compile(guest: &Path, image: &Path) -> Result<(), Box<dyn Error>> {
    let mut rustc = Command::new(variable("RUSTC")?);
    // Paths relative to the folder keep the image the same wherever it is built.
    rustc
        .current_dir(guest)
        .args(["--crate-name", "toril_guest", "--crate-type", "bin", "--edition", "2024", "main.rs"])
        .arg("--target")
        .arg(variable("TARGET")?)
        .arg("-o")
        .arg(image)
        .args(["-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1", "-C", "strip=symbols"])
        .args(["-C", "panic=abort", "-C", "relocation-model=static", "-C", "target-feature=+crt-static"])
        // Exceptions push onto the running stack.
        .args(["-C", "no-redzone=yes", "-C", "default-linker-libraries=no"]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(joined("linker=", linker));
    }
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--script=link.ld",
        "-Wl,--build-id=none",
        // No pages in the file: nothing maps it.
        "-Wl,--nmagic",
    ] {
        rustc.arg("-C").arg(joined("link-arg=", argument.into()));
    }

    let output = rustc.output().map_err(|error| format!("cannot start {rustc:?}: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("building the guest failed ({})\n{rustc:?}\n{messages}", output.status).into());
    }
    for line in messages.lines() {
        println!("cargo:warning={line}");
    }
    Ok(())
}

fn variable(name: &str) -> Result<OsString, Box<dyn Error>> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this program is for cargo to run").into())
}

fn joined(option: &str, value: OsString) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(value);
    argument
}
