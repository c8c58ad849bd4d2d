//! Compiles `kernels/*.cu` to PTX and embeds it.
//!
//! `kernels/ptx/` is committed, so that a build needs no CUDA compiler: each file there carries a hash of the sources and
//! flags that it was made from. Where a hash does not match, nvcc makes the file anew; where there is no nvcc, the build
//! fails and says how to get one. `DIT_PTX=rebuild` makes all of them anew, whatever their hashes are.
//!
//! A first line `// sets: f32 bf16` in a .cu names the element types of activations that it is compiled for.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

const SOURCES: &str = "kernels";
const COMMITTED: &str = "kernels/ptx";
/// In the project's folder; made by `scripts/cuda-toolchain.sh`.
const OWN_NVCC: &str = ".cuda/nvidia/cu13/bin/nvcc";
const FLAGS: [&str; 5] = ["-ptx", "-O3", "-lineinfo", "-std=c++17", "-Ikernels"];
/// The oldest PTX version that the code allows reaches the oldest drivers (7.8: CUDA 11.8); ptxas decides.
const VERSIONS: [&str; 4] = ["7.8", "8.0", "8.3", "9.0"];
/// Architectures that a PTX has to assemble for, from its own on.
const MACHINES: [u32; 4] = [75, 80, 90, 120];

/// A set of kernels: the element of activations, and the oldest architecture.
struct Set {
    name: &'static str,
    element: &'static str,
    arch: u32,
}

const SETS: [Set; 3] = [
    Set { name: "f32_75", element: "f32", arch: 75 },
    Set { name: "f32_80", element: "f32", arch: 80 },
    Set { name: "bf16_80", element: "bf16", arch: 80 },
];

/// A PTX that the program embeds.
struct Unit {
    family: String,
    set: &'static Set,
    path: PathBuf,
    stamp: String,
}

type Outcome<T> = Result<T, String>;

fn main() {
    for path in ["build.rs", SOURCES] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["DIT_NVCC", "DIT_PTX", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Err(problem) = run() {
        println!("cargo::error={problem}");
        std::process::exit(1);
    }
}

fn run() -> Outcome<()> {
    let units = units()?;
    let rebuild = env::var("DIT_PTX").is_ok_and(|value| value == "rebuild");
    let stale: Vec<&Unit> = units.iter().filter(|unit| rebuild || !unit.is_current()).collect();
    if !stale.is_empty() {
        let nvcc = find_nvcc(stale[0])?;
        fs::create_dir_all(COMMITTED).map_err(|error| format!("{COMMITTED}: {error}"))?;
        compile_all(&stale, &nvcc)?;
    }
    remove_orphans(&units)?;
    embed(&units)
}

impl Unit {
    fn is_current(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text.lines().next() == Some(&self.stamp))
    }

    fn source(&self) -> String {
        format!("{SOURCES}/{}.cu", self.family)
    }
}

// ---- what there is to compile --------------------------------------------------------------------------------------

fn units() -> Outcome<Vec<Unit>> {
    let headers = read_all("cuh")?;
    let mut units = Vec::new();
    for (path, source) in read_all("cu")? {
        let family = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let sets = source.lines().next().and_then(|line| line.strip_prefix("// sets: "));
        let sets =
            sets.ok_or_else(|| format!("{}: the first line has to be `// sets: f32 bf16`", path.display()))?;
        for set in SETS.iter().filter(|set| sets.split_whitespace().any(|wanted| wanted == set.element)) {
            let mut hash = Sha256::new();
            hash.update(FLAGS.join(" "));
            hash.update(set.name);
            hash.update(&source);
            for header in included(&source, &headers) {
                hash.update(&headers[header].1);
            }
            let digest: String = hash.finalize().iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            let stamp = format!("// made by build.rs from {SOURCES}/{family}.cu, sha256 {digest}");
            let path = Path::new(COMMITTED).join(format!("{family}.{}.ptx", set.name));
            units.push(Unit { family: family.clone(), set, path, stamp });
        }
    }
    Ok(units)
}

/// The headers of `kernels/` that a source includes, directly or not: their places in `headers`, in order.
fn included(source: &str, headers: &[(PathBuf, String)]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut texts = vec![source];
    while let Some(text) = texts.pop() {
        for name in text.lines().filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"')) {
            let place =
                headers.iter().position(|(path, _)| path.file_name().is_some_and(|file| file == name));
            if let Some(place) = place.filter(|&place| found.insert(place)) {
                texts.push(&headers[place].1);
            }
        }
    }
    found
}

