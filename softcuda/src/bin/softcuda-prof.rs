//! Runs any CUDA program on softcuda and shows what its kernels did. One error line, no panic.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::SystemTime;

use clap::Parser;
use softcuda::model::devices::Device;
use softcuda::model::profile::{LaunchProfile, by_kernel, read_json_lines};
use softcuda::model::table::{comparison, table};

/// The file that holds the driver.
const LIBRARY: &str = "libsoftcuda.so";

/// Runs a CUDA program without a GPU and shows what its kernels did: exact counts, modelled times.
///
/// The program finds softcuda in the place of NVIDIA's libcuda.so; nothing in it has to change. Exit codes: the
/// program's own (128 + the signal that ended it), 1 when softcuda-prof itself failed (one line says why), 2 wrong
/// arguments.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 110)]
struct Cli {
    /// Device to present: t4, a100, h100 or rtx4090
    #[arg(long, default_value = "a100", value_name = "NAME")]
    device: String,
    /// Checks to run: all, none or a list of names [default: the driver's]
    #[arg(long, value_name = "LIST")]
    checks: Option<String>,
    /// Source lines to show of each kernel
    #[arg(long, default_value_t = 5, value_name = "N")]
    lines: usize,
    /// Print the sums by kernel as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Keep the launches in this file, one line of JSON each
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the ratios between two files of launches instead
    #[arg(long, num_args = 2, value_names = ["OLD.jsonl", "NEW.jsonl"], conflicts_with_all = ["json", "program"])]
    compare: Option<Vec<PathBuf>>,
    /// The program and its arguments, or one FILE.jsonl to show
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM",
        required_unless_present = "compare"
    )]
    program: Vec<OsString>,
}

/// What is told the user, in one line.
type Failure = String;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {}", failure.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<u8, Failure> {
    if let Some([old, new]) = cli.compare.as_deref() {
        let (old, new) = (by_kernel(&read(old)?), by_kernel(&read(new)?));
        return print(&comparison(&old, &new)).map(|()| 0);
    }
    if let [file] = cli.program.as_slice()
        && Path::new(file).extension().is_some_and(|extension| extension == "jsonl")
    {
        return show(cli, &read(Path::new(file))?).map(|()| 0);
    }
    profile(cli)
}

/// Runs the program and shows what it did, whether or not it succeeded.
fn profile(cli: &Cli) -> Result<u8, Failure> {
    let device = Device::by_name(&cli.device).map_err(|error| format!("--device: {error}"))?;
    let folder = Folder::with_links_to(&library()?)?;
    let file = match &cli.output {
        Some(path) => fresh(path)?,
        None => folder.0.join("launches.jsonl"),
    };
    let status = command(cli, device, &folder.0, &file)?
        .status()
        .map_err(|error| format!("cannot run {}: {error}", Path::new(&cli.program[0]).display()))?;
    if file.metadata().is_ok_and(|data| data.len() > 0) {
        show(cli, &read(&file)?)?;
    } else {
        eprintln!("no kernel was launched on softcuda");
    }
    Ok(code(status))
}

/// The program's own exit code, or 128 and the signal, as shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// An absolute path of a file that does not exist any more: the driver appends.
fn fresh(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| format!("cannot write {}: {error}", path.display());
    fs::write(path, "").map_err(failed)?;
    path.canonicalize().map_err(failed)
}

fn command(cli: &Cli, device: &Device, folder: &Path, file: &Path) -> Result<Command, Failure> {
    let older = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(folder.to_path_buf())
        .chain(std::env::split_paths(&older).filter(|path| !path.as_os_str().is_empty()));
    let paths = std::env::join_paths(paths).map_err(|error| format!("LD_LIBRARY_PATH: {error}"))?;
    let mut command = Command::new(&cli.program[0]);
    command
        .args(&cli.program[1..])
        .env("LD_LIBRARY_PATH", paths)
        .env("SOFTCUDA", "1")
        .env("SOFTCUDA_DEVICE", device.key)
        .env("SOFTCUDA_PROFILE", file);
    if let Some(checks) = &cli.checks {
        command.env("SOFTCUDA_CHECKS", checks);
    }
    Ok(command)
}

/// The driver: beside this executable (cargo build) or in its deps/ (cargo test); the newer where it is in both.
fn library() -> Result<PathBuf, Failure> {
    let executable =
        std::env::current_exe().map_err(|error| format!("cannot find softcuda-prof itself: {error}"))?;
    let folder = executable.parent().unwrap_or(Path::new("."));
    let newest = [folder.join(LIBRARY), folder.join("deps").join(LIBRARY)]
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max_by_key(|(modified, _)| *modified);
    match newest {
        Some((_, path)) => Ok(path),
        None => Err(format!(
            "{LIBRARY} is neither in {0} nor in {0}/deps: build softcuda first",
            folder.display()
        )),
    }
}

/// A private temporary folder, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    /// With the names by which programs ask for the driver.
    fn with_links_to(library: &Path) -> Result<Folder, Failure> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("softcuda-prof-{}-{:x}", std::process::id(), since.as_nanos());
        let path = std::env::temp_dir().join(name);
        let failed = |error| format!("cannot create {}: {error}", path.display());
        // Not recursive: a folder that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let folder = Folder(path.clone());
        for name in ["libcuda.so", "libcuda.so.1"] {
            symlink(library, path.join(name)).map_err(failed)?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> Result<Vec<LaunchProfile>, Failure> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    read_json_lines(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn show(cli: &Cli, launches: &[LaunchProfile]) -> Result<(), Failure> {
    let mut summaries = by_kernel(launches);
    if cli.json {
        summaries.iter_mut().for_each(|summary| summary.lines.truncate(cli.lines));
        let text = serde_json::to_string_pretty(&summaries)
            .map_err(|error| format!("cannot write JSON: {error}"))?;
        return print(&(text + "\n"));
    }
    let mut devices: Vec<&str> = launches.iter().map(|launch| launch.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    print(&table(&devices.join(", "), &summaries, cli.lines))
}

/// To standard output; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}
