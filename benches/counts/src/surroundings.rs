//! On what a count depends beside the sources: the compilers, the C library, and the processor that valgrind shows.

use std::collections::BTreeMap;
use std::process::Command;

use crate::callgrind;

/// Versions by name.
pub(crate) type Surroundings = BTreeMap<String, String>;

/// The argument of the process that tells what processor it sees.
pub(crate) const TELL_PROCESSOR: &str = "--tell-processor";

/// What there is here.
///
/// # Errors
///
/// When valgrind cannot run.
pub(crate) fn found() -> Result<Surroundings, String> {
    let processor = callgrind::run(callgrind::valgrind("none")?, &[TELL_PROCESSOR])?;
    let all = [
        ("cc", first_line("cc", &["-dumpfullversion", "-dumpversion"])),
        ("libc", first_line("getconf", &["GNU_LIBC_VERSION"])),
        ("processor", processor.trim().to_owned()),
        ("rustc", first_line("rustc", &["--version"]).trim_start_matches("rustc ").to_owned()),
    ];
    Ok(all.map(|(name, version)| (name.to_owned(), version)).into())
}

/// The processor by what libraries choose their code by. Valgrind has no wider vectors than those of AVX2.
pub(crate) fn processor() -> String {
    let features: &[(&str, bool)] = &[
        #[cfg(target_arch = "x86_64")]
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        #[cfg(target_arch = "x86_64")]
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        #[cfg(target_arch = "x86_64")]
        ("sha", std::arch::is_x86_feature_detected!("sha")),
    ];
    let there = features.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name);
    [std::env::consts::ARCH].into_iter().chain(there).collect::<Vec<_>>().join(" ")
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