/// Files of `kernels/` with this extension, by name. Line ends are those of Unix, whatever the checkout made of them.
fn read_all(extension: &str) -> Outcome<Vec<(PathBuf, String)>> {
    let entries = fs::read_dir(SOURCES).map_err(|error| format!("{SOURCES}: {error}"))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text.replace("\r\n", "\n"))),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    paths.into_iter().map(read).collect()
}

// ---- the compiler --------------------------------------------------------------------------------------------------

/// $DIT_NVCC, the project's .cuda folder, $CUDA_HOME, then PATH.
fn find_nvcc(stale: &Unit) -> Outcome<PathBuf> {
    if let Some(wanted) = env::var_os("DIT_NVCC").map(PathBuf::from) {
        let missing = format!("DIT_NVCC: {} is no file; unset it, or name an nvcc", wanted.display());
        return wanted.is_file().then_some(wanted).ok_or(missing);
    }
    let mut candidates = vec![PathBuf::from(OWN_NVCC)];
    candidates.extend(env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc")));
    let path = env::var_os("PATH").unwrap_or_default();
    candidates.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        format!(
            "{} does not belong to {}, and there is no nvcc to make it anew; run scripts/cuda-toolchain.sh \
             (it installs one into .cuda/, from PyPI), then build again",
            stale.path.display(),
            stale.source()
        )
    })
}

/// Every stale unit, on all cores.
fn compile_all(stale: &[&Unit], nvcc: &Path) -> Outcome<()> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(stale.len());
    let work = || -> Outcome<()> {
        while let Some(unit) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
            compile(unit, nvcc)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Err("a compiler thread died".into())))
    })
}

fn compile(unit: &Unit, nvcc: &Path) -> Outcome<()> {
    let Unit { family, set, .. } = unit;
    let scratch = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let file = |suffix: &str| scratch.join(format!("{family}.{}.{suffix}", set.name));
    let mut command = Command::new(nvcc);
    command.args(FLAGS).arg(format!("-arch=compute_{}", set.arch));
    if set.element == "bf16" {
        command.arg("-DDIT_BF16");
    }
    run_tool(command.arg(unit.source()).arg("-o").arg(file("raw")), &unit.source())?;
    let raw = fs::read_to_string(file("raw")).map_err(|error| format!("{}: {error}", unit.source()))?;
    let body = portable(&raw);

    let ptxas = nvcc.with_file_name("ptxas");
    let assemble = |version: &str, machine: u32| -> Outcome<(String, String)> {
        let text = with_version(&body, version);
        fs::write(file("ptx"), &text).map_err(|error| format!("{}: {error}", unit.source()))?;
        let mut command = Command::new(&ptxas);
        command.arg("-v").arg(format!("-arch=sm_{machine}")).arg(file("ptx")).arg("-o").arg(file("cubin"));
        run_tool(&mut command, &unit.source()).map(|log| (text, log))
    };
    let (mut text, mut resources) = (Err("no PTX version".to_string()), String::new());
    for version in VERSIONS {
        text = assemble(version, set.arch).map(|(text, _)| text);
        if text.is_ok() {
            for machine in MACHINES.into_iter().filter(|&machine| machine >= set.arch) {
                resources.push_str(&resource_lines(&assemble(version, machine)?.1, machine, unit)?);
            }
            break;
        }
    }
    let whole = format!("{}\n{resources}{}", unit.stamp, text?);
    write_with_time_of_sources(&unit.path, &whole)
}

/// What the tool said; its first line of complaint when it failed.
fn run_tool(command: &mut Command, source: &str) -> Outcome<String> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(said);
    }
    let complaint =
        said.lines().find(|line| line.contains("error")).or(said.lines().next()).unwrap_or("it failed");
    Err(format!("{source}: {name}: {complaint}"))
}

