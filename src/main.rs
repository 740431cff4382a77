//! Parses the arguments, calls one command, and answers with its exit code.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Pages of 2 MiB double the memory of a small deployment, and to fill them with zeros costs more than they save.
    // Where it can't be said, nothing is lost but that.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_thp_disable(true).unwrap_or(());
    tidegauge::commands::main()
}
