//! Runs the embedded ClickHouse, or a `clickhouse` binary, with a pseudo-terminal as standard input.
//!
//! ```text
//! tidegauge-clickhouse LIBCHDB OPTION...        the options of `clickhouse local`
//! tidegauge-clickhouse --exec PROGRAM ARG...    a program of its own, under the same care
//! ```
//!
//! Why a terminal: with any other standard input, `clickhouse local` ends the whole process when a
//! client's connection fails at the wrong moment. It ends by a typed `exit`, and this program types
//! it on SIGTERM, on SIGINT, and when its own standard input ends. So a ClickHouse never outlives
//! whoever holds the other end of that pipe.
//!
//! A binary of its own because the library brings its own allocator: loaded into a process that
//! overrides `malloc`, it dies at once. Nothing here may refer to the library crate or to mimalloc.
#![expect(unsafe_code, reason = "calls the C entry point of a library loaded at run time")]

use std::env;
use std::error::Error;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;

/// Clears what stands in the line, then leaves.
const EXIT: &[u8] = b"\x15exit\n";
const RETYPE_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegauge-clickhouse: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next().ok_or("usage: tidegauge-clickhouse LIBCHDB OPTION...")?;
    let rest: Vec<OsString> = arguments.collect();
    // SAFETY: no other thread runs yet, so none can read the environment meanwhile.
    unsafe { env::set_var("TERM", "dumb") };
    // Blocked before the first thread starts: all inherit it, and only the waiting one takes them.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let terminal = Terminal::new()?;
    terminal.exit_on(move || while signals.wait().is_err() {})?;
    terminal.exit_at_end_of(File::from(unistd::dup(std::io::stdin())?))?;
    if first == "--exec" {
        return exec(&rest, terminal);
    }
    unistd::dup2_stdin(&terminal.slave)?;
    drop(terminal.slave);
    query_cmdline(&first, rest)
}

struct Terminal {
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Result<Self, Box<dyn Error>> {
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None)?;
        // Else a program of its own would keep both ends, and never see the end of its input.
        for end in [&pair.master, &pair.slave] {
            let flag = nix::fcntl::FdFlag::FD_CLOEXEC;
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(flag))?;
        }
        let master = File::from(pair.master);
        let mut echo = master.try_clone()?;
        // The terminal echoes what is typed, and the prompts come after it: unread, they would block.
        thread::spawn(move || {
            let mut scratch = [0; 4096];
            while echo.read(&mut scratch).is_ok_and(|read| read > 0) {}
        });
        Ok(Self { master, slave: pair.slave })
    }

    fn exit_on(&self, event: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn Error>> {
        let mut master = self.master.try_clone()?;
        thread::spawn(move || {
            event();
            keep_typing(&mut master);
        });
        Ok(())
    }

    fn exit_at_end_of(&self, mut input: File) -> Result<(), Box<dyn Error>> {
        self.exit_on(move || {
            let mut scratch = [0; 4096];
            while input.read(&mut scratch).is_ok_and(|read| read > 0) {}
        })
    }
}

/// Types until the process ends: what comes before the prompt is thrown away with the line.
#[expect(clippy::disallowed_methods, reason = "nothing announces that the prompt is there")]
fn keep_typing(master: &mut File) {
    while master.write_all(EXIT).is_ok() {
        thread::sleep(RETYPE_INTERVAL);
    }
}

fn exec(arguments: &[OsString], terminal: Terminal) -> Result<ExitCode, Box<dyn Error>> {
    let (program, arguments) = arguments.split_first().ok_or("--exec needs a program")?;
    let mut child = Command::new(program).args(arguments).stdin(terminal.slave).spawn()?;
    let status = child.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `chdb_query_cmdline` of the library: the command line of `clickhouse local`. Returns at its end.
fn query_cmdline(library: &OsString, options: Vec<OsString>) -> Result<ExitCode, Box<dyn Error>> {
    type QueryCmdline = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
    type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;

    let words: Vec<CString> = std::iter::once(OsString::from("clickhouse"))
        .chain(options)
        .map(|word| CString::new(word.into_vec()))
        .collect::<Result<_, _>>()?;
    let mut argv: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(argv.len())?;
    argv.push(std::ptr::null_mut());
    // SAFETY: the library is the pinned one; its constructors only set up its own state.
    let library = unsafe { libloading::Library::new(library) }?;
    // Unloading it under its own threads crashes.
    let library = std::mem::ManuallyDrop::new(library);
    // SAFETY: the name and the types are those of the library's public header.
    let query = unsafe { library.get::<QueryCmdline>(b"chdb_query_cmdline\0") }?;
    // SAFETY: as above.
    let error = unsafe { library.get::<ResultError>(b"chdb_result_error\0") }?;
    // SAFETY: `argv` holds `count` strings that end in zero, then null, and outlives the call.
    let result = unsafe { query(count, argv.as_mut_ptr()) };
    // SAFETY: `result` is what the call above returned, and nothing has freed it.
    let message = if result.is_null() { std::ptr::null() } else { unsafe { error(result) } };
    if message.is_null() {
        // ClickHouse has ended in order. Some of its threads have not, and meet what destructors at the end of the
        // process leave: one end in seven, on a loaded machine, was a crash.
        // SAFETY: ends the process, with nothing of ours left to write.
        unsafe { nix::libc::_exit(0) };
    }
    // SAFETY: not null, and the result that owns it lives until the process ends.
    let message = unsafe { CStr::from_ptr(message) };
    Err(message.to_string_lossy().into_owned().into())
}