/// The PTX without what depends on this machine: comments, paths, dates, and the names of inlined functions.
fn portable(raw: &str) -> String {
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let mut text = String::new();
    let mut in_strings = false;
    for line in raw.lines().filter(|line| !line.starts_with("//")) {
        // The strings are the names of inlined functions, some with a hash of this machine's paths in them.
        in_strings |= line.trim_start().starts_with(".section");
        if in_strings {
            in_strings = line.trim() != "}";
            continue;
        }
        let trimmed = line.trim_start();
        let line = if trimmed.starts_with(".loc") {
            line.split(", function_name").next().unwrap_or(line).to_string()
        } else if trimmed.starts_with(".file") {
            relative_path(line, &here)
        } else {
            line.to_string()
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    format!("{}\n", text.trim_matches('\n'))
}

/// `.file 1 "/here/kernels/x.cu", 17.., 19..` becomes `.file 1 "kernels/x.cu"`; headers of the toolkit become `<cuda>/x.h`.
fn relative_path(line: &str, here: &str) -> String {
    let mut parts = line.splitn(3, '"');
    let (Some(before), Some(path)) = (parts.next(), parts.next()) else { return line.to_string() };
    let path = path.strip_prefix(here).map_or(path, |path| path.trim_start_matches('/'));
    let path = match path.rsplit_once("/include/") {
        Some((_, header)) => format!("<cuda>/{header}"),
        None => path.to_string(),
    };
    format!("{before}\"{path}\"")
}

fn with_version(body: &str, version: &str) -> String {
    let lower = |line: &str| match line.starts_with(".version ") {
        true => format!(".version {version}\n"),
        false => format!("{line}\n"),
    };
    body.lines().map(lower).collect()
}

/// A comment line for each kernel, from the words of `ptxas -v`.
fn resource_lines(log: &str, machine: u32, unit: &Unit) -> Outcome<String> {
    let mut lines = Vec::new();
    let (mut kernel, mut current, mut stack, mut spill) = (String::new(), String::new(), 0, 0);
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number_before = |following: &[&str]| {
            let place = words.windows(following.len()).position(|part| part == following)?;
            words.get(place.checked_sub(1)?)?.parse::<u32>().ok()
        };
        if line.contains("Compiling entry function") {
            kernel = line.split('\'').nth(1).unwrap_or_default().to_string();
        } else if line.contains("Function properties for") {
            current = words.last().unwrap_or(&"").to_string();
        } else if line.contains("bytes stack frame") && current == kernel {
            stack = number_before(&["bytes", "stack", "frame,"]).unwrap_or(0);
            spill = number_before(&["bytes", "spill", "stores,"]).unwrap_or(0)
                + number_before(&["bytes", "spill", "loads"]).unwrap_or(0);
        } else if let Some(registers) = number_before(&["registers,"]).or(number_before(&["registers"])) {
            let shared =
                number_before(&["bytes", "smem,"]).or(number_before(&["bytes", "smem"])).unwrap_or(0);
            if spill > 0 {
                return Err(format!("{}: {kernel} spills {spill} bytes on sm_{machine}", unit.source()));
            }
            lines.push(format!(
                "// ptxas sm_{machine} {kernel}: {registers} registers, {shared} bytes shared, {stack} bytes stack, \
                 {spill} bytes spilled\n"
            ));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// Written beside and renamed. The file takes the time of the newest source, so that it does not look like a change.
fn write_with_time_of_sources(path: &Path, text: &str) -> Outcome<()> {
    let newest = fs::read_dir(SOURCES).into_iter().flatten().flatten();
    let newest =
        newest.filter_map(|entry| entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok());
    let newest = newest.max().unwrap_or(SystemTime::UNIX_EPOCH);
    let temporary = path.with_extension("ptx.tmp");
    let write = || -> std::io::Result<()> {
        fs::write(&temporary, text)?;
        fs::File::options().write(true).open(&temporary)?.set_modified(newest)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

// ---- the result ----------------------------------------------------------------------------------------------------

/// A PTX whose source is gone is no part of the program.
fn remove_orphans(units: &[Unit]) -> Outcome<()> {
    for entry in fs::read_dir(COMMITTED).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|found| found == "ptx") && !units.iter().any(|unit| unit.path == path)
        {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Writes the table that `src/cuda/kernels.rs` includes.
fn embed(units: &[Unit]) -> Outcome<()> {
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let mut table = String::from("&[\n");
    for unit in units {
        let path = Path::new(&here).join(&unit.path);
        let _ = writeln!(table, "    ({:?}, {:?}, include_str!({path:?})),", unit.family, unit.set.name);
    }
    table.push_str("]\n");
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("kernels.rs");
    fs::write(&target, table).map_err(|error| format!("{}: {error}", target.display()))
}
